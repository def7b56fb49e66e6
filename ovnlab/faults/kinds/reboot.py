"""A node that is switched off and on: its processes are gone, its disk is kept."""

from __future__ import annotations

from msgspec.structs import replace

from ovnlab.deliberate import Fault
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.kinds import kill
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    (name,) = words(request, 1, 1, "reboot NODE")
    return replace(kill.describe(lab, request, "reboot", "rebooted"), sentence=f"node {name} rebooted")


KIND = Kind(
    name="reboot",
    arguments="NODE",
    summary="Switch a node off and on again, and wait until the lab is well. Its disk is kept.",
    describe=_describe,
    begin=kill.begin,
    converges=True,
    momentary=True,
)
