"""What a person did by hand stays: columns, keys, fake VMs, and the addresses that a lab has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.harness import Account, Labs
from tests.lab.shared import Share

TEXT = """
nodes: {central: {role: central}, worker1: , worker2: }
logical:
  switches:
    net:
      subnet: 10.1.0.0/24
      dhcp: {lease_time: 600}
      dns: {web: 10.1.0.11}
      ports:
        a: {chassis: worker1}
        b: {chassis: worker2}
        c: {ip: 10.1.0.30, port_security: true, options: {mcast_flood: "true"}}
  routers:
    r: {ports: {net: {ip: 10.1.0.1/24}}}
  load_balancers:
    web: {vip: "10.1.0.100:80", backends: ["10.1.0.30:80"], switches: [net]}
"""

NOTHING = "lab hand is up: nothing to do\n"


@pytest.fixture
def hand(ordinary: Account, share: Share) -> Labs:
    return share(ordinary, "hand", TEXT)


@pytest.fixture
def path(hand: Labs) -> str:
    return str(hand.scratch / "hand.yaml")


def column(labs: Labs, table: str, name: str, column: str) -> Any:
    (row,) = labs.rows("nbctl", f"--columns={column}", "list", table, name)
    return row[column]


def addresses(labs: Labs, name: str) -> str:
    return str(column(labs, "Logical_Switch_Port", name, "addresses"))


def chassis_of(labs: Labs, name: str) -> str | None:
    return next((port["chassis"] for port in labs.json("status")["ports"] if port["name"] == name), None)


def test_columns_and_keys_that_the_file_does_not_name_stay(hand: Labs, path: str) -> None:
    hand.run("nbctl", "lsp-set-port-security", "a", "0a:00:00:00:00:99",
             "--", "lsp-set-enabled", "c", "disabled",
             "--", "set", "Logical_Switch_Port", "c", "options:mine=yes", "options:mcast_flood=false",
             "--", "lsp-set-dhcpv4-options", "c",
             "--", "lb-add", "web", "10.1.0.101:80", "10.1.0.30:80",
             "--", "set", "Logical_Router", "r", "options:mac_binding_age_threshold=60",
             "--", "set", "Logical_Router_Port", "r-net", "ipv6_ra_configs:mtu=1300", "enabled=true")  # fmt: skip
    (records,) = hand.rows("nbctl", "--columns=_uuid", "list", "DNS")
    hand.run("nbctl", "set", "DNS", records["_uuid"][1], "records:mine=10.1.0.77", "records:web=10.1.0.78")
    steps = hand.json("up", path)["steps"]
    assert [step for step in steps if "logical switch port c" not in step] == [
        "change DNS records net: records:web: 10.1.0.78 → 10.1.0.11"
    ]
    (port,) = [step for step in steps if "logical switch port c" in step]
    assert "options:mcast_flood: false → true" in port
    assert "dhcpv4_options: not set → net 10.1.0.0/24" in port
    assert hand.out("up", path) == NOTHING
    assert column(hand, "Logical_Switch_Port", "a", "port_security") == "0a:00:00:00:00:99"
    assert column(hand, "Logical_Switch_Port", "c", "enabled") is False
    assert dict(column(hand, "Logical_Switch_Port", "c", "options")[1]) == {"mine": "yes", "mcast_flood": "true"}
    assert dict(column(hand, "DNS", records["_uuid"][1], "records")[1]) == {"mine": "10.1.0.77", "web": "10.1.0.11"}
    assert set(dict(column(hand, "Load_Balancer", "web", "vips")[1])) == {"10.1.0.100:80", "10.1.0.101:80"}
    changed = TEXT.replace(', port_security: true, options: {mcast_flood: "true"}', "").replace("dns:", "#")
    steps = hand.json("up", hand.write("hand.yaml", changed))["steps"]
    assert any("options:mcast_flood: true → not set; port_security: " in step for step in steps) or any(
        "port_security: " in step and "options:mcast_flood: true → not set" in step for step in steps
    )
    assert dict(column(hand, "Logical_Switch_Port", "c", "options")[1]) == {"mine": "yes"}
    assert column(hand, "Logical_Switch_Port", "c", "enabled") is False
    assert hand.out("up", path) == NOTHING


def test_fake_vms_that_the_file_does_not_name_stay_bound(hand: Labs, path: str) -> None:
    hand.run("bind", "mine", "worker1", "--network", "net")
    hand.run("nbctl", "ls-add", "theirs", "--", "lsp-add", "theirs", "x")
    hand.run("nbctl", "lsp-set-addresses", "x", "0a:00:00:00:00:01 10.9.0.1")
    hand.run("bind", "x", "worker2", "--ip", "10.9.0.1/24")
    hand.run("exec", "x", "--", "ip", "address", "add", "10.9.0.7/24", "dev", "x")
    assert hand.out("up", path) == NOTHING
    hand.run("nbctl", "--wait=hv", "lsp-del", "x")  # whoever manages OVN makes its ports anew
    assert hand.out("up", path) == NOTHING
    assert "10.9.0.7" in hand.on("x", "ip", "address")
    hand.run("nbctl", "lsp-add", "theirs", "x", "--", "lsp-set-addresses", "x", "0a:00:00:00:00:01 10.9.0.1")
    hand.run("ping", "a", "mine")
    assert (chassis_of(hand, "x"), chassis_of(hand, "mine")) == ("worker2", "worker1")
    steps = hand.json("up", path, "--prune")["steps"]
    assert steps == [
        "remove logical switch port mine: the topology does not name it",
        "unbind mine from worker1",
        "unbind x from worker2",
    ]
    assert chassis_of(hand, "x") is None
    assert "port x" in hand.out("nbctl", "show", "theirs")
    assert hand.out("up", path) == NOTHING
    hand.run("nbctl", "ls-del", "theirs")


def test_addresses_that_a_lab_has_stay(hand: Labs, path: str) -> None:
    had = {name: addresses(hand, name) for name in "abc"}
    nodes = {node["name"]: node["ip"] for node in hand.json("status")["nodes"]}
    hand.run("bind", "mine", "worker1", "--network", "net")
    assert addresses(hand, "mine").endswith(" 10.1.0.4")
    hand.run("nbctl", "lsp-add", "net", "person", "--", "lsp-set-addresses", "person", "0a:00:00:00:00:05 10.1.0.5")
    hand.run("nbctl", "lb-add", "other", "10.1.0.6:80", "10.1.0.30:80")
    hand.run("nbctl", "lr-nat-add", "r", "dnat_and_snat", "10.1.0.7", "10.1.0.30")
    grown = TEXT.replace("        a:", "        new: {chassis: worker1}\n        a:").replace(
        "worker1: ,", "worker0: , worker1: ,"
    )
    steps = hand.json("up", hand.write("hand.yaml", grown))["steps"]
    assert "add logical switch port new: it is missing" in steps
    assert not [step for step in steps if step.startswith(("change", "configure", "unbind"))], steps
    assert {name: addresses(hand, name) for name in "abc"} == had
    assert addresses(hand, "new").endswith(" 10.1.0.8")
    assert {node["name"]: node["ip"] for node in hand.json("status")["nodes"]} == nodes | {"worker0": "192.168.50.5"}
    hand.run("ping", "new", "b")
    assert hand.out("up", path) == NOTHING
    hand.run("nbctl", "lsp-set-addresses", "b", "0a:00:00:00:00:0b 10.1.0.50")
    assert hand.json("up", path)["steps"][-1] == "bind b to worker2"
    assert "10.1.0.50/24" in hand.on("b", "ip", "address")
    hand.run("ping", "new", "b")
    hand.run("nbctl", "set", "Logical_Switch_Port", "person", 'addresses="0a:00:00:00:00:05 10.1.0.50"')  # not free now
    assert any("logical switch port b: addresses" in step for step in hand.json("up", path)["steps"])
    hand.run(
        "nbctl", "lsp-del", "person", "--", "lb-del", "other", "--", "lr-nat-del", "r", "dnat_and_snat", "10.1.0.7"
    )
    hand.run("unbind", "mine")
