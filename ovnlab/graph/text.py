"""Estimates of the width of text without a font: rather too wide than too narrow."""

from __future__ import annotations

import re
from dataclasses import dataclass

ELLIPSIS = "…"

_MONOSPACE = 0.602
_BOLD = 1.09
# Advance widths in em, after DejaVu Sans, the widest font that system-ui is likely to be.
_WIDTHS = {
    **dict.fromkeys("ijl", 0.3),
    **dict.fromkeys(" ,.:;|I/\\'!·", 0.34),
    **dict.fromkeys("frt()[]-", 0.4),
    **dict.fromkeys("cksz", 0.56),
    **dict.fromkeys("mwMW%@+=<>~", 0.9),
    **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ", 0.72),
    **dict.fromkeys("→⇄↔✕…", 0.95),
}
_USUAL, _UNKNOWN = 0.635, 1.0

_NOT_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Font:
    """A size in pixels, and what kind of font; `name` is its class in the stylesheet."""

    name: str
    size: float
    mono: bool = False
    bold: bool = False

    def width(self, text: str) -> float:
        """Return how wide a line of text is, in pixels."""
        if self.mono:
            return sum(_MONOSPACE if ord(char) < 0x250 else _UNKNOWN for char in text) * self.size
        em = sum(_WIDTHS.get(char, _USUAL if ord(char) < 0x250 else _UNKNOWN) for char in text)
        return em * self.size * (_BOLD if self.bold else 1)

    def fit(self, text: str, width: float) -> str:
        """Return as much of a text as there is room for, with an ellipsis where something is left out."""
        if self.width(text) <= width + 0.01:
            return text
        while text and self.width(text + ELLIPSIS) > width:
            text = text[:-1]
        return text.rstrip() + ELLIPSIS


def one_line(text: str) -> str:
    """Return text without line breaks, runs of blanks and characters that XML cannot hold."""
    return " ".join(legible(text).split())


def legible(text: str) -> str:
    """Return text without characters that XML cannot hold (XML 1.0, 2.2 Characters)."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
