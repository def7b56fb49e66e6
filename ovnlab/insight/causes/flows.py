"""OpenFlow flows that are not OVN's, and flows of OVN's that are missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, FailingPair, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.lab_view import DIGITS
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot, ZoneSnapshot
from ovnlab.insight.tool_output import DumpedFlow
from ovnlab.ovsdb.client import Row, listed
from ovnlab.topology.resolved import Node

MOST_TOLD = 5
"""Foreign flows of one bridge that are told one by one."""

_PORT = re.compile(r'\b(inport|outport) == (?:"([^"]+)"|\{([^}]*)\})')
_UNTOLD = re.compile(r"is_chassis_resident|@|\$|\breg0\b.*conj")
_TUNNEL_PORT = re.compile(r"tp_dst=(6081|4789)")


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    for node in snapshot.topology.nodes:
        seen = snapshot.nodes.get(node.name)
        zone = snapshot.zone_of(node.name)
        if seen is None or not node.has_switch:
            continue
        for bridge in seen.bridges:
            if bridge == "br-int":
                if node.chassis and zone is not None and zone.southbound and bridge in seen.flows:
                    yield from _integration(snapshot, node, seen, zone, evidence)
            elif not bridge.startswith("tb-") and bridge in _ours(node) and bridge in seen.flows:
                yield from _plain(snapshot, node, seen, bridge, evidence)


def _ours(node: Node) -> tuple[str, ...]:
    return ("br-eth1", *(nic.bridge for nic in node.nics if nic.bridge))


# ── foreign ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _integration(
    snapshot: LabSnapshot, node: Node, seen: NodeSnapshot, zone: ZoneSnapshot, evidence: Evidence
) -> Iterator[Finding]:
    flows = seen.flows["br-int"]
    if not flows:
        yield Finding(
            "no-flows",
            f"br-int of {node.name}",
            "has no flows at all",
            (f"{node.name}: ovs-ofctl dump-flows br-int: nothing",),
            f"ovnlab appctl {node.name} -t ovn-controller exit --restart; ovnlab up",
            keys=frozenset({f"flows {node.name}"}),
            effects=everything_on(node.name),
        )
        return
    known = {int(row["_uuid"][:DIGITS], 16) for rows in zone.southbound.values() for row in rows if "_uuid" in row}
    logical = {int(row["_uuid"][:DIGITS], 16): row for row in zone.table("Logical_Flow")}
    pipelines = {flow.table for flow in flows if flow.cookie in logical}
    foreign = [flow for flow in flows if _is_foreign(flow, known, pipelines)]
    yield from _foreign(snapshot, node, "br-int", foreign, evidence)
    yield from _missing(node, zone, {flow.cookie for flow in flows}, logical)


def _is_foreign(flow: DumpedFlow, known: set[int], pipelines: set[int]) -> bool:
    """Return True if a flow of br-int is of no row of the Southbound database.

    ovn-controller gives flows the first 32 bits of a row's UUID as cookie, and 0 to some in tables that are of no
    logical pipeline: these have priority 0, or match what arrives in tunnels, or flags in registers.
    """
    if flow.cookie:
        return flow.cookie not in known
    if "conj_id" in flow.match or "conjunction(" in flow.actions or flow.priority == 0:
        return False
    if flow.table in pipelines:
        return True
    if flow.table == 0:
        return "METADATA" not in flow.actions.upper()  # what arrives in a tunnel is given its datapath
    return flow.actions == "drop" and "metadata=" not in flow.match and "reg" not in flow.match


def _plain(snapshot: LabSnapshot, node: Node, seen: NodeSnapshot, bridge: str, evidence: Evidence) -> Iterator[Finding]:
    """Yield a bridge that only switches has the one flow that OVS gives it, or none of its own."""
    flows = seen.flows[bridge]
    normal = [flow for flow in flows if flow.actions == "NORMAL" and not flow.match]
    foreign = [flow for flow in flows if flow not in normal]
    if not normal and not foreign:
        network = next((nic.network for nic in node.nics if nic.bridge == bridge), "")
        effects = (f"physical {node.name} {network}",) if network else everything_on(node.name)
        yield Finding(
            "no-normal-flow",
            f"{bridge} of {node.name}",
            "has no flow, and so drops everything",
            (f"{node.name}: ovs-ofctl dump-flows {bridge}: nothing",),
            f"ovnlab ofctl {node.name} add-flow {bridge} priority=0,actions=NORMAL",
            keys=frozenset({f"flows {node.name}"}),
            effects=effects,
        )
    yield from _foreign(snapshot, node, bridge, foreign, evidence)


def _foreign(
    snapshot: LabSnapshot, node: Node, bridge: str, flows: Sequence[DumpedFlow], evidence: Evidence
) -> Iterator[Finding]:
    for flow in flows[:MOST_TOLD]:
        drops = flow.actions in ("drop", "")
        why = f"cookie {flow.cookie:#x} is of no row of the Southbound database"
        why = why if bridge == "br-int" else "the bridge only switches, and has flows that select"
        hit = [pair for pair in evidence.pairs if _may_hit(snapshot, node, bridge, flow, pair)]
        network = next((nic.network for nic in node.nics if nic.bridge == bridge), "")
        may = tuple(pair.key for pair in hit)
        effects = may if drops else ()
        if drops and bridge == "br-eth1" and (_TUNNEL_PORT.search(flow.match) or not flow.match):
            effects += tuple(f"bfd {a} {b}" for a, b in _of_tunnels(snapshot, node))
            effects += (f"active {node.name}",)
        if network and drops and not flow.match:
            effects += (f"physical {node.name} {network}",)
        yield Finding(
            "foreign-flow",
            f"flow in {bridge} of {node.name}, table {flow.table}",
            f"is not of OVN: priority {flow.priority} {flow.match or '(any packet)'} actions={flow.actions or 'drop'}",
            (f"{node.name}: ovs-ofctl dump-flows {bridge}: {why}; {flow.packets} packets hit it",),
            _deletion(node, bridge, flow),
            keys=frozenset({f"flow {node.name} {bridge}"}),
            effects=effects,
            may=may,
        )
    if len(flows) > MOST_TOLD:
        yield Finding(
            "foreign-flow",
            f"{bridge} of {node.name}",
            f"has {len(flows) - MOST_TOLD} more flows that are not of OVN",
            (f"{node.name}: ovs-ofctl dump-flows {bridge}",),
            f"ovnlab ofctl {node.name} dump-flows {bridge}",
            certainty=LIKELY,
            keys=frozenset({f"flow {node.name} {bridge}"}),
            may=(f"node {node.name}",),
        )


def _deletion(node: Node, bridge: str, flow: DumpedFlow) -> str:
    """Return the command that removes exactly this flow."""
    match = f"cookie={flow.cookie:#x}/-1,table={flow.table}" + (f",{flow.match}" if flow.match else "")
    if flow.cookie == 0:
        match = f"table={flow.table},priority={flow.priority}" + (f",{flow.match}" if flow.match else "")
        return f"ovnlab ofctl {node.name} --strict del-flows {bridge} '{match}'"
    return f"ovnlab ofctl {node.name} del-flows {bridge} '{match}'"


def _fields(flow: DumpedFlow) -> dict[str, str]:
    return {key: value for term in flow.match.split(",") for key, _, value in [term.partition("=")]}


def _of_tunnels(snapshot: LabSnapshot, node: Node) -> Iterator[tuple[str, str]]:
    """Yield the tunnels in both directions that BFD watches and this flow cuts."""
    for peer in snapshot.topology.peers(node):
        yield node.name, peer.name
        yield peer.name, node.name


def _may_hit(snapshot: LabSnapshot, node: Node, bridge: str, flow: DumpedFlow, pair: FailingPair) -> bool:
    """Return True if a packet of a pair, or its answer, can be what a flow matches."""
    fields = _fields(flow)
    if bridge == "br-int":
        if f"node {node.name}" not in pair.keys:
            return False
        inner = {word for word in (*pair.sources, pair.address) if word}
        found = [
            fields[key] for key in ("nw_src", "nw_dst", "ipv6_src", "ipv6_dst", "arp_tpa", "arp_spa") if key in fields
        ]
        if any("/" not in value and value not in inner for value in found):
            return False
        return not ({"tcp", "udp", "tcp6", "udp6"} & fields.keys() and pair.what == "ping")
    if bridge != "br-eth1":
        network = next((nic.network for nic in node.nics if nic.bridge == bridge), "")
        return f"physical {node.name} {network}" in pair.keys or f"physical * {network}" in pair.keys
    ips = {other.name: other.ip for other in snapshot.topology.nodes}
    if fields.keys() & {"arp", "icmp", "icmp6", "tcp"}:
        return "arp" in fields and bool(pair.tunnels)
    for source, target in pair.tunnels:
        if node.name not in (source, target):
            continue
        if fields.get("nw_src", ips.get(source)) == ips.get(source) and fields.get(
            "nw_dst", ips.get(target)
        ) == ips.get(target):
            arrives = target == node.name
            port = fields.get("in_port", "").strip('"')
            if not port or (port == "eth1") == arrives:
                return True
    return False


# ── missing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _missing(
    node: Node,
    zone: ZoneSnapshot,
    cookies: set[int],
    logical: Mapping[int, Row],
) -> Iterator[Finding]:
    """Yield logical flows of datapaths on a chassis none of whose OpenFlow flows is there.

    Only those that ovn-controller surely installs: they match no group of ports or addresses, no residence, and no port
    that is elsewhere (ovn-controller leaves out flows of a switch for ports of other chassis). A stage is told where
    more is missing of it than one such flow, or all of it.
    """
    own = _local_datapaths(node, zone)
    groups = {row["_uuid"]: set(listed(row["datapaths"])) for row in zone.table("Logical_DP_Group")}
    here = {str(name) for name in _ports_here(node, zone)}
    alike = {_likeness(row) for cookie, row in logical.items() if cookie in cookies}
    expected: dict[str, list[Row]] = defaultdict(list)
    absent: dict[str, list[Row]] = defaultdict(list)
    for cookie, row in logical.items():
        datapath = row["logical_datapath"]
        paths = (
            {datapath}
            if isinstance(datapath, str)
            else groups.get(row["logical_dp_group"] if isinstance(row["logical_dp_group"], str) else "", set())
        )
        if not paths & own or not _is_sure(row, here):
            continue
        stage = row["external_ids"].get("stage-name", "")
        expected[stage].append(row)
        if cookie not in cookies and _likeness(row) not in alike:
            absent[stage].append(row)
    for stage, rows in absent.items():
        keys = frozenset({f"flows {node.name}"})
        yield Finding(
            "flows-missing",
            f"flows of {stage} on {node.name}",
            f"{len(rows)} of {len(expected[stage])} are not installed in br-int",
            tuple(
                f"{node.name}: no cookie 0x{row['_uuid'][:DIGITS]}, of priority {row['priority']}, {row['match'][:90]}"
                for row in rows[:2]
            ),
            f"ovnlab appctl {node.name} -t ovn-controller exit --restart; ovnlab up",
            keys=keys,
            effects=(f"stage {node.name} {stage}", *(f"vm {vm}" for vm in _named(rows, here))),
            may=(f"node {node.name}",),
        )


def _likeness(row: Row) -> tuple[object, ...]:
    """Return the key by which two logical flows are one: of them only one OpenFlow flow is installed."""
    return row["pipeline"], row["table_id"], row["priority"], row["match"]


def _named(rows: Sequence[Row], here: set[str]) -> set[str]:
    return {name for row in rows for _, one, _ in _PORT.findall(row["match"]) for name in [one] if name in here}


def _local_datapaths(node: Node, zone: ZoneSnapshot) -> set[str]:
    """Return the datapaths that have an interface on a chassis."""
    chassis = zone.chassis.get(node.name)
    uuid = chassis["_uuid"] if chassis else ""
    return {
        row["datapath"]
        for row in zone.table("Port_Binding")
        if row["chassis"] == uuid and row["type"] == "" and not listed(row["parent_port"])
    }


def _ports_here(node: Node, zone: ZoneSnapshot) -> Iterator[str]:
    chassis = zone.chassis.get(node.name)
    for row in zone.table("Port_Binding"):
        if chassis and row["chassis"] == chassis["_uuid"] and row["type"] == "":
            yield row["logical_port"]


def _is_sure(row: Row, here: set[str]) -> bool:
    match = row["match"]
    if _UNTOLD.search(match) or "||" in match:
        return False
    if "drop" in row["actions"] and row["priority"] == 0:
        return False
    ports = [
        name for _, one, many in _PORT.findall(match) for name in ([one] if one else re.findall(r'"([^"]+)"', many))
    ]
    return all(name in here for name in ports)


CAUSE = Cause(
    name="flows",
    title="OpenFlow flows that are not OVN's, and flows of OVN's that are missing",
    reads="ovs-ofctl dump-flows of each bridge; cookies against the UUIDs of all rows of the Southbound database",
    certainty="certain",
    explains="a flow that drops: the failing pairs whose packets, or answers, it can match; missing flows: pairs of "
    "the ports that they name",
    remedy="ovs-ofctl del-flows of exactly that flow; for missing ones a restart of ovn-controller",
    find=_find,
)
