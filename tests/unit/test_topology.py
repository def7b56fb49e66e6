"""The topology file: every mistake is found, with its place and what was meant."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ovnlab.errors import TopologyError, UsageError
from ovnlab.topology.load import load, load_text
from ovnlab.topology.model import TopologyFile
from ovnlab.topology.resolved import RESERVED, Topology, interface_name
from ovnlab.topology.schema import FILE, schema_text

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "topologies").glob("*.yaml"))
NODES = "nodes: {central: {role: central}, w1: {}}\n"


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
        (NODES + "name: Big\n", "lab.yaml:2:7: name: 'Big' is no name for a lab"),
        (NODES + f"name: {'x' * 33}\n", "lab.yaml:2:7: name: the name of a lab has 1 to 32 characters, this one has 33"),
        ("nodes: {w1: {}}\n", "lab.yaml:1:8: no node has role central"),
        ("nodes: [a, a]\n", "a' stands here twice"),
        ("nodes: {central: {role: central}, central: {}}\n", "lab.yaml:1:35: 'central' stands here twice"),
        ("{}\n", "lab.yaml:1:1: 'nodes' is missing"),
        ("name: x\nnodes:\n", "lab.yaml:2:1: 'nodes' is empty"),
        ("", "lab.yaml: is empty"),
        ("# nothing\n", "lab.yaml: is empty"),
        ("- a\n", "lab.yaml:1:1: must be a mapping"),
        ("nodes: [a\n", "lab.yaml:2:1: not valid YAML"),
        ("nodes: {a: &x {role: *x}}\n", "refers to itself"),
        (f"nodes: {{{'n' * 64}: {{role: central}}}}\n", "a name has at most 63 characters, this one has 64"),
        ("nodes: {-x: {role: central}}\n", "'-x' is no name"),
        ("nodes: {eth1: {role: central}}\n", "'eth1' is the name of an interface that every lab has"),
        ("nodes: {c: {role: central, ip: 10.0.0.1}}\n", "lab.yaml:1:32: 10.0.0.1 is outside 192.168.50.0/24 of the underlay"),
        ("nodes: {c: {role: central, ip: 192.168.50.300}}\n", "lab.yaml:1:32: ip: '192.168.50.300' is no IP address"),
        ("nodes: {c: {role: central, ip: 192.168.50.5}, d: {ip: 192.168.50.5}}\n", "192.168.50.5 is the address of c already"),
        ("nodes: {c: {role: central, ip: 192.168.50.255}}\n", "192.168.50.255 is the broadcast address"),
        (NODES + "underlay: {subnet: 192.168.50.1/24}\n", "did you mean 192.168.50.0/24?"),
        (NODES + "underlay: {subnet: 10.0.0.0/32}\n", "has too few addresses for 2 nodes"),
        (NODES + "underlay: {subnet: 224.0.0.0/24}\n", "cannot be a subnet"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: nonsense}}}}}\n", "'nonsense' is no MAC address"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: '01:00:00:00:00:01'}}}}}\n", "is a multicast address"),
        (NODES + "logical: {switches: {s: {ports: {v: {mac: '0a:00:00:00:00:01'}, w: {mac: '0A:00:00:00:00:01'}}}}}\n", "is the MAC address of v already"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {ip: 10.0.1.1}}}}}\n", "10.0.1.1 is outside 10.0.0.0/24 of s"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {ip: 10.0.0.5}, w: {ip: 10.0.0.5}}}}}\n", "10.0.0.5 is the address of v already"),
        (NODES + "logical: {switches: {s: {ports: {v: {ip: 10.0.0.5}}}}}\n", "s has no subnet that 10.0.0.5 could be in"),
        (NODES + "logical: {switches: {s: {ports: {v: {chassis: w2}}}}}\n", "there is no node 'w2' (there is central, w1)"),
        (NODES + "logical: {switches: {s: {ports: {w1: {}}}}}\n", "'w1' is the name of a node already"),
        (NODES + "logical: {switches: {s: {ports: {v: }}, t: {ports: {v: }}}}\n", "'v' is the name of a port of s already"),
        (NODES + "logical: {switches: {s: {ports: {eth1: }}}}\n", "'eth1' is the name of an interface that every node has"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {t: {ip: 10.0.0.1/24}}}}}\n", "there is no switch 't' (there is s)"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {s: {}}}}}\n", "'ip' is missing in logical.routers.r.ports.s"),
        (NODES + "logical: {switches: {s: {}}, routers: {r: {ports: {s: {ip: 10.0.0.1}}}}}\n", "needs a prefix length, such as 10.0.0.1/24"),
        (NODES + "logical: {switches: {s: {}, t: {}}, routers: {r: {ports: {s: {ip: 10.0.0.1/24}, t: {ip: 10.0.0.129/25}}}}}\n", "overlaps 10.0.0.1/24 on s on the same router"),
        (NODES + "logical: {switches: {s: {subnet: 10.0.0.0/24}}, routers: {r: {ports: {s: {ip: 10.0.0.1/16}}}}}\n", "another prefix length than 10.0.0.0/24"),
        (NODES + "logical: {switches: {s: {vlan: 5000}}}\n", "must be less than or equal to 4094"),
        (NODES + "logical: {switches: {s: {physical_network: x}}}\n", "there is no physical network 'x'"),
        (NODES + "logical: {acls: [{switch: s, direction: up, priority: 1, match: ip, action: drop}]}\n", "direction: up is not one of from-lport or to-lport"),
        (NODES + "checks: [{ping: nobody, from: w1}]\n", "there is no node or fake VM 'nobody'"),
        (NODES + "checks: [{from: w1}]\n", "needs exactly one of ping and tcp"),
        (NODES + "software: {ovs: {git: x, path: y}}\n", "needs exactly one of git, tarball, path and distro: true"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_was_meant(text: str, said: str) -> None:
    assert any(said in line for line in mistakes(text)), mistakes(text)


def test_a_misspelt_role_is_one_mistake() -> None:
    assert mistakes("nodes: {c: {role: centrl}}") == [
        "lab.yaml:1:19: role: centrl is not one of central, worker, gateway or host (did you mean 'central'?)"
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
        "provider: libvirt", "datapath: kernel", "tls: true", "software: {ovn: {distro: true}}",
        "physical_networks: {x: {bridge: br-ex}}", "checks: [{ping: w1, from: central}]",
        "nodes: {central: {role: central}, w1: {role: central}}", "nodes: {central: {role: central}, g: {role: gateway}}",
        "nodes: {central: {role: central}, h: {role: host}}", "nodes: {central: {role: central}, w: {encap: vxlan}}",
        "nodes: {central: {role: central}, w: {software: system}}", "underlay: {subnet: 'fd00::/64'}",
        "logical: {switches: {s: {dhcp: true}}}", "logical: {switches: {s: {dhcp: true, ports: {v: {ip: dhcp}}}}}",
        "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24}}, routes: [{prefix: 0.0.0.0/0, nexthop: 10.0.0.2}]}}}",
        "logical: {switches: {s: }, routers: {r: {ports: {s: {ip: 10.0.0.1/24}}, nat: [{type: snat, external: 10.0.0.1, logical: 10.1.0.0/24}]}}}",
        "logical: {switches: {s: }, acls: [{switch: s, direction: to-lport, priority: 1, match: ip, action: drop}]}",
        "logical: {switches: {s: }, load_balancers: {l: {vip: '10.0.0.1:80', backends: ['10.0.0.2:80']}}}",
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
    assert {node.name for node in loaded.topology.nodes} == {
        "central",
        "worker1",
        "worker2",
        "gw1",
        "gw2",
        "host1",
    }
    with pytest.raises(TopologyError):
        loaded.refuse_unsupported()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_topologies_are_supported_and_explained(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# yaml-language-server: $schema={FILE}\n")
    assert text.splitlines()[2].startswith("# ")
    loaded = load(str(path))
    loaded.refuse_unsupported()
    assert loaded.topology.name == path.stem


def test_the_schema_file_is_the_models() -> None:
    assert (ROOT / "topologies" / FILE).read_text() == schema_text()


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


@settings(max_examples=400, deadline=None)
@given(_data)
def test_no_data_makes_the_loader_raise_anything_but_its_own_error(data: object) -> None:
    _only_its_own_error(json.dumps(data, default=str).encode())


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(_keys, _data, max_size=4))
def test_no_topology_makes_the_loader_raise_anything_but_its_own_error(data: dict[str, object]) -> None:
    _only_its_own_error(json.dumps({"nodes": {"central": {"role": "central"}}, **data}, default=str).encode())


@settings(max_examples=400, deadline=None)
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
