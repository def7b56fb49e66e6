"""The logical half of the SVG: routers on the left, switches as bars on the right, router ports as lines between."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ovnlab.graph import chips
from ovnlab.graph.canvas import Canvas, pill_width, top_band
from ovnlab.graph.palette import CODE, LABEL, MONO, NAME, SMALL, chassis_class
from ovnlab.graph.picture import (
    Badge,
    Picture,
    PortPicture,
    RouterPicture,
    RouterPortPicture,
    RulePicture,
    SwitchPicture,
)

_PAD = 12
_GAP = 18
_LINE = 17
_PORT = 20
_HEAD = 31
_CARD_HEAD = _HEAD + 11
_BAR = 560
_WIDE_BAR = 1200
_LANE = 12
_JOG = 8
_CHIP_GAP = 8
_SPECIAL = chips.PITCH * 2 - 6
_MANY_PORTS = 80
_MOST_RULES = 8


@dataclass
class _Bar:
    """A switch: from `top`, `height` high; the ports of `routers` enter at its left."""

    switch: SwitchPicture
    routers: list[str]
    columns: int
    most: int
    top: float = 0
    height: float = 0

    def entry(self, router: str) -> float:
        """Return how far down the port of a router enters."""
        return self.top + _HEAD + 19 + _PORT * self.routers.index(router)

    @property
    def plain(self) -> list[PortPicture]:
        return [port for port in self.switch.ports if not port.kind]

    @property
    def special(self) -> list[PortPicture]:
        return [port for port in self.switch.ports if port.kind]

    @property
    def rows(self) -> int:
        return -(-min(len(self.plain), self.most) // self.columns)

    @property
    def special_rows(self) -> int:
        return -(-min(len(self.special), self.most) // self.columns)


@dataclass
class _Card:
    """A router: from `top`, `height` high."""

    router: RouterPicture
    ports: Sequence[RouterPortPicture]
    height: float
    top: float = 0

    @property
    def at(self) -> dict[str, float]:
        """Return where the port on each switch is."""
        tops = itertools.accumulate(map(_router_port_height, self.ports), initial=self.top + _CARD_HEAD + 8)
        return dict(zip((port.switch for port in self.ports), tops, strict=False))


@dataclass
class _Edge:
    """A router port: from a card at `start` to a bar at `end`, down or up in a lane of its own."""

    router: str
    port: RouterPortPicture
    start: float
    end: float
    lane: int = 0

    @property
    def is_straight(self) -> bool:
        """Return True if it needs no lane."""
        return self.start == self.end

    def overlaps(self, other: _Edge) -> bool:
        """Return True if both need the same stretch of a lane."""
        own, others = sorted((self.start, self.end)), sorted((other.start, other.end))
        return own[0] - 8 < others[1] and others[0] - 8 < own[1]


class LogicalView:
    """The layout of a picture's logical network."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.routers, self.switches = _ordered(picture)
        ports = sum(len(router.ports) for router in self.routers)
        self.card = min(max([310, *map(_card_width, self.routers)]), 600) if self.routers else 0
        self.channel = 40 + _LANE * min(max(ports, 2), 14) if ports else _GAP * 2 if self.routers else 0
        self.gutter = (
            min(max([SMALL.width(router.name) for router in self.routers], default=0), 110) + 26 if ports else 0
        )
        every = [port for switch in picture.switches for port in switch.ports]
        self.most = 20 if len(every) <= _MANY_PORTS else 12
        self.chip = min(max(chips.width_wanted(every, tag=True), 200), 290)
        label = pill_width("LB") + 8 + 2 * _PAD
        balancers = [_rules_width(switch.balancers) + label for switch in picture.switches if switch.balancers]
        bar = max(_BAR if len(every) <= _MANY_PORTS else _WIDE_BAR, min(max(balancers, default=0), _WIDE_BAR))
        self.width = self.card + self.channel + bar + self.gutter
        self.lanes = 0

    def draw(self, canvas: Canvas, left: float, top: float, width: float) -> float:
        """Draw all of it below `top`, and return where it ends."""
        start = left + self.card + self.channel
        bars = self._bars(top, left + width - start)
        bottom = max((bar.top + bar.height for bar in bars.values()), default=top)
        cards = self._cards(bars, top, bottom)
        edges = _edges(cards, bars)
        self.lanes = max((edge.lane for edge in edges), default=0)
        for edge in edges:
            self._draw_edge(canvas, edge, left + self.card, start)
        for bar in bars.values():
            self._draw_bar(canvas, bar, start, left + width - start)
        for card in cards:
            self._draw_card(canvas, card, left)
        for edge in edges:
            canvas.dot(left + self.card, edge.start, "at-edge")
            canvas.dot(start, edge.end, "at-edge")
        return max([bottom, *(card.top + card.height for card in cards)])

    # ── where everything is ──────────────────────────────────────────────────────────────────────────────

    def _bars(self, top: float, width: float) -> dict[str, _Bar]:
        columns = max(int((width - 2 * _PAD - self.gutter + _CHIP_GAP) // (self.chip + _CHIP_GAP)), 1)
        found = {}
        for switch in self.switches:
            routers = [router.name for router in self.routers for port in router.ports if port.switch == switch.name]
            bar = _Bar(switch, routers, columns, self.most, top)
            bar.height = self._bar_height(bar)
            top += bar.height + _GAP
            found[switch.name] = bar
        return found

    def _bar_height(self, bar: _Bar) -> float:
        ports = bar.rows * chips.PITCH + bar.special_rows * _SPECIAL
        rules = min(len(bar.switch.balancers), _MOST_RULES) * _LINE
        body = max(ports + rules + (4 if ports and rules else 0), len(bar.routers) * _PORT, 20)
        return _HEAD + 9 + body + 7

    def _cards(self, bars: dict[str, _Bar], top: float, bottom: float) -> list[_Card]:
        """Return each router beside the middle of its switches, where there is room."""
        cards: list[_Card] = []
        order = list(bars)
        for router in self.routers:
            ports = sorted(router.ports, key=lambda port: order.index(port.switch))
            card = _Card(router, ports, _card_height(router))
            entries = [bars[port.switch].entry(router.name) for port in ports]
            wanted = sum(entries) / len(entries) - card.height / 2 if entries else top
            lowest = cards[-1].top + cards[-1].height + _GAP if cards else top
            card.top = max(wanted, lowest)
            cards.append(card)
        for card in reversed(cards):
            card.top = max(min(card.top, bottom - card.height), top)
            bottom = card.top - _GAP
        lowest = top
        for card in cards:
            card.top = max(card.top, lowest)
            card.top += _straightening(card, lowest, bars)
            lowest = card.top + card.height + _GAP
        return cards

    # ── what is drawn ────────────────────────────────────────────────────────────────────────────────────

    def _draw_edge(self, canvas: Canvas, edge: _Edge, left: float, right: float) -> None:
        x = right - _LANE - 8 - edge.lane * min(_LANE, (self.channel - 40) / (self.lanes or 1))
        points = [(left, edge.start), (x, edge.start), (x, edge.end), (right, edge.end)]
        if edge.is_straight:
            points = [points[0], points[-1]]
        with canvas.group(title=f"{edge.router} on {edge.port.switch}: {', '.join(edge.port.networks)}"):
            canvas.line(points, "halo", r=8)
            canvas.line(points, "edge", r=8)

    def _draw_bar(self, canvas: Canvas, bar: _Bar, x: float, width: float) -> None:
        y, switch = bar.top, bar.switch
        canvas.rect(x, y, width, bar.height, "card", r=9)
        canvas.path(top_band(x + 0.5, y + 0.5, width - 1, _HEAD, 8.5), "head")
        canvas.line([(x, y + _HEAD + 0.5), (x + width, y + _HEAD + 0.5)], "rule")
        self._draw_bar_head(canvas, switch, x, y, width)
        for router in bar.routers:
            canvas.text(x + _PAD, bar.entry(router) + 4, router, SMALL, "of-router", room=self.gutter - 12)
        inside, room = x + _PAD + self.gutter, width - 2 * _PAD - self.gutter
        bottom = self._draw_ports(canvas, bar, inside, y + _HEAD + 9, room)
        if not switch.ports and not switch.balancers:
            canvas.text(inside, y + _HEAD + 23, "no ports of fake VMs", SMALL, "dim", room=room)
        for number, (rule, base) in enumerate(_lines(switch.balancers, bottom)):
            pill = canvas.pill(inside, base - 11.5, "LB", "tint", "of-router") if rule else 0
            _draw_rule(canvas, switch.balancers, number, inside + pill + 8, base, room - pill - 8)

    def _draw_bar_head(self, canvas: Canvas, switch: SwitchPicture, x: float, y: float, width: float) -> None:
        """Draw the head of a switch: name and subnets on the left, its links on the right, its badges between."""
        right = x + width - 8
        tags = [(switch.localnet, "nic", "of-physical"), (switch.zone and f"zone {switch.zone}", "panel", "dim")]
        for text, style, ink in [*tags, ("transit" if switch.transit else "", "tint", "of-router")]:
            if text:
                shown = f"localnet {text}" if style == "nic" else text
                right -= min(pill_width(shown), 220) + 6
                canvas.pill(right + 6, y + 7.5, shown, style, ink, room=221)
        left = x + _PAD
        left += canvas.text(left, y + 20.5, switch.name, NAME, room=(right - left) * 0.5) + 12
        badges = _badges_that_fit(switch.badges, right - left - 80)
        room = right - left - sum(pill_width(badge.text) + 5 for badge in badges) - 16
        left += canvas.text(left, y + 20, "  ".join(switch.subnets), MONO, "dim", room=max(room, 40)) + 14
        for badge in badges:
            with canvas.group(title="\n".join(badge.details)):
                left += canvas.pill(left, y + 7.5, badge.text, "card", "dim") + 5

    def _draw_ports(self, canvas: Canvas, bar: _Bar, x: float, y: float, width: float) -> float:
        """Draw the ports in a grid, those of fake VMs first, and return where it ends."""
        each = (width - _CHIP_GAP * (bar.columns - 1)) / bar.columns
        for ports, draw, pitch in ((bar.plain, chips.tagged, chips.PITCH), (bar.special, chips.special, _SPECIAL)):
            shown, hidden = chips.shortened(ports, bar.most)
            places = [divmod(number, bar.columns) for number in range(len(shown) + bool(hidden))]
            cells = [(x + column * (each + _CHIP_GAP), y + row * pitch) for row, column in places]
            for port, (left, top) in zip(shown, cells, strict=False):
                draw(canvas, left, top, each, port, self.picture.colours)
            if hidden:
                chips.more(canvas, *cells[-1], each, hidden)
            y += (places[-1][0] + 1) * pitch if places else 0
        return y

    def _draw_card(self, canvas: Canvas, card: _Card, x: float) -> None:
        router, width = card.router, self.card
        canvas.rect(x, card.top, width, card.height, "hub", r=9)
        canvas.path(top_band(x, card.top, width, 5, 9), "band")
        right = x + width - _PAD
        if router.chassis:
            tag = min(pill_width(router.chassis), 110)
            right -= tag
            canvas.pill(right, card.top + 13, router.chassis, self._colour(router.chassis), room=tag + 1)
            right -= 6
        said = "gateway router on" if router.chassis else "router"
        said = f"{said}, zone {router.zone}" if router.zone and not router.chassis else said
        canvas.text(right, card.top + 25, said, SMALL, "dim", anchor="end", room=150)
        canvas.text(x + _PAD, card.top + 26, router.name, NAME, room=right - x - _PAD - SMALL.width(said) - 10)
        y = card.top + _CARD_HEAD
        for port in card.ports:
            self._draw_router_port(canvas, port, x, y)
            y += _router_port_height(port)
        for name, rules in _sections(router):
            y = _draw_section(canvas, name, rules, x, y, width)

    def _draw_router_port(self, canvas: Canvas, port: RouterPortPicture, x: float, y: float) -> None:
        with canvas.group(title="\n".join([*port.networks, *port.notes])):
            right = x + self.card - 14
            for number, network in enumerate(port.networks):
                canvas.text(right, y + 12 + _LINE * number, network, CODE, anchor="end", room=self.card * 0.58)
            widest = max(min(CODE.width(network), self.card * 0.58) for network in port.networks)
            canvas.text(x + _PAD, y + 12, port.switch, LABEL, "of-router", room=self.card - widest - 36)
        if port.gateways:
            y += _LINE * len(port.networks)
            left = x + _PAD + canvas.text(x + _PAD, y + 12, "gateways", SMALL, "dim") + 8
            for number, name in enumerate(port.gateways):
                if number:
                    canvas.path(f"M{left:.1f} {y + 5:.1f}l3 3l-3 3", "tap")
                    left += 7
                tag = min(pill_width(name), 80)
                if left + tag > x + self.card - 30 and number < len(port.gateways) - 1:
                    canvas.text(left, y + 12, f"+{len(port.gateways) - number}", SMALL, "dim")
                    break
                left += canvas.pill(left, y, name, self._colour(name), room=tag + 1) + 4

    def _colour(self, chassis: str) -> str:
        return chassis_class(self.picture.colours.get(chassis))


def _ordered(picture: Picture) -> tuple[list[RouterPicture], list[SwitchPicture]]:
    """Return routers and switches, those next to each other that are joined: fewer lines cross."""
    routers, switches = list(picture.routers), list(picture.switches)
    for _ in range(3):
        at = {switch.name: number for number, switch in enumerate(switches)}
        routers.sort(key=lambda router: _mean([at[port.switch] for port in router.ports], len(at)))
        joined: dict[str, list[int]] = {switch.name: [] for switch in switches}
        for number, router in enumerate(routers):
            for port in router.ports:
                joined[port.switch].append(number)
        switches.sort(key=lambda switch: _mean(joined[switch.name], len(routers)))
    return routers, switches


def _mean(numbers: Sequence[int], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _straightening(card: _Card, lowest: float, bars: dict[str, _Bar]) -> float:
    """Return how far a card must be moved so that one of its lines becomes straight; 0 where that is far."""
    moves = [bars[switch].entry(card.router.name) - y for switch, y in card.at.items()]
    return min((move for move in moves if abs(move) <= 30 and card.top + move >= lowest), key=abs, default=0)


def _edges(cards: Sequence[_Card], bars: dict[str, _Bar]) -> list[_Edge]:
    """Return the lines, each in a lane: what starts further inside a bundle turns first, so that none crosses."""
    edges = []
    for card in cards:
        for port in card.ports:
            start, end = card.at[port.switch], bars[port.switch].entry(card.router.name)
            edges.append(_Edge(card.router.name, port, start, start if abs(end - start) <= _JOG else end))
    down = sorted((edge for edge in edges if edge.end > edge.start), key=lambda edge: edge.start)
    up = sorted((edge for edge in edges if edge.end <= edge.start), key=lambda edge: -edge.start)
    placed: list[_Edge] = []
    for edge in [*down, *up]:
        edge.lane = 1 + max((other.lane for other in placed if other.overlaps(edge)), default=-1)
        placed.append(edge)
    return placed


def _badges_that_fit(badges: Sequence[Badge], room: float) -> list[Badge]:
    """Return those there is room for; the rest in a last one."""
    shown: list[Badge] = []
    for number, badge in enumerate(badges):
        room -= pill_width(badge.text) + 5
        if room < (pill_width("+9") + 5 if number < len(badges) - 1 else 0):
            rest = badges[number:]
            details = tuple(text for hidden in rest for text in (hidden.text, *hidden.details))
            return [*shown, Badge(f"+{len(rest)}", details)]
        shown.append(badge)
    return shown


# ── routers ──────────────────────────────────────────────────────────────────────────────────────────────


def _sections(router: RouterPicture) -> list[tuple[str, Sequence[RulePicture]]]:
    sections = [("NAT", router.nat), ("static routes", router.routes), ("load balancers", router.balancers)]
    return [(name, rules) for name, rules in sections if rules]


def _card_width(router: RouterPicture) -> float:
    """Return what a card needs to show its contents in full."""
    ports = [
        LABEL.width(port.switch) + max(map(CODE.width, port.networks), default=0) + 16 + 14 + _PAD
        for port in router.ports
    ]
    rules = [_rules_width(found) + 2 * _PAD for _, found in _sections(router)]
    return max([NAME.width(router.name) + 160, *ports, *rules])


def _rules_width(rules: Sequence[RulePicture]) -> float:
    """Return what rules need to be shown in full, with their notes."""
    return max(
        (
            _kind_width(rules) + 10 + CODE.width(rule.text) + SMALL.width(_note(rule)) + 14
            for rule in rules[:_MOST_RULES]
        ),
        default=0,
    )


def _card_height(router: RouterPicture) -> float:
    ports = sum(map(_router_port_height, router.ports))
    sections = sum(24 + _LINE * min(len(rules), _MOST_RULES) for _, rules in _sections(router))
    return _CARD_HEAD + ports + sections + (10 if ports or sections else 0)


def _router_port_height(port: RouterPortPicture) -> float:
    return _LINE * (len(port.networks) + bool(port.gateways)) + 7


def _draw_section(canvas: Canvas, name: str, rules: Sequence[RulePicture], x: float, y: float, width: float) -> float:
    """Draw a heading and a line for each rule, and return where they end."""
    heading = SMALL.width(name) + 8
    canvas.text(x + _PAD, y + 13, name, SMALL, "dim")
    canvas.line([(x + _PAD + heading, y + 9.5), (x + width - _PAD, y + 9.5)], "rule")
    for number, (_, base) in enumerate(_lines(rules, y + 18)):
        _draw_rule(canvas, rules, number, x + _PAD, base, width - 2 * _PAD)
    return y + 24 + _LINE * min(len(rules), _MOST_RULES)


def _lines(rules: Sequence[RulePicture], top: float) -> list[tuple[RulePicture | None, float]]:
    """Return each rule that is shown and its base line; None for the one that says how many more there are."""
    shown: list[RulePicture | None] = [*rules] if len(rules) <= _MOST_RULES else [*rules[: _MOST_RULES - 1], None]
    return [(rule, top + 13 + _LINE * number) for number, rule in enumerate(shown)]


def _draw_rule(canvas: Canvas, rules: Sequence[RulePicture], number: int, x: float, base: float, room: float) -> None:
    """Draw one of the rules of a section: kind, text and notes in columns."""
    if number == _MOST_RULES - 1 and len(rules) > _MOST_RULES:
        hidden = rules[number:]
        with canvas.group(title="\n".join(rule.described for rule in hidden)):
            canvas.text(x, base, f"+{len(hidden)} more", SMALL, "dim")
        return
    rule, kind = rules[number], _kind_width(rules)
    with canvas.group(title=rule.described):
        canvas.text(x, base, rule.kind, LABEL, room=kind)
        note = _note(rule)
        text = canvas.text(x + kind + 10, base, rule.text, CODE, "dim", room=room - kind - 10)
        left = room - kind - 20 - text
        if note and left > 40:
            canvas.text(x + kind + 20 + text, base, note, SMALL, "dim", room=left)


def _kind_width(rules: Sequence[RulePicture]) -> float:
    return min(max((LABEL.width(rule.kind) for rule in rules), default=0), 120)


def _note(rule: RulePicture) -> str:
    return f"({', '.join(rule.notes)})" if rule.notes else ""
