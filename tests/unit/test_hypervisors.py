"""What a file may ask of hypervisors, refused before anything is made."""

from __future__ import annotations

import pytest

from ovnlab.errors import TopologyError
from ovnlab.providers.libvirt.definitions import domain_of, networks
from ovnlab.topology.load import load_text

ELSEWHERE = "worker1: {uri: 'qemu+ssh://root@far/system'}"


def refused(more: str, nodes: str = "worker1: {}") -> str:
    """Return why a topology of virtual machines is refused, empty if it is not."""
    text = f"name: lab\nprovider: libvirt\nnodes: {{central: {{role: central}}, {nodes}}}\n{more}\n"
    try:
        load_text("lab.yaml", text.encode())
    except TopologyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("memory", ["1M", "64M", "127M"])
def test_memory_that_no_machine_boots_with(memory: str) -> None:
    said = refused(f"machines: {{memory: {memory}, disks: [1M]}}")
    assert f"lab.yaml:4:20: memory: invalid value '{memory}': expected at least 128M" in said
    assert "disks" not in said
    assert not refused("machines: {memory: 128M}")
    assert not refused("machines: {memory: 1G}")


def test_nodes_on_several_hypervisors_need_a_bridge() -> None:
    said = refused("", ELSEWHERE)
    assert "lab.yaml:3:" in said
    assert "central is on qemu:///system and worker1 on qemu+ssh://root@far/system" in said
    assert "nodes on several hypervisors need a bridge that joins them: libvirt: {bridge: br0}" in said
    socket = "worker1: {uri: 'qemu+unix:///system?socket=/elsewhere'}"
    assert "several hypervisors" in refused("", socket)
    assert not refused("libvirt: {bridge: br0, subnet: 10.9.0.0/24}", ELSEWHERE)
    assert not refused("machines: {uri: 'qemu+ssh://root@far/system'}"), "all of them are on one"
    assert not refused("", "worker1: {uri: 'qemu+unix:///system'}"), "this is the same one"


def test_a_physical_network_on_several_hypervisors_is_refused() -> None:
    bridge = "libvirt: {bridge: br0, subnet: 10.9.0.0/24}\nphysical_networks: {wire: {}}"
    far = "worker1: {uri: 'qemu+ssh://root@far/system', physical: [wire]}"
    assert not refused(bridge, far)
    said = refused(bridge, f"{far}, worker2: {{physical: [wire]}}")
    assert "physical network wire on several hypervisors is not supported: they are those of worker1, worker2" in said


def test_a_bridge_needs_the_subnet_of_its_nodes() -> None:
    assert "br0 needs the subnet that its nodes get addresses of" in refused("libvirt: {bridge: br0}")


def test_the_bridge_of_several_hypervisors_carries_the_underlay() -> None:
    text = (
        "name: lab\nprovider: libvirt\nlibvirt: {bridge: br0, subnet: 10.9.0.0/24}\n"
        f"nodes: {{central: {{role: central}}, {ELSEWHERE}}}\n"
    )
    topology = load_text("lab.yaml", text.encode()).topology
    assert networks(topology) == []
    for node in topology.nodes:
        nics = domain_of(topology, node, "somebody").nics
        assert [(nic.device, nic.source, nic.on_bridge) for nic in nics] == [
            ("eth0", "br0", True),
            ("eth1", "br0", True),
        ]
