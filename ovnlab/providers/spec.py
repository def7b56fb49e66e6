"""Specifications of providers, read before their code and libraries are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ovnlab.providers.base import Provider
from ovnlab.reporting import Reporter
from ovnlab.state import Base, LabFolder
from ovnlab.topology.resolved import Topology

if TYPE_CHECKING:
    from ovnlab.doctor import Requirement

Make = Callable[[LabFolder, Topology | None, Base | None, Reporter], Provider]


SUSPENDING = "nodes that can be suspended"
SNAPSHOTS = "snapshots"
CONSOLES = "serial consoles"
"""What only some providers can do (providers/base.py has the protocols)."""


def _nothing_is_kept(folder: LabFolder) -> bool:
    del folder
    return False


class ProviderSpec(msgspec.Struct, frozen=True):
    """A provider: its name in topologies, how it is made, and how labs of it are told from others.

    `traces` are names in a lab's folder that only this provider leaves there, by which a lab is known whose topology is
    lost. `supports` are things that only some providers can do, in the words of errors. `keeps` tells whether something
    of a lab is kept for the next `up`, `kept` names those of this user's labs. `findings` are what `doctor` says of it.
    """

    name: str
    make: Make
    traces: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()
    keeps: Callable[[LabFolder], bool] = _nothing_is_kept
    kept: Callable[[], Iterable[str]] = tuple
    findings: Callable[[], Iterable[Requirement]] = tuple
