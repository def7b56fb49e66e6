"""Networks that are well, in which OVN chooses, floods, answers itself, or sends elsewhere: no difference is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_trace_back import trace

WAYS = """
physical_networks: {p1: {subnet: 10.1.0.0/24, bridge: br-1}, p2: {subnet: 10.2.0.0/24, bridge: br-2}}
nodes:
  central: {role: central, chassis: false}
  worker1: {}
  gwa: {role: gateway, physical: {p1: 10.1.0.46}}
  gwb: {role: gateway, physical: {p2: 10.2.0.46}}
  out: {role: host, physical: {p1: 10.1.0.1, p2: 10.2.0.1}}
logical:
  switches:
    n:
      subnet: 192.168.0.0/24
      ports:
        vm1: {ip: 192.168.0.11, chassis: worker1}
        vm2: {ip: 192.168.0.12, chassis: gwa}
        vm3: {ip: 192.168.0.13, chassis: gwb}
        p1a: {mac: "50:54:00:00:00:03", ip: 192.168.0.3, chassis: worker1}
        p1b: {mac: "50:54:00:00:00:04", ip: 192.168.0.4, chassis: gwa}
        vip: {type: virtual, mac: "50:54:00:00:00:10", ip: 192.168.0.10, parents: [p1a, p1b]}
    m:
      subnet: 192.168.1.0/24
      ports:
        client: {ip: 192.168.1.11, chassis: worker1}
        web1: {ip: 192.168.1.21, chassis: worker1, serve: [8080]}
        web2: {ip: 192.168.1.22, chassis: gwb, serve: [8080]}
    ext1: {physical_network: p1}
    ext2: {physical_network: p2}
  ha_chassis_groups: {ga: [gwa], gb: [gwb]}
  routers:
    r:
      ports:
        n: {ip: 192.168.0.1/24}
        m: {ip: 192.168.1.1/24}
        ext1: {ip: 10.1.0.45/24, ha_chassis_group: ga}
        ext2: {ip: 10.2.0.45/24, ha_chassis_group: gb}
      routes: [{prefix: 0.0.0.0/0, nexthop: [10.1.0.1, 10.2.0.1]}]
  load_balancers:
    web: {vip: "192.168.2.100:80", backends: ["192.168.1.21:8080", "192.168.1.22:8080"], switches: [n, m]}
"""

FLOATING = """
physical_networks: {external: {subnet: 10.0.0.0/24, bridge: br-ex}}
nodes:
  central: {role: central, chassis: false}
  worker1: {}
  gw1: {role: gateway, physical: {external: 10.0.0.46}}
  host1: {role: host, physical: {external: 10.0.0.48}}
logical:
  switches:
    net1:
      subnet: 172.20.25.0/24
      ports:
        vm1: {ip: 172.20.25.162, chassis: worker1, port_security: true}
        vm2: {ip: 172.20.25.163, chassis: gw1, port_security: true}
    public: {physical_network: external}
  routers:
    r:
      ports: {net1: {ip: 172.20.25.1/24}, public: {ip: 10.0.0.45/24, gateway_chassis: [gw1]}}
      nat:
        - {type: snat, external: 10.0.0.45, logical: 172.20.25.0/24}
        - {type: dnat_and_snat, external: 10.0.0.11, logical: 172.20.25.162}
        - {type: dnat_and_snat, external: 10.0.0.12, logical: 172.20.25.163}
"""


@pytest.fixture(scope="module")
def ways(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "trace-ways"):
        labs.run("up", labs.write("ways.yaml", WAYS))
        yield labs


@pytest.fixture(scope="module")
def floating(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "trace-floating"):
        labs.run("up", labs.write("floating.yaml", FLOATING))
        yield labs


def test_either_of_two_equal_routes_is_as_intended(ways: Labs) -> None:
    found = [trace(ways, "vm1", f"203.0.113.{number}") for number in range(1, 9)]
    assert {one["outcome"] for one in found} == {"left"}
    assert all("no answer" in one["verdict"] for one in found)
    taken = {note.partition("took this: ")[2] for one in found for note in one["notes"] if "took this" in note}
    assert taken <= {"next hop 10.1.0.1 by r-ext1", "next hop 10.2.0.1 by r-ext2"}
    assert taken


def test_who_sends_to_all_gets_no_copy(ways: Labs) -> None:
    for address in ("192.168.0.255", "224.0.0.77"):
        found = trace(ways, "vm2", address, "--udp", "9")
        assert found["verdict"] == "delivered as intended", found["verdict"]
        assert "vm2" not in {hop["place"] for hop in found["hops"] if hop["what"] == "received"}
        assert {"vm1", "vm3"} <= {hop["place"] for hop in found["hops"] if hop["what"] == "received"}


def test_a_virtual_address_that_nobody_has_and_then_somebody(ways: Labs) -> None:
    nobody = trace(ways, "client", "vip")
    assert nobody["verdict"] == "dropped as intended: nobody answers for 192.168.0.10"
    ways.on("p1b", "ip", "address", "add", "192.168.0.10/24", "dev", "p1b")
    try:
        found = trace(ways, "client", "vip")
    finally:
        ways.on("p1b", "ip", "address", "del", "192.168.0.10/24", "dev", "p1b")
    assert found["verdict"] == "delivered as intended", found["verdict"]
    assert [hop["place"] for hop in found["hops"] if hop["what"] == "received"] == ["p1b"]


def test_a_policy_that_reroutes_is_named(ways: Labs) -> None:
    ways.run("nbctl", "--wait=hv", "lr-policy-add", "r", "100", "ip4.src == 192.168.0.11", "reroute", "192.168.1.11")
    try:
        found = trace(ways, "vm1", "web1")
    finally:
        ways.run("nbctl", "--wait=hv", "lr-policy-del", "r", "100")
    assert found["verdict"].startswith("delivered to client, not to web1: by policy 100 of router r"), found["verdict"]
    assert "no answer came" in found["verdict"]


def test_any_backend_of_a_load_balancer(ways: Labs) -> None:
    for source in ("vm1", "client"):
        found = trace(ways, source, "192.168.2.100", "--tcp", "80")
        assert found["verdict"] == "delivered as intended", found["verdict"]
        assert found["answer"]["state"] == "came"
    pids = "for file in /run/ovnlab/*/serve.pid; do kill $(cat $file); done"
    ways.on("worker1", "sh", "-c", pids)
    ways.on("gwb", "sh", "-c", pids)
    refused = trace(ways, "vm1", "192.168.2.100", "--tcp", "80", expect=4)
    assert "refuses the connection" in refused["verdict"]
    ways.run("up")


def test_what_ovn_answers_itself(ways: Labs) -> None:
    assert trace(ways, "vm1", "192.168.0.1")["verdict"] == "answered as intended"
    arp = "arp.op == 1 && arp.spa == 192.168.0.11 && arp.tpa == 192.168.0.12 && eth.dst == ff:ff:ff:ff:ff:ff"
    assert trace(ways, "vm1", "vm2", "--expr", arp)["outcome"] == "answered"
    late = trace(ways, "vm1", "client", "--expr", "ip.ttl == 1")
    assert late["verdict"].startswith("answered as intended: ICMP time exceeded, from 192.168.0.1")


def test_a_host_without_a_route_back(ways: Labs) -> None:
    found = trace(ways, "vm1", "10.1.0.1", expect=4)
    assert "out has no route to 192.168.0.11" in found["verdict"]


def test_floating_addresses_there_and_back(floating: Labs) -> None:
    for words in (("host1", "10.0.0.11"), ("vm1", "10.0.0.12"), ("vm1", "10.0.0.11"), ("vm2", "host1")):
        found = trace(floating, *words)
        assert found["verdict"] == "delivered as intended", (words, found["verdict"])
        assert "echo reply" in found["answer"]["packet"]
    late = trace(floating, "host1", "10.0.0.11", "--expr", "ip.ttl == 1")
    assert late["verdict"] == "answered as intended: ICMP time exceeded, from 10.0.0.11"


def test_an_own_request_is_no_answer(floating: Labs) -> None:
    floating.run("nbctl", "--wait=hv", "acl-add", "net1", "to-lport", "1000", "icmp4.type == 0", "drop")
    try:
        for destination in ("10.0.0.11", "10.0.0.12"):
            found = trace(floating, "vm1", destination, expect=4)
            assert found["outcome"] == "delivered"
            assert "its answer is dropped by ACL" in found["verdict"], found["verdict"]
    finally:
        floating.run("nbctl", "--wait=hv", "acl-del", "net1")


def test_an_answer_that_is_translated_back_and_dropped(floating: Labs) -> None:
    floating.run(
        "nbctl", "--wait=hv", "acl-add", "net1", "from-lport", "1000", 'inport == "vm1" && icmp4.type == 0', "drop"
    )
    try:
        found = trace(floating, "host1", "10.0.0.11", expect=4)
    finally:
        floating.run("nbctl", "--wait=hv", "acl-del", "net1")
    assert "its answer is dropped by ACL" in found["verdict"], found["verdict"]


def test_a_router_that_asks_in_vain_for_who_is_there(floating: Labs) -> None:
    assert trace(floating, "vm1", "10.0.0.99")["verdict"] == "dropped as intended: nobody answers for 10.0.0.99"
    floating.run("sbctl", "--all", "destroy", "MAC_Binding")
    floating.run("ofctl", "gw1", "add-flow", "br-ex", "priority=50,arp,actions=drop")
    try:
        found = trace(floating, "vm1", "10.0.0.48", expect=4)
    finally:
        floating.run("ofctl", "gw1", "del-flows", "br-ex", "arp")
    assert found["place"] == "gw1, br-ex, table 0", found["verdict"]
    assert "not of OVN" in found["cause"]
