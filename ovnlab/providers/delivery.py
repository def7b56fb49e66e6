"""Delivery of OVS and OVN builds to machines: one archive each, sent to all at once, and verified there."""

from __future__ import annotations

import contextlib
import shlex
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ovnlab import scratch
from ovnlab.parallel import for_each
from ovnlab.providers.ssh_machine import SshMachine
from ovnlab.providers.ssh_target import as_root
from ovnlab.software.artefacts import Artefact, find
from ovnlab.tasks.script import failure, run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    import paramiko

CHUNK = 256 * 1024
"""Bytes that are sent at once; Paramiko's time for one piece grows with its square."""

COMPRESSION = 1
"""Of gzip: a build gets a third of its size, in a second."""


def deliver(machines: Mapping[str, SshMachine], builds: Mapping[str, str], note: Callable[[str], None]) -> None:
    """Bring to each machine the build of that key, where it is not there. Raises CommandFailed."""
    wanted = {name: key for name, key in builds.items() if key and name in machines}
    there = dict(zip(wanted, for_each(wanted, lambda name: _has(machines[name], wanted[name])), strict=True))
    for key in dict.fromkeys(wanted.values()):
        names = [name for name in wanted if wanted[name] == key and not there[name]]
        artefact = find(key) if names else None
        if artefact is not None:
            note(f"bringing build {key} to {', '.join(names)}")
            _send(artefact, [machines[name] for name in names])


def _has(machine: SshMachine, key: str) -> bool:
    script = f"[ ! -e /opt/ovnlab/builds/{key} ] || echo there"
    return run_script(machine.context, script, where=f"{machine.name}: looking for build {key}").strip() == "there"


def _send(artefact: Artefact, machines: list[SshMachine]) -> None:
    with scratch.folder("sending-") as folder, (folder / "archive").open("w+b") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive:
            archive.add(artefact.path, arcname=".")
        file.flush()
        for_each(machines, lambda machine: _unpack(machine, artefact, Path(file.name)))


def _unpack(machine: SshMachine, artefact: Artefact, archive: Path) -> None:
    """Send an archive and compare what comes out of it, file by file, before it gets its name."""
    where = f"{machine.name}: unpacking build {artefact.key}"
    sums = {
        name: total
        for part in artefact.parts.values()
        for name, total in part.files.items()
        if not (artefact.path / name).is_symlink()
    }
    folder = f"/opt/ovnlab/builds/.{artefact.key}"
    with archive.open("rb") as file:
        stream(machine, f"rm -rf {folder} && mkdir -p {folder} && tar -C {folder} -xzf -", file, where=where)
    script = render("node/verify-build.sh.j2", folder=folder, key=artefact.key, sums=sums)
    run_script(machine.context, script, where=where)


@contextlib.contextmanager
def _running(machine: SshMachine, command: str, where: str) -> Iterator[paramiko.Channel]:
    """Run a shell command on a machine as root. Raises CommandFailed, OvnlabError where the connection breaks."""
    machine.root.open()
    with machine.root.unbroken():
        channel = machine.root.transport.open_session()
        try:
            channel.exec_command(shlex.join(as_root(["sh", "-c", command], sudo=machine.reach.sudo)))
            yield channel
            exited = channel.recv_exit_status()
            said = channel.makefile_stderr().read().decode(errors="replace")
        finally:
            channel.close()
    if exited != 0:
        raise failure(where, exited, said)


def receive(machine: SshMachine, command: str, into: IO[bytes], *, where: str) -> None:
    """Write what a shell command prints on a machine into a file. Raises what `_running` raises."""
    with _running(machine, command, where) as channel:
        while chunk := channel.recv(CHUNK):
            into.write(chunk)


def stream(machine: SshMachine, command: str, file: IO[bytes], *, where: str) -> None:
    """Run a shell command on a machine with a file as its standard input. Raises what `_running` raises."""
    with _running(machine, command, where) as channel:
        with contextlib.suppress(OSError):  # it has ended early, and says why
            while chunk := file.read(CHUNK):
                channel.sendall(chunk)
        channel.shutdown_write()
