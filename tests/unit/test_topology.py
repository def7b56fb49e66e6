"""The topology file: every mistake is found, with its place and what was meant."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ovnlab.errors import TopologyError, UsageError
from ovnlab.topology.json_schema import schema_text
from ovnlab.topology.load import load, load_text
from ovnlab.topology.model import TopologyFile
from ovnlab.topology.resolved import RESERVED, Topology, interface_name

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "topologies").glob("*.yaml"))
NODES = "nodes: {central: {role: central}, w1: {}}\n"
GATEWAYS = (
    "{physical_networks: {ext: {subnet: 10.0.0.0/24}}, nodes: {central: {role: central}, w1: , gw1: {role: gateway}},\n"
)


def topology(text: str, **options: object) -> Topology:
    return load_text("lab.yaml", textwrap.dedent(text).encode(), **options).topology  # type: ignore[arg-type]


def mistakes(text: str | bytes) -> list[str]:
    content = textwrap.dedent(text).encode() if isinstance(text, str) else text
    with pytest.raises(TopologyError) as caught:
        load_text("lab.yaml", content)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: {central: {role: central}}\nprovidr: local\n", "lab.yaml:2:1: unknown key 'providr' (did you mean 'provider'?)"),
        (NODES + "encap: genev\n", "lab.yaml:2:8: encap: genev is not one of geneve or vxlan (did you mean 'geneve'?)"),
        (NODES + "tls: perhaps\n", "lab.yaml:2:6: tls: must be true or false"),
        (NODES + "underlay: {mtu: big}\n", "lab.yaml:2:17: mtu: must be a whole number"),
        (NODES + "underlay: {mtu: 100}\n", "lab.yaml:2:17: mtu: must be greater than or equal to 1280"),
        (NODES + "name: 3\n", "lab.yaml:2:7: name: must be text such as 3node, not 3 (put it in quotes)"),
        (NODES + "name: Big\n", "lab.yaml:2:7: name: invalid name for a lab 'Big'"),
        (NODES + f"name: {'x' * 33}\n", "lab.yaml:2:7: name: the name of a lab has 1 to 32 characters, this one has 33"),
        ("nodes: {w1: {}}\n", "lab.yaml:1:8: no node has role central"),
        ("nodes: [a, a]\n", "duplicate 'a'"),
        ("nodes: {central: {role: central}, central: {}}\n", "lab.yaml:1:35: duplicate 'central'"),
        ("{}\n", "lab.yaml:1:1: 'nodes' is missing"),
        ("name: x\nnodes:\n", "lab.yaml:2:1: 'nodes' is empty"),
        ("", "lab.yaml: is empty"),
        ("# nothing\n", "lab.yaml: is empty"),
        ("- a\n", "lab.yaml:1:1: must be a mapping"),
        ("nodes: [a\n", "lab.yaml:2:1: not valid YAML"),
        ("nodes: {a: &x {role: *x}}\n", "refers to itself"),
        (f"nodes: {{{'n' * 64}: {{role: central}}}}\n", "a name has at most 63 characters, this one has 64"),
        ("nodes: {-x: {role: central}}\n", "invalid name '-x'"),
        ("nodes: {eth1: {role: central}}\n", "'eth1' is the name of an interface that every lab has"),
        ("nodes: {c: {role: central, ip: 10.0.0.1}}\n", "lab.yaml:1:32: 10.0.0.1 is outside 192.168.50.0/24 of the underlay"),
        ("nodes: {c: {role: central, ip: 192.168.50.300}}\n", "lab.yaml:1:32: ip: invalid IP address '192.168.50.300'"),
        ("nodes: {c: {role: central, ip: 192.168.50.5}, d: {ip: 192.168.50.5}}\n", "192.168.50.5 is the address of c already"),
        ("nodes: {c: {role: central, ip: 192.168.50.255}}\n", "192.168.50.255 is the broadcast address"),
        (NODES + "underlay: {subnet: 192.168.50.1/24}\n", "did you mean 192.168.50.0/24?"),
        (NODES + "underlay: {subnet: 10.0.0.0/32}\n", "has too few addresses for 2 nodes"),
        (NODES + "underlay: {subnet: 224.0.0.0/24}\n", "cannot be a subnet"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: nonsense}}}}}\n", "invalid MAC address 'nonsense'"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: '01:00:00:00:00:01'}}}}}\n", "is a multicast address"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: '0a:00:00:00:00:01'}, w: {mac: '0A:00:00:00:00:01'}}}}}\n", "is the MAC address of v already"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {ip: 10.0.1.1}}}}}\n", "10.0.1.1 is outside 10.0.0.0/24 of s"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {ip: 10.0.0.5}, w: {ip: 10.0.0.5}}}}}\n", "10.0.0.5 is the address of v already"),
        (NODES + "logical: {switches: {s: {ports: {v: {ip: 10.0.0.5}}}}}\n", "s has no subnet that 10.0.0.5 could be in"),
        (NODES + "logical: {switches: {s: {ports: {v: {chassis: w2}}}}}\n", "unknown node 'w2' (available: central, w1)"),
        (NODES + "logical: {switches: {s: {ports: {w1: {}}}}}\n", "'w1' is the name of a node already"),
        (NODES + "logical: {switches: {s: {ports: {v: }}, t: {ports: {v: }}}}\n", "'v' is the name of a port of s already"),
        (NODES + "logical: {switches: {s: {ports: {eth1: }}}}\n", "'eth1' is the name of an interface that every node has"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {t: {ip: 10.0.0.1/24}}}}}\n", "unknown switch 't' (available: s)"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {s: {}}}}}\n", "'ip' is missing in logical.routers.r.ports.s"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {s: {ip: 10.0.0.1}}}}}\n", "needs a prefix length, such as 10.0.0.1/24"),
        (NODES + "logical: {switches: {s: {}, t: {}}, routers: {r: {ports: {s: {ip: 10.0.0.1/24}, t: {ip: 10.0.0.129/25}}}}}\n", "overlaps 10.0.0.1/24 on s on the same router"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24}}, routers: {r: {ports: {s: {ip: 10.0.0.1/16}}}}}\n", "another prefix length than 10.0.0.0/24"),
        (NODES + "logical: {switches: {s: {vlan: 5000}}}\n", "must be less than or equal to 4094"),
        (NODES + "logical: {switches: {s: {physical_network: x}}}\n", "unknown physical network 'x'"),
        (NODES + "logical: {acls: [{switch: s, direction: up, priority: 1, match: ip, action: drop}]}\n", "direction: up is not one of from-lport or to-lport"),
        (NODES + "checks: [{ping: nobody, from: w1}]\n", "unknown node or fake VM 'nobody'"),
        (NODES + "checks: [{from: w1}]\n", "needs exactly one of ping and tcp"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24, gateway_chassis: [w1]}}}}}}\n", "w1 is not a gateway (`role: gateway`)"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24, gateway_chassis: [gw3]}}}}}}\n", "unknown node 'gw3' (did you mean 'gw1'?)"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: snat, external: 10.0.0.1, logical: 10.1.0.0/24}]}}}}\n", "NAT needs a gateway"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {chassis: gw1, ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: snat, external: 10.9.0.1, logical: 10.1.0.0/24}]}}}}\n", "lab.yaml:2:116: 10.9.0.1 is in no network of r"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {chassis: gw1, ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: dnat_and_snat, external: 10.0.0.1, logical: 10.1.0.0/24}]}}}}\n", "dnat_and_snat needs a single address"),
        (GATEWAYS + "logical: {switches: {s: , t: {subnet: 10.1.0.0/24, ports: {v: {ip: 10.1.0.2}}}}, routers: {r: {chassis: gw1, ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: dnat_and_snat, external: 10.0.0.9, logical: 10.1.0.3, port: v}]}}}}\n", "v has 10.1.0.2, not 10.1.0.3"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {chassis: gw1, ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: snat, external: 10.0.0.1, logical: 'fd00::/64'}]}}}}\n", "fd00::/64 is of another family than 10.0.0.1"),
        (GATEWAYS + "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24}}, routes: [{prefix: 0.0.0.0/0, nexthop: 10.9.0.1}]}}}}\n", "10.9.0.1 is in no network of r"),
        (GATEWAYS + "logical: {ha_chassis_groups: {g: [w1]}}}\n", "w1 is not a gateway"),
        (GATEWAYS + "logical: {switches: {s: {subnet: 10.0.0.0/24, physical_network: ext, vlan: 4095}}}}\n", "vlan: must be less than or equal to 4094"),
        (GATEWAYS + "logical: {switches: {s: {vlan: 5}}}}\n", "a vlan needs a physical_network"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: {ip: dhcp}}}}}}\n", "ip: dhcp needs `dhcp: true` on s"),
        (GATEWAYS + "logical: {switches: {s: {dhcp: true}}}}\n", "s has no subnet that DHCP could answer for"),
        (GATEWAYS + "logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {ip: slaac}}}}}}\n", "ip: slaac needs an IPv6 subnet"),
        (GATEWAYS + "logical: {switches: {s: {subnet: 'fd00::/64', ports: {v: {ip: slaac}}}}}}\n", "ip: slaac needs a router port on s with ipv6_ra"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: {parent: x, vlan: 5}}}}}}\n", "unknown port 'x'"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: {vlan: 5}}}}}}\n", "parent and vlan go together"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: , a: {parent: v, vlan: 5}, b: {parent: v, vlan: 5}}}}}}\n", "VLAN 5 of v is a's already"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: {type: external, mac: '0a:00:00:00:00:01'}}}}}}\n", "type: external needs a ha_chassis_group"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: {type: virtual, parents: [w]}}}}}}\n", "unknown port 'w'"),
        (GATEWAYS + "logical: {switches: {s: }, acls: [{switch: t, direction: to-lport, priority: 1, match: ip, action: drop}]}}\n", "unknown switch 't'"),
        (GATEWAYS + "logical: {acls: [{port_group: pg, direction: to-lport, priority: 1, match: ip, action: drop}]}}\n", "unknown port group 'pg'"),
        (GATEWAYS + "logical: {port_groups: {pg: {ports: [v]}}}}\n", "unknown port 'v'"),
        (GATEWAYS + "logical: {port_groups: {p-g: }}}\n", "'p-g' cannot stand in a match"),
        (GATEWAYS + "logical: {switches: {s: }, load_balancers: {a: {vip: '10.0.0.9:80', backends: ['10.0.0.2:80'], switches: [s]}, b: {vip: '10.0.0.9:80', backends: ['10.0.0.3:80'], switches: [s]}}}}\n", "10.0.0.9:80 overlaps the VIP of a on s"),
        (GATEWAYS + "logical: {switches: {s: }, load_balancers: {a: {vip: '10.0.0.9:80', backends: ['10.0.0.2'], switches: [s]}}}}\n", "must both have a port, or neither"),
        (GATEWAYS + "logical: {switches: {s: {transit: true}}}}\n", "a transit switch joins zones, and there are none"),
        ("nodes: {c: {role: central, zone: a}, w: {}}\n", "w needs a zone, as others have one"),
        ("nodes: {c: {role: central, zone: a}, w: {zone: b}}\n", "zone 'b' has no central"),
        ("nodes: {c: {role: central}, w: {underlay: x}}\n", "unknown physical network 'x'"),
        ("physical_networks: {x: {bridge: br-int}}\nnodes: {c: {role: central}}\n", "'br-int' is the name of an interface that every node has"),
        ("physical_networks: {x: {bridge: b}, y: {bridge: b}}\nnodes: {c: {role: central}}\n", "b is the bridge of x already"),
        ("physical_networks: {x: }\nnodes: {c: {role: central}, h: {role: host, physical: [x]}}\n", "x has no subnet that h could have an address of"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: , c: {parent: v, vlan: 5, mtu: 1000}}}}}}\n", "c has the MTU of v"),
        (GATEWAYS + "logical: {switches: {s: {ports: {v: , w: {type: virtual, parents: [v]}}}}}}\n", "w needs an ip, or s a subnet"),
        (GATEWAYS + "logical: {address_sets: {a: [10.0.0.1, '0a:00:00:00:00:01']}}}\n", "a mixes addresses of several kinds"),
        ("{nodes: {c: {role: central, zone: a}, d: {role: central, zone: b}},\nlogical: {switches: {s: {zone: a, ports: {v: {chassis: d}}}}}}\n", "d is in zone b, and this in zone a"),
        ("{nodes: {c: {role: central, zone: a}},\nlogical: {switches: {s: {transit: true, ports: {v: }}}}}\n", "s is a transit switch: only routers have ports on it"),
        ("provider: libvirt\nmachines: {image: 'https://host/disk.qcow2'}\n" + NODES, "an image by its URL needs its sha256"),
        (NODES + "software: {ovs: {git: x, path: y}}\n", "needs exactly one of git, tarball, path and distro: true"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_was_meant(text: str, said: str) -> None:
    assert any(said in line for line in mistakes(text)), mistakes(text)


def test_a_misspelt_role_is_one_mistake() -> None:
    assert mistakes("nodes: {c: {role: centrl}}") == [
        "lab.yaml:1:19: role: centrl is not one of central, worker, gateway, relay or host (did you mean 'central'?)"
    ]


def test_text_that_is_not_utf8() -> None:
    assert mistakes(b"nodes: {}\nname: \xff\n") == ["lab.yaml:2:7: not UTF-8 text (byte 0xff)"]


def test_all_mistakes_are_found_in_one_run() -> None:
    found = mistakes(
        """\
        provder: local
        nodes:
          c: {role: central, ip: 10.0.0.1}
          w: {cpus: two}
        logical:
          switches:
            s: {subnet: 10.0.0.0/24, ports: {v: {chassis: x, mac: y}}}
        """
    )
    assert [line.split(": ")[0] for line in found] == [
        "lab.yaml:1:1",
        "lab.yaml:3:26",
        "lab.yaml:4:13",
        "lab.yaml:7:51",
        "lab.yaml:7:59",
    ]


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_file_that_is_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "missing.yaml"
    with pytest.raises(TopologyError, match=r"there is no such file|is a directory"):
        load(str(path))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('Vagrant.configure("2") do |config|\n  config.vm.box = "debian/bookworm64"\nend\n', "a Vagrantfile"),
        ("name: srl\ntopology:\n  nodes:\n    srl1: {kind: linux}\n", "a containerlab file"),
        ("provider: clab\nmodule: [ospf]\nnodes: [r1, r2]\nlinks: [r1-r2]\n", "a netlab file"),
        ("services:\n  web: {image: nginx}\n", "a docker compose file"),
        ("apiVersion: v1\nkind: Pod\n", "a Kubernetes manifest"),
        (
            "switch 8a7b7ba6-1f5e-4f5e-9f1e-0d6d1c2b3a49 (network1)\n    port vm1\n        addresses: [\"dynamic\"]\n",
            "what `ovn-nbctl show` prints",
        ),
        ('Chassis worker1\n    hostname: worker1\n    Encap geneve\n        ip: "1.2.3.4"\n', "what `ovn-sbctl show` prints"),
        ("OVSDB JSON 6204 c0b5cb2a\n{}\n", "an OVSDB database file"),
        ("\x7fELF\x02\x01", "a program"),
        ("#!/bin/sh\novs-vsctl show\n", "a script"),
    ],
)  # fmt: skip
def test_a_file_of_another_tool_is_told_for_what_it_is(text: str, kind: str) -> None:
    assert mistakes(text)[0].startswith(f"lab.yaml: is {kind}, not a topology")


def test_a_topology_with_a_mistake_is_not_taken_for_another_tools_file() -> None:
    assert mistakes(NODES + "provider: libvrt\nchecks: 3\n")[0].startswith("lab.yaml:")
    assert not any("not a topology" in said for said in mistakes(NODES + "provider: libvrt\nlogical: 3\n"))


def unplaced(found: Topology) -> str:
    """A topology without the lines of the file that its parts stand in."""
    return re.sub(r"place='[^']*'", "", str(found))


def test_every_list_of_one_may_stand_without_its_brackets() -> None:
    bare = """\
        nodes:
          central: {role: central}
          gw: {role: gateway, physical: ext, transport_zones: z}
          inet: {role: host, physical: {ext: 203.0.113.254}, routes: {prefix: 10.0.0.0/8, nexthop: 203.0.113.20}}
        physical_networks: {ext: {subnet: 203.0.113.0/24}}
        logical:
          switches:
            n: {subnet: 10.2.0.0/24, ports: {vm1: {ip: 10.2.0.2, chassis: gw, serve: 80}}}
            pub: {subnet: 203.0.113.0/24, physical_network: ext}
          routers:
            r:
              ports: {n: {ip: 10.2.0.1/24}, pub: {ip: 203.0.113.20/24, gateway_chassis: gw}}
              routes: {prefix: 0.0.0.0/0, nexthop: 203.0.113.254}
              nat: {type: snat, external: 203.0.113.20, logical: 10.2.0.0/24}
          port_groups: {g: {ports: vm1}}
          acls: {port_group: g, direction: to-lport, priority: 1000, match: ip4, action: allow}
          load_balancers: {lb: {vip: "10.2.0.100:80", backends: "10.2.0.2:80", switches: n, routers: r}}
          ha_chassis_groups: {h: gw}
          qos: {switch: n, direction: to-lport, priority: 1, match: ip4, rate: 1000}
        checks: {from: vm1, ping: inet}
        """
    found = topology(bare)
    data = YAML(typ="safe").load(textwrap.dedent(bare))

    def listed(part: dict[str, object], *keys: str) -> None:
        for key in keys:
            part[key] = [part[key]]

    logical, nodes = data["logical"], data["nodes"]
    listed(nodes["gw"], "physical", "transport_zones")
    listed(nodes["inet"], "routes")
    nodes["inet"]["physical"]["ext"] = ["203.0.113.254"]
    listed(logical["switches"]["n"]["ports"]["vm1"], "ip", "serve")
    listed(logical["routers"]["r"]["ports"]["pub"], "ip", "gateway_chassis")
    listed(logical["routers"]["r"], "routes", "nat")
    listed(logical["port_groups"]["g"], "ports")
    listed(logical["load_balancers"]["lb"], "backends", "switches", "routers")
    listed(logical, "acls", "qos")
    listed(logical["ha_chassis_groups"], "h")
    listed(data, "checks")
    assert unplaced(topology(json.dumps(data))) == unplaced(found)
    jsonschema.validate(YAML(typ="safe").load(textwrap.dedent(bare)), json.loads(schema_text()))


def test_no_list_of_the_grammar_refuses_a_single_value() -> None:
    """Also one that is added later: in the schema, each array has its item as another form."""

    def arrays(part: object, path: str, *, alone: bool) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in arrays(item, path, alone=alone)]
        if not isinstance(part, dict):
            return []
        found = [path] if part.get("type") == "array" and alone else []
        for key, value in part.items():
            found += arrays(value, f"{path}.{key}" if key not in ("anyOf", "items") else path, alone=key != "anyOf")
        return found

    assert arrays(json.loads(schema_text()), "", alone=True) == []


def test_settings_are_put_over_the_file_and_named_in_mistakes() -> None:
    assert topology(NODES, settings=["underlay.mtu=1400"]).underlay.mtu == 1400
    assert topology("nodes: [central]", settings=["nodes.central.role=central"]).central.name == "central"
    with pytest.raises(TopologyError, match=r"--set underlay\.mtu: mtu: must be a whole number"):
        topology(NODES, settings=["underlay.mtu=much"])
    with pytest.raises(UsageError, match="must be KEY=VALUE"):
        topology(NODES, settings=["nonsense"])


def test_everything_is_decided_and_stays_so() -> None:
    text = """\
        nodes: {central: {role: central}, w1: {}, w2: {ip: 192.168.50.2}}
        logical:
          switches:
            s: {subnet: [10.0.0.0/24, "fd00::/64"], ports: {a: , b: {ip: 10.0.0.2}, c: {ip: [10.0.0.9, "fd00::9"]}}}
          routers: {r: {ports: {s: {ip: [10.0.0.1/24, "fd00::1/64"]}}}}
        """
    found = topology(text)
    assert found == topology(text)
    assert found.name == "lab"
    assert [node.ip for node in found.nodes] == ["192.168.50.3", "192.168.50.4", "192.168.50.2"]
    assert len({node.mac for node in found.nodes} | {vm.mac for vm in found.vms}) == 6
    assert [vm.addresses for vm in found.vms] == [
        ("10.0.0.3/24", "fd00::2/64"),
        ("10.0.0.2/24",),
        ("10.0.0.9/24", "fd00::9/64"),
    ]
    assert [vm.gateways for vm in found.vms] == [
        ("10.0.0.1", "fd00::1"),
        ("10.0.0.1",),
        ("10.0.0.1", "fd00::1"),
    ]
    assert {vm.mtu for vm in found.vms} == {1442}


@pytest.mark.parametrize(
    ("encap", "underlay", "mtu"), [("geneve", 1500, 1442), ("vxlan", 1500, 1450), ("geneve", 9000, 1500)]
)
def test_fake_vms_get_what_the_encapsulation_leaves(encap: str, underlay: int, mtu: int) -> None:
    text = f"{NODES}encap: {encap}\nunderlay: {{mtu: {underlay}}}\nlogical: {{switches: {{s: {{ports: {{v: }}}}}}}}\n"
    assert topology(text).vms[0].mtu == mtu


@pytest.mark.parametrize(
    "text",
    [
        "datapath: kernel", "provider: vagrant\nmachines: {xml: <watchdog/>}", "provider: vagrant\nmachines: {uri: 'qemu+ssh://host/system'}",
        "logical: {switches: {s: {ports: {v: {mtu: 2000}}}}}",
    ],
)  # fmt: skip
def test_what_cannot_be_done_yet_is_refused_and_valid(text: str) -> None:
    full = text if text.startswith("nodes") else f"{NODES}{text}"
    loaded = load_text("lab.yaml", full.encode())
    with pytest.raises(TopologyError, match="cannot be done by this version of ovnlab yet"):
        loaded.refuse_unsupported()


def test_the_whole_grammar_is_accepted() -> None:
    """The example of the format's description, shortened by nothing."""
    loaded = load(str(Path(__file__).with_name("everything.yaml")))
    assert {node.role for node in loaded.topology.nodes} == {"central", "worker", "gateway", "relay", "host"}
    loaded.refuse_unsupported()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_topologies_are_supported_and_explained(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=topology.schema.json\n")
    assert text.splitlines()[2].startswith("# ")
    loaded = load(str(path))
    loaded.refuse_unsupported()
    assert loaded.topology.name == path.stem


def test_the_schema_file_is_the_models() -> None:
    assert (ROOT / "topologies" / "topology.schema.json").read_text() == schema_text()


@pytest.mark.parametrize("path", [*SHIPPED, Path(__file__).with_name("everything.yaml")], ids=lambda path: path.stem)
def test_the_schema_accepts_what_the_loader_accepts(path: Path) -> None:
    data = YAML(typ="safe", pure=True).load(path.read_text())
    jsonschema.Draft202012Validator(json.loads(schema_text())).validate(data)


@pytest.mark.parametrize(
    "text",
    ["nodes: {c: {role: centrl}}", "nodes: {c: {}}\nfoo: 1", "nodes: {c: {ip: 3}}", "nodes: {c: {cpus: x}}"],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    data = YAML(typ="safe", pure=True).load(text)
    assert not jsonschema.Draft202012Validator(json.loads(schema_text())).is_valid(data)
    assert mistakes(text)


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(),
    st.sampled_from(["central", "geneve", "10.0.0.0/24", "10.0.0.1", "0a:00:00:00:00:01", "dhcp", "packages", "vm1"]),
)  # fmt: skip
_keys = st.one_of(st.sampled_from(sorted(TopologyFile.model_fields)), st.sampled_from(
    ["central", "role", "ip", "switches", "routers", "ports", "subnet", "mac", "chassis", "git", "mtu", "vip", "from"]),
    st.text(max_size=6),
)  # fmt: skip
_data = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=20,
)


def _only_its_own_error(content: bytes) -> None:
    try:
        loaded = load_text("lab.yaml", content)
        loaded.refuse_unsupported()
    except TopologyError as error:
        assert error.mistakes  # noqa: PT017  that it may also be accepted is the point


@given(_data)
def test_no_data_makes_the_loader_raise_anything_but_its_own_error(data: object) -> None:
    _only_its_own_error(json.dumps(data, default=str).encode())


@given(st.dictionaries(_keys, _data, max_size=4))
def test_no_topology_makes_the_loader_raise_anything_but_its_own_error(data: dict[str, object]) -> None:
    _only_its_own_error(json.dumps({"nodes": {"central": {"role": "central"}}, **data}, default=str).encode())


@given(st.binary(max_size=80) | st.text(alphabet="ab:-[]{}&*!|>?%@#'\"\n\t ,0.~<", max_size=60).map(str.encode))
def test_no_text_makes_the_loader_raise_anything_but_its_own_error(content: bytes) -> None:
    _only_its_own_error(content)


@pytest.mark.parametrize("content", [b"[" * 5000, b"a: " * 3000, b"{a: " * 2000, b"a: 2020-99-99", b"x: !!python/object:a.b {}", b"a: " + b"9" * 5000,
    b"a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"])  # fmt: skip
def test_hostile_text(content: bytes) -> None:
    assert mistakes(content)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_interface_names_fit_the_kernel(name: str) -> None:
    assert 1 <= len(interface_name(name).encode()) <= 15
    assert (interface_name(name) == name) == (len(name) <= 15)


def test_reserved_names_are_refused_for_fake_vms_and_nodes() -> None:
    for name in RESERVED:
        assert any("is the name of an interface" in line for line in mistakes(f"nodes: {{{name}: {{role: central}}}}"))
