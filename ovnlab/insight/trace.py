"""A trace of one packet in three views: logical network, switches, and real packets.

The first is ovn-trace's word, the second ofproto/trace's on each chassis of the way, the third one real packet that is
sent and captured where it has to pass. Where they do not agree, the first place is told where they part. An answer that
does not come is followed the same way, from who should have sent it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import alternatives, packet_expression, replies
from ovnlab.insight.decisions import decider, outcome, place_of, row_of
from ovnlab.insight.evidence import Decision, ProbeCount, Reply, Trace
from ovnlab.insight.lab_view import LabView, ZoneView, look
from ovnlab.insight.logical_path import Leg, legs
from ovnlab.insight.ovn_trace import LogicalTrace, Section
from ovnlab.insight.physical_path import SwitchTrace, follow
from ovnlab.insight.probe_capture import ARRIVAL_TIMEOUT, Hop, Probe, WatchPoint, answer_watch, count, observe, watches
from ovnlab.insight.probe_packet import NoNextHop, ProbePacket, TraceRequest, question
from ovnlab.nodes.node import RunningNode
from ovnlab.parallel import for_each
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.waiting import CLOCK

__all__ = ("Decision", "ProbeCount", "Reply", "SwitchTrace", "Trace", "decider", "place_of", "row_of", "trace")

NORTHD_SECONDS = 4
"""How long a central node may take to say how its ovn-northd is."""


def trace(
    seen: LabView,
    wish: TraceRequest,
    *,
    send: bool = True,
    from_chassis: bool = False,
    logical_only: bool = False,
    copies: int = 1,
) -> Trace:
    """Trace one packet and its answer; `logical_only` asks no switch, and sends nothing.

    Where there are to be more `copies` than one, and it arrives, that many are sent at once, and counted.

    Raises what `question` raises, and UsageError for what ovn-trace rejects.
    """
    asked = question(seen, wish, strict=logical_only)
    if not logical_only and not asked.chassis:
        hint = f"ovnlab bind {asked.source.name} NODE, or --logical for what OVN would do"
        raise OvnlabError("is not bound to a node: nothing can be sent from it", where=asked.source.name, hint=hint)
    stopped = northd(seen, asked.zone.name)
    notes = [stopped] if stopped else []
    meant = alternatives.meant(asked)
    frame = None if logical_only else packet_expression.frame(asked)
    sent = send and frame is not None and not asked.unsent
    if meant.asks_for_mac and sent and frame is not None:
        # It asks for the MAC address, and learns it from the answer: what is traced is the way that comes after that.
        seen, meant, learnt = _after_learning(seen, asked, meant, frame, from_chassis=from_chassis)
        notes.append(learnt)
    if frame is None and not logical_only:
        notes.append("no packet can be made of that expression: nothing is sent, and the switches are not asked")
    plans = [_planned(seen, asked, one) for one in alternatives.ways(seen, asked, meant)]
    probe = Probe(asked, frame, from_chassis) if sent and frame is not None else None
    found = _course(seen, asked, plans, frame, probe, notes)
    if probe is not None and replies.is_expected(found):
        found = replace(found, answer=_answer(found, probe))
    if probe is not None and not wish.expression and not from_chassis and _is_answered(found):
        found = replace(found, answer=replies.confirmed(found) or found.answer)
    if copies > 1 and probe is not None and found.arrived is not None and found.question.source.place is not None:
        found = replace(found, counted=_counted(found, probe, plans, copies))
    if stopped:
        found = replace(found, stopped=stopped)
    return found


def _course(
    seen: LabView,
    asked: ProbePacket,
    plans: Sequence[Planned],
    frame: bytes | None,
    probe: Probe | None,
    notes: Sequence[str],
    *,
    back: bool = False,
    translated: bool = False,
) -> Trace:
    """Trace one packet in one direction: sent if there is a probe, looked for on all ways, followed on the one it
    took.
    """
    chosen = plans[0]
    hops = tuple(watch.hop for watch in chosen.watches)
    came = None
    if probe is not None:
        heard = answer_watch(asked) if not back and replies.can_be(asked, chosen.meant) else None
        observed = observe(seen, probe, [one.watches for one in plans], [heard] if heard else [])
        chosen = _taken(plans, observed)
        hops = tuple(observed[watch] for watch in chosen.watches if watch in observed)
        came = observed.get(heard) if heard else None
    tracked = "trk,est,rpl" if back else ""
    done: tuple[SwitchTrace, ...] = ()
    if frame is not None:
        done = follow(seen, asked, chosen.legs, frame, tracked=tracked, translated=translated)
    said = [*notes, *_choice(plans, chosen)]
    said += [f"not understood of ovn-trace: {line}" for line in chosen.meant.unread]
    said += [f"{one.leg.chassis}: {one.reason}" for one in done if one.reason]
    said += [f"not understood of ofproto/trace: {line}" for one in done for line in one.trace.not_understood]
    ended, decision = outcome(seen, asked, chosen.meant, chosen.legs)
    unique = tuple(dict.fromkeys(said))
    return Trace(asked, chosen.meant, chosen.legs, done, hops, ended, decision, probe is not None, unique, seen, came)


def _counted(found: Trace, probe: Probe, plans: Sequence[Planned], copies: int) -> ProbeCount | None:
    """Send several packets at once: what limits rates lets only the first of them through."""
    got, heard = found.arrived, answer_watch(found.question)
    goal = next((w for plan in plans for w in plan.watches if got and w.hop.place == got.place), None)
    if goal is None:
        return None
    is_answered = found.answer is not None and found.answer.state == "came" and found.question.protocol == "icmp"
    watches = [goal, *([heard] if heard is not None and is_answered else [])]
    counts = count(probe, watches, copies)
    return ProbeCount(copies, min(counts[0], copies), min(counts[1], copies) if len(counts) > 1 else None)


def _is_answered(found: Trace) -> bool:
    """Return True if an answer to the probe came, from its receiver or from a router."""
    if found.outcome == "answered":
        return all(hop.seen for hop in found.hops if hop.wanted)
    return found.answer is not None and found.answer.state == "came" and found.answer.back is None


def _taken(plans: Sequence[Planned], observed: Mapping[WatchPoint, Hop]) -> Planned:
    """Return the way that a packet took: the one that it was seen at the end of, otherwise seen furthest on."""

    def score(plan: Planned) -> tuple[bool, int, int]:
        seen = [bool(observed[watch].seen) for watch in plan.watches if watch in observed and watch.hop.wanted]
        ended = plan.goal in observed and bool(observed[plan.goal].seen) if plan.goal else False
        return ended and all(seen), sum(seen), -len(seen)

    return max(plans, key=score)


def _choice(plans: Sequence[Planned], chosen: Planned) -> Iterator[str]:
    if len(plans) > 1 and (said := alternatives.choice(chosen.meant)):
        yield f"of {len(plans)} ways that OVN may choose it took this: {said}"


def _answer(found: Trace, probe: Probe) -> Reply:
    """Return what came back of a packet that was delivered; where nothing did, the way of the answer is followed."""
    came = found.came
    if came is not None and came.seen:
        return replies.arrived(found, came)
    receiver = replies.receiver(found)
    if receiver is None:
        return Reply("unknown", replies.beyond(found))
    seen = found.look
    try:
        back = replies.reverse(seen, found, receiver)
    except NoNextHop as error:
        hint = f"ovnlab exec {receiver.name} -- ip route"
        return Reply("none", f"{receiver.name} {error.message}", place=receiver.name, hint=hint)
    except OvnlabError as error:
        return Reply("unknown", f"what is meant of its answer is not known: {error}")
    first = replies.meant_back(back, found)
    translated = replies.is_translated(found)
    plans = [
        _planned(seen, back, one)
        for one in ([first] if translated else alternatives.ways(seen, back, first, tracked="est,rpl"))
    ]
    frame = packet_expression.frame(back)
    about = found.question
    if replies.is_own(found):  # its kernel will not answer: what it would say is sent for it
        resent = Probe(back, frame, about=about) if frame is not None else None
    else:
        resent = replace(probe, about=about)
    plans = [replace(plan, watches=tuple(_of_answer(about, watch) for watch in plan.watches)) for plan in plans]
    way = _course(seen, back, plans, frame, resent, (), back=True, translated=translated)
    return replies.judged(found, way, receiver)


def _of_answer(asked: ProbePacket, watch: WatchPoint) -> WatchPoint:
    """Return a watch for an answer: at whoever asked, what that itself sends is none."""
    is_end = watch.hop.name == asked.source.name and watch.hop.what != "sent"
    return replace(watch, answer=True, not_from=asked.fields.get("eth.src", "") if is_end else watch.not_from)


@dataclass(frozen=True)
class Planned:
    """A path that OVN may choose for a packet, and the points to watch on it."""

    meant: LogicalTrace
    legs: tuple[Leg, ...]
    watches: tuple[WatchPoint, ...]

    @property
    def goal(self) -> WatchPoint | None:
        """Return the point where this path ends."""
        return next((watch for watch in reversed(self.watches) if watch.hop.wanted), None)


def _planned(seen: LabView, asked: ProbePacket, meant: LogicalTrace) -> Planned:
    way = legs(meant.sent, asked.zone.names, asked.chassis)
    for _ in list(seen.zones)[1:]:  # each may hand it on to one where it was not yet
        beyond = _beyond(seen, asked, meant, way)
        if beyond is None:
            break
        meant, way = beyond
    else:
        if len(way) > 1 and any(output.type == "remote" for section in way[-1].sections for output in section.outputs):
            way = way[:-1]  # an answer that goes back to a zone where the packet has been
    return Planned(meant, way, tuple(watches(seen, asked, way, meant)))


def _beyond(
    seen: LabView, asked: ProbePacket, meant: LogicalTrace, way: Sequence[Leg]
) -> tuple[LogicalTrace, tuple[Leg, ...]] | None:
    """Return what becomes of a packet that goes to a port of a transit switch in another zone; None where it does not.

    The next zone's ovn-trace is asked, from the transit switch on (ovn-architecture(7), OVN Deployments
    Interconnection): what is left to do of that switch stands in the other zone's database.
    """
    last = meant.sections[-1] if meant.sections else None
    remote = next((output.port for output in last.outputs if output.type == "remote"), None) if last else None
    if last is None or remote is None:
        return None
    zone = next((zone for zone in seen.zones.values() if _is_own(zone, remote)), None)
    if zone is None or zone.names.ports[remote].datapath != last.datapath:
        return None
    fields = {**asked.fields, **meant.rewritten(asked.fields), "inport": f'"{last.inport}"'}
    there = alternatives.meant(replace(asked, zone=zone, datapath=last.datapath, fields=fields))
    following = [section for section in there.sent if not _is_ingress(section, last.datapath)]
    rest = legs(following, zone.names, way[-1].chassis)
    joined = replace(way[-1], sections=(*way[-1].sections[:-1], *rest[0].sections))
    whole = LogicalTrace(meant.flow, (*meant.sections[:-1], *following), (*meant.unread, *there.unread))
    return whole, (*way[:-1], joined, *rest[1:])


def _is_ingress(section: Section, datapath: str) -> bool:
    return section.datapath == datapath and section.pipeline == "ingress"


def _is_own(zone: ZoneView, port: str) -> bool:
    """Return True if a port of a transit switch is one of the zone itself."""
    found = zone.names.ports.get(port)
    return found is not None and found.type != "remote"


def northd(seen: LabView, zone: str) -> str:
    """Return why logical flows may not be what the Northbound database says; empty where an active ovn-northd makes
    them.

    Each ovn-northd is asked, and all of them at once: one that is stopped has a process all the same.
    """
    nodes = [seen.nodes[node.name] for node in seen.topology.centrals(zone) if node.name in seen.nodes]

    def ask(node: RunningNode) -> str:
        try:
            said = run_script(node.context, render("node/query-northd.sh.j2"), where=node.name, timeout=NORTHD_SECONDS)
        except OvnlabError:
            return "silent"
        return said.partition("Status:")[2].strip() or "silent"

    if not nodes:
        return ""
    found = dict(zip((node.name for node in nodes), for_each(nodes, ask), strict=True))
    if "active" in found.values():
        return ""
    words = {
        "silent": "ovn-northd does not run or does not answer",
        "paused": "ovn-northd is paused",
        "standby": "ovn-northd is on standby, and none is active",
    }
    said = ", ".join(f"{node}: {words.get(state, f'ovn-northd says {state}')}" for node, state in found.items())
    return f"{said}; what OVN means here is what it meant before"


def _after_learning(
    seen: LabView, asked: ProbePacket, meant: LogicalTrace, frame: bytes, *, from_chassis: bool
) -> tuple[LabView, LogicalTrace, str]:
    """Send one packet so that the router learns the next hop's MAC address, and trace again once it has."""
    packet_expression.send(asked, frame, from_chassis=from_chassis)
    deadline = CLOCK.monotonic() + ARRIVAL_TIMEOUT
    while meant.asks_for_mac and CLOCK.monotonic() < deadline:
        CLOCK.sleep(0.05)
        meant = alternatives.meant(asked)
    if meant.asks_for_mac:
        return (
            seen,
            meant,
            "nobody answered for the next hop's address: the router asks for its MAC, and goes on asking",
        )
    again = look(seen.lab) if seen.lab else seen
    return again, meant, "the router learnt the next hop's MAC address from a packet that was sent first"
