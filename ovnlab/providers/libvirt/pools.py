"""Images in storage pools: copies that labs share, which of them nothing uses any more, and how they go.

A copy is used while the disk of a machine, there or kept for the next `up`, is an overlay on it, or a machine boots
from it. Whether the cache still has the image that it is a copy of is another question, which only callers ask.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import OvnlabError
from ovnlab.providers.libvirt.hypervisor import Hypervisor, doing
from ovnlab.software import images, packages
from ovnlab.state import cache_root
from ovnlab.topology.resolved import DEFAULT_URI

SHARED = re.compile(r"ovnlab-[0-9a-f]{16}(?:\.qcow2|\.raw|-vmlinuz|-initrd)")
"""The name of a volume that labs share: a disk, a kernel or an initrd, by a hash of its content."""

Report = Callable[[str], None]


@dataclass(frozen=True, order=True)
class PooledImage:
    """A file of an image in a storage pool; `users` are the names of the volumes and machines that need it."""

    uri: str
    pool: str
    name: str
    bytes: int
    users: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} in storage pool {self.pool} of {self.uri} ({self.bytes / 2**20:.0f} MiB)"


def in_use(report: Report) -> contextlib.AbstractContextManager[None]:
    """Let nobody remove images from pools while machines are made of them."""
    return packages.exclusive(_lock(), report, "another ovnlab that removes images from storage pools", shared=True)


def remember(uri: str, pool: str) -> None:
    """Remember that images are in a pool, so that they are found there when no lab is left."""
    known = _known()
    if (uri, pool) not in known:
        _list().parent.mkdir(parents=True, exist_ok=True)
        write_whole(_list(), msgspec.json.encode(sorted({*known, (uri, pool)})))


def files_of(name: str) -> set[str]:
    """Return the names that copies of an image have in pools, but for those that another image of the cache has."""
    image = images.find(name)
    return set() if image is None else _files(image) - _of_cache(without=name)


def unused(report: Report) -> list[PooledImage]:
    """Return the copies that nothing uses and that are of no image in the cache; `report` is told of silent pools."""
    current = _of_cache()
    return [found for found in listed(report) if not found.users and found.name not in current]


def listed(report: Report) -> list[PooledImage]:
    """Return all copies in the pools of which it is known that images were brought there, with what uses each."""
    found: list[PooledImage] = []
    known = _known()
    for uri, pool in sorted({*known, (DEFAULT_URI, "default")}):
        try:
            found += _in_pool(uri, pool)
        except OvnlabError as error:
            if (uri, pool) in known:
                report(f"what is in storage pool {pool} of {uri} stays, as it cannot be asked: {error.message}")
    return found


def remove(names: Collection[str], report: Report) -> list[PooledImage]:
    """Remove copies with these names from all pools as far as nothing uses them; return those that are gone."""
    gone = []
    with packages.exclusive(_lock(), report, "another ovnlab that makes machines"):
        for found in listed(report):
            if found.name in names and not found.users:
                _remove(found)
                gone.append(found)
    return gone


def _lock() -> Path:
    return cache_root() / "pools-in-use.lock"


def _list() -> Path:
    return cache_root() / "pools.json"


def _known() -> list[tuple[str, str]]:
    try:
        return msgspec.json.decode(_list().read_bytes(), type=list[tuple[str, str]])
    except (OSError, msgspec.DecodeError):
        return []


def _of_cache(without: str = "") -> set[str]:
    return {name for image in images.all_there() if image.name != without for name in _files(image)}


def _files(image: images.Image) -> set[str]:
    found = {f"ovnlab-{image.key}.qcow2"}
    for path, kind in ((image.kernel, "vmlinuz"), (image.initrd, "initrd")):
        with contextlib.suppress(OSError):
            found.add(f"ovnlab-{images.identity(path)}-{kind}")
    return found


def _in_pool(uri: str, name: str) -> Iterator[PooledImage]:
    connection = Hypervisor(uri).connection
    with doing(f"storage pool {name}"):
        pool = connection.storagePoolLookupByName(name)
        if pool.isActive():
            pool.refresh()
        volumes = {volume.name(): volume for volume in pool.listAllVolumes()} if pool.isActive() else {}
        users = _users(connection, volumes)
        return iter(
            [
                PooledImage(uri, name, volume, found.info()[2], tuple(sorted(users.get(found.path(), ()))))
                for volume, found in volumes.items()
                if SHARED.fullmatch(volume)
            ]
        )


def _users(connection: Any, volumes: dict[str, Any]) -> dict[str, set[str]]:
    """Return what uses files of a hypervisor, by their paths: volumes backed by them, machines that boot from them."""
    users: dict[str, set[str]] = {}
    for name, volume in volumes.items():
        backing = ET.fromstring(volume.XMLDesc()).findtext("backingStore/path")  # noqa: S314  libvirt's own
        if backing:
            users.setdefault(backing, set()).add(name)
    for domain in connection.listAllDomains():
        described = ET.fromstring(domain.XMLDesc())  # noqa: S314  libvirt's own
        paths = [described.findtext(f"os/{kind}") for kind in ("kernel", "initrd")]
        paths += [source.get("file") for source in described.iter("source")]
        for path in filter(None, paths):
            users.setdefault(path, set()).add(domain.name())
    return users


def _remove(found: PooledImage) -> None:
    with doing(str(found)):
        pool = Hypervisor(found.uri).connection.storagePoolLookupByName(found.pool)
        there = {volume.name(): volume for volume in pool.listAllVolumes()}
        for name in (f"{found.name}.ok", found.name):  # without the first it does not count as all there
            if name in there:
                there[name].delete()
