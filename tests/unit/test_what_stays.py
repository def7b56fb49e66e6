"""Whatever ends a command, it is said what stays of the lab and which command removes it: libvirt's test driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt")
pytest.importorskip("pycdlib")

import msgspec  # noqa: E402

from ovnlab.errors import OvnlabError, UsageError  # noqa: E402
from ovnlab.lab.lab import Lab, find_only, find_suspended  # noqa: E402
from ovnlab.lab.lab_list import listed  # noqa: E402
from ovnlab.providers.libvirt import definitions  # noqa: E402
from ovnlab.providers.libvirt.libvirt_provider import LibvirtProvider  # noqa: E402
from ovnlab.reporting import Reporter  # noqa: E402
from ovnlab.topology.load import load_text  # noqa: E402
from ovnlab.topology.resolved import Topology  # noqa: E402

URI = "test:///default"


class Noting(Reporter):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, text: str) -> None:
        """Too much."""

    def node(self, name: str, doing: str) -> None:
        """Too much."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    connection = libvirt.open(URI)  # what it has lives as long as somebody is connected
    yield
    for domain in connection.listAllDomains():
        if domain.name().startswith("ovnlab-"):
            domain.destroy() if domain.isActive() else None
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    for network in connection.listAllNetworks():
        if network.name().startswith("ovnlab-"):
            network.destroy()
            network.undefine()
    connection.close()


def topology(name: str = "lab") -> Topology:
    text = (
        f"name: {name}\nprovider: libvirt\nmachines: {{uri: '{URI}', image: ./disk.qcow2}}\n"
        "libvirt: {accelerate: qemu, pool: default-pool, subnet: 127.64.0.0/24}\nnodes: {central: {role: central}}\n"
    )
    return load_text("lab.yaml", text.encode()).topology


def up(lab: Lab) -> None:
    lab.up(topology(lab.name), source="/some/lab.yaml", named=False, options=("--set", "a=b c"))


def make(provider: LibvirtProvider, found: Topology, *, start: bool = False) -> None:
    """Define what `add` does, which the test driver cannot do to the end."""
    provider._note_uris()
    for node in found.nodes:
        xml = provider._domain_xml(found, node, definitions.domain_of(found, node, provider.owner))
        domain = provider.hypervisor(URI).connection.defineXML(xml)
        if start:
            domain.create()


STAYS = (
    "lab lab stays as far as it came: `ovnlab up /some/lab.yaml --set 'a=b c'` goes on with it, "
    "`ovnlab down lab` removes it"
)


def test_a_lab_that_holds_nothing_goes_when_its_first_up_fails() -> None:
    reporter = Noting()
    with pytest.raises(OvnlabError, match=r"disk\.qcow2: cannot be read"):
        up(lab := Lab("lab", reporter))
    assert not lab.folder.exists()
    assert not [note for note in reporter.notes if "stays" in note]
    assert listed(reporter) == []


def test_an_up_that_fails_says_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(provider: LibvirtProvider, found: Topology, names: object) -> None:
        make(provider, found, start=True)
        raise OvnlabError("it never answers")

    monkeypatch.setattr(LibvirtProvider, "add", add)
    reporter = Noting()
    with pytest.raises(OvnlabError, match="it never answers"):
        up(lab := Lab("lab", reporter))
    assert reporter.notes[-1] == STAYS
    (one,) = listed(reporter)
    assert (one.state, one.running, one.nodes) == ("coming up", 0, 1), "it is on, and does not answer yet"
    stored = lab.folder.stored()
    assert stored is not None
    lab.folder.store(msgspec.structs.replace(stored, complete=True))
    assert listed(reporter)[0].state == "does not answer"
    for _, domain, _ in Lab("lab", reporter).provider._domains():  # type: ignore[attr-defined]
        domain.managedSave()
    assert listed(reporter)[0].state == "suspended"
    assert Lab("lab", reporter).down().removed


def test_a_second_interrupt_says_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LibvirtProvider, "add", interrupted)
    reporter = Noting()
    with pytest.raises(KeyboardInterrupt):
        up(Lab("lab", reporter))
    assert not [note for note in reporter.notes if "stays" in note], "one interrupt takes all of it back"
    with monkeypatch.context() as patched:
        patched.setattr(LibvirtProvider, "destroy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            up(lab := Lab("lab", reporter))
        assert reporter.notes[-1] == STAYS
        with pytest.raises(KeyboardInterrupt):
            Lab("lab", reporter).down()
        assert reporter.notes[-1] == "lab lab is not all removed: `ovnlab down lab` removes what is left"
    lab.down()
    assert not lab.folder.exists()


def test_of_several_labs_none_is_undone_because_it_runs() -> None:
    reporter = Noting()
    for name in ("one", "two"):
        lab = Lab(name, reporter)
        lab.folder.create(afresh=True)
        lab.folder.store(lab._stored("/some/lab.yaml", topology(name), complete=True))
        make(Lab(name, reporter).provider, topology(name), start=True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there are several labs: one, two"):
        find_only(None, reporter)
    with pytest.raises(UsageError, match="there are several labs: one, two"):
        find_suspended(None, reporter)
    for _, domain, _ in Lab("two", reporter).provider._domains():  # type: ignore[attr-defined]
        domain.managedSave()
    assert find_suspended(None, reporter).name == "two"
    assert find_only("one", reporter).name == "one"
