"""Answers that are lost: `ovnlab trace` follows them, and names what takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

TOPOLOGY = """
nodes:
  central: {role: central, chassis: false}
  worker1: {}
  worker2: {}
logical:
  switches:
    network1:
      subnet: 192.168.0.0/24
      ports:
        vm1: {mac: "40:44:00:00:00:01", ip: 192.168.0.11, chassis: worker1, port_security: true}
        vm2: {mac: "40:44:00:00:00:02", ip: 192.168.0.12, chassis: worker2, serve: [80]}
    network2:
      subnet: 192.168.1.0/24
      ports:
        vm3: {mac: "40:44:00:00:00:03", ip: 192.168.1.13, chassis: worker2}
  routers:
    router1:
      ports:
        network1: {ip: 192.168.0.1/24}
        network2: {ip: 192.168.1.1/24}
"""


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab for all that breaks it: each test puts back what it broke."""
    for labs in labs_in(ordinary, session_folder / "trace-back"):
        labs.run("up", labs.write("back.yaml", TOPOLOGY))
        yield labs


def trace(labs: Labs, *words: str, expect: int = 0) -> dict[str, Any]:
    return labs.json("trace", *words, expect=expect)


def lost(labs: Labs, *words: str) -> dict[str, Any]:
    """A trace of a packet that arrives and whose answer does not: never 'as intended'."""
    found = trace(labs, *words, expect=4)
    assert found["outcome"] == "delivered"
    assert found["answer"]["state"] == "none"
    assert "as intended" not in found["verdict"]
    return found


def test_an_answer_that_comes_is_told(lab: Labs) -> None:
    found = trace(lab, "vm1", "vm3")
    assert found["answer"]["state"] == "came"
    assert "192.168.1.13 > 192.168.0.11: ICMP echo reply" in found["answer"]["packet"]
    assert "answer   came: 192.168.1.13" in lab.out("trace", "vm1", "vm3", "--summary")


def test_a_connection_is_accepted_or_refused(lab: Labs) -> None:
    accepted = trace(lab, "vm1", "vm2", "--tcp", "80")
    assert accepted["answer"]["state"] == "came"
    refused = trace(lab, "vm1", "vm2", "--tcp", "81")
    assert refused["answer"]["state"] == "refused"
    assert refused["verdict"].endswith("vm2 (192.168.0.12) refuses the connection: nothing listens on that TCP port")


def test_a_server_of_the_file_that_is_gone(lab: Labs) -> None:
    lab.on("worker2", "sh", "-c", "kill $(cat /run/ovnlab/vm2/serve.pid)")
    found = trace(lab, "vm1", "vm2", "--tcp", "80", expect=4)
    assert "vm2 (192.168.0.12) refuses the connection" in found["verdict"]
    lab.run("up")


def test_udp_is_answered_for_the_receiver(lab: Labs) -> None:
    """What a program would answer is sent for it where none does: an ACL that takes it is found."""
    refused = trace(lab, "vm1", "vm2", "--udp", "53")
    assert refused["answer"]["state"] == "refused"
    lab.run(
        "nbctl", "--wait=hv", "acl-add", "network1", "from-lport", "1000", 'inport == "vm2" && (udp || icmp4)', "drop"
    )
    try:
        found = lost(lab, "vm1", "vm2", "--udp", "53")
        assert found["answer"]["decision"]["table"] == "ACL"
    finally:
        lab.run("nbctl", "--wait=hv", "acl-del", "network1")


def test_an_acl_that_drops_the_answer(lab: Labs) -> None:
    match = 'inport == "vm2" && icmp4.type == 0'
    lab.run("nbctl", "--wait=hv", "--name=no-replies", "acl-add", "network1", "from-lport", "1000", match, "drop")
    try:
        found = lost(lab, "vm1", "vm2")
    finally:
        lab.run("nbctl", "--wait=hv", "acl-del", "network1")
    assert "its answer is dropped by ACL no-replies" in found["verdict"]
    assert [(hop["what"], hop["seen"]) for hop in found["answer"]["hops"]][:1] == [("sent", True)]


def test_a_receiver_without_a_route_back(lab: Labs) -> None:
    lab.on("vm3", "ip", "route", "del", "default")
    try:
        found = lost(lab, "vm1", "vm3")
        assert (found["place"], "vm3 has no route to 192.168.0.11" in found["cause"]) == ("vm3", True), found["verdict"]
        unsent = trace(lab, "vm3", "vm1", expect=4)
        assert unsent["verdict"].startswith("nothing is sent: vm3 has no route to 192.168.0.11")
    finally:
        lab.run("up")


def test_a_receiver_that_ignores_pings(lab: Labs) -> None:
    lab.on("vm2", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    try:
        found = lost(lab, "vm1", "vm2")
    finally:
        lab.on("vm2", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
    assert found["place"] == "vm2"
    assert "icmp_echo_ignore_all" in found["cause"]


def test_a_flow_of_a_nics_bridge_that_drops_what_comes_back(lab: Labs) -> None:
    flow = "udp,in_port=eth1,tp_dst=6081"
    lab.run("ofctl", "worker1", "add-flow", "br-eth1", f"priority=100,{flow},actions=drop")
    try:
        found = lost(lab, "vm1", "vm2")
        assert found["place"] == "worker1, br-eth1, table 0", found["verdict"]
        assert "priority 100" in found["cause"]
        assert [hop["seen"] for hop in found["answer"]["hops"]] == [True, True, True, False]
    finally:
        lab.run("ofctl", "worker1", "del-flows", "br-eth1", flow)


def test_a_neighbour_that_is_wrong(lab: Labs) -> None:
    lab.on(
        "vm2", "ip", "neigh", "replace", "192.168.0.11", "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "vm2"
    )
    try:
        found = lost(lab, "vm1", "vm2")
        assert found["place"] == "vm2, its neighbour 192.168.0.11", found["verdict"]
        wrong = trace(lab, "vm2", "vm1", expect=4)
        assert "vm2 has 02:00:00:00:00:99 as MAC address of 192.168.0.11" in wrong["cause"]
    finally:
        lab.on("vm2", "ip", "neigh", "del", "192.168.0.11", "dev", "vm2")


def test_arp_that_an_acl_drops(lab: Labs) -> None:
    """A probe needs no ARP, a kernel does: the two are compared."""
    lab.run("nbctl", "--wait=hv", "acl-add", "network1", "from-lport", "1000", 'inport == "vm1" && arp', "drop")
    lab.on("vm1", "ip", "neigh", "flush", "all")
    try:
        found = lost(lab, "vm1", "vm2")
    finally:
        lab.run("nbctl", "--wait=hv", "acl-del", "network1")
    assert "vm1 asks for the MAC address of 192.168.0.12" in found["verdict"]
    assert "its ARP request is dropped by ACL" in found["verdict"]


def test_a_mac_address_that_ovn_has_wrong(lab: Labs) -> None:
    lab.run("nbctl", "--wait=hv", "lsp-set-addresses", "vm2", "40:44:00:00:00:77 192.168.0.12")
    try:
        found = lost(lab, "vm1", "vm2")
    finally:
        lab.run("nbctl", "--wait=hv", "lsp-set-addresses", "vm2", "40:44:00:00:00:02 192.168.0.12")
        lab.on("vm1", "ip", "neigh", "flush", "all")
    assert "it is for MAC address 40:44:00:00:00:77" in found["cause"]


def test_large_packets_that_are_lost(lab: Labs) -> None:
    lab.on("worker2", "ip", "link", "set", "eth1", "mtu", "1300")
    try:
        found = lost(lab, "vm1", "vm2")
    finally:
        lab.on("worker2", "ip", "link", "set", "eth1", "mtu", "1500")
    assert found["place"] == "worker2:eth1"
    assert "MTU 1300" in found["cause"]


def test_causes_stand_under_the_verdict(lab: Labs) -> None:
    lab.on("vm2", "ip", "link", "set", "vm2", "down")
    try:
        shown = lab.run("trace", "vm1", "vm2", expect=4).stdout
    finally:
        lab.run("up")
    verdict = shown[shown.index("verdict  ") :]
    assert "vm2 on worker2: its interface is down" in verdict
    assert "\ncause    " in verdict
