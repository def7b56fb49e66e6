"""Many chassis: what must not grow with the square of their number. A small lab's counters show it as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

COUNT = 12
NODES = [f"n{number}" for number in range(1, COUNT)]


def topology(nodes: list[str]) -> str:
    """A fake VM on each node but the central one, on one switch."""
    lines = [f"  {name}: {{ip: 192.168.50.{110 + number}}}" for number, name in enumerate(nodes)]
    ports = [f"        v-{name}: {{chassis: {name}}}" for name in nodes]
    nodes_part = "\n".join(["name: scale", "nodes:", "  central: {role: central}", *lines])
    network = "\n".join(["logical:", "  switches:", "    net:", "      subnet: 10.0.0.0/24", "      ports:", *ports])
    return f"{nodes_part}\n{network}\n"


@pytest.fixture(scope="module")
def many(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "scale"):
        labs.run("up", labs.write("scale.yaml", topology(NODES)))
        yield labs


def neighbours(labs: Labs, node: str) -> dict[str, str]:
    """The MACs that the switch of a node knows, by IP address."""
    lines = labs.on(node, "ovs-appctl", "tnl/neigh/show").splitlines()[2:]
    return {line.split()[0]: line.split()[1] for line in lines}


def counter(labs: Labs, node: str, name: str) -> int:
    return int(labs.on(node, "ovs-appctl", "coverage/read-counter", name))


def ip_of(labs: Labs, vm: str) -> str:
    (port,) = (port for port in labs.json("status")["ports"] if port["name"] == vm)
    return str(port["addresses"][0].split()[1])


def test_switches_make_their_tunnels_at_once(many: Labs) -> None:
    """One by one, a switch would be reconfigured for each chassis, and work out all of its ports each time."""
    assert max(counter(many, node, "bridge_reconfigure") for node in ("n1", "n6", "n11")) < COUNT + 2


def test_nobody_asks_all_nodes_for_a_tunnel_peer(many: Labs) -> None:
    frames = [int(many.on(node, "cat", "/sys/class/net/eth1/statistics/rx_packets")) for node in ("n1", "n6", "n11")]
    assert max(frames) < 25 * COUNT
    addresses = {f"192.168.50.{110 + number}" for number in range(len(NODES))}
    assert addresses <= neighbours(many, "central").keys() | {"192.168.50.110"}
    assert addresses - {"192.168.50.115"} <= neighbours(many, "n6").keys()


def test_the_first_packet_to_each_peer_arrives(many: Labs) -> None:
    for name in ("n2", "n7", "n11"):
        assert ", 0% packet loss" in many.on("v-n1", "ping", "-c1", "-W2", ip_of(many, f"v-{name}"))


def test_another_node_at_the_same_address_is_found(many: Labs) -> None:
    before = neighbours(many, "n1")["192.168.50.120"]
    many.run("up", many.write("scale.yaml", topology([*NODES[:-1], "other"])))
    after = neighbours(many, "n1")["192.168.50.120"]
    assert before != after
    assert ", 0% packet loss" in many.on("v-n5", "ping", "-c1", "-W2", ip_of(many, "v-other"))
    assert "nothing to do" in many.out("up", "scale.yaml")


def test_transport_zones_and_threads_of_northd(user_labs: Labs) -> None:
    """Chassis have tunnels within their transport zones only, from the start and when the file changes."""
    text = (
        "name: zones\ncontrol: {northd_threads: %d}\nnodes:\n"
        "  central: {role: central, transport_zones: [a, b]}\n"
        "  n1: {transport_zones: [a]}\n  n2: {transport_zones: [%s]}\n"
    )
    user_labs.run("up", user_labs.write("zones.yaml", text % (2, "b")))
    assert peers_of(user_labs) == {"central": {"n1", "n2"}, "n1": {"central"}, "n2": {"central"}}
    assert "--n-threads=2" in user_labs.on("central", "ps", "-o", "args", "-C", "ovn-northd")
    assert "nothing to do" in user_labs.out("up", "zones.yaml")
    user_labs.run("up", user_labs.write("zones.yaml", text % (1, "a")))
    assert peers_of(user_labs) == {"central": {"n1", "n2"}, "n1": {"central", "n2"}, "n2": {"central", "n1"}}
    assert "--n-threads" not in user_labs.on("central", "ps", "-o", "args", "-C", "ovn-northd")
    assert "nothing to do" in user_labs.out("up", "zones.yaml")


def peers_of(labs: Labs) -> dict[str, set[str]]:
    nodes = labs.json("status")["nodes"]
    return {node["name"]: {tunnel["peer"] for tunnel in node["tunnels"] if tunnel["working"]} for node in nodes}
