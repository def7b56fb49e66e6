"""Temporary folders that a process holds as long as it lives. Those of one that was killed go with the next command."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ovnlab.errors import OvnlabError
from ovnlab.state import cache_root, remove_tree


def scratch_root() -> Path:
    """Return the folder that temporary folders are made in, where nothing speaks for another place."""
    return cache_root() / "scratch"


@contextlib.contextmanager
def folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder, private to the user, and remove it at the end.

    What processes that were killed left in the same place under the same prefix is removed first.
    """
    parent = place or scratch_root()
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    path, descriptor = _held(parent, prefix)
    try:
        yield path
    finally:
        remove_tree(path)
        os.close(descriptor)


def _held(parent: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder and take its lock; another one where a sweep was quicker."""
    while True:
        from tempfile import mkdtemp  # noqa: PLC0415  the sweep of every command needs none of it

        path = Path(mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _lock(descriptor) and path.exists():
                return path, descriptor
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(place: Path | None = None, prefix: str = "") -> list[Path]:
    """Remove the temporary folders in a place that nobody holds any more, and return them."""
    try:
        found = [entry for entry in os.scandir(place or scratch_root()) if entry.name.startswith(prefix)]
    except OSError:  # there is no such place, or it is not ours to see
        return []
    swept = []
    for entry in found:
        with contextlib.suppress(OSError, OvnlabError):
            if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _lock(descriptor):
                    remove_tree(Path(entry.path))
                    swept.append(Path(entry.path))
            finally:
                os.close(descriptor)
    return swept
