"""A daemon or a whole node that is stopped in order: daemons take leave of their databases first."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.kinds import kill
from ovnlab.lab.lab import Lab


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    return kill.describe(lab, request, "stop", "stopped", "exit")


KIND = Kind(
    name="stop",
    arguments="NODE [DAEMON]",
    summary="Stop a daemon as its `exit` command does, or all daemons of a node and then the node.",
    describe=_describe,
    begin=kill.begin,
    converges=True,
)
