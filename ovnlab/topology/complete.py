"""Decides all that a file leaves open: names, addresses and MACs, always the same for the same file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from ovnlab.topology import model
from ovnlab.topology.resolved import (
    VM,
    Node,
    Router,
    RouterPort,
    Switch,
    Topology,
    Underlay,
    free_addresses,
    generated_mac,
    usable_gateways,
    vm_mtu,
)


def complete(file: model.TopologyFile, *, default_name: str) -> Topology:
    """The topology of a file that holds together (`check` found nothing in it)."""
    name = file.name or default_name
    nodes = tuple(_nodes(name, file))
    mtu = vm_mtu(file.underlay.mtu, nodes)
    routers = tuple(_router(name, router_name, router) for router_name, router in file.logical.routers.items())
    topology = Topology(
        name=name,
        provider=file.provider,
        software=file.software if isinstance(file.software, str) else "source",
        underlay=Underlay(subnet=file.underlay.subnet, mtu=file.underlay.mtu),
        nodes=nodes,
        switches=(),
        routers=routers,
    )
    switches = tuple(
        Switch(
            name=switch_name,
            subnets=tuple(switch.subnet),
            vms=tuple(_vms(topology, switch_name, switch, mtu)),
        )
        for switch_name, switch in file.logical.switches.items()
    )
    return msgspec.structs.replace(topology, switches=switches)


def _nodes(lab: str, file: model.TopologyFile) -> Iterator[Node]:
    subnet = ipaddress.ip_network(file.underlay.subnet)
    free = free_addresses(file.underlay.subnet, (node.ip for node in file.nodes.values() if node.ip))
    for name, node in file.nodes.items():
        yield Node(
            name=name,
            central=node.role == "central",
            chassis=node.chassis and node.role != "host",
            ip=node.ip or next(free),
            prefix_length=subnet.prefixlen,
            mac=generated_mac(lab, name, prefix="52:54:00"),
            encap=node.encap or file.encap,
        )


def _router(lab: str, name: str, router: model.Router) -> Router:
    return Router(
        name=name,
        ports=tuple(
            RouterPort(
                name=f"{name}-{switch}",
                peer=f"{switch}-{name}",
                switch=switch,
                mac=port.mac or generated_mac(lab, name, switch),
                networks=tuple(port.ip),
            )
            for switch, port in router.ports.items()
        ),
    )


def _vms(topology: Topology, switch_name: str, switch: model.Switch, mtu: int) -> Iterator[VM]:
    taken = {ip for port in switch.ports.values() for ip in port.ip if ip != "dhcp"}
    for router in topology.routers:
        for port in router.ports:
            if port.switch == switch_name:
                taken.update(network.partition("/")[0] for network in port.networks)
    pools = {subnet: free_addresses(subnet, taken) for subnet in switch.subnet}
    gateways = topology.gateways(switch_name)
    for name, wanted in switch.ports.items():
        ips = [ip for ip in wanted.ip if ip != "dhcp"] or [next(pool) for pool in pools.values()]
        if "dhcp" in wanted.ip:
            ips = []
        yield VM(
            name=name,
            mac=wanted.mac or generated_mac(topology.name, switch_name, name),
            addresses=tuple(with_prefix_length(ip, switch.subnet) for ip in ips),
            gateways=usable_gateways(gateways, ips),
            mtu=wanted.mtu or mtu,
            chassis=wanted.chassis,
        )


def with_prefix_length(ip: str, subnets: Iterable[str]) -> str:
    """An address with the prefix length of the subnet that it is in."""
    address = ipaddress.ip_address(ip)
    network = next(network for network in map(ipaddress.ip_network, subnets) if address in network)
    return f"{ip}/{network.prefixlen}"
