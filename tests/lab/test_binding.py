"""Fake VMs: binding, moving, unbinding, and what they look like from inside."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.harness import Labs

DUAL = """
name: dual
nodes: {central: {role: central}, worker1: , worker2: }
logical:
  switches:
    blue:
      subnet: [10.1.0.0/24, "fd00:1::/64"]
      ports:
        a: {chassis: worker1}
        b: {chassis: worker2, ip: [10.1.0.20, "fd00:1::20"]}
    red:
      subnet: "fd00:2::/64"
      ports: {c: {chassis: worker2}}
  routers:
    r:
      ports:
        blue: {ip: [10.1.0.1/24, "fd00:1::1/64"]}
        red: {ip: "fd00:2::1/64"}
"""


@pytest.fixture
def three(labs: Labs) -> Iterator[Labs]:
    labs.run("up", "3node")
    yield labs


@pytest.fixture
def user_three(user_labs: Labs) -> Iterator[Labs]:
    user_labs.run("up", "3node")
    yield user_labs


def chassis_of(labs: Labs, port: str) -> str | None:
    found: dict[str, str | None] = {p["name"]: p["chassis"] for p in labs.json("status")["ports"]}
    return found.get(port)


def test_bind_returns_when_packets_pass(three: Labs) -> None:
    said = three.json("bind", "vm1=worker1", "vm2=worker2")["bound"]
    assert [(vm["vm"], vm["node"], vm["mtu"]) for vm in said] == [
        ("vm1", "worker1", 1442),
        ("vm2", "worker2", 1442),
    ]
    # The very first packet must come back: flows, ARP answers and tunnel neighbours are there.
    assert "1 received" in three.on("vm1", "ping", "-c1", "-W1", "192.168.0.12")


def test_bind_elsewhere_moves(three: Labs) -> None:
    three.run("bind", "vm1=worker1", "vm2=worker2")
    for node in ("central", "worker1", "worker2"):
        three.run("bind", "vm2", node)
        assert chassis_of(three, "vm2") == node
        assert "2 received" in three.on("vm1", "ping", "-c2", "-i0.2", "-W1", "192.168.0.12")
        others = {"central", "worker1", "worker2"} - {node}
        for other in others:
            assert "vm2" not in three.on(other, "ip", "netns", "list")
            assert "vm2" not in three.out("vsctl", other, "list-ports", "br-int")


def test_unbind_takes_everything_away(three: Labs) -> None:
    three.run("bind", "vm1", "worker1")
    background = three.start("exec", "vm1", "--", "sh", "-c", "echo begun; exec sleep 1000")
    assert background.stdout is not None
    assert background.stdout.readline() == "begun\n"
    three.run("unbind", "vm1")
    assert background.wait(timeout=10) != 0
    assert background.communicate() is not None
    assert three.on("worker1", "ip", "netns", "list") == ""
    assert chassis_of(three, "vm1") is None
    assert three.out("nbctl", "lsp-get-up", "vm1").strip() == "down"
    three.run("unbind", "vm1")


def test_a_port_that_the_file_does_not_know(three: Labs) -> None:
    three.run("bind", "vm1", "worker1")
    three.run(
        "bind",
        "new",
        "worker2",
        "--network",
        "network1",
        "--ip",
        "192.168.0.77",
        "--mac",
        "0A:00:00:00:00:77",
    )
    shown = three.on("new", "ip", "address", "show", "dev", "new")
    assert "0a:00:00:00:00:77" in shown
    assert "192.168.0.77/24" in shown
    assert "2 received" in three.out("ping", "vm1", "new", "-c", "2")
    three.run("bind", "another", "worker2", "--network", "network1")
    assert "2 received" in three.out("ping", "vm1", "another", "-c", "2")
    assert three.out("up", "3node") == "lab 3node is up: nothing to do\n"
    three.run("unbind", "new", "another")
    assert "port new" not in three.out("nbctl", "show")


def test_a_port_that_a_person_made(user_three: Labs) -> None:
    user_three.run("nbctl", "ls-add", "own", "--", "lsp-add", "own", "x", "--", "lsp-add", "own", "y")
    user_three.run("nbctl", "lsp-set-addresses", "x", "0a:00:00:00:00:01 10.9.0.1")
    user_three.run("bind", "x", "worker1", "--ip", "10.9.0.1/24")
    user_three.run("bind", "y", "worker2", "--ip", "10.9.0.2/24", "--mac", "0a:00:00:00:00:02")
    user_three.run("nbctl", "--wait=hv", "lsp-set-addresses", "y", "0a:00:00:00:00:02")
    assert "2 received" in user_three.out("ping", "x", "y", "-c", "2")
    user_three.run("unbind", "x", "y")
    assert "port x" in user_three.out("nbctl", "show")


def test_many_at_once(user_labs: Labs) -> None:
    ports = "".join(f"        vm{number}: {{}}\n" for number in range(60))
    text = (
        "name: many\nnodes: {central: {role: central}, worker1: , worker2: }\n"
        f"logical:\n  switches:\n    net:\n      subnet: 10.0.0.0/16\n      ports:\n{ports}"
    )
    user_labs.run("up", user_labs.write("many.yaml", text))
    user_labs.run("bind", *(f"vm{number}=worker{number % 2 + 1}" for number in range(60)))
    status = user_labs.json("status")
    assert {port["chassis"] for port in status["ports"]} == {"worker1", "worker2"}
    assert all(port["up"] for port in status["ports"])
    assert "2 received" in user_labs.out("ping", "vm0", "vm59", "-c", "2")


def test_ipv6_and_both_at_once(labs: Labs) -> None:
    labs.run("up", labs.write("dual.yaml", DUAL))
    shown = labs.on("b", "ip", "-o", "address", "show", "dev", "b", "scope", "global")
    assert re.findall(r"inet6? (\S+)", shown) == ["10.1.0.20/24", "fd00:1::20/64"]
    assert "default via fd00:1::1" in labs.on("b", "ip", "-6", "route")
    assert "2 received" in labs.on("a", "ping", "-c2", "-i0.2", "fd00:1::20")
    assert "2 received" in labs.on("a", "ping", "-c2", "-i0.2", "10.1.0.20")
    # Through the router, which there is only one address family for.
    assert "ttl=63" in labs.on("a", "ping", "-c2", "-i0.2", "fd00:2::2")
    assert labs.out("up", str(labs.scratch / "dual.yaml")) == "lab dual is up: nothing to do\n"


@pytest.mark.parametrize(("encap", "mtu"), [("geneve", 1442), ("vxlan", 1450)])
def test_the_largest_packet_passes_and_one_byte_more_does_not(labs: Labs, encap: str, mtu: int) -> None:
    # On vm3 and vm4 the interface would let larger packets out: what stops them is the underlay.
    text = f"""
name: mtu
encap: {encap}
nodes: {{central: {{role: central}}, worker1: , worker2: }}
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports:
        vm1: {{chassis: worker1}}
        vm2: {{chassis: worker2}}
        vm3: {{chassis: worker1, mtu: 1500}}
        vm4: {{chassis: worker2, mtu: 1500}}
"""
    labs.run("up", labs.write("mtu.yaml", text))
    payload = mtu - 28  # IPv4 and ICMP headers
    for source, destination in (("vm1", "vm2"), ("vm3", "vm4")):
        assert "2 received" in labs.out("ping", source, destination, "-c", "2", "-s", str(payload))
        labs.run("ping", source, destination, "-c", "1", "-s", str(payload + 1), expect=4)
    capture = labs.start(
        "exec", "worker2", "--", "tcpdump", "-vnn", "--immediate-mode", "-c1", "-i", "eth1", "greater 1400"
    )
    assert capture.stderr is not None
    next(line for line in capture.stderr if "listening on" in line)
    labs.run("ping", "vm1", "vm2", "-c", "1", "-s", str(payload))
    shown, _ = capture.communicate(timeout=20)
    assert "length 1500" in shown
    assert "offset 0, flags [DF]" in shown


def test_tcp_passes(labs: Labs) -> None:
    """Checksums are where ping and TCP differ: one works without them."""
    labs.run("up", "3node")
    labs.run("bind", "vm1=worker1", "vm2=worker2")
    server = labs.start("exec", "vm2", "--", "python3", "-c", SERVER)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    received = labs.on("vm1", "python3", "-c", CLIENT)
    assert received.strip() == str(3_000_000)
    server.communicate(timeout=20)


SERVER = """
import socket
with socket.create_server(("192.168.0.12", 5000)) as listening:
    print("listening", flush=True)
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"x" * 3_000_000)
"""

CLIENT = """
import socket
with socket.create_connection(("192.168.0.12", 5000), timeout=10) as connection:
    print(sum(map(len, iter(lambda: connection.recv(65536), b""))))
"""


def test_long_names(user_labs: Labs) -> None:
    name = "a-virtual.machine_with-a-very-long-name-of-63-characters-in-all"
    assert len(name) == 63
    text = f"name: long\nnodes: {{a-node-with-a-long-name-too: {{role: central}}}}\nlogical:\n  switches:\n    net:\n      subnet: 10.0.0.0/24\n      ports: {{{name}: {{chassis: a-node-with-a-long-name-too}}, b: {{chassis: a-node-with-a-long-name-too}}}}\n"
    user_labs.run("up", user_labs.write("long.yaml", text))
    assert "2 received" in user_labs.out("ping", "b", name, "-c", "2")
    assert f"altname {name}" in user_labs.on(name, "ip", "link", "show", name)
    assert user_labs.out("up", str(user_labs.scratch / "long.yaml")) == "lab long is up: nothing to do\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vm7", "worker1"], "unknown node or fake VM 'vm7'"),
        (["vm1", "worker7"], "unknown node or fake VM 'worker7'"),
        (["vm1"], "ovnlab bind VM NODE"),
        (["vm1=worker1", "vm1=worker2"], "named twice"),
        (["new", "worker1", "--network", "network7"], "unknown logical switch 'network7'"),
        (
            ["new", "worker1", "--network", "network1", "--ip", "10.0.0.1"],
            "10.0.0.1 is outside 192.168.0.0/24",
        ),
        (
            ["new", "worker1", "--network", "network1", "--ip", "192.168.0.11"],
            "192.168.0.11 is in use by vm1",
        ),
        (["new", "worker1", "--network", "network1", "--ip", "nonsense"], "invalid IP address"),
        (["new", "worker1", "--network", "network1", "--mac", "01:00:00:00:00:01"], "invalid MAC address"),
        (
            ["new", "worker1", "--network", "network1", "--mac", "40:44:00:00:00:01"],
            "40:44:00:00:00:01 is in use by vm1",
        ),
        (["eth1", "worker1", "--network", "network1"], "cannot be the name of a fake VM"),
        (["vm1", "worker1", "--ip", "192.168.0.50"], "from the topology"),
    ],
)
def test_what_cannot_be_bound(shared_three: Labs, words: list[str], said: str) -> None:
    assert said in shared_three.run("bind", *words, expect=2).stderr


@pytest.fixture(scope="module")
def shared_three(ordinary: object, session_folder: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """A lab that several tests only ask."""
    from pathlib import Path  # noqa: PLC0415

    from tests.lab.conftest import labs_in  # noqa: PLC0415
    from tests.lab.harness import Account  # noqa: PLC0415

    assert isinstance(ordinary, Account)
    assert isinstance(session_folder, Path)
    for labs in labs_in(ordinary, session_folder / "shared-binding"):
        labs.run("up", "3node")
        yield labs


def test_a_port_of_the_file_that_was_removed_by_hand_comes_back(user_three: Labs) -> None:
    user_three.run("nbctl", "lsp-del", "vm1")
    user_three.run("bind", "vm1=worker1", "vm2=worker2")
    assert "2 received" in user_three.out("ping", "vm1", "vm2", "-c", "2")
    assert user_three.out("up", "3node") == "lab 3node is up: nothing to do\n"


def test_a_bind_that_fails_leaves_nothing(user_three: Labs) -> None:
    user_three.run("nbctl", "ls-add", "bare")
    user_three.on("worker1", "sh", "-c", "rmdir /run/netns && touch /run/netns")
    error = user_three.run("bind", "new", "worker1", "--network", "bare", expect=1).stderr
    assert "worker1: binding new" in error
    assert "port new" not in user_three.out("nbctl", "show")
    assert "new" not in user_three.out("vsctl", "worker1", "list-ports", "br-int")


def test_a_file_that_is_no_namespace_is_no_obstacle(user_three: Labs) -> None:
    user_three.on("worker1", "sh", "-c", "mkdir -p /run/netns; touch /run/netns/vm1")
    assert user_three.json("status")["nodes"][1]["running"]
    user_three.run("bind", "vm1=worker1", "vm2=worker2")
    assert "2 received" in user_three.out("ping", "vm1", "vm2", "-c", "2")


@pytest.mark.parametrize("name", ["ovn-worker-0", "patch-x", "$(id)", "a b", "../x", "worker2"])
def test_names_that_no_fake_vm_can_have(shared_three: Labs, name: str) -> None:
    error = shared_three.run("bind", name, "worker1", "--network", "network1", expect=2).stderr
    assert "cannot be the name of a fake VM" in error


def test_several_new_ones_get_addresses_of_their_own(user_three: Labs) -> None:
    bound = user_three.json("bind", "n1=worker1", "n2=worker1", "n3=worker2", "--network", "network1")["bound"]
    assert len({vm["addresses"][0] for vm in bound}) == 3
    user_three.run("unbind", "n1", "n2", "n2", "n3")
    assert "port n" not in user_three.out("nbctl", "show")
