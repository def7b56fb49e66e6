"""The options `--traffic`, `--tcp`, `--udp` and `--svg` of commands that change a lab, and what they show of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovnlab.cli import output
from ovnlab.errors import OvnlabError, UsageError

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab
    from ovnlab.traffic.report import PairReport, Report
    from ovnlab.traffic.traffic import Traffic

MOST_SESSIONS = 8
"""BFD sessions that are told of, of those that changed."""


class Measure:
    """A measurement of traffic during a command; nothing is sent where no pairs are named."""

    def __init__(self, pairs: Sequence[tuple[str, str]], protocol: str = "icmp", picture: Path | None = None) -> None:
        self.pairs = pairs
        self.protocol = protocol
        self.picture = picture
        self.report: Report | None = None

    @contextlib.contextmanager
    def around(self, lab: Lab, text: str = "", *, required: bool = True) -> Iterator[Traffic | None]:
        """Have traffic go on while something is done to the lab, and until it is well again.

        `text` says what is done. Raises OvnlabError before that where a pair does not answer and that is `required`.
        """
        if not self.pairs:
            yield None
            return
        if not lab.provider.is_up():
            raise OvnlabError(f"lab {lab.name} is down: no traffic can be measured", hint="leave --traffic out")
        from ovnlab.traffic.report import report  # noqa: PLC0415  for commands that measure
        from ovnlab.traffic.traffic import Traffic  # noqa: PLC0415

        with Traffic(lab, self.pairs, protocol=self.protocol, required=required) as seen:
            if text:
                seen.mark(text)
            yield seen
        self.report = report(seen)

    def show(self, *, brief: bool = False) -> None:
        """Show what was seen, if anything was measured; `brief`, what took over and what died, and no more."""
        if self.report is not None:
            for line in ends(self.report) if brief else lines(self.report):
                output.line(line)
            self.draw()

    def as_json(self) -> dict[str, Any]:
        """Return what was seen, as the key `traffic`, and draw the picture; nothing if nothing was asked for."""
        self.draw()
        return {"traffic": self.report} if self.pairs else {}

    def draw(self) -> None:
        """Write the picture that was asked for."""
        if self.report is not None and self.picture is not None:
            from ovnlab.traffic.picture import svg  # noqa: PLC0415

            output.write_text(self.picture, svg(self.report))


_ASKED = "ovnlab.traffic"
"""Where the context of a command keeps what its options say, and then its Measure."""


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.meta.setdefault(_ASKED, {})[param.name] = value


def traffic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which asks `wanted` for what they say."""
    path = click.Path(path_type=Path)
    measured = "Send a packet each millisecond from A to B (and to C), and report losses and gaps."
    for option in (
        click.option("--svg", metavar="FILE", type=path, expose_value=False, callback=_keep, help="Draw the loss."),
        click.option(
            "--tcp", is_flag=True, expose_value=False, callback=_keep, help="Use TCP; report dead connections."
        ),
        click.option("--udp", is_flag=True, expose_value=False, callback=_keep, help="Use UDP instead of pings."),
        click.option(
            "--traffic", metavar="A,B[,C...]", multiple=True, expose_value=False, callback=_keep, help=measured
        ),
    ):
        command = option(command)
    return command


def wanted() -> Measure:
    """Return what the options of this command ask for: the same each time. Raises UsageError if it makes no sense."""
    meta = click.get_current_context().meta
    found = meta.get(_ASKED)
    if not isinstance(found, Measure):
        said: dict[str, Any] = found or {}
        found = meta[_ASKED] = asked(
            said.get("traffic", ()), udp=said.get("udp", False), tcp=said.get("tcp", False), svg=said.get("svg")
        )
    return found


def asked(words: Sequence[str], *, udp: bool, tcp: bool, svg: Path | None) -> Measure:
    """Return what options ask for. Raises UsageError where they make no sense."""
    if udp and tcp:
        raise UsageError("--udp and --tcp exclude each other")
    if not words and (udp or tcp or svg):
        raise UsageError("--udp, --tcp and --svg go with --traffic", hint="such as --traffic vm1,vm2")
    if svg is not None:
        output.require_writable(svg)
    if not words:
        return Measure(())
    from ovnlab.traffic.words import parse_pairs  # noqa: PLC0415  for commands that measure

    return Measure(parse_pairs(words), "tcp" if tcp else "udp" if udp else "icmp", svg)


def lines(report: Report) -> Iterator[str]:
    """Return what traffic has seen, for people."""
    from ovnlab.traffic import picture  # noqa: PLC0415

    tcp = report.protocol == "tcp"
    headings = ("TRAFFIC", "SENT", "LOST", "LONGEST GAP", "BEGAN", *(("DIED",) if tcp else ("TWICE", "REORDERED")))
    yield from output.aligned(headings, [_row(pair) for pair in report.pairs])
    yield ""
    yield from picture.lines(report)
    yield from ends(report)
    for note in _notes(report):
        yield f"note: {note}"


def ends(report: Report) -> Iterator[str]:
    """Return what took over, and which connections died, for people."""
    told = list(_changes(report))
    if told:
        yield ""
        yield "took over"
        yield from (f"  {line}" for line in told)
    for pair in report.pairs:
        for death in pair.died:
            yield f"{pair.title}: connection {death.connection} died after {death.at_ms / 1000:.3f} s: {death.reason}"


def _row(pair: PairReport) -> tuple[str, ...]:
    title = f"{pair.title} ({pair.protocol.upper()})"
    there = (
        f" ({pair.lost_there} there, {pair.lost - pair.lost_there} back)"
        if pair.lost and pair.lost_there is not None
        else ""
    )
    gap = pair.gaps[0] if pair.gaps else None
    began = "-"
    if gap is not None:
        after = f" after {gap.mark}" if gap.mark else ""
        began = f"{(gap.after_ms if gap.after_ms is not None else gap.at_ms) / 1000:.3f} s{after}"
    longest = f"{pair.longest_gap_ms / 1000:.3f} s" + ("" if gap is None or gap.over else ", not over")
    ends = (
        (f"{len(pair.died)} of {pair.connections}",)
        if pair.connections
        else (str(pair.duplicates), str(pair.reordered))
    )
    return (title, str(pair.sent), f"{pair.lost}{there}", longest, began, *ends)


def _changes(report: Report) -> Iterator[str]:
    start = report.marks[0].at_ms if report.marks else 0.0
    sessions = 0
    for change in report.changes:
        sessions += change.kind == "bfd"
        if change.kind == "bfd" and sessions > MOST_SESSIONS:
            continue
        when = "during this" if change.at_ms is None else f"{(change.at_ms - start) / 1000:+.3f} s"
        yield f"{when:>11}  {change.text}"
    if sessions > MOST_SESSIONS:
        yield f"{'':>11}  and {sessions - MOST_SESSIONS} more changes of BFD sessions (--json has them)"


def _notes(report: Report) -> Iterator[str]:
    from ovnlab.traffic.report import LATE  # noqa: PLC0415

    for pair in report.pairs:
        for said, count in pair.errors.items():
            yield f"{pair.title}: {output.count(count, 'packet')} could not be sent: {said}"
        for problem in pair.problems:
            yield f"{pair.title}: {problem}"
        if pair.dropped_by_receiver:
            dropped = output.count(pair.dropped_by_receiver, "packet")
            yield f"{pair.title}: this machine was too slow to take {dropped}, which count as lost"
        if pair.late_ms > 1000 * LATE:
            late = f"a packet was sent {pair.late_ms:.0f} ms late, as this machine is busy"
            yield f"{pair.title}: {late}: shorter gaps may be missed"
