"""What is made of the times at which packets were sent and answered."""

from __future__ import annotations

import pytest

from ovnlab.errors import UsageError
from ovnlab.traffic.agent import ANSWERED, ARRIVED, DIED, FAILED, SENT
from ovnlab.traffic.outage import Packets
from ovnlab.traffic.picture import bar
from ovnlab.traffic.words import parse_pairs

MS = 1_000_000
START = 1000 * MS
TOOK = MS // 2


def packets(sent: dict[int, int], lost: set[int] = frozenset(), *, streams: int = 1) -> Packets:  # type: ignore[assignment]
    """Packets by their number and when they were sent, in milliseconds from START."""
    found = Packets(streams)
    for number, at in sent.items():
        found.add([(SENT, number, START + at * MS)])
        if number not in lost:
            found.add([(ANSWERED, number, START + at * MS + TOOK)])
    return found


def longest(found: Packets, start: int = 0, end: int = 10**6) -> tuple[float, float]:
    """When the longest gap began, and how long it was, in milliseconds."""
    gap = found.gaps(START + start * MS, START + end * MS)[0]
    return (gap.began - START) / MS, gap.seconds * 1000


def test_a_gap_is_from_the_first_packet_that_is_lost_to_the_next_answer() -> None:
    found = packets({n: n for n in range(100)}, set(range(40, 60)))
    assert longest(found, end=100) == (40, 20.5)
    assert found.losses(START, START + 100 * MS, 10) == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_what_is_sent_late_is_not_lost() -> None:
    times = {n: n if n < 50 else n + 400 for n in range(100)}
    found = packets(times)
    assert longest(found, end=600)[1] == 0.5
    assert round(found.late(0.001, START), 3) == 0.4
    assert found.losses(START, START + 500 * MS, 5) == [0, None, None, None, 0]


def test_answers_that_come_late_and_all_at_once_are_a_gap_without_a_loss() -> None:
    found = Packets()
    found.add((SENT, n, START + n * MS) for n in range(100))
    held = dict.fromkeys(range(30, 80), 80)
    found.add((ANSWERED, n, START + held.get(n, n) * MS + TOOK) for n in range(100))
    assert longest(found, end=100) == (30, 50.5)
    assert len(found.answered) == 100


def test_a_gap_that_is_not_over_ends_with_the_time() -> None:
    found = packets({n: n for n in range(100)}, set(range(70, 100)))
    assert longest(found, end=120) == (70, 50)


def test_a_long_way_is_no_gap() -> None:
    found = Packets()
    found.add((SENT, n, START + n * MS) for n in range(300))
    found.add((ANSWERED, n, START + n * MS + 100 * MS) for n in range(300))
    assert longest(found, start=0, end=300)[1] == 100, "the first answer"
    assert sorted(gap.seconds for gap in found.gaps(START, START + 300 * MS))[-2] == 0.001


def test_duplicates_and_what_is_out_of_order() -> None:
    found = Packets()
    found.add((SENT, n, START + n * MS) for n in range(5))
    found.add((ANSWERED, n, START + 10 * MS) for n in (0, 1, 3, 2, 2, 4))
    assert (found.duplicates, found.reordered) == (1, 1)


def test_the_worst_connection_counts_and_deaths_have_a_reason() -> None:
    found = packets({n: n for n in range(400)}, {n for n in range(100, 300) if n % 4 == 1}, streams=4)
    began, length = longest(found, end=400)
    assert (began, length) == (101, 200.5)
    assert found.silences(START, START + 400 * MS, 4) == [0, 0.99, 1, 0.015]
    found.add([(DIED, 2, START), (FAILED, 104, START), (FAILED, 113, START), (ARRIVED, 7, START)])
    assert [(one.connection, one.reason) for one in found.deaths] == [(2, "Connection reset by peer")]
    assert found.errors == {"No route to host": 1}
    assert found.arrived == {7}


def test_a_connection_that_died_is_silent_until_then_while_others_live() -> None:
    found = packets({n: n for n in range(400)}, {n for n in range(100, 400) if n % 4 == 1}, streams=4)
    found.add([(DIED, 1, START + 150 * MS), (FAILED, 104, START + 150 * MS)])
    assert longest(found, end=400) == (101, 49)
    found.add((DIED, one, START + 390 * MS) for one in (0, 2, 3))
    assert longest(found, end=400) == (101, 299)


def test_a_line_is_as_high_as_the_worst_of_what_it_stands_for() -> None:
    assert bar([0, 0.01, 1, 0, None, None], 3) == "▂█ "
    assert bar([0.0, 1.0], 4) == "▁▁██"


def test_pairs_are_from_the_first_to_each_other() -> None:
    assert parse_pairs(["vm1,vm2,host1", "vm2, vm1"]) == [("vm1", "vm2"), ("vm1", "host1"), ("vm2", "vm1")]
    for wrong in ("vm1", "vm1,", ",vm1", "vm1,vm1", ""):
        with pytest.raises(UsageError, match="invalid traffic"):
            parse_pairs([wrong])
