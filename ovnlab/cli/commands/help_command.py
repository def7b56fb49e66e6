"""help: a command, or a key of the topology file, explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option
from ovnlab.errors import UsageError
from ovnlab.shipped import TOPOLOGIES

Schema = dict[str, Any]

MOST = 12
"""Places of a key that are listed."""

A_LIST = "a list"

DEEPEST = 8


class Key:
    """A key of the topology file: where it stands, and what its schema says."""

    def __init__(self, path: tuple[str, ...], schema: Schema, definitions: Schema, *, required: bool) -> None:
        self.path = path
        self.required = required
        self.schema = schema
        self._definitions = definitions

    @property
    def title(self) -> str:
        """Return its path, with capital words for names that a person chooses."""
        return ".".join(self.path)

    @property
    def parts(self) -> list[Schema]:
        """Return the forms that its value may have, references followed."""
        return list(_forms(self.schema, self._definitions))

    @property
    def about(self) -> str:
        """Return what it is for."""
        found = [self.schema.get("description"), *(form.get("description") for form in self.parts)]
        return " ".join(next((str(text) for text in found if text), "").split())

    @property
    def values(self) -> str:
        """Return what its value may be, in words."""
        told = [_told(form, self._definitions) for form in self.parts]
        single = [text for text in told if text and not text.startswith(A_LIST)]
        if single and any(text.startswith(A_LIST) for text in told):
            single.append("several in a list")
        return " or ".join(dict.fromkeys(single or filter(None, told)))


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    found: Schema = definitions[reference.rpartition("/")[2]]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _forms(schema: Schema, definitions: Schema) -> Iterator[Schema]:
    schema = _resolved(schema, definitions)
    forms = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if not forms:
        yield schema
    for form in forms:
        yield from _forms(form, definitions)


def _told(form: Schema, definitions: Schema) -> str:
    """Return what a value of one form is."""
    if "enum" in form or "const" in form:
        return ", ".join(map(str, form.get("enum", [form.get("const")])))
    kind = form.get("type", "")
    if kind == "array":
        items = " or ".join(
            dict.fromkeys(filter(None, (_told(i, definitions) for i in _forms(form.get("items", {}), definitions))))
        )
        return f"{A_LIST}: {items}" if items else A_LIST
    if kind == "object":
        return "a mapping"
    if kind in ("integer", "number"):
        least, most = form.get("minimum", form.get("exclusiveMinimum")), form.get("maximum")
        limits = f" from {least}" if least is not None else ""
        return "a number" + limits + (f" to {most}" if most is not None else "")
    if kind == "string":
        return str(form.get("description", "text"))
    return "true or false" if kind == "boolean" else ""


def keys() -> list[Key]:
    """Return all keys of the topology file, in its order."""
    import json as reader  # noqa: PLC0415  for this command only

    schema = reader.loads((TOPOLOGIES / "topology.schema.json").read_text())
    definitions = schema.get("$defs", {})
    return list(_keys(schema, definitions, ()))


def _keys(schema: Schema, definitions: Schema, above: tuple[str, ...]) -> Iterator[Key]:
    if len(above) > DEEPEST:
        return
    for form in _forms(schema, definitions):
        for name, inner in form.get("properties", {}).items():
            path = (*above, name)
            yield Key(path, inner, definitions, required=name in form.get("required", ()))
            yield from _keys(inner, definitions, path)
        if isinstance(items := form.get("items"), dict):
            yield from _keys(items, definitions, above)
        for entries in (form.get("additionalProperties"), *form.get("patternProperties", {}).values()):
            if isinstance(entries, dict):
                yield from _keys(entries, definitions, (*above, "NAME"))


def complete_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return commands, and keys of the topology file."""
    del param
    group = ctx.find_root().command
    commands = group.list_commands(ctx) if isinstance(group, click.Group) else []
    found = [*commands, *dict.fromkeys(_plain(key.path) for key in keys())]
    return [word for word in found if word.startswith(incomplete)]


def _plain(path: tuple[str, ...]) -> str:
    return ".".join(part for part in path if part != "NAME")


@click.command("help")
@click.argument("words", metavar="[COMMAND|KEY]", nargs=-1, shell_complete=complete_words, help="A command or key.")
@click.pass_context
@json_option
def help_command(ctx: click.Context, words: tuple[str, ...], json: bool) -> int:
    """Explain a command, or a key of the topology file: what it is for, what it may be, and its default.

    \b
    ovnlab help up
    ovnlab help nodes.role
    ovnlab help gateway_chassis
    ovnlab help logical
    """
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)  # noqa: S101  it has this command
    if not words:
        return _tell(root, json=json)
    command = root.command.get_command(root, words[0])
    if command is not None:
        inner = click.Context(command, info_name=words[0], parent=root)
        for word in words[1:]:
            below = command.get_command(inner, word) if isinstance(command, click.Group) else None
            if below is None:
                raise UsageError(f"unknown command {word!r} of {inner.command_path}")
            command, inner = below, click.Context(below, info_name=word, parent=inner)
        return _tell(inner, json=json)
    found = _matching(".".join(words))
    if json:
        output.as_json(keys=[_object(key) for key in found])
        return 0
    for number, key in enumerate(found[:MOST]):
        if number:
            output.line()
        _show(key)
    if len(found) > MOST:
        output.line()
        output.line(f"… and {len(found) - MOST} more: say more of the path, such as {_plain(found[-1].path)}")
    return 0


def _tell(context: click.Context, *, json: bool) -> int:
    """Print the help of a command."""
    if json:
        output.as_json(command=context.command_path, help=context.get_help())
    else:
        output.line(context.get_help())
    return 0


def _matching(word: str) -> list[Key]:
    """Return the keys that a word names, by the end of their path. Raises UsageError for none."""
    wanted = tuple(part for part in word.split(".") if part)
    there = keys()
    found = [key for key in there if _ends(tuple(part for part in key.path if part != "NAME"), wanted)]
    exact = [key for key in found if _plain(key.path) == word]
    if not found:
        import difflib  # noqa: PLC0415  for words that are mistyped

        known = list(dict.fromkeys([key.path[-1] for key in there]))
        close = difflib.get_close_matches(wanted[-1] if wanted else "", known, n=1)
        hint = f"did you mean {close[0]}?" if close else "`ovnlab --help` lists commands, `ovnlab help logical` keys"
        raise UsageError(f"unknown command or key {word!r}", hint=hint)
    return exact or found


def _ends(path: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return path[-len(wanted) :] == wanted


def _below(key: Key) -> list[Key]:
    """Return the keys that stand directly in a key's mapping."""
    depth = len([part for part in key.path if part != "NAME"]) + 1
    return [
        other
        for other in keys()
        if other.path[: len(key.path)] == key.path and len([part for part in other.path if part != "NAME"]) == depth
    ]


def _object(key: Key) -> dict[str, Any]:
    return {
        "key": key.title,
        "about": key.about,
        "values": key.values,
        "required": key.required,
        "default": key.schema.get("default"),
        "keys": [other.path[-1] for other in _below(key)],
    }


def _show(key: Key) -> None:
    import textwrap  # noqa: PLC0415  for this command only

    columns = min(output.width(), 100)
    output.line(output.coloured(key.title, "bold"))
    for line in textwrap.wrap(key.about, columns - 2, break_on_hyphens=False):
        output.line(f"  {line}")
    default = key.schema.get("default")
    told = [("value", key.values)]
    if key.required:
        told.append(("", "it must be there"))
    elif default not in (None, [], "") and not isinstance(default, dict):
        told.append(("default", str(default).lower() if isinstance(default, bool) else str(default)))
    for title, text in told:
        for number, line in enumerate(textwrap.wrap(text, columns - 11, break_on_hyphens=False)):
            output.line(f"  {output.coloured((title if not number else '').ljust(7), 'dim')}  {line}")
    below = list(dict.fromkeys(other.path[-1] for other in _below(key)))
    for number, line in enumerate(textwrap.wrap(", ".join(below), columns - 11, break_on_hyphens=False)):
        output.line(f"  {output.coloured(('keys' if not number else '').ljust(7), 'dim')}  {line}")


COMMANDS = (help_command,)
