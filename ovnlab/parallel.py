"""The same thing for many nodes at once, on a bounded pool."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from ovnlab.errors import OvnlabError

WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(items: Iterable[Item], do: Callable[[Item], Result], *, workers: int = WORKERS) -> list[Result]:
    """Return the results of `do` for every item, in order.

    All are finished before an error is raised: the first one, which names how many others failed too.
    An interrupt does not wait for what is still running, and nothing more is begun after it.
    """
    items = list(items)
    if len(items) < 2:
        return [do(item) for item in items]
    work = _Work(items, do)
    # Plain threads: the pools of concurrent.futures take longer to import than most commands have to run.
    threads = [threading.Thread(target=work.run, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        work.left.clear()
    return work.results()


class _Work(Generic[Item, Result]):
    """Items that threads take from a queue, and what came of each."""

    def __init__(self, items: Sequence[Item], do: Callable[[Item], Result]) -> None:
        self.do = do
        self.left = deque(enumerate(items))
        self.done: dict[int, Result] = {}
        self.failed: dict[int, BaseException] = {}

    def run(self) -> None:
        """Work until nothing is left."""
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
    """Lets threads make things until it is closed: an interrupt takes back what they made, and they must not go on."""

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
