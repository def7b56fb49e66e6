"""Whoever waits is told what for."""

from __future__ import annotations

import threading

from ovnlab.waiting import reported, wait_until


def test_what_takes_long_is_reported_ever_more_seldom() -> None:
    said: list[float] = []
    enough = threading.Event()

    def tell(seconds: float) -> None:
        said.append(round(seconds, 3))
        if len(said) == 3:
            enough.set()

    with reported(tell, first=0.01):
        assert enough.wait(20)
    assert said[:3] == [0.01, 0.03, 0.09]
    count = len(said)
    with reported(tell, first=30):
        pass
    assert len(said) == count, "what is done at once is not reported, and what is over is not any more"


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_it_looks_again_after_100_ms_at_most() -> None:
    clock = Clock()
    wait_until("the end", lambda: True if clock.monotonic() > 2 else None, timeout=10, clock=clock)
    assert clock.slept[:3] == [0.005, 0.01, 0.02]
    assert max(clock.slept) == 0.1
