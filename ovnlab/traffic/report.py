"""A report on traffic as plain values: times are milliseconds from when it began."""

from __future__ import annotations

import msgspec

from ovnlab.traffic.outage import Gap
from ovnlab.traffic.traffic import Pair, Traffic

MOST_GAPS = 20
"""Gaps of a pair that are told, the longest ones."""

BUCKETS = 240
"""Parts of the time that losses are told of."""

TOLERANCE = 5_000_000
"""Nanoseconds that a gap may begin before what caused it was taken down."""

LATE = 0.02
"""Seconds by which a packet is sent so late that it is told: a gap that is shorter is not seen."""


class GapReport(msgspec.Struct, frozen=True):
    """A time without answers; `after_ms` is how long after `mark` it began."""

    at_ms: float
    ms: float
    mark: str = ""
    after_ms: float | None = None
    over: bool = True


class DeathReport(msgspec.Struct, frozen=True):
    """A TCP connection that ended by itself."""

    connection: int
    at_ms: float
    reason: str


class MarkReport(msgspec.Struct, frozen=True):
    """An action on the lab."""

    text: str
    at_ms: float


class ChangeReport(msgspec.Struct, frozen=True):
    """A takeover: `kind` is gateway, leader or bfd; `at_ms` is None where the moment is unknown."""

    kind: str
    name: str
    before: str
    after: str
    at_ms: float | None
    text: str


class PairReport(msgspec.Struct, frozen=True):
    """The result for the packets of one pair.

    `lost_there` of the lost ones did not come to the destination, None where nobody counted there. `losses` is the
    share of lost packets in equal parts of the time, None where none was sent; of TCP, which loses nothing, the share
    of the time without an answer.
    """

    source: str
    destination: str
    protocol: str
    address: str
    sent: int
    lost: int
    lost_there: int | None
    longest_gap_ms: float
    gaps: tuple[GapReport, ...]
    duplicates: int
    reordered: int
    connections: int
    died: tuple[DeathReport, ...]
    late_ms: float
    dropped_by_receiver: int
    errors: dict[str, int]
    problems: tuple[str, ...]
    losses: tuple[float | None, ...]

    @property
    def title(self) -> str:
        """Return the pair, for people."""
        return f"{self.source} → {self.destination}"


class Report(msgspec.Struct, frozen=True):
    """The report on all traffic."""

    lab: str
    protocol: str
    interval_ms: float
    ms: float
    longest_gap_ms: float
    pairs: tuple[PairReport, ...]
    marks: tuple[MarkReport, ...]
    changes: tuple[ChangeReport, ...]

    @property
    def is_well(self) -> bool:
        """Return True if traffic was well at the end."""
        return all(
            not pair.problems and len(pair.died) < max(pair.connections, 1) and all(gap.over for gap in pair.gaps)
            for pair in self.pairs
        )


def report(seen: Traffic) -> Report:
    """Return what traffic has seen, which is over."""
    marks = tuple(MarkReport(mark.text, _ms(mark.when - seen.began)) for mark in seen.marks)
    changes = tuple(
        ChangeReport(
            one.kind, one.name, one.before, one.after, _ms(one.when - seen.began) if one.when else None, one.text
        )
        for one in seen.changes
    )
    return Report(
        lab=seen.lab.name,
        protocol=seen.protocol,
        interval_ms=1000 * seen.interval,
        ms=_ms(seen.ended - seen.began),
        longest_gap_ms=round(1000 * seen.longest_gap, 1),
        pairs=tuple(_pair(seen, pair) for pair in seen.pairs),
        marks=marks,
        changes=changes,
    )


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 1)


def _pair(seen: Traffic, pair: Pair) -> PairReport:
    packets = pair.packets
    drawn = packets.losses if packets.streams == 1 else packets.silences
    numbers = packets.within(seen.began, seen.ended)
    lost = [number for number in numbers if number not in packets.answered]
    gaps = seen.gaps(pair)
    return PairReport(
        source=pair.source,
        destination=pair.destination,
        protocol=pair.protocol,
        address=pair.address,
        sent=len(numbers),
        lost=len(lost),
        lost_there=sum(number not in packets.arrived for number in lost) if packets.counts_arrivals else None,
        longest_gap_ms=round(1000 * seen.longest_gap_of(pair), 1),
        gaps=tuple(_gap(seen, pair, gap) for gap in gaps[:MOST_GAPS]),
        duplicates=packets.duplicates,
        reordered=packets.reordered,
        connections=packets.streams if pair.protocol == "tcp" else 0,
        died=tuple(
            DeathReport(death.connection, _ms(death.when - seen.began), death.reason) for death in packets.deaths
        ),
        late_ms=round(1000 * packets.late(seen.interval, seen.began), 1),
        dropped_by_receiver=packets.overflown,
        errors=packets.errors,
        problems=tuple(pair.problems),
        losses=tuple(drawn(seen.began, seen.ended, BUCKETS)),
    )


def _gap(seen: Traffic, pair: Pair, gap: Gap) -> GapReport:
    before = [mark for mark in seen.marks if mark.when <= gap.began + TOLERANCE]
    mark = before[-1] if before else None
    over = gap.ended < seen.ended_of(pair)
    after = _ms(max(gap.began - mark.when, 0)) if mark else None
    return GapReport(_ms(gap.began - seen.began), _ms(gap.ended - gap.began), mark.text if mark else "", after, over)
