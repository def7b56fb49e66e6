"""A trace as plain data: what `ovnlab trace --json` prints, and what its page is made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from ovnlab.insight.decisions import place_of, row_of
from ovnlab.insight.evidence import Reply, Trace
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.ofproto_trace import Exit
from ovnlab.insight.ovn_trace import Section, Stage
from ovnlab.insight.physical_path import SwitchTrace
from ovnlab.insight.probe_capture import Hop
from ovnlab.insight.verdict import Verdict


def as_dict(trace: Trace, verdict: Verdict) -> dict[str, Any]:
    """Return all of a trace and its verdict."""
    asked = trace.question
    return {
        "lab": trace.look.name,
        "source": {"name": asked.source.name, "ip": asked.source.ip, "mac": asked.source.mac, "node": asked.chassis},
        "destination": {
            "name": asked.destination.name,
            "ip": asked.destination.ip,
            "mac": asked.destination.mac,
            "node": asked.destination.node,
        },
        "microflow": asked.microflow,
        "next_hop": asked.next_hop,
        "outcome": trace.outcome,
        "decision": _decision(trace),
        "logical": [_section(trace, leg, section) for leg in trace.legs for section in leg.sections],
        "physical": [_physical(trace, one) for one in trace.physical],
        "tunnel": {"expected": tunnel(trace.expected), "observed": tunnel(trace.observed)},
        "hops": [_hop(hop) for hop in trace.hops],
        "answer": _answer(trace.answer),
        "counted": dataclasses.asdict(trace.counted) if trace.counted else None,
        "sent": trace.sent,
        "notes": list(trace.notes),
        "agrees": verdict.agrees,
        "verdict": verdict.sentence,
        "place": verdict.place,
        "cause": verdict.cause,
        "hint": verdict.hint,
    }


def _answer(found: Reply | None) -> dict[str, Any] | None:
    """Return what came back; the way of an answer that did not come at once has the same keys as that of the packet."""
    if found is None:
        return None
    back = found.back
    return {
        "state": found.state,
        "said": found.said,
        "place": found.place,
        "hint": found.hint,
        "packet": found.hop.packet.line if found.hop and found.hop.packet else None,
        "outcome": back.outcome if back else None,
        "decision": _decision(back) if back else None,
        "logical": [_section(back, leg, section) for leg in back.legs for section in leg.sections] if back else [],
        "physical": [_physical(back, one) for one in back.physical] if back else [],
        "hops": [_hop(hop) for hop in back.hops] if back else [],
    }


def tunnel(names: TunnelNames | None) -> dict[str, Any] | None:
    """Return a tunnel's header as plain data."""
    return dataclasses.asdict(names) if names else None


def _decision(trace: Trace) -> dict[str, Any] | None:
    found = trace.decision
    if found is None:
        return None
    return {
        "chassis": found.chassis,
        "datapath": found.datapath,
        "pipeline": found.pipeline,
        "stage": found.stage.name,
        "match": found.stage.match,
        "title": found.title,
        "table": found.row.table if found.row else "",
        "uuid": found.row.uuid if found.row else "",
        "place": found.place,
    }


def _section(trace: Trace, leg: Leg, section: Section) -> dict[str, Any]:
    return {
        "chassis": leg.chassis,
        "title": section.title,
        "pipeline": section.pipeline,
        "datapath": section.datapath,
        "inport": section.inport,
        "outport": section.outport,
        "stages": [_stage(trace, stage) for stage in section.stages],
        "outputs": [dataclasses.asdict(output) for output in section.outputs],
    }


def _stage(trace: Trace, stage: Stage) -> dict[str, Any]:
    row = row_of(trace.look, stage.uuid)
    return {
        "table": stage.table,
        "name": stage.name,
        "match": stage.match,
        "priority": stage.priority,
        "uuid": stage.uuid,
        "actions": list(stage.actions),
        "northbound": {
            "table": row.table,
            "uuid": row.uuid,
            "name": row.name,
            "place": place_of(trace.look.topology, row),
        }
        if row
        else None,
    }


def _physical(trace: Trace, one: SwitchTrace) -> dict[str, Any]:
    return {
        "chassis": one.leg.chassis,
        "passes": [
            {
                "flow": part.flow,
                "resumes": part.resumes,
                "tables": [
                    {
                        "bridge": step.bridge,
                        "table": step.table,
                        "match": step.match,
                        "priority": step.priority,
                        "cookie": f"{step.cookie:#x}",
                        "stage": stage_of(trace, step.uuid),
                        "actions": list(step.actions),
                    }
                    for step in part.steps
                    if step.found
                ],
                "datapath_actions": part.actions,
            }
            for part in one.trace.passes
        ],
        "exits": [_exit(found) for found in one.trace.exits],
        "missing": [{"uuid": uuid, "stage": stage_of(trace, uuid)} for uuid in one.missing],
        "followed": one.followed,
    }


def stage_of(trace: Trace, uuid: str) -> str:
    """Return the stage of a logical flow; empty for what is of none."""
    flow = trace.look.flow(uuid) if uuid else None
    return str(flow["external_ids"].get("stage-name", "")) if flow else ""


def _exit(found: Exit) -> dict[str, Any]:
    return {"port": found.port, "tunnel": dataclasses.asdict(found.tunnel) if found.tunnel else None}


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "place": hop.place,
        "node": hop.node,
        "what": hop.what,
        "wanted": hop.wanted,
        "seen": hop.seen,
        "tunnel": tunnel(hop.tunnel),
        "packet": hop.packet.line if hop.packet else None,
    }
