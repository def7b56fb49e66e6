"""Nodes and daemons that a fault is put on."""

from __future__ import annotations

from collections.abc import Sequence

from ovnlab import deliberate
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.faults.kind import FaultRequest
from ovnlab.lab.lab import Lab
from ovnlab.lab.plan import daemons
from ovnlab.parallel import for_each
from ovnlab.tasks.script import run_script
from ovnlab.tasks.vitals import DaemonFiles
from ovnlab.templating import render
from ovnlab.topology.resolved import Node

TIMEOUT = 40.0
"""Seconds that daemons may take to end."""


def node_of(lab: Lab, name: str) -> Node:
    """Return a node that runs. Raises UsageError for an unknown one, OvnlabError for one that does not run."""
    node = lab.topology.node(name)
    if node is None:
        hint = f"available: {', '.join(found.name for found in lab.topology.nodes)}"
        raise UsageError(f"unknown node {name}", hint=hint)
    if name not in lab.nodes():
        refuse_broken(lab, name)
        raise OvnlabError("does not run", where=name, hint=f"{lab.folder.up_command()} brings it back")
    return node


def refuse_broken(lab: Lab, node: str, daemon: str = "") -> None:
    """Raise UsageError if a node, or a daemon on it, is broken by another fault already."""
    for fault in deliberate.stored(lab.folder):
        if (node, daemon) in fault.daemons or (fault.ends_nodes and node in fault.nodes):
            raise UsageError(f"already broken: {fault.sentence}", hint=f"`ovnlab heal {fault.number}` first")


def daemons_of(lab: Lab, node: Node, name: str | None) -> tuple[tuple[str, str], ...]:
    """Return a daemon of a node, or all that it has. Raises UsageError for an unknown one."""
    known = daemons(lab.topology, node)
    if name is None:
        return tuple((node.name, daemon) for daemon in known)
    if name not in known:
        hint = f"available: {', '.join(known)}" if known else "it has none"
        raise UsageError(f"unknown daemon {name}", where=node.name, hint=hint)
    return ((node.name, name),)


def running_daemons(lab: Lab, name: str, daemon: str | None, verb: str) -> tuple[tuple[str, str], ...]:
    """Return a daemon of a node, or all that it has, to do something with. Raises OvnlabError for one that is dead."""
    targets = daemons_of(lab, node_of(lab, name), daemon)
    if not targets:
        raise UsageError(f"has no daemons to {verb}", where=name)
    require_running(lab, targets)
    return targets


def words(request: FaultRequest, least: int, most: int, usage: str) -> tuple[str, ...]:
    """Return the words of a request. Raises UsageError for too few or too many."""
    if not least <= len(request.words) <= most:
        raise UsageError(f"invalid arguments: expected {usage}", hint="`ovnlab fault --help` shows all")
    return request.words


def signal(lab: Lab, targets: Sequence[tuple[str, str]], how: str) -> None:
    """Do something to daemons: `KILL`, `STOP` or `CONT` them, let them `exit`, or nothing where they do not run."""
    found: dict[str, list[DaemonFiles]] = {}
    running = lab.nodes()
    for node, daemon in targets:
        if node in running:
            found.setdefault(node, []).append(DaemonFiles(daemon))

    def send(node: str) -> None:
        script = render("node/signal-daemons.sh.j2", node=node, daemons=found[node], how=how)
        run_script(running[node].context, script, where=f"{node}: {how}", timeout=TIMEOUT)

    for_each(found, send)


def require_running(lab: Lab, targets: Sequence[tuple[str, str]]) -> None:
    """Raise OvnlabError for a daemon that does not run: what is broken already cannot be broken on purpose."""
    states = lab.states({node: lab.nodes()[node] for node in {node for node, _ in targets}})
    for node, daemon in targets:
        if daemon not in states[node].daemons:
            refuse_broken(lab, node, daemon)
            raise OvnlabError(f"{daemon} does not run", where=node, hint=f"{lab.folder.up_command()} starts it")
