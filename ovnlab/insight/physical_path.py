"""The path of a packet through switches: ofproto/trace on each chassis, from NIC to NIC."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import ofproto_trace, packet_expression
from ovnlab.insight.dissection import packet
from ovnlab.insight.encapsulation import PORTS
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.names import LogicalPort
from ovnlab.insight.ofproto_trace import FlowStep, Header, PhysicalTrace
from ovnlab.insight.ovn_trace import CONNECTIONS, LogicalTrace, Section, Stage
from ovnlab.insight.probe_packet import ProbePacket, bridge_mappings

_RESIDENT = re.compile(r'is_chassis_resident\("([^"]+)"\)')
_OWN = re.compile(r"(?:reg10|recirc_id)=[^,]*")
"""Matches of flows without a cookie that ovn-controller itself installs (controller/physical.c)."""


@dataclass(frozen=True)
class SwitchTrace:
    """The trace of a packet in the switch of a chassis, beside what OVN means to happen there.

    `arrival` is how the packet passes the bridge of the NIC that it comes in by, None where that was not asked or is
    no bridge. `missing` are the logical flows that should have matched and did not, in order; `strays` the chassis that
    it is sent to and should not be. `followed` is False where ofproto/trace could not tell to the end, and `reason`
    says why; `answered` is False where the switch said nothing at all.
    """

    leg: Leg
    trace: PhysicalTrace
    missing: tuple[str, ...] = ()
    followed: bool = True
    reason: str = ""
    arrival: PhysicalTrace | None = None
    strays: tuple[str, ...] = ()
    answered: bool = True

    @property
    def is_lost_on_arrival(self) -> bool:
        """Return True if the NIC's bridge does not hand the packet on to the integration bridge."""
        if self.arrival is None or self.leg.tunnel is None:
            return False
        return bool(self.arrival.passes) and not self.arrival.decapsulates

    @property
    def steps(self) -> Iterator[FlowStep]:
        """Yield every step, of the NIC's bridge first."""
        if self.arrival is not None:
            yield from self.arrival.steps
        yield from self.trace.steps


@dataclass(frozen=True)
class Entry:
    """The entry of a packet into a switch: a bridge, and the flow without its headers."""

    bridge: str
    flow: str


def follow(
    seen: LabView, asked: ProbePacket, way: Sequence[Leg], frame: bytes, *, tracked: str = "", translated: bool = False
) -> tuple[SwitchTrace, ...]:
    """Run ofproto/trace on each chassis of the path, each with what the one before sends it.

    `tracked` is what connection tracking answers, as for a new connection where it is empty. `translated` says that it
    makes another packet of it on the way by what it remembers, which ofproto/trace does not know.
    """
    found: list[SwitchTrace] = []
    current: bytes | None = frame
    entry: Entry | None = _first(seen, asked)
    header: Header | None = None
    for number, leg in enumerate(way):
        if number and leg.tunnel is None and leg.localnet is None:
            continue  # one of several that flood from an earlier one
        if number:
            entry, arrival = _arriving(seen, leg, header)
            if entry is None or (arrival is not None and not arrival.decapsulates):
                found.append(_not_in(leg, entry, arrival))
                break
        else:
            arrival = None
        if leg.chassis not in seen.nodes or entry is None or current is None:
            break
        one = _asked(seen, leg, entry, current, arrival, tracked)
        following = [later for later in way[number + 1 :] if later.origin == leg.chassis]
        if translated and one.answered and _translates_back(leg):
            reason = "connection tracking translates it there: ofproto/trace does not know its entries"
            one = replace(one, missing=(), followed=False, reason=reason)
        elif one.followed:
            one = replace(one, strays=_strays(seen, leg, following, one.trace))
        found.append(one)
        if not following:
            break
        header = _header(seen, one.trace, following[0])
        if header is None and following[0].localnet is None:
            break
        exits = [out for out in one.trace.exits if following[0].localnet is not None or out.tunnel == header]
        changed = next((out.changed for out in exits), None)
        if one.followed and changed is not None:
            current = packet_expression.changed(current, changed)
        else:
            current = meant_frame(asked, way[: number + 1])
    return tuple(found)


def meant_frame(asked: ProbePacket, way: Sequence[Leg]) -> bytes | None:
    """Return the packet as OVN means it to be behind those legs."""
    before = LogicalTrace("", tuple(section for leg in way for section in leg.sections))
    return packet_expression.frame(replace(asked, fields={**asked.fields, **before.rewritten(asked.fields)}))


def _first(seen: LabView, asked: ProbePacket) -> Entry | None:
    port = asked.source.port
    if port is not None and port.type == "localnet":
        return _from_network(seen, asked.chassis, port.options.get("network_name", ""), port.name, port.tag)
    tagged = port.tag if port and port.parent else 0
    return Entry("br-int", f"in_port={asked.in_port}" + (f",dl_vlan={tagged}" if tagged else ""))


def _arriving(seen: LabView, leg: Leg, header: Header | None) -> tuple[Entry | None, PhysicalTrace | None]:
    """Return how a packet comes into a chassis that is not the first: where, and how it passes the NIC's bridge."""
    if leg.localnet is not None:
        network = leg.localnet.options.get("network_name", "")
        return _from_network(seen, leg.chassis, network, leg.localnet.name, leg.localnet.tag), None
    if header is None:
        return None, None
    flow = _arrival(seen, leg.origin, leg.chassis, header)
    return (Entry("br-int", flow) if flow else None), decapsulation(seen, leg, header)


def _not_in(leg: Leg, entry: Entry | None, arrival: PhysicalTrace | None) -> SwitchTrace:
    nothing = PhysicalTrace(leg.chassis, ())
    if arrival is not None and not arrival.decapsulates:
        return SwitchTrace(leg, nothing, arrival=arrival)
    reason = "" if entry is not None else f"{leg.chassis} has no tunnel port to {leg.origin}"
    return SwitchTrace(leg, nothing, followed=False, reason=reason, arrival=arrival, answered=False)


def _asked(
    seen: LabView, leg: Leg, entry: Entry, frame: bytes, arrival: PhysicalTrace | None, tracked: str
) -> SwitchTrace:
    answers = [tracked] * CONNECTIONS if tracked else []
    context = seen.nodes[leg.chassis].context
    try:
        flow = f"{entry.flow},{packet(frame).flow}"
        traced = ofproto_trace.run(context, leg.chassis, flow, bridge=entry.bridge, tracked=answers)
    except OvnlabError as error:
        nothing = PhysicalTrace(leg.chassis, ())
        return SwitchTrace(leg, nothing, followed=False, reason=error.message, arrival=arrival, answered=False)
    missing = tuple(uuid for uuid in resident(seen, leg) if uuid not in traced.uuids) if traced.is_followed else ()
    return SwitchTrace(leg, traced, missing, traced.is_followed, traced.reason, arrival)


def _translates_back(leg: Leg) -> bool:
    return any(
        stage.name in ("lr_in_unsnat", "lr_out_undnat", "ls_out_lb", "ls_out_stateful") and stage.match != "1"
        for section in leg.sections
        for stage in section.stages
    )


def _strays(seen: LabView, leg: Leg, following: Sequence[Leg], traced: PhysicalTrace) -> tuple[str, ...]:
    """Return the chassis that a packet is sent to in a tunnel and that are on no way of it."""
    names = seen.zone_of(leg.chassis).names
    ips = [out.tunnel.remote_ip for out in traced.exits if out.tunnel is not None]
    wanted = {later.chassis for later in following}
    return tuple(dict.fromkeys(who for ip in ips if (who := names.chassis_at(ip) or ip) not in wanted))


def _header(seen: LabView, traced: PhysicalTrace, following: Leg) -> Header | None:
    """Return the tunnel's header that a packet goes on in: as the switch says, or as it is meant where that cannot be
    told.
    """
    names = seen.zone_of(following.origin).names
    remotes = [encap.ip for encap in names.encaps if encap.chassis == following.chassis]
    for out in traced.exits:
        if out.tunnel is not None and out.tunnel.remote_ip in remotes:
            return out.tunnel
    meant = following.tunnel
    if meant is None or not remotes or (traced.passes and traced.is_followed):
        return None
    return Header(meant.encap, remotes[0], meant.vni, meant.ingress_key, meant.egress_key)


def elsewhere(seen: LabView, leg: Leg) -> list[Stage]:
    """Return stages that hold only where another port is resident: ovn-trace takes each as resident everywhere."""
    return [
        stage
        for section in leg.sections
        for stage in section.stages
        for port in _RESIDENT.findall(stage.match)
        if (found := seen.zone_of(leg.chassis).names.ports.get(port)) is not None and found.chassis != leg.chassis
    ]


def resident(seen: LabView, leg: Leg) -> list[str]:
    """Return the logical flows that a switch has to match on a chassis."""
    others = {stage.uuid for stage in elsewhere(seen, leg)}
    return [uuid for uuid in leg.uuids if uuid not in others]


# ── bridges of NICs ──────────────────────────────────────────────────────────────────────────────────────────────


def _from_network(seen: LabView, chassis: str, network: str, port: str, tag: int) -> Entry:
    """Return where packets of a physical network come in: by the NIC of its bridge, otherwise by the localnet's patch
    port.
    """
    tagged = f",dl_vlan={tag}" if tag else ""
    state, node = seen.states.get(chassis), seen.topology.node(chassis)
    bridge = bridge_mappings(state.external_ids.get("ovn-bridge-mappings", "")).get(network, "") if state else ""
    nic = node.nic(network) if node else None
    if state is not None and nic is not None and bridge in state.bridges and nic.device in state.devices:
        return Entry(bridge, f"in_port={nic.device}{tagged}")
    return Entry("br-int", f"in_port=patch-br-int-to-{port}{tagged}")


def network_exit(seen: LabView, chassis: str, port: LogicalPort) -> SwitchTrace | None:
    """Return how the bridge of a physical network takes a broadcast of a localnet port on; None where that cannot be
    asked.
    """
    state, network = seen.states.get(chassis), port.options.get("network_name", "")
    bridge = bridge_mappings(state.external_ids.get("ovn-bridge-mappings", "")).get(network, "") if state else ""
    if not bridge or chassis not in seen.nodes:
        return None
    tagged = f",dl_vlan={port.tag}" if port.tag else ""
    flow = f"in_port=patch-{port.name}-to-br-int{tagged},dl_type=0x0806,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1"
    try:
        traced = ofproto_trace.run(seen.nodes[chassis].context, chassis, flow, bridge=bridge)
    except OvnlabError:
        return None
    out = Section(
        "", "egress", port.datapath, "", port.name, notes=(f'/* output to "{port.name}", type "localnet" */',)
    )
    return SwitchTrace(Leg(chassis, (out,)), traced)


def nic_bridge(seen: LabView, chassis: str) -> tuple[str, str] | None:
    """Return the bridge of a chassis' underlay NIC and that NIC; None where tunnels are the kernel's, and there is
    none.
    """
    node, state = seen.topology.node(chassis), seen.states.get(chassis)
    if node is None or state is None or not node.underlay_device.startswith("br-"):
        return None
    bridge = node.underlay_device
    return (bridge, bridge.removeprefix("br-")) if bridge in state.bridges else None


def decapsulation(seen: LabView, leg: Leg, header: Header) -> PhysicalTrace | None:
    """Return how an encapsulated packet passes the bridge of the NIC that it comes in by."""
    found = nic_bridge(seen, leg.chassis)
    source = next((e.ip for e in seen.zone_of(leg.origin).names.encaps if e.chassis == leg.origin), "")
    if found is None or not source or leg.chassis not in seen.nodes:
        return None
    bridge, nic = found
    six = ":" in header.remote_ip
    ports = {encap: port for port, encap in PORTS.items()}
    words: Mapping[str, str] = {
        "in_port": nic,
        "dl_dst": seen.states[leg.chassis].device(bridge).mac,
        "dl_type": "0x86dd" if six else "0x0800",
        "nw_proto": "17",
        "ipv6_src" if six else "nw_src": source,
        "ipv6_dst" if six else "nw_dst": header.remote_ip,
        "nw_ttl": "64",
        "udp_dst": str(ports.get(header.encap, 6081)),
    }
    flow = ",".join(f"{key}={value}" for key, value in words.items() if value)
    try:
        return ofproto_trace.run(seen.nodes[leg.chassis].context, leg.chassis, flow, bridge=bridge)
    except OvnlabError:
        return None


def _arrival(seen: LabView, source: str, destination: str, header: Header) -> str:
    """Return a flow of what arrives in a tunnel: the port that it comes in by, and the header's keys."""
    state = seen.states.get(destination)
    sender = {encap.ip for encap in seen.zone_of(source).names.encaps if encap.chassis == source}
    port = next(
        (t for t in (state.tunnels if state else ()) if t.remote_ip in sender and t.encap == header.encap), None
    )
    if port is None:
        return ""
    six = ":" in header.remote_ip
    words = [
        f"in_port={port.name}",
        f"tun_id={header.vni:#x}",
        f"{'tun_ipv6_src' if six else 'tun_src'}={port.remote_ip}",
        f"{'tun_ipv6_dst' if six else 'tun_dst'}={header.remote_ip}",
    ]
    if header.ingress_key is not None and header.egress_key is not None:
        words.append(f"tun_metadata0={header.ingress_key << 16 | header.egress_key:#x}")
    return ",".join(words)


# ── flows that are not OVN's ─────────────────────────────────────────────────────────────────────────────────────


def foreign(seen: LabView, one: SwitchTrace) -> list[FlowStep]:
    """Return the steps of flows that OVN did not install, or whose row is gone.

    ovn-controller gives its flows the first digits of their Southbound row as cookie, but for a few of its own; and in
    bridges of NICs it installs none.
    """
    rows = seen.zone_of(one.leg.chassis).rows
    bridges = set(_nic_bridges(seen, one.leg.chassis))
    return [step for step in one.steps if step.found and _is_foreign(step, rows, bridges)]


def _is_foreign(step: FlowStep, rows: Mapping[str, object], bridges: set[str]) -> bool:
    if step.bridge in bridges:
        return step.priority > 0 or "drop" in step.actions
    if step.bridge != "br-int":
        return False
    if step.cookie:
        return step.uuid not in rows
    is_of_tunnel = step.table == 0 and any("TUN_ID" in action or "tun_id" in action for action in step.actions)
    return step.priority > 0 and not is_of_tunnel and not _OWN.fullmatch(step.match)


def _nic_bridges(seen: LabView, chassis: str) -> Iterator[str]:
    underlay, state = nic_bridge(seen, chassis), seen.states.get(chassis)
    if underlay is not None:
        yield underlay[0]
    if state is not None:
        yield from bridge_mappings(state.external_ids.get("ovn-bridge-mappings", "")).values()


def flow_title(step: FlowStep) -> str:
    """Return a flow, as `ovs-ofctl dump-flows` tells it from others."""
    bridge = "" if step.bridge == "br-int" else f"{step.bridge}, "
    cookie = f", cookie {step.cookie:#x}" if step.cookie else ""
    does = next((action for action in step.actions if not action.startswith("->")), "")
    return f"{bridge}table {step.table}, priority {step.priority}{cookie}: {step.match or 'any'} → {does or 'nothing'}"
