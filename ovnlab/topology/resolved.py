"""A topology in which everything is decided: every name, MAC, address and role.

What every later stage reads. Nothing in it is optional because somebody left it out; an empty tuple or
None means that the lab has no such thing. msgspec structs, because reading them back from the lab's
stored state must cost next to nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator

import msgspec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of nodes, fake VMs, switches and routers."""

LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Names of labs."""

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
"""MAC addresses."""

RESERVED = frozenset(
    {"lo", "all", "default", "eth0", "eth1", "br-eth1", "br-int", "ovs-netdev", "ovs-system", "underlay"}
)
"""Names that nodes and fake VMs cannot have, because an interface or the kernel's settings have them already."""

TUNNEL_PORT = re.compile(r"ovn-.*-\d+|patch-.*")
"""Names of ports that ovn-controller makes on br-int."""


def is_reserved(name: str) -> bool:
    """Whether something that every node has is called so."""
    return name in RESERVED or TUNNEL_PORT.fullmatch(name) is not None


IFNAMSIZ = 15
"""Longest name of a Linux network interface, in bytes (netdevice(7))."""

GENEVE_OVERHEAD = 58
VXLAN_OVERHEAD = 50
"""Bytes that the encapsulation adds over an IPv4 underlay: Ethernet 14 + IPv4 20 + UDP 8 + header 8, and 8
for OVN's Geneve option (ovn-architecture(7), Tunnel Encapsulations)."""


LARGEST_VM_MTU = 1500
"""The userspace datapath takes no more from a port once that is in another namespace: it cannot see its MTU there,
and reads packets of Ethernet's usual size."""


class Underlay(msgspec.Struct, frozen=True):
    """The network between the nodes: its IPv4 subnet and its MTU in bytes."""

    subnet: str
    mtu: int


class Node(msgspec.Struct, frozen=True):
    """A machine of the lab. `mac` is that of its underlay address."""

    name: str
    central: bool
    chassis: bool
    ip: str
    prefix_length: int
    mac: str
    encap: str

    @property
    def role(self) -> str:
        """What the node is, for people."""
        return "central" if self.central else "worker"

    @property
    def integration_mac(self) -> str:
        """The MAC of br-int, locally administered."""
        return f"0a{self.mac[2:]}"

    @property
    def cidr(self) -> str:
        """The underlay address with its prefix length."""
        return f"{self.ip}/{self.prefix_length}"


class VM(msgspec.Struct, frozen=True):
    """A fake VM: a logical switch port, and how its end in a namespace is configured.

    `addresses` carry a prefix length; `gateways` has at most one address of each family; `chassis` is
    the node that the file binds it to, None where that is left to `ovnlab bind`.
    """

    name: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int
    chassis: str | None = None

    @property
    def interface(self) -> str:
        """The name of its interface: its own, shortened where the kernel does not take it."""
        return interface_name(self.name)

    @property
    def ips(self) -> tuple[str, ...]:
        """Its addresses without prefix lengths."""
        return tuple(address.partition("/")[0] for address in self.addresses)


class Switch(msgspec.Struct, frozen=True):
    """A logical switch and the fake VMs on it."""

    name: str
    subnets: tuple[str, ...]
    vms: tuple[VM, ...]


class RouterPort(msgspec.Struct, frozen=True):
    """A logical router port `name` and the switch port `peer` that it is joined to."""

    name: str
    peer: str
    switch: str
    mac: str
    networks: tuple[str, ...]


class Router(msgspec.Struct, frozen=True):
    """A logical router."""

    name: str
    ports: tuple[RouterPort, ...]


class Topology(msgspec.Struct, frozen=True):
    """A whole lab."""

    name: str
    provider: str
    software: str
    underlay: Underlay
    nodes: tuple[Node, ...]
    switches: tuple[Switch, ...]
    routers: tuple[Router, ...]

    @property
    def central(self) -> Node:
        """The node with the Northbound and Southbound databases."""
        return next(node for node in self.nodes if node.central)

    @property
    def chassis(self) -> tuple[Node, ...]:
        """The nodes with an ovn-controller."""
        return tuple(node for node in self.nodes if node.chassis)

    @property
    def vms(self) -> tuple[VM, ...]:
        """The fake VMs of all switches."""
        return tuple(vm for switch in self.switches for vm in switch.vms)

    @property
    def vm_mtu(self) -> int:
        """What the encapsulation leaves of the underlay's MTU, and OVS takes of a fake VM, in bytes."""
        return vm_mtu(self.underlay.mtu, self.nodes)

    def node(self, name: str) -> Node | None:
        """The node of that name, None where there is none."""
        return next((node for node in self.nodes if node.name == name), None)

    def vm(self, name: str) -> VM | None:
        """The fake VM of that name, None where there is none."""
        return next((vm for vm in self.vms if vm.name == name), None)

    def switch(self, name: str) -> Switch | None:
        """The logical switch of that name, None where there is none."""
        return next((switch for switch in self.switches if switch.name == name), None)

    def gateways(self, switch: str) -> tuple[str, ...]:
        """The first router address of each family on a switch: the default routes of its fake VMs."""
        ports = (port for router in self.routers for port in router.ports if port.switch == switch)
        addresses = [ipaddress.ip_interface(network).ip for port in ports for network in port.networks]
        return tuple(str(first) for first in (_first(addresses, 4), _first(addresses, 6)) if first)


def _first(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], version: int
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return next((address for address in addresses if address.version == version), None)


def vm_mtu(underlay: int, nodes: Iterable[Node]) -> int:
    """The MTU of fake VMs, in bytes, over an underlay with that MTU."""
    return min(underlay - overhead(node.encap for node in nodes), LARGEST_VM_MTU)


def overhead(encaps: Iterable[str]) -> int:
    """The most bytes that any of these encapsulations adds to a packet."""
    return GENEVE_OVERHEAD if "geneve" in set(encaps) else VXLAN_OVERHEAD


def interface_name(name: str) -> str:
    """`name` where the kernel takes it as an interface's, otherwise its start and a hash of it.

    >>> interface_name("vm1")
    'vm1'
    >>> len(interface_name("a-virtual-machine-with-a-long-name"))
    15
    """
    if len(name) <= IFNAMSIZ:
        return name
    return f"{name[:8]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def generated_mac(*identity: str, prefix: str = "0a:00") -> str:
    """A locally administered MAC that stays the same for the same identity.

    `prefix` is its first two octets, or three; the rest is hashed from the identity.
    """
    digest = hashlib.sha256("\0".join(identity).encode()).digest()
    octets = prefix.split(":")
    return ":".join([*octets, *(f"{byte:02x}" for byte in digest[: 6 - len(octets)])])


def free_addresses(subnet: str, taken: Iterable[str]) -> Iterator[str]:
    """The addresses of a subnet that can be given out, in order.

    The first is left out, for a router; so are those in `taken`.
    """
    network = ipaddress.ip_network(subnet)
    used = {ipaddress.ip_address(ip) for ip in taken}
    first = network.network_address + (2 if network.num_addresses > 4 else 1)
    last = network.broadcast_address - (1 if network.version == 4 else 0)
    address = first
    while int(address) <= int(last):
        if address not in used:
            yield str(address)
        address += 1


def usable_gateways(gateways: Iterable[str], ips: Iterable[str]) -> tuple[str, ...]:
    """The gateways of the address families that a fake VM has."""
    versions = {ipaddress.ip_address(ip).version for ip in ips}
    return tuple(gateway for gateway in gateways if ipaddress.ip_address(gateway).version in versions)
