"""Findings, and the evidence that they are made from.

Findings and failing pairs are joined by keys: short texts such as `node worker1`, `tunnel worker1 worker2` or `vm vm2`.
A finding has the keys of what it is about, and the `effects` it has on others, as patterns of their keys. That is how
symptoms come to stand under their cause.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovnlab.insight.snapshot import LabSnapshot

CERTAIN, LIKELY = "certain", "likely"
"""How sure a finding is that something is wrong there: it was read, or it follows from what was read."""


@dataclass(frozen=True)
class FailingPair:
    """A packet that should be answered and was not.

    `meant` is the outcome in OVN's own logic, `reason` what decides it there. `keys` name what is on its way; `tunnels`
    are the pairs of chassis that it and its answer pass, in their direction.
    """

    source: str
    target: str
    address: str
    observed: str
    meant: str = ""
    reason: str = ""
    keys: frozenset[str] = frozenset()
    tunnels: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()
    what: str = "ping"

    @property
    def title(self) -> str:
        """Return the pair in words."""
        more = "" if self.what == "ping" else f" ({self.what})"
        return f"{self.source} → {self.target}{more}"

    @property
    def key(self) -> str:
        """Return the key that no other pair has."""
        return f"pair {self.source} {self.target} {self.what}"


@dataclass(frozen=True)
class Evidence:
    """The pairs that fail, beside the snapshot."""

    pairs: tuple[FailingPair, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A problem of a lab: the object, the problem, the evidence, and the remedy.

    `effects` are patterns of keys that this explains; `may` are those that it explains where nothing surer does.
    `drift` are lines of `ovnlab up --dry-run` that are about the same thing.
    """

    cause: str
    object: str
    problem: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    certainty: str = CERTAIN
    keys: frozenset[str] = frozenset()
    effects: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Return the object and what is wrong with it."""
        return f"{self.object}: {self.problem}"

    def explains(self, keys: frozenset[str]) -> bool:
        """Return True if what has these keys follows from this finding."""
        return any(_matches(pattern, key) for pattern in self.effects for key in keys)

    def may_explain(self, keys: frozenset[str]) -> bool:
        """Return True if what has these keys can follow from this finding."""
        return any(_matches(pattern, key) for pattern in self.may for key in keys)


def _matches(pattern: str, key: str) -> bool:
    return key == pattern or ("*" in pattern and fnmatch.fnmatchcase(key, pattern))


@dataclass(frozen=True)
class Cause:
    """A kind of fault: what is read for it, how sure it is, what it explains, what mends it, and how it is found."""

    name: str
    title: str
    reads: str
    certainty: str
    explains: str
    remedy: str
    find: Callable[[LabSnapshot, Evidence], Iterator[Finding]] = field(repr=False)
