"""Loss over time, on a terminal and as SVG, with what was done to the lab and what took over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from ovnlab.graph.canvas import Canvas
from ovnlab.graph.palette import LABEL, SMALL, SUMMARY, TITLE, stylesheet
from ovnlab.graph.text import legible
from ovnlab.traffic.report import PairReport, Report

LEVELS = "▁▂▃▄▅▆▇█"
WIDTH = 60
"""Columns of a line of the picture on a terminal."""

MOST_EVENTS = 12
"""Events of a picture, the first ones."""

_MARGIN, _LABELS, _PLOT, _ROW = 32, 190, 720, 46


def lines(report: Report, width: int = WIDTH) -> Iterator[str]:
    """Return the picture for a terminal: a line a pair, the time below it, and a line for each event."""
    label = max(len(pair.title) for pair in report.pairs)
    for pair in report.pairs:
        yield f"{pair.title:<{label}}  {bar(pair.losses, width)}"
    end = f"{report.ms / 1000:.1f} s"
    yield f"{'':<{label}}  0{end:>{width - 1}}"
    for at, text in events(report):
        place = min(int(at / max(report.ms, 1) * width), width - 1)
        shown = f"^ {at / 1000:.2f} s {text}"
        before = place >= width // 2 and len(shown) > width - place
        placed = f"{text} {at / 1000:.2f} s ^".rjust(place + 1) if before else " " * place + shown
        yield f"{'':<{label}}  {placed}"


def bar(losses: Sequence[float | None], width: int) -> str:
    """Return a line that is as high as the loss: the worst of what each column stands for.

    >>> bar([0.0, 0.0, 0.5, 1.0], 4)
    '▁▁▅█'
    """
    shown = []
    for column in range(width):
        start = column * len(losses) // width
        part = [one for one in losses[start : max((column + 1) * len(losses) // width, start + 1)] if one is not None]
        shown.append(" " if not part else LEVELS[min(-int(-max(part) * (len(LEVELS) - 1) // 1), len(LEVELS) - 1)])
    return "".join(shown)


def events(report: Report) -> list[tuple[float, str]]:
    """Return what was done and what took over, in order; of BFD only the first session that went and came of each."""
    found = [(mark.at_ms, mark.text) for mark in report.marks]
    told: set[tuple[str, str]] = set()
    for change in report.changes:
        if change.at_ms is None or (change.kind == "bfd" and (change.before, change.after) in told):
            continue
        told.add((change.before, change.after))
        found.append((change.at_ms, change.text))
    return sorted(found)[:MOST_EVENTS]


def svg(report: Report) -> str:
    """Return the picture as an SVG file."""
    canvas = Canvas()
    y = _MARGIN + 12
    canvas.text(_MARGIN, y, f"{report.lab}: loss over time", TITLE)
    y += 22
    longest = f"longest gap {report.longest_gap_ms / 1000:.3f} s"
    canvas.text(
        _MARGIN, y, f"{report.protocol.upper()}, a packet every {report.interval_ms:g} ms, {longest}", SUMMARY, "dim"
    )
    top = y + 18
    y = top
    for pair in report.pairs:
        _draw_pair(canvas, pair, y)
        y += _ROW
    _draw_axis(canvas, report, y)
    y += 26
    x0 = _MARGIN + _LABELS
    for number, (at, text) in enumerate(events(report)):
        x = x0 + _PLOT * at / max(report.ms, 1)
        is_mark = any(mark.at_ms == at and mark.text == text for mark in report.marks)
        canvas.line([(x, top), (x, y + 16 * number + 4)], "broken" if is_mark else "tunnel")
        words, font = f"{at / 1000:.3f} s  {text}", LABEL if is_mark else SMALL
        right = x + 6 + font.width(words) > x0 + _PLOT
        canvas.text(x - 6 if right else x + 6, y + 16 * number + 8, words, font, anchor="end" if right else "start")
    y += 16 * len(events(report)) + 14
    return _file(report, canvas, _MARGIN * 2 + _LABELS + _PLOT, round(y))


def _draw_pair(canvas: Canvas, pair: PairReport, y: float) -> None:
    x0, height = _MARGIN + _LABELS, _ROW - 14
    canvas.text(_MARGIN, y + 14, pair.title, LABEL, room=_LABELS - 10)
    died = f", {len(pair.died)} of {pair.connections} died" if pair.connections else ""
    canvas.text(_MARGIN, y + 28, f"{pair.lost} of {pair.sent} lost{died}", SMALL, "dim", room=_LABELS - 10)
    canvas.rect(x0, y, _PLOT, height, "panel")
    width = _PLOT / len(pair.losses)
    for number, loss in enumerate(pair.losses):
        if loss:
            tall = max(height * loss, 1)
            canvas.rect(x0 + number * width, y + height - tall, width, tall, "bad")


def _draw_axis(canvas: Canvas, report: Report, y: float) -> None:
    step = next(
        one for one in (100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 600000, 10**12) if report.ms / one <= 10
    )
    x0 = _MARGIN + _LABELS
    for at in range(0, int(report.ms) + 1, step):
        x = x0 + _PLOT * at / max(report.ms, 1)
        canvas.line([(x, y - 12), (x, y - 8)], "rule")
        canvas.text(x, y + 2, f"{at / 1000:g} s", SMALL, "dim", anchor="middle")


def _file(report: Report, canvas: Canvas, width: int, height: int) -> str:
    said = "; ".join(f"{pair.title}: {pair.lost} of {pair.sent} lost" for pair in report.pairs)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ovnlab" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="ovnlab-title ovnlab-desc">\n'
        f'<title id="ovnlab-title">{escape(legible(report.lab))}: loss over time</title>\n'
        f'<desc id="ovnlab-desc">{escape(legible(said))}</desc>\n'
        f"<style>\n{stylesheet()}</style>\n"
        f'<rect class="paper" width="{width}" height="{height}" rx="12"/>\n{canvas}\n</svg>\n'
    )
