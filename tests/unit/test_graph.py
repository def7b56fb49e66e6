"""Pictures: all that a lab has is in them, nothing covers anything else, and a lab that runs shows what is wrong."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import msgspec
import pytest

from ovnlab.cli.app import run
from ovnlab.graph.dot import dot
from ovnlab.graph.lab_state import Live, LiveNode, LivePort, LiveTunnel
from ovnlab.graph.mermaid import mermaid
from ovnlab.graph.picture import Picture, State
from ovnlab.graph.picture_builder import portray
from ovnlab.graph.svg import svg
from ovnlab.lab import lab as labs
from ovnlab.lab import status as states
from ovnlab.lab.status import DaemonStatus, NodeStatus, PortStatus, Status, TunnelStatus
from ovnlab.shipped import find_topology
from ovnlab.topology.load import load, load_text
from ovnlab.topology.resolved import Topology

EVERYTHING = str(Path(__file__).parent / "everything.yaml")
SVG = "{http://www.w3.org/2000/svg}"

LANGUAGES: dict[str, Callable[[Picture, str], str]] = {"svg": svg, "mermaid": mermaid, "dot": dot}


def shipped(name: str) -> Topology:
    return load(find_topology(name)).topology


def topology(text: str) -> Topology:
    return load_text("test.yaml", text.encode()).topology


def large(nodes: int, vms: int = 0) -> Topology:
    """One central without chassis, otherwise workers, two of them gateways; two routers; every fifth VM unbound."""
    workers = [f"worker{number}" for number in range(1, nodes - 2)]
    lines = ["physical_networks:", "  external: {subnet: 10.0.0.0/24, bridge: br-ex}", "nodes:"]
    lines += ["  central: {role: central}", *(f"  {name}: {{}}" for name in workers)]
    lines += [f"  gw{number}: {{role: gateway, physical: {{external: 10.0.0.4{number}}}}}" for number in (1, 2)]
    lines += ["logical:", "  switches:", "    public: {physical_network: external}"]
    for switch in range(4):
        lines += [f"    network{switch}:", f"      subnet: 10.{switch + 1}.0.0/16", "      dhcp: true", "      ports:"]
        for number in range(switch, vms, 4):
            bound = f"chassis: {workers[number % len(workers)]}" if workers and number % 5 else ""
            lines.append(f"        vm{number}: {{{bound}}}")
        lines += ["        {}"] * (not vms)
    lines += [
        "  routers:",
        "    edge:",
        "      ports:",
        "        public: {ip: 10.0.0.4/24, gateway_chassis: [gw2, gw1]}",
    ]
    lines += [f"        network{switch}: {{ip: 10.{switch + 1}.0.1/16}}" for switch in range(4)]
    lines += [
        "      nat:",
        *(f"        - {{type: snat, external: 10.0.0.4, logical: 10.{n}.0.0/16}}" for n in range(1, 13)),
    ]
    return topology("\n".join(lines))


LONG = "a-name-that-is-as-long-as-names-of-nodes-may-be-with-the-rest"

AWKWARD = f"""
underlay: {{subnet: "fd00:1234:5678:9abc::/64"}}
physical_networks:
  {LONG}-1: {{subnet: ["2001:db8:1111:2222::/64", 10.0.0.0/24]}}
  two: {{subnet: 10.0.2.0/24}}
  three: {{}}
nodes:
  {LONG}: {{role: gateway}}
  c: {{role: central}}
  b: {{role: gateway, physical: [{LONG}-1, two, three], routes: [{{prefix: "2001:db8::/32", nexthop: ["fd00:1234:5678:9abc::77"]}}]}}
  h: {{role: host, physical: {{{LONG}-1: ["2001:db8:1111:2222:3333:4444:5555:6666", 10.0.0.9], two: 10.0.2.2, three: dhcp}}}}
logical:
  switches:
    {LONG}-s:
      subnet: ["2001:db8:aaaa:bbbb::/64", 10.9.0.0/16]
      dhcp: true
      physical_network: {LONG}-1
      vlan: 4094
      other_config: {{a: b}}
      ports:
        {LONG}-p: {{chassis: {LONG}, ip: ["2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"]}}
        {LONG}-q: {{}}
  routers:
    {LONG}-r:
      ports:
        {LONG}-s: {{ip: ["2001:db8:aaaa:bbbb:cccc:dddd:eeee:1/64", 10.9.0.1/16], gateway_chassis: [{LONG}, b]}}
      nat:
        - {{type: dnat_and_snat, external: "2001:db8:aaaa:bbbb::99", logical: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", port: {LONG}-p}}
  load_balancers:
    {LONG}-l: {{vip: "10.9.9.9:80", backends: ["10.9.0.3:80", "10.9.0.4:80", "10.9.0.5:80"], switches: [{LONG}-s], routers: [{LONG}-r]}}
"""

ZONES = """
physical_networks: {external: {subnet: 10.0.0.0/24}}
nodes:
  a1: {role: central, zone: east, chassis: false}
  a2: {role: central, zone: east, chassis: false}
  a3: {role: central, zone: east, chassis: false}
  wa: {zone: east}
  ga: {role: gateway, zone: east}
  b1: {role: central, zone: west}
  gb: {role: gateway, zone: west, physical: [external]}
  host1: {role: host, physical: {external: 10.0.0.48}}
logical:
  switches:
    na: {zone: east, subnet: 10.1.0.0/24, ports: {va: {chassis: wa}}}
    nb: {zone: west, subnet: 10.2.0.0/24, ports: {vb: {chassis: b1}}}
    ts: {transit: true, subnet: 169.254.1.0/24}
  routers:
    ra: {zone: east, ports: {na: {ip: 10.1.0.1/24}, ts: {ip: 169.254.1.1/24, gateway_chassis: [ga]}}}
    rb: {zone: west, ports: {nb: {ip: 10.2.0.1/24}, ts: {ip: 169.254.1.2/24, gateway_chassis: [gb]}}}
"""

CASES: dict[str, Callable[[], Topology]] = {
    "single": lambda: shipped("single"),
    "3": lambda: shipped("3node"),
    "6": lambda: shipped("gateway"),
    "everything": lambda: load(EVERYTHING).topology,
    "zones": lambda: topology(ZONES),
    "awkward": lambda: topology(AWKWARD),
    "nothing": lambda: topology("nodes: {central: {role: central, chassis: false}}"),
    "30": lambda: large(30, 200),
}


# ── what was drawn ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Text:
    words: str
    left: float
    top: float
    right: float
    bottom: float
    style: str

    def covers(self, other: Text) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def drawn(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  it was written a moment ago


def texts(root: ElementTree.Element) -> Iterator[Text]:
    """The boxes of all text, by an estimate of its own: a digit of Arial and Helvetica is 0.556 em wide."""
    style = root.findtext(f"{SVG}style", "")
    fonts = {name: float(size) for name, size in re.findall(r"\.(\w+)\{font:\d+ ([\d.]+)px", style)}
    mono = {name for name, rest in re.findall(r"\.(\w+)\{font:([^}]*)", style) if "monospace" in rest}
    for element in root.iter(f"{SVG}text"):
        words, (font, ink) = element.text or "", element.attrib["class"].split()
        width = sum(0.6 if font in mono else 0.25 if char in "ijl .,:;|'-" else 0.56 for char in words) * fonts[font]
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        left = x - {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor", "start")] * width
        yield Text(words, left, y - fonts[font] * 0.74, left + width, y + fonts[font] * 0.2, ink)


def words_in(text: str, language: str) -> str:
    """All that can be read in a picture, tooltips included."""
    if language == "svg":
        root = drawn(text)
        for style in root.findall(f"{SVG}style"):
            root.remove(style)
        return "\n".join(root.itertext())
    if language == "mermaid":
        return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text.replace("<br/>", "\n"))
    return html.unescape(re.sub(r"</?\w[^>]*>", " ", text.replace("\\n", "\n")))


def has(words: str, name: str) -> bool:
    """Whether a name is there, and not only as a part of a longer one."""
    return re.search(rf"(?<![\w.:-]){re.escape(name)}(?![\w-])", words) is not None


def paths(root: ElementTree.Element, style: str) -> list[ElementTree.Element]:
    """What is drawn in a style, without the sample of it in the legend, which is a short straight line."""
    found = [path for path in root.iter(f"{SVG}path") if path.get("class") == style]
    return [path for path in found if re.fullmatch(r"M\S+ (\S+)L\S+ \1", path.attrib["d"]) is None]


def class_of_rect(root: ElementTree.Element, word: str) -> set[str]:
    """The classes of the boxes that a word is alone in: its pills."""
    found = set()
    for parent in root.iter():
        children = list(parent)
        for before, child in pairwise(children):
            if child.tag == f"{SVG}text" and child.text == word and child.get("text-anchor") == "middle":
                found.add(before.attrib["class"])
    return found


# ── all of it is there ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_of_a_lab_is_in_its_picture(language: str) -> None:
    lab = load(EVERYTHING).topology
    words = words_in(LANGUAGES[language](portray(lab), "both"), language)
    expected = [lab.underlay.subnet, *lab.physical_networks, "br-ex"]
    for node in lab.nodes:
        expected += [node.name, node.ip, *(address for nic in node.nics for address in nic.addresses)]
    for switch in lab.switches:
        expected += [switch.name, *switch.subnets]
        expected += [word for port in switch.ports for word in (port.name, *port.ips)]
    for router in lab.routers:
        expected += [router.name, *(network for port in router.ports for network in port.networks)]
        expected += [word for nat in router.nat for word in (nat.type, nat.external, nat.logical)]
        expected += [word for route in router.routes for word in (route.prefix, route.nexthop)]
    for balancer in lab.load_balancers:
        expected += [balancer.name, balancer.vip, *balancer.backends]
    expected += [
        "DHCP",
        "DNS 1",
        "2 ACLs",
        "QoS 1",
        "VLAN 100",
        "virtual",
        "external",
        "gateway router on",
        "vm1.lab.test",
    ]
    assert [name for name in expected if name and not has(words, name)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_view_shows_its_half_only(language: str) -> None:
    picture = portray(shipped("gateway"))
    physical, logical = (words_in(LANGUAGES[language](picture, view), language) for view in ("physical", "logical"))
    assert has(physical, "host1")
    assert not has(physical, "router1")
    assert has(logical, "router1")
    assert not has(logical, "host1")
    assert not has(logical, "192.168.50.100")


def test_nat_is_written_external_to_logical() -> None:
    for language, draw in LANGUAGES.items():
        words = " ".join(words_in(draw(portray(shipped("gateway")), "both"), language).split())
        assert "dnat_and_snat 10.0.0.12 → 192.168.0.12" in words


def test_a_switch_tells_which_acls_it_has() -> None:
    (element,) = [
        group
        for group in drawn(svg(portray(load(EVERYTHING).topology))).iter(f"{SVG}g")
        if "2 ACLs" in group.itertext()
    ]
    details = element.findtext(f"{SVG}title", "")
    assert "to-lport 1001 outport == @web_servers: drop" in details
    assert "to-lport 1000 ip4 && tcp.dst == 22: allow-related" in details


def test_gateways_are_in_their_order() -> None:
    words = [text for text in texts(drawn(svg(portray(large(6)), "logical"))) if text.words in ("gw1", "gw2")]
    assert [text.words for text in sorted(words, key=lambda text: text.left)] == ["gw2", "gw1"]


def test_a_cluster_and_zones_are_said() -> None:
    picture = portray(topology(ZONES))
    for language, draw in LANGUAGES.items():
        words = words_in(draw(picture, "both"), language)
        for expected in ("zone east", "zone west", "RAFT cluster of 3", "RAFT 2 of 3", "interconnection", "transit"):
            assert expected in words, (language, expected)


def test_a_zone_is_a_box_round_its_nodes() -> None:
    root = drawn(svg(portray(topology(ZONES)), "physical"))
    assert {"zone east", "RAFT cluster of 3", "zone west"} <= {text.words for text in texts(root)}
    boxes = [box for box in root.iter(f"{SVG}rect") if box.get("class") == "zone"]
    assert len(boxes) == 2
    at = {text.words: text for text in reversed(list(texts(root)))}  # not what the legend says
    for box, inside, outside in zip(
        boxes, (["a1", "wa", "ga"], ["b1", "gb"]), (["b1", "gb", "host1"], ["a1", "host1"]), strict=True
    ):
        left, top = float(box.attrib["x"]), float(box.attrib["y"])
        right, bottom = left + float(box.attrib["width"]), top + float(box.attrib["height"])
        found = [name for name, text in at.items() if left < text.left < right and top < text.top < bottom]
        assert set(inside) <= set(found)
        assert not set(outside) & set(found)


def test_a_rack_is_on_its_network_and_not_on_the_underlay() -> None:
    node = next(node for node in portray(load(EVERYTHING).topology).nodes if node.name == "worker3")
    assert not node.on_underlay
    assert [(nic.network, nic.addresses) for nic in node.nics] == [("rack", ("10.1.0.2/24",))]


# ── it can be looked at ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("view", ["physical", "logical", "both"])
@pytest.mark.parametrize("case", CASES)
def test_no_text_covers_another(case: str, view: str) -> None:
    root = drawn(svg(portray(CASES[case]()), view))
    found = list(texts(root))
    assert found
    assert [(a.words, b.words) for a, b in combinations(found, 2) if a.covers(b)] == []
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    assert [t.words for t in found if t.left < 0 or t.top < 0 or t.right > width or t.bottom > height] == []
    assert width <= 1600


@pytest.mark.parametrize("case", CASES)
def test_no_text_covers_another_where_all_is_broken(case: str) -> None:
    lab = CASES[case]()
    nodes = tuple(
        LiveNode(node.name, number % 3 != 1, ("not running: ovn-controller",)) for number, node in enumerate(lab.nodes)
    )
    found = list(texts(drawn(svg(portray(lab, Live("degraded", nodes))))))
    assert [(a.words, b.words) for a, b in combinations(found, 2) if a.covers(b)] == []


def test_thirty_nodes_have_no_lines_between_all_of_them() -> None:
    lab = large(30)
    text = svg(portray(lab))
    assert len(paths(drawn(text), "tunnel")) == 0
    assert "full mesh of 435 tunnels, geneve" in text
    for draw in (mermaid, dot):
        assert len(draw(portray(lab)).splitlines()) < 200
        assert "full mesh of 435 tunnels, geneve" in draw(portray(lab))


def test_few_chassis_have_an_arc_for_each_tunnel() -> None:
    assert len(paths(drawn(svg(portray(shipped("gateway")))), "tunnel")) == 10
    assert mermaid(portray(shipped("gateway"))).count(" -.- ") == 10
    assert dot(portray(shipped("gateway"))).count("style=dotted") == 10


def test_many_vms_are_counted_and_named_when_pointed_at() -> None:
    lab = large(30, 200)
    text = svg(portray(lab))
    assert text.count(" more</text>") > 4
    words = words_in(text, "svg")
    assert [vm.name for vm in lab.vms if not has(words, vm.name)] == []
    assert int(drawn(text).attrib["height"]) < 4000


def test_a_chassis_has_the_same_colour_in_both_halves() -> None:
    physical, logical = (drawn(svg(portray(shipped("routed")), view)) for view in ("physical", "logical"))
    card = next(parent for parent in physical.iter(f"{SVG}g") if any(child.text == "worker2" for child in parent))
    band = next(child.attrib["class"] for child in card if child.tag == f"{SVG}path")
    assert class_of_rect(logical, "worker2") == {band}
    assert class_of_rect(logical, "worker1") != {band}


def test_the_picture_says_what_it_is_to_who_cannot_see_it() -> None:
    root = drawn(svg(portray(shipped("gateway"))))
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "ovnlab: gateway"
    assert (
        root.findtext(f"{SVG}desc") == "6 nodes · 2 switches · 1 router · 2 fake VMs; full mesh of 10 tunnels, geneve"
    )


def test_there_are_colours_for_light_and_dark() -> None:
    light, dark = (
        drawn(svg(portray(shipped("3node")))).findtext(f"{SVG}style", "").split("@media (prefers-color-scheme:dark)")
    )
    rules = [set(re.findall(r"\.ovnlab \.([\w-]+)\{(?:fill|stroke):", part)) for part in (light, dark)]
    assert rules[0] == rules[1]
    assert "paper" in rules[0]


# ── what may stand in a file ─────────────────────────────────────────────────────────────────────────────

HOSTILE = """
nodes: {central: {role: central}}
logical:
  switches:
    s1:
      subnet: 10.0.0.0/24
      dns: {"<b>&\\"a`;#}{CONTROL\\\\": 10.0.0.5}
      other_config: {"k.k": "]]>&\\"vNEWLINE"}
      ports: {vm1: {}}
  acls:
    - {switch: s1, direction: to-lport, priority: 1, match: "ip4 && tcp.dst < 1024\\n  || eth.src == $x", action: drop}
  address_sets: {x: ["0a:00:00:00:00:01"]}
"""


def test_what_is_markup_elsewhere_is_text_here() -> None:
    """Databases hold what a file cannot: control characters."""
    written = msgspec.json.encode(topology(HOSTILE)).replace(b"CONTROL", rb"\u0001").replace(b"NEWLINE", rb"\n")
    picture = portray(msgspec.json.decode(written, type=Topology))
    words = words_in(svg(picture), "svg")
    assert "to-lport 1 ip4 && tcp.dst < 1024 || eth.src == $x: drop" in words
    assert '<b>&"a`;#}{\N{REPLACEMENT CHARACTER}\\: 10.0.0.5' in words
    chart = mermaid(picture)
    assert not re.search(r"<(?!br/>)", chart)
    assert all(line.count('"') in (0, 2, 4) for line in chart.splitlines())
    for label in labels(dot(picture)):
        assert drawn(label).tag == "table"
    assert has(words_in(dot(picture), "dot"), "10.0.0.5")


def labels(text: str) -> list[str]:
    return re.findall(r"label=<(<table.*</table>)>", text)


@pytest.mark.parametrize("case", CASES)
def test_mermaid_and_dot_name_only_what_they_declare(case: str) -> None:
    picture = portray(CASES[case]())
    chart = mermaid(picture)
    declared = re.findall(r"^  (\w+)\[", chart, re.MULTILINE)
    ends = re.findall(r"^  (\w+) (?:---|-\.-)(?:\|.*\|)? (\w+)$", chart, re.MULTILINE)
    assert len(set(declared)) == len(declared)
    assert {end for pair in ends for end in pair} <= set(declared)
    assert len(re.findall(r"^  subgraph ", chart, re.MULTILINE)) == chart.splitlines().count("  end")
    graph = dot(picture)
    declared = re.findall(r"^\s+(\w+) \[label=<", graph, re.MULTILINE)
    ends = re.findall(r"^  (\w+) -- (\w+) \[", graph, re.MULTILINE)
    assert len(declared) == len(set(declared)) == len(labels(graph))
    assert {end for pair in ends for end in pair} <= set(declared)
    bare = re.sub(r"<table.*</table>|\"(?:\\.|[^\"\\])*\"", "", graph)
    assert bare.count("{") == bare.count("}")
    for label in labels(graph):
        assert drawn(label).tag == "table"


# ── bound, and running ───────────────────────────────────────────────────────────────────────────────────


def line_of(chart: str, start: str) -> str:
    return next(line for line in chart.splitlines() if line.strip().startswith(start))


def test_a_vm_is_where_it_is_bound() -> None:
    unbound, bound = portray(shipped("3node")), portray(shipped("routed"))
    assert [port.name for port in unbound.unbound] == ["vm1", "vm2"]
    assert bound.unbound == ()
    assert {node.name: [vm.name for vm in node.vms] for node in bound.nodes} == {
        "central": [],
        "worker1": ["vm1"],
        "worker2": ["vm2"],
    }
    assert "not bound" in svg(unbound)
    assert "not bound" not in svg(bound)
    assert has(line_of(mermaid(unbound), "unbound_vms"), "vm1")
    assert has(line_of(mermaid(bound), "n1["), "vm1")
    assert "unbound_vms" not in mermaid(bound)
    assert class_of_rect(drawn(svg(unbound)), "unbound") == {"none"}


def running(
    lab: Topology, *, broken: tuple[str, ...] = (), stopped: str = "", bound: dict[str, str] | None = None
) -> Live:
    """A lab that runs, one tunnel broken as its second end sees it, and ports bound."""
    nodes = tuple(LiveNode(node.name, node.name != stopped) for node in lab.nodes)
    tunnels = tuple(
        LiveTunnel(node.name, peer.name, "geneve", (peer.name, node.name) != broken and stopped != peer.name)
        for node in lab.chassis
        for peer in lab.peers(node)
        if node.name != stopped
    )
    places = bound or {}
    ports = tuple(LivePort(vm.name, "network1", vm.ips, places.get(vm.name), vm.name in places) for vm in lab.vms)
    return Live("up" if not broken and not stopped else "degraded", nodes, tunnels, ports)


def test_a_lab_that_is_well_has_nothing_broken() -> None:
    lab = shipped("gateway")
    root = drawn(svg(portray(lab, running(lab))))
    assert len(paths(root, "tunnel")) == 10
    assert paths(root, "broken") == []
    assert [text.words for text in texts(root) if text.style == "bad"] == []
    assert "up" in [text.words for text in texts(root)]


def test_a_broken_tunnel_is_marked() -> None:
    lab = shipped("gateway")
    picture = portray(lab, running(lab, broken=("worker1", "gw1")))
    root = drawn(svg(picture))
    assert len(paths(root, "broken")) == 1
    assert len(paths(root, "tunnel")) == 9
    assert {text.words for text in texts(root) if text.style == "bad"} == {
        "1 broken",
        "✕ no tunnel to gw1",
        "✕ no tunnel to worker1",
    }
    assert "geneve broken" in mermaid(picture)
    assert re.search(r"linkStyle \d+ stroke:#cf222e", mermaid(picture))
    assert dot(picture).count('label="geneve broken"') == 1


def test_the_broken_one_of_many_tunnels_is_drawn() -> None:
    lab = large(30)
    picture = portray(lab, running(lab, broken=("worker2", "worker20")))
    root = drawn(svg(picture, "physical"))
    assert len(paths(root, "broken")) == 1
    assert paths(root, "tunnel") == []
    assert [tunnel.ends for tunnel in picture.drawn_tunnels] == [("worker2", "worker20")]


def test_a_tunnel_that_is_not_there_is_broken() -> None:
    lab = shipped("3node")
    live = running(lab)
    live = replace(live, tunnels=tuple(t for t in live.tunnels if {t.node, t.peer} != {"worker1", "worker2"}))
    assert [tunnel.ends for tunnel in portray(lab, live).tunnels if not tunnel.working] == [("worker1", "worker2")]


def test_a_node_that_does_not_run_is_marked() -> None:
    lab = shipped("gateway")
    picture = portray(lab, running(lab, stopped="gw2"))
    (card,) = [group for group in drawn(svg(picture)).iter(f"{SVG}g") if group.get("class") == "off"]
    assert "gw2" in card.itertext()
    assert "gw1" not in card.itertext()
    assert "✕ not running" in svg(picture)
    assert "not running" in line_of(mermaid(picture), "n4[")
    assert line_of(mermaid(picture), "n4[").endswith(":::off")
    assert "not running" in line_of(dot(picture), "n4 [")
    assert [fault for node in picture.nodes for fault in node.faults] == []  # others are not blamed for it


def test_ports_are_where_the_lab_says_and_not_where_the_file_says() -> None:
    lab = shipped("gateway")
    live = running(lab, bound={"vm1": "worker2"})
    nodes = {node.name: [vm.name for vm in node.vms] for node in portray(lab, live).nodes}
    assert nodes["worker2"] == ["vm1"]
    assert nodes["worker1"] == []
    assert [port.name for port in portray(lab, live).unbound] == ["vm2"]


def test_a_port_that_is_down_or_gone_is_marked() -> None:
    lab = shipped("routed")
    live = replace(running(lab), ports=(LivePort("vm1", "network1", ("192.168.0.11",), "worker1", up=False),))
    picture = portray(lab, live)
    assert [port.state for switch in picture.switches for port in switch.ports] == [State.DOWN, State.MISSING]
    assert class_of_rect(drawn(svg(picture)), "worker1 down") == {"lost"}
    assert class_of_rect(drawn(svg(picture)), "missing") == {"lost"}
    assert "down worker1" in mermaid(picture)


def test_what_the_lab_has_and_the_file_does_not_is_shown() -> None:
    lab = shipped("3node")
    more = (
        LivePort("extra", "network1", ("10.7.7.7",), "worker2", up=True),
        LivePort("odd", "mine", ("10.8.8.8",), None, up=False),
    )
    live = running(lab)
    for language, draw in LANGUAGES.items():
        words = words_in(draw(portray(lab, replace(live, ports=(*live.ports, *more))), "both"), language)
        assert [
            name
            for name in ("extra", "10.7.7.7", "odd", "10.8.8.8", "mine", "not in the topology")
            if not has(words, name)
        ] == []


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.svg", "<svg "),
        ("a.mmd", "flowchart LR"),
        ("a.mermaid", "flowchart LR"),
        ("a.dot", "graph "),
        ("a.GV", "graph "),
    ],
)
def test_the_format_is_what_the_file_ends_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, start: str
) -> None:
    path = tmp_path / name
    assert run(["graph", "gateway", "-o", str(path), "--json"]) == 0
    assert path.read_text().startswith(start)
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "written": str(path)}


def test_a_page_holds_the_picture_and_needs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "lab.html"
    assert run(["graph", "gateway", "-o", str(path)]) == 0
    page = path.read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "MTU 1500" in list(drawn(page[page.index("<svg") : page.index("</svg>") + 6]).itertext())
    assert not re.search(r"(src|href)=.http", page)


def test_a_png_is_made_by_a_program_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["graph", "gateway", "-o", str(tmp_path / "a.png")]) == 3
    assert "librsvg2-bin" in capsys.readouterr().err
    program = tmp_path / "rsvg-convert"
    program.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n/bin/cp "$3" "$2"\n')
    program.chmod(0o755)
    assert run(["graph", "gateway", "-o", str(tmp_path / "a.png")]) == 0
    assert "</svg>" in (tmp_path / "a.png").read_text()


def test_without_a_file_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", "gateway", "--set", "underlay.mtu=9000"]) == 0
    assert "MTU 9000" in list(drawn(capsys.readouterr().out).itertext())
    assert run(["graph", "gateway", "--format", "mermaid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "mermaid"
    assert found["text"] == mermaid(portray(shipped("gateway")))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gateway", "--format", "pdf"], "must be svg, mermaid, dot, html or png"),
        (["gateway", "--format", "png"], "a PNG is written to a file"),
        (["gateway", "-o", "x.html", "--watch"], "--watch is for a lab that runs"),
        (["gateway", "-o", "a.pdf"], "is not a format"),
        (["gateway", "-o", "a.svg", "--format", "dot"], "is a name for svg"),
        (["gateway", "--view", "all"], "must be physical, logical or both"),
        (["gateway", "--lab", "x"], "either of a file or of --lab"),
        (["--set", "a=b"], "--set is for a topology"),
        (["nowhere.yaml"], "there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
    assert run(["graph", *words]) == 2
    assert problem in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none/a.svg"
    assert run(["graph", "gateway", "-o", str(path)]) == 1
    assert f"{path}: cannot be written" in capsys.readouterr().err


def test_without_a_topology_it_is_the_running_lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = shipped("3node")
    daemons = (DaemonStatus("ovs-vswitchd", True, 1, "3.1"), DaemonStatus("ovn-controller", False, None, ""))
    nodes = tuple(
        NodeStatus(
            node.name,
            node.role,
            node.ip,
            running=node.name != "central",
            state="not running" if node.name == "central" else "running",
            is_chassis=True,
            registered=True,
            encap="geneve",
            daemons=daemons if node.name == "worker1" else (),
            tunnels=tuple(
                TunnelStatus(peer.name, peer.ip, "geneve", peer.name != "central") for peer in lab.peers(node)
            ),
        )
        for node in lab.nodes
    )
    ports = (PortStatus("vm1", "network1", ("40:44:00:00:00:01 192.168.0.11",), True, "worker2", 1, True),)
    found = Status("3node", "degraded", "local", "", {}, nodes, ports)
    monkeypatch.setattr(labs, "find", lambda name, _reporter: SimpleNamespace(name=name, topology=lab))
    monkeypatch.setattr(states, "status", lambda _lab: found)
    assert run(["graph"]) == 0
    words = [element.text for element in drawn(capsys.readouterr().out).iter(f"{SVG}text")]
    assert {"degraded", "✕ not running: ovn-controller", "✕ not running", "missing", "192.168.0.11"} <= set(words)
    assert run(["graph", "--format", "mermaid"]) == 0
    assert has(line_of(capsys.readouterr().out, "n2["), "vm1 192.168.0.11")
