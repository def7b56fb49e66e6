"""The same thing for many nodes at once, on a bounded pool."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ovnlab.errors import OvnlabError

WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(items: Iterable[Item], do: Callable[[Item], Result], *, workers: int = WORKERS) -> list[Result]:
    """The results of `do` for every item, in order.

    All are finished before an error is raised: the first one, which names how many others failed too.
    An interrupt does not wait for what is still running.
    """
    items = list(items)
    if len(items) < 2:
        return [do(item) for item in items]
    pool = ThreadPoolExecutor(min(workers, len(items)))
    try:
        futures = [pool.submit(do, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if errors:
        first = errors[0]
        if len(errors) > 1 and isinstance(first, OvnlabError):
            others = "; ".join(str(error) for error in errors[1:])
            first.detail = f"{first.detail}\nand also: {others}".strip()
        raise first
    return [future.result() for future in futures]


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
