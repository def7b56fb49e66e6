"""Capture of one probe packet at the points that it has to pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import packet_expression
from ovnlab.insight.dissection import UNREACHABLE, Packet, packet
from ovnlab.insight.encapsulation import PORTS
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.ovn_trace import LogicalTrace
from ovnlab.insight.probe_packet import ProbePacket, endpoint
from ovnlab.insight.tcpdump import Capture, CapturedPacket, CapturePoint, Captures
from ovnlab.nodes.target import Target
from ovnlab.topology.addresses import ip_of

ARRIVAL_TIMEOUT = 2.0
"""Seconds that a probe may take to be seen everywhere; on emulated machines one hop takes tens of milliseconds."""

ANSWERS = tuple(
    f"{protocol} {kind}"
    for protocol in ("ICMP", "ICMPv6")
    for kind in ("echo reply", "unreachable", *UNREACHABLE.values(), "time exceeded", "packet too big")
)
"""How packets are told that answer one, and bring some of it along."""

ANSWERING = ("icmp4", "icmp6", "icmp4_error", "icmp6_error", "nd_na", "nd_na_router", "dhcp_relay", "tcp_reset")
"""Actions with which OVN makes an answer of a packet (ovn-sb(5), Logical_Flow actions)."""

MAKES_AN_ANSWER = (
    "icmp4.type = 0;", "icmp6.type = 129;", "udp.dst <-> udp.src;", "udp.src <-> udp.dst;", "put_dhcp_opts",
    "put_dhcpv6_opts", "udp.src = 67;", "arp.op = 2;",
)  # fmt: skip
"""What is written into a packet that becomes its own answer (ovn-northd(8), Logical Flow Table Structure)."""

QUIET = 0.35
"""Seconds that a probe is looked for where it must not come."""


@dataclass(frozen=True)
class Hop:
    """A place where the probe has to pass, or must not, and whether it was seen there; `tunnel` as observed.

    `wanted` says whether it should be seen; `seen` is None where nothing was sent. `name` is that of the fake VM or
    host at the end of the way, empty on it.
    """

    place: str
    what: str
    node: str
    wanted: bool
    seen: bool | None = None
    tunnel: TunnelNames | None = None
    packet: Packet | None = None
    problem: str = ""
    name: str = ""


@dataclass(frozen=True)
class WatchPoint:
    """A hop, the device to listen on, and how to tell the probe there.

    `answer` says that its answer is meant, `mac` whom it must be for, `not_from` who must not have sent it, `ends`
    between whose addresses its tunnel is.
    """

    hop: Hop
    place: CapturePoint
    tunnelled: bool
    answer: bool = False
    mac: str = ""
    not_from: str = ""
    ends: tuple[frozenset[str], ...] = ()


def watches(seen: LabView, asked: ProbePacket, way: Sequence[Leg], meant: LogicalTrace) -> list[WatchPoint]:
    """Return the points that the probe has to pass, in order, and last its destination, reached or not."""
    found: list[WatchPoint] = []
    source = asked.source
    if source.place is not None:
        found.append(_at(source.place, source.name, "sent", wanted=not asked.unsent))
    for leg in way[1:]:
        found += _between(seen, leg)
    delivered: set[str] = set()
    for leg in way:
        for output in leg.outputs:
            watch = _output(seen, asked, leg, output.port, output.type)
            if watch is not None and output.port == source.name:
                answers = is_answer(asked, meant)
                # Its own request comes back to it with other addresses than it was sent with.
                hop = replace(watch.hop, what="answered" if answers else "received")
                watch = replace(watch, hop=hop, answer=answers, not_from=asked.fields.get("eth.src", ""))
            if watch is not None and watch.place.name not in delivered:
                delivered.add(watch.place.name)
                found.append(watch)
    if is_answer(asked, meant) and source.place is not None and source.name not in delivered:
        found = [watch for watch in found if not watch.hop.what.startswith("to ") or watch.tunnelled]
        return [*found, _at(source.place, source.name, "answered", wanted=True, answer=True)]
    if meant.refusal is not None and source.place is not None:
        found.append(_at(source.place, source.name, "refused", wanted=True, answer=True))
    goal = asked.destination
    leaves = any(output.type == "localnet" for output in meant.outputs)
    if goal.place is not None and goal.name not in delivered:
        last = replace(_at(goal.place, goal.name, "received", wanted=leaves), mac=goal.mac if leaves else "")
        if last.place not in [watch.place for watch in found[1:]]:
            found.append(last)
    return found


def is_answer(asked: ProbePacket, meant: LogicalTrace) -> bool:
    """Return True if what leaves at the end is an answer that OVN itself makes: of a router, or for DHCP, DNS, ARP and
    ND.
    """
    goes_on = bool(meant.outputs) or any(output.type == "remote" for output in meant.sections[-1].outputs)
    if not goes_on:
        return False
    if any(section.title.split()[0] in ANSWERING for section in meant.sent if section.title):
        return True
    text = "\n".join(line for section in meant.sent for line in section.text)
    if any(word in text for word in MAKES_AN_ANSWER):
        return True
    if "ip4.src" in asked.fields or "ip6.src" in asked.fields:
        return False
    return asked.source.name in {output.port for output in meant.outputs}  # ARP, or Ethernet alone


def _between(seen: LabView, leg: Leg) -> list[WatchPoint]:
    """Return where a packet passes between two chassis: their NICs, in a tunnel or on a physical network."""
    found = []
    for chassis, what in ((leg.origin, f"to {leg.chassis}"), (leg.chassis, f"from {leg.origin}")):
        if leg.tunnel is not None:
            place = underlay(seen, chassis)
            ends = tuple(_encap_ips(seen, end) for end in (leg.origin, leg.chassis))
        elif leg.localnet is not None:
            place, ends = _nic(seen, chassis, leg.localnet.options.get("network_name", "")), ()
        else:
            continue
        if place is not None:
            hop = Hop(place.title, what, chassis, wanted=True)
            found.append(WatchPoint(hop, place, tunnelled=leg.tunnel is not None, ends=ends))
    return found


def _encap_ips(seen: LabView, chassis: str) -> frozenset[str]:
    return frozenset(encap.ip for encap in seen.zone_of(chassis).names.encaps if encap.chassis == chassis)


def _nic(seen: LabView, chassis: str, network: str) -> CapturePoint | None:
    """Return a chassis' NIC on a physical network."""
    node = seen.topology.node(chassis)
    nic = node.nic(network) if node else None
    if nic is None or chassis not in seen.nodes:
        return None
    return CapturePoint(chassis, nic.device, seen.nodes[chassis].command, chassis)


def _at(place: Target, name: str, what: str, *, wanted: bool, answer: bool = False) -> WatchPoint:
    listened = CapturePoint(name, place.interface or "eth1", place.command, place.node.name)
    hop = Hop(listened.title, what, place.node.name, wanted, name=name)
    return WatchPoint(hop, listened, tunnelled=False, answer=answer)


def answer_watch(asked: ProbePacket) -> WatchPoint | None:
    """Return where an answer is to be seen: at whoever asked."""
    if asked.source.place is None:
        return None
    watch = _at(asked.source.place, asked.source.name, "answered", wanted=True, answer=True)
    return replace(watch, not_from=asked.fields.get("eth.src", ""))


def _output(seen: LabView, asked: ProbePacket, leg: Leg, port: str, kind: str) -> WatchPoint | None:
    """Return where a logical port's packets can be seen: in the fake VM, or on the NIC of a physical network."""
    if kind == "localnet":
        ports = seen.zone_of(leg.chassis).names.ports
        name = ports[port].options.get("network_name", "") if port in ports else ""
        place = _nic(seen, leg.chassis, name)
        if place is None:
            return None
        if asked.destination.node == leg.chassis:
            return None  # it is for that chassis itself, and goes no further
        sender = asked.fields.get("eth.src", "") if asked.source.port and asked.source.port.type == "localnet" else ""
        hop = Hop(place.title, f"to {name}", leg.chassis, wanted=True)
        return WatchPoint(hop, place, tunnelled=False, not_from=sender)
    try:
        target = endpoint(seen, port).place
    except OvnlabError:  # it is bound nowhere, or is no fake VM's
        return None
    if target is None:
        return None
    return _at(target, port, "received", wanted=True)


def underlay(seen: LabView, node: str) -> CapturePoint | None:
    """Return the device with a chassis' tunnels."""
    found, state = seen.topology.node(node), seen.states.get(node)
    if found is None or state is None or node not in seen.nodes:
        return None
    devices = ["eth1"] if "eth1" in state.devices and not found.machine.host else []
    devices += [name for name, device in state.devices.items() if any(ip_of(a) == found.ip for a in device.addresses)]
    return CapturePoint(node, devices[0], seen.nodes[node].command, node) if devices else None


def tunnel_filter() -> str:
    """Return the expression of tcpdump for tunnels (pcap-filter(7))."""
    return " or ".join(f"udp port {port}" for port in PORTS)


@dataclass(frozen=True)
class Probe:
    """A packet that is sent, and how: `about` is what answers are told by, where that is another packet."""

    question: ProbePacket
    frame: bytes
    from_chassis: bool = False
    about: ProbePacket | None = None


def observe(
    seen: LabView, probe: Probe, ways: Sequence[Sequence[WatchPoint]], also: Sequence[WatchPoint] = ()
) -> dict[WatchPoint, Hop]:
    """Listen at every hop of all ways, send the probe, and tell where it was seen.

    It ends when one of the ways is seen in whole and what is `also` listened for was, or at the deadline.
    """
    asked = probe.about or probe.question
    watches = tuple(dict.fromkeys([*(watch for way in ways for watch in way), *also]))
    if probe.from_chassis or probe.question.source.place is None:
        watches = tuple(watch for watch in watches if watch.hop.what != "sent")
    taps_of: dict[tuple[CapturePoint, str], list[int]] = {}
    for number, watch in enumerate(watches):
        taps_of.setdefault((watch.place, tunnel_filter() if watch.tunnelled else ""), []).append(number)
    caught: dict[int, tuple[CapturedPacket, Packet]] = {}
    arrived = threading.Condition()

    def listen(tap: Capture, numbers: Sequence[int]) -> None:
        for one in tap.packets():
            found = packet(one.data)
            for number in numbers:
                if number not in caught and _is_probe(found, asked, watches[number]):
                    with arrived:
                        caught[number] = (one, found)
                        arrived.notify_all()

    with Captures(list(taps_of), snapshot=2048, tolerant=True) as taps:
        deaf = {
            number: taps.problems[tap]
            for tap, numbers in enumerate(taps_of.values())
            if tap in taps.problems
            for number in numbers
        }
        numbers = {watch: number for number, watch in enumerate(watches) if number not in deaf}
        wanted = [[numbers[w] for w in way if w in numbers and w.hop.wanted] for way in ways]
        besides = [numbers[watch] for watch in also if watch in numbers]
        threads = [
            threading.Thread(target=listen, args=(tap, numbers), daemon=True)
            for tap, numbers in zip(taps.taps, taps_of.values(), strict=True)
        ]
        for thread in threads:
            thread.start()
        packet_expression.send(probe.question, probe.frame, from_chassis=probe.from_chassis)
        with arrived:
            arrived.wait_for(
                lambda: any(all(n in caught for n in way) for way in wanted) and all(n in caught for n in besides),
                ARRIVAL_TIMEOUT,
            )
            if any(not watch.hop.wanted for watch in watches):
                arrived.wait_for(lambda: len(caught) == len(watches), QUIET)
        taps.end()
        for thread in threads:
            thread.join(ARRIVAL_TIMEOUT)
    return {
        watch: replace(_seen(seen, watch, caught.get(number)), problem=deaf.get(number, ""))
        for number, watch in enumerate(watches)
    }


def count(probe: Probe, watches: Sequence[WatchPoint], copies: int) -> list[int]:
    """Send a packet many times at once, and return how many of them were seen at each place."""
    counts = [0] * len(watches)
    arrived = threading.Condition()

    def listen(number: int, tap: Capture) -> None:
        for one in tap.packets():
            if _is_probe(packet(one.data), probe.about or probe.question, watches[number]):
                with arrived:
                    counts[number] += 1
                    arrived.notify_all()

    with Captures([(watch.place, "") for watch in watches], snapshot=2048, tolerant=True) as taps:
        threads = [
            threading.Thread(target=listen, args=(number, tap), daemon=True) for number, tap in enumerate(taps.taps)
        ]
        for thread in threads:
            thread.start()
        packet_expression.send(probe.question, probe.frame, from_chassis=False, copies=copies)
        with arrived:
            arrived.wait_for(lambda: all(number >= copies for number in counts), ARRIVAL_TIMEOUT)
        taps.end()
        for thread in threads:
            thread.join(ARRIVAL_TIMEOUT)
    return counts


def _is_probe(found: Packet, asked: ProbePacket, watch: WatchPoint) -> bool:
    """Return True if a frame is the probe, or where it is an answer, that."""
    if watch.tunnelled != (found.tunnel is not None):
        return False
    if watch.ends and not (found.source in watch.ends[0] and found.destination in watch.ends[1]):
        return False
    inner = found.innermost
    if watch.not_from and inner.eth_source == watch.not_from:
        return False
    marked = asked.marker[:8] in inner.payload
    if watch.answer:
        return (marked and "echo reply" in inner.said) or _is_answer(inner, asked)
    if watch.mac and inner.eth_destination != watch.mac:
        return False
    itself_one = "icmp4.type" in asked.fields and asked.fields["icmp4.type"] != "8"
    return marked and (itself_one or "icmp6.type" in asked.fields or not inner.said.startswith(ANSWERS))


def _is_answer(found: Packet, asked: ProbePacket) -> bool:
    """Return True if a packet answers the probe without its payload: a TCP connection, an ICMP error."""
    if "arp.tpa" in asked.fields:
        return found.fields.get("arp_op") == "2" and found.fields.get("arp_spa") == asked.fields["arp.tpa"]
    ports = asked.fields.get("tcp.src"), asked.fields.get("udp.src")
    mine = {int(port, 0) for port in ports if port}
    if found.said.startswith(ANSWERS) and "reply" not in found.said:  # it brings the beginning of what it is about
        return asked.marker[:2] in found.payload or any(port.to_bytes(2) in found.payload for port in mine)
    return found.destination_port in mine


def _seen(seen: LabView, watch: WatchPoint, caught: tuple[CapturedPacket, Packet] | None) -> Hop:
    if caught is None:
        return replace(watch.hop, seen=False)
    found = caught[1]
    names = seen.zone_of(watch.hop.node).names
    tunnel = names.named(found.tunnel, found.source, found.destination) if found.tunnel else None
    return replace(watch.hop, seen=True, tunnel=tunnel, packet=found.innermost)
