"""Definitions of a lab in libvirt, and the seeds of its machines. Pure: needs no hypervisor."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovnlab.errors import OvnlabError
from ovnlab.software import images
from ovnlab.templating import render
from ovnlab.topology.resolved import Node, Topology


@dataclass
class Disk:
    """A disk of a domain: a volume of the pool."""

    volume: str
    format: str = "qcow2"
    readonly: bool = False


@dataclass
class DomainNic:
    """A NIC of a domain: its name in there, and the libvirt network or the bridge that it is plugged into."""

    device: str
    mac: str
    source: str
    mtu: int = 1500
    addresses: Sequence[str] = ()
    on_bridge: bool = False


@dataclass
class Domain:
    """The values of templates/libvirt/domain.xml.j2."""

    name: str
    kind: str
    disks: list[Disk]
    nics: list[DomainNic]
    kernel: str = ""
    initrd: str = ""
    cmdline: str = f"root=/dev/vda {images.KERNEL_ARGUMENTS}"
    cpu_mode: str = ""
    cpu_model: str = ""

    @property
    def volumes(self) -> list[str]:
        """Return the volumes that are its own."""
        return [disk.volume for disk in self.disks]


@dataclass(frozen=True)
class Boot:
    """The boot files of a node on this machine: a disk, and for a direct boot a kernel and an initrd."""

    disk: Path
    base: str
    kernel: Path | None
    initrd: Path | None

    @property
    def format(self) -> str:
        """Return the format of the disk."""
        return self.base.rpartition(".")[2]

    @property
    def size(self) -> int:
        """Return bytes that the machine sees of the disk."""
        with self.disk.open("rb") as file:
            header = file.read(32)
        return int.from_bytes(header[24:32], "big") if self.format == "qcow2" else self.disk.stat().st_size


@dataclass
class LibvirtNetwork:
    """A libvirt network of a lab."""

    name: str
    bridge: str
    forward: str = ""
    mtu: int = 0
    address: str = ""
    prefix: int = 0


def boot_of(node: Node, report: Callable[[str], None]) -> Boot:
    """Return what a node boots from; what is elsewhere is brought here.

    Raises OvnlabError where there is no such image.
    """
    machine = node.machine
    own = images.find(machine.image) if "/" not in machine.image else None
    if own is None and "/" not in machine.image:
        raise OvnlabError(f"unknown image {machine.image}", where=node.name, hint=f"ovnlab image build {machine.image}")
    if "://" in machine.image:
        disk = images.fetch(machine.image, machine.sha256, report)
    else:
        disk = own.disk if own else Path(machine.image)
    try:
        with disk.open("rb") as file:
            kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    except OSError as error:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=f"{node.name}: image {disk}") from None
    kernel, initrd = Path(machine.kernel) if machine.kernel else None, Path(machine.initrd) if machine.initrd else None
    if own and kernel is None:
        kernel, initrd = own.kernel, own.initrd
    return Boot(disk, f"ovnlab-{own.key if own else images.identity(disk)}.{kind}", kernel, initrd)


def networks(topology: Topology) -> list[LibvirtNetwork]:
    """Return the libvirt networks of a lab: the one that its nodes are reached by, their underlay, and physical
    networks.
    """
    settings = topology.libvirt
    found = []
    if not settings.bridge:
        subnet = ipaddress.ip_network(settings.subnet)
        forward = {"nat": "nat", "route": "route"}.get(settings.network, "")
        own = str(subnet.network_address + 1)
        found.append(LibvirtNetwork(_network(topology), _bridge(topology), forward, 0, own, subnet.prefixlen))
    segments = ["underlay"] if any(node.ip and node.segment == "underlay" for node in topology.nodes) else []
    if spans_hypervisors(topology):
        segments = []
    for name in [*segments, *topology.physical_networks]:
        mtu = topology.underlay.mtu if topology.underlay.mtu > 1500 else 0
        found.append(LibvirtNetwork(_network(topology, name), _bridge(topology, name), mtu=mtu))
    return found


def spans_hypervisors(topology: Topology) -> bool:
    """Return True if nodes are on several hypervisors: then a bridge of these carries the underlay as well."""
    return bool(topology.libvirt.bridge) and len({node.machine.uri for node in topology.nodes}) > 1


def _network(topology: Topology, name: str = "") -> str:
    return f"ovnlab-{topology.name}" + (f"-{name}" if name else "")


def _bridge(topology: Topology, name: str = "") -> str:
    return f"ovl{hashlib.sha256(_network(topology, name).encode()).hexdigest()[:8]}"


def domain_of(topology: Topology, node: Node, owner: str) -> Domain:
    """Return the machine of a node, as far as that does not depend on the hypervisor.

    Disks may stay without a machine, so their names say whose they are: there are other labs of that name.
    """
    name = f"ovnlab-{topology.name}-{node.name}"
    whose = hashlib.sha256(owner.encode()).hexdigest()[:8]
    disks = [Disk(f"{name}-{whose}.qcow2"), Disk(f"{name}-{whose}-seed.iso", "raw", readonly=True)]
    disks += [Disk(f"{name}-{whose}-disk{number}.qcow2") for number, _ in enumerate(node.machine.disks, start=1)]
    settings = topology.libvirt
    prefix = ipaddress.ip_network(settings.subnet).prefixlen
    own = [f"{node.machine.address}/{prefix}"]
    nics = [
        DomainNic("eth0", node.machine.mac, settings.bridge or _network(topology), 1500, own, bool(settings.bridge))
    ]
    if node.ip:
        mtu = topology.underlay.mtu
        joined = node.segment == "underlay" and spans_hypervisors(topology)
        source = settings.bridge if joined else _network(topology, node.segment)
        nics.append(DomainNic("eth1", node.mac, source, mtu, [node.cidr], joined))
    nics += [DomainNic(nic.device, nic.mac, _network(topology, nic.network)) for nic in node.nics]
    return Domain(name, "qemu", disks, nics)


def choose_cpu(domain: Domain, said: str) -> None:
    """Return the CPU model: the given one, otherwise all that KVM has, or the fastest to emulate."""
    if said in ("host-passthrough", "host-model", "maximum"):
        domain.cpu_mode = said
    elif said:
        domain.cpu_model = said
    elif domain.kind == "kvm":
        domain.cpu_mode = "host-passthrough"
    elif os.uname().machine == "x86_64":
        domain.cpu_model = "qemu64"


def seed_files(
    topology: Topology, node: Node, nics: Sequence[DomainNic], authorized: str, host_key: tuple[str, str]
) -> dict[str, str]:
    """Return what the machine is: cloud-init's NoCloud data source, and a script that does the same without it."""
    settings = topology.libvirt
    subnet = ipaddress.ip_network(settings.subnet)
    joined = settings.network != "isolated" and not settings.bridge
    values = {
        "node": node,
        "hostname": node.name.replace("_", "-"),
        "nics": nics,
        "gateway": str(subnet.network_address + 1) if joined else "",
        "authorized": authorized,
        "host_key": host_key[0],
        "host_public": host_key[1],
    }
    return {
        "meta-data": f"instance-id: {topology.name}-{node.name}\nlocal-hostname: {values['hostname']}\n",
        "user-data": render("libvirt/user-data.j2", **values),
        "network-config": render("libvirt/network-config.j2", **values),
        "ovnlab.sh": render("libvirt/seed.sh.j2", **values),
    }


def seed_image(files: dict[str, str]) -> bytes:
    """Return a CD labelled cidata with these files (ISO 9660 with Rock Ridge and Joliet names)."""
    import pycdlib  # noqa: PLC0415  for new machines only

    image = pycdlib.PyCdlib()
    image.new(interchange_level=4, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, text) in enumerate(files.items()):
        content = text.encode()
        image.add_fp(io.BytesIO(content), len(content), f"/FILE{number}", rr_name=name, joliet_path=f"/{name}")
    written = io.BytesIO()
    image.write_fp(written)
    image.close()
    return written.getvalue()
