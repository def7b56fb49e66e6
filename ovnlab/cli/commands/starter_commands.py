"""init, edit: a topology file to begin with, and a lab's file in an editor."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from ovnlab.cli import output, streams
from ovnlab.cli.options import complete_topologies, json_option, lab_option
from ovnlab.cli.terminal import run_with_terminal
from ovnlab.errors import OvnlabError, TopologyError, UsageError
from ovnlab.shipped import HERE, TOPOLOGIES, find_topology
from ovnlab.state import typed_path

NODES = 3

MOST_NODES = 250
"""Chassis that fit into the subnet of the starter file."""


@click.command("init")
@click.argument("name", metavar="[NAME]", required=False, help="The lab's name; that of this folder if omitted.")
@click.option("--nodes", type=click.IntRange(1, MOST_NODES), help="How many chassis, 3 if omitted.")
@click.option(
    "--switch",
    "switches",
    metavar="NAME",
    multiple=True,
    help="A logical switch with two fake VMs; several: a router, too.",
)
@click.option("--like", metavar="TOPOLOGY", shell_complete=complete_topologies, help="Copy a shipped topology.")
@click.option("--output", "-o", "into", metavar="FILE", default=HERE[0], help="The file to write.")
@json_option
def init(
    name: str | None, nodes: int | None, switches: tuple[str, ...], like: str | None, into: str, json: bool
) -> int:
    """Write a commented topology file to begin with; `ovnlab up` in its folder takes it.

    Its first line lets editors with a YAML language server complete and check it.

    \b
    ovnlab init
    ovnlab init mine --nodes 4 --switch web --switch db
    ovnlab init mine --like gateway
    """
    from ovnlab.topology.load import default_name, load_text  # noqa: PLC0415  pydantic

    path = Path(into)
    if path.exists():
        raise UsageError(f"{into} is there already", hint="ovnlab edit, or -o FILE for another one")
    if like and (switches or nodes):
        raise UsageError("--like excludes --nodes and --switch: the copy has its own")
    lab = name or default_name(str(Path.cwd()))
    if like:
        text = _copied(find_topology(like), lab, into)
    else:
        text = "".join(f"{line}\n" for line in _lines(lab, nodes or NODES, switches or ("network1",), into))
    try:
        load_text(into, text.encode(errors="surrogateescape"))
    except TopologyError as error:  # a name that the command line gave
        raise UsageError(error.mistakes[0].message, hint="ovnlab init --help") from None
    output.require_writable(path)
    output.write_text(path, text)
    if json:
        output.as_json(written=into, name=lab)
    else:
        output.line(f"wrote {into}: `ovnlab up` brings lab {lab} up, `ovnlab edit` changes it")
    return 0


def schema_line() -> str:
    """Return the first line of a file, by which editors find the schema."""
    return f"# yaml-language-server: $schema={(TOPOLOGIES / 'topology.schema.json').as_uri()}"


def _copied(path: str, lab: str, into: str) -> str:
    """Return a shipped topology under another name, with comments that name the new file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--like {path}: cannot be read: {reason}", hint="ovnlab topologies") from None
    text = re.sub(r"\A# yaml-language-server:.*", lambda _: schema_line(), text)
    text = text.replace(f"topologies/{Path(path).name}", into)
    named, count = re.subn(r"(?m)^name:.*$", lambda _: f"name: {_word(lab)}", text, count=1)
    return named if count else f"name: {_word(lab)}\n{text}"


_PLAIN = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z][a-z0-9_-]*", re.IGNORECASE)
"""Words that are texts in YAML as they stand."""


def _word(text: str) -> str:
    """Return a name as it stands in YAML, in quotes where it would be a number or anything else.

    >>> _word("web"), _word("2026"), _word("on")
    ('web', "'2026'", "'on'")
    """
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "''") + "'"


def _lines(lab: str, nodes: int, switches: Sequence[str], into: str) -> Iterator[str]:
    """Yield the lines of a starter file."""
    workers = [f"worker{number}" for number in range(1, nodes)]
    chassis = workers or ["central"]
    first, second = "vm1", "vm2"
    yield schema_line()
    yield "#"
    yield "#   ovnlab up                   makes the lab what this file says; again after each change"
    yield "#   ovnlab status               nodes, tunnels, ports"
    yield f"#   ovnlab ping {first} {second}         a packet; `ovnlab trace {first} {second}` explains its way"
    yield f"#   ovnlab up --watch           converges at each save of {into}"
    yield "#   ovnlab help KEY             explains a key of this file, such as `ovnlab help nodes.role`"
    yield "#   ovnlab down                 removes it"
    yield ""
    yield f"name: {_word(lab)}"
    yield ""
    yield "# Where OVS and OVN run. A central has the databases; all are chassis, with tunnels to each other."
    yield "nodes:"
    yield "  central: {role: central}"
    yield from (f"  {worker}: {{}}" for worker in workers)
    yield "  # gw1: {role: gateway, physical: [provider]}   # to the outside; needs physical_networks"
    yield ""
    yield "# What is written to the Northbound database."
    yield "logical:"
    yield "  switches:"
    number = 0
    for index, switch in enumerate(switches, 1):
        yield f"    {_word(switch)}:"
        yield f"      subnet: 10.0.{index}.0/24"
        yield "      ports:    # fake VMs, and where they are bound; addresses are chosen, or say ip: and mac:"
        for _ in range(2):
            yield f"        vm{number + 1}: {{chassis: {chassis[number % len(chassis)]}}}"
            number += 1
    if len(switches) > 1:
        yield "  routers:"
        yield "    router1:"
        yield "      ports:"
        yield from (f"        {_word(switch)}: {{ip: 10.0.{index}.1/24}}" for index, switch in enumerate(switches, 1))
    yield "  # acls:"
    yield f"  #   - {{switch: {_word(switches[0])}, direction: to-lport, priority: 1000, match: icmp4, action: drop}}"
    yield ""
    yield "# What `ovnlab test` tries beside all pairs of fake VMs."
    yield "checks:"
    yield f"  - {{from: {first}, ping: {second}}}"


@click.command("edit")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@lab_option
def edit(yes: bool, lab: str | None) -> int:
    """Open a lab's file in $VISUAL or $EDITOR, show what `up` would change, and do it.

    A file with mistakes leaves the lab as it is.

    \b
    ovnlab edit
    EDITOR=nano ovnlab edit -l 3node
    """
    from ovnlab.cli.progress import NoProgress, progress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import Request, find, prepare  # noqa: PLC0415

    found = find(lab, NoProgress())
    if found.stored is None or not found.stored.source:
        raise OvnlabError(f"the file that lab {found.name} was made from is not known")
    path = Path(found.stored.source)
    if path.parent == TOPOLOGIES.resolve():
        hint = f"ovnlab init {found.name} --like {path.stem}, then ovnlab up --name {found.name}"
        raise UsageError(f"{path.stem} is shipped with ovnlab: it is not for editing", hint=hint)
    request = Request.again(found.stored)
    while True:
        _open(path)
        try:
            with progress() as reporter:
                lab_now, wanted = prepare(request, reporter)
                if wanted.name != found.name:
                    hint = f"ovnlab up {typed_path(str(path))} brings {wanted.name} up beside it"
                    raise UsageError(f"the file is of lab {wanted.name} now, and not of {found.name}", hint=hint)
                plan = lab_now.dry_run(wanted, source=str(path), named=request.name is not None).plan.steps()
            break
        except TopologyError as error:
            if yes or not _agreed("edit again?"):
                raise
            output.error(error, json=False)
    if not plan:
        output.line(f"lab {wanted.name}: nothing to do")
        return 0
    for step in plan:
        output.line(step)
    streams.flush()
    if not yes and sys.stdin.isatty() and not _agreed("do this?"):
        output.line(f"nothing was changed; {found.folder.up_command()} does it")
        return 0
    with progress() as reporter:
        lab_now, wanted = prepare(request, reporter)
        lab_now.up(wanted, source=str(path), named=request.name is not None, options=request.options())
    output.line(f"lab {wanted.name} is as {typed_path(str(path))} says")
    return 0


def _open(path: Path) -> None:
    """Open a file in the person's editor, and return when that has ended."""
    given = os.environ.get("VISUAL", "").strip() or os.environ.get("EDITOR", "").strip() or "vi"
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UsageError(f"invalid editor {given!r}: {error}".rstrip("."), hint="set EDITOR") from None
    try:
        code = run_with_terminal([*words, str(path)], suspends=True)
    except OSError as error:
        raise UsageError(f"the editor {words[0]!r} cannot be run: {error.strerror}", hint="set EDITOR") from None
    if code:
        raise OvnlabError(f"the editor {words[0]} ended with exit code {code}: nothing was changed")


def _agreed(question: str) -> bool:
    """Return True if the person at the terminal says yes, or simply Enter; without a terminal, nobody does."""
    if not sys.stdin.isatty():
        return False
    streams.say(f"{question} [Y/n] ", end="")
    answer = sys.stdin.readline()
    if not answer:  # Ctrl-D, which is not Enter
        streams.say("")
        return False
    return answer.strip().lower() in ("", "y", "yes")


COMMANDS = (init, edit)
