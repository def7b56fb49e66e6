"""What needs no machine to run: libvirt's own test driver, which lives in the memory of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt")
pytest.importorskip("pycdlib")

from ovnlab.errors import OvnlabError, UsageError  # noqa: E402
from ovnlab.parallel import Gate  # noqa: E402
from ovnlab.providers.libvirt import definitions  # noqa: E402
from ovnlab.providers.libvirt.provider import LibvirtProvider  # noqa: E402
from ovnlab.state import LabFolder  # noqa: E402
from ovnlab.testing.examination import Silent  # noqa: E402
from ovnlab.topology.load import load_text  # noqa: E402
from ovnlab.topology.resolved import Topology  # noqa: E402

URI = "test:///default"


def topology(name: str = "lab", more: str = "") -> Topology:
    text = (
        f"name: {name}\nprovider: libvirt\nmachines: {{uri: '{URI}', image: ./disk.qcow2}}\n"
        f"libvirt: {{accelerate: qemu, pool: default-pool}}\nnodes: {{central: {{role: central}}, worker1: {{}}}}\n{more}"
    )
    return load_text("lab.yaml", text.encode()).topology


def provider_of(tmp_path: Path, found: Topology) -> LibvirtProvider:
    folder = LabFolder(found.name, tmp_path)
    folder.create(afresh=True)
    return LibvirtProvider(folder, found, Silent())


def everything() -> dict[str, list[str]]:
    connection = libvirt.open(URI)
    return {
        "domains": sorted(found.name() for found in connection.listAllDomains()),
        "networks": sorted(found.name() for found in connection.listAllNetworks()),
        "volumes": sorted(
            volume.name() for pool in connection.listAllStoragePools() for volume in pool.listAllVolumes()
        ),
    }


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    connection = libvirt.open(URI)  # what it has lives as long as somebody is connected
    before = everything()
    yield
    assert everything() == before
    connection.close()


def define(provider: LibvirtProvider, found: Topology) -> None:
    """What `add` does before it brings images, which the test driver cannot."""
    connection = provider.hypervisor(URI).connection
    provider._make_networks(URI, found)
    for node in found.nodes:
        connection.defineXML(provider._domain_xml(found, node, definitions.domain_of(found, node, provider.owner)))


def test_what_is_made_is_found_by_its_mark_and_made_once(tmp_path: Path) -> None:
    found = topology(more="physical_networks: {external: {}}\n")
    provider = provider_of(tmp_path, found)
    define(provider, found)
    first = everything()
    assert {"ovnlab-lab", "ovnlab-lab-underlay", "ovnlab-lab-external"} <= set(first["networks"])
    define(provider, found)
    assert everything() == first
    assert provider.made() == {"central", "worker1"}
    assert provider.running() == set()
    # Another program that is asked for the same lab finds it, also without its topology.
    provider._note_uris()
    again = LibvirtProvider(provider.folder, None, Silent())
    assert again.made() == {"central", "worker1"}
    again.destroy()


def test_what_is_of_another_lab_or_of_somebody_else_stays(tmp_path: Path) -> None:
    one, two = topology("one"), topology("two")
    first, second = provider_of(tmp_path, one), provider_of(tmp_path, two)
    define(first, one)
    define(second, two)
    elsewhere = LibvirtProvider(LabFolder("one", tmp_path / "other"), one, Silent())
    assert elsewhere.made() == set(), "a lab of that name in another state folder is another lab"
    with pytest.raises(UsageError, match="there is a libvirt network ovnlab-one that is not of this lab"):
        elsewhere._make_networks(URI, one)
    first.destroy()
    assert second.made() == {"central", "worker1"}
    assert "test" in everything()["domains"]
    second.destroy()


def test_what_fails_half_way_is_taken_back(tmp_path: Path) -> None:
    """The test driver takes no uploads: networks are there when that fails."""
    found = topology()
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(28))
    provider = provider_of(tmp_path, found)
    with pytest.raises(OvnlabError, match="storage pool default-pool"):
        provider.add(found, ["central", "worker1"])
    assert "ovnlab-lab-underlay" in everything()["networks"]
    provider.destroy()
    for pool in libvirt.open(URI).listAllStoragePools():
        for volume in pool.listAllVolumes():
            if volume.name().startswith("ovnlab-"):  # of an image, which several labs share
                volume.delete()


def test_a_machine_that_was_left_paused_does_not_run(tmp_path: Path) -> None:
    found = topology()
    provider = provider_of(tmp_path, found)
    define(provider, found)
    for _, domain, _ in provider._domains():
        domain.create()
    assert provider.running() == {"central", "worker1"}
    domain = next(domain for name, domain, _ in provider._domains() if name == "central")
    domain.suspend()
    assert provider.running() == {"worker1"}
    provider.destroy()


def test_nobody_makes_anything_after_it_was_taken_back() -> None:
    gate, order = Gate(), []
    inside, go_on = threading.Event(), threading.Event()

    def make() -> None:
        with gate:
            inside.set()
            go_on.wait(5)
            order.append("made")

    maker = threading.Thread(target=make)
    maker.start()
    assert inside.wait(5)

    def close() -> None:
        gate.close()
        order.append("closed")

    closer = threading.Thread(target=close)
    closer.start()
    go_on.set()
    closer.join(5)
    maker.join(5)
    assert order == ["made", "closed"]
    with pytest.raises(OvnlabError, match="interrupted"), gate:
        pass
