"""A writer of SVG elements: rectangles, lines, text. Knows nothing of what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from xml.sax.saxutils import escape, quoteattr

from ovnlab.graph.palette import TAG
from ovnlab.graph.text import Font, legible

Point = tuple[float, float]


class Canvas:
    """SVG elements in the order that they are drawn in."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._elements)

    @contextmanager
    def group(self, *, title: str = "", style: str = "") -> Iterator[None]:
        """Group what is drawn inside; `title` is shown when pointed at."""
        styled = f" class={quoteattr(style)}" if style else ""
        self._elements.append(f"<g{styled}>{_title(title)}")
        yield
        self._elements.append("</g>")

    def rect(
        self, x: float, y: float, width: float, height: float, style: str, *, r: float = 0, more: str = ""
    ) -> None:
        """Draw a rectangle; `r` rounds its corners, `more` are further attributes."""
        rounded = f' rx="{_n(r)}"' if r else ""
        self._elements.append(
            f'<rect class="{style}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{rounded}{more}/>'
        )

    def path(self, description: str, style: str) -> None:
        """Draw a path in SVG's own syntax."""
        self._elements.append(f'<path class="{style}" d="{description}"/>')

    def line(self, points: Sequence[Point], style: str, *, r: float = 0) -> None:
        """Draw a line through points, its corners rounded."""
        self.path(_rounded(points, r), style)

    def dot(self, x: float, y: float, style: str, *, r: float = 4) -> None:
        """Draw a filled circle around a point."""
        self._elements.append(f'<circle class="{style}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        font: Font,
        style: str = "ink",
        *,
        room: float = 0,
        anchor: str = "start",
    ) -> float:
        """Draw a line of text, cut to `room` with the whole in its tooltip, and return its width."""
        shown = font.fit(text, room) if room else text
        if not shown:
            return 0
        place = f' text-anchor="{anchor}"' if anchor != "start" else ""
        title = _title(text) if shown != text else ""
        self._elements.append(
            f'<text class="{font.name} {style}" x="{_n(x)}" y="{_n(y)}"{place}>{_text(shown)}{title}</text>'
        )
        return font.width(shown)

    def pill(
        self, x: float, y: float, text: str, style: str, ink: str = "on", *, room: float = 0, height: float = 16
    ) -> float:
        """Draw a word in a rounded box whose top left corner is given, and return the width of the box."""
        shown = TAG.fit(text, room - 14) if room else text
        width = TAG.width(shown) + 14
        self.rect(x, y, width, height, style, r=height / 2)
        self.text(x + width / 2, y + height / 2 + 3.5, shown, TAG, ink, anchor="middle")
        return width


def pill_width(text: str) -> float:
    """Return the width of the box of a word."""
    return TAG.width(text) + 14


def top_band(x: float, y: float, width: float, height: float, r: float) -> str:
    """Return the path of the topmost stretch, `height` high, of a rectangle with corners of radius `r`."""
    h = min(height, r)
    inset = r - math.sqrt(r * r - (r - h) ** 2)
    start = f"M{_n(x + inset)} {_n(y + h)}A{_n(r)} {_n(r)} 0 0 1 {_n(x + r)} {_n(y)}"
    end = f"H{_n(x + width - r)}A{_n(r)} {_n(r)} 0 0 1 {_n(x + width - inset)} {_n(y + h)}"
    return start + end + (f"V{_n(y + height)}H{_n(x)}V{_n(y + h)}z" if height > r else "z")


def arc(start: Point, end: Point, height: float) -> str:
    """Return the path of an arc that rises above two points by `height`."""
    (x1, y1), (x2, y2) = start, end
    top = height * 4 / 3
    return f"M{_n(x1)} {_n(y1)}C{_n(x1)} {_n(y1 - top)} {_n(x2)} {_n(y2 - top)} {_n(x2)} {_n(y2)}"


def _rounded(points: Sequence[Point], r: float) -> str:
    words = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(corner, before, r), _towards(corner, after, r)
        words.append(f"L{_n(near[0])} {_n(near[1])}Q{_n(corner[0])} {_n(corner[1])} {_n(far[0])} {_n(far[1])}")
    words.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(words)


def _towards(start: Point, end: Point, distance: float) -> Point:
    """Return the point at a distance from one to another, at most half way."""
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    part = min(distance / length, 0.5) if length else 0
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _n(number: float) -> str:
    """Return a number as short as SVG needs it."""
    return f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    return escape(legible(text))


def _title(text: str) -> str:
    return f"<title>{_text(text)}</title>" if text else ""
