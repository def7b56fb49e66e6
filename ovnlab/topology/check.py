"""What must agree between the parts of a file. Each finding is a place and what is wrong there."""

from __future__ import annotations

import difflib
import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from ovnlab.topology.model import Router, Switch, TopologyFile
from ovnlab.topology.resolved import RESERVED, free_addresses, is_reserved
from ovnlab.topology.source import Where

Finding = tuple[Where, str]
AnyNetwork = IPv4Network | IPv6Network


def find(file: TopologyFile, data: Mapping[Any, Any]) -> Iterator[Finding]:
    """Everything in the file that contradicts something else in it.

    `data` is the file as it was written: a name counts as known even where its entry has a mistake.
    """
    names = _Names(data)
    yield from _roles(file, names)
    yield from _underlay(file)
    yield from _shared_names(file)
    yield from _macs(file)
    for name, switch in file.logical.switches.items():
        yield from _switch(file, ("logical", "switches", name), switch, names)
    for name, router in file.logical.routers.items():
        yield from _router(file, ("logical", "routers", name), router, names)
    yield from _physical(file, names)
    yield from _references(file, names)
    yield from _checks(file, names)


class _Names:
    """The names that a file gives, read from the text rather than the model."""

    def __init__(self, data: Mapping[Any, Any]) -> None:
        logical = data.get("logical")
        logical = logical if isinstance(logical, dict) else {}
        self.nodes = _keys(data.get("nodes"))
        self.physical_networks = _keys(data.get("physical_networks"))
        self.switches = _keys(logical.get("switches"))
        self.routers = _keys(logical.get("routers"))
        switches = logical.get("switches")
        nodes = data.get("nodes")
        roles = (
            [node.get("role") for node in nodes.values() if isinstance(node, dict)] if isinstance(nodes, dict) else []
        )
        # Whoever misspelt a role may have meant central.
        self.misspelt_role = any(role not in (None, "central", "worker", "gateway", "host") for role in roles)
        self.without_subnet = [
            name
            for name, switch in (switches.items() if isinstance(switches, dict) else ())
            if not isinstance(switch, dict) or "subnet" not in switch
        ]
        self.vms = [
            port
            for switch in (switches.values() if isinstance(switches, dict) else ())
            if isinstance(switch, dict)
            for port in _keys(switch.get("ports"))
        ]


def _keys(value: object) -> list[str]:
    return [key for key in value if isinstance(key, str)] if isinstance(value, dict | list) else []


def _unknown(where: Where, name: str, kind: str, known: Iterable[str]) -> Iterator[Finding]:
    known = list(known)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(known) or 'none'}"
    yield where, f"there is no {kind} {name!r} ({hint})"


def _roles(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    if not names.misspelt_role and not any(node.role == "central" for node in file.nodes.values()):
        example = next(iter(file.nodes), "central")
        yield ("nodes",), f"no node has role central (such as `{example}: {{role: central}}`)"
    for name, node in file.nodes.items():
        if not node.chassis and node.role != "central":
            yield ("nodes", name, "chassis"), "only a central can be without a chassis"


def _underlay(file: TopologyFile) -> Iterator[Finding]:
    subnet = ipaddress.ip_network(file.underlay.subnet)
    taken: dict[str, str] = {}
    for name, node in file.nodes.items():
        if node.ip is None:
            continue
        where: Where = ("nodes", name, "ip")
        yield from _address(where, node.ip, [subnet], "the underlay")
        if node.ip in taken:
            yield where, f"{node.ip} is the address of {taken[node.ip]} already"
        taken.setdefault(node.ip, name)
    yield from _usable(("underlay", "subnet"), subnet)
    wanting = sum(node.ip is None for node in file.nodes.values())
    if not _has_free(str(subnet), taken, wanting):
        yield ("underlay", "subnet"), f"{subnet} has too few addresses for {len(file.nodes)} nodes"


def _usable(where: Where, subnet: AnyNetwork) -> Iterator[Finding]:
    """Some subnets are nobody's: the kernel routes them elsewhere."""
    if subnet.is_multicast or subnet.is_loopback or subnet.is_unspecified or subnet.prefixlen == 0:
        yield where, f"{subnet} cannot be a subnet: multicast, loopback or everything"


def _has_free(subnet: str, taken: Iterable[str], wanted: int) -> bool:
    """Whether a subnet has that many addresses to give out."""
    return sum(1 for _ in itertools.islice(free_addresses(subnet, taken), wanted)) == wanted


def _address(where: Where, ip: str, subnets: list[AnyNetwork], of: str) -> Iterator[Finding]:
    address = ipaddress.ip_address(ip)
    subnet = next((subnet for subnet in subnets if address in subnet), None)
    if subnet is None:
        yield where, f"{ip} is outside {' and '.join(map(str, subnets))} of {of}"
    elif subnet.num_addresses > 2 and address == subnet.network_address:
        yield where, f"{ip} is the network address of {subnet}"
    elif address.version == 4 and subnet.num_addresses > 2 and address == subnet.broadcast_address:
        yield where, f"{ip} is the broadcast address of {subnet}"


def _shared_names(file: TopologyFile) -> Iterator[Finding]:
    """Nodes, fake VMs and the ports between switches and routers share one set of names."""
    owners = dict.fromkeys(file.nodes, "a node")
    for name in RESERVED.intersection(file.nodes):
        yield ("nodes", name), f"{name!r} is the name of an interface that every lab has"
    for switch_name, switch in file.logical.switches.items():
        for name in switch.ports:
            where: Where = ("logical", "switches", switch_name, "ports", name)
            if is_reserved(name):
                yield where, f"{name!r} is the name of an interface that every node has"
            if name in owners:
                yield where, f"{name!r} is the name of {owners[name]} already"
            owners.setdefault(name, f"a port of {switch_name}")
    for router_name, router in file.logical.routers.items():
        if router_name in file.logical.switches:
            yield ("logical", "routers", router_name), f"{router_name!r} is the name of a switch already"
        for switch_name in router.ports:
            for name in (f"{router_name}-{switch_name}", f"{switch_name}-{router_name}"):
                if name in owners:
                    where = ("logical", "routers", router_name, "ports", switch_name)
                    yield where, f"the port {name!r} that joins them has the name of {owners[name]}"
                owners.setdefault(name, f"the port between {router_name} and {switch_name}")


def _macs(file: TopologyFile) -> Iterator[Finding]:
    taken: dict[str, str] = {}
    places = [
        (("logical", "switches", switch_name, "ports", name, "mac"), port.mac, name)
        for switch_name, switch in file.logical.switches.items()
        for name, port in switch.ports.items()
    ] + [
        (("logical", "routers", router_name, "ports", name, "mac"), port.mac, f"{router_name}-{name}")
        for router_name, router in file.logical.routers.items()
        for name, port in router.ports.items()
    ]
    for where, mac, name in places:
        if mac is None:
            continue
        if mac in taken:
            yield where, f"{mac} is the MAC address of {taken[mac]} already"
        taken.setdefault(mac, name)


def _switch(file: TopologyFile, where: Where, switch: Switch, names: _Names) -> Iterator[Finding]:
    subnets = [ipaddress.ip_network(subnet) for subnet in switch.subnet]
    yield from _overlaps((*where, "subnet"), [(str(subnet), subnet) for subnet in subnets])
    taken = {
        str(ipaddress.ip_interface(ip).ip): f"{router_name}'s port"
        for router_name, router in file.logical.routers.items()
        for name, port in router.ports.items()
        if name == where[-1]
        for ip in port.ip
    }
    for name, port in switch.ports.items():
        at: Where = (*where, "ports", name)
        if port.chassis is not None:
            yield from _unknown((*at, "chassis"), port.chassis, "node", names.nodes)
            node = file.nodes.get(port.chassis)
            if node is not None and (not node.chassis or node.role == "host"):
                yield (*at, "chassis"), f"{port.chassis} is no chassis: it runs no ovn-controller"
        if (
            port.mtu is not None
            and port.mtu < 1280
            and (":" in "".join(port.ip) or any(s.version == 6 for s in subnets))
        ):
            yield (*at, "mtu"), f"IPv6 needs an MTU of 1280 at least, {name} has {port.mtu}"
        for number, ip in enumerate(port.ip):
            if ip == "dhcp":
                if not switch.dhcp:
                    yield (*at, "ip"), f"ip: dhcp needs `dhcp: true` on {where[-1]}"
                continue
            place = (*at, "ip", number)
            if not subnets:
                if where[-1] in names.without_subnet:
                    yield place, f"{where[-1]} has no subnet that {ip} could be in"
                continue
            yield from _address(place, ip, subnets, str(where[-1]))
            if ip in taken:
                yield place, f"{ip} is the address of {taken[ip]} already"
            taken.setdefault(ip, name)
    for subnet in subnets:
        yield from _usable((*where, "subnet"), subnet)
        wanting = sum(not port.ip for port in switch.ports.values())
        if not _has_free(str(subnet), taken, wanting):
            yield (*where, "subnet"), f"{subnet} has too few addresses for the ports of {where[-1]}"
    if switch.physical_network is not None:
        at = (*where, "physical_network")
        yield from _unknown(at, switch.physical_network, "physical network", names.physical_networks)
    elif switch.vlan is not None:
        yield (*where, "vlan"), "a vlan needs a physical_network that it is on"


def _overlaps(where: Where, networks: list[tuple[str, AnyNetwork]]) -> Iterator[Finding]:
    for number, (label, network) in enumerate(networks):
        for other_label, other in networks[:number]:
            if network.version == other.version and network.overlaps(other):
                yield where, f"{label} overlaps {other_label}"


def _router(file: TopologyFile, where: Where, router: Router, names: _Names) -> Iterator[Finding]:
    networks: list[tuple[str, AnyNetwork]] = []
    for name, port in router.ports.items():
        at: Where = (*where, "ports", name)
        yield from _unknown(at, name, "switch", names.switches)
        here = [(f"{ip} on {name}", ipaddress.ip_interface(ip).network) for ip in port.ip]
        yield from _overlapping_ports(at, here, networks)
        networks.extend(here)
        switch = file.logical.switches.get(name)
        subnets = [ipaddress.ip_network(subnet) for subnet in switch.subnet] if switch else []
        for number, ip in enumerate(port.ip):
            place = (*at, "ip", number)
            if ip in port.ip[:number]:
                yield place, f"{ip} stands here twice"
            if subnets:
                yield from _address(place, ip.partition("/")[0], subnets, name)
            meant = next((subnet for subnet in subnets if ipaddress.ip_interface(ip).ip in subnet), None)
            if meant is not None and meant != ipaddress.ip_interface(ip).network:
                yield place, f"{ip} has another prefix length than {meant} of {name}"
            yield from _same_router_address(file, place, ip, str(where[-1]), name)
        for number, chassis in enumerate(port.gateway_chassis):
            yield from _unknown((*at, "gateway_chassis", number), chassis, "node", names.nodes)
            node = file.nodes.get(chassis)
            if node is not None and node.role != "gateway":
                yield (*at, "gateway_chassis", number), f"{chassis} is no gateway (`role: gateway`)"
    for number, route in enumerate(router.routes):
        reachable = any(ipaddress.ip_address(route.nexthop) in network for _, network in networks)
        if networks and not reachable:
            at = (*where, "routes", number, "nexthop")
            yield at, f"{route.nexthop} is in no network of {where[-1]}"
    for number, nat in enumerate(router.nat):
        if nat.port is not None:
            yield from _unknown((*where, "nat", number, "port"), nat.port, "port", names.vms)
        if networks and not any(ipaddress.ip_address(nat.external) in network for _, network in networks):
            at = (*where, "nat", number, "external")
            yield at, f"{nat.external} is in no network of {where[-1]}"


def _overlapping_ports(
    where: Where, here: list[tuple[str, AnyNetwork]], there: list[tuple[str, AnyNetwork]]
) -> Iterator[Finding]:
    for label, network in here:
        for other_label, other in there:
            if network.version == other.version and network.overlaps(other):
                yield where, f"{label} overlaps {other_label} on the same router"


def _same_router_address(file: TopologyFile, where: Where, ip: str, router: str, switch: str) -> Iterator[Finding]:
    """Two routers on one switch need different addresses there."""
    for other_name, other in file.logical.routers.items():
        if other_name == router:
            return
        port = other.ports.get(switch)
        if port is not None and ip.partition("/")[0] in [other_ip.partition("/")[0] for other_ip in port.ip]:
            yield where, f"{ip} is the address of {other_name} on {switch} already"


def _physical(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    taken: dict[tuple[str, str], str] = {}
    for name, node in file.nodes.items():
        for network_name, ip in node.physical.items():
            where: Where = ("nodes", name, "physical", network_name)
            yield from _unknown(where, network_name, "physical network", names.physical_networks)
            network = file.physical_networks.get(network_name)
            if ip is None or network is None:
                continue
            if network.subnet:
                subnets = [ipaddress.ip_network(subnet) for subnet in network.subnet]
                yield from _address(where, ip, subnets, network_name)
            if (network_name, ip) in taken:
                yield where, f"{ip} is the address of {taken[network_name, ip]} already"
            taken.setdefault((network_name, ip), name)


def _references(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    for number, acl in enumerate(file.logical.acls):
        yield from _unknown(("logical", "acls", number, "switch"), acl.switch, "switch", names.switches)
    for name, balancer in file.logical.load_balancers.items():
        where: Where = ("logical", "load_balancers", name)
        for number, switch in enumerate(balancer.switches):
            yield from _unknown((*where, "switches", number), switch, "switch", names.switches)
        for number, router in enumerate(balancer.routers):
            yield from _unknown((*where, "routers", number), router, "router", names.routers)


def _checks(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    targets = [*names.nodes, *names.vms]
    for number, check in enumerate(file.checks):
        where: Where = ("checks", number)
        yield from _unknown((*where, "from"), check.source, "node or fake VM", targets)
        target = check.ping or (check.tcp or "").rpartition(":")[0].strip("[]")
        try:
            ipaddress.ip_address(target)
        except ValueError:
            key = "ping" if check.ping is not None else "tcp"
            yield from _unknown((*where, key), target, "node or fake VM", targets)
