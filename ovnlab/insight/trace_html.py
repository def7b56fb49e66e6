"""A trace as a page that needs nothing else: the way drawn across the chassis, and all that was said of it below."""

from __future__ import annotations

from typing import Any

from ovnlab.insight.evidence import Trace
from ovnlab.insight.ovn_trace import Stage
from ovnlab.insight.trace_json import as_dict
from ovnlab.insight.verdict import Verdict
from ovnlab.templating import render

_HOUSEKEEPING = ("pre_", "_hint", "port_sec", "lookup_neighbor", "learn_neighbor", "_ecmp", "chk_", "stateful")


def tells(stage: Stage) -> bool:
    """Return True if a stage is more than housekeeping: it matched something of this packet and decided something by
    that.
    """
    return stage.drops or (stage.match != "1" and not any(word in stage.name for word in _HOUSEKEEPING))


def page(trace: Trace, verdict: Verdict) -> str:
    """Return the page, in HTML."""
    told = as_dict(trace, verdict)
    for hop, plain in zip(trace.hops, told["hops"], strict=True):
        plain["header"] = str(hop.tunnel) if hop.tunnel else ""
    lost = [hop for hop in trace.hops if hop.wanted and hop.seen is False]
    return render(
        "page/trace.html.j2",
        trace=told,
        legs=_legs(trace, {hop.node for hop in lost if hop.what.startswith("from ")}),
        lost_at_end=bool(lost) or trace.outcome in ("dropped", "rejected"),
    )


def _legs(trace: Trace, lost: set[str]) -> list[dict[str, Any]]:
    deciding = trace.decision.stage if trace.decision else None
    found = []
    for leg in trace.legs:
        keys = str(leg.tunnel).partition(" ") if leg.tunnel else ("", "", "")
        network = leg.localnet.options.get("network_name", "") if leg.localnet else ""
        found.append(
            {
                "chassis": leg.chassis,
                "header": keys[0] or network,
                "said": keys[2],
                "lost": leg.chassis in lost,
                "pipelines": [
                    {
                        "datapath": section.datapath,
                        "pipeline": section.pipeline or section.title,
                        "inport": section.inport,
                        "outport": section.outport,
                        "stages": [
                            {"name": stage.name, "match": stage.match, "deciding": stage is deciding}
                            for stage in section.stages
                            if tells(stage)
                        ],
                    }
                    for section in leg.sections
                ],
            }
        )
    return found
