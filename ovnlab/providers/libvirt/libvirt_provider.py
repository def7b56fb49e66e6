"""Nodes as virtual machines of libvirt, on this machine or on hypervisors elsewhere.

Whatever is made carries a mark in libvirt's metadata: the lab, the node, and whose lab it is. Only that is ever changed
or removed. A domain is defined before its disks are made, and says which those are.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import msgspec

from ovnlab import __version__
from ovnlab.errors import OvnlabError, Timeout, UsageError
from ovnlab.parallel import Gate, for_each
from ovnlab.providers.base import DOES_NOT_ANSWER, SUSPENDED
from ovnlab.providers.delivery import deliver
from ovnlab.providers.libvirt import pools
from ovnlab.providers.libvirt.definitions import (
    Boot,
    Domain,
    LibvirtNetwork,
    boot_of,
    choose_cpu,
    domain_of,
    networks,
    seed_files,
    seed_image,
)
from ovnlab.providers.libvirt.hypervisor import Console, Hypervisor, doing, kvm_works, make_volume, send
from ovnlab.providers.libvirt.saved_labs import Saved, SavedLab, key_of, snapshot_of
from ovnlab.providers.libvirt.ssh_route import jump_of, require_route
from ovnlab.providers.ssh_machine import MEETING, SshKeys, SshMachine, answering, introduce, owner_of, set_clocks
from ovnlab.providers.ssh_target import CONNECT_TIMEOUT, SshTarget
from ovnlab.reporting import Reporter, slowly
from ovnlab.software import packages
from ovnlab.software.images import identity
from ovnlab.state import LabFolder, cache_root
from ovnlab.templating import render
from ovnlab.topology.resolved import DEFAULT_URI, Node, Topology
from ovnlab.waiting import CLOCK, reported, wait_until

NAMESPACE = "urn:ovnlab:1"
"""Of the marks in libvirt's metadata."""

HALF_BACK = "half-back"
"""The file of the lab's folder that is there while what was kept is begun with."""

BOOT_TIMEOUT = 300.0
"""Seconds from power to SSH: enough for cloud-init under software emulation on a busy machine."""

BANNER_TIMEOUT = 30.0
"""Seconds that an SSH server which has taken a connection may take to show its banner.

Whoever hangs up sooner and asks again keeps a slow machine busy with starting servers that nobody waits for.
"""


WAKING_TIMEOUT = 60.0
"""Seconds that a machine may take to answer which goes on from memory."""


@dataclass(frozen=True)
class HypervisorImage:
    """The same as paths on a hypervisor."""

    disk: str
    kernel: str
    initrd: str


class LibvirtProvider:
    """The machines of one lab."""

    def __init__(self, folder: LabFolder, topology: Topology | None, reporter: Reporter) -> None:
        self.folder = folder
        self.topology = topology
        self.note = reporter.note
        self.reporter = reporter
        self.keys = SshKeys(folder)
        self._hypervisors: dict[str, Hypervisor] = {}
        self._machines: dict[str, SshMachine] = {}
        self._answering: dict[str, bool] = {}
        self._gate = Gate()

    # ── what is there ────────────────────────────────────────────────────────────────────────────────

    @property
    def owner(self) -> str:
        """Return whose labs these are: of this user on this machine, in this state folder."""
        whose = f"{socket.gethostname()}\0{os.geteuid()}\0{self.folder.path}"
        return owner_of(self.folder, hashlib.sha256(whose.encode()).hexdigest()[:16])

    def hypervisor(self, uri: str) -> Hypervisor:
        """Return the connection to one."""
        return self._hypervisors.setdefault(uri, Hypervisor(uri))

    def _uris(self) -> list[str]:
        """Return where the lab has, or has had, machines."""
        try:
            noted = msgspec.json.decode((self.folder.path / "libvirt.json").read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            noted = []
        wanted = [node.machine.uri for node in self.topology.nodes] if self.topology else []
        return list(dict.fromkeys([*noted, *wanted])) or [DEFAULT_URI]

    def _mark(self, found: Any) -> ET.Element | None:
        """Return our mark on a domain or network; None where it is somebody else's."""
        try:
            text = found.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
        except libvirt.libvirtError:  # it has none
            return None
        mark = ET.fromstring(text)  # noqa: S314  libvirt's own
        return mark if (mark.get("name"), mark.get("owner")) == (self.folder.name, self.owner) else None

    def _is_ours(self, network: Any) -> bool:
        """Return True if a network has our mark; libvirt has no call for it."""
        mark = ET.fromstring(network.XMLDesc()).find(f"metadata/{{{NAMESPACE}}}lab")  # noqa: S314  libvirt's own
        return mark is not None and (mark.get("name"), mark.get("owner")) == (self.folder.name, self.owner)

    def _domains(self, uris: Iterable[str] | None = None) -> list[tuple[str, Any, ET.Element]]:
        """Return the domains of the lab: node, domain, mark."""
        found = []
        for uri in self._uris() if uris is None else uris:
            with doing(uri):
                for domain in self.hypervisor(uri).connection.listAllDomains():
                    mark = self._mark(domain)
                    if mark is not None:
                        found.append((mark.get("node", ""), domain, mark))
        return found

    def _networks(self) -> list[Any]:
        found = []
        for uri in self._uris():
            with doing(uri):
                networks = self.hypervisor(uri).connection.listAllNetworks()
                found += [network for network in networks if self._is_ours(network)]
        return found

    def is_up(self) -> bool:
        """Return True if any machine of the lab answers."""
        return bool(self.running())

    def active(self) -> frozenset[str]:
        """Return the nodes whose machines are switched on; one that boots, or hangs, does not answer."""
        return frozenset(name for name, domain, _ in self._domains() if _runs(domain))

    def running(self) -> frozenset[str]:
        """Return the nodes whose machines answer; all that are on where nobody knows how they are reached."""
        active = self.active()
        if self.topology is None:
            return active
        nodes = [node for node in self.topology.nodes if node.name in active]
        unknown = [self._machine(node) for node in nodes if node.name not in self._answering]
        self._answering |= answering(unknown, CONNECT_TIMEOUT)  # an emulated machine is slow, on a busy one very slow
        return frozenset(node.name for node in nodes if self._answering[node.name])

    def defined_nodes(self) -> frozenset[str]:
        """Return the nodes whose machines are defined."""
        return frozenset(name for name, _, _ in self._domains())

    def stopped_reasons(self, names: Collection[str]) -> dict[str, str]:
        """Return what libvirt says of machines that do not answer."""
        return {name: _rests(domain) for name, domain, _ in self._domains() if name in names}

    def nodes(self) -> dict[str, SshMachine]:
        """Return the nodes whose machines answer, by name."""
        running = self.running()
        if self.topology is None:
            return {}
        return {node.name: self._machine(node) for node in self.topology.nodes if node.name in running}

    def node(self, name: str) -> SshMachine:
        """Return a running node. Raises OvnlabError where it is not running."""
        found = self.nodes().get(name)
        if found is None:
            state = self.stopped_reasons([name]).get(name, "")
            if state == DOES_NOT_ANSWER:
                console = f"`ovnlab console {name} --lab {self.folder.name}` shows what it is doing"
                hint = f"{self.folder.up_command()} waits for it, {console}"
                raise OvnlabError("is switched on, and does not answer", where=name, hint=hint)
            raise OvnlabError("is not running", where=name, hint=f"{self.folder.up_command()} brings it back")
        return found

    def _on(self) -> list[SshMachine]:
        """Return the machines that are switched on, whether or not they answer."""
        active = self.active()
        return [self._machine(node) for node in self.topology.nodes if node.name in active] if self.topology else []

    def _reach(self, node: Node) -> SshTarget:
        on_bridge = self.topology is not None and self.topology.libvirt.bridge
        jump = None if on_bridge else jump_of(node.machine.uri)
        return SshTarget(node.machine.address, 22, "root", (self.keys.private,), self.keys.known_hosts, jump=jump)

    def _machine(self, node: Node) -> SshMachine:
        if node.name not in self._machines:
            self._machines[node.name] = SshMachine(node.name, self._reach(node), self.keys.config)
        return self._machines[node.name]

    # ── making ───────────────────────────────────────────────────────────────────────────────────────

    def add(self, topology: Topology, names: Sequence[str]) -> None:
        """Make machines, or start them again; networks and images come first, one after the other."""
        self.topology = topology
        self._note_uris()
        self.keys.make()
        self._write_ssh(topology)
        nodes = [node for node in topology.nodes if node.name in names]
        if nodes:
            with pools.in_use(self.note):
                self._start_all(topology, nodes)
        with slowly(self.reporter, MEETING):
            introduce(self.nodes().values(), topology)

    def _start_all(self, topology: Topology, nodes: Sequence[Node]) -> None:
        """Start machines. Nothing is made before it is known that they can be reached and what they boot from."""
        boots = {node.name: boot_of(node, self.note) for node in nodes}
        for node in {node.machine.uri: node for node in nodes}.values():
            self._machine(node).require_jump()
        brought = self._bring_all(topology, nodes)
        kinds = {uri: self._kind(uri, topology) for uri in {node.machine.uri for node in nodes}}
        for uri in kinds:
            self._make_networks(uri, topology)
        self._require_routes(topology, nodes)
        self._gate = gate = Gate()
        went_on = for_each(
            nodes,
            lambda node: self._start(
                gate, topology, node, kinds[node.machine.uri], boots[node.name], brought[node.name]
            ),
        )
        self._answering.update((node.name, True) for node in nodes)
        set_clocks(self._machine(node) for node, went in zip(nodes, went_on, strict=True) if went)

    def _require_routes(self, topology: Topology, nodes: Sequence[Node]) -> None:
        """Raise OvnlabError if no route leads to machines that are not reached through their hypervisor."""
        for node in {node.machine.uri: node for node in nodes}.values():
            if self._reach(node).jump is None:
                settings, machine = topology.libvirt, node.machine
                require_route(machine.address, settings.subnet, machine.uri, through=settings.bridge)

    def _write_ssh(self, topology: Topology) -> None:
        reaches = {node.name: self._reach(node) for node in topology.nodes}
        self.keys.write_known_hosts((reach, self.keys.host_key(name)[1]) for name, reach in reaches.items())
        self.keys.write_config(topology, reaches)

    def deliver(self, builds: Mapping[str, str]) -> None:
        """Bring builds to the machines."""
        deliver(self.nodes(), builds, self.note)

    def _note_uris(self) -> None:
        (self.folder.path / "libvirt.json").write_bytes(msgspec.json.encode(self._uris()))

    def _kind(self, uri: str, topology: Topology) -> str:
        if topology.libvirt.accelerate != "auto":
            return topology.libvirt.accelerate
        hypervisor = self.hypervisor(uri)
        with doing(uri):
            capabilities = ET.fromstring(hypervisor.connection.getCapabilities())  # noqa: S314  libvirt's own
        claimed = any(found.get("type") == "kvm" for found in capabilities.iter("domain"))
        if claimed and kvm_works(hypervisor.connection, f"ovnlab-{self.folder.name}-try-{os.getpid()}"):
            return "kvm"
        self.note(f"{uri} has no KVM that works: machines are emulated, which is some ten times slower")
        return "qemu"

    def _make_networks(self, uri: str, topology: Topology) -> None:
        """Define and start what is missing of the lab's networks."""
        connection = self.hypervisor(uri).connection
        for network in networks(topology):
            with doing(f"network {network.name}"):
                try:
                    found = connection.networkLookupByName(network.name)
                except libvirt.libvirtError:
                    found = connection.networkDefineXML(self._network_xml(topology, network))
                if not self._is_ours(found):
                    raise UsageError(f"there is a libvirt network {network.name} that is not of this lab", where=uri)
                if not found.isActive():
                    found.create()

    def _network_xml(self, topology: Topology, network: LibvirtNetwork) -> str:
        return render(
            "libvirt/network.xml.j2", network=network, lab=topology.name, owner=self.owner, namespace=NAMESPACE
        )

    def _pool(self, uri: str, name: str) -> Any:
        """Return the storage pool; the one called default is made where it is not there."""
        connection = self.hypervisor(uri).connection
        with doing(f"storage pool {name}"):
            try:
                pool = connection.storagePoolLookupByName(name)
            except libvirt.libvirtError:
                if name != "default":
                    hint = f"virsh -c {uri} pool-list --all lists those that are there"
                    raise OvnlabError(f"unknown storage pool {name}", where=uri, hint=hint) from None
                path = "/var/lib/libvirt/images"
                if uri.endswith("/session"):
                    path = str(cache_root() / "pool")
                pool = connection.storagePoolDefineXML(render("libvirt/pool.xml.j2", name=name, path=path))
                pool.build()
                pool.setAutostart(True)
            if not pool.isActive():
                pool.create()
            return pool

    def _bring_all(self, topology: Topology, nodes: Sequence[Node]) -> dict[str, HypervisorImage]:
        """Bring what nodes boot from, one after the other, into the pools of their hypervisors."""
        found = {uri: self._pool(uri, topology.libvirt.pool) for uri in {node.machine.uri for node in nodes}}
        with packages.exclusive(cache_root() / "pool.lock", self.note, "another ovnlab that brings an image"):
            for uri in found:
                pools.remember(uri, topology.libvirt.pool)
            return {node.name: self._bring(found[node.machine.uri], boot_of(node, self.note)) for node in nodes}

    def _bring(self, pool: Any, boot: Boot) -> HypervisorImage:
        """Bring what a node boots from into a pool."""
        return HypervisorImage(
            self._upload(pool, boot.base, boot.disk),
            self._upload(pool, f"ovnlab-{identity(boot.kernel)}-vmlinuz", boot.kernel) if boot.kernel else "",
            self._upload(pool, f"ovnlab-{identity(boot.initrd)}-initrd", boot.initrd) if boot.initrd else "",
        )

    def _upload(self, pool: Any, name: str, path: Path) -> str:
        """Return the path on the hypervisor of a file in a pool.

        Beside one that is all there is an empty volume NAME.ok.
        """
        with doing(f"storage pool {pool.name()}: {name}"):
            there = {volume.name(): volume for volume in pool.listAllVolumes()}
            if name in there and f"{name}.ok" in there:
                return str(there[name].path())
            if name in there:
                there[name].delete()
            self.note(f"bringing {path} into storage pool {pool.name()}")
            size = path.stat().st_size
            volume = make_volume(pool, name, size, "raw")
            with path.open("rb") as file:
                send(pool.connect(), volume, file, size)
            make_volume(pool, f"{name}.ok", 0, "raw")
            return str(volume.path())

    def _start(
        self, gate: Gate, topology: Topology, node: Node, kind: str, boot: Boot, brought: HypervisorImage
    ) -> bool:
        """Define a machine, make its disks, start it, and wait until it answers; one that is on is waited for.

        Return True if it was on before, or goes on from memory.
        """
        self.keys.close(node.name)  # what is kept is of a machine that has ended
        domain = self._domain(topology, node, kind)
        domain.kernel, domain.initrd = brought.kernel, brought.initrd
        connection = self.hypervisor(node.machine.uri).connection
        with gate, doing(f"{node.name}: domain {domain.name}"):
            try:
                found, is_new = connection.lookupByName(domain.name), False
            except libvirt.libvirtError:
                found, is_new = connection.defineXML(self._domain_xml(topology, node, domain)), True
            if self._mark(found) is None:
                raise UsageError(f"there is a libvirt domain {domain.name} that is not of this lab")
            was_saved = bool(found.isActive() or found.hasManagedSaveImage())
            if not was_saved:
                pool = self._pool(node.machine.uri, topology.libvirt.pool)
                if is_new:
                    _delete(pool, domain.volumes)
                else:
                    found = connection.defineXML(self._domain_xml(topology, node, domain))
                self._make_disks(pool, topology, node, domain, boot, brought)
            if not found.isActive():
                found.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        with Console(found) as console:
            if found.info()[0] == libvirt.VIR_DOMAIN_PAUSED:
                with doing(f"{node.name}: starting"):
                    found.resume()
            try:
                self._await_ssh(node, found, console)
            except OvnlabError as error:
                if was_saved:
                    error.hint = error.hint or f"ovnlab console {node.name} --lab {self.folder.name} shows what it does"
                else:
                    with contextlib.suppress(libvirt.libvirtError):  # so that the next `up` does not ask it anything
                        found.destroy()
                raise
        return was_saved

    def _domain(self, topology: Topology, node: Node, kind: str) -> Domain:
        domain = domain_of(topology, node, self.owner)
        domain.kind = kind
        choose_cpu(domain, node.machine.cpu)
        return domain

    def _domain_xml(self, topology: Topology, node: Node, domain: Domain) -> str:
        return render(
            "libvirt/domain.xml.j2",
            domain=domain,
            uuid=uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}:{self.owner}:{domain.name}"),
            node=node,
            machine=node.machine,
            lab=topology.name,
            owner=self.owner,
            pool=topology.libvirt.pool,
            namespace=NAMESPACE,
        )

    def _make_disks(
        self, pool: Any, topology: Topology, node: Node, domain: Domain, boot: Boot, brought: HypervisorImage
    ) -> None:
        """Make the overlay on the image, the seed, and further disks; existing ones stay as they are."""
        there = {volume.name(): volume for volume in pool.listAllVolumes()}
        overlay, _, *further = domain.volumes
        if overlay not in there:
            size = max(node.machine.disk * 2**20, boot.size)
            make_volume(pool, overlay, size, "qcow2", {"path": brought.disk, "format": boot.format})
        self._make_seed(pool, topology, node, domain)
        for name, mebibytes in zip(further, node.machine.disks, strict=True):
            if name not in there:
                make_volume(pool, name, mebibytes * 2**20, "qcow2")

    def _make_seed(self, pool: Any, topology: Topology, node: Node, domain: Domain) -> None:
        """Make a CD with the machine's identity, as cloud-init's NoCloud and as a script of ours."""
        seed = domain.volumes[1]
        _delete(pool, [seed])
        files = seed_files(topology, node, domain.nics, self.keys.public, self.keys.host_key(node.name))
        content = seed_image(files)
        send(pool.connect(), make_volume(pool, seed, len(content), "raw"), io.BytesIO(content), len(content))

    def _await_ssh(self, node: Node, domain: Any, console: Console) -> None:
        """Wait until a machine answers, and say meanwhile what it says on its console."""
        machine = self._machine(node)
        what = f"SSH on {machine.reach.host}"

        def tell(seconds: float) -> None:
            limit = f"{seconds:.0f} s so far, {BOOT_TIMEOUT:.0f} s at most"
            self.note(f"{node.name}: waiting for {what} ({limit}): {console.summary()}")

        def look() -> bool | None:
            if not domain.isActive():
                raise OvnlabError("its machine has stopped", where=node.name, detail=console.tail())
            return True if machine.is_listening(2, BANNER_TIMEOUT) else None

        began = CLOCK.monotonic()
        try:
            self.reporter.node(node.name, "booting")
            with reported(tell):
                wait_until(what, look, timeout=BOOT_TIMEOUT)
            machine.root.open()
            self.reporter.node(node.name, "done")
        except (OvnlabError, Timeout) as error:
            stage = console.stage()
            error.where = error.where or node.name
            error.detail = f"{stage}, after {CLOCK.monotonic() - began:.0f} s; its console said last:\n{console.tail()}"
            raise

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────

    def stop(self, names: Sequence[str]) -> None:
        """Switch machines off; their disks stay."""
        self._gate.close()
        for name, domain, _ in self._domains():
            if name in names and domain.isActive():
                self.keys.close(name)
                with doing(f"{name}: switching off"):
                    domain.destroy()
                self._machines.pop(name, None)
                self._answering.pop(name, None)

    def remove(self, names: Sequence[str]) -> None:
        """Remove machines and their disks. What was kept of the lab is of no use then."""
        self._gate.close()
        if not names:
            return
        SavedLab(self.folder).forget()
        self._remove([found for found in self._domains() if found[0] in names])

    def _remove(self, found: Sequence[tuple[str, Any, ET.Element]], kept: Saved | None = None) -> None:
        for_each(found, lambda item: self._remove_one(*item, kept))
        for name, _, _ in found:
            self._machines.pop(name, None)
            self._answering.pop(name, None)
            self.keys.forget(name)

    def _remove_one(self, name: str, domain: Any, mark: ET.Element, kept: Saved | None) -> None:
        """Remove a machine; its disks stay where they have what is kept of the lab, without snapshots of the person."""
        self.keys.close(name)
        stay = kept.volumes.get(domain.connect().getURI(), {}).get(mark.get("pool", ""), []) if kept else []
        with doing(f"removing {domain.name()}"):
            if domain.isActive():
                domain.destroy()
            for snapshot in domain.listAllSnapshots() if stay else ():
                if kept is not None and snapshot.getName() != kept.snapshot:
                    snapshot.delete()
            volumes = [volume for volume in _volumes(mark) if volume not in stay]
            with contextlib.suppress(libvirt.libvirtError):  # a pool that is gone has no volumes
                _delete(domain.connect().storagePoolLookupByName(mark.get("pool")), volumes)
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            )

    def destroy(self) -> None:
        """Remove all machines and networks of the lab, and its files; disks with what is kept of it stay."""
        self._gate.close()
        self._remove(self._domains(), SavedLab(self.folder).read())
        for network in self._networks():
            with doing(f"removing network {network.name()}"):
                if network.isActive():
                    network.destroy()
                network.undefine()
        self.folder.remove()

    # ── keeping it ───────────────────────────────────────────────────────────────────────────────────

    def suspend(self) -> None:
        """Write the memory of all machines to disk and end them; all of them stop at one moment."""
        running = [(name, domain) for name, domain, _ in self._domains() if domain.isActive()]
        for name, domain in running:
            self.keys.close(name)
            with doing(f"{name}: pausing"):
                domain.suspend()

        def save(item: tuple[str, Any]) -> None:
            with doing(f"{item[0]}: saving"):
                item[1].managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)

        with slowly(self.reporter, "writing the memory of machines to disk"):
            for_each(running, save)
        self._forget_connections()

    def resume(self) -> list[str]:
        """Go on where `suspend` has stopped, all machines at one moment. Their names."""
        saved = [(name, domain) for name, domain, _ in self._domains() if domain.hasManagedSaveImage()]

        def start(item: tuple[str, Any]) -> None:
            with doing(f"{item[0]}: starting"):
                item[1].createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

        with slowly(self.reporter, "reading the memory of machines from disk"):
            for_each(saved, start)
        self._go_on(saved)
        return [name for name, _ in saved]

    def _go_on(self, paused: Sequence[tuple[str, Any]]) -> None:
        """Let machines run, and tell them how late it is."""
        for_each(paused, _let_run, workers=1)
        self._forget_connections()
        machines = self._on()
        with slowly(self.reporter, "waiting for machines that go on to answer"):
            try:
                set_clocks(machines)
            except OvnlabError:  # on a busy machine they may still be waking up
                for_each(machines, _await_banner)
                set_clocks(machines)
        self._answering.update((found.name, True) for found in machines)

    def _forget_connections(self) -> None:
        """Forget what was connected, and who answers: machines have stopped, or were stopped and go on."""
        self._machines.clear()
        self._answering.clear()

    def keep(self, topology: Topology, builds: Mapping[str, str]) -> None:
        """Keep the lab as it is now for the next `up` of the same, where `bring_back` finds it."""
        saved = SavedLab(self.folder)
        domains = [(name, domain) for name, domain, _ in self._domains()]
        key = self._key(topology, builds)
        self._snapshot(domains, snapshot_of(key))
        set_clocks(self.nodes().values())
        snapshots: dict[str, str] = {}
        kinds: dict[str, str] = {}
        volumes: dict[str, dict[str, list[str]]] = {}
        for name, domain, mark in self._domains():
            with doing(f"{name}: snapshot"):
                found = domain.snapshotLookupByName(snapshot_of(key))
                snapshots[name] = found.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
                kinds[name] = ET.fromstring(domain.XMLDesc()).get("type", "")  # noqa: S314  libvirt's own
            by_pool = volumes.setdefault(domain.connect().getURI(), {})
            by_pool.setdefault(mark.get("pool", ""), []).extend(v for v in _volumes(mark) if not v.endswith(".iso"))
        saved.write(Saved(key, kinds, snapshots, volumes))

    def _key(self, topology: Topology, builds: Mapping[str, str]) -> str:
        boots = [boot_of(node, self.note) for node in topology.nodes]
        files = [[boot.base, *(identity(path) for path in (boot.kernel, boot.initrd) if path)] for boot in boots]
        return key_of([__version__, self.owner, topology, dict(builds), files])

    @property
    def is_half_back(self) -> bool:
        """Return True if somebody was killed who began the lab as it was when it was kept."""
        return (self.folder.path / HALF_BACK).exists()

    def bring_back(self, topology: Topology, builds: Mapping[str, str]) -> bool:
        """Begin the lab as it was when it was kept; whether that could be done. Otherwise no machine is there."""
        self.topology = topology
        saved = SavedLab(self.folder).read()
        if self.is_half_back:
            self._remove(self._domains(), saved)
        usable = saved is not None and saved.key == self._key(topology, builds)
        if saved is not None and usable:
            self._note_uris()
            with pools.in_use(self.note):
                brought = self._bring_all(topology, topology.nodes)
                for uri in {node.machine.uri for node in topology.nodes}:
                    self._make_networks(uri, topology)
                (self.folder.path / HALF_BACK).touch()
                usable = self._try_to_begin(topology, saved, brought)
        if not usable:
            self.discard()
        (self.folder.path / HALF_BACK).unlink(missing_ok=True)
        return usable

    def _try_to_begin(self, topology: Topology, saved: Saved, brought: Mapping[str, HypervisorImage]) -> bool:
        """Start machines from what was kept; where that fails, say why, and remove them."""
        try:
            self._begin(topology, saved, brought)
        except (libvirt.libvirtError, OvnlabError, OSError) as error:
            self.note(f"the lab that was kept cannot be used, and is made anew: {error}")
            self._remove(self._domains())
            return False
        return True

    def _begin(self, topology: Topology, saved: Saved, brought: Mapping[str, HypervisorImage]) -> None:
        """Define machines, and start them from their snapshots, all at one moment."""
        SavedLab(self.folder).bring_keys()
        self._write_ssh(topology)
        self._gate = gate = Gate()

        def begin(node: Node) -> tuple[str, Any]:
            domain = self._domain(topology, node, saved.kinds[node.name])
            domain.kernel, domain.initrd = brought[node.name].kernel, brought[node.name].initrd
            self.keys.close(node.name)  # what is kept is of a machine that has ended
            with gate, doing(f"{node.name}: going on from what was kept"):
                found = self.hypervisor(node.machine.uri).connection.defineXML(self._domain_xml(topology, node, domain))
                self._make_seed(self._pool(node.machine.uri, topology.libvirt.pool), topology, node, domain)
                flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
                snapshot = found.snapshotCreateXML(saved.snapshots[node.name], flags)
                found.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED)
            return node.name, found

        with slowly(self.reporter, "reading the memory of machines that was kept"):
            begun = for_each(topology.nodes, begin)
        self._go_on(begun)

    def discard(self) -> None:
        """Keep nothing any more for the next `up`. What runs goes on."""
        saved = SavedLab(self.folder).read()
        for uri, kept in (saved.volumes if saved else {}).items():
            try:
                used = {volume for _, _, mark in self._domains([uri]) for volume in _volumes(mark)}
                for name, volumes in kept.items():
                    with contextlib.suppress(libvirt.libvirtError):  # a pool that is gone has no volumes
                        pool = self.hypervisor(uri).connection.storagePoolLookupByName(name)
                        _delete(pool, [volume for volume in volumes if volume not in used])
            except OvnlabError as error:
                self.note(f"what was kept of {self.folder.name} stays there: {error}")
        SavedLab(self.folder).forget()

    def _snapshot(self, domains: Sequence[tuple[str, Any]], name: str) -> None:
        """Take a snapshot of all machines at one moment. They run on in any case."""
        xml = render("libvirt/snapshot.xml.j2", name=name)

        def keep(item: tuple[str, Any]) -> None:
            with doing(f"{item[0]}: snapshot {name}"):
                item[1].snapshotCreateXML(xml)

        try:
            for node, domain in domains:
                with doing(f"{node}: pausing"):
                    domain.suspend()
            with slowly(self.reporter, f"writing the memory of machines to snapshot {name}"):
                for_each(domains, keep)
        finally:
            for_each(domains, _let_run, workers=1)

    def save(self, snapshot: str) -> None:
        """Keep memory and disks of all machines at one moment, under a name.

        Raises OvnlabError where a machine does not run or has one of that name.
        """
        domains = [(name, domain) for name, domain, _ in self._domains()]
        for name, domain in domains:
            if not domain.isActive():
                raise OvnlabError("is not running", where=name, hint="a snapshot is of all machines while they run")
            if snapshot in domain.snapshotListNames():
                hint = f"ovnlab snapshot rm {snapshot}"
                raise OvnlabError(f"there is a snapshot {snapshot} already", where=name, hint=hint)
        self._snapshot(domains, snapshot)
        set_clocks(self.nodes().values())

    def restore(self, snapshot: str) -> None:
        """Make all machines what they were. Raises UsageError where not all of them have that snapshot."""
        domains = [(name, domain) for name, domain, _ in self._domains()]
        for name, domain in domains:
            if snapshot not in domain.snapshotListNames():
                hint = f"available: {', '.join(self.snapshots()) or 'none'}"
                raise UsageError(f"{name} has no snapshot {snapshot}", hint=hint)

        def revert(item: tuple[str, Any]) -> None:
            self.keys.close(item[0])
            with doing(f"{item[0]}: snapshot {snapshot}"):
                found = item[1].snapshotLookupByName(snapshot)
                item[1].revertToSnapshot(found, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED)

        with slowly(self.reporter, f"reading the memory of machines from snapshot {snapshot}"):
            for_each(domains, revert)
        self._go_on(domains)

    def snapshots(self) -> dict[str, int]:
        """Return the snapshots that all machines have, and when each was made, in seconds since 1970."""
        found: list[dict[str, int]] = []
        for name, domain, _ in self._domains():
            with doing(f"{name}: snapshots"):
                listed = {snapshot.getName(): _made(snapshot) for snapshot in domain.listAllSnapshots()}
            made = {kept: when for kept, when in listed.items() if not kept.startswith(snapshot_of(""))}
            found.append(made)
        return {name: when for name, when in found[0].items() if all(name in made for made in found)} if found else {}

    def forget(self, snapshot: str) -> bool:
        """Remove a snapshot; whether any machine had it."""
        having = [found for found in self._domains() if snapshot in found[1].snapshotListNames()]
        for name, domain, _ in having:
            with doing(f"{name}: snapshot {snapshot}"):
                domain.snapshotLookupByName(snapshot).delete()
        return bool(having)

    def console(self, name: str) -> list[str]:
        """Return the command that shows the serial console of a machine."""
        domain = next((domain for node, domain, _ in self._domains() if node == name), None)
        if domain is None:
            raise OvnlabError("is not running", where=name, hint=f"{self.folder.up_command()} brings it back")
        return ["virsh", "--connect", domain.connect().getURI(), "console", domain.name()]

    # ── looking at it ────────────────────────────────────────────────────────────────────────────────

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return what libvirt is given, and the seeds of machines."""
        found = [(f"libvirt/{n.name}.network.xml", self._network_xml(topology, n)) for n in networks(topology)]
        for node in topology.nodes:
            domain = domain_of(topology, node, self.owner)
            if "/" not in node.machine.image or node.machine.kernel:
                domain.kernel, domain.initrd = "/KERNEL", "/INITRD"
            choose_cpu(domain, node.machine.cpu)
            found.append((f"libvirt/{domain.name}.domain.xml", self._domain_xml(topology, node, domain)))
            files = seed_files(topology, node, domain.nics, "PUBLIC-KEY", ("HOST-KEY", "PUBLIC-HOST-KEY"))
            found += [(f"libvirt/{domain.name}.seed/{name}", text) for name, text in files.items()]
        return found


def _let_run(item: tuple[str, Any]) -> None:
    """Let a machine run that is paused."""
    name, domain = item
    with doing(f"{name}: going on"):
        if domain.info()[0] == libvirt.VIR_DOMAIN_PAUSED:
            domain.resume()


def _runs(domain: Any) -> bool:
    """Return True if a machine runs: one that was left paused, half-way through something, does not."""
    return bool(domain.isActive()) and domain.info()[0] != libvirt.VIR_DOMAIN_PAUSED


def _await_banner(machine: SshMachine) -> None:
    """Wait until a machine that goes on answers. Raises Timeout."""

    def look() -> bool | None:
        return True if machine.is_listening(2, BANNER_TIMEOUT) else None

    wait_until(f"SSH on {machine.reach.host}", look, timeout=WAKING_TIMEOUT)


def _rests(domain: Any) -> str:
    """Return what became of a machine that does not answer, in a word or two."""
    if domain.isActive():
        return DOES_NOT_ANSWER if _runs(domain) else "paused"
    if domain.hasManagedSaveImage():
        return SUSPENDED
    return "crashed" if domain.info()[0] == libvirt.VIR_DOMAIN_CRASHED else "shut off"


def _made(snapshot: Any) -> int:
    """Return the creation time of a snapshot."""
    return int(ET.fromstring(snapshot.getXMLDesc()).findtext("creationTime", "0"))  # noqa: S314  libvirt's own


def _volumes(mark: ET.Element) -> list[str]:
    """Return the volumes of a machine, by its mark; libvirt takes the namespace off."""
    return [volume.text or "" for volume in mark.iter("volume")]


def _delete(pool: Any, names: Iterable[str]) -> None:
    """Delete volumes, as far as they are there."""
    there = {volume.name(): volume for volume in pool.listAllVolumes()}
    for name in names:
        if name in there:
            there[name].delete()
