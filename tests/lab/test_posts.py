"""The posts that ovnlab grew from: what they do by hand, and what they show, compared with a real lab."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.harness import Labs

THREE_NODES = {"central": "192.168.50.10", "worker1": "192.168.50.100", "worker2": "192.168.50.101"}


def encaps(labs: Labs) -> dict[str, tuple[str, str]]:
    """Encapsulation and address of each chassis, from the Southbound database."""
    by_uuid = {row["_uuid"][1]: (row["type"], row["ip"]) for row in labs.rows("sbctl", "list", "Encap")}
    return {row["name"]: by_uuid[row["encaps"][1]] for row in labs.rows("sbctl", "list", "Chassis")}


def tunnel_peers(labs: Labs, node: str) -> set[str]:
    shown = labs.out("vsctl", node, "show")
    assert "Bridge br-int" in shown
    assert "fail_mode: secure" in shown
    return set(re.findall(r'type: geneve\n\s+options: \{.*remote_ip="([^"]+)"', shown))


def bound_chassis(labs: Labs) -> dict[str, str]:
    """The chassis that each port is bound to, as `ovn-sbctl show` lists it."""
    chassis, found = "", {}
    for line in labs.out("sbctl", "show").splitlines():
        if match := re.match(r"Chassis \"?([^\"]+)\"?$", line):
            chassis = match[1]
        elif match := re.match(r"\s+Port_Binding \"?([^\"]+)\"?$", line):
            found[match[1]] = chassis
    return found


def ttls(labs: Labs, source: str, destination: str) -> set[str]:
    shown = labs.out("ping", source, destination)
    assert ", 0% packet loss" in shown
    return set(re.findall(r"ttl=(\d+)", shown))


def test_simple_setup_in_five_minutes(labs: Labs) -> None:
    labs.run("up", "single")
    assert list(encaps(labs)) == ["ovn"]
    shown = labs.out("nbctl", "show")
    assert "(network1)" in shown
    assert 'addresses: ["40:44:00:00:00:01 192.168.0.11"]' in shown
    assert labs.out("nbctl", "lsp-get-up", "vm1").strip() == "up"
    assert labs.out("nbctl", "lsp-get-up", "vm2").strip() == "up"
    assert bound_chassis(labs) == {"vm1": "ovn", "vm2": "ovn"}
    namespaces = labs.on("ovn", "ip", "netns", "list")
    assert sorted(line.split()[0] for line in namespaces.splitlines()) == ["vm1", "vm2"]
    address = labs.on("vm1", "ip", "addr")
    assert "link/ether 40:44:00:00:00:01" in address
    assert "inet 192.168.0.11/24 scope global vm1" in address
    assert "inet6 fe80::4244:ff:fe00:1/64 scope link" in address
    assert ttls(labs, "vm1", "vm2") == {"64"}
    assert ttls(labs, "vm2", "vm1") == {"64"}


def test_multinode_setup(labs: Labs) -> None:
    labs.run("up", "3node")
    assert encaps(labs) == {name: ("geneve", ip) for name, ip in THREE_NODES.items()}
    for node, ip in THREE_NODES.items():
        assert tunnel_peers(labs, node) == set(THREE_NODES.values()) - {ip}
    assert bound_chassis(labs) == {}
    labs.run("bind", "vm1", "worker1")
    labs.run("bind", "vm2", "worker2")
    assert bound_chassis(labs) == {"vm1": "worker1", "vm2": "worker2"}
    assert ttls(labs, "vm1", "vm2") == {"64"}
    assert ttls(labs, "vm2", "vm1") == {"64"}
    # What the post does by hand works on a node as well.
    assert "2 received" in labs.on("worker1", "ip", "netns", "exec", "vm1", "ping", "-c2", "-i0.2", "192.168.0.12")


def tunnel_keys(labs: Labs) -> dict[str, int]:
    """The keys of datapaths and ports in the Southbound database."""
    keys = {row["logical_port"]: row["tunnel_key"] for row in labs.rows("sbctl", "list", "Port_Binding")}
    for row in labs.rows("sbctl", "list", "Datapath_Binding"):
        keys[dict(row["external_ids"][1])["name"]] = row["tunnel_key"]
    return keys


class Capture:
    """tcpdump on a worker's eth1, as in the posts."""

    def __init__(self, labs: Labs, node: str, packets: int) -> None:
        tcpdump = ["tcpdump", "-vvnne", "--immediate-mode", "-i", "eth1", "-c", str(packets)]
        # Only echo requests and replies: the ICMP type is behind 58 bytes of outer and 34 of inner headers.
        self.process = labs.start("exec", node, "--", *tcpdump, "udp port 6081 and udp[47] = 1")
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if "listening on" in line:
                return
        self.process.communicate()
        pytest.fail(f"tcpdump did not start: {said}")

    def headers(self) -> list[tuple[int, int, int, str]]:
        """VNI, ingress key, egress key and kind of each packet."""
        shown, _ = self.process.communicate(timeout=20)
        found = re.findall(
            r"Geneve, Flags \[C\],\s*vni (0x[0-9a-f]+).*?class Open Virtual Networking \(OVN\) \(0x102\)"
            r".*?data ([0-9a-f]{4})([0-9a-f]{4}).*?ICMP echo (request|reply)",
            shown,
            re.DOTALL,
        )
        assert found, shown
        return [(int(vni, 16), int(ingress, 16), int(egress, 16), kind) for vni, ingress, egress, kind in found]


@pytest.fixture
def bound(labs: Labs) -> Iterator[Labs]:
    labs.run("up", "3node")
    labs.run("bind", "vm1=worker1", "vm2=worker2")
    yield labs


def test_geneve_header_carries_the_tunnel_keys(bound: Labs) -> None:
    keys = tunnel_keys(bound)
    capture = Capture(bound, "worker2", 2)
    bound.run("ping", "vm1", "vm2", "-c", "1")
    assert capture.headers() == [
        (keys["network1"], keys["vm1"], keys["vm2"], "request"),
        (keys["network1"], keys["vm2"], keys["vm1"], "reply"),
    ]


def test_routing_and_ovn_trace(labs: Labs) -> None:
    labs.run("up", "routed")
    assert bound_chassis(labs) == {"vm1": "worker1", "vm2": "worker2"}
    assert "default via 192.168.0.1 dev vm1" in labs.on("vm1", "ip", "route")
    assert ttls(labs, "vm1", "vm2") == {"63"}
    assert ttls(labs, "vm2", "vm1") == {"63"}
    flow = (
        'inport == "vm1" && eth.src == 40:44:00:00:00:01 && eth.dst == 40:44:00:00:00:03 && '
        "ip4.src == 192.168.0.11 && ip4.dst == 192.168.1.11 && ip.ttl == 64"
    )
    trace = labs.on("central", "ovn-trace", "--summary", "network1", flow)
    assert re.findall(r'ingress\(dp="(\w+)"', trace) == ["network1", "router1", "network2"]
    assert '/* output to "vm2", type "" */' in trace
    keys = tunnel_keys(labs)
    capture = Capture(labs, "worker2", 2)
    labs.run("ping", "vm1", "vm2", "-c", "1")
    # The request is routed where it comes from: what arrives is for the egress pipeline of network2 only.
    assert capture.headers() == [
        (keys["network2"], keys["network2-router1"], keys["vm2"], "request"),
        (keys["network1"], keys["network1-router1"], keys["vm1"], "reply"),
    ]
    flows = labs.out("ofctl", "worker2", "dump-flows", "br-int")
    assert re.search(
        rf"n_packets=[1-9]\d*.*reg15=0x{keys['vm2']:x},metadata=0x{keys['network2']:x} actions=output", flows
    )


def test_hosts_of_the_lab_are_known_by_name(labs: Labs) -> None:
    labs.run("up", "3node")
    assert labs.on("worker1", "hostname").strip() == "worker1"
    assert labs.on("worker1", "getent", "hosts", "central").split() == ["192.168.50.10", "central"]
    assert "3 received" in labs.out("ping", "worker1", "worker2")


def test_a_shell_of_a_fake_vm_says_where_it_is(labs: Labs) -> None:
    labs.run("up", "single")
    result = subprocess.run(
        labs.command("shell", "vm1"),
        env=labs.environment, input="hostname; ip -br address show vm1\n", capture_output=True, text=True,
        timeout=60, cwd=labs.scratch, check=False,
    )  # fmt: skip
    assert "vm1\n" in result.stdout
    assert "192.168.0.11/24" in result.stdout
