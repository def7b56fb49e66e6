"""Kinds of faults, and requests for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ovnlab.deliberate import Fault
from ovnlab.lab.lab import Lab


@dataclass(frozen=True)
class FaultRequest:
    """A request for a fault: the words after the kind's name, options by name, and the typed command."""

    words: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


def nothing(lab: Lab, fault: Fault) -> None:
    """Do nothing: what the fault broke is mended by making the lab again what its topology says."""
    del lab, fault


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    `describe` raises UsageError for what cannot be meant, and changes nothing. `begin` breaks what is described, `end`
    takes that back and may be called again. With `converges`, the lab is made again what its topology says after that.
    A `momentary` fault ends as soon as it has begun.
    """

    name: str
    arguments: str
    summary: str
    describe: Callable[[Lab, FaultRequest], Fault] = field(repr=False)
    begin: Callable[[Lab, Fault], None] = field(repr=False)
    end: Callable[[Lab, Fault], None] = field(repr=False, default=nothing)
    options: tuple[str, ...] = ()
    converges: bool = False
    momentary: bool = False
