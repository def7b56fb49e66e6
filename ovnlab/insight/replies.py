"""Replies to packets: whether one is due, whether it came, and the packet that it would be."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import alternatives
from ovnlab.insight.decisions import decider, deciding
from ovnlab.insight.evidence import Reply, Trace
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.ovn_trace import CONNECTIONS, LogicalTrace, run
from ovnlab.insight.probe_capture import Hop
from ovnlab.insight.probe_packet import End, ProbePacket, TraceRequest, endpoint, question
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import is_ip

_REPLIES = {"icmp4.type": ("8", "0"), "icmp6.type": ("128", "129"), "tcp.flags": ("2", "0x12")}
"""Fields of a request and of its answer: echo request and reply, SYN and SYN with ACK."""

SECONDS = 2
"""How long the source's own kernel waits for an answer."""

_ASKING = {"FAILED", "INCOMPLETE"}
"""States of a neighbour that has not said its MAC address (ip-neighbour(8))."""


def is_request(asked: ProbePacket) -> bool:
    """Return True for a packet that its receiver answers: an ICMP echo request, or a TCP connection's first packet."""
    fields = asked.fields
    return (
        any(fields.get(key) == value for key, value in (("icmp4.type", "8"), ("icmp6.type", "128")))
        or ("tcp.dst" in fields and int(fields.get("tcp.flags", "0"), 0) & 0x12 == 2)
        or "udp.dst" in fields
    )


def can_be(asked: ProbePacket, meant: LogicalTrace) -> bool:
    """Return True if an answer is to be listened for: to one address, of a packet that goes to somebody."""
    if not is_request(asked) or asked.more or not meant.outputs or meant.refusal is not None:
        return False
    return not is_for_many(asked) and is_for_one(asked)


def is_for_many(asked: ProbePacket) -> bool:
    """Return True if a packet goes to a broadcast or multicast address."""
    first = asked.fields.get("eth.dst", "00").partition(":")[0]
    return bool(int(first or "0", 16) & 1)


def is_for_one(asked: ProbePacket) -> bool:
    """Return True if a packet goes from one address to another."""
    ends = [asked.fields.get(f"{ip}.{end}", "") for ip in ("ip4", "ip6") for end in ("src", "dst")]
    known = [ipaddress.ip_address(end) for end in ends if is_ip(end)]
    return len(known) == 2 and not any(end.is_unspecified or end.is_multicast for end in known)


def is_expected(found: Trace) -> bool:
    """Return True if what became of a packet leaves an answer to be looked for."""
    if found.came is None or found.outcome not in ("delivered", "left"):
        return False
    lost = any(hop.wanted and hop.seen is False for hop in found.hops)
    return not lost


def arrived(found: Trace, came: Hop) -> Reply:
    """Return what an answer that came says."""
    packet = came.packet
    said = packet.said if packet else ""
    sender = packet.source if packet else ""
    if re.match(r"TCP \[[^]]*R", said):
        who = _name(found, sender)
        return Reply("refused", f"{who} refuses the connection: nothing listens on that TCP port", hop=came)
    if "unreachable" in said and "port" in said:
        return Reply("refused", f"{_name(found, sender)} says: {said.partition(',')[0]}", hop=came)
    if said.startswith("ICMP") and "reply" not in said:
        return Reply("refused", f"{_name(found, sender)} says: {said.partition(',')[0]}", hop=came)
    return Reply("came", packet.line if packet else "an answer", hop=came)


def _name(found: Trace, ip: str) -> str:
    """Return who answers for an address: whoever received the packet, or the address itself."""
    got = found.arrived
    if got is not None and ip in (found.question.fields.get("ip4.dst"), found.question.fields.get("ip6.dst")):
        return got.name if got.name == ip else f"{got.name} ({ip})"
    return ip


def receiver(found: Trace) -> End | None:
    """Return who received a packet, None where nobody of the lab was seen to."""
    got = found.arrived
    if got is None or not got.name:
        return None
    try:
        end = endpoint(found.look, got.name)
    except OvnlabError:
        return None
    return end if end.port is not None and end.place is not None else None


def beyond(found: Trace) -> str:
    """Return where a packet went that no machine of the lab received."""
    last = next((hop for hop in reversed(found.hops) if hop.seen), None)
    if last is None:
        return "it was seen nowhere, and neither was an answer"
    return f"no answer was seen, and what is behind {last.place} cannot be"


def is_translated(found: Trace) -> bool:
    """Return True if a packet was received with other addresses than it was sent with."""
    got = found.arrived
    if got is None or got.packet is None:
        return False
    fields = found.question.fields
    sent = (fields.get("ip4.src") or fields.get("ip6.src"), fields.get("ip4.dst") or fields.get("ip6.dst"))
    return (got.packet.source, got.packet.destination) != sent


def is_own(found: Trace) -> bool:
    """Return True if whoever received a packet may leave it unanswered: a program decides that for UDP."""
    return "udp.dst" in found.question.fields


def reverse(seen: LabView, found: Trace, end: End) -> ProbePacket:
    """Return the answer to a packet, from who received it. Raises NoNextHop where it cannot be sent."""
    asked, got = found.question, found.arrived
    packet = got.packet if got else None
    mine = asked.fields.get("ip4.src") or asked.fields.get("ip6.src") or asked.source.ip
    to = packet.source if packet and packet.source else mine
    target = asked.source.name if to == mine else to
    back = question(seen, TraceRequest(end.name, target, asked.protocol, ip=to))
    fields = dict(back.fields)
    own = packet.destination if packet and packet.destination else end.ip
    fields["ip6.src" if ":" in own else "ip4.src"] = own
    fields = {
        key: value for key, value in fields.items() if key.partition(".")[0] not in ("tcp", "udp", "icmp4", "icmp6")
    }
    for key, value in asked.fields.items():
        if key.partition(".")[0] in ("icmp4", "icmp6", "tcp", "udp"):
            request, reply = _REPLIES.get(key, ("", ""))
            fields[key] = reply if request and int(value, 0) == int(request, 0) else value
    for protocol in ("tcp", "udp"):
        if f"{protocol}.dst" in asked.fields:
            fields[f"{protocol}.src"] = str(packet.destination_port if packet else asked.fields[f"{protocol}.dst"])
            fields[f"{protocol}.dst"] = str(packet.source_port if packet else asked.fields[f"{protocol}.src"])
    return replace(back, fields=fields, marker=asked.marker)


def meant_back(back: ProbePacket, found: Trace) -> LogicalTrace:
    """Return what OVN means to do with an answer.

    ovn-trace knows no entries of connection tracking: where a router translates the address back that a packet was
    sent from, the rest is asked for again with the address that it has then (ovn-trace(8), Stateful Actions).
    """
    first = alternatives.meant(back, tracked="est,rpl")
    fields = found.question.fields
    ip = "ip6" if "ip6.src" in fields else "ip4"
    original = fields.get(f"{ip}.src", "")
    if not original or back.fields.get(f"{ip}.dst") == original:
        return first
    for number, section in enumerate(first.sections):
        for stage in section.stages:
            if stage.name == "lr_in_unsnat" and any(
                action.startswith(("ct_snat", "ct_snat_in_czone")) for action in stage.actions
            ):
                ingress = next(n for n in range(number, -1, -1) if first.sections[n].pipeline == "ingress")
                before = LogicalTrace(first.flow, first.sections[:ingress])
                entering = first.sections[ingress]
                changed = {**back.fields, **before.rewritten(back.fields), f"{ip}.dst": original}
                changed["inport"] = f'"{entering.inport}"'
                there = replace(back, datapath=entering.datapath, fields=changed)
                options = [word for _ in range(CONNECTIONS) for word in ("--ct", "est,rpl")]
                zone = back.zone
                rest = run(zone.context, zone.databases, entering.datapath, there.microflow, options=options)
                begin, *others = rest.sections
                joined = replace(begin, stages=(*section.stages[: section.stages.index(stage) + 1], *begin.stages))
                return LogicalTrace(first.flow, (*before.sections, joined, *others), (*first.unread, *rest.unread))
    return first


def judged(found: Trace, back: Trace, end: End) -> Reply:
    """Return what the way of an answer that did not come at first says."""
    ends = [hop for hop in back.hops if hop.name == found.question.source.name and hop.what != "sent"]
    came = next((hop for hop in reversed(ends) if hop.seen), None)
    if came is not None:
        if is_own(found):
            return Reply("came", f"an answer of {end.name} would come: one was sent for it", back, came)
        return Reply("came", "it came when the packet was sent again, and not at first", back, came)
    if back.question.mistaken:
        hint = f"ovnlab exec {end.name} -- ip neigh"
        place = f"{end.name}, its neighbour {back.question.next_hop}"
        return Reply(
            "none", f"its answer goes to the wrong MAC address: {back.question.mistaken}", back, None, place, hint
        )
    if back.outcome in ("dropped", "rejected") and back.decision is not None:
        where = f" ({back.decision.place})" if back.decision.place else ""
        said = f"its answer is {back.outcome} by {back.decision.title}{where}"
        if not is_translated(found) or back.decision.row is not None:
            return Reply("none", said, back, place=back.decision.title)
    if back.logical.asks_for_mac:
        return Reply(
            "none", f"a router asks for the MAC address of {back.question.destination.ip}, and nobody says it", back
        )
    sent = next((hop for hop in back.hops if hop.what == "sent"), None)
    if sent is not None and sent.seen is False and not sent.problem and not is_own(found):
        reasons = [*_not_its_own(found, end), *silence(end, back.question)]
        said = f"{end.name} received it and sends no answer"
        return Reply("none", f"{said}: {reasons[0]}" if reasons else said, back, place=end.name)
    to = sent.packet.eth_destination if sent is not None and sent.packet is not None else ""
    wanted = back.question.fields.get("eth.dst", "")
    if to and wanted and to != wanted and not is_own(found):
        said = f"{end.name} sends its answer to MAC address {to}, and {back.question.next_hop} has {wanted}"
        hint = f"ovnlab exec {end.name} -- ip neigh"
        return Reply("none", said, back, place=f"{end.name}, its neighbour {back.question.next_hop}", hint=hint)
    return Reply("none", "its answer is lost", back)


def _not_its_own(found: Trace, end: End) -> Iterator[str]:
    """Yield a packet that comes to a port whose fake VM has another MAC address."""
    got = found.arrived
    if got is None or got.packet is None:
        return
    if got.packet.vlans and end.place is not None and not end.place.is_vlan:
        yield f"it comes with VLAN tag {got.packet.vlans[0]}, and {end.name} takes none"
    if end.bound is None or not end.mac:
        return
    to = got.packet.eth_destination
    if to and end.bound.name == end.name and to != end.bound.mac and not int(to.partition(":")[0], 16) & 1:
        yield f"it is for MAC address {to}, which OVN has for {end.name}, and {end.name} has {end.bound.mac}"


def silence(end: End, back: ProbePacket) -> Iterator[str]:
    """Yield why a machine that received a packet does not answer it."""
    if end.place is None:
        return
    own = back.fields.get("ip4.src") or back.fields.get("ip6.src") or end.ip
    script = render(
        "node/explain-silence.sh.j2", namespace=end.place.vm or "", address=own, device=end.place.interface or "lo"
    )
    try:
        printed = run_script(end.place.node.context, script, where=f"{end.name}: its kernel", timeout=10)
    except OvnlabError:
        return
    facts = [line.partition(" ") for line in printed.splitlines()]
    said = {key: value for key, _, value in facts}
    if "no-address" in said:
        yield f"it does not have the address {own}"
    for key, _, value in facts:
        if key == "rule":
            yield f"it has a rule that may drop it: {value}"
    if said.get("ignores") == "1" and "icmp4.type" in back.fields:
        yield "it ignores ICMP echo requests (net.ipv4.icmp_echo_ignore_all)"
    yield from _unanswered(said.get("neighbours", "[]"), back.next_hop, end.name)
    if "tcp.dst" not in back.fields and said.get("filter") == "1":
        yield "its reverse path filter (net.ipv4.conf.all.rp_filter) drops what comes by another way than it answers"


def _unanswered(neighbours: str, hop: str, name: str) -> Iterator[str]:
    for entry in json.loads(neighbours or "[]"):
        if entry.get("dst") == hop and _ASKING & set(entry.get("state", ())):
            yield f"{name} asks for the MAC address of {hop}, and nobody answers"


def confirmed(found: Trace) -> Reply | None:
    """Return what the source's own kernel says where the probe was answered: it asks for MAC addresses before.

    None where it is answered as well, with a packet as large as its MTU allows, or cannot be asked.
    """
    asked = found.question
    end = asked.source
    address = asked.fields.get("ip4.dst") or asked.fields.get("ip6.dst") or ""
    if end.place is None or not address or asked.more or "udp.dst" in asked.fields:
        return None
    script = render(
        "node/await-reply.sh.j2",
        namespace=end.place.vm or "",
        device=end.place.interface if end.place.is_vlan or not end.place.vm else "",
        address=address,
        protocol=asked.protocol,
        port=asked.fields.get("tcp.dst", "0"),
        seconds=SECONDS,
        size=_largest(found),
    )
    try:
        printed = run_script(end.place.node.context, script, where=f"{end.name}: asking", timeout=2 * SECONDS + 6)
    except OvnlabError:
        return None
    said = {key: value for key, _, value in (line.partition(" ") for line in printed.splitlines())}
    if said.get("large", "0") != "0":
        return _too_large(found)
    if said.get("code") == "0" or "refused" in said:
        return None
    reasons = list(_unanswered(said.get("neighbours", "[]"), asked.next_hop, end.name))
    what = "a ping" if asked.protocol == "icmp" else "a connection"
    if reasons:
        silent = f"{reasons[0]}{unresolved(found.look, asked)}"
        return Reply("none", silent, place=f"{end.name}, its neighbour {asked.next_hop}")
    hint = f"ovnlab exec {end.name} -- ip route get {address}"
    sentence = f"a probe is answered, and {what} of {end.name}'s own kernel is not"
    return Reply("none", sentence, place=end.name, hint=hint)


def unresolved(seen: LabView, asked: ProbePacket) -> str:
    """Return what OVN means to do with the ARP request for the next hop, where that explains the silence."""
    if ":" in asked.next_hop or not asked.next_hop:
        return ""
    fields = {
        "inport": asked.fields["inport"],
        "eth.src": asked.fields["eth.src"],
        "eth.dst": "ff:ff:ff:ff:ff:ff",
        "arp.op": "1",
        "arp.sha": asked.fields["eth.src"],
        "arp.spa": asked.fields.get("ip4.src", ""),
        "arp.tpa": asked.next_hop,
        "arp.tha": "00:00:00:00:00:00",
    }
    try:
        meant = alternatives.meant(replace(asked, fields=fields, more=""))
    except OvnlabError:
        return ""
    if meant.refusal is None and meant.drop is None:
        return ", whom OVN means to be answered" if "arp.op = 2;" in meant.text else ""
    where = meant.refusal or meant.drop
    return f": its ARP request is dropped by {decider(seen, *where)}" if where else ""


def _largest(found: Trace) -> int:
    """Return bytes of payload that fill a ping up to the sender's MTU, 0 where that says nothing of the lab."""
    asked, end = found.question, found.question.source
    tunnelled = any(leg.tunnel is not None for leg in found.legs)
    if asked.protocol != "icmp" or not tunnelled or end.bound is None or end.bound.name != end.name:
        return 0
    headers = 48 if "ip6.src" in asked.fields else 28
    return max(end.bound.mtu - headers, 0)


def _too_large(found: Trace) -> Reply:
    """Return the loss of a large packet where a small one is answered: a device on the way has too small an MTU."""
    size = found.question.source.bound.mtu if found.question.source.bound else 0
    said = f"a ping of {size} bytes is lost, and a small one is answered"
    for device, mtu, wanted in small_mtus(found):
        hint = f"ovnlab exec {device.partition(':')[0]} -- ip link set {device.partition(':')[2]} mtu {wanted}"
        return Reply("none", f"{said}: {device} has MTU {mtu}, and the underlay has {wanted}", place=device, hint=hint)
    return Reply("none", f"{said}, and no ICMP error says of what MTU", place="the MTU of the way")


def small_mtus(found: Trace) -> Iterator[tuple[str, int, int]]:
    """Yield underlay devices on the way whose MTU is too small, with their MTU and the packet's size."""
    wanted = found.look.topology.underlay.mtu
    for chassis in dict.fromkeys(leg.chassis for leg in found.legs):
        node, state = found.look.topology.node(chassis), found.look.states.get(chassis)
        if node is None or state is None or node.machine.host:
            continue
        for name in dict.fromkeys(("eth1", node.underlay_device)):
            mtu = state.device(name).mtu
            if 0 < mtu < wanted:
                yield f"{chassis}:{name}", mtu, wanted


def rerouted(found: Trace) -> str:
    """Return what sends a packet to another receiver; empty where it goes to its own."""
    goal = found.question.destination.port
    outputs = [output for output in found.logical.outputs if output.type == ""]
    if goal is None or goal.type or not outputs or goal.name in {output.port for output in outputs}:
        return ""
    who = ", ".join(output.port for output in outputs)
    every = deciding(found.look, found.legs)
    by = [one for one in every if one.row is None or one.row.table != "Logical_Router_Static_Route"] or every
    why = f": by {by[-1].title}" + (f" ({by[-1].place})" if by[-1].place else "") if by else ""
    return f"to {who}, not to {goal.name}{why}"
