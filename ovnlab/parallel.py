"""The same thing for many nodes at once, on a bounded pool."""

from __future__ import annotations

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
