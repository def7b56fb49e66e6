"""Faults that somebody has put on the lab with `ovnlab fault`, `link`, `partition` or `flap`."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for fault in snapshot.faults:
        yield Finding(
            "deliberate",
            f"fault {fault.number}",
            f"deliberately, {fault.sentence}",
            (fault.command,),
            f"ovnlab heal {fault.number}",
            keys=frozenset({f"fault {fault.number}"}),
            effects=fault.effects,
            may=fault.may,
        )


CAUSE = Cause(
    name="deliberate",
    title="A fault that somebody has put on the lab",
    reads="the lab's record of faults (`ovnlab faults`)",
    certainty="certain",
    explains="whatever the fault breaks: a node, a daemon, a link and what passes it",
    remedy="ovnlab heal",
    find=_find,
)
