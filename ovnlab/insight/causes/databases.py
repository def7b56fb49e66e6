"""Databases that do not answer, clusters without a leader, and chassis that do not reach their Southbound database."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.endpoints import for_chassis

KINDS = {"nb": "Northbound", "sb": "Southbound"}
FAR_BEHIND = 20
"""Entries of the leader's log that a member may lack just now."""


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    yield from _silent(snapshot)
    for zone in snapshot.topology.zones:
        for kind in KINDS:
            yield from _cluster(snapshot, zone, kind)
    for node in snapshot.topology.chassis:
        if (seen := snapshot.nodes.get(node.name)) is not None:
            yield from _connection(snapshot, seen)


def _silent(snapshot: LabSnapshot) -> Iterator[Finding]:
    for what, reason in snapshot.unread.items():
        kind, at, node = what.partition("@")
        if not at:
            continue
        yield Finding(
            "database-silent",
            f"{KINDS[kind]} database on {node}",
            "could not be read",
            (f"{node}: {reason}",),
            f"ovnlab logs {node}",
            keys=frozenset({f"database {what}"}),
            may=("lag *", "connection *", "pair *"),
        )


def _cluster(snapshot: LabSnapshot, zone: str, kind: str) -> Iterator[Finding]:
    """Yield what the members of a RAFT cluster say of it (ovs-appctl cluster/status)."""
    names = [node.name for node in snapshot.topology.centrals(zone)]
    if len(names) < 2:
        return
    members = {
        name: snapshot.nodes[name].state.clusters[kind]
        for name in names
        if name in snapshot.nodes and kind in snapshot.nodes[name].state.clusters
    }
    leaders = [name for name, member in members.items() if member.role == "leader"]
    told = tuple(
        f"{name}: {m.role or 'no role'}, term {m.term}, leader {m.leader or '?'}" for name, m in members.items()
    )
    need = len(names) // 2 + 1
    if not leaders:
        yield Finding(
            "cluster-no-leader",
            f"cluster of the {KINDS[kind]} database",
            f"has no leader: {len(members)} of {len(names)} members answer, and {need} must agree on one",
            told or ("no member answers",),
            "ovnlab up",
            keys=frozenset({f"cluster {kind}", *(f"database {kind}@{name}" for name in names)}),
            effects=("lag *", "connection *", "claims *", "registered *"),
            may=("pair *",),
        )
        return
    last = max(members[name].last_entry for name in leaders)
    for name in names:
        keys = frozenset({f"cluster {kind}@{name}"})
        member = members.get(name)
        text = snapshot.nodes[name].answer(f"cluster.{kind}").text if name in snapshot.nodes else ""
        status = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Status:")), "")
        if member is None:
            yield Finding(
                "cluster-member-gone",
                f"{KINDS[kind]} database on {name}",
                "is not a working member of its cluster",
                (f"{name} does not tell of the cluster; the others: {'; '.join(told)}",),
                "ovnlab up",
                keys=keys,
            )
        elif status and status != "cluster member":
            yield Finding(
                "cluster-member-out",
                f"{KINDS[kind]} database on {name}",
                f"is not in its cluster: {status}",
                (f"{name}: cluster/status: {status}",),
                "ovnlab up",
                keys=keys,
            )
        elif last - member.last_entry > FAR_BEHIND:
            yield Finding(
                "cluster-member-behind",
                f"{KINDS[kind]} database on {name}",
                f"is {last - member.last_entry} entries behind the leader {leaders[0]}",
                told,
                f"ovnlab logs {name}",
                certainty=LIKELY,
                keys=keys,
            )


def _connection(snapshot: LabSnapshot, seen: NodeSnapshot) -> Iterator[Finding]:
    """Yield why an ovn-controller is not connected to its Southbound database."""
    answer = seen.answer("answer.ovn-controller")
    node = snapshot.topology.node(seen.name)
    if node is None or not answer.ok or answer.text.strip() == "connected":
        return
    remote, meant = seen.ids.get("ovn-remote", ""), for_chassis(snapshot.topology, node)
    name, effects = seen.name, (f"lag {seen.name}", f"claims {seen.name}", f"registered {seen.name}")
    may = (f"node {name}", f"flows {name}", f"tunnel {name} *", f"tunnel * {name}")
    keys = frozenset({f"connection {name}"})
    log = seen.log("ovn-controller")
    why = tuple(f"{name}, its log: {_said(line)}" for line in log[-3:])
    seen_state = f"{name}: ovn-appctl -t ovn-controller connection-status: {answer.text.strip()}"
    if remote != meant:
        yield Finding(
            "remote-wrong",
            f"ovn-remote of {name}",
            f"is {remote or 'not set'} instead of {meant}: its ovn-controller "
            "is not connected to the Southbound database",
            (seen_state, *why),
            "ovnlab up",
            keys=keys,
            effects=effects,
            may=may,
            drift=(f"configure {name}: ovn-remote is {remote or 'not set'} instead of {meant}",),
        )
        return
    trust = [line for line in log if any(word in line for word in ("certificate", "SSL_", "tlsv1", "handshake"))]
    problem = "is not connected to the Southbound database"
    if remote.startswith("ssl:") and trust:
        problem += ": TLS fails"
        why = tuple(f"{name}, its log: {_said(line)}" for line in trust[-3:])
    yield Finding(
        "not-connected",
        f"ovn-controller on {name}",
        problem,
        (seen_state, f"ovn-remote is {remote}", *why),
        f"ovnlab logs {name} ovn-controller",
        keys=keys,
        effects=effects,
        may=may,
    )


def _said(line: str) -> str:
    """Return a line of a log without its number and level."""
    parts = line.split("|", 4)
    return f"{parts[0][11:19]} {parts[-1]}" if len(parts) == 5 else line


CAUSE = Cause(
    name="databases",
    title="A database that does not answer, a cluster without a leader, a chassis that is not connected",
    reads="both databases by their sockets, cluster/status of each member, connection-status and log of each "
    "ovn-controller, ovn-remote against the file's",
    certainty="certain; a member that is behind: likely",
    explains="chassis that lag, ports that are not claimed, chassis that are not registered",
    remedy="ovnlab up; the log says why a connection fails",
    find=_find,
)
