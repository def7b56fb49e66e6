"""What needs no machine to run: libvirt's own test driver, which lives in the memory of this process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

libvirt = pytest.importorskip("libvirt")
pytest.importorskip("pycdlib")

from ovnlab.errors import HostRequirementError, OvnlabError, UsageError  # noqa: E402
from ovnlab.parallel import Gate  # noqa: E402
from ovnlab.providers import ssh_machine  # noqa: E402
from ovnlab.providers.libvirt import definitions, hypervisor, requirements  # noqa: E402
from ovnlab.providers.libvirt.libvirt_provider import LibvirtProvider  # noqa: E402
from ovnlab.providers.libvirt.ssh_route import jump_of, leads  # noqa: E402
from ovnlab.reporting import SilentReporter  # noqa: E402
from ovnlab.software import packages  # noqa: E402
from ovnlab.state import LabFolder  # noqa: E402
from ovnlab.topology.load import load_text  # noqa: E402
from ovnlab.topology.resolved import Topology  # noqa: E402

URI = "test:///default"


SETTINGS = "libvirt: {accelerate: qemu, pool: default-pool}\n"


def topology(name: str = "lab", more: str = "", settings: str = SETTINGS) -> Topology:
    text = (
        f"name: {name}\nprovider: libvirt\nmachines: {{uri: '{URI}', image: ./disk.qcow2}}\n"
        f"{settings}nodes: {{central: {{role: central}}, worker1: {{}}}}\n{more}"
    )
    return load_text("lab.yaml", text.encode()).topology


def provider_of(tmp_path: Path, found: Topology) -> LibvirtProvider:
    folder = LabFolder(found.name, tmp_path)
    folder.create(afresh=True)
    return LibvirtProvider(folder, found, SilentReporter())


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
    assert provider.defined_nodes() == {"central", "worker1"}
    assert provider.running() == set()
    # Another program that is asked for the same lab finds it, also without its topology.
    provider._note_uris()
    again = LibvirtProvider(provider.folder, None, SilentReporter())
    assert again.defined_nodes() == {"central", "worker1"}
    again.destroy()


def test_what_is_of_another_lab_or_of_somebody_else_stays(tmp_path: Path) -> None:
    one, two = topology("one"), topology("two")
    first, second = provider_of(tmp_path, one), provider_of(tmp_path, two)
    define(first, one)
    define(second, two)
    elsewhere = LibvirtProvider(LabFolder("one", tmp_path / "other"), one, SilentReporter())
    assert elsewhere.defined_nodes() == set(), "a lab of that name in another state folder is another lab"
    with pytest.raises(UsageError, match="there is a libvirt network ovnlab-one that is not of this lab"):
        elsewhere._make_networks(URI, one)
    first.destroy()
    assert second.defined_nodes() == {"central", "worker1"}
    assert "test" in everything()["domains"]
    second.destroy()


def test_networks_are_made_once_it_is_known_what_machines_boot_from(tmp_path: Path) -> None:
    """The test driver takes no uploads."""
    found, before = topology(), everything()
    provider = provider_of(tmp_path, found)
    with pytest.raises(OvnlabError, match=r"image .*disk.qcow2: cannot be read"):
        provider.add(found, ["central", "worker1"])
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(28))
    with pytest.raises(OvnlabError, match="storage pool default-pool"):
        provider.add(found, ["central", "worker1"])
    assert everything()["networks"] == before["networks"]
    provider.destroy()
    for pool in libvirt.open(URI).listAllStoragePools():
        for volume in pool.listAllVolumes():
            if volume.name().startswith("ovnlab-"):  # of an image, which several labs share
                volume.delete()


def test_a_machine_that_is_on_may_not_answer(tmp_path: Path) -> None:
    """One that was left paused is not on, and only one whose SSH server answers runs."""
    found = topology(more="libvirt: {accelerate: qemu, pool: default-pool, subnet: 127.64.0.0/24}\n", settings="")
    provider = provider_of(tmp_path, found)
    define(provider, found)
    for _, domain, _ in provider._domains():
        domain.create()
    names = {"central", "worker1"}
    assert provider.active() == names
    assert not provider.running()
    assert not provider.nodes()
    assert provider.stopped_reasons(names) == dict.fromkeys(names, "does not answer")
    with pytest.raises(OvnlabError, match="central: is switched on, and does not answer"):
        provider.node("central")
    domain = next(domain for name, domain, _ in provider._domains() if name == "central")
    domain.suspend()
    assert provider.active() == {"worker1"}
    assert provider.stopped_reasons(names)["central"] == "paused"
    provider._note_uris()
    lost = LibvirtProvider(provider.folder, None, SilentReporter())
    assert lost.running() == {"worker1"}, "how it is reached is lost"
    with answering_ssh(found.nodes[1].machine.address) as port:
        again = LibvirtProvider(provider.folder, found, SilentReporter())
        machine = again._machine(found.nodes[1])
        again._machines["worker1"] = dataclasses.replace(machine, reach=structs.replace(machine.reach, port=port))
        assert again.running() == set(again.nodes()) == {"worker1"}
    provider.destroy()


@contextlib.contextmanager
def answering_ssh(address: str) -> Iterator[int]:
    """The port of a server that shows the banner of an SSH server."""
    with socket.create_server((address, 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            with contextlib.suppress(OSError), server.accept()[0] as client:
                time.sleep(ssh_machine.ANSWER_TIMEOUT + 1)  # as on a busy emulated machine
                client.sendall(b"SSH-2.0-test\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_way_is_looked_for_before_machines_are_started(tmp_path: Path) -> None:
    """Networks of the test driver lead nowhere: a machine there is not waited for."""
    found = topology(more="libvirt: {accelerate: qemu, pool: default-pool, subnet: 240.9.0.0/24}\n", settings="")
    provider = provider_of(tmp_path, found)
    with pytest.raises(
        OvnlabError, match=r"no route from here to 240\.9\.0\.0/24, the network of its machines"
    ) as error:
        provider._require_routes(found, found.nodes)
    assert error.value.where == URI
    assert "qemu+ssh://USER@HOST/system" in error.value.hint


def route(**more: str) -> str:
    return json.dumps([{"dst": "10.9.0.0/24", "dev": "x", **more}])


def test_which_routes_lead_to_machines() -> None:
    assert leads(route(), by_default=False)
    assert leads(route(dst="default"), by_default=True)
    assert not leads(route(dst="default"), by_default=False)
    assert not leads(route(type="unreachable"), by_default=True)
    assert not leads("", by_default=True)


def test_how_a_hypervisor_that_is_elsewhere_is_logged_in_to(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    jump = jump_of(f"qemu+ssh://admin@127.0.0.1:2222/system?keyfile={tmp_path}/key")
    assert jump is not None
    assert (jump.user, jump.host, jump.port, jump.keys) == ("admin", "127.0.0.1", 2222, (tmp_path / "key",))
    assert jump.known_hosts.name.startswith("known_hosts")
    assert not jump.agent
    assert (
        jump_of("qemu:///system") is jump_of("qemu+unix:///system?socket=/x") is jump_of("qemu+tls://h/system") is None
    )


@pytest.mark.parametrize(
    ("systemd", "installed", "hint"),
    [
        (True, True, "start it: sudo systemctl start libvirtd"),
        (False, True, "start it: sudo virtlogd -d; sudo libvirtd -d"),
        (False, True, 'user = "root"\\ngroup = "root"\\nremember_owner = 0\\n'),
        (False, False, "install it: sudo apt-get install libvirt-daemon-system"),
    ],
)
def test_how_libvirtd_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, systemd: bool, installed: bool, hint: str
) -> None:
    monkeypatch.setattr(hypervisor, "SYSTEMD", tmp_path if systemd else tmp_path / "none")
    monkeypatch.setattr(packages, "SEARCHED", (str(tmp_path),))
    if installed:
        (tmp_path / "libvirtd").write_text("#!/bin/sh\n")
        (tmp_path / "libvirtd").chmod(0o755)
    with pytest.raises(HostRequirementError) as error:
        hypervisor.Hypervisor("qemu+unix:///system?socket=/nowhere").connection  # noqa: B018
    assert hint in error.value.hint


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


def test_what_doctor_says_of_virtual_machines() -> None:
    if lacking := [name for name in requirements.PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"this machine lacks {', '.join(lacking)}")
    (ready,) = requirements.findings(URI)
    assert ready.ok
    assert ready.message.endswith("no image yet: sudo ovnlab image build makes one")
    (silent,) = requirements.findings("qemu+unix:///system?socket=/nowhere")
    assert not silent.ok
    assert "libvirt does not answer at qemu+unix" in silent.message
    assert "start it: sudo " in silent.message or "install it: sudo " in silent.message
