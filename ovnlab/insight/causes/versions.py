"""Logical flows that ovn-northd writes and an ovn-controller of another version does not understand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.lab_view import DIGITS
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.client import Row
from ovnlab.topology.resolved import Node

REFUSED = re.compile(r'error parsing actions "(?P<text>.*)": (?P<reason>.*)')
"""What ovn-controller logs about a logical flow that it leaves out; of several in a short time it logs the first."""


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.chassis:
        seen = snapshot.nodes.get(node.name)
        zone = snapshot.zone_of(node.name)
        if seen is None or zone is None or "br-int" not in seen.flows:
            continue
        reasons = _refused(seen)
        if not reasons:
            continue
        installed = {flow.cookie for flow in seen.flows["br-int"]}
        rows = [
            row
            for row in zone.table("Logical_Flow")
            if (row["actions"] in reasons or row["match"] in reasons)
            and int(row["_uuid"][:DIGITS], 16) not in installed
        ]
        if rows:
            yield _finding(snapshot, node, rows, reasons)


def _refused(seen: NodeSnapshot) -> dict[str, str]:
    """Return the actions that the log of ovn-controller names, and the reason of each."""
    found = (REFUSED.search(line) for line in seen.log("ovn-controller"))
    return {match["text"]: match["reason"] for match in found if match is not None}


def _finding(snapshot: LabSnapshot, node: Node, rows: list[Row], reasons: dict[str, str]) -> Finding:
    stages = sorted({row["external_ids"].get("stage-name", "") for row in rows})
    refused = next((row["actions"] for row in rows if row["actions"] in reasons), next(iter(reasons)))
    flows = f"{len(rows)} {'flow' if len(rows) == 1 else 'flows'}"
    versions = _versions(snapshot, node)
    return Finding(
        "flows-not-understood",
        f"ovn-controller on {node.name}",
        f"does not understand {flows} of its ovn-northd{versions}",
        (f"{node.name}, its log: {refused[:90]}: {reasons[refused]}", f"the flows are of {', '.join(stages)}"),
        f"ovnlab upgrade {node.name}" if versions else f"ovnlab logs {node.name} ovn-controller",
        keys=frozenset({f"understood {node.name}"}),
        effects=(f"flows {node.name}", *(f"stage {node.name} {stage}" for stage in stages)),
        may=(f"node {node.name}", f"lag {node.name}"),
    )


def _versions(snapshot: LabSnapshot, node: Node) -> str:
    """Return the versions of ovn-northd and of a chassis, empty where they are not known or are the same."""
    if snapshot.source is None:
        return ""
    known = snapshot.source.versions()

    def version(name: str, daemon: str) -> str:
        seen = snapshot.nodes.get(name)
        found = seen.state.daemons.get(daemon) if seen is not None else None
        return known.get(f"{name} {found.process}", "") if found is not None else ""

    own = version(node.name, "ovn-controller")
    northd = next(filter(None, (version(n.name, "ovn-northd") for n in snapshot.topology.centrals(node.zone))), "")
    return f" (OVN {northd} on {own})" if own and northd and own != northd else ""


CAUSE = Cause(
    name="versions",
    title="A chassis that does not understand the flows of its ovn-northd",
    reads="the log of ovn-controller for `error parsing actions`, Logical_Flow, and the cookies in br-int",
    certainty="certain: the flow is in the Southbound database and not in br-int; the log names some of several alike",
    explains="flows that are missing on the chassis, and pairs that need them",
    remedy="ovnlab upgrade of the chassis where the versions differ: OVN wants chassis upgraded before central nodes",
    find=_find,
)
