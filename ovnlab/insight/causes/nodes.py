"""Nodes whose machine does not run, or does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import Snapshot


def everything_on(node: str) -> tuple[str, ...]:
    """The keys of all that is on a node or passes it."""
    return (
        f"node {node}",
        f"size node {node}",
        f"tunnel {node} *",
        f"tunnel * {node}",
        f"size tunnel {node} *",
        f"size tunnel * {node}",
        f"lag {node}",
        f"claims {node}",
        f"daemon {node} *",
        f"registered {node}",
        f"connection {node}",
        f"flows {node}",
        f"bfd {node} *",
        f"bfd * {node}",
        f"active {node}",
        f"serves {node} *",
    )


def _find(snapshot: Snapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.nodes:
        keys = frozenset({f"node {node.name}", f"tunnel * {node.name}"})
        databases = (f"database *@{node.name}", "connection *", "lag *", "pair *") if node.central else ()
        if node.name not in snapshot.running:
            yield Finding(
                "node-down",
                node.name,
                "does not run",
                ("its machine is not there, or has ended",),
                "ovnlab up",
                keys=keys,
                effects=everything_on(node.name),
                may=databases,
            )
        elif node.name in snapshot.unread:
            yield Finding(
                "node-silent",
                node.name,
                "does not answer",
                (snapshot.unread[node.name],),
                f"ovnlab exec {node.name} -- true",
                keys=keys,
                effects=everything_on(node.name),
                may=databases,
            )


CAUSE = Cause(
    name="nodes",
    title="A node that does not run, or does not answer",
    reads="the machines that run, and whether a script that is given to each comes back",
    certainty="certain",
    explains="every pair with an end on the node, its tunnels, its daemons; of a central node, that others lag",
    remedy="ovnlab up",
    find=_find,
)
