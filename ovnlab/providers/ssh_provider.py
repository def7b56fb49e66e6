"""Nodes as machines that are there already, reached by SSH.

What a host was like is written down on it before anything is changed, and is put back when it leaves the lab.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ovnlab.atomic_write import write_whole
from ovnlab.errors import CommandFailed, LoginRefused, OvnlabError
from ovnlab.parallel import Gate, for_each
from ovnlab.providers.base import DOES_NOT_ANSWER
from ovnlab.providers.delivery import deliver
from ovnlab.providers.ssh_machine import INSTALL_TIMEOUT, MEETING, SshKeys, SshMachine, answering, introduce, owner_of
from ovnlab.providers.ssh_target import SshTarget
from ovnlab.reporting import Reporter, slowly
from ovnlab.state import LabFolder
from ovnlab.tasks.daemons import ROUTE_PROTOCOL
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Node, Topology

if TYPE_CHECKING:
    from ovnlab.providers.fabric_connection import RootConnection

NOTES = "ssh.json"
"""The file of the lab's folder that says which hosts were taken into it."""

SAID_BY = "OVNLAB_SSH_PASSWORD"
"""The variable with the password of hosts that are entered with one."""

KEYS = (
    "system-id", "hostname", "ovn-remote", "ovn-encap-type", "ovn-encap-ip", "ovn-bridge", "ovn-bridge-datapath-type",
    "ovn-remote-probe-interval", "ovn-transport-zones", "ovn-monitor-all", "ovn-bridge-mappings",
    "ovn-chassis-mac-mappings", "ovn-cms-options", "ovn-is-interconn", "ovnlab",
)  # fmt: skip
"""The external_ids that a lab sets on a host; a test holds them to those of tasks.daemons."""


class HostRecord(msgspec.Struct, frozen=True):
    """A host that something may have been done to, as it was reached then, and whether it was taken into the lab."""

    node: Node
    taken: bool


class SshProvider:
    """The hosts of one lab."""

    def __init__(self, folder: LabFolder, topology: Topology | None, reporter: Reporter) -> None:
        self.folder = folder
        self.topology = topology
        self.reporter = reporter
        self.note = reporter.note
        self.keys = SshKeys(folder)
        self._machines: dict[str, SshMachine] = {}
        self._answering: dict[str, bool] = {}
        self._noting = threading.Lock()
        self._asking = threading.Lock()
        self._told: str | None = None
        self._gate = Gate()

    @property
    def owner(self) -> str:
        """Return what a host is told of whose it is: the lab, and who has it where."""
        identity = f"{self.folder.name} of user {os.geteuid()} on {socket.gethostname()} {self.folder.path}"
        return owner_of(self.folder, identity)

    def _noted(self) -> dict[str, HostRecord]:
        """Return what was done to hosts, by the names of their nodes."""
        try:
            return msgspec.json.decode((self.folder.path / NOTES).read_bytes(), type=dict[str, HostRecord])
        except (OSError, msgspec.DecodeError):
            return {}

    def _note(self, node: Node, *, taken: bool | None) -> None:
        """Note what was done to a host; None where all of it was undone."""
        with self._noting:
            noted = self._noted()
            noted.pop(node.name, None)
            if taken is not None:
                noted[node.name] = HostRecord(node, taken)
            write_whole(self.folder.path / NOTES, msgspec.json.encode(noted))

    def defined_nodes(self) -> frozenset[str]:
        """Return the nodes whose hosts something may have been done to."""
        return frozenset(self._noted())

    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.topology.nodes} if self.topology else {}

    def is_up(self) -> bool:
        """Return True if any host of the lab answers."""
        return bool(self.running())

    def running(self) -> frozenset[str]:
        """Return the hosts that were taken and answer."""
        noted = self._noted()
        taken = [
            node
            for name, node in self._nodes().items()
            if name in noted and noted[name].taken and noted[name].node.hardware == node.hardware
        ]
        self._answering |= answering(self._machine(node) for node in taken if node.name not in self._answering)
        return frozenset(node.name for node in taken if self._answering[node.name])

    def active(self) -> frozenset[str]:
        """Return the hosts that were taken and answer: whether others are on takes seconds to find out."""
        return self.running()

    def stopped_reasons(self, names: Collection[str]) -> dict[str, str]:
        """Return hosts are not ours to switch off: one that was taken may be silent, and that is all that is known."""
        noted = self._noted()
        return {name: DOES_NOT_ANSWER for name in names if name in noted and noted[name].taken}

    def nodes(self) -> dict[str, SshMachine]:
        """Return the hosts that were taken and answer, by name."""
        running = self.running()
        return {name: self._machine(node) for name, node in self._nodes().items() if name in running}

    def node(self, name: str) -> SshMachine:
        """Return a host that answers. Raises OvnlabError where it does not."""
        found = self.nodes().get(name)
        if found is None:
            raise OvnlabError(
                "does not answer, or is not part of the lab",
                where=name,
                hint=f"{self.folder.up_command()} tries it again",
            )
        return found

    def _machine(self, node: Node) -> SshMachine:
        if node.name not in self._machines:
            self._machines[node.name] = SshMachine(node.name, self._reach(node), self.keys.config)
        return self._machines[node.name]

    def _reach(self, node: Node) -> SshTarget:
        return reach_of(node, self.keys.private)

    def add(self, topology: Topology, names: Sequence[str]) -> None:
        """Take hosts into the lab. Raises OvnlabError for one that has bridges of its own, or is in another lab."""
        self.topology = topology
        self.keys.write_config(topology, {node.name: self._reach(node) for node in topology.nodes})
        nodes = [node for node in topology.nodes if node.name in names]
        install = topology.base == "packages"

        self._gate = gate = Gate()
        self._let_in(nodes, gate)

        def take(node: Node) -> None:
            machine = self._machine(node)
            machine.root.open()
            # Noted before it is taken, so that `down` looks there, whatever happens meanwhile.
            with gate:
                self._note(node, taken=False)
            script = render("node/take-host.sh.j2", node=node, owner=self.owner, install=install)
            where = f"{node.name} ({node.machine.host})"
            run_script(machine.context, script, where=where, timeout=INSTALL_TIMEOUT)
            self._note(node, taken=True)

        with slowly(self.reporter, "taking hosts into the lab; OVS and OVN are installed where they are not"):
            for_each(nodes, take)
        self._answering.update((node.name, True) for node in nodes)
        with slowly(self.reporter, MEETING):
            introduce(self.nodes().values(), topology)

    def _let_in(self, nodes: Sequence[Node], gate: Gate) -> None:
        """Install the lab's key on hosts that need a password. Raises LoginRefused."""
        shut = self._shut(nodes)
        if not shut:
            return
        self._password(shut)

        def let_in(node: Node) -> None:
            where = f"{node.name} ({node.machine.host}): letting the lab's key in"
            with self._as_user(node, self._password(shut)) as user:
                user.open()
                with gate:
                    self._note(node, taken=False)
                run_script(user, render("node/authorize-key.sh.j2", key=self._authorized), where=where)
                try:
                    self._machine(node).root.open()
                except LoginRefused as error:
                    run_script(user, render("node/revoke-key.sh.j2", key=self._authorized), where=where)
                    self._note(node, taken=None)
                    error.hint = "its SSH server does not go by ~/.ssh/authorized_keys: sshd -T says by what"
                    raise

        for_each(shut, let_in)

    def _shut(self, nodes: Sequence[Node]) -> list[Node]:
        """Return hosts that are entered with a password and do not know the lab's key."""
        asked = [node for node in nodes if node.machine.password]
        if not asked:
            return []
        self.keys.make()

        def is_shut(node: Node) -> bool:
            try:
                self._machine(node).root.open()
            except LoginRefused:
                return True
            except OvnlabError:  # it does not answer, which whoever needs it will be told
                return False
            return False

        return [node for node, shut in zip(asked, for_each(asked, is_shut), strict=True) if shut]

    def _password(self, nodes: Sequence[Node]) -> str:
        """Return the password of hosts, asked for once.

        It stays in this process. Raises OvnlabError where nobody can tell.
        """
        with self._asking:
            if self._told is None:
                users = " and ".join(f"{node.machine.user}@{node.machine.host}" for node in nodes)
                self._told = os.environ.pop(SAID_BY, None) or self.reporter.secret(f"password of {users}")
            return self._told

    @property
    def _authorized(self) -> str:
        """Return the line that lets the lab's key in, which says whose it is."""
        return f"{self.keys.public} ovnlab-{self.folder.name}"

    def _as_user(self, node: Node, password: str | None = None) -> RootConnection:
        """Return a connection to a host that is not root there, but who logs in."""
        from ovnlab.providers.fabric_connection import RootConnection  # noqa: PLC0415  brings Fabric and Paramiko

        return RootConnection(node.name, replace(self._reach(node), sudo=False), password)

    def deliver(self, builds: Mapping[str, str]) -> None:
        """Bring builds to the hosts."""
        deliver(self.nodes(), builds, self.note)

    def stop(self, names: Sequence[str]) -> None:
        """Do nothing: hosts are not ours to switch off."""
        del names
        self._gate.close()

    def remove(self, names: Sequence[str]) -> None:
        """Let hosts leave the lab. Raises OvnlabError that names those that do not answer."""
        self._gate.close()
        leaving = [noted for name, noted in self._noted().items() if name in names]
        self._machines.clear()  # they are reached as they were when they were taken
        shut = self._shut([noted.node for noted in leaving])
        if shut:
            with contextlib.suppress(OvnlabError):  # those that need none can leave
                self._password(shut)
        for_each(leaving, lambda noted: self._release(noted, is_shut=noted.node in shut))

    def _release(self, noted: HostRecord, *, is_shut: bool) -> None:
        node = noted.node
        where = f"{node.name} ({node.machine.host}): leaving the lab"
        is_taken = True
        if is_shut:
            with self._as_user(node, self._password([node])) as user:
                is_taken = noted.taken or self._is_noted_there(user, where)
                if is_taken:
                    run_script(user, render("node/authorize-key.sh.j2", key=self._authorized), where=where)
                else:
                    run_script(user, render("node/revoke-key.sh.j2", key=self._authorized), where=where)
        if is_taken:
            self._put_back(noted, where)
            if node.machine.password:
                with self._as_user(node) as user:
                    run_script(user, render("node/revoke-key.sh.j2", key=self._authorized), where=where)
        self.keys.close(node.name)
        self._note(node, taken=None)
        self._answering.pop(node.name, None)
        self._machines.pop(node.name, None)

    def _is_noted_there(self, user: RootConnection, where: str) -> bool:
        """Return True if anything of a lab is written down on a host."""
        return bool(run_script(user, "if [ -e /var/lib/ovnlab ]; then echo yes; fi", where=where))

    def _put_back(self, noted: HostRecord, where: str) -> None:
        """Make a host what it was before it was taken."""
        try:
            self._run_release(noted, where)
        except CommandFailed:
            with self._as_user(noted.node) as user:
                if noted.taken or self._is_noted_there(user, where):
                    raise
            # Whoever logs in is not let become root there: nothing was done.

    def _run_release(self, noted: HostRecord, where: str) -> None:
        machine = self._machine(noted.node)
        # What was told to take the host may still be at it.
        read = "exec 9>/run/ovnlab.lock && flock 9 && { cat /var/lib/ovnlab/external_ids 2>/dev/null || :; }"
        said = run_script(machine.context, read, where=where, timeout=INSTALL_TIMEOUT)
        script = render(
            "node/release-host.sh.j2",
            lab=self.folder.name,
            owner=self.owner,
            taken=noted.taken,
            keys=KEYS,
            before=recorded(said),
            route_protocol=ROUTE_PROTOCOL,
        )
        run_script(machine.context, script, where=where, timeout=INSTALL_TIMEOUT)

    def destroy(self) -> None:
        """Let all hosts leave the lab, and remove its files. Raises OvnlabError where one does not answer."""
        try:
            self.remove(sorted(self.defined_nodes()))
        except OvnlabError as error:
            forget = (
                f"`ovnlab down {self.folder.name} --forget-hosts` removes the lab and leaves such hosts as they are"
            )
            error.hint = f"{error.hint}; {forget}" if error.hint else forget
            raise
        self.folder.remove()

    def forget_hosts(self) -> list[str]:
        """Let the hosts leave that answer, and forget the others. Return what stays on each of those, in a sentence."""
        staying = []
        for name in sorted(self.defined_nodes()):
            noted = self._noted()[name]
            try:
                self.remove([name])
            except OvnlabError as error:
                staying.append(self._stays(noted, error))
                self.keys.close(name)
                self._note(noted.node, taken=None)
        self.folder.remove()
        return staying

    def _stays(self, noted: HostRecord, error: OvnlabError) -> str:
        node = noted.node
        bridges = ["br-int", *(nic.bridge for nic in node.nics)] if node.has_switch else []
        parts = [f"its daemons and {', '.join(bridges)}" if bridges else "its addresses"]
        parts += ["the lab's key in ~/.ssh/authorized_keys"] if node.machine.password else []
        where = f"{node.name} ({node.machine.user}@{node.machine.host}:{node.machine.port})"
        if not noted.taken:
            return f"{where} did not answer: {error.message}; whether anything was done there is not known"
        return (
            f"{where} did not answer: {error.message}; {' and '.join(parts)} stay there, as /var/lib/ovnlab there says"
        )

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return what is run when hosts become part of the lab."""
        install = topology.base == "packages"
        return [
            (f"{node.name}/take-host.sh", render("node/take-host.sh.j2", node=node, owner=self.owner, install=install))
            for node in topology.nodes
        ]


def reach_of(node: Node, own: Path) -> SshTarget:
    """Return how a host is reached; `own` is the lab's key, for one that is entered with a password first."""
    machine = node.machine
    keys = (Path(machine.key),) if machine.key else (own,) if machine.password else ()
    known = Path(machine.known_hosts)
    jump = None
    if machine.jump:
        user, _, rest = machine.jump.rpartition("@")
        host, _, port = rest.rpartition(":")
        jump = SshTarget(host, int(port), user, keys, known, agent=machine.agent)
    return SshTarget(machine.host, machine.port, machine.user, keys, known, machine.sudo, jump, machine.agent)


def recorded(text: str) -> dict[str, str]:
    """Return the external_ids that a host had, as ovs-vsctl printed them."""
    with contextlib.suppress(msgspec.DecodeError, LookupError, TypeError):
        (((_, pairs),),) = msgspec.json.decode(text)["data"]
        return {str(key): str(value) for key, value in pairs}
    return {}
