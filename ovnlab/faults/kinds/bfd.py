"""BFD of a node that is lost while all else passes: its peers take it for dead."""

from __future__ import annotations

from msgspec.structs import replace

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.links import link_of, require_shaping, shape
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab
from ovnlab.topology.resolved import LinkRule


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    require_shaping(lab)
    name, state = words(request, 2, 2, "bfd NODE off")
    node, device = link_of(lab, name)
    if state != "off":
        raise UsageError(f"invalid state {state!r}: expected off", hint="`ovnlab heal` turns it on again")
    if not node.chassis or device != "eth1":
        raise UsageError("sends no BFD: it is not a chassis", where=name)
    rule = replace(LinkRule(node.name, device), loss=1.0, bfd=True)
    return Fault(
        0,
        "bfd",
        name,
        f"BFD of {name} is lost",
        (name,),
        links=(rule,),
        effects=(f"bfd {name} *", f"bfd * {name}", f"tunnel {name} *", f"tunnel * {name}", f"active {name}"),
        may=("pair *", "active *"),
    )


KIND = Kind(
    name="bfd",
    arguments="NODE off",
    summary="Lose BFD packets of a node, and nothing else: its peers take it for dead.",
    describe=_describe,
    begin=shape,
    end=shape,
)
