"""cp, port-forward: files to and from nodes, and a service of a fake VM in this machine's browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import click

from ovnlab import interruption
from ovnlab.cli import output, streams
from ovnlab.cli.options import complete_paths, complete_ports, json_option, lab_option
from ovnlab.errors import OvnlabError, UsageError

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab
    from ovnlab.nodes.copying import Wrap
    from ovnlab.nodes.target import Target

_PLACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(.+)", re.DOTALL)


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


@click.command("cp")
@click.argument("source", metavar="SRC", shell_complete=complete_paths, help="A file or directory, or NODE:PATH.")
@click.argument("target", metavar="DST", shell_complete=complete_paths, help="Where to, or NODE:PATH.")
@lab_option
@json_option
def cp(source: str, target: str, lab: str | None, json: bool) -> int:
    """Copy files and directories to, from or between nodes; a fake VM has the files of its node.

    As with cp -r, DST is an existing directory or a new name.

    \b
    ovnlab cp worker1:/etc/openvswitch/conf.db .
    ovnlab cp program.py vm1:/root/
    ovnlab cp worker1:/etc/hosts worker2:/tmp/hosts-of-worker1
    """
    from ovnlab.nodes import copying  # noqa: PLC0415

    ends = [_PLACE.fullmatch(word) if not os.path.exists(word) else None for word in (source, target)]  # noqa: PTH110  also of what this user may not look at
    if not any(ends):
        raise UsageError("one of SRC and DST must be NODE:PATH or VM:PATH", hint=f"ovnlab cp {source} NODE:{target}")
    found = _find(lab)
    paths = [end[2] if end else word for end, word in zip(ends, (source, target), strict=True)]
    if copying.base_of(paths[0]) in ("", ".", ".."):
        raise UsageError(f"{source}: expected a file or directory by its name")
    sides: list[Wrap] = [found.target(end[1]).node.command if end else copying.here for end in ends]
    try:
        copying.copy(*copying.commands(sides[0], paths[0], sides[1], paths[1]))
    except OvnlabError as error:
        error.where = source if error.where == "reading" else target
        raise
    if json:
        output.as_json(source=source, target=target)
    return 0


@click.command("port-forward")
@click.argument("target", metavar="VM:PORT", shell_complete=complete_ports, help="A fake VM or node, and a TCP port.")
@click.option(
    "--port", "-p", metavar="PORT", type=click.IntRange(0, 65535), help="The port here; a free one if omitted."
)
@lab_option
def port_forward(target: str, port: int | None, lab: str | None) -> int:
    """Make a TCP service of a fake VM or node reachable on this machine's loopback, until Ctrl-C.

    \b
    ovnlab port-forward vm1:80
    ovnlab port-forward vm1:80 -p 8080
    """
    name, separator, number = target.rpartition(":")
    if not separator or not number.isdigit() or not 0 < int(number) < 65536:
        raise UsageError(f"invalid target {target!r}: expected VM:PORT, such as vm1:80")
    found = _find(lab)
    place = found.target(name)
    own = found.endpoints({name}).get(name)
    addresses = ["127.0.0.1", "::1", *(own.addresses if own else ())]
    try:
        server = socket.create_server(("127.0.0.1", port or 0))
    except OSError as error:
        raise OvnlabError(f"port {port} of this machine cannot be used: {error.strerror}") from None
    with server:
        output.line(f"http://127.0.0.1:{server.getsockname()[1]} is {name}:{number}; Ctrl-C ends it")
        streams.flush()
        try:
            while True:
                connection, _ = server.accept()
                threading.Thread(target=_serve, args=(connection, place, number, addresses), daemon=True).start()
        except KeyboardInterrupt:
            interruption.end()
    return 0


def _serve(connection: socket.socket, place: Target, number: str, addresses: list[str]) -> None:
    """Let a program where the service is carry what comes over a connection."""
    from ovnlab.templating import render  # noqa: PLC0415  brings jinja2

    with connection:
        ends = connection.fileno()
        try:
            command = place.command(["python3", "-c", render("node/forward-port.py.j2"), number, *addresses])
            done = subprocess.run(command, stdin=ends, stdout=ends, stderr=subprocess.PIPE, check=False)
        except OSError as error:  # too many connections at once, or processes
            streams.say(output.shown(f"ovnlab: {place.name}:{number}: {error.strerror}"))
            return
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        streams.say(output.shown(f"ovnlab: {place.name}:{number}: {said[-1] if said else done.returncode}"))


COMMANDS = (cp, port_forward)
