"""Every shipped topology, and what each is about, with real packets."""

from __future__ import annotations

import json
import os
import re
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from ovnlab.northbound.schema import TABLES
from ovnlab.topology.load import load
from ovnlab.waiting import wait_until
from tests.lab.harness import TOPOLOGIES, Labs

SHIPPED = sorted(TOPOLOGIES.glob("*.yaml"))
CHECKED = [path.stem for path in SHIPPED if "\nchecks:" in path.read_text() and "git:" not in path.read_text()]
"""With checks, and without a git host that a machine of tests may not reach (test_documentation runs those)."""
BUILT = [name for name in CHECKED if "distro: true" in (TOPOLOGIES / f"{name}.yaml").read_text()]
"""Of these, those that are built from source. Each time, tests/lab/test_source.py has the same of those."""
SCENARIOS = [
    "gateway", "dvr", "l3-fabric", "trunks", "external-ports", "interconnection", "no-overlay", "dhcp", "acl",
    "load-balancer", "raft", "tls", "ipv6", "vxlan", "relay", "router-policies", "two-uplinks",
]  # fmt: skip


def test_every_scenario_is_shipped_with_checks_and_listed(user_labs: Labs) -> None:
    assert set(SCENARIOS) <= set(CHECKED)
    listed = {found["name"]: found for found in user_labs.json("topologies")["topologies"]}
    assert set(listed) == {path.stem for path in SHIPPED}
    assert all(20 < len(found["about"]) <= 90 for found in listed.values()), listed


def versions(labs: Labs, central: str) -> dict[str, str]:
    """The version of every row that a topology makes, which any change to it would change.

    Those that OVN writes itself are left out: NB_Global counts what others do, BFD has the state of its session.
    """
    tables = [name for name, table in TABLES.items() if not table.single and name != "BFD"]
    select = [{"op": "select", "table": table, "where": [], "columns": ["_uuid", "_version"]} for table in tables]
    asked = json.dumps(["OVN_Northbound", *select])
    answer = labs.on(central, "ovsdb-client", "transact", "unix:/run/ovn/ovnnb_db.sock", asked)
    rows = [row for result in json.loads(answer) for row in result["rows"]]
    assert rows
    return {row["_uuid"][1]: row["_version"][1] for row in rows}


@pytest.mark.parametrize("name", [name for name in CHECKED if name not in BUILT])
def test_its_checks_hold_and_a_second_up_changes_nothing(user_labs: Labs, name: str) -> None:
    checks_hold(user_labs, name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in CHECKED if name not in BUILT])
def test_they_hold_for_root_as_well(root_labs: Labs, name: str) -> None:
    checks_hold(root_labs, name)


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.thorough
def test_checks_of_what_is_built_hold_and_a_second_up_changes_nothing(root_labs: Labs, name: str) -> None:
    checks_hold(root_labs, name)


def checks_hold(labs: Labs, name: str) -> None:
    labs.run("up", name)
    result = labs.json("test")
    assert [item for kind in ("findings", "pairs", "checks") for item in result[kind] if not item["ok"]] == []
    assert len(result["checks"]) == len(load(str(TOPOLOGIES / f"{name}.yaml")).topology.checks)
    assert not [pair for pair in result["pairs"] if pair["intended"] == "unknown"]
    topology = load(str(TOPOLOGIES / f"{name}.yaml")).topology
    centrals = [topology.centrals(zone)[0].name for zone in topology.zones]
    before = [versions(labs, central) for central in centrals]
    assert labs.json("up", name)["steps"] == []
    assert [versions(labs, central) for central in centrals] == before


def test_a_check_that_does_not_hold_fails(user_labs: Labs) -> None:
    text = (TOPOLOGIES / "acl.yaml").read_text().replace("from: stranger}", "from: stranger, expect: refused}")
    user_labs.run("up", user_labs.write("acl.yaml", text))
    result = user_labs.run("test", expect=4)
    assert re.search(r"ping web1 from stranger +refused \(OVN means delivered\) +reachable", result.stdout)
    assert re.search(r"1 of \d+ checks of lab acl did not hold", result.stderr)


def kill_node(labs: Labs, lab: str, node: str) -> None:
    os.kill(labs.nodes(lab)[node], signal.SIGKILL)
    eventually(f"{node} to be gone", lambda: node not in labs.nodes(lab))


def eventually(what: str, find: Callable[[], Any], seconds: float = 30) -> Any:
    return wait_until(what, lambda: find() or None, timeout=seconds)


def answers(labs: Labs, source: str, destination: str) -> bool:
    return labs.run("ping", source, destination, "-c", "1", expect=None).returncode == 0


def bound_to(labs: Labs, *condition: str) -> str:
    """The name of the chassis of the one port binding that a condition finds."""
    found = labs.rows("sbctl", "--columns=chassis", "find", "Port_Binding", *condition)
    names = {row["_uuid"][1]: row["name"] for row in labs.rows("sbctl", "--columns=_uuid,name", "list", "Chassis")}
    (row,) = found
    return str(names.get(row["chassis"][1], ""))


class Capture:
    """tcpdump on a device of a node, until it is asked what it saw."""

    def __init__(self, labs: Labs, node: str, device: str, expression: str) -> None:
        self.process = labs.start("exec", node, "--", "tcpdump", "-nne", "--immediate-mode", "-i", device, expression)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "listening on" in line:
                return
        pytest.fail("tcpdump did not start")

    def lines(self) -> list[str]:
        os.killpg(self.process.pid, signal.SIGINT)
        shown, _ = self.process.communicate(timeout=20)
        return [line for line in shown.splitlines() if " > " in line or "ethertype" in line]


def test_gateway_snat_and_takeover(labs: Labs) -> None:
    labs.run("up", "gateway")
    capture = Capture(labs, "host1", "eth2", "icmp")
    labs.run("ping", "vm1", "10.0.0.48", "-c", "1")
    assert any("10.0.0.45 > 10.0.0.48: ICMP echo request" in line for line in capture.lines())
    assert bound_to(labs, "type=chassisredirect") == "gw1"
    kill_node(labs, "gateway", "gw1")
    eventually("gw2 to take over", lambda: bound_to(labs, "type=chassisredirect") == "gw2")
    eventually("traffic outwards", lambda: answers(labs, "vm1", "10.0.0.48"))
    eventually("traffic inwards", lambda: answers(labs, "host1", "10.0.0.12"))
    labs.run("up", "gateway")
    eventually("gw1 to take it back", lambda: bound_to(labs, "type=chassisredirect") == "gw1")
    eventually("traffic again", lambda: answers(labs, "vm1", "10.0.0.48") and answers(labs, "host1", "10.0.0.12"))


def test_dvr_north_south_does_not_pass_the_gateway(user_labs: Labs) -> None:
    user_labs.run("up", "dvr")
    on_gateway = Capture(user_labs, "gw1", "eth2", "icmp")
    on_worker = Capture(user_labs, "worker1", "eth2", "icmp")
    user_labs.run("ping", "host1", "10.0.0.11", "-c", "3")
    user_labs.run("ping", "vm1", "10.0.0.48", "-c", "3")
    seen = on_worker.lines()
    assert sum("10.0.0.48 > 10.0.0.11: ICMP echo request" in line for line in seen) == 3
    assert sum("40:44:00:00:00:11" in line and "10.0.0.11 > 10.0.0.48: ICMP echo request" in line for line in seen) == 3
    assert on_gateway.lines() == []
    on_gateway = Capture(user_labs, "gw1", "eth2", "icmp")
    user_labs.run("ping", "vm3", "10.0.0.48", "-c", "3")
    assert sum("10.0.0.45 > 10.0.0.48: ICMP echo request" in line for line in on_gateway.lines()) == 3


def test_l3_fabric_shares_tunnels_among_the_spines(user_labs: Labs) -> None:
    user_labs.run("up", "l3-fabric")
    captures = [
        Capture(user_labs, spine, "any", "udp port 6081 and host 10.1.0.11 and host 10.2.0.12")
        for spine in ("spine1", "spine2")
    ]
    # Each connection is a flow of its own, and has a source port of its own in its tunnel.
    script = 'for port in $(seq 9001 9024); do bash -c "exec 3<>/dev/tcp/192.168.0.12/$port" 2>/dev/null; done; true'
    user_labs.on("vm1", "sh", "-c", script)
    seen = [capture.lines() for capture in captures]
    assert all(len(lines) >= 4 for lines in seen), [len(lines) for lines in seen]


def test_trunks_have_vlan_devices_that_are_child_ports(user_labs: Labs) -> None:
    user_labs.run("up", "trunks")
    devices = {link["ifname"] for link in json.loads(user_labs.on("vm1", "ip", "-j", "link"))}
    assert {"vm1", "vm1.100", "vm1.200"} <= devices
    (binding,) = user_labs.rows("sbctl", "find", "Port_Binding", "logical_port=vm1-blue")
    assert (binding["parent_port"], binding["tag"]) == ("vm1", 100)
    # Of the two networks neither is to be seen in the other.
    assert not answers(user_labs, "vm2", "192.168.200.11")
    text = (TOPOLOGIES / "trunks.yaml").read_text().replace("parent: vm1, vlan: 200", "parent: vm1, vlan: 201")
    user_labs.run("up", user_labs.write("trunks.yaml", text), "--name", "trunks")
    devices = {link["ifname"] for link in json.loads(user_labs.on("vm1", "ip", "-j", "link"))}
    assert "vm1.201" in devices
    assert "vm1.200" not in devices
    user_labs.run("ping", "vm1-green", "vm3")
    user_labs.run("ping", "vm1", "vm4")


def test_external_ports_get_their_address_from_ovn(user_labs: Labs) -> None:
    user_labs.run("up", "external-ports")
    (link,) = json.loads(user_labs.on("metal1", "ip", "-j", "-4", "address", "show", "eth2"))
    assert [address["local"] for address in link["addr_info"]] == ["192.168.0.50"]
    assert bound_to(user_labs, "type=external") == "gw1"
    kill_node(user_labs, "external-ports", "gw1")
    eventually("gw2 to answer", lambda: bound_to(user_labs, "type=external") == "gw2")
    user_labs.on("metal1", "ip", "address", "flush", "dev", "eth2")
    steps = user_labs.json("up", "external-ports")["steps"]
    assert any("configure metal1: eth2 has no address" in step for step in steps)
    user_labs.run("ping", "vm1", "metal1")


def test_interconnection_learns_routes_and_joins_gateways(user_labs: Labs) -> None:
    user_labs.run("up", "interconnection")
    assert "192.168.1.0/24" in user_labs.out("nbctl", "--zone", "west", "lr-route-list", "router-west")
    assert "192.168.2.0/24" in user_labs.out("nbctl", "lr-route-list", "router-east")
    assert "network-east" not in user_labs.out("nbctl", "--zone", "west", "ls-list")
    nodes = {node["name"]: node for node in user_labs.json("status")["nodes"]}
    assert {t["peer"] for t in nodes["gw-east"]["tunnels"]} == {"worker-east", "gw-west"}
    assert {t["peer"] for t in nodes["worker-west"]["tunnels"]} == {"gw-west"}
    capture = Capture(user_labs, "gw-west", "eth1", "udp port 6081 and host 192.168.50.201")
    user_labs.run("ping", "vm-east", "vm-west", "-c", "3")
    assert any("192.168.1.11 > 192.168.2.11: ICMP echo request" in line for line in capture.lines())
    result = user_labs.run("nbctl", "--zone", "north", "show", expect=2)
    assert "has no zone 'north'" in result.stderr
    assert "it has east, west" in result.stderr


def test_no_overlay_sends_vlan_frames_and_no_tunnel_packets(user_labs: Labs) -> None:
    user_labs.run("up", "no-overlay")
    tunnels = Capture(user_labs, "worker1", "eth1", "udp port 6081")
    frames = Capture(user_labs, "worker2", "eth2", "vlan")
    user_labs.run("ping", "vm1", "vm2", "-c", "2")
    user_labs.run("ping", "vm1", "vm3", "-c", "2")
    seen = frames.lines()
    assert tunnels.lines() == []
    assert any("vlan 100" in line and "192.168.0.11 > 192.168.0.12: ICMP echo request" in line for line in seen)
    routed = [line for line in seen if "vlan 200" in line and "192.168.0.11 > 192.168.1.11: ICMP echo request" in line]
    mappings = user_labs.out("vsctl", "worker1", "get", "Open_vSwitch", ".", "external_ids:ovn-chassis-mac-mappings")
    own = mappings.strip().strip('"').partition(":")[2]
    assert routed
    assert all(own in line and "40:44:00:00:01:02" not in line for line in routed)


def test_dhcp_is_really_asked(user_labs: Labs) -> None:
    user_labs.run("up", "dhcp")
    leases = user_labs.on("worker1", "cat", "/run/ovnlab/vm1/vm1-4.leases")
    assert "option dhcp-lease-time 600;" in leases
    assert "option dhcp-server-identifier 192.168.0.1;" in leases
    assert 'option domain-name "lab.test";' in leases
    (link,) = json.loads(user_labs.on("vm1", "ip", "-j", "address", "show", "vm1"))
    addresses = {item["local"] for item in link["addr_info"] if item["scope"] == "global"}
    (port,) = user_labs.rows("nbctl", "--columns=addresses", "find", "Logical_Switch_Port", "name=vm1")
    assert addresses == set(port["addresses"].split()[1:])
    assert len(addresses) == 2
    assert "default via 192.168.0.1" in user_labs.on("vm1", "ip", "route")
    assert resolved(user_labs, "vm1", "vm2.lab.test") == "192.168.0.12"


DNS_QUERY = """
import socket, struct, sys
name = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split(".")) + b"\\0"
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
asked.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1), ("192.168.0.1", 53))
print(socket.inet_ntoa(asked.recv(512)[-4:]))
"""


def resolved(labs: Labs, vm: str, name: str) -> str:
    return labs.on(vm, "python3", "-c", DNS_QUERY, name).strip()


def who_answers(labs: Labs, client: str, times: int) -> set[str]:
    fetch = 'exec 3<>/dev/tcp/192.168.0.100/80; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; tail -n1 <&3'
    return {labs.on(client, "timeout", "5", "bash", "-c", fetch).strip() for _ in range(times)}


def test_load_balancer_leaves_out_a_backend_that_died(user_labs: Labs) -> None:
    user_labs.run("up", "load-balancer")
    assert who_answers(user_labs, "client1", 12) == {"web1", "web2"}
    assert who_answers(user_labs, "client2", 12) == {"web1", "web2"}
    user_labs.on("worker1", "sh", "-c", "kill $(cat /run/ovnlab/web1/serve.pid)")

    def states() -> list[str]:
        rows = user_labs.rows("sbctl", "--columns=status", "list", "Service_Monitor")
        return sorted(str(row["status"]) for row in rows)  # of one that nobody has checked yet it is an empty set

    eventually("web1 to be offline", lambda: states() == ["offline", "online"])
    user_labs.run("nbctl", "--wait=hv", "sync")
    assert who_answers(user_labs, "client1", 8) == {"web2"}
    assert user_labs.json("up", "load-balancer")["steps"] == ["bind web1 to worker1"]
    assert states() == ["online", "online"]  # `up` waits for what health checks say
    assert who_answers(user_labs, "client1", 12) == {"web1", "web2"}


def members(labs: Labs, database: str) -> dict[str, dict[str, Any]]:
    return {m["node"]: m for m in labs.json("status")["clusters"] if m["database"] == database}


def test_raft_goes_on_without_its_leader(labs: Labs) -> None:
    labs.run("up", "raft")
    before = members(labs, "Northbound")
    assert sorted(member["role"] for member in before.values()) == ["follower", "follower", "leader"]
    assert {member["behind"] for member in before.values()} == {0}
    leader = next(name for name, member in before.items() if member["role"] == "leader")
    assert {member["leader"] for member in before.values()} == {leader}
    kill_node(labs, "raft", leader)
    labs.run("nbctl", "ls-add", "made-without-it")
    after = members(labs, "Northbound")
    assert after[leader]["role"] == "not running"
    assert max(member["term"] for member in after.values()) > before[leader]["term"]
    text = (TOPOLOGIES / "raft.yaml").read_text().replace("logical:", "logical: # another", 1)
    assert "made-without-it" in labs.out("nbctl", "ls-list")
    labs.run("bind", "vm3", "worker1", "--network", "network1")
    labs.run("ping", "vm3", "vm2")
    labs.run("up", labs.write("raft.yaml", text), "--name", "raft")
    back = members(labs, "Northbound")
    assert set(back) == set(before)
    assert "made-without-it" in labs.on(
        leader, "ovn-nbctl", "--no-leader-only", "--db=unix:/run/ovn/ovnnb_db.sock", "ls-list"
    )


@pytest.mark.thorough
def test_raft_grows_and_shrinks(user_labs: Labs) -> None:
    three = (TOPOLOGIES / "raft.yaml").read_text()
    one = "\n".join(line for line in three.splitlines() if "central2" not in line and "central3" not in line)
    one = one.split("checks:")[0]
    user_labs.run("up", user_labs.write("raft.yaml", one))
    user_labs.run("nbctl", "ls-add", "kept")
    assert user_labs.json("status")["clusters"] == []
    user_labs.run("up", user_labs.write("raft.yaml", three))
    assert len(user_labs.json("status")["clusters"]) == 6
    user_labs.run("test")
    user_labs.run("up", user_labs.write("raft.yaml", one))
    assert user_labs.json("status")["clusters"] == []
    assert "kept" in user_labs.out("nbctl", "ls-list")
    user_labs.run("ping", "vm1", "vm2")


def test_two_centrals_are_allowed_and_warned_of(user_labs: Labs) -> None:
    text = "nodes: {c1: {role: central}, c2: {role: central}, w1: }\n"
    path = user_labs.write("two.yaml", text)
    assert "has a majority only with 2 alive" in user_labs.out("validate", path)
    assert "3 survive 1" in user_labs.run("up", path).stderr
    assert len(user_labs.json("status")["clusters"]) == 4


def test_tls_leaves_nothing_that_listens_in_plain_text(user_labs: Labs) -> None:
    user_labs.run("up", "tls")
    for tool in ("nbctl", "sbctl"):
        shown = user_labs.out(tool, "get-connection").split()
        assert [word.partition(":")[0] for word in shown if ":" in word] == ["pssl"]
    for node in ("central", "worker1", "worker2"):
        assert user_labs.on(node, "python3", "-c", PLAIN) == ""
    # Whoever has no certificate of the lab gets no answer, and whoever has gets one.
    plain = ["ovn-sbctl", "--timeout=2", "--db=tcp:192.168.50.10:6642", "show"]
    assert user_labs.run("exec", "worker1", "--", *plain, expect=None).returncode != 0
    assert "Port_Binding vm1" in user_labs.on("worker1", "ovn-sbctl", "show")
    for port in ("6641", "6642"):
        said = user_labs.run("exec", "worker1", "--", "python3", "-c", HANDSHAKE, port).stdout.strip()
        assert said == "central"
    modes = user_labs.on("worker2", "sh", "-c", "stat -c %a /etc/ovn/ovnlab-*.pem").split()
    assert modes == ["600", "600", "600"]
    keys = sorted((user_labs.state / "ovnlab/labs/tls/tls").iterdir())
    assert len(keys) == 8
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


PLAIN = """
import socket
for line in open("/proc/net/tcp"):
    words = line.split()
    if words[3] == "0A":  # listens
        port = int(words[1].partition(":")[2], 16)
        with socket.create_connection(("127.0.0.1", port), 5) as asked:
            asked.settimeout(1)
            asked.sendall(b'{"id":0,"method":"echo","params":[]}')
            try:
                answer = asked.recv(100)
            except OSError:
                answer = b""
            if b"result" in answer:
                print(port)
"""

HANDSHAKE = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/ovn/ovnlab-ca.pem")
context.load_cert_chain("/etc/ovn/ovnlab-cert.pem", "/etc/ovn/ovnlab-key.pem")
with socket.create_connection(("192.168.50.10", int(sys.argv[1])), 5) as plain:
    with context.wrap_socket(plain, server_hostname="192.168.50.10") as secure:
        print(dict(item[0] for item in secure.getpeercert()["subject"])["commonName"])
"""


def test_ipv6_tunnels_and_addresses_made_of_advertisements(user_labs: Labs) -> None:
    user_labs.run("up", "ipv6")
    (link,) = json.loads(user_labs.on("vm1", "ip", "-j", "-6", "address", "show", "vm1"))
    assert "fd00:1::4244:ff:fe00:1" in [item["local"] for item in link["addr_info"]]
    assert "default via fe80:" in user_labs.on("vm1", "ip", "-6", "route")
    capture = Capture(user_labs, "worker1", "eth1", "ip6 and udp port 6081")
    user_labs.run("ping", "vm1", "vm3", "-c", "1")
    assert any("fd00:50::100" in line and "fd00:50::101" in line for line in capture.lines())
    mtu = json.loads(user_labs.on("vm2", "ip", "-j", "link", "show", "vm2"))[0]["mtu"]
    assert mtu == 1500 - 78
    user_labs.run("ping", "vm1", "vm2", "-c", "1", "--size", str(mtu - 48))


def test_vxlan_is_spoken_with_whom_it_is_all(user_labs: Labs) -> None:
    user_labs.run("up", "vxlan")
    nodes = {node["name"]: node for node in user_labs.json("status")["nodes"]}
    kinds = {tunnel["peer"]: tunnel["encap"] for tunnel in nodes["worker1"]["tunnels"]}
    assert kinds == {"central": "geneve", "worker2": "vxlan"}
    capture = Capture(user_labs, "worker2", "eth1", "udp port 4789 or udp port 6081")
    user_labs.run("ping", "vm1", "vm2", "-c", "2")
    seen = [line for line in capture.lines() if "192.168.50." in line]
    assert len(seen) >= 4
    assert all(".4789:" in line for line in seen)


def test_relay_is_what_chassis_connect_to(user_labs: Labs) -> None:
    user_labs.run("up", "relay")
    clients = user_labs.on("central", "python3", "-c", CLIENTS).split()
    assert set(clients) == {"192.168.50.21", "192.168.50.22"}
    # One of them has gone, and the chassis that was connected to it must have found the other.
    connected = user_labs.on("worker1", "python3", "-c", SERVERS).strip()
    kill_node(user_labs, "relay", {"192.168.50.21": "relay1", "192.168.50.22": "relay2"}[connected])
    eventually("the chassis to follow again", lambda: synced(user_labs), seconds=60)
    user_labs.run("bind", "vm3", "worker1", "--network", "network1")
    user_labs.run("ping", "vm3", "vm2")
    user_labs.run("up", "relay")
    user_labs.run("test")


SERVERS = """
for line in open("/proc/net/tcp"):
    words = line.split()
    if words[2].endswith(":19F2") and words[3] == "01":
        number = bytes.fromhex(words[2].partition(":")[0])
        print(".".join(str(octet) for octet in reversed(number)))
"""

CLIENTS = """
for line in open("/proc/net/tcp"):
    words = line.split()
    if words[1].endswith(":19F2") and words[3] == "01":
        number = bytes.fromhex(words[2].partition(":")[0])
        print(".".join(str(octet) for octet in reversed(number)))
"""


def synced(labs: Labs) -> bool:
    return labs.run("nbctl", "--timeout=5", "--wait=hv", "sync", expect=None).returncode == 0


def test_a_picture_of_a_running_lab_shows_what_is_wrong_with_it(user_labs: Labs) -> None:
    user_labs.run("up", "gateway")
    user_labs.run("bind", "vm9", "worker2", "--network", "network1")
    well = user_labs.out("graph", "--format", "mermaid")
    assert "vm9 192.168.0." in well
    assert "not running" not in well
    kill_node(user_labs, "gateway", "worker1")
    shown = user_labs.out("graph")
    assert ET.fromstring(shown).tag.endswith("svg")  # noqa: S314  our own
    assert "not running" in shown
    user_labs.run("graph", "-o", "lab.svg")
    assert (user_labs.scratch / "lab.svg").read_text() == shown
