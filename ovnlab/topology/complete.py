"""Defaults for all that a file leaves open: names, addresses and MACs, always the same for the same file."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ovnlab.topology import logical, model
from ovnlab.topology.addresses import ip_of, split_port, with_length
from ovnlab.topology.inuse import InUse, Pool
from ovnlab.topology.quantities import bits, pair, seconds, share
from ovnlab.topology.resolved import (
    DEFAULT_URI,
    Check,
    Control,
    FaultCheck,
    Libvirt,
    LinkRule,
    Machine,
    Nic,
    Node,
    Origin,
    Route,
    Software,
    Topology,
    Underlay,
    free_addresses,
    generated_mac,
    interface_name,
)
from ovnlab.topology.source import Where

LARGEST_LAB = 4096
"""Machines that one network of libvirt's can have."""

COMMIT = re.compile("[0-9a-fA-F]{40}")

Place = Callable[[Where], str]
Folder = Callable[[Where], Path]


def complete(
    file: model.TopologyFile, *, default_name: str, place: Place, folder: Folder, in_use: InUse | None = None
) -> Topology:
    """Return the topology of a file that holds together (`check` found nothing in it).

    `place` says FILE:LINE:COL, `folder` what a relative path there is relative to. What is `in_use` stays where
    the file gives nothing else.
    """
    in_use = in_use or InUse()
    name = file.name or default_name
    topology = Topology(
        name=name,
        provider=file.provider,
        underlay=Underlay(subnet=file.underlay.subnet, mtu=file.underlay.mtu),
        nodes=tuple(_nodes(name, file, folder, in_use)),
        switches=(),
        routers=(),
        control=Control(
            tls=file.tls,
            monitor_all=file.control.monitor_all,
            northd_threads=file.control.northd_threads,
            probe_interval=_probe_interval(file),
            election_timer=file.control.election_timer,
        ),
        physical_networks=tuple(file.physical_networks),
        checks=tuple(_check(check) for check in file.checks if check.fault is None),
        fault_checks=tuple(_fault_check(check) for check in file.checks if check.fault is not None),
        libvirt=_libvirt(name, file.libvirt) if file.provider in ("libvirt", "vagrant") else Libvirt(),
    )
    topology = replace(topology, links=tuple(_links(file, topology)))
    return logical.complete(topology, file, place, in_use)


def split_link(text: str) -> tuple[list[str], str]:
    """Return the nodes of a link, and the device of a single one; empty for the first that it has.

    >>> split_link("worker1:eth2"), split_link("worker1 worker2")
    ((['worker1'], 'eth2'), (['worker1', 'worker2'], ''))
    """
    names = text.split()
    if len(names) != 1:
        return names, ""
    name, _, device = names[0].partition(":")
    return [name], device


def devices_of(node: Node) -> list[str]:
    """Return the NICs of a node, that of the underlay first."""
    return [*(["eth1"] if node.ip else []), *(nic.device for nic in node.nics)]


QUANTITIES = {
    "delay": seconds, "jitter": seconds, "loss": share, "duplicate": share, "reorder": share, "rate": bits,
}  # fmt: skip
"""How values of a link are read."""


def _links(file: model.TopologyFile, topology: Topology) -> Iterator[LinkRule]:
    for text, link in file.links.items():
        names, device = split_link(text)
        nodes = [found for name in names if (found := topology.node(name)) is not None]
        values = {key: read(getattr(link, key)) for key, read in QUANTITIES.items() if getattr(link, key) is not None}
        if len(nodes) == 1:
            device = device or next(iter(devices_of(nodes[0])), "")
            yield replace(LinkRule(nodes[0].name, device, link.direction, down=link.down), **values)
        elif len(nodes) == 2:
            if link.down:
                values = {"loss": 1.0}
            for node, other in (nodes, reversed(nodes)):
                yield replace(LinkRule(node.name, "eth1", "in", peers=(other.mac,)), **values)


def software(
    found: model.Software | None, folder: Folder, where: Where = ("software",), lab: Software | None = None
) -> Software:
    """Return what a lab or a node runs; what is left out is as `lab` has it."""
    lab = lab or Software()
    if found is None:
        return lab
    if isinstance(found, str):
        return Software(Origin(found), Origin(found))
    given = found.model_fields_set

    def origin(key: str, value: model.Origin | str | None) -> Origin | None:
        if not isinstance(value, model.Origin):
            return Origin(value) if value else None
        for kind in ("git", "tarball", "path"):
            if place := getattr(value, kind):
                if kind == "path" or (kind == "tarball" and "://" not in place) or place.startswith(("/", ".", "~")):
                    home = os.path.expanduser(place)  # noqa: PTH111  Path.expanduser raises for users that are not
                    place = os.path.normpath(folder((*where, key, kind)) / home)
                ref = value.ref or ""
                return Origin(kind, place, ref.lower() if COMMIT.fullmatch(ref) else ref, value.sha256 or "")
        return Origin("distro")

    return Software(
        ovs=(origin("ovs", found.ovs) if "ovs" in given else None) or lab.ovs,
        ovn=(origin("ovn", found.ovn) if "ovn" in given else None) or lab.ovn,
        library=origin("ovn_library", found.ovn_library) if given & {"ovn_library", "ovn"} else lab.library,
        profile=found.profile if "profile" in given else lab.profile,
        cflags=(found.cflags or "") if given & {"cflags", "profile"} else lab.cflags,
        build_on=(found.build_on or "") if "build_on" in given else lab.build_on,
    )


def _nodes(lab: str, file: model.TopologyFile, folder: Folder, in_use: InUse) -> Iterator[Node]:
    common = software(file.software, folder)
    chassis = [node.encap or file.encap for node in file.nodes.values() if is_chassis(node)]
    encaps = tuple(encap for encap in ("geneve", "vxlan") if encap in chassis)
    pools = _pools(file, in_use)
    managed: Iterator[str] = iter(())
    if file.provider == "libvirt":
        managed = _managed(management_subnet(lab, file.libvirt), file.nodes, in_use.machines)
    for name, node in file.nodes.items():
        nics = tuple(_nics(lab, name, node, file, pools))
        subnet = ipaddress.ip_network(segment_subnet(file, node))
        wants_address = node.role != "host"
        yield Node(
            name=name,
            role=node.role,
            chassis=is_chassis(node),
            ip=node.ip or (pools[str(subnet)].give(name) if wants_address else ""),
            prefix_length=subnet.prefixlen,
            mac=generated_mac(lab, name, prefix="52:54:00"),
            encaps=(node.encap or file.encap,) if node.encap or len(encaps) < 2 else encaps,
            segment=node.underlay or "underlay",
            zone=node.zone or "",
            transport_zones=tuple(sorted(set(node.transport_zones))),
            bfd=node.bfd,
            external_ids=tuple(node.external_ids.items()),
            nics=nics,
            routes=tuple(Route(route.prefix, tuple(route.nexthop)) for route in node.routes),
            software=software(node.software, folder, ("nodes", name, "software"), common),
            datapath="system" if datapath_of(file) == "kernel" else "netdev",
            machine=machine(lab, name, file, node, folder, next(managed, "")),
        )


def datapath_of(file: model.TopologyFile) -> str:
    """Return what OVS's datapath is: the kernel's on machines, where nothing is said."""
    if file.datapath != "auto":
        return file.datapath
    return "netdev" if file.provider == "local" else "kernel"


def management_subnet(lab: str, libvirt: model.Libvirt) -> str:
    """Return the subnet that ovnlab reaches libvirt's machines in: always the same for the same lab."""
    if libvirt.subnet:
        return libvirt.subnet
    number = int.from_bytes(hashlib.sha256(lab.encode()).digest()[:2], "big") & 0x3FFF
    return f"10.{64 + (number >> 8)}.{number & 0xFF}.0/24"


def _managed(subnet: str, names: Collection[str], kept: Mapping[str, str]) -> Iterator[str]:
    """Yield an address for each name, which stays the same when others come and go."""
    pool = list(itertools.islice(free_addresses(subnet, ()), LARGEST_LAB))
    places = {address: place for place, address in enumerate(pool)}
    staying = {name: places[kept[name]] for name in names if kept.get(name) in places}
    taken = set(staying.values())
    for name in names:
        if name in staying:
            yield pool[staying[name]]
            continue
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % max(len(pool), 1)
        while place in taken and len(taken) < len(pool):
            place = (place + 1) % len(pool)
        taken.add(place)
        yield pool[place] if place < len(pool) else ""


def _libvirt(lab: str, found: model.Libvirt) -> Libvirt:
    return Libvirt(found.pool, found.network, management_subnet(lab, found), found.bridge or "", found.accelerate)


def machine(lab: str, name: str, file: model.TopologyFile, node: model.Node, folder: Folder, address: str) -> Machine:
    """Return what a node is made of and how it is reached; what it does not say is as in `machines`."""
    if file.provider == "local":
        return Machine()

    def said(key: str) -> Any:
        return getattr(node if key in node.model_fields_set else file.machines, key)

    def path(key: str) -> str:
        place = said(key) or ""
        where = ("nodes", name, key) if key in node.model_fields_set else ("machines", key)
        if not place or "://" in place or (key == "image" and is_name(place)):
            return str(place)
        home = os.path.expanduser(place)  # noqa: PTH111  Path.expanduser raises for users that are not
        return os.path.normpath(folder(where) / home)

    def is_name(image: str) -> bool:
        if file.provider == "vagrant":  # boxes have names such as debian/bookworm64
            return not image.startswith(("/", ".", "~")) and not image.endswith(".box")
        return "/" not in image and "." not in image

    user = said("user") or "root"
    return Machine(
        cpus=said("cpus") or 1,
        memory=_mebibytes(said("memory") or "512M"),
        disk=_mebibytes(said("disk") or "0M"),
        disks=tuple(map(_mebibytes, said("disks"))),
        image=(path("image") or "debian") if file.provider != "ssh" else "",
        sha256=said("sha256") or "",
        kernel=path("kernel"),
        initrd=path("initrd"),
        cpu=said("cpu") or "",
        type=said("machine") or "",
        xml=said("xml") or "",
        uri=said("uri") or DEFAULT_URI,
        address=address,
        mac=generated_mac(lab, name, "management", prefix="52:54:00"),
        host=(said("host") or node.ip or "") if file.provider == "ssh" else "",
        user=user,
        port=said("port") or 22,
        key="" if by_password(file, node) else path("key"),
        agent=said("agent") or False,
        password=by_password(file, node),
        known_hosts=path("known_hosts") or os.path.expanduser("~/.ssh/known_hosts"),  # noqa: PTH111  as above
        adopt=said("adopt"),
        jump=said("jump") or "",
        sudo=user != "root" if said("sudo") is None else said("sudo"),
    )


def _mebibytes(amount: str) -> int:
    """Return an amount of memory in MiB.
    >>> _mebibytes("2G")
    2048
    """
    return int(amount[:-1]) * (1024 if amount[-1] == "G" else 1)


def _probe_interval(file: model.TopologyFile) -> int:
    """Return the inactivity probe's interval: long, but short where another server can take over from a dead one."""
    if file.control.probe_interval is not None:
        return file.control.probe_interval
    zones = [node.zone for node in file.nodes.values() if node.role == "central"]
    several = len(zones) > len(set(zones)) or any(node.role == "relay" for node in file.nodes.values())
    return 10_000 if several else 180_000


def is_chassis(node: model.Node) -> bool:
    """Return True if a node runs an ovn-controller."""
    return node.role in ("worker", "gateway") or (node.role == "central" and node.chassis)


def segment_subnet(file: model.TopologyFile, node: model.Node) -> str:
    """Return the subnet of the network that is a node's underlay."""
    return file.physical_networks[node.underlay].subnet[0] if node.underlay else file.underlay.subnet


def _pools(file: model.TopologyFile, in_use: InUse) -> Mapping[str, Pool]:
    """Return the free addresses of each subnet that nodes can be in."""
    taken = {node.ip for node in file.nodes.values() if node.ip}
    taken.update(ip for node in file.nodes.values() for ips in node.physical.values() for ip in ips if ip != "dhcp")
    taken.update(logical.given_addresses(file.logical))
    kept: dict[str, tuple[str, ...]] = {}
    for name, node in file.nodes.items():
        if not node.ip and node.role != "host" and name in in_use.nodes:
            kept[name] = (in_use.nodes[name],)
        for network, given in node.physical.items():
            if node.role == "host" and not given:
                kept[f"{name} {network}"] = tuple(map(ip_of, in_use.nics.get((name, network), ())))
    subnets = {file.underlay.subnet, *(subnet for net in file.physical_networks.values() for subnet in net.subnet)}
    return {subnet: Pool(subnet, taken, kept, in_use.taken) for subnet in subnets}


def _nics(lab: str, name: str, node: model.Node, file: model.TopologyFile, pools: Mapping[str, Pool]) -> Iterator[Nic]:
    for number, (network_name, given) in enumerate(node.physical.items(), start=2):
        network = file.physical_networks[network_name]
        asks = "dhcp" in given
        ips = [ip for ip in given if ip != "dhcp"]
        if node.role == "host" and not given:
            ips = [pools[subnet].give(f"{name} {network_name}") for subnet in network.subnet]
        own = nic_of(file, node, network_name) if file.provider == "ssh" else None
        yield Nic(
            network=network_name,
            device=own or f"eth{number}",
            mac="" if own else generated_mac(lab, name, network_name, prefix="52:54:00"),
            addresses=tuple(with_length(ip, network.subnet) for ip in ips),
            bridge="" if node.role == "host" else bridge_of(network_name, network),
            chassis_mac=generated_mac(lab, name, network_name, "chassis")
            if network.chassis_macs and is_chassis(node)
            else "",
            dhcp=asks,
        )


def by_password(file: model.TopologyFile, node: model.Node) -> bool:
    """Return True if a machine is entered with a password first; what the node itself says counts."""
    return node.password or (file.machines.password and node.key is None and "password" not in node.model_fields_set)


def nic_of(file: model.TopologyFile, node: model.Node, network: str) -> str | None:
    """Return the NIC of an existing machine on a physical network, None where the file does not name one."""
    return node.nics.get(network) or file.machines.nics.get(network)


def bridge_of(name: str, network: model.PhysicalNetwork) -> str:
    """Return the bridge that carries a physical network on chassis."""
    return network.bridge or interface_name(f"br-{name}")


def _fault_check(check: model.Check) -> FaultCheck:
    then = check.then or model.Outcome()
    return FaultCheck(
        fault=tuple(shlex.split(check.fault or "")),
        traffic=pair(check.traffic) if check.traffic else (),
        lost_within=seconds(check.lost_within) if check.lost_within else -1.0,
        gateway=then.gateway or "",
        leader=then.leader or "",
        check=_check(check) if check.ping is not None or check.tcp is not None else None,
    )


def _check(check: model.Check) -> Check:
    assert check.source is not None  # noqa: S101  the grammar asks for it
    if check.ping is not None:
        return Check("ping", check.source, check.ping, 0, check.expect)
    host, port = split_port(check.tcp or "")
    return Check("tcp", check.source, host, port, check.expect)
