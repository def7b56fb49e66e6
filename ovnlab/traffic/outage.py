"""Outages: lost, late, duplicate and reordered packets, and the gaps between answers."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from ovnlab.traffic.agent import ANSWERED, ARRIVED, DIED, FAILED, OVERFLOWN, SENT

NOTEWORTHY = 20_000_000
"""Nanoseconds: a gap that is longer is an outage, not how packets come."""


@dataclass(frozen=True)
class Gap:
    """A time without an answer that was due: when it began and ended, in nanoseconds since 1970."""

    began: int
    ended: int

    @property
    def seconds(self) -> float:
        """Return its length in seconds."""
        return (self.ended - self.began) / 1e9


@dataclass(frozen=True)
class Death:
    """A TCP connection that ended by itself: which, when, and the system's word on why."""

    connection: int
    when: int
    reason: str


@dataclass
class Packets:
    """The packets of one pair. Times are nanoseconds since 1970; `streams` packets follow each other in turn."""

    streams: int = 1
    counts_arrivals: bool = False
    sent: dict[int, int] = field(default_factory=dict)
    answered: dict[int, int] = field(default_factory=dict)
    arrived: set[int] = field(default_factory=set)
    duplicates: int = 0
    reordered: int = 0
    overflown: int = 0
    deaths: list[Death] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    _newest: int = -1

    def add(self, events: Iterable[tuple[int, int, int]]) -> None:
        """Take events of an agent."""
        for kind, number, when in events:
            if kind == SENT:
                self.sent[number] = when
            elif kind == ANSWERED:
                if number in self.answered:
                    self.duplicates += 1
                    continue
                self.reordered += self.streams == 1 and number < self._newest
                self._newest = max(self._newest, number)
                self.answered[number] = when
            elif kind == ARRIVED:
                self.arrived.add(number)
            elif kind == OVERFLOWN:
                self.overflown += number
            elif kind == DIED:
                self.deaths.append(Death(number, when, ""))
            elif kind == FAILED and self.deaths and not self.deaths[-1].reason:
                self.deaths[-1] = Death(self.deaths[-1].connection, self.deaths[-1].when, os.strerror(number))
            elif kind == FAILED:
                said = os.strerror(number)
                self.errors[said] = self.errors.get(said, 0) + 1

    def gaps(self, start: int, end: int) -> list[Gap]:
        """Return the gaps of a time, the longest first; the worst connection's where there are several.

        Of a connection that died there are none after that, as long as another one lives.
        """
        ends = {death.connection: min(death.when, end) for death in self.deaths}
        ends = ends if len(ends) < self.streams else {}
        found = [gap for one in range(self.streams) for gap in self.gaps_of(one, start, ends.get(one, end))]
        return sorted(found, key=lambda gap: gap.began - gap.ended)

    def gaps_of(self, stream: int, start: int, end: int) -> list[Gap]:
        """Return the gaps between the answers to what one stream sent in a time, in order.

        A gap begins with the last answer before it, or where nothing was sent until then, with the first packet after
        it: what was sent late was not lost. One that is not over ends with the time.
        """
        numbers = [number for number in self.within(start, end) if number % self.streams == stream]
        answers = sorted((self.answered[n], n) for n in numbers if n in self.answered)
        found: list[Gap] = []
        next_at, latest, last = 0, -1, 0
        for when, number in answers:
            found.append(self._gap(numbers, next_at, last, when))
            latest, last = max(latest, number), when
            while next_at < len(numbers) and numbers[next_at] <= latest:
                next_at += 1
        found.append(self._gap(numbers, next_at, last, end))
        return [gap for gap in found if gap.ended > gap.began]

    def _gap(self, numbers: list[int], next_at: int, last: int, until: int) -> Gap:
        """Return the time from when an answer was due, after the one at `last`, to when one came."""
        if next_at == len(numbers):  # all that was sent until then is answered
            return Gap(until, until)
        return Gap(max(last, self.sent[numbers[next_at]]), until)

    def within(self, start: int, end: int) -> list[int]:
        """Return the numbers of the packets that were sent in a time."""
        numbers, times = list(self.sent), list(self.sent.values())
        return numbers[bisect_left(times, start) : bisect_left(times, end)]

    def losses(self, start: int, end: int, buckets: int) -> list[float | None]:
        """Return the share of packets that were lost in each of so many parts of a time; None where none was sent."""
        sent, lost = [0] * buckets, [0] * buckets
        width = max((end - start) / buckets, 1)
        for number in self.within(start, end):
            bucket = min(int((self.sent[number] - start) / width), buckets - 1)
            sent[bucket] += 1
            lost[bucket] += number not in self.answered
        return [missing / count if count else None for missing, count in zip(lost, sent, strict=True)]

    def silences(self, start: int, end: int, buckets: int) -> list[float | None]:
        """Return how much of each of so many parts of a time was in a gap of some connection."""
        width = max((end - start) / buckets, 1)
        quiet = [0.0] * buckets
        for gap in self.gaps(start, end):
            if gap.ended - gap.began <= NOTEWORTHY * self.streams:
                break
            for bucket in range(max(int((gap.began - start) / width), 0), buckets):
                left = start + bucket * width
                share = (min(gap.ended, left + width) - max(gap.began, left)) / width
                if share <= 0:
                    break
                quiet[bucket] = max(quiet[bucket], min(share, 1.0))
        return list(quiet)

    def late(self, interval: float, start: int) -> float:
        """Return the most seconds that a packet was sent later than an interval after the one before it."""
        times = [when for when in self.sent.values() if when >= start]
        longest = max((b - a for a, b in itertools.pairwise(times)), default=0)
        return max(longest / 1e9 - interval, 0.0)
