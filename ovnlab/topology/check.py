"""Consistency checks between the parts of a file. Each finding is a place and what is wrong there."""

from __future__ import annotations

import ipaddress
import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ovnlab.topology import objects
from ovnlab.topology.addresses import Endpoint, ip_of, is_ip, is_mac, parse_endpoint, split_name, split_port
from ovnlab.topology.complete import QUANTITIES, bridge_of, by_password, nic_of, software, split_link
from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.model import Build, Check, Machine, Node, PhysicalNetwork, Port, Router, Switch, TopologyFile
from ovnlab.topology.objects.port_types import OUTSIDE
from ovnlab.topology.quantities import pair, seconds
from ovnlab.topology.resolved import DEFAULT_URI, FAULTS, RESERVED, Software, free_addresses, is_reserved
from ovnlab.topology.source import Where

AnyNetwork = IPv4Network | IPv6Network


def find(file: TopologyFile, data: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield everything in the file that contradicts something else in it.

    `data` is the file as it was written: a name counts as known even where its entry has a mistake.
    """
    names = _Names(data)
    yield from _roles(file, names)
    yield from _hosts(file)
    yield from _images(file)
    yield from _hypervisors(file)
    yield from _software(file)
    yield from _underlay(file, names)
    yield from _zones(file)
    yield from _shared_names(file)
    yield from _macs(file)
    for name, switch in file.logical.switches.items():
        yield from _switch(file, ("logical", "switches", name), switch, names)
    for name, router in file.logical.routers.items():
        yield from _router(file, ("logical", "routers", name), router, names)
    yield from _physical(file, names)
    yield from _groups(file, names)
    yield from _acls(file, names)
    yield from _address_sets(file)
    yield from _qos(file, names)
    yield from _balancers(file, names)
    yield from objects.check(file)
    yield from _checks(file, names)
    yield from _links(file, names)


def _hosts(file: TopologyFile) -> Iterator[Finding]:
    """Check that existing machines have their own addresses, and are entered with a key."""
    for network in file.machines.nics if file.provider == "ssh" else ():
        yield from unknown(("machines", "nics", network), network, "physical network", file.physical_networks)
    for name, node in file.nodes.items() if file.provider == "ssh" else ():
        lacking = ["its address on the underlay as ip"] if not node.ip and node.role != "host" else []
        agent = node.agent if "agent" in node.model_fields_set else file.machines.agent
        if not (node.key or file.machines.key or agent or by_password(file, node)):
            lacking.append("the private key that it is entered with as key (or agent: true, or password: true)")
        if by_password(file, node) and (node.jump or file.machines.jump):
            yield ("nodes", name), f"{name} is behind another machine: both are entered with a key, not a password"
        if lacking:
            yield ("nodes", name), f"{name} is there already, and must say {' and '.join(lacking)}"
        yield from _nics(file, name, node)


def _nics(file: TopologyFile, name: str, node: Node) -> Iterator[Finding]:
    """Check that an existing machine has one NIC of its own on each physical network."""
    used: dict[str, str] = {}
    for network in node.physical:
        nic = nic_of(file, node, network)
        where: Where = ("nodes", name, "physical")
        if nic is None:
            must = f"must say by which NIC it is on {network}, as in nics: {{{network}: eth2}}"
            yield where, f"{name} is there already, and {must}"
        elif nic == "lo":
            yield where, f"lo of {name} is on no network"
        elif nic in used:
            yield where, f"{nic} of {name} is on {used[nic]} already, and cannot be on {network} as well"
        else:
            used[nic] = network
    for network in node.nics:
        if network not in file.physical_networks:
            yield from unknown(("nodes", name, "nics", network), network, "physical network", file.physical_networks)
        elif network not in node.physical:
            yield ("nodes", name, "nics", network), f"{name} is not on {network} by `physical`"


def _images(file: TopologyFile) -> Iterator[Finding]:
    """Check that what is downloaded and booted has a checksum."""
    places: dict[Where, Machine] = {("machines",): file.machines}
    places |= {("nodes", name): node for name, node in file.nodes.items()}
    for where, machine in places.items():
        sha256 = machine.sha256 or file.machines.sha256
        if machine.image and "://" in machine.image and not sha256:
            yield (*where, "image"), "an image by its URL needs its sha256"


def _hypervisors(file: TopologyFile) -> Iterator[Finding]:
    """Check networks of several hypervisors: libvirt's networks end at one, only a bridge joins them."""
    if file.provider not in ("libvirt", "vagrant"):
        return
    if file.libvirt.subnet is not None and not _has_free(file.libvirt.subnet, (), len(file.nodes)):
        yield ("libvirt", "subnet"), f"{file.libvirt.subnet} has too few addresses for {len(file.nodes)} nodes"
    if file.libvirt.bridge is not None and file.libvirt.subnet is None:
        what = f"{file.libvirt.bridge} needs the subnet that its nodes get addresses of: libvirt: {{subnet: …}}"
        yield ("libvirt", "bridge"), what
    places = {name: node.uri or file.machines.uri or DEFAULT_URI for name, node in file.nodes.items()}
    keys = {name: _hypervisor(uri) for name, uri in places.items()}
    if len(set(keys.values())) < 2:
        return
    first = next(iter(keys))
    elsewhere = next(name for name, key in keys.items() if key != keys[first])
    if file.libvirt.bridge is None:
        where = ("nodes", elsewhere if file.nodes[elsewhere].uri else first, "uri")
        several = f"{first} is on {places[first]} and {elsewhere} on {places[elsewhere]}"
        yield where, f"{several}: nodes on several hypervisors need a bridge that joins them: libvirt: {{bridge: br0}}"
        return
    for network in file.physical_networks:
        members = [name for name, node in file.nodes.items() if network in node.physical or node.underlay == network]
        if len({keys[name] for name in members}) > 1:
            what = f"physical network {network} on several hypervisors is not supported: they are those of"
            yield ("physical_networks", network), f"{what} {', '.join(members)}"


def _hypervisor(uri: str) -> tuple[str, str, str]:
    """Return what tells two hypervisors apart: host, path (system or session) and socket; not the transport.

    >>> _hypervisor("qemu:///system") == _hypervisor("qemu+unix:///system")
    True
    """
    parts = urlsplit(uri)
    socket = parse_qs(parts.query).get("socket", [""])[0]
    return parts.hostname or "", parts.path, socket


def _software(file: TopologyFile) -> Iterator[Finding]:
    """Check that nodes share what is not built for them, and that OVN's library goes with a built OVN."""
    common = software(file.software, lambda _: Path())
    asked: dict[Where, tuple[object, Software]] = {("software",): (file.software, common)}
    for name, node in file.nodes.items():
        if node.software is not None:
            where: Where = ("nodes", name, "software")
            asked[where] = (node.software, software(node.software, lambda _: Path(), where, common))
            if node.role == "host":
                yield where, f"{name} is a host: it runs neither OVS nor OVN"
    first = ""
    for where, (given, found) in asked.items():
        if isinstance(given, Build) and given.build_on:
            at = (*where, "build_on")
            if file.provider == "local":
                yield at, "local nodes are on this machine, which builds by itself: leave build_on out"
            else:
                yield from unknown(at, given.build_on, "node", file.nodes)
        words = [origin.kind for origin in (found.ovs, found.ovn) if not origin.is_source]
        first = first or next(iter(words), "")
        if any(word != first for word in words):
            yield where, "packages and system cannot be mixed: all nodes of a lab have the same, but for what is built"
        if isinstance(given, Build) and given.ovn_library and not found.ovn.is_source:
            yield (*where, "ovn_library"), f"ovn_library goes with an OVN that is built, and this one is {found.ovn}"


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
        known = (None, "central", "worker", "gateway", "relay", "host")
        self.misspelt_role = any(role not in known for role in roles)
        self.port_groups = _keys(logical.get("port_groups"))
        self.ha_chassis_groups = _keys(logical.get("ha_chassis_groups"))
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


def _roles(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    if not names.misspelt_role and not any(node.role == "central" for node in file.nodes.values()):
        example = next(iter(file.nodes), "central")
        yield ("nodes",), f"no node has role central (such as `{example}: {{role: central}}`)"
    for name, node in file.nodes.items():
        if not node.chassis and node.role != "central":
            yield ("nodes", name, "chassis"), "only a central can be without a chassis"
        for key in node.external_ids:
            where: Where = ("nodes", name, "external_ids", key)
            if node.role in ("host", "relay"):
                yield where, f"{name} is a {node.role}, which runs no Open vSwitch"
            elif key in ("system-id", "hostname", "ovnlab", "ovn-remote", "ovn-bridge"):
                yield where, f"{key} is the lab's own: it cannot be another"
        if node.bfd and node.role != "host":
            yield ("nodes", name, "bfd"), f"bfd is for a host, and {name} is a {node.role}"


def _underlay(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    subnet = ipaddress.ip_network(file.underlay.subnet)
    taken: dict[str, str] = {}
    for name, node in file.nodes.items():
        where: Where = ("nodes", name, "ip")
        network = file.physical_networks.get(node.underlay) if node.underlay else None
        if node.underlay is not None:
            at: Where = ("nodes", name, "underlay")
            yield from unknown(at, node.underlay, "physical network", names.physical_networks)
            if network is not None and not network.subnet:
                yield at, f"{node.underlay} has no subnet that {name} could have an address of"
            if node.underlay in node.physical:
                yield at, f"{name} is on {node.underlay} by `physical` already"
        yield from _node_routes(file, name, node, network)
        if node.ip is None or (node.underlay and not (network and network.subnet)):
            continue
        here = ipaddress.ip_network(network.subnet[0]) if network else subnet
        yield from _address(where, node.ip, [here], node.underlay or "the underlay")
        if node.ip in taken:
            yield where, f"{node.ip} is the address of {taken[node.ip]} already"
        taken.setdefault(node.ip, name)
    yield from _usable(("underlay", "subnet"), subnet)
    wanting = sum(node.ip is None and node.role != "host" and not node.underlay for node in file.nodes.values())
    if not _has_free(str(subnet), taken, wanting):
        yield ("underlay", "subnet"), f"{subnet} has too few addresses for {len(file.nodes)} nodes"


def _node_routes(file: TopologyFile, name: str, node: Node, segment: PhysicalNetwork | None) -> Iterator[Finding]:
    """Next hops that a node can reach, as far as it is known what it can."""
    networks = (
        [] if node.role == "host" and node.ip is None else [*(segment.subnet if segment else [file.underlay.subnet])]
    )
    here = [file.physical_networks[found] for found in node.physical if found in file.physical_networks]
    networks += [subnet for network in here for subnet in network.subnet]
    known = all(network.subnet for network in here)
    for number, route in enumerate(node.routes):
        where: Where = ("nodes", name, "routes", number, "nexthop")
        for hop in map(ipaddress.ip_address, route.nexthop):
            if hop.version != ipaddress.ip_network(route.prefix).version:
                yield where, f"{hop} is of another family than {route.prefix}"
            elif known and not any(hop in ipaddress.ip_network(subnet) for subnet in networks):
                yield where, f"{hop} is in no network of {name}"


def _zones(file: TopologyFile) -> Iterator[Finding]:
    """Check that with availability zones all nodes but hosts are in one, each with a central of its own."""
    zones = {node.zone for node in file.nodes.values() if node.zone is not None and node.role == "central"}
    logical = file.logical
    asked = [item.zone for items in (file.nodes, logical.switches, logical.routers) for item in items.values()]
    if not any(asked):
        for name, switch in file.logical.switches.items():
            if switch.transit:
                yield ("logical", "switches", name, "transit"), "a transit switch joins zones, and there are none"
        return
    things: list[tuple[Where, str | None, bool]] = [
        (("nodes", name), node.zone, node.role != "host") for name, node in file.nodes.items()
    ]
    things += [
        (("logical", "switches", n), switch.zone, not switch.transit) for n, switch in file.logical.switches.items()
    ]
    things += [(("logical", "routers", n), router.zone, True) for n, router in file.logical.routers.items()]
    for where, zone, needed in things:
        if zone is None and needed:
            yield where, f"{where[-1]} needs a zone, as others have one"
        elif zone is not None and not needed:
            yield (
                (*where, "zone"),
                f"{where[-1]} is in no zone: it is {'a host' if where[0] == 'nodes' else 'in all of them'}",
            )
        elif zone is not None and zone not in zones:
            yield (*where, "zone"), f"zone {zone!r} has no central"
    yield from _zones_of_chassis(file)
    for name, router in file.logical.routers.items():
        for switch_name in router.ports:
            found = file.logical.switches.get(switch_name)
            if found is not None and not found.transit and found.zone != router.zone:
                yield (
                    ("logical", "routers", name, "ports", switch_name),
                    f"{switch_name} is in another zone than {name}",
                )


def _zones_of_chassis(file: TopologyFile) -> Iterator[Finding]:
    """Check that what is bound to a chassis, or has gateways, is in their zone."""
    wanted: list[tuple[Where, str, str | None]] = []
    groups = file.logical.ha_chassis_groups
    for switch_name, switch in file.logical.switches.items():
        where: Where = ("logical", "switches", switch_name)
        if switch.transit and (switch.ports or switch.dhcp or switch.dns or switch.physical_network):
            yield where, f"{switch_name} is a transit switch: only routers have ports on it"
        if switch.transit:
            yield from _on_transit_switch(file, switch_name)
        for name, port in switch.ports.items():
            at: Where = (*where, "ports", name)
            wanted += [((*at, "chassis"), port.chassis, switch.zone)] if port.chassis else []
            wanted += [
                ((*at, "ha_chassis_group"), member, switch.zone)
                for member in groups.get(port.ha_chassis_group or "", ())
            ]
    for router_name, router in file.logical.routers.items():
        where = ("logical", "routers", router_name)
        wanted += [((*where, "chassis"), router.chassis, router.zone)] if router.chassis else []
        for name, router_port in router.ports.items():
            at = (*where, "ports", name)
            members = [*router_port.gateway_chassis, *groups.get(router_port.ha_chassis_group or "", ())]
            wanted += [(at, member, router.zone) for member in members]
    for place, chassis, zone in wanted:
        node = file.nodes.get(chassis)
        if node is not None and node.zone != zone:
            yield place, f"{chassis} is in zone {node.zone}, and this in zone {zone}"


def _on_transit_switch(file: TopologyFile, name: str) -> Iterator[Finding]:
    """Yield what a transit switch cannot have: ovn-ic makes it in each zone, with nothing but ports of routers."""
    switch, logical = file.logical.switches[name], file.logical
    for key in ("multicast", "vlan_passthru", "copp"):
        if getattr(switch, key):
            yield ("logical", "switches", name, key), f"{name} is a transit switch, which has no {key}"
    rules: list[tuple[Where, str | None]] = [
        *((("logical", "acls", i, "switch"), acl.switch) for i, acl in enumerate(logical.acls)),
        *((("logical", "qos", i, "switch"), rule.switch) for i, rule in enumerate(logical.qos)),
    ]
    yield from ((at, f"{name} is a transit switch, which has no rules") for at, owner in rules if owner == name)
    balanced: list[tuple[Where, list[str]]] = [
        *((("logical", "load_balancers", n, "switches"), item.switches) for n, item in logical.load_balancers.items()),
        *(
            (("logical", "load_balancer_groups", n, "switches"), item.switches)
            for n, item in logical.load_balancer_groups.items()
        ),
    ]
    for where, switches in balanced:
        if name in switches:
            yield (*where, switches.index(name)), f"{name} is a transit switch, which has no load balancers"


def _usable(where: Where, subnet: AnyNetwork) -> Iterator[Finding]:
    """Yield some subnets are nobody's: the kernel routes them elsewhere."""
    if subnet.is_multicast or subnet.is_loopback or subnet.is_unspecified or subnet.prefixlen == 0:
        yield where, f"{subnet} cannot be a subnet: multicast, loopback or everything"
    elif str(subnet.network_address) == "255.255.255.255":
        yield where, f"{subnet} cannot be a subnet: it is the broadcast address of every network"


def _has_free(subnet: str, taken: Iterable[str], wanted: int) -> bool:
    """Return True if a subnet has that many addresses to give out."""
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
    """Check that nodes, fake VMs and ports between switches and routers have different names."""
    owners = dict.fromkeys(file.nodes, "a node")
    for network_name, network in file.physical_networks.items():
        owners.setdefault(bridge_of(network_name, network), f"the bridge of {network_name}")
    for switch in file.logical.switches.values():
        for port in switch.ports.values():
            if port.parent is not None:
                owners.setdefault(f"trunk-{port.parent}", f"the trunk of {port.parent}")
                owners.setdefault(f"{port.parent}.{port.vlan}", f"a VLAN device of {port.parent}")
    for switch_name, switch in file.logical.switches.items():
        if switch.physical_network is not None:
            owners.setdefault(f"ln-{switch_name}", f"the localnet port of {switch_name}")
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
    if switch.dhcp and not subnets and where[-1] in names.without_subnet:
        yield (*where, "dhcp"), f"{where[-1]} has no subnet that DHCP could answer for"
    for name, port in switch.ports.items():
        at: Where = (*where, "ports", name)
        yield from _special_port(file, at, switch, port, names)
        if port.chassis is not None:
            yield from unknown((*at, "chassis"), port.chassis, "node", names.nodes)
            node = file.nodes.get(port.chassis)
            if node is not None and (not node.chassis or node.role == "host"):
                yield (*at, "chassis"), f"{port.chassis} is not a chassis: it runs no ovn-controller"
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
            if ip == "slaac":
                yield from _slaac(file, (*at, "ip"), str(where[-1]), subnets)
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
        wanting = sum(not port.ip and port.type not in OUTSIDE for port in switch.ports.values())
        if not _has_free(str(subnet), taken, wanting):
            yield (*where, "subnet"), f"{subnet} has too few addresses for the ports of {where[-1]}"
    if switch.physical_network is not None:
        at = (*where, "physical_network")
        yield from unknown(at, switch.physical_network, "physical network", names.physical_networks)
    elif switch.vlan is not None:
        yield (*where, "vlan"), "a vlan needs a physical_network that it is on"


def _slaac(file: TopologyFile, where: Where, switch: str, subnets: list[AnyNetwork]) -> Iterator[Finding]:
    if not any(subnet.version == 6 and subnet.prefixlen == 64 for subnet in subnets):
        yield where, f"ip: slaac needs an IPv6 subnet with prefix length 64 on {switch}"
    elif not any(r.ports[switch].ipv6_ra for r in file.logical.routers.values() if switch in r.ports):
        yield where, f"ip: slaac needs a router port on {switch} with ipv6_ra"


def _special_port(file: TopologyFile, where: Where, switch: Switch, port: Port, names: _Names) -> Iterator[Finding]:
    """Check ports that are not simply a fake VM's: children, external and virtual ones."""
    if port.parent is not None:
        yield from unknown((*where, "parent"), port.parent, "port", names.vms)
        parent = next((s.ports[port.parent] for s in file.logical.switches.values() if port.parent in s.ports), None)
        if parent is not None and (parent.parent or parent.type):
            yield (*where, "parent"), f"{port.parent} is not a fake VM that could have a VLAN device"
        siblings = [p for s in file.logical.switches.values() for p in s.ports.items() if p[1].parent == port.parent]
        first = next(name for name, sibling in siblings if sibling.vlan == port.vlan)
        if first != where[-1]:
            yield (*where, "vlan"), f"VLAN {port.vlan} of {port.parent} is {first}'s already"
        if port.mtu is not None or {"dhcp", "slaac"} & set(port.ip):
            yield where, f"{where[-1]} has the MTU of {port.parent}, and addresses that are chosen or given"
    if port.type == "virtual" and not port.ip and not switch.subnet:
        yield where, f"{where[-1]} needs an ip, or {where[2]} a subnet"
    for number, parent_name in enumerate(port.parents):
        yield from unknown((*where, "parents", number), parent_name, "port", list(switch.ports))
    if port.type == "external" and switch.physical_network is None:
        yield (*where, "type"), f"an external port needs a physical_network on {where[2]}"
    if port.ha_chassis_group is not None:
        at = (*where, "ha_chassis_group")
        yield from unknown(at, port.ha_chassis_group, "HA chassis group", names.ha_chassis_groups)
    if port.host is not None:
        yield from unknown((*where, "host"), port.host, "node", names.nodes)
        node = file.nodes.get(port.host)
        if node is not None and (node.role != "host" or switch.physical_network not in node.physical):
            yield (*where, "host"), f"{port.host} is not a host on {switch.physical_network or 'a physical network'}"
        elif file.provider == "ssh" and port.mac is None:
            yield (*where, "host"), f"{port.host} is there already: the MAC address of its NIC must be given as mac"


def _overlaps(where: Where, networks: list[tuple[str, AnyNetwork]]) -> Iterator[Finding]:
    for number, (label, network) in enumerate(networks):
        for other_label, other in networks[:number]:
            if network.version == other.version and network.overlaps(other):
                yield where, f"{label} overlaps {other_label}"


def _router(file: TopologyFile, where: Where, router: Router, names: _Names) -> Iterator[Finding]:
    networks: list[tuple[str, AnyNetwork]] = []
    for name, port in router.ports.items():
        at: Where = (*where, "ports", name)
        yield from unknown(at, name, "switch", names.switches)
        here = [(f"{ip} on {name}", ipaddress.ip_interface(ip).network) for ip in port.ip]
        yield from _overlapping_ports(at, here, networks)
        networks.extend(here)
        switch = file.logical.switches.get(name)
        subnets = [ipaddress.ip_network(subnet) for subnet in switch.subnet] if switch else []
        for number, ip in enumerate(port.ip):
            place = (*at, "ip", number)
            if ip in port.ip[:number]:
                yield place, f"duplicate {ip}"
            if subnets:
                yield from _address(place, ip_of(ip), subnets, name)
            meant = next((subnet for subnet in subnets if ipaddress.ip_interface(ip).ip in subnet), None)
            if meant is not None and meant != ipaddress.ip_interface(ip).network:
                yield place, f"{ip} has another prefix length than {meant} of {name}"
            yield from _same_router_address(file, place, ip, str(where[-1]), name)
        for number, chassis in enumerate(port.gateway_chassis):
            yield from _gateway(file, (*at, "gateway_chassis", number), chassis, names)
            if chassis in port.gateway_chassis[:number]:
                yield (*at, "gateway_chassis", number), f"duplicate {chassis}"
        if port.ha_chassis_group is not None:
            at_group = (*at, "ha_chassis_group")
            yield from unknown(at_group, port.ha_chassis_group, "HA chassis group", names.ha_chassis_groups)
        if router.chassis is not None and (port.gateway_chassis or port.ha_chassis_group):
            yield at, f"all of {where[-1]} is on {router.chassis}: a port of it has no gateways of its own"
        if port.ipv6_ra and all(ipaddress.ip_interface(ip).version == 4 for ip in port.ip):
            yield (*at, "ipv6_ra"), "router advertisements need an IPv6 address"
    if router.chassis is not None:
        yield from _gateway(file, (*where, "chassis"), router.chassis, names)
    routes = []
    for number, route in enumerate(router.routes):
        at = (*where, "routes", number, "nexthop")
        for hop in route.nexthop:
            if networks and not any(ipaddress.ip_address(hop) in network for _, network in networks):
                yield at, f"{hop} is in no network of {where[-1]}"
            elif ipaddress.ip_address(hop).version != ipaddress.ip_network(route.prefix).version:
                yield at, f"{hop} is of another family than {route.prefix}"
            key = (route.prefix, hop, route.policy, route.route_table)
            if key in routes:
                yield at, f"duplicate route to {route.prefix} by {hop}"
            routes.append(key)
        if route.port is not None:
            yield from unknown((*where, "routes", number, "port"), route.port, "port", router.ports)
    ports = {name: port for switch in file.logical.switches.values() for name, port in switch.ports.items()}
    yield from _nat(where, router, networks, names, ports)


def _gateway(file: TopologyFile, where: Where, name: str, names: _Names) -> Iterator[Finding]:
    yield from unknown(where, name, "node", names.nodes)
    node = file.nodes.get(name)
    if node is not None and node.role != "gateway":
        yield where, f"{name} is not a gateway (`role: gateway`)"


def _nat(
    where: Where, router: Router, networks: list[tuple[str, AnyNetwork]], names: _Names, ports: Mapping[str, Port]
) -> Iterator[Finding]:
    centralized = any(port.gateway_chassis or port.ha_chassis_group for port in router.ports.values())
    if router.nat and not centralized and router.chassis is None:
        yield (*where, "nat"), f"NAT needs a gateway: gateway_chassis on a port of {where[-1]}, or chassis on it"
    seen = []
    for number, nat in enumerate(router.nat):
        at: Where = (*where, "nat", number)
        if nat.port is not None:
            yield from unknown((*at, "port"), nat.port, "port", names.vms)
            if nat.type != "dnat_and_snat":
                yield (*at, "port"), "only dnat_and_snat can be distributed"
            given = ports[nat.port].ip if nat.port in ports else []
            if given and nat.logical not in given:
                yield (*at, "port"), f"{nat.port} has {', '.join(given)}, not {nat.logical}"
        elif nat.mac is not None:
            yield (*at, "mac"), "mac goes with port: it is what the port's chassis answers with"
        if networks and not any(ipaddress.ip_address(nat.external) in network for _, network in networks):
            yield (*at, "external"), f"{nat.external} is in no network of {where[-1]}"
        inside = ipaddress.ip_network(nat.logical)
        if inside.version != ipaddress.ip_address(nat.external).version:
            yield (*at, "logical"), f"{nat.logical} is of another family than {nat.external}"
        if nat.type != "snat" and nat.external in [
            other.external for other in router.nat[:number] if other.type != "snat"
        ]:
            yield (*at, "external"), f"{nat.external} leads to another address already"
        if nat.type != "snat" and "/" in nat.logical:
            yield (*at, "logical"), f"{nat.type} needs a single address, not {nat.logical}"
        if (nat.type, nat.external, nat.logical) in seen:
            yield at, "duplicate NAT rule"
        seen.append((nat.type, nat.external, nat.logical))


def _overlapping_ports(
    where: Where, here: list[tuple[str, AnyNetwork]], there: list[tuple[str, AnyNetwork]]
) -> Iterator[Finding]:
    for label, network in here:
        for other_label, other in there:
            if network.version == other.version and network.overlaps(other):
                yield where, f"{label} overlaps {other_label} on the same router"


def _same_router_address(file: TopologyFile, where: Where, ip: str, router: str, switch: str) -> Iterator[Finding]:
    """Check that two routers on one switch have different addresses there."""
    for other_name, other in file.logical.routers.items():
        if other_name == router:
            return
        port = other.ports.get(switch)
        if port is not None and ip_of(ip) in [ip_of(other_ip) for other_ip in port.ip]:
            yield where, f"{ip} is the address of {other_name} on {switch} already"


def _physical(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    taken: dict[tuple[str, str], str] = {}
    bridges: dict[str, str] = {}
    for name, network in file.physical_networks.items():
        bridge = bridge_of(name, network)
        if bridge in bridges or is_reserved(bridge):
            owner = bridges.get(bridge)
            yield (
                ("physical_networks", name, "bridge"),
                f"{bridge} is the bridge of {owner} already"
                if owner
                else f"{bridge!r} is the name of an interface that every node has",
            )
        bridges.setdefault(bridge, name)
    for name, node in file.nodes.items():
        for network_name, ips in node.physical.items():
            where: Where = ("nodes", name, "physical", network_name)
            yield from unknown(where, network_name, "physical network", names.physical_networks)
            found = file.physical_networks.get(network_name)
            if "dhcp" in ips and node.role != "host":
                yield where, f"only a host asks for its address, and {name} is a {node.role}"
            if found is not None and node.role == "host" and not ips and not found.subnet:
                yield where, f"{network_name} has no subnet that {name} could have an address of"
            for ip in ips if found is not None else ():
                if ip == "dhcp":
                    continue
                if found is not None and found.subnet:
                    subnets = [ipaddress.ip_network(subnet) for subnet in found.subnet]
                    yield from _address(where, ip, subnets, network_name)
                if (network_name, ip) in taken:
                    yield where, f"{ip} is the address of {taken[network_name, ip]} already"
                taken.setdefault((network_name, ip), name)


def _groups(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    for name, members in file.logical.ha_chassis_groups.items():
        where: Where = ("logical", "ha_chassis_groups", name)
        if not members:
            yield where, f"{name} needs at least one gateway"
        for number, member in enumerate(members):
            yield from _gateway(file, (*where, number), member, names)
        if len({file.nodes[member].zone for member in members if member in file.nodes}) > 1:
            yield where, f"the gateways of {name} are in several zones"
    for name, group in file.logical.port_groups.items():
        for number, port in enumerate(group.ports):
            yield from unknown(("logical", "port_groups", name, "ports", number), port, "port", names.vms)
        if name in file.logical.address_sets:
            yield ("logical", "port_groups", name), f"{name!r} is the name of an address set already"


def _acls(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    seen = []
    for number, acl in enumerate(file.logical.acls):
        where: Where = ("logical", "acls", number)
        if acl.switch is not None:
            yield from unknown((*where, "switch"), acl.switch, "switch", names.switches)
        if acl.port_group is not None:
            yield from unknown((*where, "port_group"), acl.port_group, "port group", names.port_groups)
        key = (acl.switch, acl.port_group, acl.direction, acl.priority, acl.match)
        if key in seen:
            yield where, "duplicate rule"
        seen.append(key)


def _qos(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    seen = []
    for number, rule in enumerate(file.logical.qos):
        yield from unknown(("logical", "qos", number, "switch"), rule.switch, "switch", names.switches)
        key = (rule.switch, rule.direction, rule.priority, rule.match)
        if key in seen:
            yield ("logical", "qos", number), "duplicate rule"
        seen.append(key)


def _address_sets(file: TopologyFile) -> Iterator[Finding]:
    for name, members in file.logical.address_sets.items():
        kinds = {"MAC" if is_mac(m) else ipaddress.ip_network(m).version for m in members}
        if len(kinds) > 1:
            yield (
                ("logical", "address_sets", name),
                f"{name} mixes addresses of several kinds, which OVN takes in no match",
            )


def _balancers(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    taken: list[tuple[str, str, Endpoint, str]] = []
    ips = {ip for switch in file.logical.switches.values() for port in switch.ports.values() for ip in port.ip}
    subnets = [ipaddress.ip_network(net) for switch in file.logical.switches.values() for net in switch.subnet]
    for name, balancer in file.logical.load_balancers.items():
        where: Where = ("logical", "load_balancers", name)
        for number, switch in enumerate(balancer.switches):
            yield from unknown((*where, "switches", number), switch, "switch", names.switches)
        for number, router in enumerate(balancer.routers):
            yield from unknown((*where, "routers", number), router, "router", names.routers)
        vip = parse_endpoint(balancer.vip)
        for place in (*balancer.switches, *balancer.routers):
            for other, other_place, other_vip, other_protocol in taken:
                if vip.port and other_vip.port and balancer.protocol != other_protocol:
                    continue
                same_port = vip.port == other_vip.port or not vip.port or not other_vip.port
                if (place, vip.ip) == (other_place, other_vip.ip) and same_port:
                    yield (*where, "vip"), f"{balancer.vip} overlaps the VIP of {other} on {place}"
            taken.append((name, place, vip, balancer.protocol))
        for number, backend in enumerate(balancer.backends):
            at: Where = (*where, "backends", number)
            if split_name(backend)[0]:  # see objects/load_balancing
                continue
            found = parse_endpoint(backend)
            if bool(found.port) != bool(vip.port):
                yield at, f"{backend} and the VIP {balancer.vip} must both have a port, or neither"
            elif found.address.version != vip.address.version:
                yield at, f"{backend} is of another family than the VIP {balancer.vip}"
            if balancer.health_check and not any(found.address in net for net in subnets):
                yield at, f"{found.ip} is in no switch's subnet: only fake VMs can be probed"
            elif balancer.health_check and found.ip not in ips:
                yield at, f"unknown backend {found.ip}: no fake VM has this address, and only fake VMs can be probed"


def _checks(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    targets = [*names.nodes, *names.vms]
    for number, check in enumerate(file.checks):
        where: Where = ("checks", number)
        if check.fault is not None:
            yield from _fault(where, check, names)
        if check.source is None:
            continue
        yield from unknown((*where, "from"), check.source, "node or fake VM", targets)
        target = check.ping or split_port(check.tcp or "")[0]
        if not is_ip(target):
            key = "ping" if check.ping is not None else "tcp"
            yield from unknown((*where, key), target, "node or fake VM", targets)


def _fault(where: Where, check: Check, names: _Names) -> Iterator[Finding]:
    """Check a fault, and what must come of it."""
    try:
        words = shlex.split(check.fault or "")
    except ValueError as error:
        yield (*where, "fault"), f"invalid fault: {error}"
        return
    kind = words[0] if words else ""
    yield from unknown((*where, "fault"), kind, "fault", FAULTS)
    if len(words) > 1 and kind in ("kill", "stop", "pause", "restart", "reboot", "bfd", "link", "flap"):
        yield from unknown((*where, "fault"), words[1].partition(":")[0], "node", names.nodes)
    for key, read in (("traffic", pair), ("lost_within", seconds)):
        text = getattr(check, key)
        try:
            found = read(text) if text is not None else None
        except ValueError as error:
            yield (*where, key), f"invalid {key} {text!r}: {error}"
            continue
        for name in found if isinstance(found, tuple) else ():
            if not is_ip(name):
                yield from unknown((*where, key), name, "node or fake VM", [*names.nodes, *names.vms])
    if check.then is not None and check.then.gateway is not None:
        yield from unknown((*where, "then", "gateway"), check.then.gateway, "node", names.nodes)


def _links(file: TopologyFile, names: _Names) -> Iterator[Finding]:
    """Check links: their ends, and how they are disturbed."""
    if file.links and file.provider != "local":
        yield ("links",), f"links are not supported by provider {file.provider}: leave them out, or use local"
    for text, link in file.links.items():
        where: Where = ("links", text)
        nodes, device = split_link(text)
        if len(nodes) not in (1, 2) or len(set(nodes)) != len(nodes):
            yield where, f"invalid link {text!r}: expected NODE, NODE:NIC, or two nodes"
            continue
        for name in nodes:
            yield from unknown(where, name, "node", names.nodes)
        known = [file.nodes[name] for name in nodes if name in file.nodes]
        if len(known) == 1 and device and device != "eth1" and device not in _devices(known[0]):
            yield where, f"unknown NIC {device!r}: expected {', '.join(['eth1', *_devices(known[0])])}"
        if len(nodes) == 2 and link.direction != "both":
            yield (*where, "direction"), "a direction is of the link of one node: leave it out between two"
        for key, read in QUANTITIES.items():
            value = getattr(link, key)
            try:
                _ = read(value) if value is not None else None
            except ValueError as error:
                yield (*where, key), f"invalid {key} {value!r}: {error}"
            if value is not None and link.down:
                yield (*where, key), f"a link that is down has no {key}"


def _devices(node: Node) -> list[str]:
    """Return the NICs that a node has on physical networks, in their order."""
    return [f"eth{number}" for number, _ in enumerate(node.physical, 2)]
