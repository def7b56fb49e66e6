"""stop, start, restart: daemons and nodes of a lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.options import complete_daemons, complete_nodes, json_option, lab_option
from ovnlab.errors import UsageError

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab
    from ovnlab.topology.resolved import Node

node_argument = click.argument("node", metavar="NODE", shell_complete=complete_nodes, help="A node.")
daemon_argument = click.argument(
    "daemon",
    metavar="[DAEMON]",
    required=False,
    shell_complete=complete_daemons,
    help="One of its daemons; the whole node if omitted.",
)


def _find(name: str | None) -> Lab:
    from ovnlab.cli.progress import PlainProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(name, PlainProgress())


def _checked(lab: Lab, name: str, daemon: str | None) -> Node:
    """Return a node of the lab. Raises UsageError for a node or daemon that it does not have, or that a fault is on."""
    from ovnlab import deliberate  # noqa: PLC0415
    from ovnlab.faults.targets import daemons_of  # noqa: PLC0415

    lab.require_up()
    node = lab.topology.node(name)
    if node is None:
        raise lab.unknown_name(name)
    targets = daemons_of(lab, node, daemon)
    for fault in deliberate.active(lab.folder):
        if (fault.ends_nodes and name in fault.nodes) or set(fault.daemons) & set(targets):
            raise UsageError(f"broken on purpose: {fault.sentence}", hint=f"`ovnlab heal {fault.number}` ends it")
    return node


def _stop(lab: Lab, node: Node, daemon: str | None) -> None:
    """Let daemons exit, those first that depend on others; then switch the node off if all of it is meant."""
    from ovnlab.faults.targets import daemons_of, signal  # noqa: PLC0415

    if daemon is None and (node.machine.adopt or lab.topology.provider == "ssh"):
        hint = f"name a daemon: ovnlab stop {node.name} DAEMON"
        raise UsageError("stopping a node is not supported: its machine is not ovnlab's", where=node.name, hint=hint)
    signal(lab, tuple(reversed(daemons_of(lab, node, daemon))), "exit")
    if daemon is None:
        lab.provider.stop([node.name])


def _told(lab: Lab, node: str, daemon: str | None, done: str, *, json: bool) -> int:
    if json:
        output.as_json(lab=lab.name, node=node, daemon=daemon, done=done)
    else:
        output.line(f"{done} {f'{daemon} on {node}' if daemon else node}")
    return 0


@click.command("stop")
@node_argument
@daemon_argument
@lab_option
@json_option
def stop(node: str, daemon: str | None, lab: str | None, json: bool) -> int:
    """Stop a daemon of a node, or a node. `ovnlab start` starts it again, and so does the next `ovnlab up`.

    What is to stay broken while `up` runs is a fault: `ovnlab fault stop`.

    \b
    ovnlab stop worker1 ovn-controller
    ovnlab stop worker2
    """
    found = _find(lab)
    with found.locked():
        _stop(found, _checked(found, node, daemon), daemon)
    return _told(found, node, daemon, "stopped", json=json)


@click.command("start")
@node_argument
@daemon_argument
@lab_option
@json_option
def start(node: str, daemon: str | None, lab: str | None, json: bool) -> int:
    """Start a daemon of a node, or a node, with all that the lab has there; waits until the lab is whole.

    \b
    ovnlab start worker1 ovn-controller
    ovnlab start worker2
    """
    found = _find(lab)
    with found.locked():
        _checked(found, node, daemon)
        found.mend()
    return _told(found, node, daemon, "started", json=json)


@click.command("restart")
@node_argument
@daemon_argument
@lab_option
@json_option
def restart(node: str, daemon: str | None, lab: str | None, json: bool) -> int:
    """Restart a daemon of a node, or a node, and wait until the lab is whole.

    \b
    ovnlab restart worker1 ovn-controller
    ovnlab restart central ovn-northd
    ovnlab restart worker2
    """
    found = _find(lab)
    with found.locked():
        _stop(found, _checked(found, node, daemon), daemon)
        found.mend()
    return _told(found, node, daemon, "restarted", json=json)


COMMANDS = (restart, stop, start)
