"""Kinds of Northbound objects (ovnlab/topology/objects): what each does to packets."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs
from tests.lab.test_scenarios import Capture, answers, eventually

CHAIN = (TOPOLOGIES / "router-policies.yaml").read_text()


@pytest.fixture(scope="module")
def chain(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab of the topology router-policies, which each test leaves as it is."""
    for labs in labs_in(ordinary, session_folder / "objects"):
        labs.run("up", without(labs))
        yield labs


def without(chain: Labs, *lines: str) -> str:
    """Write the topology router-policies without some of its lines, and return where."""
    text = CHAIN
    for line in lines:
        assert line in text
        text = text.replace(line, "")
    return chain.write("router-policies.yaml", text)


def test_a_static_mac_binding_reaches_who_answers_no_arp(chain: Labs) -> None:
    chain.on(
        "firewall", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; ip address add 192.168.9.100 dev lo"
    )
    eventually("an answer", lambda: answers(chain, "vm1", "192.168.9.100"))
    binding = '      static_mac_bindings:\n        - {port: inspection, ip: 192.168.9.100, mac: "0a:00:00:00:09:11"}\n'
    steps = chain.json("up", without(chain, binding))["steps"]
    assert steps == [
        "remove static MAC binding router1-inspection 192.168.9.100: the topology does not have it any more"
    ]
    eventually("silence", lambda: not answers(chain, "vm1", "192.168.9.100"))
    assert chain.json("up", without(chain))["steps"] == [
        "add static MAC binding router1-inspection 192.168.9.100: it is missing"
    ]
    eventually("an answer", lambda: answers(chain, "vm1", "192.168.9.100"))
    chain.on("firewall", "ip", "address", "del", "192.168.9.100", "dev", "lo")
    assert chain.json("up", without(chain))["steps"] == []


def forward(chain: Labs, yes: int) -> None:
    chain.on("firewall", "sh", "-c", f"echo {yes} >/proc/sys/net/ipv4/ip_forward")


def test_policies_reroute_and_drop(chain: Labs) -> None:
    assert chain.json("up", without(chain))["steps"] == []
    assert not answers(chain, "vm1", "192.168.2.11"), "it did not go to the firewall, which forwards nothing"
    forward(chain, 1)
    eventually("an answer by the firewall", lambda: answers(chain, "vm1", "192.168.2.11"))
    forward(chain, 0)
    eventually("silence", lambda: not answers(chain, "vm1", "192.168.2.11"))
    eventually("an answer to the other", lambda: answers(chain, "vm2", "192.168.2.11"))
    connect = (
        "import socket, sys; s = socket.socket(); s.settimeout(1); sys.exit(s.connect_ex(('192.168.2.11', 80)) != 0)"
    )
    assert chain.run("exec", "vm2", "--", "python3", "-c", connect, expect=None).returncode != 0
    policies = re.search(r"      policies:\n(        .*\n)+", CHAIN)[0]  # type: ignore[index]
    steps = chain.json("up", without(chain, policies))["steps"]
    assert [step.split(":")[0][:27] for step in steps] == ["remove router policy router"] * 2
    eventually("an answer without the firewall", lambda: answers(chain, "vm1", "192.168.2.11"))
    chain.run("up", without(chain))


def test_what_ovn_is_too_old_for_changes_nothing(chain: Labs) -> None:
    mirror = CHAIN.replace("logical:\n", "logical:\n  mirrors: {m: {sink: 192.168.50.99, filter: both}}\n")
    refused = chain.run("up", chain.write("router-policies.yaml", mirror), expect=2).stderr
    assert re.search(r"mirror filter both needs OVN 24\.09 or newer; central runs 23\.03\.\d", refused)
    assert chain.json("up", without(chain))["steps"] == []


NETWORK = Path(__file__).with_name("objects.yaml").read_text()

REVERSE_QUERY = """
import socket, struct
name = b"".join(bytes([len(part)]) + part for part in b"12.0.168.192.in-addr.arpa".split(b".")) + b"\\0"
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
asked.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 12, 1), ("192.168.0.1", 53))
print(b"web\\4test" in asked.recv(512))
"""

JOIN = """
import socket, sys
group = socket.inet_aton("239.1.1.1") + socket.inet_aton("192.168.0.12")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
sys.stdin.read()
"""

SOURCE_PORT = """
import socket
server = socket.create_server(("10.0.0.48", 7))
server.settimeout(20)
print("listening", flush=True)
print(server.accept()[1][1])
"""


@pytest.fixture(scope="module")
def network(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab for kinds that hurt none of the others."""
    for labs in labs_in(ordinary, session_folder / "network"):
        labs.run("up", labs.write("objects.yaml", NETWORK))
        yield labs


def fetched(labs: Labs, client: str, ip: str) -> str:
    fetch = f'exec 3<>/dev/tcp/{ip}/80; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; tail -n1 <&3'
    return labs.on(client, "timeout", "5", "bash", "-c", fetch).strip()


def seen_by(labs: Labs, host: str, expression: str, *pings: str, device: str = "eth2") -> str:
    """Return what a host sees while vm1 pings addresses that need not answer."""
    capture = Capture(labs, host, device, expression)
    for ip in pings:
        labs.run("exec", "vm1", "--", "ping", "-c2", "-i0.2", "-W1", ip, expect=None)
    return "\n".join(capture.lines())


@pytest.mark.thorough
def test_a_second_up_of_all_kinds_changes_nothing(network: Labs) -> None:
    assert network.json("up", network.write("objects.yaml", NETWORK))["steps"] == []


@pytest.mark.thorough
def test_ports_with_address_pairs_unknown_addresses_and_disabled_ones(network: Labs) -> None:
    network.on("vm1", "ip", "address", "add", "192.168.0.200/24", "dev", "vm1")
    network.on("vm1", "ip", "address", "add", "192.168.0.201/24", "dev", "vm1")
    eventually("the allowed address", lambda: answers(network, "vm2", "192.168.0.200"))
    assert not answers(network, "vm2", "192.168.0.201"), "port security lets no other pass"
    assert not answers(network, "vm2", "192.168.0.15"), "the port is disabled"
    network.on("vm6", "ip", "link", "set", "vm6", "address", "0a:00:00:00:66:66")
    eventually("a MAC address that OVN did not know", lambda: answers(network, "vm2", "192.168.0.16"))
    network.on("vm1", "ip", "address", "del", "192.168.0.200/24", "dev", "vm1")
    network.on("vm1", "ip", "address", "del", "192.168.0.201/24", "dev", "vm1")


@pytest.mark.thorough
def test_a_gateway_bridges_a_switch_and_a_physical_network(network: Labs) -> None:
    eventually("an answer through the l2gateway port", lambda: answers(network, "vm7", "10.0.0.49"))


@pytest.mark.thorough
def test_nat_that_is_stateless_ranged_and_for_some(network: Labs) -> None:
    eventually("an answer through the localnet port", lambda: answers(network, "vm1", "10.0.0.48"))
    assert fetched(network, "host1", "10.0.0.12") == "vm2"
    flows = network.out("sbctl", "lflow-list", "router1")
    assert "ip4.dst=192.168.0.12; next;" in flows, "rewritten without connection tracking"
    assert fetched(network, "host1", "10.0.0.13") == "vm3"
    assert not answers(network, "host2", "10.0.0.13"), "it is for friends only"
    server = network.start("exec", "host1", "--", "python3", "-c", SOURCE_PORT)
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    network.on("vm1", "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/10.0.0.48/7")
    assert 3000 <= int(server.communicate(timeout=20)[0]) <= 3010
    assert "192.168.0.11 > 10.0.0.49" in seen_by(network, "host2", "icmp", "10.0.0.49"), "it is exempted"


@pytest.mark.thorough
def test_route_tables(network: Labs) -> None:
    seen = seen_by(network, "host1", "icmp", "203.0.113.9", "198.51.100.9", "172.20.6.1")
    assert "> 203.0.113.9: ICMP echo request" in seen
    assert "> 172.20.6.1: ICMP echo request" in seen
    assert "198.51.100.9" not in seen, "the route is in another table"


@pytest.mark.thorough
def test_load_balancers_with_names_affinity_groups_and_refusal(network: Labs) -> None:
    assert len({fetched(network, "vm1", "172.30.0.1") for _ in range(8)}) == 1
    assert fetched(network, "vm1", "172.30.0.2") == "vm3"
    assert fetched(network, "vm1", "172.30.0.4") == "vm3"
    connect = "import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('172.30.0.3', 80)))"
    assert network.on("vm1", "python3", "-c", connect).strip() == str(errno.ECONNREFUSED)


@pytest.mark.thorough
def test_switches_resolve_addresses_and_snoop_on_multicast(network: Labs) -> None:
    assert network.on("vm1", "python3", "-c", REVERSE_QUERY).strip() == "True"
    joined = network.start("exec", "vm2", "--", "python3", "-c", JOIN)
    try:
        eventually("the group", lambda: network.rows("sbctl", "find", "IGMP_Group", "address=239.1.1.1"))
    finally:
        joined.kill()
        joined.wait()


@pytest.mark.thorough
def test_a_mirror_sends_copies_to_its_collector(network: Labs) -> None:
    copies = seen_by(network, "host1", "ip proto 47", "192.168.0.13", device="eth1")
    assert "key=0x7" in copies
    assert "192.168.0.11 > 192.168.0.13: ICMP echo request" in copies


@pytest.mark.thorough
def test_meters_protect_ovn_controller_and_limit_logs(network: Labs) -> None:
    meters = network.out("sbctl", "--columns=name", "list", "Meter")
    assert "gentle-arp" in meters
    assert "slow" in meters
    flows = network.out("sbctl", "--columns=controller_meter", "find", "Logical_Flow", "controller_meter=gentle-arp")
    assert "gentle-arp" in flows
    assert network.out("vsctl", "worker1", "get", "Open_vSwitch", ".", "external_ids:team").strip() == "blue"


@pytest.mark.thorough
def test_a_next_hop_that_does_not_answer_bfd_gets_nothing(labs: Labs) -> None:
    labs.run("up", "two-uplinks")

    def sessions() -> dict[str, str]:
        return {row["dst_ip"]: row["status"] for row in labs.rows("nbctl", "list", "BFD")}

    def only_up(ip: str) -> bool:
        return [peer for peer, status in sessions().items() if status == "up"] == [ip]

    eventually("both sessions", lambda: sessions() == {"10.1.0.1": "up", "10.2.0.1": "up"})
    assert [labs.run("trace", "vm1", "203.0.113.9").returncode for _ in range(20)] == [0] * 20
    for dead, other in (("isp1", "10.2.0.1"), ("isp2", "10.1.0.1")):
        labs.on(dead, "ip", "link", "set", "eth2", "down")
        eventually("one session", partial(only_up, other))
        eventually("an answer", lambda: answers(labs, "vm1", "203.0.113.9"))
        assert all(answers(labs, "vm1", "203.0.113.9") for _ in range(6)), "each ping is another flow"
        labs.on(dead, "ip", "link", "set", "eth2", "up")
        eventually("both sessions", lambda: set(sessions().values()) == {"up"})
    labs.on("isp1", "sh", "-c", "kill $(cat /run/ovnlab/-/serve.pid)")
    assert labs.json("up", "two-uplinks")["steps"] == ["configure isp1: it does not answer BFD"]
    eventually("both sessions", lambda: set(sessions().values()) == {"up"})
