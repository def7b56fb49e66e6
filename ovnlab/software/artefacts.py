"""Builds of OVS and OVN, kept by what went into them: $XDG_CACHE_HOME/ovnlab/builds/KEY, each with its manifest.

Nodes see that whole folder as /opt/ovnlab/builds, and have a link /opt/ovnlab/current to one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from ovnlab.software.packages import exclusive
from ovnlab.state import cache_root, remove_tree
from ovnlab.waiting import now_ns

MANIFEST = "manifest.json"
KEY_LENGTH = 16


OUTLIVED_KEPT = 8
"""Builds of working trees that no lab runs and that are kept: each change of a tree makes another one."""


LATELY_NS = 3600 * 10**9


class ArtefactPart(msgspec.Struct, frozen=True):
    """A component of a build: all that went into it, and the SHA-256 sum of each of its files.

    `is_of_tree`: it is of a working tree, as that was at one moment.
    """

    key: str
    origin: str
    label: str
    version: str
    files: dict[str, str]
    is_of_tree: bool = False


class Artefact(msgspec.Struct, frozen=True):
    """A build. `made` is when, in seconds since 1970."""

    key: str
    parts: dict[str, ArtefactPart]
    made: int

    @property
    def path(self) -> Path:
        """Return the folder of the artefact."""
        return builds_root() / self.key

    @property
    def asked_ns(self) -> int:
        """Return when it was last asked for, in nanoseconds since 1970."""
        return (self.path / MANIFEST).stat().st_mtime_ns

    @property
    def size(self) -> int:
        """Return the size on disk, in bytes."""
        paths = (self.path / name for part in self.parts.values() for name in part.files)
        return sum(path.lstat().st_size for path in paths if path.exists() or path.is_symlink())

    @property
    def is_intact(self) -> bool:
        """Return True if all of its files are what they were when they were made."""
        return all(is_part_intact(self, name) for name in self.parts)


def builds_root() -> Path:
    """Return the folder that nodes see."""
    return cache_root() / "builds"


def claimed(report: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Hold a lock under which no build is pruned."""
    return exclusive(_claims(), report, "another ovnlab that removes builds", shared=True)


def pruning(report: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    """Hold a lock under which nobody chooses a build."""
    return exclusive(_claims(), report, "another ovnlab that brings up a lab")


def _claims() -> Path:
    return cache_root() / "building/claims"


def key_of(parts: Mapping[str, str]) -> str:
    """Return what addresses a build of components, by their keys."""
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:KEY_LENGTH]


def find(key: str) -> Artefact | None:
    """Return a build with all its files as they were made; None where there is none, or it is damaged."""
    found = _manifest(builds_root() / key)
    if found is None or not found.is_intact:
        return None
    with contextlib.suppress(OSError):  # another user's
        os.utime(found.path / MANIFEST)
    return found


def is_part_intact(artefact: Artefact, component: str) -> bool:
    """Return True if all files of a component are what they were when they were made."""
    try:
        return sums(artefact.path, artefact.parts[component].files) == artefact.parts[component].files
    except OSError:
        return False


def sums(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return the SHA-256 sum of files, and where links lead."""
    found = {}
    for name in names:
        path = folder / name
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def all_there() -> list[Artefact]:
    """Return every build that is kept, damaged or not, the newest first."""
    root = builds_root()
    found = [_manifest(path) for path in root.iterdir()] if root.is_dir() else []
    return sorted((artefact for artefact in found if artefact), key=lambda artefact: -artefact.made)


def _manifest(folder: Path) -> Artefact | None:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Artefact)
    except (OSError, msgspec.DecodeError):
        return None


def put(artefact: Artefact, folder: Path) -> None:
    """Keep what is in a folder as a build, all of it or nothing. One that is damaged gives way."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(artefact)))
    builds_root().mkdir(parents=True, exist_ok=True)
    if artefact.path.exists():
        artefact.path.rename(folder.with_name(f"{folder.name}.damaged"))
        shutil.rmtree(folder.with_name(f"{folder.name}.damaged"))
    folder.rename(artefact.path)


def remove_outlived(used: Collection[str]) -> None:
    """Remove builds of working trees that nobody has asked for lately: they grow by one with each change.

    Of those that no lab runs the last OUTLIVED_KEPT stay, and all of the last hour.
    """
    of_trees = [build for build in all_there() if any(part.is_of_tree for part in build.parts.values())]
    unused = sorted((build for build in of_trees if build.key not in used), key=lambda build: -build.asked_ns)
    for artefact in unused[OUTLIVED_KEPT:]:
        if artefact.asked_ns < now_ns() - LATELY_NS:
            remove(artefact)


def remove(artefact: Artefact) -> None:
    """Remove a build from the cache."""
    remove_tree(artefact.path)
