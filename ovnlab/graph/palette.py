"""The colours and fonts of the SVG, and its stylesheet.

Each colour is given twice, for light and for dark, and written out in full rather than as a CSS variable: what shows
SVG outside a browser (librsvg, resvg, CairoSVG, office programs) knows classes and no variables.
"""

from __future__ import annotations

from ovnlab.graph.text import Font

TITLE = Font("title", 22, bold=True)
SUMMARY = Font("summary", 12.5)
HEADING = Font("heading", 12, bold=True)
NAME = Font("name", 13.5, bold=True)
LABEL = Font("label", 11.5, bold=True)
TEXT = Font("text", 11.5)
SMALL = Font("small", 10.5)
TAG = Font("tag", 10, bold=True)
MONO = Font("mono", 11, mono=True)
CODE = Font("code", 10.5, mono=True)
FONTS = (TITLE, SUMMARY, HEADING, NAME, LABEL, TEXT, SMALL, TAG, MONO, CODE)

SANS_FAMILY = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif'
MONO_FAMILY = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace'

CHASSIS = (
    ("#2563eb", "#79b0ff"),
    ("#0f766e", "#4fd1c0"),
    ("#b45309", "#f0b14a"),
    ("#7c3aed", "#b79bff"),
    ("#be185d", "#f58ebd"),
    ("#15803d", "#66d58a"),
    ("#0e7490", "#5cc8e6"),
    ("#c2410c", "#ff9d66"),
    ("#4338ca", "#98a0ff"),
    ("#a21caf", "#e592f0"),
    ("#4d7c0f", "#a9d65c"),
    ("#475569", "#a7b4c6"),
)
"""One for each chassis, light and dark; further ones begin again."""

_TINT = 0.14

_COLOURS = {
    "paper": ("#ffffff", "#0d1117"),
    "card": ("#ffffff", "#161b22"),
    "border": ("#d1d9e0", "#343c46"),
    "panel": ("#f6f8fa", "#1f262e"),
    "ink": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9aa5b1"),
    "line": ("#6e7781", "#848d97"),
    "physical": ("#9a6700", "#d8a636"),
    "physical-tint": ("#fff8e5", "#2a2315"),
    "tunnel": ("#6e56cf", "#a594f9"),
    "bad": ("#cf222e", "#ff7b72"),
    "good": ("#1a7f37", "#4ac26b"),
    "warn": ("#9a6700", "#d8a636"),
    "router": ("#0969da", "#58a6ff"),
    "router-tint": ("#eef6ff", "#142338"),
    "zone": ("#f6f8fa", "#12171e"),
    "on": ("#ffffff", "#0d1117"),
}

_RULES = {
    "paper": "fill:{paper}",
    "card": "fill:{card};stroke:{border}",
    "panel": "fill:{panel};stroke:{border}",
    "head": "fill:{panel}",
    "nic": "fill:{physical-tint};stroke:{physical};stroke-opacity:.55",
    "hub": "fill:{card};stroke:{router};stroke-opacity:.6",
    "zone": "fill:{zone};stroke:{line};stroke-dasharray:2 4",
    "tray": "fill:none;stroke:{line};stroke-dasharray:5 4",
    "plain": "fill:{line}",
    "none": "fill:none;stroke:{line};stroke-dasharray:3 2.5",
    "lost": "fill:none;stroke:{bad};stroke-dasharray:3 2.5",
    "rule": "stroke:{border};fill:none",
    "bus": "stroke:{line};fill:none;stroke-width:4;stroke-linecap:round",
    "tap": "stroke:{line};fill:none;stroke-width:1.75",
    "wire": "stroke:{physical};fill:none;stroke-width:4;stroke-linecap:round",
    "drop": "stroke:{physical};fill:none;stroke-width:1.75",
    "tunnel": "stroke:{tunnel};fill:none;stroke-width:1.5",
    "broken": "stroke:{bad};fill:none;stroke-width:2;stroke-dasharray:6 4",
    "cross": "stroke:{bad};fill:{paper};stroke-width:1.75;stroke-linecap:round",
    "edge": "stroke:{router};fill:none;stroke-width:1.75",
    "halo": "stroke:{paper};fill:none;stroke-width:6",
    "at-bus": "fill:{line}",
    "at-wire": "fill:{physical}",
    "at-edge": "fill:{router}",
    "band": "fill:{router}",
    "tint": "fill:{router-tint};stroke:{router};stroke-opacity:.45",
    "ink": "fill:{ink}",
    "dim": "fill:{dim}",
    "on": "fill:{on}",
    "good": "fill:{good}",
    "warn": "fill:{warn}",
    "bad": "fill:{bad}",
    "of-tunnel": "fill:{tunnel}",
    "of-physical": "fill:{physical}",
    "of-router": "fill:{router}",
}


def stylesheet() -> str:
    """Return the stylesheet. Every rule is below .ovnlab, so that a page with the picture inline is left alone."""
    fonts = "".join(
        f".ovnlab .{font.name}{{font:{600 if font.bold else 400} {font.size}px "
        f"{MONO_FAMILY if font.mono else SANS_FAMILY}}}\n"
        for font in FONTS
    )
    light, dark = _rules(0), _rules(1)
    return f"{fonts}.ovnlab .off{{opacity:.45}}\n{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def _rules(scheme: int) -> str:
    colours = {name: pair[scheme] for name, pair in _COLOURS.items()}
    rules = {name: rule.format_map(colours) for name, rule in _RULES.items()}
    rules |= {chassis_class(number): f"fill:{pair[scheme]}" for number, pair in enumerate(CHASSIS)}
    return "".join(f".ovnlab .{name}{{{rule}}}\n" for name, rule in rules.items())


def chassis_class(number: int | None) -> str:
    """Return the class of a chassis' colour; of grey where it is none."""
    return "plain" if number is None else f"c{number % len(CHASSIS)}"


def tint(colour: str) -> str:
    """Return a colour with so much white that text can be read on it.

    >>> tint("#2563eb")
    '#e0e9fc'
    """
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * _TINT):02x}" for part in parts)
