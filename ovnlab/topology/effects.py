"""Effects of a topology beyond the lab: programs and files, listed before they are used, for other people's files.

A file of local nodes with packages has no such effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ovnlab.topology.resolved import DEFAULT_URI, Node, Origin, Topology

_Values = Callable[[Node], Iterable[str]]

SHOWN = 4
"""Names of nodes in a line; of more, how many there are."""


def effects(topology: Topology, folder: Path) -> Iterator[str]:
    """Yield a sentence for each effect; `folder` is that of the file, and what is outside of it is called so."""
    yield from _builds(topology, folder)
    if topology.provider in ("libvirt", "vagrant"):
        yield from _machines(topology, folder)
    if topology.provider == "ssh":
        yield from _logins(topology, folder)


def _builds(topology: Topology, folder: Path) -> Iterator[str]:
    found: dict[tuple[str, Origin, str], None] = {}
    for software in dict.fromkeys(node.software for node in topology.nodes):
        where = f"on {software.build_on}" if software.build_on else "on this machine"
        library = [("the OVS for it", software.library)] if software.library else []
        for name, origin in (("OVS", software.ovs), ("OVN", software.ovn), *library):
            if origin.is_source:
                found[name, origin, where] = None
    for name, origin, where in found:
        place = _place(origin.place, folder) if origin.kind in ("path", "tarball") else str(origin)
        yield f"builds {name} from {place}, which runs what is in it {where}"
    for flags in dict.fromkeys(node.software.cflags for node in topology.nodes if node.software.is_built):
        if flags:
            yield f"compiles with {flags}"


def _machines(topology: Topology, folder: Path) -> Iterator[str]:
    nodes = topology.nodes
    for uri, names in _grouped(nodes, lambda node: [node.machine.uri]):
        if uri != DEFAULT_URI:
            yield f"makes machines on {uri}: {names}"
    for image, names in _grouped(nodes, lambda node: [node.machine.image]):
        if "/" in image:  # others are those of `ovnlab image build`
            runs = "runs the Vagrantfile of box" if topology.provider == "vagrant" else "boots"
            yield f"{runs} {_place(image, folder)}: {names}"
    for path, names in _grouped(nodes, lambda node: [node.machine.kernel, node.machine.initrd]):
        yield f"boots {_place(path, folder)}: {names}"
    for _, names in _grouped(nodes, lambda node: [node.machine.xml]):
        yield f"adds devices of its own to machines, which may be files and devices of the hypervisor: {names}"


def _logins(topology: Topology, folder: Path) -> Iterator[str]:
    for user, names in _grouped(topology.nodes, _user):
        yield f"logs in and runs OVN as {user}: {names}"
    for key, names in _grouped(topology.nodes, lambda node: [node.machine.key]):
        yield f"uses the private key {_place(key, folder)}: {names}"
    for known, names in _grouped(topology.nodes, lambda node: [node.machine.known_hosts]):
        if not _is_own(known):
            yield f"takes host keys from {_place(known, folder)}: {names}"
    for jump, names in _grouped(topology.nodes, lambda node: [node.machine.jump]):
        yield f"logs in to {jump} on the way: {names}"
    for _, names in _grouped(topology.nodes, lambda node: ["agent"] if node.machine.agent else []):
        yield f"offers the keys of your ssh-agent: {names}"


def _user(node: Node) -> Iterable[str]:
    yield node.machine.user + (", who becomes root by sudo" if node.machine.sudo else "")


def _is_own(known_hosts: str) -> bool:
    return Path(known_hosts) == Path("~/.ssh/known_hosts").expanduser()


def _grouped(nodes: Iterable[Node], of: _Values) -> Iterator[tuple[str, str]]:
    """Yield each value with the names of the nodes that have it."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for value in filter(None, of(node)):
            found.setdefault(value, []).append(f"{node.name} ({node.machine.host})" if node.machine.host else node.name)
    for value, names in found.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield value, ", ".join(names[:SHOWN]) + more


def _place(path: str, folder: Path) -> str:
    """Return a file or URL, and whether it is outside the folder of the topology."""
    if "://" in path or not path.startswith("/") or Path(path).is_relative_to(folder):
        return path
    return f"{path} (outside {folder})"
