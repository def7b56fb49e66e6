"""The picture in DOT, Graphviz's language (graphviz.org/doc/info/lang.html), its boxes as HTML-like tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ovnlab.graph import words
from ovnlab.graph.palette import CHASSIS, tint
from ovnlab.graph.picture import Picture, PortPicture
from ovnlab.graph.text import one_line

_ROW = 8
"""So many nodes beside each other, before the next ones go below."""

_HEAD = """graph {name} {{
  graph [fontname="Helvetica" fontsize=16 labeljust=l nodesep=0.3 ranksep=0.6 compound=true]
  node [fontname="Helvetica" fontsize=10 shape=plain]
  edge [fontname="Helvetica" fontsize=9 color="#6e7781"]
"""

_UNDERLAY, _PHYSICAL, _ROUTER, _SWITCH, _BAD = "#6e7781", "#9a6700", "#0969da", "#57606a", "#cf222e"
_GREY = "#d0d7de"


def dot(picture: Picture, view: str = "both") -> str:
    """Return the picture in DOT."""
    return _Graph(picture).written(view)


class _Graph:
    """Lines of a graph; identifiers are a letter and a number."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.lines = [_HEAD.format(name=_quoted(picture.name)).rstrip()]
        self.nodes = {node.name: f"n{number}" for number, node in enumerate(picture.nodes)}
        self.switches = {switch.name: f"s{number}" for number, switch in enumerate(picture.switches)}
        self.networks = {network.name: f"w{number}" for number, network in enumerate(picture.networks)}

    def written(self, view: str) -> str:
        logical = view != "physical" and bool(self.picture.switches or self.picture.routers)
        if view != "logical":
            self._cluster("physical", "Physical", self._physical_boxes())
            self._physical_edges()
        if logical:
            networks = self._network_boxes() if view == "logical" else []
            self._cluster("logical", "Logical", [*networks, *self._logical_boxes()])
            self._logical_edges()
        return "\n".join([*self.lines, "}"]) + "\n"

    def _cluster(self, own: str, label: str, boxes: Iterable[str]) -> None:
        style = 'style="rounded" color="#d0d7de"'
        self.lines += [f"  subgraph cluster_{own} {{", f"    label={_quoted(label)} {style}"]
        self.lines += [f"    {line}" for line in boxes]
        self.lines.append("  }")

    # ── physical ─────────────────────────────────────────────────────────────────────────────────────────

    def _physical_boxes(self) -> list[str]:
        picture = self.picture
        lines = [_box("underlay", _UNDERLAY, words.of_network(picture, picture.underlay)), *self._network_boxes()]
        for zone in dict.fromkeys(node.zone for node in picture.nodes):
            if zone:
                fact = dict(picture.zone_facts).get(zone, "")
                label = _quoted(", ".join(filter(None, (f"zone {zone}", fact))))
                lines.append(f"subgraph cluster_zone{picture.zones.index(zone)} {{ label={label} style=dashed")
            lines += [self._node_box(number) for number, node in enumerate(picture.nodes) if node.zone == zone]
            if zone:
                lines.append("}")
        if picture.unbound:
            rows = [self._port_row(port, words.of_port(port)) for port in picture.unbound]
            lines.append(_box("unbound", "#8c959f", ["not bound"], rows))
        return lines

    def _network_boxes(self) -> list[str]:
        return [
            _box(self.networks[network.name], _PHYSICAL, words.of_network(self.picture, network))
            for network in self.picture.networks
        ]

    def _node_box(self, number: int) -> str:
        node = self.picture.nodes[number]
        colour = CHASSIS[node.colour % len(CHASSIS)][0] if node.colour is not None else _UNDERLAY
        rows = [self._port_row(port, words.of_port(port)) for port in node.vms]
        return _box(f"n{number}", colour if node.running else _GREY, words.of_node(node), rows)

    def _physical_edges(self) -> None:
        picture = self.picture
        for number, node in enumerate(picture.nodes):
            if node.on_underlay:
                more = " constraint=false" if number >= _ROW else ""
                self.lines.append(f'  underlay -- n{number} [penwidth=2 color="{_UNDERLAY}"{more}]')
            if number >= _ROW:
                self.lines.append(f"  n{number - _ROW} -- n{number} [style=invis]")
            self.lines += [
                f'  n{number} -- {self.networks[nic.network]} [penwidth=2 color="{_PHYSICAL}"]'
                for nic in node.nics
                if nic.network in self.networks
            ]
        for tunnel in picture.drawn_tunnels:
            first, second = (self.nodes[end] for end in tunnel.ends)
            broken = f'style=dashed color="{_BAD}" fontcolor="{_BAD}" label={_quoted(f"{tunnel.encap} broken")}'
            style = 'style=dotted color="#6e56cf"' if tunnel.working else broken
            tip = _quoted(f"{' - '.join(tunnel.ends)}: {tunnel.encap}")
            self.lines.append(f"  {first} -- {second} [constraint=false {style} tooltip={tip}]")

    # ── logical ──────────────────────────────────────────────────────────────────────────────────────────

    def _logical_boxes(self) -> list[str]:
        lines = [
            _box(f"r{number}", _ROUTER, words.of_router(router)) for number, router in enumerate(self.picture.routers)
        ]
        for switch in self.picture.switches:
            rows = [self._port_row(port, words.of_bound_port(port)) for port in switch.ports]
            details = [text for badge in switch.badges for text in badge.details]
            own = self.switches[switch.name]
            lines.append(_box(own, _SWITCH, words.of_switch(switch), rows, tip="\n".join(details)))
        return lines

    def _logical_edges(self) -> None:
        for number, router in enumerate(self.picture.routers):
            for port in router.ports:
                label = _quoted("\n".join(words.of_router_port(port)))
                self.lines.append(f'  r{number} -- {self.switches[port.switch]} [color="{_ROUTER}" label={label}]')
        for switch in self.picture.switches:
            if switch.network in self.networks:
                own, network = self.switches[switch.name], self.networks[switch.network]
                self.lines.append(f'  {own} -- {network} [color="{_PHYSICAL}" label="localnet"]')

    def _port_row(self, port: PortPicture, lines: Sequence[str]) -> str:
        """Return a row of a table, filled with the colour of the chassis."""
        colour = self.picture.colours.get(port.chassis[0]) if port.chassis else None
        fill = f' bgcolor="{tint(CHASSIS[colour % len(CHASSIS)][0])}"' if colour is not None else ""
        first, rest = lines[0], "  ".join(lines[1:])
        return f'<tr><td align="left"{fill}><b>{_html(first)}</b>  {_html(rest)}</td></tr>'


def _box(own: str, colour: str, lines: Sequence[str], rows: Sequence[str] = (), *, tip: str = "") -> str:
    """Return a node that is a table: what it is on a coloured ground, then the rest."""
    head = f'<tr><td bgcolor="{colour}"><font color="white"><b>{_html(lines[0])}</b></font></td></tr>'
    body = [f'<tr><td align="left">{_html(line)}</td></tr>' for line in lines[1:]]
    table = "".join([head, *body, *rows])
    start = f'<table border="1" cellborder="0" cellspacing="0" cellpadding="3" color="{colour}">'
    tooltip = f" tooltip={_quoted(tip)}" if tip else ""
    return f"{own} [label=<{start}{table}</table>>{tooltip}]"


def _html(text: str) -> str:
    return escape(one_line(text))


def _quoted(text: str) -> str:
    """Return a string of DOT; line breaks as it writes them. A backslash of its own would begin an escape."""
    lines = (one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'
