"""Images in storage pools: which copies something uses, and which go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt")

import msgspec  # noqa: E402

from ovnlab.cli import app  # noqa: E402
from ovnlab.providers.libvirt import pools  # noqa: E402
from ovnlab.providers.libvirt.hypervisor import make_volume  # noqa: E402
from ovnlab.software import images  # noqa: E402
from ovnlab.software.images import Image, identity  # noqa: E402

URI = "test:///default"
OLD, NEW, FILE = "1" * 16, "2" * 16, "3" * 16


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    connection = libvirt.open(URI)  # what it has lives as long as somebody is connected
    found = connection.storagePoolLookupByName("default-pool")
    pools.remember(URI, "default-pool")
    yield found
    for volume in found.listAllVolumes():
        volume.delete()
    connection.close()


def make_image(name: str, key: str) -> Image:
    """Put an image into the cache; two of them have the same kernel."""
    image = Image(name, key, "bookworm", 0, {})
    image.path.mkdir(parents=True)
    image.disk.write_bytes(key.encode())
    image.kernel.write_bytes(b"kernel")
    image.initrd.write_bytes(f"initrd {key}".encode())
    (image.path / "image.json").write_bytes(msgspec.json.encode(image))
    names = images.images_root() / "names"
    names.mkdir(exist_ok=True)
    (names / name).symlink_to(image.path)
    return image


def bring(pool: Any, *names: str) -> None:
    for name in names:
        make_volume(pool, name, 2**20, "raw")
        make_volume(pool, f"{name}.ok", 0, "raw")


def volumes(pool: Any) -> set[str]:
    return {volume.name() for volume in pool.listAllVolumes()}


def test_what_nothing_is_backed_by_goes(pool: Any) -> None:
    said: list[str] = []
    image = make_image("debian", NEW)
    kernel = f"ovnlab-{identity(image.kernel)}-vmlinuz"
    bring(pool, f"ovnlab-{OLD}.qcow2", f"ovnlab-{NEW}.qcow2", f"ovnlab-{FILE}.raw", kernel)
    overlay = {"path": pool.storageVolLookupByName(f"ovnlab-{FILE}.raw").path(), "format": "raw"}
    make_volume(pool, "ovnlab-lab-central-12345678.qcow2", 2**20, "qcow2", overlay)
    make_volume(pool, "somebodys.qcow2", 2**20, "qcow2")
    before = volumes(pool)
    users = {found.name: found.users for found in pools.listed(said.append)}
    assert users == {
        f"ovnlab-{OLD}.qcow2": (),
        f"ovnlab-{NEW}.qcow2": (),
        f"ovnlab-{FILE}.raw": ("ovnlab-lab-central-12345678.qcow2",),
        kernel: (),
    }
    assert [found.name for found in pools.unused(said.append)] == [f"ovnlab-{OLD}.qcow2"]
    assert volumes(pool) == before, "nothing is removed by looking"
    gone = pools.remove([f"ovnlab-{OLD}.qcow2", f"ovnlab-{FILE}.raw", "somebodys.qcow2"], said.append)
    assert [str(found) for found in gone] == [f"ovnlab-{OLD}.qcow2 in storage pool default-pool of {URI} (1 MiB)"]
    assert before - volumes(pool) == {f"ovnlab-{OLD}.qcow2", f"ovnlab-{OLD}.qcow2.ok"}
    assert said == []


def test_what_another_image_has_too_is_not_of_one(pool: Any) -> None:
    one, two = make_image("one", OLD), make_image("two", NEW)
    assert identity(one.kernel) == identity(two.kernel)
    assert pools.files_of("one") == {f"ovnlab-{OLD}.qcow2", f"ovnlab-{identity(one.initrd)}-initrd"}
    assert pools.files_of("three") == set()


def test_a_pool_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    pools.remember("qemu+unix:///system?socket=/nowhere", "big")
    assert pools.unused(said.append) == []
    (line,) = said
    assert "what is in storage pool big of qemu+unix:///system?socket=/nowhere stays, as it cannot be asked: " in line


def test_nobody_removes_what_machines_are_being_made_of(pool: Any) -> None:
    bring(pool, f"ovnlab-{OLD}.qcow2")
    waits = threading.Event()
    with pools.in_use(print):
        remover = threading.Thread(
            target=pools.remove, args=([f"ovnlab-{OLD}.qcow2"], lambda said: waits.set() if "waiting" in said else None)
        )
        remover.start()
        assert waits.wait(10)
        assert f"ovnlab-{OLD}.qcow2" in volumes(pool)
    remover.join(10)
    assert volumes(pool) == set()


def test_prune_removes_what_no_disk_is_backed_by(
    pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    make_image("debian", NEW)
    bring(pool, f"ovnlab-{OLD}.qcow2", f"ovnlab-{NEW}.qcow2")
    assert app.run(["prune"]) == 0
    line = f"an image in storage pool default-pool that no disk is backed by: ovnlab-{OLD}.qcow2 of {URI}"
    assert line in capsys.readouterr().out
    assert f"ovnlab-{OLD}.qcow2" in volumes(pool)
    assert app.run(["prune", "--yes"]) == 0
    assert line in capsys.readouterr().out
    assert volumes(pool) == {f"ovnlab-{NEW}.qcow2", f"ovnlab-{NEW}.qcow2.ok"}
