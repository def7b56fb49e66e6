"""Isolation of nodes: the files of this machine that they see, and their user IDs on it.

A node has a root folder of its own. Of this machine it sees /usr, /opt and /etc, read-only, and what the lab keeps.
Root of a lab of root is user LAB_USER of this machine, which owns nothing but what the lab's nodes write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ovnlab.state import LabFolder

LAB_USER = 0x6FFF0000
"""The first of the 65,536 users and groups of this machine that labs of root have: the last that systemd(1) counts as
those of containers (systemd.io/UIDS-GIDS)."""

PROGRAM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr on most distributions, folders on some (file-hierarchy(7))."""


def values(folder: LabFolder, builds: Path) -> dict[str, object]:
    """Return what the templates of a lab's namespaces need to know of this machine."""
    found = [name for name in PROGRAM_FOLDERS if Path("/", name).exists()]
    places = [("lab", folder.path), ("logs", folder.logs), ("builds", builds)]
    return {
        "user": LAB_USER,
        "logs": folder.logs,
        "links": [(name, str(Path("/", name).readlink())) for name in found if Path("/", name).is_symlink()],
        "folders": [name for name in found if not Path("/", name).is_symlink()],
        "places": places,
        "closed": sorted({closed for _, path in places if (closed := _closed(path)) is not None}),
    }


def _closed(path: Path) -> Path | None:
    """Return the topmost folder on the way to a path that only its owner may walk through."""
    for parent in reversed(path.parents):
        try:
            if not parent.stat().st_mode & stat.S_IXOTH:
                return parent
        except FileNotFoundError:
            return None
    return None


def give(path: Path) -> None:
    """Give what a node writes to the lab's root, where that is another user than the one that made it."""
    if os.geteuid() != 0:
        return
    for found in [path, *_below(path)]:
        owner = found.lstat().st_uid
        if not LAB_USER <= owner < LAB_USER + 0x10000:
            os.chown(found, LAB_USER, LAB_USER, follow_symlinks=False)
    path.chmod(0o755)


def open_to_lab(folder: LabFolder) -> None:
    """Let the lab's root walk to what is the lab's: nobody else of this machine gets into the folder above it."""
    if os.geteuid() != 0:
        return
    for path in (folder.path, folder.path / "nodes", folder.logs):
        path.chmod(0o711)
    for path in (folder.path / "usr", folder.path / "opt"):
        for found in [path, *_below(path)]:
            found.chmod(0o755)
    for path in (folder.path / "hosts", *folder.path.glob("*.sh")):
        path.chmod(0o644)


def _below(path: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(path):
        yield from (Path(parent, name) for name in (*folders, *files))
