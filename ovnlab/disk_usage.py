"""Disk usage of ovnlab, and what can be removed because nothing uses it any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovnlab.lab import builds
from ovnlab.software import artefacts
from ovnlab.state import cache_root, labs, locks, remove_tree, state_root
from ovnlab.waiting import now_ns

OLD_NS = 7 * 24 * 3600 * 10**9
"""The age from which on a build that no lab runs is an old one."""


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing uses, and that is made again on demand. `size` is in bytes."""

    what: str
    path: Path
    size: int


def size_of(path: Path) -> int:
    """Return the bytes of the disk that a file or folder takes."""
    found = 0
    for folder, _, files in os.walk(path):
        for place in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118  there may be very many
            try:
                found += os.lstat(place).st_blocks * 512
            except FileNotFoundError:  # it has just gone
                continue
    return found


def usage() -> dict[str, int]:
    """Return what logs, labs and each part of the cache take, in bytes."""
    cache = cache_root()
    parts = sorted(path.name for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else []
    return {
        "logs": size_of(state_root() / "logs"),
        "labs": size_of(state_root() / "labs"),
        **{f"cache/{name}": size_of(cache / name) for name in parts},
    }


def leftovers() -> list[Leftover]:
    """Return what `ovnlab prune` removes."""
    return [*_logs(), *_trees(), *_builds(), *_topologies()]


def _logs() -> Iterator[Leftover]:
    there = {folder.name for folder in labs()} | set(locks())
    folder = state_root() / "logs"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in there:
            yield Leftover(f"logs of lab {path.name}, which is gone", path, size_of(path))


def _trees() -> Iterator[Leftover]:
    """Yield packages that newer ones have taken the place of, and that no lab has over its /usr."""
    folder = cache_root() / "software"
    found = list(folder.iterdir()) if folder.is_dir() else []
    used = {path.resolve().name for path in found if path.is_symlink()}
    for lab in labs():
        stored = lab.stored()
        if stored is None:  # it may use any of them
            return
        used.add(Path(stored.base.tree or "-").name)
    for path in sorted(found):
        if path.is_dir() and not path.is_symlink() and path.name not in used and (path / "manifest.json").exists():
            yield Leftover("packages that were superseded", path, size_of(path))


def _builds() -> Iterator[Leftover]:
    used = builds.in_use()
    for build in artefacts.all_there():
        if build.key not in used and build.asked_ns < now_ns() - OLD_NS:
            yield Leftover("a build that no lab has asked for in a week", build.path, size_of(build.path))


def _topologies() -> Iterator[Leftover]:
    path = cache_root() / "topologies"
    if path.is_dir() and (size := size_of(path)):
        yield Leftover("topologies as they were read", path, size)


def remove(found: Leftover) -> None:
    """Remove it. Raises HostRequirementError where that fails."""
    remove_tree(found.path)
