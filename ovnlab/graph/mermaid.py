"""The picture as a Mermaid flowchart (mermaid.js.org/syntax/flowchart.html), for Markdown that shows them.

Ports are lines in the box of their node or switch rather than boxes of their own: Mermaid puts boxes within a box
side by side, however many there are, and has room for one line of text above them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ovnlab.graph import words
from ovnlab.graph.palette import CHASSIS, tint
from ovnlab.graph.picture import NodePicture, Picture, SwitchPicture
from ovnlab.graph.text import one_line

_CLASSES = {
    "part": "fill:#ffffff,stroke:#d1d9e0,color:#1f2328",
    "bus": "fill:#eaeef2,stroke:#6e7781,color:#1f2328",
    "wire": "fill:#fff8e5,stroke:#9a6700,color:#1f2328",
    "node": "fill:#f6f8fa,stroke:#6e7781,color:#1f2328",
    "off": "fill:#f6f8fa,stroke:#cf222e,color:#8c959f,stroke-dasharray:5 4",
    "switch": "fill:#f6f8fa,stroke:#8c959f,color:#1f2328",
    "router": "fill:#eef6ff,stroke:#0969da,color:#1f2328",
    "unbound": "fill:#ffffff,stroke:#8c959f,color:#59636e,stroke-dasharray:4 3",
}


def mermaid(picture: Picture, view: str = "both") -> str:
    """Return the picture as a flowchart."""
    return _Flowchart(picture).written(view)


class _Flowchart:
    """Lines of a flowchart; identifiers are a letter and a number, so that no name can be a keyword."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.lines = ["flowchart LR"]
        self.edges: list[str] = []
        self.broken: list[int] = []
        self.open: list[str] = []
        self.nodes = {node.name: f"n{number}" for number, node in enumerate(picture.nodes)}
        self.switches = {switch.name: f"s{number}" for number, switch in enumerate(picture.switches)}
        self.networks = {network.name: f"w{number}" for number, network in enumerate(picture.networks)}

    def written(self, view: str) -> str:
        if view != "logical":
            self._open("physical", ["Physical"])
            self._physical()
            self._close()
        if view != "physical" and (self.picture.switches or self.picture.routers):
            self._open("logical", ["Logical"])
            self._logical(with_networks=view == "logical")
            self._close()
        self.lines += [f"  {edge}" for edge in self.edges]
        self.lines += [f"  classDef {name} {style}" for name, style in _CLASSES.items()]
        for number in sorted({colour % len(CHASSIS) for colour in self.picture.colours.values()}):
            colour = CHASSIS[number][0]
            self.lines.append(f"  classDef c{number} fill:{tint(colour)},stroke:{colour},color:#1f2328")
        if self.broken:
            numbers = ",".join(map(str, self.broken))
            self.lines.append(f"  linkStyle {numbers} stroke:#cf222e,stroke-width:2px,stroke-dasharray:6 4")
        return "\n".join(self.lines) + "\n"

    def _physical(self) -> None:
        picture = self.picture
        self._box("underlay", words.of_network(picture, picture.underlay), "bus")
        for network in picture.networks:
            self._box(self.networks[network.name], words.of_network(picture, network), "wire")
        for zone in dict.fromkeys(node.zone for node in picture.nodes):
            if zone:
                facts = dict(picture.zone_facts).get(zone, "")
                self._open(f"z{picture.zones.index(zone)}", list(filter(None, [f"zone {zone}", facts])))
            for node in picture.nodes:
                if node.zone == zone:
                    self._node(node)
            if zone:
                self._close()
        if picture.unbound:
            lines = [" ".join(words.of_port(port)) for port in picture.unbound]
            self._box("unbound_vms", ["not bound", *lines], "unbound")
        for tunnel in picture.drawn_tunnels:
            first, second = (self.nodes[end] for end in tunnel.ends)
            if not tunnel.working:
                self.broken.append(len(self.edges))
            said = "" if tunnel.working else f"|{_quoted([f'{tunnel.encap} broken'])}|"
            self.edges.append(f"{first} -.-{said} {second}")

    def _node(self, node: NodePicture) -> None:
        own = self.nodes[node.name]
        style = "node" if node.running else "off"
        if node.colour is not None and node.running:
            style = f"c{node.colour % len(CHASSIS)}"
        self._box(own, [*words.of_node(node), *(" ".join(words.of_port(port)) for port in node.vms)], style)
        if node.on_underlay:
            self.edges.append(f"underlay --- {own}")
        self.edges += [f"{own} --- {self.networks[nic.network]}" for nic in node.nics if nic.network in self.networks]

    def _logical(self, *, with_networks: bool) -> None:
        if with_networks:
            for network in self.picture.networks:
                self._box(self.networks[network.name], words.of_network(self.picture, network), "wire")
        for number, router in enumerate(self.picture.routers):
            self._box(f"r{number}", words.of_router(router), "router")
            for port in router.ports:
                label = _quoted(words.of_router_port(port))
                self.edges.append(f"r{number} ---|{label}| {self.switches[port.switch]}")
        for switch in self.picture.switches:
            self._switch(switch)

    def _switch(self, switch: SwitchPicture) -> None:
        own = self.switches[switch.name]
        ports = (" ".join(words.of_bound_port(port)) for port in switch.ports)
        self._box(own, [*words.of_switch(switch), *ports], "switch")
        if switch.network in self.networks:
            self.edges.append(f"{own} ---|{_quoted(['localnet'])}| {self.networks[switch.network]}")

    def _box(self, own: str, label: Sequence[str], style: str) -> None:
        self.lines.append(f"  {own}[{_quoted(label)}]:::{style}")

    def _open(self, own: str, label: Sequence[str]) -> None:
        self.lines.append(f"  subgraph {own}[{_quoted(label)}]")

        self.open.append(own)

    def _close(self) -> None:
        self.lines += ["  end", f"  class {self.open.pop()} part"]


def _quoted(lines: Iterable[str]) -> str:
    """Return lines as one label; what Mermaid or HTML would read as its own becomes an entity code."""
    return '"' + "<br/>".join(_escaped(one_line(line)) for line in lines) + '"'


def _escaped(text: str) -> str:
    return "".join(char if char not in '#&<>"`;\\' else f"#{ord(char)};" for char in text)
