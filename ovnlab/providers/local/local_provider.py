"""The local provider: a lab inside its own namespaces, each node in further ones.

One holder process per lab owns a network, mount, PID, UTS and IPC namespace (and a user namespace where
the user is not root). When it ends, the kernel ends and removes all that is in them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from ovnlab import deliberate
from ovnlab.deliberate import LinkState
from ovnlab.errors import HostRequirementError, OvnlabError
from ovnlab.nodes.context import ProcessContext
from ovnlab.ovsdb.client import connect
from ovnlab.providers.local import isolation, processes
from ovnlab.providers.local.namespace_context import context_in, enter
from ovnlab.state import Base, LabFolder, cache_root, clear_folder, remove_tree
from ovnlab.tasks.script import run_script, tail
from ovnlab.templating import render
from ovnlab.topology import resolved
from ovnlab.topology.resolved import Topology, interface_name
from ovnlab.waiting import now_ns, wait_until

SYSTEM_PYTHON = "/usr/bin/python3"
END_TIMEOUT = 10.0

MOST_OF_A_LOG, KEPT_OF_A_LOG = 16, 4
"""MiB that a log may have, and that are kept of one that has more."""

LOG_INTERVAL = 600
"""Seconds between two looks at the logs of a lab that is up."""

LARGEST_MTU = 65521


class LocalNode(msgspec.Struct, frozen=True, dict=True):
    """A node held by process `pid`."""

    name: str
    pid: int

    @cached_property
    def context(self) -> ProcessContext:
        """Return a context that runs commands in the node."""
        return context_in(self.pid)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the nsenter that runs `argv` in the node."""
        return enter(self.pid, argv)

    def connect(self, path: str) -> socket.socket | None:
        """Return a connection to a UNIX socket of the node, None where nobody listens."""
        return connect(Path(f"/proc/{self.pid}/root{path}"))


PROGRAMS = {
    "local/bin/tcpdump": "local/tcpdump.py.j2",
    "share/openvswitch/scripts/ovs-ctl": "local/ovs-ctl.sh.j2",
}
"""What nodes see below /usr in place of the ordinary programs."""


ENDING = 10.0
"""Seconds in which the kernel ends a lab whose holder was killed."""


class LocalProvider:
    """A provider of one lab in namespaces of this machine."""

    def __init__(self, folder: LabFolder, base: Base | None = None) -> None:
        self.folder = folder
        self.base = base

    @property
    def _script(self) -> str:
        return str(self.folder.path / "node.sh")

    @property
    def _builds(self) -> Path:
        """Return what nodes see as /opt/ovnlab/builds."""
        return cache_root() / "builds"

    def _lab_init(self) -> int | None:
        """Return the lab's PID 1 as this machine numbers it; None where the lab is not up."""
        if not self._is_held():
            return None
        script = str(self.folder.path / "lab.sh")
        holder = self._holder()
        candidates = processes.children(holder) if holder else processes.find(script)
        return next((pid for pid in candidates if script in processes.arguments(pid)), None)

    def _holder(self) -> int | None:
        """Return the process number that the holder wrote down; None where that file is lost."""
        try:
            return int((self.folder.path / "holder.pid").read_text())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            return None

    def _is_held(self) -> bool:
        """Return True if a holder lives. It inherits a lock, so there is no process number to mistake."""
        try:
            descriptor = os.open(self.folder.path / "holder.lock", os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            # Somebody removed it: then only a look at all processes tells. PID 1 has no arguments any more while the
            # kernel ends what is below it; who started it waits for it.
            script = str(self.folder.path / "lab.sh")
            return self.folder.exists() and bool(processes.starters(script) or processes.find(script))
        try:
            # Shared: two that look at once must not take each other for the holder.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _is_ending(self) -> bool:
        """Return True once a holder that has no lab has gone, as one whose `up` was killed; False where it has one."""

        def look() -> bool | None:
            return False if self._lab_init() is not None else True if not self._is_held() else None

        return wait_until("the end of what holds the lab", look, timeout=ENDING)

    def is_up(self) -> bool:
        """Return True if the lab's holder lives."""
        return self._is_held()

    def pids(self) -> dict[str, int]:
        """Return the PID 1 of each node that is alive, as this machine numbers it."""
        init = self._lab_init()
        return dict(processes.node_inits(init, self._script)) if init else {}

    def running(self) -> frozenset[str]:
        """Return the names of the nodes that are alive."""
        return frozenset(self.pids())

    def active(self) -> frozenset[str]:
        """Return the names of the nodes that are alive: a process that is there is switched on."""
        return self.running()

    def defined_nodes(self) -> frozenset[str]:
        """Return the names of the nodes that have files."""
        folder = self.folder.path / "nodes"
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    def stopped_reasons(self, names: Collection[str]) -> dict[str, str]:
        """Return nothing: of processes that do not run, no more is known."""
        del names
        return {}

    def nodes(self) -> dict[str, LocalNode]:
        """Return the nodes that are alive, by name."""
        return {name: LocalNode(name, pid) for name, pid in sorted(self.pids().items())}

    def node(self, name: str) -> LocalNode:
        """Return a running node. Raises OvnlabError where it is not running."""
        found = self.nodes().get(name)
        if found is None:
            raise OvnlabError("is not running", where=name, hint=f"{self.folder.up_command()} brings it back")
        return found

    def add(self, topology: Topology, names: Sequence[str]) -> None:
        """Make nodes, and the lab around them where it is not there."""
        self._write_files(topology, names)
        if not self._is_held() or self._is_ending():
            if not names:
                return
            self._start_holder(topology)
        self._show_builds()
        init = self._lab_init()
        if init is None:
            hint = f"{self.folder.up_command()} starts it again"
            raise OvnlabError("the lab ended while nodes were being added", where=self.folder.name, hint=hint)
        script = self._nodes_script(topology, names, here=[*names, *self.pids()])
        try:
            run_script(context_in(init), script, where=f"{self.folder.name}: adding nodes")
        except OvnlabError as error:
            error.detail = self._node_logs(names) or error.detail
            error.hint = error.hint or f"{self.folder.up_command()} starts it again"
            raise
        self.shape(topology)

    def misshapen(self, topology: Topology) -> frozenset[tuple[str, str]]:
        """Return the node and device of each link with another relay than it should have."""
        init = self._lab_init()
        found = {argv[4]: argv[5] for argv in _relays(init).values()} if init else {}
        wanted = deliberate.links(topology, deliberate.active(self.folder))
        alive = self.running()
        return frozenset(
            place
            for place, link in _places(topology).items()
            if place[0] in alive and found.get(link.name, "") != _rules(wanted.get(place, LinkState()))
        )

    def shape(self, topology: Topology) -> None:
        """Make all links what the topology and the lab's faults say, and the others ordinary ones."""
        init = self._lab_init()
        if init is None:
            return
        wanted = deliberate.links(topology, deliberate.active(self.folder))
        before = deliberate.links(topology, deliberate.stored(self.folder))
        if not (wanted or before or _relays(init)):
            return

        def run(**values: object) -> None:
            script = render("local/links.sh.j2", turn=turn, **{**nothing, **values})
            run_script(context_in(init), script, where=f"{self.folder.name}: changing links")

        turn = f"{os.getpid()}.{now_ns()}"
        nothing: dict[str, object] = {"begins": False, "plain": (), "standing": (), "relayed": ()}
        run(begins=True)
        relays = _relays(init)
        plain, relayed, standing, kept = [], [], [], set()
        for place, link in _places(topology).items():
            state = wanted.get(place, LinkState())
            mine = {pid: argv for pid, argv in relays.items() if argv[4] == link.name}
            values = {"name": link.name, "bridge": link.bridge, "down": state.down, "relay": _relay(link.name)}
            if state.inward or state.outward:
                rules = _rules(state)
                same = {pid for pid, argv in mine.items() if argv[5] == rules}
                kept |= same
                if same:
                    standing.append(values)  # what its relay does stays; whether it has a carrier is not of the rules
                else:
                    relayed.append({**values, "rules": rules})
            elif mine or place in before:
                plain.append(values)
        if plain or standing:
            run(plain=plain, standing=standing)

        def end_others() -> bool | None:
            others = _relays(init).keys() - kept
            for pid in others:
                processes.kill(pid)
            return None if others else True

        wait_until("the end of relays", end_others, timeout=END_TIMEOUT)
        if relayed:
            run(relayed=relayed, mtu=LARGEST_MTU, python=_python_of_nodes())

    def deliver(self, builds: Mapping[str, str]) -> None:
        """Do nothing: nodes see this machine's folder of builds."""

    def _show_builds(self) -> None:
        """Let nodes that run see the folder of builds, where that is another one than when the lab began."""
        here = self._builds.stat()
        for node in self.nodes().values():
            try:
                there = Path(f"/proc/{node.pid}/root/opt/ovnlab/builds").stat()
            except FileNotFoundError:  # it has ended just now
                continue
            init = self._lab_init()
            if init is not None and (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                script = render("local/builds.sh.j2", builds=self._builds)
                run_script(context_in(init), script, where=f"{self.folder.name}: mounting {self._builds}")
            return

    def _nodes_script(self, topology: Topology, names: Sequence[str], *, here: Sequence[str]) -> str:
        nodes = [
            {"name": node.name, "logs": str(self.folder.node_logs(node.name)), "links": _links(node)}
            for node in topology.nodes
            if node.name in here
        ]
        bridges = [_bridge(network) for network in topology.physical_networks]
        wired = [*bridges, *(link.name for node in topology.nodes for link in _links(node))]
        wanted = deliberate.links(topology, deliberate.active(self.folder))
        return render(
            "local/nodes.sh.j2",
            folder=self.folder.path,
            nodes=nodes,
            new=names,
            bridges=bridges,
            wired=wired,
            cut=[(node, device) for (node, device), state in wanted.items() if state.down],
            relays={place: _relay(link.name) for place, link in _places(topology).items() if place in wanted},
        )

    def _node_logs(self, names: Sequence[str]) -> str:
        paths = (self.folder.node_logs(name) / "node.log" for name in names)
        return "\n".join(tail(path.read_text(errors="replace")) for path in paths if path.exists()).strip()

    def _write_files(self, topology: Topology, names: Sequence[str]) -> None:
        """Write the files that are mounted over the nodes' own."""
        places = [str(self.folder.path), str(cache_root())]
        for place in places:
            if odd := sorted(set(place) & set(':,\\"')):
                hint = "choose other folders with XDG_STATE_HOME and XDG_CACHE_HOME"
                raise HostRequirementError(
                    f"overlay mounts cannot have {' '.join(odd)} in a path", where=place, hint=hint
                )
        for name in names:
            own, logs = self.folder.node(name), self.folder.node_logs(name)
            for part in ("etc/openvswitch", "etc/ovn", "lib/openvswitch", "lib/ovn", "opt/machine"):
                (own / part).mkdir(parents=True, exist_ok=True)
            for part in ("openvswitch", "ovn"):
                (logs / part).mkdir(parents=True, exist_ok=True)
            (own / "etc/hostname").write_text(f"{name}\n")
            builds = own / "opt/builds"
            if not builds.is_symlink():
                if builds.exists():  # of a lab that an earlier ovnlab made
                    builds.rmdir()
                builds.symlink_to("machine/builds")
            for path in (own, logs):
                isolation.give(path)
        for path in (self.folder.path / "opt/ovnlab", self._builds):
            path.mkdir(parents=True, exist_ok=True)
        # In place: nodes that are running have this very file mounted.
        (self.folder.path / "hosts").write_text(hosts(topology))
        for title, text in self._scripts(topology):
            (self.folder.path / title).write_text(text)
        for place, template in PROGRAMS.items():
            program = self.folder.path / "usr" / place
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(render(template, python=_python_of_nodes()))
            program.chmod(0o755)
        isolation.open_to_lab(self.folder)

    def _scripts(self, topology: Topology) -> list[tuple[str, str]]:
        values = {
            "name": topology.name,
            "folder": self.folder.path,
            "rootless": os.geteuid() != 0,
            "tree": self.base.tree if self.base else None,
            "builds": self._builds,
            "most_of_a_log": MOST_OF_A_LOG,
            "kept_of_a_log": KEPT_OF_A_LOG,
            "log_interval": LOG_INTERVAL,
            **isolation.values(self.folder, self._builds),
        }
        return [(name, render(f"local/{name}.j2", **values)) for name in ("holder.sh", "lab.sh", "node.sh")]

    def _start_holder(self, topology: Topology) -> None:
        """Start the holder, which inherits the lock that says it lives, and wait for its `ready`."""
        from ovnlab import doctor  # noqa: PLC0415  for who makes a lab

        doctor.require(doctor.tun())
        log = self.folder.logs / "lab.log"
        for name in ("holder.pid", "holder.lock"):
            clear_folder(self.folder.path / name)
        (self.folder.path / "holder.pid").unlink(missing_ok=True)
        descriptor = os.open(self.folder.path / "holder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            wait_until("the lab's lock", lambda: _try_flock(descriptor), timeout=END_TIMEOUT)
            with log.open("wb") as errors:
                starting = subprocess.Popen(
                    ["setsid", "--fork", "sh", str(self.folder.path / "holder.sh")],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=[descriptor],
                    cwd="/",
                )
        finally:
            os.close(descriptor)
        assert starting.stdout is not None  # noqa: S101  it is a pipe
        with starting.stdout:
            answer = starting.stdout.readline()
        starting.wait()
        if answer == b"ready\n":
            return
        from ovnlab import doctor  # noqa: PLC0415  for who makes a lab

        doctor.require(doctor.namespaces())
        detail = tail(log.read_text(errors="replace"))
        raise HostRequirementError(
            "the lab's namespaces could not be made",
            where=topology.name,
            detail=detail,
            hint="`ovnlab doctor` says what this machine lacks",
        )

    def remove(self, names: Sequence[str]) -> None:
        """End nodes and remove what they wrote."""
        self.stop(names)
        for name in names:
            remove_tree(self.folder.node(name))

    def stop(self, names: Sequence[str]) -> None:
        """End nodes and leave what they wrote."""
        if not names:
            return
        pids = self.pids()
        for name in names:
            if name in pids:
                processes.kill(pids[name])
        init = self._lab_init()
        if init is not None:
            gone = lambda: True if not self.running() & set(names) else None  # noqa: E731
            wait_until(f"the end of {', '.join(names)}", gone, timeout=END_TIMEOUT)
            script = render(
                "local/remove.sh.j2",
                nodes=[{"name": name, "link": interface_name(name), "stem": _stem(name)} for name in names],
            )
            run_script(context_in(init), script, where=f"{self.folder.name}: removing nodes")

    def destroy(self) -> None:
        """End the lab and remove its files; its logs stay."""
        wait_until(f"the end of lab {self.folder.name}", self._end, timeout=END_TIMEOUT)
        self.folder.remove()

    def _end(self) -> bool | None:
        """Try to end the lab, and return True once nothing of it lives.

        PID 1 is killed rather than the holder, which waits for it: when the holder has ended, so has
        everything else.
        """
        if not self._is_held():
            return True
        holder = self._holder()
        found = processes.find(str(self.folder.path / "lab.sh"))
        for pid in found or ([holder] if holder else []):
            processes.kill(pid)
        return None

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return the scripts that make the lab's namespaces."""
        names = [node.name for node in topology.nodes]
        return [
            *((f"local/{title}", text) for title, text in self._scripts(topology)),
            ("local/nodes.sh", self._nodes_script(topology, names, here=names)),
        ]


def _python_of_nodes() -> str:
    """Return a Python that nodes see: the one that runs this where it is below /usr or /opt."""
    found = os.path.realpath(sys.executable)
    return found if found.startswith(("/usr/", "/opt/")) and " " not in found and len(found) < 100 else SYSTEM_PYTHON


RELAY = "ovnlab-relay"
"""The word that marks the process of a relay (templates/local/relay.py.j2)."""


def _relays(init: int) -> dict[int, list[str]]:
    """Return the relays of a lab, each with its command line."""
    return {pid: argv for pid in processes.children(init) if RELAY in (argv := processes.arguments(pid))}


def _relay(link: str) -> str:
    """Return the bridge of a link's relay: no node and no NIC can have such a name."""
    return f"+{hashlib.sha256(link.encode()).hexdigest()[:10]}"


def _rules(state: LinkState) -> str:
    """Return what a relay is told, empty where none is needed."""
    if not state.inward and not state.outward:
        return ""
    return msgspec.json.encode({"in": state.inward, "out": state.outward}).decode()


def _try_flock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def hosts(topology: Topology) -> str:
    """Return /etc/hosts for every node."""
    addresses = ((node.addresses, node.name) for node in topology.nodes)
    return render("node/hosts.j2", nodes=[(found[0], name) for found, name in addresses if found])


class _Link(msgspec.Struct, frozen=True):
    """A veth: its end in the lab, what that is plugged into, its end in a node, and its MTU in bytes."""

    name: str
    bridge: str
    device: str
    mtu: int


def _links(node: resolved.Node) -> list[_Link]:
    """Return a node's NICs: eth1 on its underlay, the others on physical networks."""
    own = interface_name(node.name)
    segment = "underlay" if node.segment == "underlay" else _bridge(node.segment)
    first = [_Link(own, segment, "eth1", LARGEST_MTU)] if node.ip else []
    stem = _stem(node.name)
    return [*first, *(_Link(f"{stem}~{nic.device}", _bridge(nic.network), nic.device, 1500) for nic in node.nics)]


def _places(topology: Topology) -> dict[tuple[str, str], _Link]:
    """Return the links of all nodes, by node and device."""
    return {(node.name, link.device): link for node in topology.nodes for link in _links(node)}


def _stem(name: str) -> str:
    """Return what the links of a node's further NICs begin with: its name, or a hash of it where that is too long."""
    return name if len(name) <= 9 else hashlib.sha256(name.encode()).hexdigest()[:9]


def _bridge(network: str) -> str:
    """Return the bridge that is a physical network: no node and no NIC can have such a name."""
    return interface_name(f"~{network}")
