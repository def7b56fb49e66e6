"""The outcome that OVN means for a packet, and the row of the Northbound database that decides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovnlab.insight.evidence import Decision
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.ovn_trace import LogicalTrace, Section, Stage
from ovnlab.insight.probe_capture import is_answer
from ovnlab.insight.probe_packet import ProbePacket
from ovnlab.northbound.live import LiveRow
from ovnlab.topology.resolved import Acl, Topology


def outcome(seen: LabView, asked: ProbePacket, meant: LogicalTrace, way: Sequence[Leg]) -> tuple[str, Decision | None]:
    """Return what OVN means to come of the packet, and what decided where it is dropped."""
    if meant.refusal is not None:
        return "rejected", decision(seen, way, *meant.refusal)
    if is_answer(asked, meant):
        return "answered", None
    if meant.outputs:
        leaves = all(output.type == "localnet" for output in meant.outputs)
        return ("left" if leaves and asked.destination.place is None else "delivered"), None
    where = meant.drop
    return "dropped", decision(seen, way, *where) if where else None


def decision(seen: LabView, way: Sequence[Leg], section: Section, stage: Stage) -> Decision:
    """Return a stage that decided something, with the row that it is of."""
    chassis = next((leg.chassis for leg in way if section in leg.sections), "")
    row = row_of(seen, stage.uuid)
    pipeline = section.pipeline or ("ingress" if "_in_" in stage.name else "egress")
    return Decision(chassis, section.datapath, pipeline, stage, row, place_of(seen.topology, row))


def decider(seen: LabView, section: Section, stage: Stage) -> str:
    """Return what decided, in words, with its line in the file where it has one."""
    found = decision(seen, (), section, stage)
    return f"{found.title} ({found.place})" if found.place else found.title


def deciding(seen: LabView, way: Sequence[Leg]) -> list[Decision]:
    """Return the policies, routes, NAT and load balancers that made a packet's way what it is, in order."""
    kinds = ("Logical_Router_Policy", "Logical_Router_Static_Route", "NAT", "Load_Balancer")
    every = [decision(seen, way, section, stage) for leg in way for section in leg.sections for stage in section.stages]
    kept = {
        one.row.uuid if one.row else one.stage.uuid: one
        for one in every
        if (one.row is not None and one.row.table in kinds) or is_policy(one.stage)
    }
    return list(kept.values())


def is_policy(stage: Stage) -> bool:
    """Return True if a stage is that of a router's policy, not the default that has none."""
    return stage.name == "lr_in_policy" and stage.match != "1"


def row_of(seen: LabView, uuid: str) -> LiveRow | None:
    """Return the Northbound row that a logical flow is of (ovn-sb(5), Logical_Flow external_ids:stage-hint)."""
    flow = seen.flow(uuid)
    return seen.northbound_row(flow["external_ids"].get("stage-hint", "")) if flow else None


def place_of(topology: Topology, row: LiveRow | None) -> str:
    """Return the line of the topology's file that a row is of; empty where it is of none."""
    if row is None:
        return ""
    if row.table == "ACL":
        found = next((acl.place for acl in topology.acls if _is_acl(acl, row)), "")
        if found:
            return found
    return place_named(topology, row.table, row.name)


def place_named(topology: Topology, table: str, name: str) -> str:
    """Return the line of the file of the row of that name, also where that is not there; empty where it is of none."""
    if not name:
        return ""
    return next((place for of, known, place in _places(topology) if (of, known) == (table, name)), "")


def _places(topology: Topology) -> Iterator[tuple[str, str, str]]:
    """Yield the table, name and line of each rule of the file; the names are those of `northbound.rows`."""
    for acl in topology.acls:
        owner = f"{'@' if acl.on_group else ''}{acl.owner}"
        yield "ACL", f"{owner} {acl.direction} {acl.priority} {acl.match}", acl.place
    for rule in topology.qos:
        yield "QoS", f"{rule.switch} {rule.direction} {rule.priority} {rule.match}", rule.place
    for balancer in topology.load_balancers:
        yield "Load_Balancer", balancer.name, balancer.place
    for router in topology.routers:
        for route in router.routes:
            yield "Logical_Router_Static_Route", route.row_name, route.place
        for nat in router.nat:
            yield "NAT", f"{router.name} {nat.type} {nat.external} {nat.logical}", nat.place


def _is_acl(acl: Acl, row: LiveRow) -> bool:
    columns = row.columns
    return (acl.direction, acl.priority, acl.match, acl.action) == (
        columns["direction"], columns["priority"], columns["match"], columns["action"],
    )  # fmt: skip
