"""All kinds of faults."""

from __future__ import annotations

from ovnlab.faults.kind import Kind
from ovnlab.faults.kinds import kill, pause, stop

KINDS: tuple[Kind, ...] = (
    kill.KIND,
    stop.KIND,
    pause.KIND,
)


def kind_of(name: str) -> Kind:
    """Return a kind by its name."""
    return next(kind for kind in KINDS if kind.name == name)
