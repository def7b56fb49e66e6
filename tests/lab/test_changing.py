"""Changes of a running lab that once ended in a corner: each is made, told by --dry-run, and then there is nothing to do."""

from __future__ import annotations

import json

import pytest

from tests.lab.harness import TOPOLOGIES, Labs
from tests.lab.test_scenarios import answers


def change(labs: Labs, before: str, after: str) -> list[str]:
    """What `up` does to a lab of the first file that becomes one of the second."""
    labs.run("up", labs.write("lab.yaml", before))
    path = labs.write("lab.yaml", after)
    told = labs.json("up", path, "--dry-run")["steps"]
    done: list[str] = labs.json("up", path)["steps"]
    assert [step for step in done if "bind" not in step] == [step for step in told if "bind" not in step]
    assert labs.json("up", path)["steps"] == []
    return done


GROUP = """
physical_networks: {b: {subnet: 10.9.0.0/24}}
nodes: {c: {role: central}, g: {role: gateway, physical: [b]}}
logical:
  switches: {p: {physical_network: b}}
"""


def test_a_group_of_gateways_goes_with_what_used_it(user_labs: Labs) -> None:
    used = (
        GROUP
        + """
  routers: {r: {ports: {p: {ip: 10.9.0.1/24, ha_chassis_group: hg}}}}
  ha_chassis_groups: {hg: [g]}
"""
    )
    change(user_labs, used, GROUP)
    assert user_labs.rows("nbctl", "list", "HA_Chassis_Group") == []


def test_physical_networks_of_a_chassis_change_places(user_labs: Labs) -> None:
    text = """
physical_networks: {a: {subnet: 10.8.0.0/24}, b: {subnet: 10.9.0.0/24}}
nodes:
  c: {role: central}
  g: {role: gateway, physical: {a: 10.8.0.5, b: 10.9.0.5}}
  h: {role: host, physical: {b: 10.9.0.6}}
"""
    change(user_labs, text, text.replace("{a: 10.8.0.5, b: 10.9.0.5}", "{b: 10.9.0.5}"))
    user_labs.run("ping", "h", "10.9.0.5")
    change(user_labs, text, text.replace("{a: 10.8.0.5, b: 10.9.0.5}", "{b: 10.9.0.5, a: 10.8.0.5}"))
    user_labs.run("ping", "h", "10.9.0.5")
    change(user_labs, text, text.replace("b: {subnet", "b: {bridge: br-other, subnet"))
    user_labs.run("ping", "h", "10.9.0.5")


def test_one_rule_on_a_switch_and_on_a_group_of_its_name(user_labs: Labs) -> None:
    text = """
nodes: {c: {role: central}}
logical:
  switches: {web: {subnet: 10.0.0.0/24, ports: {v: }}}
  port_groups: {web: {ports: [v]}}
  acls:
    - {switch: web, direction: to-lport, priority: 1, match: ip4, action: drop}
    - {port_group: web, direction: to-lport, priority: 1, match: ip4, action: drop}
"""
    user_labs.run("up", user_labs.write("lab.yaml", text))
    assert len(user_labs.rows("nbctl", "list", "ACL")) == 2


@pytest.mark.parametrize("role", ["host", "relay", "central"])
def test_a_node_becomes_another_kind_of_machine(user_labs: Labs, role: str) -> None:
    text = "nodes: {c: {role: central}, w1: , w2: }\nlogical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {chassis: w1}}}}}\n"
    steps = change(user_labs, text, text.replace("w2: }", f"w2: {{role: {role}}}}}"))
    assert f"remove node w2: it becomes a {role}" in steps
    chassis = {row["name"] for row in user_labs.rows("sbctl", "list", "Chassis")}
    assert chassis == ({"c", "w1", "w2"} if role == "central" else {"c", "w1"})
    steps = change(user_labs, text.replace("w2: }", f"w2: {{role: {role}}}}}"), text)
    assert "remove node w2: it becomes a worker" in steps
    running = {d["name"] for n in user_labs.json("status")["nodes"] if n["name"] == "w2" for d in n["daemons"]}
    assert running == {"ovsdb-server", "ovs-vswitchd", "ovn-controller"}


def test_fake_vms_ask_again_when_the_answer_is_another(user_labs: Labs) -> None:
    text = """
nodes: {c: {role: central}}
logical:
  switches: {s: {subnet: 10.1.0.0/24, dhcp: true, ports: {v: {chassis: c}}}}
"""
    change(user_labs, text, text.replace("10.1.0.0/24", "10.7.0.0/24"))
    (link,) = json.loads(user_labs.on("v", "ip", "-j", "-4", "address", "show", "v"))
    assert [address["local"] for address in link["addr_info"]] == ["10.7.0.2"]
    change(user_labs, text, text + "  routers: {r: {ports: {s: {ip: 10.1.0.1/24}}}}\n")
    assert "default via 10.1.0.1" in user_labs.on("v", "ip", "route")
    change(user_labs, text, text.replace("dhcp: true, ", ""))
    assert "dhclient" not in user_labs.on("c", "sh", "-c", "cat /proc/[0-9]*/comm")


def test_a_host_stops_asking(user_labs: Labs) -> None:
    text = (TOPOLOGIES / "external-ports.yaml").read_text().split("checks:", maxsplit=1)[0]
    asks = text.replace("dhcp: true", "dhcp: {lease_time: 6}")
    steps = change(
        user_labs,
        asks,
        asks.replace("datacenter: dhcp}", "datacenter: 192.168.0.60}").replace(
            "{bridge", "{subnet: 192.168.0.0/24, bridge"
        ),
    )
    assert any("eth2 still asks for its address" in step for step in steps)
    assert "dhclient" not in user_labs.on("metal1", "sh", "-c", "cat /proc/[0-9]*/comm")
    user_labs.run("ping", "vm1", "192.168.0.60")
    moved = asks.replace("ip: 192.168.0.50", "ip: 192.168.0.51")
    steps = change(user_labs, asks, moved)
    assert any("OVN would tell it 192.168.0.51" in step for step in steps)


@pytest.mark.thorough
def test_default_routes_come_and_go_with_routers(user_labs: Labs) -> None:
    text = """
nodes: {c: {role: central}}
logical:
  switches:
    web: {subnet: ["fd00:1::/64", 10.1.0.0/24], ports: {a: {chassis: c}}}
    tagged: {subnet: 10.2.0.0/24, ports: {a-6: {parent: a, vlan: 6}}}
"""
    routed = text + '  routers: {r: {ports: {web: {ip: ["fd00:1::1/64", 10.1.0.1/24]}, tagged: {ip: 10.2.0.1/24}}}}\n'
    change(user_labs, text, routed)
    assert "default via 10.2.0.1 dev a.6" in user_labs.on("a", "ip", "route")
    assert "default via fd00:1::1" in user_labs.on("a", "ip", "-6", "route")
    change(user_labs, routed, text)
    assert "default" not in user_labs.on("a", "ip", "route") + user_labs.on("a", "ip", "-6", "route", "show", "default")
    result = user_labs.run("bind", "a-6", "c", expect=2)
    assert "a-6 is a VLAN device of a" in result.stderr


@pytest.mark.thorough
def test_an_address_set_that_a_rule_needs_does_not_go(user_labs: Labs) -> None:
    text = """
nodes: {c: {role: central}}
logical:
  switches: {web: }
  address_sets: {hosts: [10.0.0.1]}
  acls: [{switch: web, direction: to-lport, priority: 1, match: 'ip4.src == $hosts', action: drop}]
"""
    user_labs.run("up", user_labs.write("lab.yaml", text))
    result = user_labs.run("up", user_labs.write("lab.yaml", text.replace("{hosts:", "{machines:")), expect=2)
    assert "lab.yaml:6:65: OVN does not understand this match" in result.stderr
    assert [row["name"] for row in user_labs.rows("nbctl", "list", "Address_Set")] == ["hosts"]
    grouped = text.replace("$hosts'", "$both_ip4'").replace(
        "address_sets: {hosts: [10.0.0.1]}", "port_groups: {both: }"
    )
    user_labs.run("up", user_labs.write("lab.yaml", grouped))
    user_labs.run("nbctl", "create", "Address_Set", "name=by_hand", "addresses=10.0.0.9")
    user_labs.run("up", user_labs.write("lab.yaml", grouped.replace("$both_ip4", "$by_hand")))


def test_the_members_of_a_cluster_keep_their_addresses(user_labs: Labs) -> None:
    text = (TOPOLOGIES / "raft.yaml").read_text()
    user_labs.run("up", user_labs.write("raft.yaml", text))
    for other in (text.replace("192.168.50.12", "192.168.50.22"), text.replace("name: raft", "name: raft\ntls: true")):
        result = user_labs.run("up", user_labs.write("raft.yaml", other.split("checks:", maxsplit=1)[0]), expect=2)
        assert "is a member of a cluster, and cannot have another address or turn TLS on or off" in result.stderr
    assert user_labs.json("up", user_labs.write("raft.yaml", text))["steps"] == []


@pytest.mark.thorough
def test_nodes_with_long_names_that_begin_alike_have_nics_of_their_own(user_labs: Labs) -> None:
    text = """
physical_networks: {x: {subnet: 10.9.0.0/24}}
nodes:
  central: {role: central}
  compute-node1: {physical: {x: 10.9.0.1}}
  compute-node2: {physical: {x: 10.9.0.2}}
"""
    user_labs.run("up", user_labs.write("lab.yaml", text))
    assert answers(user_labs, "compute-node1", "10.9.0.2")
    change(user_labs, text, text.replace("  compute-node2: {physical: {x: 10.9.0.2}}\n", ""))
    change(user_labs, text, text)
    assert answers(user_labs, "compute-node1", "10.9.0.2")
