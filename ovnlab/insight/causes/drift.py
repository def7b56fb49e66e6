"""Other differences from the file that `ovnlab up` would remove, where no other cause names them."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot


def steps(snapshot: LabSnapshot) -> list[str]:
    """Return a line for each difference between a node or binding and the file."""
    plan = snapshot.plan
    if plan is None:
        return []
    lines = [f"configure {node}: {reason}" for node, reasons in plan.configure.items() for reason in reasons]
    lines += [f"bind {vm.name} to {node}" for node, vms in plan.bind.items() for vm in vms]
    lines += [f"unbind {vm.name} from {node}" for node, vms in plan.unbind.items() for vm in vms]
    return lines


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for line in steps(snapshot):
        verb, _, rest = line.partition(" ")
        node = rest.partition(":")[0] if verb == "configure" else rest.rpartition(" ")[2]
        name = node if verb == "configure" else f"fake VM {rest.split()[0]}"
        if verb == "unbind" and any(step.startswith(f"bind {rest.split()[0]} ") for step in steps(snapshot)):
            continue
        what = (
            rest.partition(": ")[2]
            if verb == "configure"
            else f"`up` would {verb} it {'to' if verb == 'bind' else 'from'} {node}"
        )
        may = (f"node {node}",) if verb == "configure" else (f"vm {rest.split()[0]}",)
        yield Finding(
            "drift",
            name,
            what,
            (f"ovnlab up --dry-run: {line}",),
            "ovnlab up",
            keys=frozenset({f"drift {line}"}),
            may=may,
            drift=(line,),
        )


CAUSE = Cause(
    name="drift",
    title="Any other difference between the lab and its file",
    reads="what `ovnlab up --dry-run` reads",
    certainty="certain that it differs; that it is what hurts is not",
    explains="pairs of the node or fake VM, where nothing else does",
    remedy="ovnlab up",
    find=_find,
)
