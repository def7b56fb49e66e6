"""Output of commands: data on stdout, for people or as JSON; everything else on stderr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ovnlab.cli import streams
from ovnlab.errors import OvnlabError, TopologyError

SCHEMA_VERSION = 1

STATES = {
    "up": "green", "down": "red", "degraded": "yellow", "missing": "red", "yes": "green", "no": "red",
    "unbound": "dim", "running": "green", "not running": "red",
    "suspended": "yellow", "paused": "yellow", "shut off": "red", "crashed": "red", "does not answer": "red",
    "coming up": "yellow", "kept": "dim", "partly up": "yellow",
    "active": "green", "failed over": "yellow",
}  # fmt: skip
"""The colours of states of labs, nodes, ports and what else a table shows."""


def _dumps(plain: Any, *, indent: int | None = None) -> str:
    """Return JSON. Not by msgspec: an argument that is not a text must not end in an error of its own."""
    import json  # noqa: PLC0415  for commands that are asked for it

    return json.dumps(plain, indent=indent)


def as_json(**values: Any) -> None:
    """Print one JSON object on stdout."""
    plain = msgspec.to_builtins({"schema_version": SCHEMA_VERSION, **values})
    streams.write(_dumps(plain, indent=2) + "\n")


def json_list(key: str, objects: Iterable[Any]) -> None:
    """Write one JSON object with a list of so many objects that they are not kept in memory.

    It is printed when all of them are known: until then something may go wrong.
    """
    import tempfile  # noqa: PLC0415  for captures only

    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        for number, plain in enumerate(objects):
            text = _dumps(msgspec.to_builtins(plain), indent=2).replace("\n", "\n    ")
            kept.write(f"{',' if number else ''}\n    {text}")
        ending = "\n  ]" if kept.tell() else "]"
        kept.seek(0)
        streams.write(f'{{\n  "schema_version": {SCHEMA_VERSION},\n  "{key}": [')
        for part in iter(lambda: kept.read(2**16), ""):
            streams.write(part)
        streams.write(f"{ending}\n}}\n")


def object_line(**values: Any) -> None:
    """Print one JSON object on a line of its own, of several that follow each other."""
    plain = msgspec.to_builtins({"schema_version": SCHEMA_VERSION, **values})
    streams.write(_dumps(plain) + "\n")


def line(text: str = "") -> None:
    """Write a line to stdout, with control characters as `shown` shows them."""
    streams.write(f"{shown(text)}\n")


_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36, "bold": 1, "dim": 2}

_CONTROL = re.compile(
    rf"(?!\x1b\[(?:0|{'|'.join(map(str, _COLOURS.values()))})m)"
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
"""Control characters (see scalars.is_control) other than line ends and tabs, and not those of our own colours."""


def shown(text: str) -> str:
    r"""Return text that a terminal shows and does not obey: names in captures, bundles and databases are anybody's.

    >>> print(shown("eth0\x1b]0;title\x07"))
    eth0\x1b]0;title\x07
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_colourful(stream: Any) -> bool:
    """Return True if a stream is a terminal that wants colour (no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def size(number: int) -> str:
    """Return a number of bytes as a person reads it.

    >>> size(1_300_000)
    '1.2 MiB'
    """
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= length:
            return f"{number / length:.1f} {unit}"
    return f"{number} B"


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 switch`, `2 switches`."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def coloured(text: str, colour: str, *, stream: Any = None) -> str:
    """Return `text` in a colour where the stream (stdout) shows colours."""
    if not text or not is_colourful(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, colours: Mapping[str, str] | None = None) -> None:
    """Print aligned columns on stdout. A cell that is a key of `colours` gets that colour.

    On a terminal that is too narrow for a row, each row takes several lines.
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sys.stdout.isatty() and sum(widths) + 2 * (len(widths) - 1) > width():
        _stacked(headings, rows, colours or {})
        return
    line(coloured(_aligned(headings, widths), "dim"))
    for row in rows:
        cells = [
            coloured(cell, (colours or {}).get(cell, "")) + " " * (width - len(cell))
            if cell in (colours or {})
            else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        line("  ".join(cells).rstrip())


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned columns as lines, the headings first."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [coloured(_aligned(headings, widths), "dim"), *(_aligned(row, widths) for row in rows)]


def width() -> int:
    """Return the columns of the terminal that stdout is, or that there usually are."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def parts(text: str, margin: int) -> list[str]:
    """Return a text in parts that fit a terminal beside a margin, broken between words; whole where there is none."""
    if not sys.stdout.isatty() or margin + len(text) <= width():
        return [text]
    import textwrap  # noqa: PLC0415  for narrow terminals

    return textwrap.wrap(text, max(20, width() - margin), break_on_hyphens=False) or [""]


def _stacked(headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str]) -> None:
    """Print each row as a paragraph: its first cell, and below it the others with their headings."""
    margin = max(map(len, headings[1:]), default=0) + 4
    for row in rows:
        line(f"{coloured(headings[0], 'dim')} {coloured(row[0], 'bold')}")
        for heading, cell in zip(headings[1:], row[1:], strict=True):
            if not cell or cell == "-":
                continue
            first, *more = parts(cell, margin)
            told = coloured(first, colours[cell]) if cell in colours else first
            line(f"  {coloured(heading.ljust(margin - 4), 'dim')}  {told}")
            for part in more:
                line(f"{' ' * margin}{part}")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def error(problem: OvnlabError, *, json: bool) -> None:
    """Print an error on stderr, and as JSON on stdout as well where that was asked for."""
    if json:
        as_json(error=_error_object(problem))
    if isinstance(problem, TopologyError):
        streams.say(shown("\n".join(mistake.located(problem.path) for mistake in problem.mistakes)))
        return
    streams.say(shown(f"{coloured('ovnlab:', 'red', stream=sys.stderr)} {problem}"))
    for text in problem.detail.splitlines():
        streams.say(shown(f"    {text}"))
    if problem.hint:
        streams.say(shown(f"  {coloured('→', 'yellow', stream=sys.stderr)} {problem.hint}"))


def _error_object(problem: OvnlabError) -> dict[str, Any]:
    common = {"kind": type(problem).__name__, "exit_code": problem.exit_code}
    if isinstance(problem, TopologyError):
        mistakes = [
            {"file": problem.path, "line": m.line, "column": m.column, "message": m.message, "hint": m.hint}
            for m in problem.mistakes
        ]
        return {**common, "mistakes": mistakes}
    return {
        **common,
        "message": problem.message,
        "where": problem.where,
        "hint": problem.hint,
        "detail": problem.detail,
    }


def require_writable(path: Path) -> None:
    """Raise OvnlabError for a file that cannot be written, before the work that it is to hold is done."""
    folder = path.absolute().parent
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        why = "is a folder" if path.is_dir() else "cannot be written" if folder.is_dir() else "its folder is not there"
        raise OvnlabError(why, where=str(path))


def write_text(path: Path, text: str) -> None:
    """Write a file that was asked for. Raises OvnlabError where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OvnlabError(f"cannot be written: {reason}", where=str(path)) from None
