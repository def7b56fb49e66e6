"""Causes of what is wrong with a lab: one module for each kind, and one engine that puts them in order."""

from __future__ import annotations

from ovnlab.insight.causes import (
    bridges,
    claims,
    daemons,
    databases,
    deliberate,
    drift,
    flows,
    gateways,
    identity,
    logic,
    nodes,
    services,
    tunnels,
    underlay,
    versions,
    vms,
)
from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot

CAUSES: tuple[Cause, ...] = (
    deliberate.CAUSE,
    nodes.CAUSE,
    daemons.CAUSE,
    databases.CAUSE,
    identity.CAUSE,
    underlay.CAUSE,
    bridges.CAUSE,
    versions.CAUSE,
    flows.CAUSE,
    tunnels.CAUSE,
    logic.CAUSE,
    claims.CAUSE,
    vms.CAUSE,
    gateways.CAUSE,
    services.CAUSE,
    services.LIMITS,
    logic.LAG,
    drift.CAUSE,
)
"""Every cause, in the order in which one can follow from another: an earlier one is never a symptom of a later one."""


def of(snapshot: LabSnapshot, evidence: Evidence | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with a lab, in the order of causes; what another finding has told as drift is left out."""
    found: dict[tuple[str, str, str], Finding] = {}
    for cause in CAUSES:
        for finding in cause.find(snapshot, evidence or Evidence()):
            found.setdefault((finding.cause, finding.object, finding.problem), finding)
    told = {line for finding in found.values() if finding.cause not in DRIFT for line in finding.drift}
    logical = {line for finding in found.values() if finding.cause != "drift" for line in finding.drift}
    return tuple(
        finding
        for finding in found.values()
        if finding.cause not in DRIFT
        or not any(finding.drift[0].startswith(line) for line in (logical if finding.cause == "drift" else told))
    )


DRIFT = ("drift", "northbound-drift")
"""Findings that say no more than that something differs from the file: left out where another says why."""
