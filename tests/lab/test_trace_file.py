"""What the file says and the Northbound database does not: `ovnlab trace` never calls its loss intended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

TOPOLOGY = """
name: filed
nodes:
  central: {role: central, chassis: false}
  worker1: {}
  worker2: {}
logical:
  switches:
    net1:
      subnet: 192.168.0.0/24
      ports:
        vm1: {ip: 192.168.0.11, chassis: worker1}
    net2:
      subnet: 192.168.1.0/24
      ports:
        vm2: {ip: 192.168.1.12, chassis: worker2, serve: [22]}
    join: {subnet: 172.16.0.0/24}
  address_sets:
    trusted: [192.168.0.0/24]
  routers:
    left:
      ports: {net1: {ip: 192.168.0.1/24}, join: {ip: 172.16.0.1/24}}
      routes: [{prefix: 0.0.0.0/0, nexthop: 172.16.0.2}]
    right:
      ports: {net2: {ip: 192.168.1.1/24}, join: {ip: 172.16.0.2/24}}
      routes: [{prefix: 192.168.0.0/24, nexthop: 172.16.0.1}]
  acls:
    - {switch: net2, direction: to-lport, priority: 1000, match: 'tcp.dst == 22 && ip4.src == $trusted', action: allow-related}
    - {switch: net2, direction: to-lport, priority: 900, match: 'tcp.dst == 22', action: drop}
  qos:
    - {switch: net1, direction: from-lport, priority: 10, match: 'inport == "vm1"', rate: 100000}
  load_balancers:
    web: {vip: "172.30.0.1:80", backends: ["192.168.1.12:22"], switches: [net1]}
  rows:
    ACL:
      discarded: {direction: from-lport, priority: 500, match: 'udp.dst == 9', action: drop}
    Logical_Switch:
      net1: {acls: [discarded]}
"""


@pytest.fixture(scope="module")
def filed(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "test-trace-file"):
        labs.run("up", labs.write("filed.yaml", TOPOLOGY))
        yield labs


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(TOPOLOGY.splitlines(), 1) if text in line)


def drifted(labs: Labs, breaking: tuple[str, ...], *words: str) -> dict[str, Any]:
    """A trace while a row is not as the file has it, which `up` mends."""
    labs.run("nbctl", "--wait=hv", *breaking)
    try:
        found: dict[str, Any] = labs.json("trace", *words, expect=4)
    finally:
        labs.run("up", str(labs.scratch / "filed.yaml"))
    assert "as intended" not in found["verdict"]
    assert found["hint"] == f"ovnlab up {labs.scratch / 'filed.yaml'}"
    assert found["causes"][0]["cause"] == "northbound-drift"
    assert found["causes"][0]["certainty"] == "certain"
    return found


def test_a_route_of_the_file_that_is_gone_is_named_with_its_line(filed: Labs) -> None:
    found = drifted(filed, ("lr-route-del", "left", "0.0.0.0/0"), "vm1", "vm2")
    assert found["place"] == "static route left 0.0.0.0/0 via 172.16.0.2"
    assert f"filed.yaml:{line_of('nexthop: 172.16.0.2')}:" in found["cause"]


@pytest.mark.thorough
def test_an_address_set_that_was_emptied_is_named_where_an_acl_drops(filed: Labs) -> None:
    found = drifted(filed, ("clear", "Address_Set", "trusted", "addresses"), "vm1", "vm2", "--tcp", "22")
    assert found["place"] == "address set trusted"


@pytest.mark.thorough
def test_a_load_balancer_of_the_file_that_is_gone_is_named(filed: Labs) -> None:
    found = drifted(filed, ("lb-del", "web"), "vm1", "172.30.0.1", "--tcp", "80")
    assert found["place"] == "load balancer web"


@pytest.mark.thorough
def test_a_difference_elsewhere_does_not_explain_what_the_file_itself_drops(filed: Labs) -> None:
    filed.run("nbctl", "--wait=hv", "lr-route-del", "right", "192.168.0.0/24")
    try:
        found = json.loads(filed.run("trace", "vm2", "192.168.9.9", "--json", expect=None).stdout)
    finally:
        filed.run("up", str(filed.scratch / "filed.yaml"))
    assert found["place"] != "static route right 192.168.0.0/24 via 172.16.0.1"


def test_a_row_by_hand_is_called_so(filed: Labs) -> None:
    filed.run("nbctl", "--wait=hv", "lr-route-add", "left", "192.168.1.12/32", "discard")
    try:
        found = filed.json("trace", "vm1", "vm2")
    finally:
        filed.run("nbctl", "--wait=hv", "lr-route-del", "left", "192.168.1.12/32")
    assert re.search(r"as intended, by static route 192.168.1.12 via discard \w{8}; made by hand", found["verdict"])


def test_a_row_in_the_words_of_the_schema_is_of_the_file(filed: Labs) -> None:
    found = filed.json("trace", "vm1", "vm2", "--udp", "9")
    assert found["verdict"].startswith("dropped as intended, by ACL ")
    assert "made by hand" not in found["verdict"]


@pytest.mark.thorough
def test_rules_of_the_file_that_are_gone_are_told_of_what_arrives(filed: Labs) -> None:
    filed.run("nbctl", "--wait=hv", "acl-del", "net2")
    try:
        found = filed.json("trace", "vm1", "vm2", "--tcp", "22")
    finally:
        filed.run("up", str(filed.scratch / "filed.yaml"))
    assert "not all that the file says is there: ACL net2 to-lport" in found["verdict"]


def test_routes_and_load_balancers_have_their_line_beside_their_stage(filed: Labs) -> None:
    found = filed.json("trace", "vm1", "172.30.0.1", "--tcp", "80")
    assert found["verdict"] == "delivered as intended"
    rows = {
        stage["northbound"]["table"]: stage["northbound"]["place"]
        for section in found["logical"]
        for stage in section["stages"]
        if stage["northbound"]
    }
    lines = {
        "Logical_Router_Static_Route": "nexthop: 172.16.0.2",
        "Load_Balancer": "172.30.0.1:80",
        "QoS": "rate: 100000",
        "ACL": "ip4.src == $trusted",
    }
    for table, text in lines.items():
        assert f"filed.yaml:{line_of(text)}:" in rows.get(table, ""), rows
    shown = filed.out("trace", "vm1", "172.30.0.1", "--tcp", "80")
    assert f"filed.yaml:{line_of('nexthop: 172.16.0.2')}:" in shown
