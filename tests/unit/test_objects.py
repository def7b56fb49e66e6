"""Kinds of Northbound objects: what of them is refused, and where, and the rows that they mean."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ovnlab.errors import TopologyError, UsageError
from ovnlab.northbound.change import changes
from ovnlab.northbound.releases import refuse_newer
from ovnlab.northbound.rows import WantedRow, wanted
from ovnlab.topology.load import load, load_text
from ovnlab.topology.resolved import Topology

BASE = """\
nodes: {central: {role: central}, w1: {}, g1: {role: gateway}, g2: {role: gateway}}
logical:
  switches:
    a: {subnet: 10.1.0.0/24, ports: {vm1: {ip: 10.1.0.11}, vm2: {ip: 10.1.0.12}}}
    b: {subnet: 10.2.0.0/24}
"""

ROUTER = "  routers: {r: {ports: {a: {ip: 10.1.0.1/24}, b: {ip: 10.2.0.1/24}}, %s}}\n"


def refusal(text: str) -> list[str]:
    """Return what is refused of a topology, each as LINE: MESSAGE."""
    with pytest.raises(TopologyError) as refused:
        load_text("lab.yaml", (BASE + text).encode())
    return [f"{mistake.line}: {mistake.message}" for mistake in refused.value.mistakes]


BINDING = "static_mac_bindings: [%s]"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (BINDING % '{port: c, ip: 10.1.0.9, mac: "0a:00:00:00:00:01"}', "unknown port 'c' (available: a, b)"),
        (BINDING % '{port: a, ip: 10.2.0.9, mac: "0a:00:00:00:00:01"}', "10.2.0.9 is in no network of r on a"),
        (BINDING % "{port: a, ip: 10.1.0.9}", "'mac' is missing in logical.routers.r.static_mac_bindings.0"),
        (
            BINDING % ", ".join(['{port: a, ip: 10.1.0.9, mac: "0a:00:00:00:00:01"}'] * 2),
            "duplicate static MAC binding of 10.1.0.9 on a",
        ),
        (
            "policies: [{priority: 1, match: ip4, action: reroute}]",
            "nexthop goes with action: reroute, which needs one",
        ),
        (
            "policies: [{priority: 1, match: ip4, action: drop, nexthop: 10.1.0.9}]",
            "nexthop goes with action: reroute, which needs one",
        ),
        ("policies: [{priority: 1, match: ip4, action: reroute, nexthop: 10.9.0.9}]", "10.9.0.9 is in no network of r"),
        (
            "policies: [{priority: 1, match: ip4, action: drop}, {priority: 1, match: ip4, action: allow}]",
            "duplicate policy: priority 1 and this match",
        ),
        (
            "routes: [{prefix: 0.0.0.0/0, nexthop: 10.1.0.9, bfd: {min_tx: 9}}, {prefix: 9.0.0.0/8, nexthop: 10.1.0.9, bfd: true}]",
            "the BFD session with 10.1.0.9 has other times in another route",
        ),
        ("discards: [10.9.0.0/24, 10.9.0.0/24]", "duplicate prefix 10.9.0.0/24"),
        ("copp: c", "unknown protection 'c' (available: none)"),
        (
            "routes: [{prefix: 0.0.0.0/0, nexthop: 10.1.0.9}, {prefix: 0.0.0.0/0, nexthop: 10.1.0.9}]",
            "duplicate route to 0.0.0.0/0 by 10.1.0.9",
        ),
        (
            "chassis: g1, nat: [{type: snat, external: 10.2.0.1, logical: 10.1.0.0/24, stateless: true}]",
            "only dnat_and_snat can be stateless",
        ),
        (
            "chassis: g1, nat: [{type: snat, external: 10.2.0.1, logical: 10.1.0.0/24, port_range: 9-1}]",
            "port_range: invalid port range '9-1': expected the lower port first",
        ),
        (
            "chassis: g1, nat: [{type: snat, external: 10.2.0.1, logical: 10.1.0.0/24, allowed: x}]",
            "unknown address set 'x' (available: none)",
        ),
        (
            "chassis: g1, nat: [{type: snat, external: 10.2.0.1, logical: 10.1.0.0/24, gateway_port: a}]",
            "the port on a has no gateway",
        ),
    ],
)
def test_what_a_router_cannot_have_is_refused_with_its_line(keys: str, message: str) -> None:
    assert refusal(ROUTER % keys) == [f"6: {message}"]


SWITCH = "    c: {subnet: 10.3.0.0/24, ports: {vm3: {%s}}, %s}\n"


@pytest.mark.parametrize(
    ("port", "switch", "message"),
    [
        ("type: localnet", "", "type: localnet needs the physical_network that it joins c to"),
        ("type: localnet, physical_network: p", "", "unknown physical network 'p' (available: none)"),
        ("physical_network: p", "", "physical_network goes with type: localnet or l2gateway"),
        ("type: localnet, chassis: w1", "", "vm3: chassis, serve and parent are for fake VMs, not for type: localnet"),
        ("mirrors: m", "", "unknown mirror 'm' (available: none)"),
        ("allowed_addresses: 10.3.0.9", "", "allowed_addresses goes with port_security: true"),
        ("activation: rarp, requested_chassis: w1", "", "activation goes with several requested_chassis"),
        ("chassis: w1, requested_chassis: g1", "", "w1 is to bind vm3, and is not among them"),
        ("requested_chassis: w2", "", "unknown node 'w2' (available: central, w1, g1, g2)"),
        ("addresses: [nowhere]", "", "invalid IP address 'nowhere'"),
        ("", "dns_reverse: true", "c has no dns whose addresses could be resolved"),
        ("", "forwarding_groups: {g: {vip: 10.3.0.9, ports: vm9}}", "unknown port 'vm9' (did you mean 'vm3'?)"),
    ],
)
def test_what_a_switch_cannot_have_is_refused_with_its_line(port: str, switch: str, message: str) -> None:
    found = refusal(SWITCH % (port, switch))[0]
    assert found.startswith(f"6: {message}")


def test_a_forwarding_group_has_a_name_of_its_own() -> None:
    groups = "forwarding_groups: {g: {vip: 10.3.0.9, ports: vm3}}"
    other = "    d: {ports: {vm4: {}}, forwarding_groups: {g: {vip: 10.4.0.9, ports: vm4}}}\n"
    assert refusal(SWITCH % ("", groups) + other) == ["7: 'g' is the name of a forwarding group of c already"]


def test_a_backend_is_a_fake_vm() -> None:
    balancer = '  load_balancers: {l: {vip: "10.9.0.1:80", backends: "vm3:80", health_check: true}}\n'
    (found,) = refusal(SWITCH % ("type: localnet, physical_network: p", "") + balancer + "physical_networks: {p: {}}\n")
    assert found.startswith("7: unknown fake VM 'vm3'")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("copp: {c: {arp: m}}", "unknown meter 'm' (available: none)"),
        ("meters: {m: {rate: 0}}", "rate: must be greater than or equal to 1"),
        ("mirrors: {m: {sink: x}}", "sink: "),
        (
            "acls: [{switch: a, direction: to-lport, priority: 1, match: ip4, action: drop, meter: m, log: true}]",
            "unknown meter 'm'",
        ),
        (
            "acls: [{switch: a, direction: to-lport, priority: 1, match: ip4, action: drop, label: 7}]",
            "label goes with action: allow-related",
        ),
        ("load_balancer_groups: {g: {switches: [x]}}", "unknown switch 'x'"),
        ("rows: {NB_Global: {.: {options: {a: 2020-01-01}}}}", "options: invalid value: expected text, a number"),
        ("rows: {NB_Global: {.: {options: {null: a}}}}", "options: a key must be text: put it in quotes"),
        ("rows: {NB_Global: {.: {nb_cfg: 99999999999999999999}}}", "nb_cfg: invalid value: expected text, a number"),
        ("template_variables: {x: {vip: '1'}}", "unknown node 'x'"),
        (
            'load_balancers: {l: {vip: "10.9.0.1:80", backends: "10.1.0.11:80", vips: {"10.9.0.1:80": "10.1.0.11:80"}}}',
            "duplicate VIP 10.9.0.1:80",
        ),
        (
            'load_balancers: {l: {vip: "10.9.0.1:80", backends: "10.1.0.11:80", vips: {"10.9.0.2:80": "10.1.0.11"}}}',
            "10.1.0.11 and the VIP 10.9.0.2:80 must both have a port, or neither",
        ),
    ],
)
def test_what_a_network_cannot_have_is_refused_with_its_line(keys: str, message: str) -> None:
    (found,) = refusal(f"  {keys}\n")
    assert found.startswith(f"6: {message}")


def loaded(text: str) -> Topology:
    return load_text("lab.yaml", (BASE + text).encode()).topology


def row_of(topology: Topology, table: str, name: str) -> WantedRow:
    (found,) = [row for row in wanted(topology) if (row.table, row.name) == (table, name)]
    return found


OUTSIDE = "physical_networks: {p: {}}\n"


def test_a_port_to_the_outside_belongs_to_its_switch_whatever_else_it_has() -> None:
    port = "type: localnet, physical_network: p, enabled: false, mirrors: m"
    text = SWITCH % (port, "") + "  mirrors: {m: {sink: 10.9.9.9}}\n" + OUTSIDE
    row = row_of(loaded(text), "Logical_Switch_Port", "vm3")
    assert row.parent == "c"
    found = {column: row.columns[column] for column in ("type", "enabled", "mirror_rules")}
    assert found == {"type": "localnet", "enabled": (False,), "mirror_rules": ("m",)}


def test_a_port_group_has_ports_to_the_outside_too() -> None:
    text = SWITCH % ("type: localnet, physical_network: p", "") + "  port_groups: {g: {ports: [vm1, vm3]}}\n" + OUTSIDE
    assert row_of(loaded(text), "Port_Group", "g").columns["ports"] == ("vm1", "vm3")


def test_every_vip_on_a_switch_is_answered_for_and_given_to_no_port() -> None:
    topology = loaded(
        '  load_balancers:\n    one: {vip: "10.2.0.2:80", backends: "vm1:80", vips: {"10.2.0.3:80": "vm1:80"}, switches: b}\n'
        '    two: {vip: "10.2.0.4:80", backends: "vm1:80"}\n'
        "  load_balancer_groups: {g: {load_balancers: two, switches: b}}\n"
        "  routers: {r: {ports: {b: {ip: 10.2.0.1/24}}}}\n"
    )
    options = row_of(topology, "Logical_Switch_Port", "b-r").columns["options"]
    assert options == {"router-port": "r-b", "arp_proxy": "10.2.0.2 10.2.0.3 10.2.0.4"}
    more = BASE.replace("b: {subnet: 10.2.0.0/24}", "b: {subnet: 10.2.0.0/24, ports: {vm9: {}}}")
    vips = '  load_balancers: {l: {vip: "10.2.0.2:80", backends: "vm1:80", vips: {"10.2.0.3:80": "vm1:80"}}}\n'
    port = load_text("lab.yaml", (more + vips).encode()).topology.port("vm9")
    assert port is not None
    assert port.ips == ("10.2.0.4",)


ZONES = """\
nodes: {c1: {role: central, zone: z1}, c2: {role: central, zone: z2}}
logical:
  switches: {s1: {zone: z1, subnet: 10.1.0.0/24}, s2: {zone: z2, subnet: 10.2.0.0/24}%s}
"""


@pytest.mark.parametrize(
    ("keys", "rest", "message"),
    [
        ("multicast: true", "", "3: ts is a transit switch, which has no multicast"),
        (
            "",
            "acls: [{switch: ts, direction: to-lport, priority: 1, match: ip4, action: drop}]",
            "4: ts is a transit switch, which has no rules",
        ),
        (
            "",
            "load_balancer_groups: {g: {switches: ts}}",
            "4: ts is a transit switch, which has no load balancers",
        ),
    ],
)
def test_a_transit_switch_has_only_routers(keys: str, rest: str, message: str) -> None:
    with pytest.raises(TopologyError) as refused:
        load_text("lab.yaml", (ZONES % f", ts: {{transit: true, {keys}}}" + f"  {rest}\n").encode())
    assert [f"{mistake.line}: {mistake.message}" for mistake in refused.value.mistakes] == [message]


def test_load_balancer_groups_are_in_the_zones_of_what_has_them() -> None:
    text = ZONES % "" + (
        '  load_balancers: {l: {vip: "10.9.0.1:80", backends: "10.2.0.9:80", vips: {"10.9.0.2:80": "10.2.0.9:80"}}}\n'
        "  load_balancer_groups: {g: {load_balancers: l, switches: s2}}\n"
    )
    rows = wanted(load_text("lab.yaml", text.encode()).topology)
    found = [(row.table, row.name, row.zone) for row in rows if row.table != "NB_Global"]
    assert sorted(found) == [
        ("Load_Balancer", "l", "z2"),
        ("Load_Balancer_Group", "g", "z2"),
        ("Logical_Switch", "s1", "z1"),
        ("Logical_Switch", "s2", "z2"),
    ]
    assert changes("lab", rows, [])


def test_what_the_installed_ovn_does_not_have_is_refused() -> None:
    topology = load_text("lab.yaml", (BASE + "  mirrors: {m: {sink: 10.9.9.9, filter: both}}\n").encode()).topology
    with pytest.raises(UsageError, match=r"mirror filter both needs OVN 24.09 or newer; central runs 23.03.1"):
        refuse_newer(topology, {"openvswitch-switch": "3.1.0-2", "ovn-common": "23.03.1-1~deb12u2"})
    refuse_newer(topology, {"openvswitch-switch": "3.4.0-1", "ovn-common": "24.09.0-1"})


def test_what_was_decided_is_read_back_as_it_was_written() -> None:
    topology = load(str(Path(__file__).with_name("everything.yaml"))).topology
    assert {kind for row in topology.rows for kind in map(type, row.columns.values())} >= {str, int, bool, tuple, dict}
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology
