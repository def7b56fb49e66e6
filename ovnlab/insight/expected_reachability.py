"""Expected reachability of many pairs by one ovn-trace, where `trace` looks at one in every detail."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ovnlab.errors import OvnlabError
from ovnlab.insight import ovn_trace
from ovnlab.insight.decisions import decider
from ovnlab.insight.lab_view import LabView, ZoneView
from ovnlab.insight.ovn_trace import LogicalTrace, Section, Stage
from ovnlab.insight.probe_capture import is_answer
from ovnlab.insight.probe_packet import NoRoute, ProbePacket, TraceRequest, question
from ovnlab.insight.trace import trace
from ovnlab.parallel import for_each

BATCH = 1000
"""Packets that one ovn-trace is asked for: each needs answers of connection tracking on its command line."""

_ANSWERS = {"icmp4.type": ("8", "0"), "icmp6.type": ("128", "129"), "tcp.flags": ("2", "0x12")}
"""Fields of a request and of its answer: echo request and reply, SYN and SYN with ACK."""

_ACROSS = {4: "icmp4.type == 0 && icmp4.code == 0", 6: "icmp6.type == 129 && icmp6.code == 0"}
"""An echo reply, by IP version."""

_TRANSLATED = ("ct_lb", "ct_dnat", "ct_snat")
"""Actions that make another packet of one, whose answer is then another one too (ovn-sb(5), Logical_Flow actions)."""


@dataclass(frozen=True)
class Intent:
    """The expected outcome of a packet: delivered, answered, rejected, dropped, not sent, or unknown.

    `reason` is what decides that, or why it is not known. `unanswered` says that what is meant of its answer is not
    known: that of a machine outside, or of a packet whose addresses are translated on the way.
    """

    outcome: str
    reason: str = ""
    unanswered: bool = False

    @property
    def is_hopeful(self) -> bool:
        """Return True if there should be an answer, as far as that is known."""
        return self.outcome in ("delivered", "answered")

    def agrees_with(self, observed: str) -> bool:
        """Return True if what was observed (reachable, unreachable, refused) can come of it."""
        if self.is_hopeful:
            return observed in ("reachable", "refused") or self.unanswered
        if self.outcome == "rejected":
            return observed in ("refused", "unreachable")
        return self.outcome == "unknown" or observed == "unreachable"


def intents(seen: LabView, wishes: Sequence[TraceRequest]) -> list[Intent]:
    """Return what OVN means for each of many packets, and for the answers to them.

    A packet that cannot be made sense of has an unknown intent.
    """

    def ask(wish: TraceRequest) -> ProbePacket | Intent:
        try:
            return question(seen, wish)
        except NoRoute:
            return Intent("not sent", "no route")
        except OvnlabError as error:
            return Intent("unknown", str(error))

    def answer(number: int) -> ProbePacket | Intent:
        try:
            back = _answer(seen, asked[number])
        except NoRoute:
            return Intent("dropped", f"its answer: {asked[number].destination.name} has no route")
        return back or Intent("delivered", unanswered=True)

    prepared = for_each(wishes, ask)  # a machine that sends is asked for its routes, a round trip for each packet
    found = [one if isinstance(one, Intent) else None for one in prepared]
    asked = {number: one for number, one in enumerate(prepared) if isinstance(one, ProbePacket)}
    for number, meant in zip(asked, _traced(list(asked.values()), "new"), strict=True):
        found[number] = _intent(seen, wishes[number], asked[number], meant)
    delivered = [number for number in asked if found[number] == Intent("delivered")]
    answers: dict[int, ProbePacket] = {}
    for number, back in zip(delivered, for_each(delivered, answer), strict=True):
        if isinstance(back, ProbePacket):
            answers[number] = back
        else:
            found[number] = back
    for number, meant in zip(answers, _traced(list(answers.values()), "est,rpl"), strict=True):
        if meant is None:
            found[number] = Intent("delivered", unanswered=True)
        elif not _reaches(meant, answers[number]):
            found[number] = Intent("dropped", f"its answer: {_reason(seen, meant)}")
    return [intent or Intent("unknown") for intent in found]


def _intent(seen: LabView, wish: TraceRequest, asked: ProbePacket, meant: LogicalTrace | None) -> Intent:
    if meant is None:
        return Intent("unknown", "ovn-trace makes no sense of it")
    if meant.asks_for_mac:
        return Intent("unknown", "a router does not know yet whose MAC address the next hop has")
    if meant.refusal is not None:
        return Intent("rejected", decider(seen, *meant.refusal))
    if is_answer(asked, meant):
        return Intent("answered")
    if any(output.type == "remote" for section in meant.sections for output in section.outputs):
        return _across_zones(seen, wish, asked)
    outputs = {output.port for output in meant.outputs}
    if not outputs:
        return Intent("dropped", _reason(seen, meant))
    port = asked.destination.port
    if any(section.title.startswith(_TRANSLATED) for section in meant.sections):
        return Intent("delivered", unanswered=True)
    if port is None:
        return Intent("unknown", f"it leaves by {', '.join(sorted(outputs))}, for nobody that is known")
    if port.name in outputs or any(output.type == "localnet" for output in meant.outputs):
        return Intent("delivered")
    return Intent("dropped", f"it goes to {', '.join(sorted(outputs))} instead")


def _across_zones(seen: LabView, wish: TraceRequest, asked: ProbePacket) -> Intent:
    """Trace a packet that goes on in another zone, whose databases are asked for the rest and for the reply."""
    outcome = trace(seen, wish, send=False, logical_only=True).outcome
    back = TraceRequest(asked.destination.name, asked.source.name, ip=asked.source.ip)
    back = dataclasses.replace(back, expression=_ACROSS[6 if ":" in asked.source.ip else 4])
    try:
        answered = wish.protocol == "icmp" and trace(seen, back, send=False, logical_only=True).outcome == "delivered"
    except OvnlabError:
        answered = False
    return Intent(outcome, "in another zone", unanswered=not answered)


def _reaches(meant: LogicalTrace, asked: ProbePacket) -> bool:
    port = asked.destination.port
    return port is not None and port.name in {output.port for output in meant.outputs}


def _reason(seen: LabView, meant: LogicalTrace) -> str:
    where: tuple[Section, Stage] | None = meant.drop
    return decider(seen, *where) if where else "nothing is done with it"


def _answer(seen: LabView, asked: ProbePacket) -> ProbePacket | None:
    """Return the answer to a packet, where fake VMs are at both ends; None where it cannot be known.

    Raises NoRoute where none can be sent.
    """
    if asked.destination.bound is None or asked.source.bound is None or asked.protocol == "udp":
        return None
    try:
        back = question(
            seen, TraceRequest(asked.destination.name, asked.source.name, asked.protocol, ip=asked.source.ip)
        )
    except NoRoute:
        raise
    except OvnlabError:
        return None
    fields = dict(back.fields)
    for key, (request, reply) in _ANSWERS.items():
        if fields.get(key) == request:
            fields[key] = reply
    if asked.protocol == "tcp":
        fields |= {"tcp.src": asked.fields["tcp.dst"], "tcp.dst": asked.fields["tcp.src"]}
    return dataclasses.replace(back, fields=fields)


def _traced(asked: Sequence[ProbePacket], tracked: str) -> list[LogicalTrace | None]:
    """Return what ovn-trace says of each, in order; None of what it makes no sense of."""
    found: dict[int, LogicalTrace | None] = {}
    zones: dict[str, tuple[ZoneView, list[int]]] = {}
    for number, one in enumerate(asked):
        zones.setdefault(one.zone.name, (one.zone, []))[1].append(number)
    for zone, numbers in zones.values():
        for batch in _batches(numbers):
            packets = [(asked[number].datapath, asked[number].microflow) for number in batch]
            found.update(zip(batch, ovn_trace.run_all(zone.context, zone.databases, packets, tracked), strict=True))
    return [found[number] for number in range(len(asked))]


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[begin : begin + BATCH] for begin in range(0, len(numbers), BATCH))
