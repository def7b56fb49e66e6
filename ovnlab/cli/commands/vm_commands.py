"""bind, unbind, exec, shell, ping: fake VMs, and what runs in them and on nodes."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output, streams
from ovnlab.cli.options import (
    PassOn,
    complete_bindings,
    complete_roles,
    complete_targets,
    complete_vms,
    json_option,
    lab_option,
    target_argument,
)
from ovnlab.cli.terminal import run_with_terminal
from ovnlab.errors import ChecksFailed, OvnlabError, Timeout, UsageError
from ovnlab.topology.addresses import parse_interface, parse_ip, parse_mac

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab
    from ovnlab.nodes.target import Target


COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
"""The line of ping's statistics."""

PATIENCE = 5.0
"""Seconds in which an interrupted command ends by itself."""

KILLED = 137
"""The exit code of a program that was killed, as a shell tells it."""


ENDING = 2.0
"""Seconds that a node may take to be gone when what it ran is."""


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


def run_on(command: Sequence[str], *, json: bool) -> int:
    """Run a command here; with `json` its output is captured into one object. Its exit code."""
    if not json:
        streams.flush()
        os.execvp(command[0], list(command))  # noqa: S606  an argument list; nothing of ours remains to be done
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output.as_json(exit_code=result.returncode, stdout=result.stdout, stderr=result.stderr)
    return result.returncode


@click.command("bind")
@click.argument(
    "words",
    metavar="VM NODE | VM=NODE...",
    nargs=-1,
    required=True,
    shell_complete=complete_bindings,
    help="A fake VM and a node, or several pairs.",
)
@click.option("--network", metavar="S", help="Create the port on this logical switch.")
@click.option("--ip", metavar="I", help="Its address instead of the next free one.")
@click.option("--mac", metavar="M", help="Its MAC instead of a chosen one.")
@lab_option
@json_option
def bind(
    words: tuple[str, ...], network: str | None, ip: str | None, mac: str | None, lab: str | None, json: bool
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
    """Return VM and NODE of each binding."""
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
        if option == "--mac":
            parse_mac(text)
        elif "/" in text:
            parse_interface(text)
        else:
            parse_ip(text)
    except ValueError:
        kind = "IP address" if option == "--ip" else "MAC address of an interface"
        raise UsageError(f"{option}: invalid {kind} {text}") from None


@click.command("unbind")
@click.argument("vms", metavar="VM...", nargs=-1, required=True, shell_complete=complete_vms, help="Fake VMs.")
@lab_option
@json_option
def unbind(vms: tuple[str, ...], lab: str | None, json: bool) -> int:
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


EVERYWHERE = "*"
"""The target that stands for several nodes."""


class OnSeveral(PassOn):
    """`exec`, whose target is left out where --all or --role says which nodes are meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of one call."""
        ours = args[: args.index("--")] if "--" in args else args
        if not ctx.resilient_parsing and self._are_for_several(ctx, ours, separated="--" in args):
            if "--" not in args:
                raise UsageError("missing `--` before the command", hint="ovnlab exec --all -- COMMAND")
            args = [*ours, EVERYWHERE, *args[len(ours) :]]
        return super().parse_args(ctx, args)

    def _are_for_several(self, ctx: click.Context, words: list[str], *, separated: bool) -> bool:
        """Return True if words are for several nodes: an --all or --role behind a target may be the other program's."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args, parser.ignore_unknown_options = separated, not separated
        try:
            values, _, _ = parser.parse_args(list(words))
        except click.UsageError:
            return False
        asks = self.get_help_option(ctx)
        if (asks is not None and values.get(asks.name or "")) or (separated and isinstance(values.get("target"), str)):
            return False
        return bool(values.get("every") or values.get("roles"))


@click.command("exec", cls=OnSeveral)
@target_argument
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, help="The command.")
@click.option("--all", "every", is_flag=True, help="On all nodes at once, instead of TARGET.")
@click.option(
    "--role",
    "roles",
    metavar="ROLE",
    multiple=True,
    shell_complete=complete_roles,
    help="On all nodes of a role, such as gateway.",
)
@lab_option
@json_option
def execute(
    target: str, command: tuple[str, ...], every: bool, roles: tuple[str, ...], lab: str | None, json: bool
) -> int:
    """Run a command on a node or in a fake VM; the exit code is the command's.

    On several nodes, each line has the name of its node before it, and the exit code is the highest.

    \b
    ovnlab exec worker1 -- ovs-vsctl show
    ovnlab exec vm1 -- ip addr
    ovnlab exec --all -- ovs-appctl version
    ovnlab exec --role gateway -- ip route
    """
    if every or roles:
        if target != EVERYWHERE:
            raise UsageError(f"--all and --role are instead of {target}", hint="ovnlab exec --all -- COMMAND")
        return _run_on_several(_find(lab), roles, command, json=json)
    return run_on(_find(lab).target(target).command(command), json=json)


def _run_on_several(lab: Lab, roles: Sequence[str], command: Sequence[str], *, json: bool) -> int:
    """Run a command on nodes at once; the highest exit code."""
    from ovnlab.parallel import for_each  # noqa: PLC0415

    known = {node.role for node in lab.topology.nodes}
    if unknown := next((role for role in roles if role not in known), None):
        raise UsageError(f"unknown role {unknown}", hint=f"available: {', '.join(sorted(known))}")
    lab.require_up()
    running = lab.nodes()
    names = [node.name for node in lab.topology.nodes if not roles or node.role in roles]
    margin = max(map(len, names))
    printed: dict[str, list[str]] = {name: [] for name in names}

    def tell(name: str, text: str) -> None:
        printed[name].append(text)
        if not json:
            output.line(f"{output.coloured(name.ljust(margin), 'blue')}  {text}")
            streams.flush()

    def run(name: str) -> int:
        if name not in running:
            tell(name, "does not run")
            return 1
        argv = lab.target(name).command(command)
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        ) as process:
            for text in process.stdout or ():
                tell(name, text.rstrip("\n"))
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    codes = dict(zip(names, for_each(names, run), strict=True))
    if json:
        output.as_json(nodes={name: {"exit_code": codes[name], "output": printed[name]} for name in names})
    failed = [f"{name} ({code})" for name, code in codes.items() if code]
    if failed and not json:
        streams.say(output.shown(f"ovnlab: failed on {', '.join(failed)}"))
    return max(codes.values())


@click.command("shell")
@target_argument
@lab_option
def shell(target: str, lab: str | None) -> int:
    """Open a shell on a node or in a fake VM.

    \b
    ovnlab shell worker1
    """
    found = _find(lab)
    place = found.target(target)
    # The prompt shows the name of the host: in a fake VM, its own.
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec bash -i', target]
    streams.flush()
    code = run_with_terminal(place.command(renamed if place.vm else ["bash", "-i"]))
    if code == KILLED and _has_ended(found, place.node.name):
        hint = f"{found.folder.up_command()} brings it back"
        raise OvnlabError(f"{place.node.name} of lab {found.name} has ended", hint=hint)
    return code


def _has_ended(lab: Lab, node: str) -> bool:
    """Return True if a node ends now: what it runs is killed first."""
    from ovnlab.waiting import wait_until  # noqa: PLC0415

    try:
        return wait_until("the end", lambda: node not in lab.provider.running() or None, timeout=ENDING)
    except Timeout:
        return False


@click.command("ping")
@click.argument("source", metavar="SRC", shell_complete=complete_targets, help="A fake VM or node.")
@click.argument("destination", metavar="DST", shell_complete=complete_targets, help="A fake VM, a node or an address.")
@click.option("--count", "-c", type=click.IntRange(min=0), default=3, help="Number of packets; 0 pings until Ctrl-C.")
@click.option("--size", "-s", type=click.IntRange(min=0), help="Bytes of payload, not to be fragmented.")
@lab_option
@json_option
def ping(source: str, destination: str, count: int, size: int | None, lab: str | None, json: bool) -> int:
    """Ping from a fake VM or node. Exit code 0 if every packet came back, 4 if one did not.

    Ctrl-C ends it with what came back so far.

    \b
    ovnlab ping vm1 vm2
    ovnlab ping vm1 192.168.0.1 -c 1
    ovnlab ping vm1 vm2 -c 0
    """
    found = _find(lab)
    places = found.endpoints({source, destination})
    place = places.get(source) or found.target(source)
    address = _address(found, destination, places)
    leaving = [f"-I{place.interface}"] if place.is_vlan else []
    options = [
        *leaving,
        *([f"-c{count}"] if count else []),
        "-i0.2",
        "-W2",
        *([f"-s{size}", "-Mdo"] if size is not None else []),
    ]
    lines = _lines(place.command(["env", "LC_ALL=C", "ping", *options, address]), shown=not json)
    # Its exit code is 0 if a single packet came back. The last one of a ping that was interrupted may be on its way.
    counts = [(int(said[1]), int(said[2])) for line in lines if (said := COUNTS.match(line))]
    sent, received = counts[0] if counts else (0, 0)
    answered = received > 0 and (received == count or (received >= sent - 1 and sent != count))
    if json:
        output.as_json(
            source=source, destination=destination, address=address, count=count, reachable=answered, output=lines
        )
        return 0 if answered else 4
    if not answered:
        raise ChecksFailed(f"{destination} ({address}) did not answer every ping of {source}")
    return 0


def _lines(command: Sequence[str], *, shown: bool) -> list[str]:
    """Return the lines that a command prints, shown as they come. A Ctrl-C is the command's: it ends, and says so."""
    found: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        ending = threading.Timer(PATIENCE, process.kill)
        # A handler that raises would lose what is being read.
        before = signal.signal(signal.SIGINT, lambda *_: None if ending.is_alive() else ending.start())
        try:
            for text in process.stdout or ():
                found.append(text.rstrip("\n"))
                if shown:
                    output.line(found[-1])
                    streams.flush()
        finally:
            signal.signal(signal.SIGINT, before)
            ending.cancel()
    return found


def _address(lab: Lab, destination: str, places: Mapping[str, Target]) -> str:
    """Return the address of a node or fake VM, or the one that was given."""
    try:
        return str(ipaddress.ip_address(destination))
    except ValueError:
        pass
    if destination in places and places[destination].address:
        return places[destination].address
    if lab.topology.node(destination) is None and destination not in places:
        vm = lab.topology.vm(destination)
        if vm is None:
            raise lab.unknown_name(destination)
        if vm.ips:
            return vm.ips[0]
    raise OvnlabError("has no address", where=destination)


COMMANDS = (bind, unbind, execute, shell, ping)
