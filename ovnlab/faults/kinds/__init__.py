"""The kinds of faults, one module each."""

from __future__ import annotations

from ovnlab.faults.kind import Kind
from ovnlab.faults.kinds import bfd, flap, kill, leader, link, northd, partition, pause, reboot, restart, stop, workshop

KINDS: tuple[Kind, ...] = (
    kill.KIND,
    stop.KIND,
    pause.KIND,
    restart.KIND,
    reboot.KIND,
    leader.KIND,
    northd.KIND,
    bfd.KIND,
    link.KIND,
    partition.KIND,
    flap.KIND,
    *workshop.KINDS,
)


def kind_of(name: str) -> Kind:
    """Return a kind by its name."""
    return next(kind for kind in KINDS if kind.name == name)
