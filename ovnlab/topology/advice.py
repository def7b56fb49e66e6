"""Advice on topologies that are valid and probably not meant: printed, and done all the same."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ovnlab.topology.addresses import parse_endpoint
from ovnlab.topology.resolved import Topology


def advice(topology: Topology) -> Iterator[str]:
    """Yield a sentence for each."""
    for zone in topology.zones:
        names = [node.name for node in topology.centrals(zone)]
        if len(names) > 1 and len(names) % 2 == 0:
            yield (
                f"{' and '.join(names)} are a cluster of {len(names)}: it has a majority only with "
                f"{len(names) // 2 + 1} alive, so that it survives no more deaths than {len(names) - 1} would; "
                f"{len(names) + 1} survive {len(names) // 2}"
            )
    for balancer in topology.load_balancers:
        address = parse_endpoint(balancer.vip).address
        for name in balancer.switches:
            switch = topology.switch(name)
            inside = switch is not None and any(address in ipaddress.ip_network(net) for net in switch.subnets)
            if inside and (address.version == 6 or not topology.gateways(name)):
                yield (
                    f"nobody on {name} answers for {address}, the VIP of {balancer.name}: "
                    f"take a VIP outside its subnet{'' if address.version == 6 else ', or put a router on it'}"
                )
        for router in topology.routers:
            if router.name in balancer.routers and not router.has_gateway:
                yield f"{balancer.name} does nothing on {router.name}, which has neither a chassis nor a gateway port"
    yield from _gateways(topology)
    yield from _mesh(topology)
    yield from _floating(topology)
    yield from _alone(topology)


MESH = 100
"""Chassis from which on it is said how many tunnel ports they have among them."""


def _mesh(topology: Topology) -> Iterator[str]:
    chassis = len(topology.chassis)
    if chassis >= MESH:
        ends = sum(len(topology.peers(node)) for node in topology.chassis)
        if ends >= chassis * (MESH - 1):
            yield (
                f"{chassis} chassis have {ends:,} tunnel ports among them, which take most of the time and memory: "
                "transport_zones of nodes makes them fewer"
            )


def _floating(topology: Topology) -> Iterator[str]:
    """Yield distributed floating IPs of fake VMs whose chassis is not on the physical network that they are to answer
    on.
    """
    for router in topology.routers:
        outside = [topology.switch(port.switch) for port in router.ports if port.centralized]
        networks = [switch.physical_network for switch in outside if switch is not None and switch.physical_network]
        for nat in router.nat:
            vm = topology.vm(nat.port) if nat.port else None
            node = topology.node(vm.chassis) if vm is not None and vm.chassis else None
            if node is None or not networks or any(node.nic(network) for network in networks):
                continue
            yield (
                f"nobody answers for {nat.external}, the distributed floating IP of {nat.port}: "
                f"its chassis {node.name} is not on {', '.join(networks)}"
            )


def _alone(topology: Topology) -> Iterator[str]:
    """Yield router ports on switches that nothing else is on."""
    ports = [(router, port) for router in topology.routers for port in router.ports]
    for router, port in ports:
        switch = topology.switch(port.switch)
        others = [other for _, other in ports if other.switch == port.switch and other.name != port.name]
        if switch is None or switch.ports or topology.leads_outside(switch.name) or switch.transit:
            continue
        if not others:
            yield f"{port.name} of {router.name} leads nowhere: nothing else is on {port.switch}"


def _gateways(topology: Topology) -> Iterator[str]:
    groups = {group.name: group.chassis for group in topology.ha_chassis_groups}
    for port in (port for switch in topology.switches for port in switch.ports if port.type == "external"):
        if len(groups[port.ha_chassis_group]) == 2:
            yield (
                f"{port.ha_chassis_group} has two gateways for {port.name}: when one dies, the other takes itself for "
                "cut off and does not take over; three do"
            )
    for router in topology.routers:
        for router_port in router.ports:
            bridged = router_port.options.get("redirect-type") == "bridged"
            if bridged and not any(nic.chassis_mac for node in topology.nodes for nic in node.nics):
                yield f"redirect_type: bridged of {router_port.name} needs a physical network with chassis_macs: true"
