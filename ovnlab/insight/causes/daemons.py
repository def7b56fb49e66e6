"""Daemons that do not run, do not answer, or answer that they are paused."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.lab.plan import daemons
from ovnlab.topology.resolved import Node


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.nodes:
        seen = snapshot.nodes.get(node.name)
        if seen is not None:
            for daemon in daemons(snapshot.topology, node):
                yield from _daemon(snapshot, node, seen, daemon)
    for zone in snapshot.topology.zones:
        yield from _northd(snapshot, zone)


def pidfile(daemon: str) -> str:
    """Return where a daemon writes its process ID."""
    folder = "openvswitch" if daemon in ("ovsdb-server", "ovs-vswitchd") else "ovn"
    return f"/run/{folder}/{daemon}.pid"


def _daemon(snapshot: LabSnapshot, node: Node, seen: NodeSnapshot, daemon: str) -> Iterator[Finding]:
    effects, may = _effects(snapshot, node, daemon)
    keys = frozenset({f"daemon {node.name} {daemon}", f"connection {node.name}" if daemon == "ovn-controller" else ""})
    where = f"{daemon} on {node.name}"
    found = seen.state.daemons.get(daemon)
    if found is None:
        yield Finding(
            "daemon-down",
            where,
            "does not run",
            (f"{node.name}: no process of the one in {pidfile(daemon)}",),
            "ovnlab up",
            keys=keys,
            effects=effects,
            may=may,
            drift=(f"configure {node.name}: {daemon} does not run",),
        )
        return
    answer = seen.answer(f"answer.{daemon}")
    if found.stopped:
        yield Finding(
            "daemon-silent",
            where,
            "does not answer: a signal or a debugger has stopped it",
            (f"{node.name}: process {found.pid} is in state T (proc_pid_stat(5))",),
            f"ovnlab exec {node.name} -- kill -CONT {found.pid}",
            keys=keys,
            effects=effects,
            may=may,
        )
    elif not answer.ok:
        yield Finding(
            "daemon-silent",
            where,
            "does not answer",
            (f"{node.name}: ovs-appctl -t {daemon}: {answer.reason}",),
            f"ovnlab logs {node.name}",
            keys=keys,
            effects=effects,
            may=may,
        )
    if found.outdated:
        yield Finding(
            "daemon-old",
            where,
            "runs another build than its node has",
            (f"{node.name}: process {found.pid} is of a file that would not be started now",),
            "ovnlab up",
            keys=keys,
            may=effects,
            drift=(f"configure {node.name}: {daemon} is of other software",),
        )


def _effects(snapshot: LabSnapshot, node: Node, daemon: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what follows from it that a daemon is silent, and what may."""
    name = node.name
    zone = [other.name for other in snapshot.topology.nodes if other.zone == node.zone]
    alone = len(snapshot.topology.centrals(node.zone)) == 1
    behind = tuple(key for other in zone for key in (f"lag {other}", f"claims {other}", f"registered {other}"))
    if daemon == "ovs-vswitchd":
        own = (*everything_on(name), f"nic {name} *", f"address {name}", f"route {name}", f"bridge {name} *")
        kernel = node.datapath == "system"
        return (own[2:], own[:2]) if kernel else (own, ())
    if daemon == "ovsdb-server":
        return everything_on(name)[4:], everything_on(name)[:4]
    if daemon == "ovn-controller":
        follows = (
            f"lag {name}",
            f"claims {name}",
            f"registered {name}",
            f"flows {name}",
            f"connection {name}",
            f"active {name}",
        )
        return follows, (f"node {name}", f"tunnel {name} *", f"tunnel * {name}")
    if daemon == "ovn-northd":
        return ("lag northd", *(("logic", *behind) if alone else ())), ("pair *",) if alone else ()
    if daemon in ("ovnnb_db", "ovnsb_db"):
        database = (f"database {daemon[3:5]}@{name}", f"cluster {daemon[3:5]}@{name}")
        connections = tuple(f"connection {other}" for other in zone)
        return (*database, *((*behind, *connections, "lag northd") if alone else ())), ("pair *",) if alone else ()
    if daemon == "ovnsb_relay":
        return tuple(f"connection {other}" for other in zone), (*behind, "pair *")
    return ("zones",), ("pair *",)


def _northd(snapshot: LabSnapshot, zone: str) -> Iterator[Finding]:
    """Yield where no ovn-northd of a zone is active; one that is in standby waits for another (ovn-northd(8))."""
    states: dict[str, str] = {}
    for node in snapshot.topology.centrals(zone):
        seen = snapshot.nodes.get(node.name)
        answer = seen.answer("answer.ovn-northd") if seen is not None else None
        if answer is not None and answer.ok:
            states[node.name] = answer.text.partition(":")[2].strip()
    for name, state in states.items():
        if state == "paused":
            effects = ("lag northd", "lag *", "logic", "claims *") if "active" not in states.values() else ()
            yield Finding(
                "northd-paused",
                f"ovn-northd on {name}",
                "is paused: the Southbound database does not follow",
                (f"{name}: ovn-appctl -t ovn-northd status: {state}",),
                f"ovnlab appctl {name} -t ovn-northd resume",
                keys=frozenset({f"daemon {name} ovn-northd"}),
                effects=effects,
                may=("pair *",) if effects else (),
            )
    if states and "active" not in states.values() and "paused" not in states.values():
        told = ", ".join(f"{name}: {state}" for name, state in states.items())
        yield Finding(
            "northd-passive",
            f"ovn-northd on {', '.join(states)}",
            "none is active: the Southbound database does not follow",
            (f"ovn-appctl -t ovn-northd status: {told}",),
            f"ovnlab logs {next(iter(states))} ovn-northd",
            keys=frozenset({"lag northd"}),
            effects=("lag *", "logic", "claims *"),
            may=("pair *",),
        )


CAUSE = Cause(
    name="daemons",
    title="A daemon that does not run, does not answer, or is paused",
    reads="pidfiles, the state of each process, and one question to each daemon (version, status, connection-status)",
    certainty="certain",
    explains="ovs-vswitchd: every pair through the node; ovn-controller: lag, ports that are not claimed, flows; "
    "ovn-northd: that the Southbound database lags; databases: that chassis are not connected",
    remedy="ovnlab up; kill -CONT for a stopped one; ovn-appctl -t ovn-northd resume for a paused one",
    find=_find,
)
