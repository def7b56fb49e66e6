"""Copies of images that providers keep outside the cache: in storage pools, where machines are made of them.

`unused` and `remove` are what removes them for good; where libvirt's Python package is not installed, there are none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovnlab.providers.libvirt.pools import PooledImage

Report = Callable[[str], None]


def files_of(image: str) -> set[str]:
    """Return the names of an image's copies, but for those that another image of the cache has too."""
    if not _has_pools():
        return set()
    from ovnlab.providers.libvirt import pools  # noqa: PLC0415  brings libvirt

    return pools.files_of(image)


def unused(report: Report) -> list[PooledImage]:
    """Return the copies that nothing uses and that are of no image in the cache; `report` is told of silent pools.

    What it returns can be printed: `str()` of one says what and where it is, and how large; `bytes` is its size.
    """
    if not _has_pools():
        return []
    from ovnlab.providers.libvirt import pools  # noqa: PLC0415  brings libvirt

    return pools.unused(report)


def remove(names: Collection[str], report: Report) -> tuple[list[PooledImage], list[PooledImage]]:
    """Remove copies with these names as far as nothing uses them. Returns those that are gone, and those that stay."""
    if not names or not _has_pools():
        return [], []
    from ovnlab.providers.libvirt import pools  # noqa: PLC0415  brings libvirt

    gone = pools.remove(names, report)
    return gone, [found for found in pools.listed(report) if found.name in names]


def _has_pools() -> bool:
    return importlib.util.find_spec("libvirt") is not None
