"""A builder of pictures: from the topology of a lab, and from its state where it runs."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ovnlab.graph.lab_state import Live, LiveNode, LivePort, LiveTunnel
from ovnlab.graph.picture import (
    UNDERLAY,
    Badge,
    NetworkPicture,
    NicPicture,
    NodePicture,
    Picture,
    PortPicture,
    RouterPicture,
    RouterPortPicture,
    RulePicture,
    State,
    SwitchPicture,
    TunnelPicture,
)
from ovnlab.graph.text import one_line
from ovnlab.topology import resolved
from ovnlab.topology.addresses import parse_endpoint
from ovnlab.topology.resolved import Topology

ROLES = ("central", "relay", "worker", "gateway", "host")
"""The order that nodes are shown in."""


def portray(topology: Topology, live: Live | None = None) -> Picture:
    """Return the picture of a topology, or of a running lab."""
    lab = _Lab(topology, live)
    switches = tuple(_switches(lab))
    vms = [port for switch in switches for port in switch.ports if not port.kind]
    tunnels = tuple(_tunnels(lab))
    return Picture(
        name=topology.name,
        state=live.state if live else "",
        underlay=NetworkPicture(UNDERLAY, (topology.underlay.subnet,), mtu=topology.underlay.mtu),
        networks=tuple(_network(topology, name) for name in topology.physical_networks),
        nodes=tuple(_nodes(lab, vms, tunnels)),
        unbound=tuple(port for port in vms if not any(topology.node(name) for name in port.chassis)),
        tunnels=tunnels,
        mesh=_mesh(topology, tunnels),
        zones=tuple(zone for zone in topology.zones if zone),
        zone_facts=tuple((zone, _zone_fact(topology, zone)) for zone in topology.zones),
        switches=switches,
        routers=tuple(_router(topology, router) for router in topology.routers),
    )


@dataclass(frozen=True)
class _Lab:
    """A topology, and what is known of the lab where it runs."""

    topology: Topology
    live: Live | None

    def node(self, name: str) -> LiveNode | None:
        return next((node for node in self.live.nodes if node.name == name), None) if self.live else None

    def port(self, name: str) -> LivePort | None:
        return next((port for port in self.live.ports if port.name == name), None) if self.live else None


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────


def _nodes(lab: _Lab, vms: Iterable[PortPicture], tunnels: Iterable[TunnelPicture]) -> Iterator[NodePicture]:
    topology = lab.topology
    stopped = {node.name for node in lab.live.nodes if not node.running} if lab.live else set()
    broken = [tunnel for tunnel in tunnels if not tunnel.working and not stopped.intersection(tunnel.ends)]
    colours = {node.name: number for number, node in enumerate(topology.chassis)}
    zones = [*topology.zones, ""]
    bound: dict[str, list[PortPicture]] = {}
    for port in vms:
        for chassis in port.chassis:
            bound.setdefault(chassis, []).append(port)
    for node in sorted(topology.nodes, key=lambda n: (zones.index(n.zone), ROLES.index(n.role), n.segment != UNDERLAY)):
        seen = lab.node(node.name)
        yield NodePicture(
            name=node.name,
            role=node.role,
            zone=node.zone,
            address=node.cidr,
            on_underlay=bool(node.ip) and node.segment == UNDERLAY,
            colour=colours.get(node.name),
            running=node.name not in stopped,
            encaps=", ".join(node.encaps) if node.chassis else "",
            facts=tuple(_facts(topology, node)),
            faults=() if node.name in stopped else (*(seen.faults if seen else ()), *_lost(node.name, broken)),
            nics=tuple(_nics(node)),
            vms=tuple(bound.get(node.name, ())),
        )


def _lost(name: str, broken: Iterable[TunnelPicture]) -> Iterator[str]:
    """Return a note that a node lacks tunnels to some of its peers."""
    peers = [end for tunnel in broken if name in tunnel.ends for end in tunnel.ends if end != name]
    if peers:
        yield f"no tunnel to {', '.join(peers)}"


def _facts(topology: Topology, node: resolved.Node) -> Iterator[str]:
    if node.central:
        members = topology.centrals(node.zone)
        number = f", RAFT {members.index(node) + 1} of {len(members)}" if len(members) > 1 else ""
        yield f"databases{number}"
        if node == topology.central and len(topology.zones) > 1:
            yield "interconnection databases"
        if not node.chassis:
            yield "no chassis"
    if node.role == "relay":
        yield "Southbound relay"
    if node.forwards:
        yield "forwards between its networks"
    for route in node.routes:
        yield f"{route.prefix} via {', '.join(route.nexthops)}"


def _nics(node: resolved.Node) -> Iterator[NicPicture]:
    if node.segment != UNDERLAY:
        yield NicPicture(node.segment, "eth1", "", (node.cidr,), underlay=True)
    for nic in node.nics:
        asks = ("dhcp",) if nic.dhcp else ()
        yield NicPicture(nic.network, nic.device, nic.bridge, (*nic.addresses, *asks))


def _network(topology: Topology, name: str) -> NetworkPicture:
    nics = [nic for node in topology.nodes for nic in node.nics if nic.network == name]
    addresses = [address for nic in nics for address in nic.addresses]
    addresses += [node.cidr for node in topology.nodes if node.segment == name]
    subnets = [str(ipaddress.ip_interface(address).network) for address in addresses]
    if not subnets:
        switches = (switch for switch in topology.switches if switch.physical_network == name and not switch.vlan)
        subnets = [subnet for switch in switches for subnet in switch.subnets]
    return NetworkPicture(name, _unique(subnets), _unique(nic.bridge for nic in nics if nic.bridge))


def _zone_fact(topology: Topology, zone: str) -> str:
    members = len(topology.centrals(zone))
    return f"RAFT cluster of {members}" if members > 1 else ""


# ── tunnels ──────────────────────────────────────────────────────────────────────────────────────────────


def _tunnels(lab: _Lab) -> Iterator[TunnelPicture]:
    """Yield one for each pair of chassis that should have one, or has one."""
    topology = lab.topology
    expected = [(node.name, peer.name) for node in topology.chassis for peer in topology.peers(node)]
    reports: dict[frozenset[str], list[LiveTunnel]] = {}
    for tunnel in lab.live.tunnels if lab.live else ():
        if topology.node(tunnel.peer) and tunnel.peer != tunnel.node:
            reports.setdefault(frozenset((tunnel.node, tunnel.peer)), []).append(tunnel)
    order = [node.name for node in topology.nodes]
    pairs = {frozenset(pair): None for pair in expected} | dict.fromkeys(reports)
    for pair in pairs:
        first, second = sorted(pair, key=order.index)
        seen = reports.get(pair, [])
        works = lab.live is None or {report.node for report in seen if report.working} == pair
        encap = seen[0].encap if seen else _encap(topology, first, second)
        yield TunnelPicture((first, second), encap, works)


def _encap(topology: Topology, *names: str) -> str:
    """Return what both take; Geneve where they have the choice."""
    encaps = [node.encaps for node in topology.nodes if node.name in names]
    return next((encap for encap in ("geneve", "vxlan") if all(encap in taken for taken in encaps)), "")


def _mesh(topology: Topology, tunnels: tuple[TunnelPicture, ...]) -> tuple[str, ...]:
    """Return all tunnels, in words: how many, which encapsulations, how many do not work."""
    if not tunnels:
        return ()
    number, chassis = len(tunnels), len(topology.chassis)
    encaps = ", ".join(sorted({tunnel.encap for tunnel in tunnels if tunnel.encap}))
    full = "full mesh of " if number == chassis * (chassis - 1) // 2 and number > 1 else ""
    broken = sum(not tunnel.working for tunnel in tunnels)
    number_of = f"{number} tunnel{'s' if number > 1 else ''}"
    found = (f"{full}{number_of}", encaps, f"{broken} broken" if broken else "")
    return tuple(filter(None, found))


# ── switches ─────────────────────────────────────────────────────────────────────────────────────────────


def _switches(lab: _Lab) -> Iterator[SwitchPicture]:
    topology = lab.topology
    known = {port.name for switch in topology.switches for port in switch.ports}
    others = [port for port in (lab.live.ports if lab.live else ()) if port.name not in known]
    for switch in topology.switches:
        yield SwitchPicture(
            name=switch.name,
            zone=switch.zone,
            subnets=switch.subnets,
            transit=switch.transit,
            network=switch.physical_network,
            vlan=switch.vlan,
            ports=(*_ports(lab, switch), *(_foreign(port) for port in others if port.switch == switch.name)),
            badges=tuple(_badges(topology, switch)),
            balancers=tuple(_balancer(found) for found in topology.load_balancers if switch.name in found.switches),
        )
    for name in _unique(port.switch for port in others):
        if topology.switch(name) is None:
            ports = tuple(_foreign(port) for port in others if port.switch == name)
            yield SwitchPicture(name, zone="", subnets=(), ports=ports, badges=(Badge("not in the topology"),))


def _ports(lab: _Lab, switch: resolved.Switch) -> Iterator[PortPicture]:
    for port in switch.ports:
        owner = port.parent or port.name
        kind = f"VLAN {port.tag}" if port.parent else port.type
        state, chassis = _binding(lab, port.name, owner) if kind == "" or port.parent else (State.UNBOUND, ())
        group = next((group for group in lab.topology.ha_chassis_groups if group.name == port.ha_chassis_group), None)
        virtual = port.options.get("virtual-parents", "")
        yield PortPicture(
            name=port.name,
            switch=switch.name,
            mac=port.mac,
            addresses=port.ips,
            state=state,
            chassis=group.chassis if group else chassis,
            kind=kind,
            parents=(port.parent,) if port.parent else tuple(filter(None, virtual.split(","))),
            notes=tuple(_port_notes(lab.topology, port)),
        )


def _port_notes(topology: Topology, port: resolved.SwitchPort) -> Iterator[str]:
    vm = topology.vm(port.name)
    if vm is not None:
        yield from filter(None, [f"asks for {', '.join(vm.asks)}" if vm.asks else ""])
        yield from (f"serves {number}" for number in vm.serves)
        yield from (f"VLAN {vlan.tag}: {vlan.name}" for vlan in vm.vlans)
    if port.port_security:
        yield "port security"


def _binding(lab: _Lab, name: str, owner: str) -> tuple[State, tuple[str, ...]]:
    """Return the state of a port and where it is bound, which for one of a file is where the file binds its owner."""
    if lab.live is None:
        vm = lab.topology.vm(owner)
        return (State.BOUND, (vm.chassis,)) if vm and vm.chassis else (State.UNBOUND, ())
    found = lab.port(name)
    if found is None:
        return (State.MISSING if lab.live.ports else State.UNBOUND), ()
    return _live_binding(found)


def _live_binding(port: LivePort) -> tuple[State, tuple[str, ...]]:
    if port.chassis is None:
        return State.UNBOUND, ()
    return (State.BOUND if port.up else State.DOWN), (port.chassis,)


def _foreign(port: LivePort) -> PortPicture:
    """Return a port that the lab has and its topology does not."""
    state, chassis = _live_binding(port)
    return PortPicture(port.name, port.switch, "", port.addresses, state, chassis, notes=("not in the topology",))


def _badges(topology: Topology, switch: resolved.Switch) -> Iterator[Badge]:
    if switch.dhcp:
        options = (", ".join(f"{key} {value}" for key, value in dhcp.options.items()) for dhcp in switch.dhcp)
        yield Badge("DHCP", tuple(f"{dhcp.cidr}: {text}" for dhcp, text in zip(switch.dhcp, options, strict=True)))
    if switch.dns:
        names = tuple(f"{one_line(name)}: {', '.join(ips)}" for name, ips in switch.dns.items())
        yield Badge(f"DNS {len(names)}", names)
    on_it = {port.name for port in switch.ports}
    groups = {group.name for group in topology.port_groups if on_it.intersection(group.ports)}
    acls = [acl for acl in topology.acls if acl.owner in (groups if acl.on_group else {switch.name})]
    if acls:
        number = f"{len(acls)} ACL{'s' if len(acls) > 1 else ''}"
        yield Badge(number, tuple(f"{a.direction} {a.priority} {one_line(a.match)}: {a.action}" for a in acls))
    qos = [rule for rule in topology.qos if rule.switch == switch.name]
    if qos:
        rules = ({**rule.bandwidth, **rule.action} for rule in qos)
        limits = [", ".join(f"{key} {value}" for key, value in rule.items()) for rule in rules]
        texts = (f"{rule.direction} {one_line(rule.match)}: {text}" for rule, text in zip(qos, limits, strict=True))
        yield Badge(f"QoS {len(qos)}", tuple(texts))
    shown = sorted(_shown(topology, switch.name), key=lambda rule: rule.kind)
    for word, found in itertools.groupby(shown, key=lambda rule: rule.kind):
        yield Badge(word, tuple(rule.text for rule in found))
    if switch.other_config:
        yield Badge("options", tuple(f"{one_line(k)}={one_line(v)}" for k, v in switch.other_config.items()))


# ── routers ──────────────────────────────────────────────────────────────────────────────────────────────


def _router(topology: Topology, router: resolved.Router) -> RouterPicture:
    return RouterPicture(
        name=router.name,
        zone=router.zone,
        chassis=router.chassis,
        ports=tuple(_router_port(topology, port) for port in router.ports),
        nat=tuple(_nat(nat) for nat in router.nat),
        routes=(*_routes(router), *_shown(topology, router.name)),
        balancers=tuple(_balancer(found) for found in topology.load_balancers if router.name in found.routers),
    )


def _shown(topology: Topology, owner: str) -> Iterator[RulePicture]:
    """Yield what kinds of Northbound objects say of themselves at a switch or router."""
    return (
        RulePicture(row.shown[0], one_line(row.shown[1]))
        for row in topology.rows
        if row.owner == owner and row.shown[0]
    )


def _router_port(topology: Topology, port: resolved.RouterPort) -> RouterPortPicture:
    group = next((group for group in topology.ha_chassis_groups if group.name == port.ha_chassis_group), None)
    notes = [f"{key} {one_line(value)}" for key, value in port.options.items()]
    return RouterPortPicture(
        switch=port.switch,
        networks=port.networks,
        gateways=group.chassis if group else port.gateway_chassis,
        notes=(port.mac, *([f"router advertisements: {port.ipv6_ra}"] if port.ipv6_ra else []), *notes),
    )


def _nat(nat: resolved.Nat) -> RulePicture:
    notes = (f"distributed at {nat.port}",) if nat.port else ()
    return RulePicture(nat.type, f"{nat.external} → {nat.logical}", notes)


def _routes(router: resolved.Router) -> Iterator[RulePicture]:
    """Yield one for each prefix, with all its next hops."""
    for key, found in itertools.groupby(router.routes, key=lambda route: (route.prefix, route.policy, route.port)):
        routes = list(found)
        kind = "src" if key[1] == "src-ip" else "ecmp" if len(routes) > 1 else "route"
        yield RulePicture(kind, f"{key[0]} via {', '.join(route.nexthop for route in routes)}")


def _balancer(balancer: resolved.LoadBalancer) -> RulePicture:
    checked = ("health check",) if balancer.health_check else ()
    backends = ", ".join(balancer.backends) or "no backend"
    has_port = parse_endpoint(balancer.vip).port  # without one, all protocols are balanced
    return RulePicture(
        balancer.name, f"{f'{balancer.protocol} ' if has_port else ''}{balancer.vip} → {backends}", checked
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
