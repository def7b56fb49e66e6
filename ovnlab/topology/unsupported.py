"""What the file format knows and this version of ovnlab cannot do yet: refused in so many words, never ignored."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ovnlab.topology.model import Build, Logical, Node, Router, Switch, TopologyFile
from ovnlab.topology.resolved import LARGEST_VM_MTU
from ovnlab.topology.source import Where

Finding = tuple[Where, str]


def find(file: TopologyFile) -> Iterator[Finding]:
    """Where the file asks for something that is not implemented, and what it asks for."""
    for where, asked, what in _asked(file):
        if asked:
            yield where, f"{what} cannot be done by this version of ovnlab yet"


def _asked(file: TopologyFile) -> Iterator[tuple[Where, bool, str]]:
    yield ("provider",), file.provider != "local", f"provider {file.provider} (only local, on this machine)"
    yield ("datapath",), file.datapath == "kernel", "the kernel's datapath (local nodes use netdev)"
    yield ("tls",), file.tls, "TLS"
    yield ("software",), isinstance(file.software, Build), "software from source (only packages and system)"
    yield ("underlay", "subnet"), _version(file.underlay.subnet) == 6, "an IPv6 underlay"
    yield ("physical_networks",), bool(file.physical_networks), "a physical network"
    centrals = [name for name, node in file.nodes.items() if node.role == "central"]
    for name in centrals[1:]:
        yield ("nodes", name), True, "a cluster of several centrals"
    for name, node in file.nodes.items():
        yield from _node(("nodes", name), node)
        mixed = node.encap not in (None, file.encap)
        yield ("nodes", name, "encap"), mixed, "more than one encapsulation in a lab"
    yield from _logical(file.logical)
    yield ("checks",), bool(file.checks), "checking what the file lists"


def _version(network: str) -> int:
    return ipaddress.ip_network(network).version


def _node(where: Where, node: Node) -> Iterator[tuple[Where, bool, str]]:
    yield (*where, "role"), node.role in ("gateway", "host"), f"role {node.role}"
    yield (*where, "physical"), bool(node.physical), "a node on a physical network"
    yield (*where, "software"), node.software is not None, "a software version of a node's own"


def _logical(logical: Logical) -> Iterator[tuple[Where, bool, str]]:
    for name, switch in logical.switches.items():
        yield from _switch(("logical", "switches", name), switch)
    for name, router in logical.routers.items():
        yield from _router(("logical", "routers", name), router)
    yield ("logical", "acls"), bool(logical.acls), "an ACL"
    yield ("logical", "load_balancers"), bool(logical.load_balancers), "a load balancer"


def _switch(where: Where, switch: Switch) -> Iterator[tuple[Where, bool, str]]:
    yield (*where, "dhcp"), switch.dhcp, "OVN's DHCP"
    yield (*where, "physical_network"), switch.physical_network is not None, "a localnet port"
    for name, port in switch.ports.items():
        yield (*where, "ports", name, "ip"), "dhcp" in port.ip, "ip: dhcp"
        large = (port.mtu or 0) > LARGEST_VM_MTU
        yield (*where, "ports", name, "mtu"), large, f"an MTU above {LARGEST_VM_MTU} in a fake VM"


def _router(where: Where, router: Router) -> Iterator[tuple[Where, bool, str]]:
    for name, port in router.ports.items():
        yield (*where, "ports", name, "gateway_chassis"), bool(port.gateway_chassis), "a gateway chassis"
    yield (*where, "routes"), bool(router.routes), "a static route"
    yield (*where, "nat"), bool(router.nat), "NAT"
