"""Parts of the file format that this version does not support: refused explicitly, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.topology.model import Machine, TopologyFile
from ovnlab.topology.resolved import LARGEST_VM_MTU
from ovnlab.topology.source import Where

Finding = tuple[Where, str]


def find(file: TopologyFile) -> Iterator[Finding]:
    """Yield where the file asks for something that is not implemented, and what it asks for."""
    for where, asked, what in _asked(file):
        if asked:
            yield where, f"{what} cannot be done by this version of ovnlab yet"


def _asked(file: TopologyFile) -> Iterator[tuple[Where, bool, str]]:
    hosts = file.provider == "ssh"
    yield ("datapath",), hosts and file.datapath == "netdev", "the userspace datapath on hosts that are there already"
    for name, node in file.nodes.items() if hosts else ():
        asks = any("dhcp" in given for given in node.physical.values())
        yield ("nodes", name, "physical"), asks, "an address by DHCP, which brings a default route, on hosts by SSH"
        forwards = node.role == "host" and len(node.physical) > 1
        yield ("nodes", name, "physical"), forwards, "forwarding between physical networks on hosts by SSH"
        default = any(route.prefix.endswith("/0") for route in node.routes)
        yield ("nodes", name, "routes"), default, "another default route on hosts by SSH"
    local = file.provider == "local"
    yield ("datapath",), local and file.datapath == "kernel", "the kernel's datapath on local nodes (they use netdev)"
    vagrant = file.provider == "vagrant"
    yield ("libvirt", "bridge"), vagrant and file.libvirt.bridge is not None, "a bridge of the hypervisor with Vagrant"
    machines: dict[Where, Machine] = {("machines",): file.machines}
    machines |= {("nodes", name): node for name, node in file.nodes.items()}
    for where, machine in machines.items():
        yield (*where, "kernel"), vagrant and machine.kernel is not None, "a kernel beside that of the box"
        yield (*where, "uri"), vagrant and "+" in (machine.uri or ""), "machines elsewhere through Vagrant"
        yield (*where, "xml"), vagrant and machine.xml is not None, "XML for libvirt through Vagrant"
    for switch_name, switch in file.logical.switches.items():
        for name, port in switch.ports.items():
            large = (port.mtu or 0) > LARGEST_VM_MTU
            where = ("logical", "switches", switch_name, "ports", name, "mtu")
            yield where, large, f"an MTU above {LARGEST_VM_MTU} in a fake VM"
