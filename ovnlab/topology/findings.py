"""Findings in a topology file: a place, and a sentence about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from ovnlab.topology.source import Where

Finding = tuple[Where, str]


def unknown(where: Where, name: str, kind: str, known: Iterable[str]) -> Iterator[Finding]:
    """Yield a finding where a name is not among the known ones, with the one that may have been meant."""
    known = list(known)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"available: {', '.join(known) or 'none'}"
    yield where, f"unknown {kind} {name!r} ({hint})"
