"""podman-shim: the nodes of a lab for programs that expect containers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click

from ovnlab.cli import output, streams
from ovnlab.cli.options import PassOn, lab_option
from ovnlab.errors import OvnlabError, UsageError


@click.command("podman-shim", cls=PassOn)
@click.argument("words", metavar="exec|cp|inspect ...", nargs=-1, help="podman's own arguments.")
@click.option(
    "--install",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Prepare the nodes for OVN's multinode tests, and write a program podman for them into a folder.",
)
@lab_option
def podman_shim(words: tuple[str, ...], install: Path | None, lab: str | None) -> int:
    """Stand in for podman: exec, cp and inspect of nodes by their names. For OVN's own multinode tests.

    --install writes a program `podman` for the nodes of the lab as it runs now: put its folder first in the PATH.

    \b
    ovnlab podman-shim --install ~/shim
    ovnlab podman-shim exec ovn-chassis-1 ip addr show eth1
    ovnlab podman-shim cp ./setup.sh ovn-chassis-1:/tmp/
    ovnlab podman-shim inspect -f '{{.State.Pid}}' ovn-chassis-1
    """
    from ovnlab import podman  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.lab.lab import find  # noqa: PLC0415

    if install is not None:
        if words:
            raise UsageError("--install stands alone")
        output.line(f"wrote {podman.install(find(lab, NoProgress()), install)}")
        return 0
    if not words:
        raise UsageError("podman-shim exec|cp|inspect ...", hint="--install DIR writes a program podman")
    verb, *rest = words
    if verb == "exec":
        wanted = podman.parse_exec(rest)
        command = podman.command(find(lab, NoProgress()), wanted)
        streams.flush()
        os.closerange(3, 1024)  # a daemon that is started there would keep what it inherits
        os.execvp(command[0], command)  # noqa: S606  an argument list; nothing of ours remains to be done
    if verb == "inspect":
        output.line(podman.inspected(find(lab, NoProgress()), rest))
        return 0
    if verb == "cp":
        if len(rest) != 2:
            raise UsageError("podman cp FILE NODE:PATH, or podman cp NODE:PATH FILE")
        return _copy(*podman.copy(find(lab, NoProgress()), *rest))
    raise UsageError(f"podman {verb} is not here", hint="exec, cp and inspect are")


def _copy(reading: list[str], writing: list[str]) -> int:
    with subprocess.Popen(reading, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as reader:
        written = subprocess.run(writing, stdin=reader.stdout, check=False)
    if reader.returncode or written.returncode:
        raise OvnlabError("podman cp did not copy everything")
    return 0


COMMANDS = (podman_shim,)
