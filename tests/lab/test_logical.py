"""The logical network beyond the shipped scenarios: every kind of row, with what it does to packets."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.harness import TOPOLOGIES, Labs
from tests.lab.test_scenarios import Capture, answers, bound_to, eventually, kill_node

NODES = """
nodes:
  central: {role: central}
  worker1: {physical: [external]}
  worker2: {physical: [external]}
  gw1: {role: gateway, physical: [external]}
  gw2: {role: gateway, physical: [external]}
  host1: {role: host, physical: {external: 10.0.0.48}, routes: [{prefix: 192.168.0.0/16, nexthop: 10.0.0.45}]}
physical_networks:
  external: {subnet: 10.0.0.0/24, bridge: br-ex}
"""


def rows(labs: Labs, table: str, *condition: str) -> list[dict[str, object]]:
    return labs.rows("nbctl", "find", table, *condition)


def test_a_virtual_address_is_where_its_owner_says(user_labs: Labs) -> None:
    text = """
    nodes: {central: {role: central}, worker1: , worker2: }
    logical:
      switches:
        network1:
          subnet: 192.168.0.0/24
          ports:
            vm1: {ip: 192.168.0.11, chassis: worker1}
            vm2: {ip: 192.168.0.12, chassis: worker2}
            vm3: {ip: 192.168.0.13, chassis: worker2}
            vip: {type: virtual, ip: 192.168.0.100, parents: [vm1, vm2]}
    """
    user_labs.run("up", user_labs.write("virtual.yaml", text))
    assert "vip" not in [port["name"] for port in user_labs.json("status")["ports"] if port["chassis"]]
    for owner, chassis, other in (("vm1", "worker1", "vm2"), ("vm2", "worker2", "vm1")):
        user_labs.on(other, "ip", "address", "flush", "to", "192.168.0.100")
        user_labs.on(owner, "ip", "address", "add", "192.168.0.100/24", "dev", owner)
        # What a VRRP daemon would do: say whose the address is now.
        user_labs.on(
            owner,
            "sh",
            "-c",
            "echo 1 >/proc/sys/net/ipv4/conf/$0/arp_notify; ip link set $0 address $(cat /sys/class/net/$0/address)",
            owner,
        )
        user_labs.run("exec", owner, "--", "ping", "-c1", "-W1", "-I", "192.168.0.100", "192.168.0.13", expect=None)
        eventually(f"{owner} to have it", lambda chassis=chassis: bound_to(user_labs, "logical_port=vip") == chassis)  # type: ignore[misc]
        eventually("an answer", lambda: answers(user_labs, "vm3", "192.168.0.100"))


def test_qos_limits_what_matches(user_labs: Labs) -> None:
    text = """
    nodes: {central: {role: central}, worker1: , worker2: }
    logical:
      switches:
        network1:
          subnet: 192.168.0.0/24
          ports:
            vm1: {ip: 192.168.0.11, chassis: worker1}
            vm2: {ip: 192.168.0.12, chassis: worker2}
      qos:
        - {switch: network1, direction: from-lport, priority: 100, match: 'inport == "vm1" && icmp4', rate: 100, burst: 100}
        - {switch: network1, direction: to-lport, priority: 100, match: 'outport == "vm2" && tcp', dscp: 10}
    """
    path = user_labs.write("qos.yaml", text)
    user_labs.run("up", path)

    def received() -> int:
        shown = user_labs.run(
            "exec", "vm1", "--", "ping", "-q", "-s1400", "-c60", "-i0.01", "-W1", "192.168.0.12", expect=None
        ).stdout
        return int(re.search(r"(\d+) received", shown)[1])  # type: ignore[index]

    assert received() < 45
    user_labs.run(
        "up", user_labs.write("qos.yaml", text.replace("rate: 100, burst: 100", "rate: 100000, burst: 10000"))
    )
    assert received() == 60
    flows = user_labs.out("ofctl", "worker2", "dump-flows", "br-int")
    assert "mod_nw_tos:40" in flows or "set_field:10->ip_dscp" in flows or "load:0xa->NXM_OF_IP_TOS" in flows


def test_a_gateway_router_is_all_on_its_chassis_and_moves(user_labs: Labs) -> None:
    text = (
        NODES
        + """
logical:
  switches:
    network1:
      subnet: 192.168.0.0/24
      ports: {vm1: {ip: 192.168.0.11, chassis: worker1}}
    join: {subnet: 100.64.0.0/24}
    public: {physical_network: external}
  routers:
    router1:
      ports: {network1: {ip: 192.168.0.1/24}, join: {ip: 100.64.0.1/24}}
      routes: [{prefix: 0.0.0.0/0, nexthop: 100.64.0.2}]
    edge:
      chassis: gw1
      ports: {join: {ip: 100.64.0.2/24}, public: {ip: 10.0.0.45/24}}
      routes: [{prefix: 192.168.0.0/24, nexthop: 100.64.0.1}]
      nat: [{type: snat, external: 10.0.0.45, logical: 192.168.0.0/24}]
"""
    )
    user_labs.run("up", user_labs.write("edge.yaml", text))
    assert bound_to(user_labs, "logical_port=edge-public") == "gw1"
    user_labs.run("ping", "vm1", "host1")
    capture = Capture(user_labs, "gw2", "eth2", "icmp")
    steps = user_labs.json("up", user_labs.write("edge.yaml", text.replace("chassis: gw1", "chassis: gw2")))["steps"]
    assert steps == ["change logical router edge: options:chassis: gw1 → gw2"]
    eventually("an answer through gw2", lambda: answers(user_labs, "vm1", "10.0.0.48"))
    assert any("10.0.0.45 > 10.0.0.48: ICMP echo request" in line for line in capture.lines())


@pytest.mark.thorough
def test_an_ha_chassis_group_for_a_router_port(user_labs: Labs) -> None:
    text = (
        NODES
        + """
logical:
  switches:
    network1: {subnet: 192.168.0.0/24, ports: {vm1: {ip: 192.168.0.11, chassis: worker1}}}
    public: {physical_network: external}
  routers:
    router1:
      ports:
        network1: {ip: 192.168.0.1/24}
        public: {ip: 10.0.0.45/24, ha_chassis_group: gateways}
      nat: [{type: snat, external: 10.0.0.45, logical: 192.168.0.0/24}]
  ha_chassis_groups: {gateways: [gw2, gw1]}
"""
    )
    path = user_labs.write("group.yaml", text)
    user_labs.run("up", path)
    assert bound_to(user_labs, "type=chassisredirect") == "gw2"
    user_labs.run("ping", "vm1", "host1")
    kill_node(user_labs, "group", "gw2")
    eventually("gw1 to take over", lambda: answers(user_labs, "vm1", "10.0.0.48"))
    assert bound_to(user_labs, "type=chassisredirect") == "gw1"
    user_labs.run("up", path)
    eventually("gw2 to take it back", lambda: bound_to(user_labs, "type=chassisredirect") == "gw2")
    swapped = user_labs.write("group.yaml", text.replace("[gw2, gw1]", "[gw1, gw2]"))
    steps = user_labs.json("up", swapped)["steps"]
    assert "change HA chassis gateways gw1: priority: 1 → 2" in steps
    eventually("gw1 to have it", lambda: bound_to(user_labs, "type=chassisredirect") == "gw1")
    eventually("an answer", lambda: answers(user_labs, "vm1", "10.0.0.48"))


def test_redirect_type_bridged_reaches_the_gateway_without_a_tunnel(user_labs: Labs) -> None:
    text = (
        NODES.replace("bridge: br-ex}", "bridge: br-ex, chassis_macs: true}")
        + """
logical:
  switches:
    network1:
      subnet: 192.168.0.0/24
      physical_network: external
      vlan: 100
      ports: {vm1: {ip: 192.168.0.11, chassis: worker1}}
    public: {physical_network: external}
  routers:
    router1:
      ports:
        network1: {ip: 192.168.0.1/24, options: {reside-on-redirect-chassis: "false"}}
        public: {ip: 10.0.0.45/24, gateway_chassis: [gw1], redirect_type: bridged}
"""
    )
    user_labs.run("up", user_labs.write("bridged.yaml", text))
    (port,) = rows(user_labs, "Logical_Router_Port", "name=router1-public")
    assert dict(port["options"][1])["redirect-type"] == "bridged"  # type: ignore[index]
    capture = Capture(user_labs, "worker1", "eth1", "udp port 6081 and greater 130")
    eventually("an answer", lambda: answers(user_labs, "vm1", "10.0.0.48"))
    user_labs.run("ping", "vm1", "10.0.0.48", "-c", "5", "-s", "200")
    assert [line for line in capture.lines() if "192.168.0.11 > 10.0.0.48: ICMP echo request" in line] == []


def test_ecmp_routes_share_flows(user_labs: Labs) -> None:
    text = """
nodes: {central: {role: central}, worker1: , worker2: }
logical:
  switches:
    network1: {subnet: 192.168.0.0/24, ports: {vm1: {ip: 192.168.0.11, chassis: worker1}}}
    left: {subnet: 10.1.0.0/24}
    right: {subnet: 10.2.0.0/24}
    network2: {subnet: 192.168.2.0/24, ports: {vm2: {ip: 192.168.2.12, chassis: worker2}}}
  routers:
    near:
      ports: {network1: {ip: 192.168.0.1/24}, left: {ip: 10.1.0.1/24}, right: {ip: 10.2.0.1/24}}
      routes: [{prefix: 192.168.2.0/24, nexthop: [10.1.0.2, 10.2.0.2]}]
    far:
      ports: {network2: {ip: 192.168.2.1/24}, left: {ip: 10.1.0.2/24}, right: {ip: 10.2.0.2/24}}
      routes: [{prefix: 192.168.0.0/24, nexthop: [10.1.0.1, 10.2.0.1]}]
"""
    path = user_labs.write("ecmp.yaml", text)
    user_labs.run("up", path)
    assert user_labs.out("nbctl", "lr-route-list", "near").count("ecmp") == 2
    user_labs.run("ping", "vm1", "vm2")
    script = 'for port in $(seq 9001 9024); do bash -c "exec 3<>/dev/tcp/192.168.2.12/$port" 2>/dev/null; done; true'
    user_labs.on("vm1", "sh", "-c", script)
    groups = user_labs.out("ofctl", "worker1", "dump-group-stats", "br-int")
    buckets = [int(count) for count in re.findall(r"bucket\d+:packet_count=(\d+)", groups)]
    assert sum(count >= 3 for count in buckets) >= 2, groups
    one = text.replace("nexthop: [10.1.0.2, 10.2.0.2]", "nexthop: 10.2.0.2")
    steps = user_labs.json("up", user_labs.write("ecmp.yaml", one))["steps"]
    assert steps == [
        "remove static route near 192.168.2.0/24 via 10.1.0.2: the topology does not have it any more",
    ]
    user_labs.run("ping", "vm1", "vm2")


CONVERGING = """
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    network1:
      subnet: 192.168.0.0/24
      other_config: {mcast_snoop: "true"}
      ports:
        vm1: {ip: 192.168.0.11, chassis: worker1, options: {requested-tnl-key: "77"}}
        vm2: {ip: 192.168.0.12, port_security: true}
  acls:
    - {switch: network1, direction: to-lport, priority: 10, match: tcp, action: drop}
  address_sets: {some: [10.0.0.1, 10.0.0.2]}
  port_groups: {both: {ports: [vm1, vm2]}}
  load_balancers:
    web: {vip: "10.9.9.9:80", backends: ["192.168.0.11:80"], switches: [network1]}
"""


def test_a_dry_run_tells_what_is_added_changed_and_removed_and_does_nothing(user_labs: Labs) -> None:
    user_labs.run("up", user_labs.write("lab.yaml", CONVERGING))
    edited = (
        CONVERGING.replace("action: drop", "action: allow")
        .replace('mcast_snoop: "true"', 'mcast_flood_unregistered: "true"')
        .replace("[10.0.0.1, 10.0.0.2]", "[10.0.0.1]")
        .replace("ports: [vm1, vm2]", "ports: [vm2]")
        .replace(", port_security: true", "")
        .replace(', options: {requested-tnl-key: "77"}', "")
        .replace("192.168.0.11:80", "192.168.0.12:80")
        .replace("        vm2:", "        vm3: {ip: 192.168.0.13}\n        vm2:")
    )
    path = user_labs.write("lab.yaml", edited)
    told = user_labs.json("up", path, "--dry-run")["steps"]
    assert user_labs.run("up", path, "--dry-run", "--exit-code", expect=5)
    assert sorted(told) == sorted(
        [
            "change load balancer web: vips:10.9.9.9:80: 192.168.0.11:80 → 192.168.0.12:80",
            "change logical switch network1: other_config:mcast_flood_unregistered: not set → true; "
            "other_config:mcast_snoop: true → not set",
            "change logical switch port vm1: options:requested-tnl-key: 77 → not set",
            "add logical switch port vm3: it is missing",
            f"change logical switch port vm2: port_security: {' '.join(told_address(user_labs, 'vm2'))} → not set",
            "change address set some: addresses: 10.0.0.1, 10.0.0.2 → 10.0.0.1",
            "change port group both: ports: vm1, vm2 → vm2",
            "change ACL network1 to-lport 10 tcp: action: drop → allow",
        ]
    )
    assert user_labs.json("up", path)["steps"] == told
    assert user_labs.json("up", path)["steps"] == []
    (switch,) = rows(user_labs, "Logical_Switch", "name=network1")
    assert switch["other_config"] == ["map", [["mcast_flood_unregistered", "true"]]]
    (port,) = rows(user_labs, "Logical_Switch_Port", "name=vm1")
    assert port["options"] == ["map", []]


def told_address(labs: Labs, port: str) -> list[str]:
    (row,) = rows(labs, "Logical_Switch_Port", f"name={port}")
    return str(row["addresses"]).split()


def test_what_was_changed_by_hand_is_put_right_and_what_is_others_stays(user_labs: Labs) -> None:
    path = user_labs.write("lab.yaml", CONVERGING)
    user_labs.run("up", path)
    user_labs.run("nbctl", "--", "set", "ACL", *only(user_labs, "ACL"), "priority=11",
                  "--", "lb-add", "mine", "10.8.8.8:80", "192.168.0.12:80", "--", "ls-lb-add", "network1", "mine",
                  "--", "acl-add", "network1", "to-lport", "5", "udp", "drop",
                  "--", "ls-add", "elsewhere", "--", "lsp-add", "elsewhere", "stranger",
                  "--", "set", "Logical_Switch", "network1", "other_config:mine=yes",
                  "--", "lb-del", "web")  # fmt: skip
    user_labs.run(
        "nbctl", "add", "Port_Group", "both", "ports", *only(user_labs, "Logical_Switch_Port", "name=stranger")
    )
    steps = user_labs.json("up", path)["steps"]
    assert sorted(steps) == [
        "add load balancer web: it is missing",
        "change ACL network1 to-lport 10 tcp: priority: 11 → 10",
        "change logical switch network1: load_balancer: mine → mine, web",
    ]
    assert user_labs.json("up", path)["steps"] == []
    assert "mine" in user_labs.out("nbctl", "ls-lb-list", "network1")
    assert "udp" in user_labs.out("nbctl", "acl-list", "network1")
    (group,) = rows(user_labs, "Port_Group", "name=both")
    assert len(group["ports"][1]) == 3  # type: ignore[index]
    (switch,) = rows(user_labs, "Logical_Switch", "name=network1")
    assert dict(switch["other_config"][1]) == {"mine": "yes", "mcast_snoop": "true"}  # type: ignore[index]
    result = user_labs.run("up", user_labs.write("lab.yaml", CONVERGING.split("logical:", maxsplit=1)[0]), expect=1)
    assert "network1 is to go, and there is an ACL" in result.stderr
    user_labs.run("nbctl", "acl-del", "network1", "to-lport", "5", "udp")
    user_labs.run("up", user_labs.write("lab.yaml", CONVERGING.split("logical:", maxsplit=1)[0]))
    assert rows(user_labs, "Logical_Switch", "name=network1") == []
    assert rows(user_labs, "Load_Balancer", "name=mine") != []
    assert rows(user_labs, "Address_Set", "name=some") == []


def only(labs: Labs, table: str, *condition: str) -> list[str]:
    (row,) = labs.rows("nbctl", "--columns=_uuid", "find", table, *condition)
    return [str(row["_uuid"][1])]


def test_a_match_that_ovn_rejects_is_told_with_its_place_and_changes_nothing(user_labs: Labs) -> None:
    path = user_labs.write("lab.yaml", CONVERGING.replace("match: tcp,", 'match: "tcp.dst = 22",'))
    result = user_labs.run("up", path, expect=2)
    assert f"{path}:12:68: OVN does not understand this match: Syntax error at `=' expecting relational operator" in (
        result.stderr
    )
    assert user_labs.json("ls")["labs"] == []
    user_labs.run("up", user_labs.write("lab.yaml", CONVERGING))
    user_labs.write("lab.yaml", CONVERGING.replace("match: tcp,", 'match: "ip4.src == $nobody",'))
    user_labs.run("up", path, "--dry-run", expect=2)
    assert "nobody" in user_labs.run("up", path, expect=2).stderr
    assert "tcp" in user_labs.out("nbctl", "acl-list", "network1")
    assert user_labs.json("up", user_labs.write("lab.yaml", CONVERGING))["steps"] == []


def test_monitor_all_and_probes_are_set_and_taken_away_again(user_labs: Labs) -> None:
    text = "nodes: {central: {role: central}, worker1: }\ncontrol: {monitor_all: true, probe_interval: 30000}\n"
    user_labs.run("up", user_labs.write("lab.yaml", text))
    ids = user_labs.out("vsctl", "worker1", "get", "Open_vSwitch", ".", "external_ids")
    assert 'ovn-monitor-all="true"' in ids
    assert 'ovn-remote-probe-interval="30000"' in ids
    steps = user_labs.json("up", user_labs.write("lab.yaml", text.split("control", maxsplit=1)[0]))["steps"]
    assert any("ovn-monitor-all is true instead of not set" in step for step in steps)
    assert "monitor-all" not in user_labs.out("vsctl", "worker1", "get", "Open_vSwitch", ".", "external_ids")


def test_nodes_get_and_lose_physical_networks(user_labs: Labs) -> None:
    before = "nodes: {central: {role: central}, worker1: , host1: {role: host, physical: {external: 10.0.0.48}}}\n"
    networks = "physical_networks: {external: {subnet: 10.0.0.0/24, bridge: br-ex}}\n"
    user_labs.run("up", user_labs.write("lab.yaml", networks + before))
    after = before.replace("worker1: ,", "worker1: {physical: {external: 10.0.0.9}},")
    steps = user_labs.json("up", user_labs.write("lab.yaml", networks + after))["steps"]
    assert any("there is no bridge br-ex" in step for step in steps)
    user_labs.run("ping", "worker1", "host1")
    assert user_labs.json("up", user_labs.write("lab.yaml", networks + after))["steps"] == []
    steps = user_labs.json("up", user_labs.write("lab.yaml", networks + before))["steps"]
    assert any("there is a bridge br-ex, of no physical network that it is on" in step for step in steps)
    assert "br-ex" not in user_labs.out("vsctl", "worker1", "list-br")
    links = {link["ifname"] for link in json.loads(user_labs.on("worker1", "ip", "-j", "link"))}
    assert "eth2" not in links


@pytest.mark.parametrize(
    "name",
    ["gateway", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("raft", "tls", "interconnection"))],
)
def test_a_dead_lab_comes_back_as_it_was(user_labs: Labs, name: str) -> None:
    user_labs.run("up", name)
    for node in user_labs.nodes(name):
        kill_node(user_labs, name, node)
    user_labs.run("up", name)
    user_labs.run("test")
    assert user_labs.json("up", name)["steps"] == []


def test_a_running_lab_with_relays_is_given_tls(user_labs: Labs) -> None:
    user_labs.run("up", "relay")
    user_labs.run("up", "relay", "--set", "tls=true")
    user_labs.run("test")
    user_labs.run("nbctl", "--timeout=30", "--wait=hv", "sync")
    assert user_labs.json("up", "relay", "--set", "tls=true")["steps"] == []


@pytest.mark.thorough
def test_a_node_leaves_a_cluster_that_another_leads(user_labs: Labs) -> None:
    text = (TOPOLOGIES / "raft.yaml").read_text()
    user_labs.run("up", user_labs.write("raft.yaml", text))
    leader = next(m["node"] for m in user_labs.json("status")["clusters"] if m["role"] == "leader")
    kill_node(user_labs, "raft", leader)
    user_labs.run("up", user_labs.write("raft.yaml", text))
    fewer = "\n".join(line for line in text.split("logical:")[0].splitlines() if "worker2" not in line)
    user_labs.run("up", user_labs.write("raft.yaml", fewer))
    assert sorted(row["name"] for row in user_labs.rows("sbctl", "list", "Chassis")) == ["worker1"]
    fewer = "\n".join(line for line in fewer.splitlines() if "central2" not in line)
    user_labs.run("up", user_labs.write("raft.yaml", fewer))
    assert {m["node"] for m in user_labs.json("status")["clusters"]} == {"central1", "central3"}
    shown = user_labs.out("appctl", "central1", "-t", "/run/ovn/ovnsb_db.ctl", "cluster/status", "OVN_Southbound")
    assert "192.168.50.12" not in shown
    user_labs.run("nbctl", "ls-add", "goes-through")


@pytest.mark.parametrize(
    "name", ["raft", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("relay", "interconnection", "ipv6"))]
)
def test_tls_goes_with_every_kind_of_control_plane(user_labs: Labs, name: str) -> None:
    user_labs.run("up", name, "--set", "tls=true")
    user_labs.run("test")
    assert "ssl:" in user_labs.out("vsctl", "worker-east" if name == "interconnection" else "worker1", "get",
                                   "Open_vSwitch", ".", "external_ids:ovn-remote")  # fmt: skip
    assert "switch " in user_labs.out("nbctl", "show")
    assert user_labs.json("up", name, "--set", "tls=true")["steps"] == []


def test_a_load_balancer_on_a_router_is_there_for_the_outside(user_labs: Labs) -> None:
    text = (
        NODES
        + """
logical:
  switches:
    network1:
      subnet: 192.168.0.0/24
      ports: {web1: {ip: 192.168.0.11, chassis: worker1, serve: [80]}, web2: {ip: 192.168.0.12, chassis: worker2, serve: [80]}}
    public: {physical_network: external}
  routers:
    router1:
      ports:
        network1: {ip: 192.168.0.1/24}
        public: {ip: 10.0.0.45/24, gateway_chassis: [gw1]}
  load_balancers:
    web: {vip: "10.0.0.100:8080", backends: ["192.168.0.11:80", "192.168.0.12:80"], routers: [router1]}
checks:
  - {tcp: "10.0.0.100:8080", from: host1}
  - {tcp: "10.0.0.100:8081", from: host1, expect: unreachable}
"""
    )
    user_labs.run("up", user_labs.write("lab.yaml", text))
    user_labs.run("test")
    fetch = 'exec 3<>/dev/tcp/10.0.0.100/8080; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; tail -n1 <&3'
    assert {user_labs.on("host1", "timeout", "5", "bash", "-c", fetch).strip() for _ in range(12)} == {"web1", "web2"}


def test_tls_can_be_turned_on_in_a_running_lab(user_labs: Labs) -> None:
    text = (TOPOLOGIES / "tls.yaml").read_text()
    user_labs.run("up", user_labs.write("tls.yaml", text.replace("tls: true\n", "")))
    user_labs.run("up", user_labs.write("tls.yaml", text))
    assert "pssl:6642" in user_labs.out("sbctl", "get-connection")
    user_labs.run("test")
    assert user_labs.json("up", user_labs.write("tls.yaml", text))["steps"] == []
