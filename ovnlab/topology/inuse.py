"""Addresses that a lab has already: those that were chosen stay while they are free and valid."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.topology.addresses import is_mac
from ovnlab.topology.resolved import Switch, Topology, free_addresses


class PortAddresses(msgspec.Struct, frozen=True):
    """The MAC and the IP addresses of a port, as far as it has any."""

    mac: str
    ips: tuple[str, ...]


class InUse(msgspec.Struct, frozen=True):
    """The addresses that a lab uses, by name: of nodes on the underlay, of machines and NICs, and of ports.

    `nics` are by (node, network), `ports` by (switch, port), `router_macs` by router port. What the file does
    not name has addresses too: `others` are those of ports and routers on a switch, `taken` VIPs and NAT addresses.
    """

    nodes: Mapping[str, str] = {}
    machines: Mapping[str, str] = {}
    nics: Mapping[tuple[str, str], tuple[str, ...]] = {}
    ports: Mapping[tuple[str, str], PortAddresses] = {}
    router_macs: Mapping[str, str] = {}
    others: Mapping[str, frozenset[str]] = {}
    taken: frozenset[str] = frozenset()

    def digest(self) -> bytes:
        """Return all of it as bytes that are the same for the same content."""
        parts = (self.nodes, self.machines, self.nics, self.ports, self.router_macs, self.others)
        return repr(
            [*(sorted((key, _ordered(item)) for key, item in part.items()) for part in parts), sorted(self.taken)]
        ).encode()

    def agrees(self, topology: Topology) -> bool:
        """Return True if a topology has all the addresses that are in use, and none that others have."""
        nodes = all(self.nodes.get(node.name, node.ip) == node.ip for node in topology.nodes)
        machines = all(self.machines.get(n.name, n.machine.address) == n.machine.address for n in topology.nodes)
        nics = all(
            self.nics.get((node.name, nic.network), nic.addresses) == nic.addresses
            for node in topology.nodes
            for nic in node.nics
        )
        routers = all(
            self.router_macs.get(port.name, port.mac) == port.mac
            for router in topology.routers
            for port in router.ports
        )
        return nodes and machines and nics and routers and all(map(self._agrees, topology.switches))

    def _agrees(self, switch: Switch) -> bool:
        others = self.others.get(switch.name, frozenset())
        for port in switch.ports:
            had = self.ports.get((switch.name, port.name))
            if had is None and (self.taken | others).intersection(port.ips):
                return False
            if had is not None and (had != PortAddresses(port.mac, port.ips) or others.intersection(port.ips)):
                return False
        return True


def of_topology(topology: Topology) -> InUse:
    """Return the addresses that a lab was last brought up with."""
    return InUse(
        nodes={node.name: node.ip for node in topology.nodes if node.ip},
        machines={node.name: node.machine.address for node in topology.nodes if node.machine.address},
        nics={(node.name, nic.network): nic.addresses for node in topology.nodes for nic in node.nics},
        ports={
            (switch.name, port.name): PortAddresses(port.mac, port.ips)
            for switch in topology.switches
            for port in switch.ports
        },
        router_macs={port.name: port.mac for router in topology.routers for port in router.ports},
    )


class Pool:
    """The addresses of a subnet that are given out: to each owner the one that it has, otherwise the next free one.

    Those in `avoided` are given to nobody who does not have them.
    """

    def __init__(
        self, subnet: str, taken: Iterable[str], kept: Mapping[str, Iterable[str]], avoided: Iterable[str] = ()
    ) -> None:
        self.subnet = subnet
        used = {str(ipaddress.ip_address(ip)) for ip in taken}
        self.kept: dict[str, str] = {}
        for owner, ips in kept.items():
            own = next((ip for ip in ips if ip not in used and _is_host(subnet, ip)), None)
            if own is not None:
                self.kept[owner] = own
                used.add(own)
        self.free = free_addresses(subnet, used.union(avoided))

    def give(self, owner: str) -> str:
        """Return an address. Raises OvnlabError if there is none left."""
        found = self.kept.get(owner) or next(self.free, None)
        if found is None:
            hint = "make the subnet larger, or give some ports an ip"
            raise OvnlabError(f"{self.subnet} has no free address left for {owner}", hint=hint)
        return found


def kept_mac(mac: str, others: Iterable[str]) -> str:
    """Return the MAC that a port has, empty if it is none or if the file gives it to another."""
    return mac if is_mac(mac) and mac not in others else ""


def _ordered(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def _is_host(subnet: str, ip: str) -> bool:
    network, address = ipaddress.ip_network(subnet), ipaddress.ip_address(ip)
    edges = (network.network_address, network.broadcast_address) if network.num_addresses > 2 else ()
    return address in network and address not in edges
