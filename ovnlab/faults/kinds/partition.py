"""Nodes that do not reach one another on the underlay, in both directions or in one."""

from __future__ import annotations

from collections.abc import Sequence

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.links import link_of, require_shaping, shape, touched
from ovnlab.lab.lab import Lab
from ovnlab.topology.resolved import LinkRule, Node

USAGE = "NODE,NODE [| NODE,NODE]"


def sides(text: str) -> list[list[str]]:
    """Return the names on each side of a `|`. Raises UsageError."""
    found = [[name.strip() for name in side.split(",") if name.strip()] for side in text.split("|")]
    if len(found) > 2 or not all(found):
        raise UsageError(f"invalid partition {text!r}: expected {USAGE}", hint="ovnlab partition 'gw1,gw2 | central'")
    return found


def rules(ours: Sequence[Node], others: Sequence[Node], *, one_way: bool) -> list[LinkRule]:
    """Return what lets nothing of one side get to the other: frames are lost where they would arrive."""
    found = [LinkRule(node.name, "eth1", "in", loss=1.0, peers=tuple(o.mac for o in ours)) for node in others]
    if not one_way:
        found += [LinkRule(node.name, "eth1", "in", loss=1.0, peers=tuple(o.mac for o in others)) for node in ours]
    return found


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    require_shaping(lab)
    named = sides(" ".join(request.words))
    ours = [link_of(lab, name)[0] for name in dict.fromkeys(named[0])]
    if len(named) > 1:
        others = [link_of(lab, name)[0] for name in dict.fromkeys(named[1])]
    else:
        names = {node.name for node in ours}
        running = lab.nodes()
        others = [n for n in lab.topology.nodes if n.name not in names and n.name in running and n.ip and n.mac]
    _refuse(ours, others)
    one_way = "one-way" in request.settings
    found = rules(ours, others, one_way=one_way)
    left, right = (", ".join(node.name for node in side) for side in (ours, others))
    sentence = f"{left} and {right} do not reach one another" if not one_way else f"{left} cannot send to {right}"
    return Fault(
        0,
        "partition",
        " ".join(request.words),
        sentence,
        touched(found),
        links=tuple(found),
        settings=dict(request.settings),
        effects=_effects(lab, ours, others),
        may=("pair *", "bfd *", "active *", "lag *"),
    )


def _refuse(ours: Sequence[Node], others: Sequence[Node]) -> None:
    """Raise UsageError for sides that nothing can be lost between."""
    both = {node.name for node in ours} & {node.name for node in others}
    if both:
        raise UsageError(f"{', '.join(sorted(both))} is on both sides", hint=f"expected {USAGE}")
    if not others:
        raise UsageError("nobody is on the other side")
    for node in (*ours, *others):
        if not node.ip or not node.mac:
            raise UsageError("has no address on the underlay", where=node.name)
    segments = {node.segment for node in (*ours, *others)}
    if len(segments) > 1:
        hint = "ovnlab link NODE down cuts a node off"
        raise UsageError(f"not supported between networks: {', '.join(sorted(segments))}", hint=hint)


def _effects(lab: Lab, ours: Sequence[Node], others: Sequence[Node]) -> tuple[str, ...]:
    """Return what follows, as keys of a diagnosis."""
    found: list[str] = []
    for a, b in ((a.name, b.name) for a in ours for b in others):
        for one, other in ((a, b), (b, a)):
            found += [f"{what} {one} {other}" for what in ("tunnel", "size tunnel", "bfd")]
    servers = {node.name for node in lab.topology.nodes if node.central or node.role == "relay"}
    for side, opposite in ((ours, others), (others, ours)):
        if servers & {node.name for node in opposite}:
            for node in side:
                found += [f"{what} {node.name}" for what in ("connection", "lag", "registered", "claims", "flows")]
                found += ["cluster *"] if node.central else []
    return tuple(dict.fromkeys(found))


KIND = Kind(
    name="partition",
    arguments=USAGE,
    summary="Let nodes of two sides, or of one side and all others, not reach one another on the underlay.",
    describe=_describe,
    begin=shape,
    end=shape,
    options=("one-way",),
)
