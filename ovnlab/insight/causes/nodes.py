"""Nodes whose machine does not run, or does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot


def everything_on(node: str) -> tuple[str, ...]:
    """Return the keys of all that passes a node."""
    patterns = (
        "node {0}", "size node {0}", "tunnel {0} *", "tunnel * {0}", "size tunnel {0} *", "size tunnel * {0}",
        "lag {0}", "claims {0}", "registered {0}", "connection {0}", "flows {0}",
        "bfd {0} *", "bfd * {0}", "active {0}", "route {0}",
    )  # fmt: skip
    return tuple(pattern.format(node) for pattern in patterns)


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
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
                effects=(*everything_on(node.name), f"daemon {node.name} *", f"serves {node.name} *"),
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
                effects=(*everything_on(node.name), f"daemon {node.name} *", f"serves {node.name} *"),
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
