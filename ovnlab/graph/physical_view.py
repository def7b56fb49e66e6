"""The physical half of the SVG: nodes as cards, the underlay above them with its tunnels, physical networks below.

Many nodes wrap into rows. A network is a rail in each row that has nodes on it; what joins the rails is a spine, on
the left for the underlay, on the right for physical networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ovnlab.graph import chips
from ovnlab.graph.canvas import Canvas, Point, arc, pill_width, top_band
from ovnlab.graph.palette import CODE, LABEL, MONO, NAME, SMALL, TEXT, chassis_class
from ovnlab.graph.picture import (
    MOST_CHASSIS_WITH_TUNNELS,
    NetworkPicture,
    NicPicture,
    NodePicture,
    Picture,
    PortPicture,
    TunnelPicture,
)

_GAP = 18
_ROW_GAP = 30
_ZONE = 12
_ZONE_HEAD = 24
_DROP = 26
_RAIL = 34
_SPINE = 12
_PAD = 10
_LINE = 15
_BAND = 5
_MANY_NODES = 8


@dataclass
class _Row:
    """Nodes beside each other: cards from `top` to `bottom`, the underlay at `bus`, physical networks at `rails`."""

    groups: list[tuple[str, Sequence[NodePicture]]]
    left: dict[str, float] = field(default_factory=dict)
    bus: float = 0
    top: float = 0
    bottom: float = 0
    rails: dict[str, float] = field(default_factory=dict)

    @property
    def nodes(self) -> list[NodePicture]:
        return [node for _, nodes in self.groups for node in nodes]

    @property
    def zones(self) -> list[str]:
        return [zone for zone, _ in self.groups if zone]


class PhysicalView:
    """The layout of a picture's nodes for a width of at most `most`."""

    def __init__(self, picture: Picture, most: float) -> None:
        self.picture = picture
        few = len(picture.nodes) <= _MANY_NODES
        self.most_vms = 10 if few else 6
        self.gutter = _gutter(picture)
        self.spines = _SPINE * (len(picture.networks) + 1)
        self.card = min(max(map(_card_width, picture.nodes)), 226 if few else 196)
        self.rows = [_Row(groups) for groups in self._wrapped(most - self.gutter - self.spines)]
        self.width = max(map(self._row_width, self.rows)) + self.gutter + self.spines

    def draw(self, canvas: Canvas, left: float, top: float, width: float) -> float:
        """Draw all of it below `top`, and return where it ends."""
        self._place(left + self.gutter, top, width - self.gutter - self.spines)
        right = left + width
        self._draw_zones(canvas)
        self._draw_underlay(canvas, left, right)
        for number, network in enumerate(self.picture.networks):
            self._draw_network(canvas, network, left, right - _SPINE * (number + 1))
        self._draw_tunnels(canvas)
        for row in self.rows:
            for node in row.nodes:
                self._draw_node(canvas, node, row)
        last = self.rows[-1]
        bottom = max([last.bottom + (_ZONE if last.zones else 0), *(y + 18 for y in last.rails.values())])
        return self._draw_tray(canvas, left, bottom + 24, width) if self.picture.unbound else bottom

    # ── where everything is ──────────────────────────────────────────────────────────────────────────────

    def _wrapped(self, width: float) -> Iterator[list[tuple[str, Sequence[NodePicture]]]]:
        """Yield the nodes in rows: zones together, few chassis in one row, because tunnels are arcs between them."""
        row: list[tuple[str, Sequence[NodePicture]]] = []
        for zone, nodes in self._groups(width):
            if row and self._row_width(_Row([*row, (zone, nodes)])) > width:
                yield row
                row = []
            if self._row_width(_Row([(zone, nodes)])) <= width:
                row.append((zone, nodes))
                continue
            columns = max(int((width - 2 * _ZONE + _GAP) // (self.card + _GAP)), 1)
            columns = -(-len(nodes) // -(-len(nodes) // columns))  # rows that are about equally full
            yield from ([(zone, nodes[start : start + columns])] for start in range(0, len(nodes), columns))
        if row:
            yield row

    def _groups(self, width: float) -> list[tuple[str, Sequence[NodePicture]]]:
        nodes = self.picture.nodes
        if self.picture.zones:
            return [(zone, list(found)) for zone, found in itertools.groupby(nodes, key=lambda node: node.zone)]
        if len(self.picture.colours) > MOST_CHASSIS_WITH_TUNNELS or self._row_width(_Row([("", nodes)])) <= width:
            return [("", nodes)]
        chassis = [node for node in nodes if node.colour is not None]
        central = [node for node in nodes if node.colour is None and node.role == "central"]
        others = [node for node in nodes if node.colour is None and node.role != "central"]
        return [("", part) for part in (central, chassis, others) if part]

    def _row_width(self, row: _Row) -> float:
        return len(row.nodes) * (self.card + _GAP) - _GAP + 2 * _ZONE * len(row.zones)

    def _place(self, left: float, top: float, width: float) -> None:
        """Decide where every row, card and rail is."""
        fullest = max(self.rows, key=self._row_width)
        spare = (width - self._row_width(fullest)) / len(fullest.nodes)
        pitch = self.card + _GAP + min(spare, 70)
        for number, row in enumerate(self.rows):
            x = left + min(spare, 70) / 2
            for zone, nodes in row.groups:
                x += _ZONE if zone else 0
                for node in nodes:
                    row.left[node.name] = x
                    x += pitch
                x += _ZONE if zone else 0
            row.bus = top + self._above(row, first=number == 0)
            connected = any(node.on_underlay for node in row.nodes) or row.bus > top
            row.top = row.bus + (_DROP if connected else 0) + (_ZONE_HEAD if row.zones else 0)
            row.bottom = row.top + max(_card_height(node, self.most_vms) for node in row.nodes)
            used = {nic.network for node in row.nodes for nic in node.nics}
            names = [network.name for network in self.picture.networks if network.name in used]
            first = row.bottom + _DROP + (_ZONE if row.zones else 0)
            row.rails = {name: first + _RAIL * place for place, name in enumerate(names)}
            top = max([row.bottom + (_ZONE if row.zones else 0), *row.rails.values()]) + _ROW_GAP

    def _above(self, row: _Row, *, first: bool) -> float:
        """Return the room that arcs and what is said of the tunnels take above a row's underlay."""
        arcs = [self._height(tunnel, row) + 14 for tunnel in self.picture.drawn_tunnels if _within(tunnel, row)]
        said = 24 if self._said_on_bus else _LINE * len(_mesh_lines(self.picture)) + 28
        return max([*arcs, said if first else 0, 0])

    @property
    def _said_on_bus(self) -> bool:
        return len(self.picture.colours) > MOST_CHASSIS_WITH_TUNNELS

    def _height(self, tunnel: TunnelPicture, row: _Row) -> float:
        first, second = (row.left[end] for end in tunnel.ends)
        return 14 + abs(second - first) * 0.085

    def _middle(self, row: _Row, node: str) -> float:
        return row.left[node] + self.card / 2

    # ── networks ─────────────────────────────────────────────────────────────────────────────────────────

    def _draw_zones(self, canvas: Canvas) -> None:
        facts = dict(self.picture.zone_facts)
        for zone in self.picture.zones:
            rows = [row for row in self.rows if zone in row.zones]
            lefts = [row.left[node.name] for row in rows for node in row.nodes if node.zone == zone]
            if not lefts:
                continue
            x, y = min(lefts) - _ZONE, rows[0].top - _ZONE_HEAD
            width = max(lefts) + self.card + _ZONE - x
            canvas.rect(x, y, width, rows[-1].bottom + _ZONE - y, "zone", r=10)
            canvas.text(x + _ZONE, y + 16, f"zone {zone}", LABEL, "dim", room=self.card / 2 - 8)
            canvas.text(x + _ZONE + self.card / 2 + 10, y + 16, facts[zone], SMALL, "dim", room=self.card - 12)

    def _draw_underlay(self, canvas: Canvas, left: float, right: float) -> None:
        rows = [row for row in self.rows if any(node.on_underlay for node in row.nodes)]
        start = left + self.gutter - _GAP
        for row in rows:
            taps = [self._middle(row, node.name) for node in row.nodes if node.on_underlay]
            canvas.line([(start, row.bus), (max(taps) + 28, row.bus)], "bus")
        if len(rows) > 1:
            canvas.line([(start, rows[0].bus), (start, rows[-1].bus)], "bus")
        underlay, bus = self.picture.underlay, self.rows[0].bus
        _name_network(canvas, underlay, left, start - 10, bus, f"MTU {underlay.mtu}")
        self._say_tunnels(canvas, left, right, start, bus)

    def _say_tunnels(self, canvas: Canvas, left: float, right: float, start: float, bus: float) -> None:
        """Write the number of tunnels: in the margin beside the arcs, or on the bus where there are none."""
        if self._said_on_bus:
            style = "of-tunnel" if all(tunnel.working for tunnel in self.picture.tunnels) else "bad"
            canvas.text(start + 2, bus - 11, ", ".join(self.picture.mesh), LABEL, style, room=right - start)
            return
        lines = _mesh_lines(self.picture)
        for number, text in enumerate(lines):
            style = "bad" if text.endswith("broken") else "of-tunnel"
            y = bus - 28 - _LINE * (len(lines) - 1 - number)
            canvas.text(start - 10, y, text, SMALL, style, anchor="end", room=start - 10 - left)

    def _draw_network(self, canvas: Canvas, network: NetworkPicture, left: float, spine: float) -> None:
        rows = [row for row in self.rows if network.name in row.rails]
        start = left + self.gutter - _GAP
        lines: list[list[Point]] = []
        for row in rows:
            y = row.rails[network.name]
            taps = [x for node in row.nodes for nic, x in self._taps(row, node) if nic.network == network.name]
            end = spine if len(rows) > 1 else max(taps) + 16
            lines.append([(start + _SPINE, y), (end, y)])
            _name_network(canvas, network, left, start - 10, y, "")
        if len(rows) > 1:
            lines.append([(spine, rows[0].rails[network.name]), (spine, rows[-1].rails[network.name])])
        for style in ("halo", "wire"):
            for line in lines:
                canvas.line(line, style)

    def _taps(self, row: _Row, node: NodePicture) -> list[tuple[NicPicture, float]]:
        middle = self._middle(row, node.name)
        shift = (len(node.nics) - 1) / 2
        return [(nic, middle + (number - shift) * 26) for number, nic in enumerate(node.nics)]

    def _draw_tunnels(self, canvas: Canvas) -> None:
        for tunnel in sorted(self.picture.drawn_tunnels, key=lambda tunnel: not tunnel.working):
            title = f"{' — '.join(tunnel.ends)}: {tunnel.encap}" + ("" if tunnel.working else ", broken")
            row = next((row for row in self.rows if _within(tunnel, row)), None)
            with canvas.group(title=title):
                path, marks = self._arc(tunnel, row) if row else self._curve(tunnel)
                canvas.path(path, "tunnel" if tunnel.working else "broken")
                for mark in () if tunnel.working else marks:
                    _cross(canvas, *mark)
        for row in self.rows:
            self._land_tunnels(canvas, row)

    def _arc(self, tunnel: TunnelPicture, row: _Row) -> tuple[str, list[Point]]:
        """Return a tunnel between two cards of a row: its path, and the point that is marked where it is broken."""
        x1, x2 = sorted(self._middle(row, end) for end in tunnel.ends)
        height = self._height(tunnel, row)
        return arc((x1 + 4, row.bus), (x2 - 4, row.bus), height), [((x1 + x2) / 2, row.bus - height)]

    def _curve(self, tunnel: TunnelPicture) -> tuple[str, list[Point]]:
        """Return a tunnel between two rows: from below a card, behind what is between, marked at both ends."""
        places = [(row, end) for row in self.rows for end in tunnel.ends if end in row.left]
        (upper, first), (lower, second) = places
        x1, y1, x2, y2 = self._middle(upper, first), upper.bottom, self._middle(lower, second), lower.bus
        bend = max((y2 - y1) / 2, 24)
        path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
        return path, [(x1, y1 + 11), (x2, y2 - 11)]

    def _land_tunnels(self, canvas: Canvas, row: _Row) -> None:
        """Draw tunnels of nodes outside the underlay, which run over another network: they come down past the rail."""
        ends = {end for tunnel in self.picture.drawn_tunnels for end in tunnel.ends}
        for node in row.nodes:
            if node.name in ends and not node.on_underlay:
                x = self._middle(row, node.name)
                points = [(x, row.bus - 8), (x, row.top)]
                canvas.line(points, "halo")
                canvas.line([(x - 4, row.bus), (x, row.bus + 12), (x, row.top)], "tunnel", r=4)
                canvas.line([(x + 4, row.bus), (x, row.bus + 12)], "tunnel")

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────

    def _draw_node(self, canvas: Canvas, node: NodePicture, row: _Row) -> None:
        x, middle, height = row.left[node.name], self._middle(row, node.name), row.bottom - row.top
        if node.on_underlay:
            canvas.line([(middle, row.bus), (middle, row.top)], "tap")
            canvas.dot(middle, row.bus, "at-bus", r=5)
        for nic, tap in self._taps(row, node):
            canvas.line([(tap, row.bottom), (tap, row.rails[nic.network])], "halo")
        canvas.rect(x, row.top, self.card, height, "paper", r=9)
        with canvas.group(style="" if node.running else "off"):
            canvas.rect(x, row.top, self.card, height, "card", r=9)
            canvas.path(top_band(x, row.top, self.card, _BAND, 9), chassis_class(node.colour))
            y = self._draw_head(canvas, node, x, row.top)
            self._draw_remarks(canvas, node, x, y, "dim")
            self._draw_inside(canvas, node, row, y + _LINE * len(_remarks(node)) + 10)
        self._draw_remarks(canvas, node, x, y, "bad")

    def _draw_head(self, canvas: Canvas, node: NodePicture, x: float, top: float) -> float:
        """Draw name, role and address, and return where they end."""
        role = pill_width(node.role)
        canvas.pill(x + self.card - _PAD - role, top + 13, node.role, chassis_class(node.colour))
        canvas.text(x + _PAD, top + 26, node.name, NAME, room=self.card - 2 * _PAD - role - 8)
        if not _has_address_line(node):
            return top + 26
        canvas.text(x + _PAD, top + 43, node.address, MONO, "dim", room=self.card - 2 * _PAD)
        return top + 43

    def _draw_remarks(self, canvas: Canvas, node: NodePicture, x: float, y: float, style: str) -> None:
        for number, (text, kind) in enumerate(_remarks(node), start=1):
            if kind == style:
                canvas.text(x + _PAD, y + _LINE * number, text, SMALL, style, room=self.card - 2 * _PAD)

    def _draw_inside(self, canvas: Canvas, node: NodePicture, row: _Row, y: float) -> None:
        """Draw br-int with the ports on it, the NICs at the bottom, and the lines between them and to the rails."""
        x, width = row.left[node.name] + _PAD, self.card - 2 * _PAD
        top = row.bottom - _PAD - sum(map(_nic_height, node.nics))
        tops = list(itertools.accumulate(map(_nic_height, node.nics), initial=top))
        for (nic, tap), panel in zip(self._taps(row, node), tops, strict=False):
            if nic.bridge:
                canvas.line([(tap, y + 10), (tap, panel + 10)], "tap")
            canvas.line([(tap, panel + 10), (tap, row.rails[nic.network])], "drop")
            canvas.dot(tap, row.rails[nic.network], "at-wire", r=5)
        if node.colour is not None:
            self._draw_bridge(canvas, node, x, y, width)
        for nic, panel in zip(node.nics, tops, strict=False):
            _draw_nic(canvas, nic, x, panel + 8, width)

    def _draw_bridge(self, canvas: Canvas, node: NodePicture, x: float, y: float, width: float) -> None:
        canvas.rect(x, y, width, _bridge_height(node, self.most_vms), "panel", r=6)
        canvas.text(x + 8, y + 15, "br-int", CODE, "dim")
        canvas.text(x + width - 8, y + 15, node.encaps, SMALL, "of-tunnel", anchor="end", room=width - 64)
        self._draw_vms(canvas, node.vms, x + 6, y + 22, width - 12, columns=1, most=self.most_vms)

    def _draw_vms(
        self, canvas: Canvas, vms: Sequence[PortPicture], x: float, y: float, width: float, *, columns: int, most: int
    ) -> None:
        shown, hidden = chips.shortened(vms, most)
        each = (width - 8 * (columns - 1)) / columns
        for number, port in enumerate(shown):
            row, column = divmod(number, columns)
            chips.chip(canvas, x + column * (each + 8), y + row * chips.PITCH, each, port, self.picture.colours)
        if hidden:
            row, column = divmod(len(shown), columns)
            chips.more(canvas, x + column * (each + 8), y + row * chips.PITCH, each, hidden)

    def _draw_tray(self, canvas: Canvas, left: float, top: float, width: float) -> float:
        """Return the fake VMs that are bound nowhere."""
        unbound = self.picture.unbound
        columns = max(int((width - self.gutter) // (chips.width_wanted(unbound) + 16)), 1)
        rows = min(-(-len(unbound) // columns), 4)
        height = rows * chips.PITCH + 12
        start = left + self.gutter - _GAP
        canvas.text(start - 10, top + 22, "not bound", LABEL, "dim", anchor="end")
        number = f"{len(unbound)} fake VM{'s' if len(unbound) > 1 else ''}"
        canvas.text(start - 10, top + 36, number, SMALL, "dim", anchor="end", room=self.gutter - 30)
        columns = min(columns, len(unbound))
        wide = min(width - self.gutter + _GAP, columns * (chips.width_wanted(unbound) + 30) + 16)
        canvas.rect(start, top, wide, height, "tray", r=8)
        self._draw_vms(canvas, unbound, start + 8, top + 8, wide - 16, columns=columns, most=rows * columns)
        return top + height


def _mesh_lines(picture: Picture) -> list[str]:
    """Return what is said of the tunnels, in lines that are short enough for the margin."""
    return [line for text in picture.mesh for line in text.replace("full mesh of ", "full mesh of\n").split("\n")]


def _gutter(picture: Picture) -> float:
    """Return the room for the names of networks beside their rails."""
    names = [LABEL.width(network.name) for network in picture.networks]
    subnets = [CODE.width(subnet) for network in (picture.underlay, *picture.networks) for subnet in network.subnets]
    return min(max([*names, *subnets, 84]), 170) + 10 + _GAP


def _card_width(node: NodePicture) -> float:
    """Return what a card needs to show its contents in full."""
    head = NAME.width(node.name) + 8 + pill_width(node.role)
    lines = [TEXT.width(text) for text, _ in _remarks(node)]
    vms = chips.width_wanted(node.vms) + 12
    nics = [CODE.width(nic.bridge or nic.device) + 28 + CODE.width(text) for nic in node.nics for text in nic.addresses]
    return max([head, MONO.width(node.address), *(min(line, 190) for line in lines), vms, *nics, 150]) + 2 * _PAD


def _card_height(node: NodePicture, most_vms: int) -> float:
    lines = len(_remarks(node))
    address = 17 if _has_address_line(node) else 0
    bridge = _bridge_height(node, most_vms) if node.colour is not None else 0
    return 36 + address + _LINE * lines + bridge + sum(map(_nic_height, node.nics)) + _PAD


def _bridge_height(node: NodePicture, most_vms: int) -> float:
    return 22 + min(len(node.vms), most_vms) * chips.PITCH + (2 if node.vms else 0)


def _nic_height(nic: NicPicture) -> float:
    return 8 + 9 + 14 * max(len(nic.addresses), 1)


def _remarks(node: NodePicture) -> list[tuple[str, str]]:
    """Return what a card says below the address, and in which colour."""
    stopped = [] if node.running else ["not running"]
    return [(f"✕ {text}", "bad") for text in (*stopped, *node.faults)] + [(text, "dim") for text in node.facts]


def _has_address_line(node: NodePicture) -> bool:
    """Return True if its address is below its name; that of a node elsewhere is at its NIC there."""
    return bool(node.address) and not any(nic.underlay for nic in node.nics)


def _draw_nic(canvas: Canvas, nic: NicPicture, x: float, y: float, width: float) -> None:
    title = f"{nic.device}{f' in {nic.bridge}' if nic.bridge else ''} on {nic.network}"
    with canvas.group(title=title):
        canvas.rect(x, y, width, _nic_height(nic) - 8, "nic", r=6)
        name = nic.bridge or nic.device
        canvas.text(x + 8, y + 15, name, CODE, "of-physical", room=width * 0.45)
        room = width - 24 - min(CODE.width(name), width * 0.45)
        for number, address in enumerate(nic.addresses):
            canvas.text(x + width - 8, y + 15 + 14 * number, address, CODE, "ink", anchor="end", room=room)


def _name_network(canvas: Canvas, network: NetworkPicture, left: float, end: float, y: float, more: str) -> None:
    """Write its name and subnets, right-aligned before its rail."""
    style = "ink" if network.is_underlay else "of-physical"
    lines = [*network.subnets[:1], *([more] if more else [])]
    y += 4 - 6.5 * len(lines)
    title = "\n".join([network.name, *network.subnets, *network.bridges])
    with canvas.group(title=title):
        canvas.text(end, y, network.name, LABEL, style, anchor="end", room=end - left)
        for line in lines:
            y += 13
            font = SMALL if line == more else CODE
            canvas.text(end, y, line, font, "dim", anchor="end", room=end - left)


def _within(tunnel: TunnelPicture, row: _Row) -> bool:
    return all(end in row.left for end in tunnel.ends)


def _cross(canvas: Canvas, x: float, y: float) -> None:
    canvas.dot(x, y, "cross", r=7)
    canvas.path(f"M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0 -5l-5 5", "cross")
