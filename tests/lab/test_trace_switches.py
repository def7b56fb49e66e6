"""What the switches of a way do: `ovnlab trace` names the bridge, the flow, the daemon that loses a packet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_trace_back import TOPOLOGY, trace


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab for all that breaks it: each test puts back what it broke."""
    for labs in labs_in(ordinary, session_folder / "trace-switches"):
        labs.run("up", labs.write("switches.yaml", TOPOLOGY))
        yield labs


@contextlib.contextmanager
def stopped(labs: Labs, node: str, pidfile: str) -> Iterator[None]:
    """A daemon that has a process and does nothing."""
    labs.on(node, "sh", "-c", f"kill -STOP $(cat {pidfile})")
    try:
        yield
    finally:
        labs.on(node, "sh", "-c", f"kill -CONT $(cat {pidfile})")


@contextlib.contextmanager
def flow(labs: Labs, node: str, bridge: str, match: str, more: str = "") -> Iterator[None]:
    """A flow that drops, of somebody else than OVN."""
    labs.run("ofctl", node, "add-flow", bridge, f"{more}{match},actions=drop")
    try:
        yield
    finally:
        labs.run("ofctl", node, "del-flows", bridge, match)


def differs(labs: Labs, *words: str) -> dict[str, Any]:
    found = trace(labs, *words, expect=4)
    assert found["verdict"].startswith("logic and reality differ"), found["verdict"]
    return found


def test_a_switch_that_does_not_answer_is_named_in_seconds(lab: Labs) -> None:
    with stopped(lab, "worker2", "/run/openvswitch/ovs-vswitchd.pid"):
        found = differs(lab, "vm1", "vm2")
    assert found["place"] == "worker2, ovs-vswitchd"
    assert "does not answer within" in found["cause"]
    assert "puts it out" not in found["verdict"]


def test_northd_that_is_paused(lab: Labs) -> None:
    lab.run("appctl", "central", "-t", "ovn-northd", "pause")
    try:
        found = trace(lab, "vm1", "vm2", expect=4)
    finally:
        lab.run("appctl", "central", "-t", "ovn-northd", "resume")
    assert found["verdict"].startswith("cannot be told, because central: ovn-northd is paused")


def test_a_controller_that_is_stopped_and_an_acl_that_is_new(lab: Labs) -> None:
    with stopped(lab, "worker2", "/run/ovn/ovn-controller.pid"):
        lab.run("nbctl", "--wait=sb", "acl-add", "network1", "to-lport", "1000", 'outport == "vm2" && ip4', "drop")
        found = differs(lab, "vm1", "vm2")
    lab.run("nbctl", "--wait=hv", "acl-del", "network1")
    assert found["place"] == "worker2, ovn-controller"
    assert "configuration" in found["cause"]


@pytest.mark.parametrize(
    ("table", "match", "source", "chassis"),
    [(20, "ip,nw_dst=192.168.0.12", "vm1", "worker1"), (44, "icmp,icmp_type=8", "vm1", "worker2")],
)
def test_a_flow_without_ovns_cookie(lab: Labs, table: int, match: str, source: str, chassis: str) -> None:
    with flow(lab, chassis, "br-int", f"table={table},{match}", "cookie=0xdeadbeef,priority=65000,"):
        found = differs(lab, source, "vm2")
        assert found["place"] == f"{chassis}, table {table}"
        assert "not of OVN" in found["cause"]
        assert "0xdeadbeef" in found["cause"]
        assert not trace(lab, source, "vm2", "--no-send", expect=4)["sent"]


def test_a_flow_of_table_0_that_takes_a_port(lab: Labs) -> None:
    with flow(lab, "worker1", "br-int", "table=0,in_port=vm1,icmp", "priority=200,"):
        found = differs(lab, "vm1", "vm2")
    assert found["place"] == "worker1, table 0"
    assert "not of OVN" in found["cause"]


def test_a_nics_bridge_that_drops_what_leaves(lab: Labs) -> None:
    with flow(lab, "worker1", "br-eth1", "udp,tp_dst=6081", "priority=100,"):
        assert differs(lab, "vm1", "vm2")["place"] == "worker1, br-eth1, table 0"


def test_a_port_that_does_not_forward(lab: Labs) -> None:
    lab.run("ofctl", "worker1", "mod-port", "br-eth1", "eth1", "no-forward")
    try:
        found = differs(lab, "vm1", "vm2")
    finally:
        lab.run("ofctl", "worker1", "mod-port", "br-eth1", "eth1", "forward")
    assert "OFPPC_NO_FWD" in found["cause"]


def test_a_port_that_does_not_receive(lab: Labs) -> None:
    lab.run("ofctl", "worker2", "mod-port", "br-eth1", "eth1", "no-receive")
    try:
        found = differs(lab, "vm1", "vm2")
    finally:
        lab.run("ofctl", "worker2", "mod-port", "br-eth1", "eth1", "receive")
    assert found["place"] == "worker2, br-eth1"


def test_a_tunnel_neighbour_that_is_wrong(lab: Labs) -> None:
    peer = lab.json("status")["nodes"]
    ip = next(node["ip"] for node in peer if node["name"] == "worker2")
    lab.run("appctl", "worker1", "tnl/neigh/set", "br-eth1", ip, "02:00:00:00:00:99")
    try:
        found = differs(lab, "vm1", "vm2", "--no-send")
    finally:
        mac = lab.on("worker2", "cat", "/sys/class/net/br-eth1/address").strip()
        lab.run("appctl", "worker1", "tnl/neigh/set", "br-eth1", ip, mac)
    assert "02:00:00:00:00:99" in found["cause"]


def test_encapsulations_that_do_not_meet(lab: Labs) -> None:
    lab.run("vsctl", "worker2", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-type=vxlan")
    lab.run("nbctl", "--wait=hv", "sync")
    try:
        found = differs(lab, "vm1", "vm2")
    finally:
        lab.run("up")
    assert found["place"] == "the tunnel from worker1 to worker2"


def test_ports_that_are_disabled(lab: Labs) -> None:
    lab.run("nbctl", "--wait=hv", "lsp-set-enabled", "vm2", "disabled")
    try:
        assert "logical switch port vm2 is disabled" in trace(lab, "vm2", "vm1", expect=4)["verdict"]
    finally:
        lab.run("nbctl", "--wait=hv", "lsp-set-enabled", "vm2", "enabled")
    lab.run("nbctl", "--wait=hv", "lrp-set-enabled", "router1-network2", "disabled")
    try:
        assert "router port router1-network2 is disabled" in trace(lab, "vm1", "vm3", expect=4)["verdict"]
    finally:
        lab.run("nbctl", "--wait=hv", "lrp-set-enabled", "router1-network2", "enabled")


def test_port_security_says_what_was_sent(lab: Labs) -> None:
    lab.on("vm1", "ip", "link", "set", "vm1", "address", "40:44:00:00:00:77")
    try:
        found = trace(lab, "vm1", "vm2")
    finally:
        lab.run("up")
    assert "vm1 sends from 40:44:00:00:00:77 192.168.0.11" in found["verdict"]


def test_sizes_and_counts(lab: Labs) -> None:
    whole = trace(lab, "vm1", "vm2", "--size", "1400", "--count", "5")
    assert whole["counted"] == {"sent": 5, "arrived": 5, "answered": 5}
    assert any("length 1408" in (hop["packet"] or "") for hop in whole["hops"])
    assert "invalid --size 1500: expected at most" in lab.run("trace", "vm1", "vm2", "--size", "1500", expect=2).stderr
    lab.on("worker2", "ip", "link", "set", "eth1", "mtu", "1300")
    try:
        assert trace(lab, "vm1", "vm2", "--size", "100", "--udp", "9")["agrees"]
        found = trace(lab, "vm1", "vm2", "--size", "1400", expect=4)
    finally:
        lab.on("worker2", "ip", "link", "set", "eth1", "mtu", "1500")
    assert found["place"] == "worker2:eth1", found["verdict"]
    assert "MTU 1300" in found["cause"]


def test_a_rate_that_is_limited_lets_the_first_packets_through(lab: Labs) -> None:
    lab.run(
        "nbctl", "--wait=hv", "qos-add", "network1", "from-lport", "100", 'inport == "vm1" && ip4', "rate=8", "burst=40"
    )
    try:
        found = trace(lab, "vm1", "vm2", "--size", "1000", "--count", "30", "--udp", "9", expect=4)
    finally:
        lab.run("nbctl", "--wait=hv", "qos-del", "network1")
    assert 0 < found["counted"]["arrived"] < 30, found["counted"]
    assert "of 30 packets" in found["verdict"]
