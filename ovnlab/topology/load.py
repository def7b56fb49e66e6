"""From a file to a topology in which everything is decided, or to all of its mistakes at once."""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ovnlab.errors import Problem, TopologyError, UsageError
from ovnlab.topology import check, complete, resolved, unsupported
from ovnlab.topology.file_bytes import read
from ovnlab.topology.foreign import kind_of
from ovnlab.topology.inuse import InUse
from ovnlab.topology.model import TopologyFile
from ovnlab.topology.source import Source, Where, parse, parse_value

ORIGINS = ("git", "tarball", "path", "distro")
"""Where a component may come from: one of them."""

NO_MAPPING = ("not valid YAML", "not UTF-8 text", "must be a mapping with keys")
"""How the mistake begins that says no more than that a file is of another kind."""

PRUNING_ROUNDS = 8
"""How often what is wrong is taken out to see what else is wrong in what remains."""


@dataclass(frozen=True)
class Loaded:
    """A file that holds together, and what a lab is made of if it is taken at its word."""

    source: Source
    model: TopologyFile
    topology: resolved.Topology

    def refuse_unsupported(self) -> None:
        """Raise TopologyError where the file asks for what this version of ovnlab cannot do."""
        if found := list(unsupported.find(self.model)):
            mistakes = [self.source.mistake(where, message, at_key=True) for where, message in found]
            raise TopologyError(self.source.path, mistakes)


def load(path: str, *, settings: Sequence[str] = (), name: str | None = None, provider: str | None = None) -> Loaded:
    """Return the topology in a file, with `--set KEY=VALUE` settings, a name and a provider put over it.

    Raises TopologyError with every mistake, UsageError for a setting that is not a KEY=VALUE.
    """
    return load_text(path, read(path), settings=settings, name=name, provider=provider)


def load_text(
    path: str,
    content: bytes,
    *,
    settings: Sequence[str] = (),
    name: str | None = None,
    provider: str | None = None,
    in_use: InUse | None = None,
) -> Loaded:
    """Load bytes that are in memory; `path` names them in errors. What is `in_use` stays."""
    try:
        return _load(path, content, settings, name, provider, in_use)
    except TopologyError as error:
        foreign = kind_of(content)
        if foreign is None:
            raise
        kind, hint = foreign
        others = [mistake for mistake in error.mistakes if not mistake.message.startswith(NO_MAPPING)]
        raise TopologyError(path, [Problem(0, 0, f"is {kind}, not a topology", hint), *others]) from None


def _load(
    path: str, content: bytes, settings: Sequence[str], name: str | None, provider: str | None, in_use: InUse | None
) -> Loaded:
    source = parse(path, content)
    apply_settings(source, settings)
    for key, value in (("name", name), ("provider", provider)):
        if value is not None:
            source.data[key] = value
            source.options[(key,)] = f"--{key}"
    model, mistakes = _validate(source)
    mistakes.extend(source.mistakes)
    if model is not None:
        mistakes.extend(source.mistake(where, message) for where, message in check.find(model, source.data))
    if mistakes or model is None:
        raise TopologyError(path, mistakes)

    def place(where: Where) -> str:
        return source.mistake(where, "").place(path)

    def folder(where: Where) -> Path:
        return Path.cwd() if source.option(where) else Path(path).absolute().parent

    topology = complete.complete(model, default_name=default_name(path), place=place, folder=folder, in_use=in_use)
    return Loaded(source, model, topology)


def load_software(option: str, settings: Sequence[str], lab: resolved.Software) -> resolved.Software:
    """Return the software that words of the command line ask for; what they leave out is as `lab` has it.

    Each is `packages` or `system`, or KEY=VALUE as below `software:` of a topology, such as ovs.path=~/src/ovs.
    Raises TopologyError in the name of the option, UsageError where a word is neither.
    """
    words = [setting for setting in settings if "=" not in setting]
    if words and (len(settings) > 1 or words[0] not in ("packages", "system")):
        hint = "packages, system, or such as ovs.git=URL ovs.ref=v3.5.0, ovs.path=FOLDER, ovs.distro=true"
        raise UsageError(f"{option} {' '.join(settings)}: unknown software", hint=hint)
    data: dict[object, object] = {"software": words[0]} if words else {"software": {}}
    source = Source(option, data, {}, {})
    if not words:
        apply_settings(source, [f"software.{setting}" for setting in settings])
        source.options.update({where: f"{option} {'.'.join(map(str, where[1:]))}" for where in source.options})
    data["nodes"] = {"central": {"role": "central"}}
    model, mistakes = _validate(source)
    if mistakes or model is None:
        raise TopologyError(option, mistakes)
    mistakes = [source.mistake(where, message) for where, message in unsupported.find(model)]
    if mistakes:
        raise TopologyError(option, mistakes)
    return complete.software(model.software, lambda _: Path.cwd(), lab=lab)


def default_name(path: str) -> str:
    """Return the name of a lab whose file says none: the file's stem, in the letters that a lab's name may have."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in Path(path).stem.lower())
    return stem.strip("-")[:32] or "lab"


def apply_settings(source: Source, settings: Sequence[str]) -> None:
    """Put `--set` values into the data, and note that they come from there."""
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key or "" in key.split("."):
            raise UsageError(f"--set {setting}: must be KEY=VALUE, such as --set underlay.mtu=9000")
        where, option = tuple(key.split(".")), f"--set {key}"
        parent: Any = source.data
        for part in where[:-1]:
            if parent.get(part) is None or parent[part] in ("packages", "system"):
                word = parent.get(part)
                parent[part] = {"ovs": word, "ovn": word} if part == "software" and word else {}
            elif isinstance(parent[part], list):
                parent[part] = {item: None for item in parent[part] if isinstance(item, str)}
            elif not isinstance(parent[part], dict):
                raise UsageError(f"{option}: {part} is a single value and holds no keys")
            parent = parent[part]
        if where[-1] in ORIGINS and "software" in where:
            for other in (*ORIGINS, "ref", "sha256"):  # of the file: one origin takes the place of another
                if (*where[:-1], other) not in source.options:
                    parent.pop(other, None)
        parent[where[-1]] = parse_value(option, text)
        source.options[where] = option


def _validate(source: Source) -> tuple[TopologyFile | None, list[Problem]]:
    """Return the model, and every mistake of form.

    Where there are mistakes, what is wrong is pruned and the rest tried again, so that what does not
    agree in the remainder is found in the same run.
    """
    mistakes: list[Problem] = []
    pruned: set[Where] = set()
    try:
        remaining = copy.deepcopy(source.data)
        for _ in range(PRUNING_ROUNDS):
            try:
                return TopologyFile.model_validate(remaining), mistakes
            except ValidationError as error:
                details = error.errors(include_url=False)
                located = [(_where(remaining, detail["loc"]), detail) for detail in details]
                mistakes.extend(
                    _mistake(source, where, detail)
                    for where, detail in located
                    if not (detail["type"] == "missing" and (*where, detail["loc"][-1]) in pruned)
                )
                pruned.update(where for where, _ in located)
                if not all(_prune(remaining, where) for where, _ in located):
                    break
    except RecursionError:
        mistakes.append(Problem(1, 1, "is nested too deeply"))
    return None, mistakes


def _where(data: object, loc: tuple[int | str, ...]) -> Where:
    """Return pydantic's location without union members and validators, which the file does not have."""
    where: Where = ()
    for part in loc:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part in range(len(data)):
            data = data[int(part)]
        else:
            continue
        where = (*where, part)
    return where


def _mistake(source: Source, where: Where, detail: ErrorDetails) -> Problem:
    kind, loc = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        hint = _did_you_mean(str(loc[-1]), known)
        return source.mistake(where, f"unknown key {loc[-1]!r}", hint, at_key=True)
    if kind == "missing" and where[-1:] == loc[-1:]:
        return source.mistake(where, f"{loc[-1]!r} is empty", at_key=True)
    if kind == "missing":
        return source.mistake(where, f"{loc[-1]!r} is missing{_in(where)}", at_key=True)
    name = f"{where[-1]}: " if where and isinstance(where[-1], str) else ""
    at_key = bool(loc) and loc[-1] == "[key]"
    return source.mistake(where, f"{name}{_problem(detail)}", _meant(detail), at_key=at_key)


def _in(where: Where) -> str:
    return f" in {'.'.join(map(str, where))}" if where else ""


_PROBLEMS = {
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "invalid_key": "a key must be text: put it in quotes",
}


def _problem(detail: ErrorDetails) -> str:
    given = detail["input"]
    if detail["type"] == "literal_error":
        shown = given if isinstance(given, str) else repr(given)
        return f"{shown} is not one of {detail['ctx']['expected'].replace(chr(39), '')}"
    problem = _PROBLEMS.get(detail["type"]) or detail["msg"].replace("Input should be", "must be")
    if detail["type"] == "text" and not isinstance(given, str):
        return f"{problem}, not {_described(given)}"
    return problem


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{str(value)[:40]} (put it in quotes)"


def _meant(detail: ErrorDetails) -> str:
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return ""
    return _did_you_mean(detail["input"], detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"possible here: {', '.join(known)}" if known else ""


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the part of the model that a location leads to."""
    annotation: Any = TopologyFile
    for part in loc:
        annotation = _step(annotation, part)
    model = _model_in(annotation)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _step(annotation: Any, part: int | str) -> Any:
    model = _model_in(annotation, direct=True)
    if model is not None:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return annotation  # the name of a union member
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _step(typing.get_args(annotation)[0], part)
    if origin in (dict, list):
        return typing.get_args(annotation)[-1]
    if origin in (typing.Union, types.UnionType):
        members = [m for m in typing.get_args(annotation) if _model_in(m) or typing.get_origin(m) in (dict, list)]
        return _step(members[0], part) if members else annotation
    return annotation


def _model_in(annotation: Any, *, direct: bool = False) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if direct or typing.get_origin(annotation) not in (typing.Annotated, typing.Union, types.UnionType):
        return None
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)


def _prune(data: Any, where: Where) -> bool:
    """Take a wrong value out of the data: its entry, or the whole list that it is in. False at the top."""
    while where:
        parent = data
        for part in where[:-1]:
            parent = parent.get(part) if isinstance(parent, dict) else None
            if parent is None:
                return True  # went with another mistake
        if isinstance(parent, dict):
            parent.pop(where[-1], None)
            return True
        where = where[:-1]
    return False
