"""A link that comes and goes."""

from __future__ import annotations

from msgspec.structs import replace

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.links import effects_on, link_of, of_others, quantity, require_shaping, shape
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab
from ovnlab.topology.quantities import seconds
from ovnlab.topology.resolved import LinkRule
from ovnlab.waiting import now_ns


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    require_shaping(lab)
    (target,) = words(request, 1, 1, "NODE[:NIC]")
    node, device = link_of(lab, target)
    text = request.settings.get("every", "3s")
    every = quantity(seconds, text, "period")
    if every < 0.01:
        raise UsageError(f"invalid period {text!r}: expected at least 10ms")
    rule = replace(LinkRule(node.name, device), loss=1.0, every=every, began=now_ns() / 10**9)
    return Fault(
        0,
        "flap",
        f"{node.name}:{device}",
        f"the link {node.name}:{device} comes and goes every {text}",
        (node.name,),
        links=(rule,),
        settings=dict(request.settings),
        may=(*effects_on(node, device), *of_others(lab, node), "pair *", "active *"),
    )


KIND = Kind(
    name="flap",
    arguments="NODE[:NIC]",
    summary="Lose all that passes a link for a period, let it pass for the next, and so on.",
    describe=_describe,
    begin=shape,
    end=shape,
    options=("every",),
)
