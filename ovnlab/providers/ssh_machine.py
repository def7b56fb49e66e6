"""Nodes that are machines reached by SSH: how to log in, and to run things there as root."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ovnlab.atomic_write import write_whole
from ovnlab.errors import OvnlabError, Timeout
from ovnlab.ovsdb.client import connect
from ovnlab.parallel import for_each
from ovnlab.providers.ssh_target import CONNECT_TIMEOUT, PATH, SshTarget, as_root
from ovnlab.state import LabFolder
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Topology
from ovnlab.waiting import CLOCK, now_ns, wait_until

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context
    from ovnlab.providers.fabric_connection import RootConnection

ANSWER_TIMEOUT = 5.0
"""Seconds that a machine may take to show its SSH banner."""

INSTALL_TIMEOUT = 900.0
"""Seconds that installing OVS and OVN on a machine may take."""

PATIENCE = 2.0
"""Seconds that a machine may take to answer over the connection that is kept, before it is asked by another."""

QUIET_SOCKET = "/run/systemd/journal/stdout"
"""A UNIX socket whose server ends a connection when its client does, and says nothing (systemd-journald(8)).

Where there is none the connection ends as well.
"""

LOGGING_IN = ".logging-in"
"""Of the file with the process ID of an ssh that will keep a connection."""

_READ_SCRIPT = (
    f'export PATH={PATH} LC_ALL=C; test -n "$BASH_VERSION" && . /dev/stdin; test -n "$BASH_VERSION" || exec sh -s'
)
"""With this root's shell reads a script itself, if it is bash: to start others takes 30 ms of an emulated CPU."""

LONGEST_SOCKET = 107 - 18
"""Bytes of a UNIX socket's path (unix(7)), less what ssh appends to it while it makes one."""


@dataclass(frozen=True)
class SshMachine:
    """A node that is reached by SSH; `config` is the ssh_config(5) file that knows it by its name."""

    name: str
    reach: SshTarget
    config: Path

    @cached_property
    def root(self) -> RootConnection:
        """Return a connection of this process' own."""
        from ovnlab.providers.fabric_connection import RootConnection  # noqa: PLC0415  brings Fabric and Paramiko, which a kept one spares

        return RootConnection(self.name, self.reach)

    @cached_property
    def context(self) -> Context:
        """Return a context that runs as root: over the connection that ssh keeps for the lab, if there is one.

        Otherwise it is one of this process' own, and when that ends ssh begins to keep one for the commands to come:
        logging in takes many times as long as asking something.
        """
        if self.is_kept():
            from ovnlab.providers.multiplexed import MultiplexedContext  # noqa: PLC0415  imports this module

            return MultiplexedContext(self)
        root = self.root
        atexit.register(self._keep)  # the last come first: before Paramiko, loaded with the root, ends all connections
        return root

    @property
    def control(self) -> Path:
        """Return where ssh can be asked to use the connection that it keeps (ssh_config(5), ControlPath)."""
        return socket_of(self.config.parent, self.name, self.reach)

    @property
    def logging_in(self) -> Path:
        """Return the file with the process ID of the ssh that is about to keep the connection."""
        return self.control.with_name(self.control.name + LOGGING_IN)

    def is_kept(self) -> bool:
        """Return True if ssh keeps a connection. One that it is about to is waited for: logging in takes longer."""

        def look() -> bool | None:
            if _answers(self.control):
                return True
            return None if _is_alive(self.logging_in, self.config) else False

        with contextlib.suppress(Timeout):
            return wait_until(f"the connection to {self.name}", look, timeout=CONNECT_TIMEOUT)
        return False

    def _keep(self) -> None:
        """Let ssh keep a connection from now on, if the machine is still one of the lab's."""
        with contextlib.suppress(OSError):  # there is no ssh, or no folder any more
            if (
                self.root.is_connected
                and str(self.control).replace("%", "%%") in self.config.read_text()
                and not _answers(self.control)
            ):
                process = subprocess.Popen(
                    ["ssh", "-F", str(self.config), self.name, "true"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self.logging_in.write_text(str(process.pid))
                process.returncode = 0  # nobody waits for it

    def command(self, argv: Sequence[str], *, terminal: bool | None = None) -> list[str]:
        """Return the ssh that runs `argv` on the node as root, in a terminal where this process has one."""
        return self._ssh(shlex.join(as_root(argv, sudo=self.reach.sudo)), terminal=terminal)

    def quick_command(self) -> list[str]:
        """Return the ssh that runs a script, its standard input, which must not depend on what sh it is run by."""
        words = shlex.join(as_root(["sh", "-s"], sudo=True)) if self.reach.sudo else _READ_SCRIPT
        return self._ssh(words, terminal=False)

    def _ssh(self, words: str, *, terminal: bool | None) -> list[str]:
        if terminal is None:
            terminal = sys.stdin.isatty() and sys.stdout.isatty()
        # Two that would keep the connection: the later one says that it may not.
        about_to = not self.is_kept() and _is_alive(self.logging_in, self.config)
        sharing = ["-o", "ControlMaster=no"] if about_to else []
        return ["ssh", "-F", str(self.config), *sharing, "-t" if terminal else "-T", self.name, words]

    def connect(self, path: str) -> socket.socket | None:
        """Return a connection to a UNIX socket of the machine, which ssh forwards over the connection that it keeps.

        None where it keeps none, or where nobody listens that who logs in may connect to.
        """
        return None if self.reach.sudo else self._connect(path)

    def _connect(self, path: str) -> socket.socket | None:
        """Return a connection that ssh forwards as who logs in; it may turn out later that nobody listens at its other
        end.
        """
        if not self.is_kept():
            return None
        with contextlib.suppress(OSError):  # it has ended since
            began = self.control.stat().st_mtime_ns
            here = Path(f"{self.control}.{hashlib.sha256(f'{began} {path}'.encode()).hexdigest()[:8]}")
            return connect(here) or self._forward(here, path)
        return None

    def _forward(self, here: Path, path: str) -> socket.socket | None:
        """Return a first connection to a UNIX socket of the machine, which is `here` from now on."""
        for other in here.parent.glob(f"{self.control.name}.*"):
            if other.is_socket() and other.stat().st_mtime_ns < self.control.stat().st_mtime_ns:
                other.unlink()  # of a connection that has ended
        command = ["ssh", "-F", str(self.config), "-O", "forward", "-L", f"{here}:{path}", self.name]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=CONNECT_TIMEOUT, check=False)
        return connect(here)

    def answers(self, banner: float | None = None) -> bool:
        """Return True if the machine answers: over the connection that ssh keeps, or else by the banner of its SSH
        server.

        The server starts itself anew for each banner, which takes 0.2 s of an emulated CPU.
        """
        found = self._connect(QUIET_SOCKET)
        if found is not None:
            with found, contextlib.suppress(OSError):
                found.settimeout(PATIENCE)
                found.shutdown(socket.SHUT_WR)
                if not found.recv(1) and _answers(self.control):  # ended by the machine, and not because ssh has
                    return True
        return self.is_listening(banner=banner)

    def require_jump(self) -> None:
        """Log in to the host that the machine is reached through, if there is one. Raises OvnlabError."""
        if self.reach.jump is not None:
            self.root.gateway.open()

    def is_listening(self, timeout: float = ANSWER_TIMEOUT, banner: float | None = None) -> bool:
        """Return True if an SSH server takes a connection within `timeout` seconds, and shows its banner within
        `banner` more.

        Without `banner` it is `timeout` as well. A machine behind another is logged in to.
        """
        if self.reach.jump is not None:
            try:
                self.root.open()
            except OvnlabError:
                return False
            return True
        try:
            with socket.create_connection((self.reach.host, self.reach.port), timeout=timeout) as found:
                found.settimeout(banner or timeout)
                return found.recv(4) == b"SSH-"
        except OSError:
            return False


class SshKeys:
    """A lab's own keys and what ssh reads of it, all below its folder."""

    def __init__(self, folder: LabFolder) -> None:
        self.path = folder.path / "ssh"

    @property
    def private(self) -> Path:
        """Return the key that ovnlab logs in with."""
        return self.path / "key"

    @property
    def known_hosts(self) -> Path:
        """Return the host keys of the lab's machines."""
        return self.path / "known_hosts"

    @property
    def config(self) -> Path:
        """Write a file for `ssh -F` that knows the lab's machines by their names."""
        return self.path / "config"

    @property
    def public(self) -> str:
        """Return the line that lets the lab's key in."""
        return self.private.with_suffix(".pub").read_text().strip()

    def make(self) -> None:
        """Make the lab's key pair where there is none."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        if not self.private.exists():
            _make_pair(self.private)

    def host_key(self, name: str) -> tuple[str, str]:
        """Return a machine's host key, private and public; made where there is none."""
        path = self.path / f"host-{name}"
        if not path.exists():
            _make_pair(path)
        return path.read_text().strip(), path.with_suffix(path.suffix + ".pub").read_text().strip()

    def forget(self, name: str) -> None:
        """Remove a machine's host key."""
        for path in (self.path / f"host-{name}", self.path / f"host-{name}.pub"):
            path.unlink(missing_ok=True)

    def write_known_hosts(self, known: Iterable[tuple[SshTarget, str]]) -> None:
        """Write the file of host keys: of each machine its public key."""
        write_whole(self.known_hosts, "".join(f"{reach.known_name} {public}\n" for reach, public in known))

    def write_config(self, topology: Topology, reaches: Mapping[str, SshTarget]) -> None:
        """Write the file for ssh, of all machines of the lab."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        sockets = {name: socket_of(self.path, name, reach) for name, reach in reaches.items()}
        if any(len(os.fsencode(found)) > LONGEST_SOCKET for found in sockets.values()):
            sockets = {}
        text = render("ssh_config.j2", lab=topology.name, machines=reaches, sockets=sockets)
        write_whole(self.config, text)

    def close(self, name: str) -> None:
        """End the connection to a machine that ssh keeps for the commands to come, or is about to."""
        for path in self.path.glob(f"{_sockets_of(name)}*"):
            if path.suffix and path.is_socket():  # one of the machine's own
                path.unlink(missing_ok=True)
            elif path.is_socket():
                command = ["ssh", "-F", str(self.config), "-S", str(path), "-O", "exit", name]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run(command, capture_output=True, timeout=CONNECT_TIMEOUT, check=False)
                path.unlink(missing_ok=True)
            elif path.suffix == LOGGING_IN:
                with contextlib.suppress(ProcessLookupError):
                    if _is_alive(path, self.config):
                        os.kill(int(path.read_text()), signal.SIGTERM)
                path.unlink(missing_ok=True)


def socket_of(folder: Path, name: str, reach: SshTarget) -> Path:
    """Return the socket for the connection to a machine that ssh keeps; one that is reached otherwise has another.

    Its name is short whatever the machine's is: paths of sockets may not be long.
    """
    return folder / f"{_sockets_of(name)}{reach.key}"


def _sockets_of(name: str) -> str:
    """Return what the names of all sockets of a machine begin with."""
    return f"@{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def _is_alive(path: Path, config: Path) -> bool:
    """Return True if the process in a file is an ssh that reads that configuration."""
    try:
        return str(config) in Path(f"/proc/{int(path.read_text())}/cmdline").read_text()
    except (OSError, ValueError):
        return False


def _answers(path: Path) -> bool:
    """Return True if somebody listens on a UNIX socket."""
    found = connect(path)
    if found is None:
        return False
    found.close()
    return True


def _make_pair(path: Path) -> None:
    """Make an Ed25519 key pair: PATH is private, PATH.pub public."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  for new machines only
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(path.suffix + ".pub").write_bytes(public + b"\n")
    write_whole(path, private.decode())


def owner_of(folder: LabFolder, identity: str) -> str:
    """Return the owner in the lab's marks: the first one recorded, also after this machine was renamed."""
    path = folder.path / "owner"
    try:
        return path.read_text()
    except OSError:
        if folder.exists():
            write_whole(path, identity)
        return identity


def answering(machines: Iterable[SshMachine], banner: float | None = None) -> dict[str, bool]:
    """Return whether machines answer, by their names; `banner` is the patience with one that takes a connection."""
    asked = list(machines)
    found = for_each(asked, lambda machine: machine.answers(banner))
    return dict(zip((machine.name for machine in asked), found, strict=True))


MEETING = "letting nodes know one another; OVS and OVN are installed where they are not"
"""What `introduce` is doing, for whoever waits for it."""


def introduce(machines: Iterable[SshMachine], topology: Topology) -> None:
    """Let machines know the lab's nodes by their names; OVS and OVN of packages are installed where they are not."""
    nodes = [(node.addresses[0], node.name) for node in topology.nodes if node.addresses]

    def tell(found: SshMachine) -> None:
        node = topology.node(found.name)
        script = render(
            "node/introduce-nodes.sh.j2", lab=topology.name, node=node, nodes=nodes, install=topology.base == "packages"
        )
        run_script(found.context, script, where=f"{found.name}: meeting the others", timeout=INSTALL_TIMEOUT)

    for_each(machines, tell)


def set_clocks(machines: Iterable[SshMachine]) -> None:
    """Tell machines that were stopped for a while how late it is."""

    def tell(found: SshMachine) -> None:
        for _ in range(3):  # whoever has to log in first comes late with what it says, by seconds on a busy machine
            began = CLOCK.monotonic()
            script = f"date -u -s @{now_ns() / 10**9:.3f} >/dev/null"
            run_script(found.context, script, where=f"{found.name}: setting the clock")
            if CLOCK.monotonic() - began < 1:
                break

    for_each(machines, tell)
