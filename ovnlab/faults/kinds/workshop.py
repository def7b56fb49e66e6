"""Faults for people to find: each breaks one thing of the topology `workshop`, and does not say what."""

from __future__ import annotations

import functools

from ovnlab.deliberate import Fault, stored
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

TOPOLOGY = "workshop"
NUMBERS = range(1, 6)

SWITCH = "network1"
"""The switch of the topology that has rules."""

WRONG_REMOTE = "tcp:192.168.50.99:6642"
"""An address that no node of the topology has."""


def _describe(lab: Lab, request: FaultRequest, *, number: int) -> Fault:
    words(request, 0, 0, f"workshop-{number}, without further words")
    topology = lab.topology
    alike = any(switch.name == SWITCH for switch in topology.switches) and _workers(lab)
    if not topology.name.startswith(TOPOLOGY) or not alike:
        hint = f"ovnlab up {TOPOLOGY}; a lab of it by another name: --name {TOPOLOGY}-2"
        raise UsageError(f"lab {lab.name} is not of topology {TOPOLOGY}", hint=hint)
    name = f"workshop-{number}"
    for fault in stored(lab.folder):
        if fault.kind == name:  # to break it once more may mend it
            raise UsageError(f"already broken: {fault.sentence}", hint=f"`ovnlab heal {fault.number}` first")
    return Fault(0, name, name, f"something is broken ({name}): find it", settings={"number": str(number)})


def _begin(lab: Lab, fault: Fault) -> None:
    number = int(fault.settings["number"])
    name = _workers(lab)[-1] if number == 3 else lab.topology.central.name
    script = render("node/break-workshop.sh.j2", node=name, number=number, remote=WRONG_REMOTE, switch=SWITCH)
    run_script(lab.node(name).context, script, where=f"{name}: {fault.kind}")


def _workers(lab: Lab) -> list[str]:
    return [node.name for node in lab.topology.nodes if node.role == "worker"]


def _kind(number: int) -> Kind:
    return Kind(
        name=f"workshop-{number}",
        arguments="",
        summary="Break one thing of the topology `workshop`, for people to find.",
        describe=functools.partial(_describe, number=number),
        begin=_begin,
        converges=True,
    )


KINDS = tuple(map(_kind, NUMBERS))
