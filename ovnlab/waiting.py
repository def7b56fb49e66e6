"""The clock, and waiting for what can be observed. Nothing else in ovnlab looks at the time or sleeps."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from ovnlab.errors import Timeout
from ovnlab.interruption import check


class Clock(Protocol):
    """The clock that waiting uses, in seconds."""

    def monotonic(self) -> float:
        """Return seconds since some moment in the past."""

    def sleep(self, seconds: float) -> None:
        """Let that many seconds pass."""


CLOCK: Clock = time
"""The machine's own clock."""


FIRST_REPORT = 5.0
"""Seconds after which whoever waits is told what for; then after three times as long, and so on."""

Seen = TypeVar("Seen")


def now_ns() -> int:
    """Return nanoseconds since 1970, as files are dated."""
    return time.time_ns()


def wait_until(
    what: str,
    look: Callable[[], Seen | None],
    *,
    timeout: float,
    explain: Callable[[], str] = str,
    clock: Clock = CLOCK,
) -> Seen:
    """Return what `look` returns as soon as it is not None.

    Looks again in growing intervals from 5 to 100 ms. Raises Timeout after `timeout` seconds, with what
    `explain` tells then.
    """
    deadline = clock.monotonic() + timeout
    pause = 0.005
    while True:
        check()
        seen = look()
        if seen is not None:
            return seen
        if clock.monotonic() >= deadline:
            raise Timeout(f"waited {timeout:g} s for {what}", detail=explain())
        clock.sleep(pause)
        pause = min(pause * 2, 0.1)


@contextlib.contextmanager
def reported(tell: Callable[[float], None], *, first: float = FIRST_REPORT) -> Iterator[None]:
    """Call `tell` with the seconds that the body has taken: after 5, 15, 45… seconds, while it goes on."""
    done = threading.Event()

    def report() -> None:
        passed, due = 0.0, first
        while not done.wait(due - passed):
            tell(due)
            passed, due = due, due * 3

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
