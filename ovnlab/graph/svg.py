"""The picture as SVG: a title, the two halves below each other, a legend."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

from ovnlab.graph.canvas import Canvas, pill_width
from ovnlab.graph.logical_view import LogicalView
from ovnlab.graph.palette import HEADING, SMALL, SUMMARY, TITLE, chassis_class, stylesheet
from ovnlab.graph.physical_view import PhysicalView
from ovnlab.graph.picture import Picture, State
from ovnlab.graph.text import legible

_MARGIN = 40
_WIDEST = 1600
_NARROWEST = 720
_STATES = {"up": "good", "degraded": "warn", "down": "bad"}


def svg(picture: Picture, view: str = "both") -> str:
    """Return a whole SVG file; at most 1600 pixels wide, as high as it has to be."""
    physical = PhysicalView(picture, _WIDEST - 2 * _MARGIN) if view != "logical" else None
    logical = LogicalView(picture) if view != "physical" and (picture.switches or picture.routers) else None
    wanted = max([part.width for part in (physical, logical) if part], default=0)
    width = min(max(wanted, _NARROWEST), _WIDEST - 2 * _MARGIN)
    canvas = Canvas()
    y = _draw_title(canvas, picture, width)
    for name, part in (("physical", physical), ("logical", logical)):
        if part is not None:
            y = _draw_heading(canvas, name, y + 22, width)
            y = part.draw(canvas, _MARGIN, y, width) + 14
    y = _draw_legend(canvas, picture, view, y + 16, width)
    return _file(picture, canvas, width + 2 * _MARGIN, y + 24)


def _file(picture: Picture, canvas: Canvas, width: float, height: float) -> str:
    w, h = round(width), round(height)
    title = f"ovnlab: {picture.name}"
    said = [picture.summary, ", ".join(picture.mesh), f"the lab is {picture.state}" if picture.state else ""]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ovnlab" width="{w}" height="{h}" viewBox="0 0 {w} {h}" '
        f'role="img" aria-labelledby="ovnlab-title ovnlab-desc">\n'
        f'<title id="ovnlab-title">{escape(legible(title))}</title>\n'
        f'<desc id="ovnlab-desc">{escape(legible("; ".join(filter(None, said))))}</desc>\n'
        f"<style>\n{stylesheet()}</style>\n"
        f'<rect class="paper" width="{w}" height="{h}" rx="12"/>\n{canvas}\n</svg>\n'
    )


def _draw_title(canvas: Canvas, picture: Picture, width: float) -> float:
    y = _MARGIN + 12
    x = _MARGIN + canvas.text(_MARGIN, y, picture.name, TITLE, room=width * 0.5) + 14
    if picture.state:
        style = _STATES.get(picture.state, "warn")
        x += canvas.pill(x, y - 15, picture.state, style, height=18) + 12
    end = _MARGIN + width
    canvas.text(end, y - 1, picture.summary, SUMMARY, "dim", anchor="end", room=end - x)
    return y + 2


def _draw_heading(canvas: Canvas, name: str, y: float, width: float) -> float:
    used = canvas.text(_MARGIN, y + 12, name.upper(), HEADING, "dim")
    canvas.line([(_MARGIN + used + 14, y + 8), (_MARGIN + width, y + 8)], "rule")
    return y + 34


Sign = Callable[[Canvas, float, float], float]
"""Draws a sign of the legend where it is told; returns how wide it is."""


def _draw_legend(canvas: Canvas, picture: Picture, view: str, y: float, width: float) -> float:
    """Return what the colours and lines that occur mean, in a row that wraps."""
    x: float = _MARGIN
    for sign, text in _signs(picture, view):
        scratch = Canvas()
        needed = sign(scratch, 0, 0) + 8 + SMALL.width(text)
        if x > _MARGIN and x + needed > _MARGIN + width:
            x, y = _MARGIN, y + 24
        x += sign(canvas, x, y) + 8
        x += canvas.text(x, y + 4, text, SMALL, "dim") + 26
    return y + 8


def _signs(picture: Picture, view: str) -> list[tuple[Sign, str]]:
    ports = [port for switch in picture.switches for port in switch.ports]
    states = {port.state for port in ports if not port.kind}
    physical, logical = view != "logical", view != "physical"
    tunnels = [tunnel.working for tunnel in picture.drawn_tunnels]
    name, colour = next(iter(picture.colours.items()), ("", None))
    signs: list[tuple[bool, Sign, str]] = [
        (physical, _stroke("bus"), "underlay"),
        (physical and bool(picture.networks), _stroke("wire"), "physical network"),
        (physical and True in tunnels, _stroke("tunnel"), "tunnel"),
        (physical and False in tunnels, _stroke("broken"), "broken tunnel"),
        (State.BOUND in states, _pill(name, chassis_class(colour), "on"), "bound there: each chassis has a colour"),
        (State.UNBOUND in states, _pill("unbound", "none", "dim"), "not bound to any chassis"),
        (State.DOWN in states, _pill("down", "lost", "bad"), "bound, but not up"),
        (State.MISSING in states, _pill("missing", "lost", "bad"), "not in the Northbound database"),
        (logical and any(router.ports for router in picture.routers), _stroke("edge"), "router port"),
    ]
    return [(sign, text) for shown, sign, text in signs if shown]


def _stroke(style: str) -> Sign:
    def draw(canvas: Canvas, x: float, y: float) -> float:
        canvas.line([(x, y), (x + 26, y)], style)
        return 26

    return draw


def _pill(text: str, style: str, ink: str) -> Sign:
    def draw(canvas: Canvas, x: float, y: float) -> float:
        canvas.pill(x, y - 8, text, style, ink)
        return pill_width(text)

    return draw
