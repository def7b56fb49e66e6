"""ovn-northd that is paused: the Southbound database does not follow the Northbound one (ovn-northd(8), pause)."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.targets import require_running, signal, words
from ovnlab.lab.lab import Lab


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    (state,) = words(request, 1, 1, "northd pause")
    if state != "pause":
        raise UsageError(f"invalid state {state!r}: expected pause", hint="`ovnlab heal` lets it go on")
    running = lab.nodes()
    names = tuple(node.name for node in lab.topology.nodes if node.central and node.name in running)
    require_running(lab, [(name, "ovn-northd") for name in names])
    effects = tuple(f"daemon {name} ovn-northd" for name in names)
    sentence = f"ovn-northd on {', '.join(names)} is paused"
    return Fault(0, "northd", "northd", sentence, names, effects=(*effects, "lag northd"), may=("lag *", "pair *"))


def _begin(lab: Lab, fault: Fault) -> None:
    signal(lab, [(name, "ovn-northd") for name in fault.nodes], "pause")


def _end(lab: Lab, fault: Fault) -> None:
    signal(lab, [(name, "ovn-northd") for name in fault.nodes], "resume")


KIND = Kind(
    name="northd",
    arguments="pause",
    summary="Pause ovn-northd on all central nodes: what is written to the Northbound database has no effect.",
    describe=_describe,
    begin=_begin,
    end=_end,
)
