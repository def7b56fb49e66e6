"""A lab as it was when it was up for the first time, kept for the next `up` of the same topology.

Memory and disks are a snapshot in the machines' own volumes, which stay in their pools after `down`. What else it takes
is in a folder of the cache, for each lab by its name: what libvirt knew of the snapshots, and the keys in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovnlab.state import LabFolder, cache_root, remove_tree
from ovnlab.topology.resolved import LAB_NAME

KEYS = ("ssh", "tls")
"""Folders of a lab with what its machines know as well."""


class Saved(msgspec.Struct, frozen=True):
    """The record of a saved lab: `key` is a hash of its inputs, `kinds` is KVM or not and `snapshots` libvirt's
    description by node, `volumes` the names of what stays in a pool, by the hypervisor's URI and the pool's name."""

    key: str
    kinds: dict[str, str]
    snapshots: dict[str, str]
    volumes: dict[str, dict[str, list[str]]]

    @property
    def snapshot(self) -> str:
        """Return the name of the snapshots."""
        return snapshot_of(self.key)


class SavedLab:
    """The folder of a saved lab."""

    def __init__(self, folder: LabFolder) -> None:
        self.folder = folder
        whose = hashlib.sha256(bytes(folder.path)).hexdigest()[:8]
        self.path = _root() / f"{folder.name}@{whose}"

    def read(self) -> Saved | None:
        """Return what was kept, None where nothing was."""
        try:
            return msgspec.json.decode((self.path / "saved.json").read_bytes(), type=Saved)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, saved: Saved) -> None:
        """Keep it, instead of what was kept before."""
        scratch = self.path.with_name(f"{self.path.name}.new")
        remove_tree(scratch)
        scratch.mkdir(mode=0o700, parents=True)
        for name in KEYS:
            if (self.folder.path / name).is_dir():
                import shutil  # noqa: PLC0415  brings compression

                shutil.copytree(self.folder.path / name, scratch / name, ignore=shutil.ignore_patterns("@*"))
        (scratch / "saved.json").write_bytes(msgspec.json.encode(saved))
        remove_tree(self.path)
        scratch.rename(self.path)

    def bring_keys(self) -> None:
        """Give the lab the keys that its machines know."""
        for name in KEYS:
            if (self.path / name).is_dir():
                import shutil  # noqa: PLC0415  brings compression

                shutil.copytree(self.path / name, self.folder.path / name, dirs_exist_ok=True)

    def forget(self) -> None:
        """Remove the record of the saved lab."""
        remove_tree(self.path)


def snapshot_of(key: str) -> str:
    """Return the name of the snapshots of a lab that is kept."""
    return f"ovnlab-{key}"


def key_of(parts: Iterable[object]) -> str:
    """Return a hash of everything that a lab is made from."""
    return hashlib.sha256(msgspec.json.encode(list(parts))).hexdigest()[:16]


def is_kept(folder: LabFolder) -> bool:
    """Return True if something of a lab is kept, whether or not the lab is there."""
    return SavedLab(folder).path.exists()


def kept() -> list[str]:
    """Return the names of the labs of this state folder that something is kept of."""
    found = {path.name.partition("@")[0] for path in _root().glob("*@*")}
    return sorted(name for name in found if LAB_NAME.fullmatch(name) and is_kept(LabFolder(name)))


def _root() -> Path:
    return cache_root() / "saved"
