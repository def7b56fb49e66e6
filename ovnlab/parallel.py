"""The same thing for many nodes at once, on a bounded pool."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Generic, TypeVar

from ovnlab.errors import OvnlabError
from ovnlab.interruption import check
from ovnlab.waiting import CLOCK

WORKERS = 8

CHECK_AFTER = 0.5
"""Seconds between two looks whether this process was interrupted."""

LOOK_AFTER = 3.0
"""Seconds between two looks of a watch, at least."""

LOOK_WITHIN = 6.0
"""Seconds between two looks at most, where a look takes less than half of that."""

GIVE_UP_TIME = 1.0
"""Seconds that threads have to end what nobody waits for any more."""

LOOK_SHARE = 10
"""A watch takes at most this part of the time: the next look waits for so many times what the last one took."""

Watch = Callable[[], None]
"""Looks whether what is awaited can still come. Raises OvnlabError where it cannot."""

_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
_GIVEN_UP: ContextVar[tuple[threading.Event, ...]] = ContextVar("given up", default=())

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def watched(watch: Watch | None) -> Iterator[None]:
    """Have a watch look from time to time while `for_each` waits in this block, and end the wait where it raises."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def is_given_up() -> bool:
    """Return True in a thread of `for_each` whose result nobody waits for any more."""
    return any(event.is_set() for event in _GIVEN_UP.get())


def for_each(items: Iterable[Item], do: Callable[[Item], Result], *, workers: int = WORKERS) -> list[Result]:
    """Return the results of `do` for every item, in order.

    All are finished before an error is raised: the first one, which names how many others failed too.
    An interrupt, or an error that a watch raises, does not wait for what is still running: that is given up, and
    nothing more is begun after it.
    """
    check()
    items = list(items)
    watch = _WATCH.get()
    if not items or (len(items) == 1 and watch is None):
        return [do(item) for item in items]
    work = _Work(items, do, _GIVEN_UP.get())
    # Plain threads: the pools of concurrent.futures take longer to import than most commands have to run.
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    try:
        _join(threads, watch)
    except BaseException:
        work.left.clear()
        work.given_up.set()
        deadline = CLOCK.monotonic() + GIVE_UP_TIME
        for thread in threads:  # what they run on nodes would get in the way of whatever comes next
            thread.join(max(0.0, deadline - CLOCK.monotonic()))
        raise
    finally:
        work.left.clear()
    return work.results()


def _join(threads: Sequence[threading.Thread], watch: Watch | None) -> None:
    """Return when all threads have ended; raise what the watch raises before."""
    look_at = CLOCK.monotonic() + LOOK_AFTER
    for thread in threads:
        while thread.is_alive():
            thread.join(max(0.0, min(CHECK_AFTER, look_at - CLOCK.monotonic())) if watch else CHECK_AFTER)
            check()
            if watch and thread.is_alive() and (began := CLOCK.monotonic()) >= look_at:
                with watched(None):  # its own questions need no watch
                    watch()
                ended = CLOCK.monotonic()
                took = ended - began
                look_at = ended + max(LOOK_AFTER, min(LOOK_SHARE * took, max(LOOK_WITHIN, 2 * took)))


class _Work(Generic[Item, Result]):
    """Items that threads take from a queue, and what came of each."""

    def __init__(self, items: Sequence[Item], do: Callable[[Item], Result], outer: tuple[threading.Event, ...]) -> None:
        self.do = do
        self.outer = outer
        self.given_up = threading.Event()
        self.left = deque(enumerate(items))
        self.done: dict[int, Result] = {}
        self.failed: dict[int, BaseException] = {}

    def run(self) -> None:
        """Work until nothing is left."""
        _GIVEN_UP.set((*self.outer, self.given_up))
        while self.left:
            try:
                number, item = self.left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                self.done[number] = self.do(item)
            except BaseException as error:  # noqa: BLE001  it is raised where the results are asked for
                self.failed[number] = error

    def results(self) -> list[Result]:
        """Return what came of all, in order. Raises the first error."""
        if self.failed:
            first, *others = (error for _, error in sorted(self.failed.items(), key=lambda item: item[0]))
            if others and isinstance(first, OvnlabError):
                first.detail = f"{first.detail}\nand also: {'; '.join(map(str, others))}".strip()
            raise first
        return [result for _, result in sorted(self.done.items(), key=lambda item: item[0])]


class Gate:
    """A gate for threads that make things, until it is closed: an interrupt takes back what they made."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise OvnlabError("interrupted")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait until nobody is inside."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)
