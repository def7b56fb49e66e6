"""Daemons that are there and do not answer: SIGSTOP (signal(7))."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.targets import running_daemons, signal, words
from ovnlab.lab.lab import Lab


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    name, *daemon = words(request, 1, 2, "pause NODE [DAEMON]")
    targets = running_daemons(lab, name, daemon[0] if daemon else None, "pause")
    effects = tuple(f"daemon {name} {one}" for _, one in targets)
    what = f"{daemon[0]} on {name} is" if daemon else f"all daemons of {name} are"
    return Fault(0, "pause", name, f"{what} paused", (name,), targets, effects=effects)


def _begin(lab: Lab, fault: Fault) -> None:
    signal(lab, fault.daemons, "STOP")


def _end(lab: Lab, fault: Fault) -> None:
    signal(lab, fault.daemons, "CONT")


KIND = Kind(
    name="pause",
    arguments="NODE [DAEMON]",
    summary="Pause a daemon, or all daemons of a node, with SIGSTOP.",
    describe=_describe,
    begin=_begin,
    end=_end,
)
