"""An object explained, and a bundle written, for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ovnlab.cli import output
from ovnlab.errors import OvnlabError
from ovnlab.insight.bundle import write
from ovnlab.insight.explain import explain
from ovnlab.insight.lab_view import LabView
from ovnlab.lab.lab import Lab
from ovnlab.waiting import now_ns


def show(seen: LabView, name: str, *, json: bool) -> int:
    """Print all about an object."""
    found = explain(seen, name)
    if json:
        output.as_json(
            name=found.name,
            kind=found.kind,
            up=found.up,
            facts=_as_mapping(found.facts),
            rules=[dataclasses.asdict(rule) for rule in found.rules],
            problems=found.problems,
        )
        return 0
    width = max(len(title) for title, _ in found.facts)
    if found.kind == "logical switch port":
        state = output.coloured("up", "green") if found.up else output.coloured("down", "red")
        output.line(f"{output.coloured(name, 'bold')} is {state}")
    else:
        output.line(f"{found.kind} {output.coloured(found.name, 'bold')}")
    output.line()
    for title, text in found.facts:
        for number, part in enumerate(output.parts(text, width + 2)):
            output.line(f"{output.coloured((title if not number else '').ljust(width), 'dim')}  {part}")
    if found.rules:
        output.line()
        output.table(
            ("RULE", "WHAT IT SAYS", "ROW", "LINE"),
            [(rule.kind, rule.text, rule.uuid[:8], rule.place or "-") for rule in found.rules],
        )
    if found.problems:
        output.line()
        for problem in found.problems:
            said = seen.lab.folder.with_file(problem) if seen.lab is not None else problem
            output.line(f"{output.coloured('!', 'red')} {said}")
    return 0


def _as_mapping(facts: Sequence[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return facts by their titles; those that there are several of as a list."""
    found: dict[str, list[str]] = {}
    for title, text in facts:
        found.setdefault(title, []).append(text)
    return {title: texts[0] if len(texts) == 1 else texts for title, texts in found.items()}


def bundle(lab: Lab, into: str | None, *, json: bool) -> int:
    """Write a bundle, and say where."""
    moment = datetime.fromtimestamp(now_ns() // 1_000_000_000).astimezone()
    path = Path(into or f"{lab.name}-{moment:%Y%m%d-%H%M%S}.tar.gz")
    output.require_writable(path)
    if path.exists() and not path.is_file():  # it is put in the place of what is there
        raise OvnlabError("is not a file", where=str(path))
    written = write(lab, path)
    if json:
        output.as_json(written=str(path), bytes=written.size, missing=written.missing)
        return 0
    output.line(f"wrote {path} ({written.size / 1_000_000:.1f} MB)")
    for node, reason in written.missing.items():
        output.line(f"without {node}: {reason}")
    return 0
