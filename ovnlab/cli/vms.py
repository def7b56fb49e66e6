"""bind, unbind, exec, shell, ping: fake VMs, and what runs in them and on nodes."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ovnlab.cli import output
from ovnlab.cli.options import (
    JsonOption,
    LabOption,
    TargetArgument,
    complete_bindings,
    complete_targets,
    complete_vms,
)
from ovnlab.errors import ChecksFailed, OvnlabError, UsageError
from ovnlab.topology.resolved import MAC

if TYPE_CHECKING:
    from ovnlab.lab import Lab, Target

PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""For commands whose arguments are another program's."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(bind)
    app.command()(unbind)
    app.command("exec", context_settings=PASS_ON)(execute)
    app.command()(shell)
    app.command()(ping)


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import Quiet  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab import find  # noqa: PLC0415

    return find(lab, Quiet())


def run_on(command: Sequence[str], *, json: bool) -> int:
    """Run a command here; with `json` its output is captured into one object. Its exit code."""
    if not json:
        sys.stdout.flush()
        os.execvp(command[0], list(command))  # noqa: S606  an argument list; nothing of ours remains to be done
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output.as_json(exit_code=result.returncode, stdout=result.stdout, stderr=result.stderr)
    return result.returncode


def bind(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="VM NODE | VM=NODE...",
            help="A fake VM and a node, or several pairs.",
            autocompletion=complete_bindings,
            show_default=False,
        ),
    ],
    network: Annotated[
        str | None, typer.Option("--network", metavar="S", help="Create the port on this logical switch.")
    ] = None,
    ip: Annotated[
        str | None, typer.Option("--ip", metavar="I", help="Its address instead of the next free one.")
    ] = None,
    mac: Annotated[str | None, typer.Option("--mac", metavar="M", help="Its MAC instead of a chosen one.")] = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Bind fake VMs to nodes: internal port, iface-id, namespace, MAC, addresses, routes. Bound elsewhere, they move.

    \b
    ovnlab bind vm1 worker1
    ovnlab bind vm1=worker1 vm2=worker2
    ovnlab bind vm9 worker2 --network network1 --ip 192.168.0.9
    """
    wanted = _pairs(words)
    if len(wanted) > 1 and (ip or mac):
        raise UsageError("--ip and --mac are of one fake VM, and there are several")
    for text, what in ((ip, "--ip"), (mac, "--mac")):
        if text is not None:
            _check_address(what, text)
    found = _find(lab)
    vms = found.bind(wanted, network=network, ip=ip, mac=mac.lower() if mac else None)
    if json:
        output.as_json(
            lab=found.name,
            bound=[
                {
                    "vm": vm.name,
                    "node": wanted[vm.name],
                    "mac": vm.mac,
                    "addresses": vm.addresses,
                    "mtu": vm.mtu,
                }
                for vm in vms.values()
            ],
        )
    else:
        for vm in vms.values():
            output.line(f"{vm.name} is bound to {wanted[vm.name]}: {' '.join([vm.mac, *vm.addresses])}")
    return 0


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """VM and NODE of each binding."""
    if len(words) == 2 and not any("=" in word for word in words):
        return {words[0]: words[1]}
    pairs = [word.partition("=")[::2] for word in words]
    if not all(vm and node for vm, node in pairs):
        raise UsageError(
            f"cannot make sense of {' '.join(words)!r}",
            hint="ovnlab bind VM NODE, or ovnlab bind VM=NODE VM=NODE",
        )
    if len({vm for vm, _ in pairs}) < len(pairs):
        raise UsageError("a fake VM is named twice", hint="it can be on one node only")
    return dict(pairs)


def _check_address(option: str, text: str) -> None:
    try:
        if option == "--ip":
            ipaddress.ip_interface(text)
        elif not MAC.fullmatch(text) or int(text[:2], 16) & 1 or not int(text.replace(":", ""), 16):
            raise ValueError
    except ValueError:
        kind = "IP address" if option == "--ip" else "MAC address of an interface"
        raise UsageError(f"{option} {text}: is no {kind}") from None


def unbind(
    vms: Annotated[
        list[str],
        typer.Argument(metavar="VM...", help="Fake VMs.", autocompletion=complete_vms, show_default=False),
    ],
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Take fake VMs off their nodes. A port that `bind` created is removed; others stay, unbound.

    \b
    ovnlab unbind vm1
    """
    found = _find(lab)
    found.unbind(vms)
    if json:
        output.as_json(lab=found.name, unbound=vms)
    else:
        output.line(f"unbound {', '.join(vms)}")
    return 0


def execute(
    target: TargetArgument,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command.", show_default=False)],
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Run a command on a node or in a fake VM; the exit code is the command's.

    \b
    ovnlab exec worker1 -- ovs-vsctl show
    ovnlab exec vm1 -- ip addr
    """
    argv = command[1:] if command[:1] == ["--"] else command
    return run_on(_find(lab).target(target).command(argv), json=json)


def shell(target: TargetArgument, lab: LabOption = None) -> int:
    """Open a shell on a node or in a fake VM.

    \b
    ovnlab shell worker1
    """
    place = _find(lab).target(target)
    # The prompt shows the name of the host: in a fake VM, its own.
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec bash -i', target]
    return run_on(place.command(renamed if place.vm else ["bash", "-i"]), json=False)


def ping(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A fake VM or node.", autocompletion=complete_targets, show_default=False),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="A fake VM, a node or an address.",
            autocompletion=complete_targets,
            show_default=False,
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-c", min=1, help="How many.")] = 3,
    size: Annotated[
        int | None, typer.Option("--size", "-s", min=0, help="Bytes of payload, not to be fragmented.")
    ] = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Ping from a fake VM or node. Exit code 0 if every packet came back, 4 if one did not.

    \b
    ovnlab ping vm1 vm2
    ovnlab ping vm1 192.168.0.1 -c 1
    """
    found = _find(lab)
    places = found.places({source, destination})
    place = places.get(source) or found.target(source)
    address = _address(found, destination, places)
    leaving = [f"-I{place.interface}"] if place.is_vlan else []
    options = [*leaving, f"-c{count}", "-i0.2", "-W2", *([f"-s{size}", "-Mdo"] if size is not None else [])]
    lines = _lines(place.command(["env", "LC_ALL=C", "ping", *options, address]), shown=not json)
    # Its exit code is 0 if a single packet came back.
    answered = any(re.match(rf"{count} packets transmitted, {count} received", line) for line in lines)
    if json:
        output.as_json(
            source=source, destination=destination, address=address, count=count, reachable=answered, output=lines
        )
        return 0 if answered else 4
    if not answered:
        raise ChecksFailed(f"{destination} ({address}) did not answer every ping of {source}")
    return 0


def _lines(command: Sequence[str], *, shown: bool) -> list[str]:
    """The lines that a command prints, shown as they come."""
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for text in process.stdout or ():
            found.append(text.rstrip("\n"))
            if shown:
                output.line(found[-1])
                sys.stdout.flush()
    return found


def _address(lab: Lab, destination: str, places: Mapping[str, Target]) -> str:
    """The address of a node or fake VM, or the one that was given."""
    try:
        return str(ipaddress.ip_address(destination))
    except ValueError:
        pass
    if destination in places and places[destination].address:
        return places[destination].address
    if lab.topology.node(destination) is None and destination not in places:
        vm = lab.topology.vm(destination)
        if vm is None:
            raise lab.unknown(destination)
        if vm.ips:
            return vm.ips[0]
    raise OvnlabError("has no address", where=destination)
