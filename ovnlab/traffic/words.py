"""Words for traffic on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from ovnlab.errors import UsageError


def parse_pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of `--traffic A,B[,C...]`: from the first to each of the others.

    >>> parse_pairs(["vm1,vm2,host1"])
    [('vm1', 'vm2'), ('vm1', 'host1')]
    """
    found: list[tuple[str, str]] = []
    for word in words:
        names = [name.strip() for name in word.split(",")]
        if len(names) < 2 or not all(names):
            raise UsageError(f"invalid traffic {word!r}: expected SOURCE,DESTINATION such as vm1,vm2")
        if names[0] in names[1:]:
            raise UsageError(f"invalid traffic {word!r}: {names[0]} would send to itself")
        found += [(names[0], name) for name in names[1:]]
    return list(dict.fromkeys(found))
