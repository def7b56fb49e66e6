"""A trace, for people: the logical pipelines by chassis, what the switches do, what was seen, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ovnlab.cli import output
from ovnlab.insight.decisions import place_of, row_of
from ovnlab.insight.evidence import Reply, Trace
from ovnlab.insight.ovn_trace import Section, Stage
from ovnlab.insight.physical_path import SwitchTrace
from ovnlab.insight.probe_capture import Hop
from ovnlab.insight.trace_html import tells
from ovnlab.insight.trace_json import stage_of
from ovnlab.insight.verdict import Verdict

_INDENT = "  "


_RULES = ("ACL", "NAT", "QoS", "Load_Balancer", "Logical_Router_Static_Route", "Logical_Router_Policy")
"""Tables whose rows are named beside the stages that are of them."""

MOST_CAUSES = 3
"""Causes that are named under a verdict; `ovnlab diagnose` names all."""


@dataclass(frozen=True)
class NamedCause:
    """A cause that `ovnlab diagnose` found on the way of a packet: kind, sentence, remedy, confidence."""

    cause: str
    said: str
    remedy: str
    certainty: str

    def as_dict(self) -> dict[str, str]:
        """Return the cause as plain data."""
        return {"cause": self.cause, "said": self.said, "remedy": self.remedy, "certainty": self.certainty}


def show(trace: Trace, verdict: Verdict, *, how: str, causes: Sequence[NamedCause] = ()) -> None:
    """Print all of it; `how` is summary, detail, or neither."""
    asked = trace.question
    ends = f"{_end(asked.source.name, asked.source.ip)} → {_end(asked.destination.name, asked.destination.ip)}"
    output.line(f"{output.coloured('packet', 'dim')}   {ends}, {asked.protocol.upper()}")
    if how == "detail":
        output.line(f"{output.coloured('expr', 'dim')}     {asked.microflow}")
    output.line()
    _show_logical(trace, how)
    if how != "summary":
        _show_physical(trace, how)
    if trace.sent:
        _heading("SEEN", "one packet, sent")
        _show_hops(trace.hops)
    if trace.answer is not None:
        _show_answer(trace.answer)
    if trace.counted is not None:
        output.line(f"{output.coloured('count', 'dim')}    {trace.counted}")
        output.line()
    for note in trace.notes:
        output.line(f"{output.coloured('note', 'yellow')}     {note}")
    if trace.notes:
        output.line()
    colour = "green" if verdict.agrees else "red"
    output.line(f"{output.coloured('verdict', 'bold')}  {output.coloured(verdict.sentence, colour)}")
    if verdict.hint:
        output.line(f"         {output.coloured('→', 'yellow')} {_with_file(trace, verdict.hint)}")
    for cause in causes[:MOST_CAUSES]:
        sure = "" if cause.certainty == "certain" else f" ({cause.certainty})"
        output.line(f"{output.coloured('cause', 'bold')}    {output.coloured(cause.said, 'red')}{sure}")
        if cause.remedy:
            output.line(f"         {output.coloured('→', 'yellow')} {cause.remedy}")


def _with_file(trace: Trace, hint: str) -> str:
    """Return a hint in which `ovnlab up` names the lab's file; of a bundle there is none."""
    lab = trace.look.lab
    return lab.folder.with_file(hint) if lab is not None else hint


def _end(name: str, ip: str) -> str:
    return output.coloured(name, "bold") + (f" ({ip})" if ip and ip != name else "")


def _heading(text: str, about: str) -> None:
    output.line(f"{output.coloured(text, 'bold')} {output.coloured('— ' + about, 'dim')}")


def _show_logical(trace: Trace, how: str) -> None:
    _heading("LOGICAL", "what OVN means to do (ovn-trace)")
    for leg in trace.legs:
        if leg.tunnel is not None:
            output.line(f"{_INDENT}{output.coloured('│', 'dim')} {output.coloured(str(leg.tunnel), 'cyan')}")
        output.line(f"{_INDENT}{output.coloured(leg.chassis or '?', 'blue')}")
        for section in leg.sections:
            _show_section(trace, section, how)
    if trace.outcome in ("dropped", "rejected") and trace.decision is not None:
        by = trace.decision.title + (f", {trace.decision.place}" if trace.decision.place else "")
        output.line(f"{_INDENT}{output.coloured(trace.outcome, 'yellow')} by {by}")
    output.line()


def _show_section(trace: Trace, section: Section, how: str) -> None:
    pad = _INDENT * (2 + section.depth)
    if section.pipeline == "multicast":
        output.line(f"{pad}{section.datapath}  floods to {section.outport}")
    elif section.pipeline:
        way = f"{section.inport} → {section.outport}" if section.pipeline == "egress" else f"from {section.inport}"
        output.line(f"{pad}{section.datapath}  {section.pipeline}  {output.coloured(way, 'dim')}")
    elif how == "detail" or section.title.startswith(("ct_snat", "ct_dnat", "ct_lb")):
        output.line(f"{pad}{output.coloured(section.title, 'dim')}")
    if how == "summary":
        return
    for stage in section.stages:
        if how == "detail" or tells(stage):
            _show_stage(trace, stage, pad + _INDENT, how)
    for port in section.outputs:
        if port.type != "patch":
            kind = f" ({port.type})" if port.type else ""
            output.line(f"{pad}{_INDENT}{output.coloured('output', 'green')} to {port.port}{kind}")


def _show_stage(trace: Trace, stage: Stage, pad: str, how: str) -> None:
    row = row_of(trace.look, stage.uuid)
    place = place_of(trace.look.topology, row)
    of = f"  {output.coloured(place or f'{row.table} {row.uuid[:8]}', 'dim')}" if row and row.table in _RULES else ""
    match = stage.match or "nothing matched"
    output.line(f"{pad}{stage.name.ljust(22)} {match}{of}")
    if how == "detail":
        for action in stage.actions:
            output.line(f"{pad}{_INDENT}{output.coloured(action, 'dim')}")


def _show_physical(trace: Trace, how: str) -> None:
    if not trace.physical:
        return
    _heading("OPENFLOW", "what the switches do (ofproto/trace)")
    for one in trace.physical:
        output.line(f"{_INDENT}{output.coloured(one.leg.chassis, 'blue')}  {_tables(one)}")
        if how == "detail":
            for line in _steps(trace, one):
                output.line(f"{_INDENT * 2}{line}")
        for found in one.trace.exits:
            if found.tunnel is not None:
                names = trace.look.zone_of(one.leg.chassis).names
                header = found.tunnel
                datapath = names.datapath(header.vni if header.encap == "geneve" else header.vni & 0xFFF)
                name = datapath.name if datapath else ""
                keys = [f"vni {header.vni}{_paren(name)}"]
                for what, key in (("inport", header.ingress_key), ("outport", header.egress_key)):
                    if key is not None:
                        keys.append(f"{what} {key}{_paren(names.port(name, key))}")
                peer = names.chassis_at(header.remote_ip) or header.remote_ip
                output.line(f"{_INDENT * 2}{output.coloured('tunnel', 'green')} to {peer}: {', '.join(keys)}")
            else:
                output.line(f"{_INDENT * 2}{output.coloured('output', 'green')} to {found.port}")
        if any(part.asks_controller for part in one.trace.passes):
            output.line(f"{_INDENT * 2}to ovn-controller")
        for uuid in one.missing[:3]:
            output.line(f"{_INDENT * 2}{output.coloured('not hit', 'red')} {stage_of(trace, uuid) or uuid}")
    output.line()


def _paren(name: str) -> str:
    return f" ({name})" if name else ""


def _tables(one: SwitchTrace) -> str:
    steps = [step for step in one.trace.steps if step.found and step.bridge == "br-int"]
    if not steps:
        return output.coloured("not asked", "dim")
    return f"{len(steps)} tables, {steps[0].table} … {steps[-1].table}"


def _steps(trace: Trace, one: SwitchTrace) -> Iterator[str]:
    for step in one.trace.steps:
        if not step.found:
            continue
        stage = stage_of(trace, step.uuid)
        title = f"{step.table:>3} {stage}".ljust(28) if step.bridge == "br-int" else f"{step.bridge} {step.table}"
        yield f"{title} {step.match or 'any'}, priority {step.priority}"
        for action in step.actions:
            yield f"    {output.coloured(action, 'dim')}"


def _show_answer(answer: Reply) -> None:
    """Print the reply, and where one that did not arrive was seen."""
    if answer.back is not None and answer.back.hops:
        _heading("ANSWER", "what came back, or should have")
        _show_hops(answer.back.hops)
    words = {"came": "came", "refused": "refused", "none": "none", "beyond": "not seen", "unknown": "not known"}
    output.line(f"{output.coloured('answer', 'dim')}   {words[answer.state]}: {answer.said}")
    output.line()


def _show_hops(hops: Sequence[Hop]) -> None:
    rows = [_hop(hop) for hop in hops]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for hop, (place, what, said) in zip(hops, rows, strict=True):
        well = hop.seen == hop.wanted
        mark = output.coloured("✓" if well else "✗", "green" if well else "red")
        output.line(f"{_INDENT}{mark} {place.ljust(widths[0])}  {what.ljust(widths[1])}  {said}")
    output.line()


def _hop(hop: Hop) -> tuple[str, str, str]:
    if hop.seen is None:
        said = "not looked for: nothing was sent"
    elif not hop.seen:
        said = "not seen" if hop.wanted else "not seen, as it must be"
    else:
        said = "seen"
        if hop.tunnel is not None:
            said += f": {hop.tunnel}"
        elif hop.packet is not None:
            said += f": {hop.packet.line}"
    return hop.place, hop.what if hop.wanted else "", said
