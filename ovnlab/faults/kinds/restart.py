"""A daemon that is stopped and started again, or all daemons of a node."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.targets import running_daemons, signal, words
from ovnlab.lab.lab import Lab


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    name, *daemon = words(request, 1, 2, "restart NODE [DAEMON]")
    targets = running_daemons(lab, name, daemon[0] if daemon else None, "restart")
    effects = tuple(f"daemon {name} {one}" for _, one in targets)
    what = f"{daemon[0]} on {name}" if daemon else f"all daemons of {name}"
    return Fault(0, "restart", name, f"{what} restarted", (name,), targets, effects=effects)


def _begin(lab: Lab, fault: Fault) -> None:
    signal(lab, tuple(reversed(fault.daemons)), "restart")


KIND = Kind(
    name="restart",
    arguments="NODE [DAEMON]",
    summary="Restart a daemon, or all daemons of a node, and wait until the lab is well.",
    describe=_describe,
    begin=_begin,
    converges=True,
    momentary=True,
)
