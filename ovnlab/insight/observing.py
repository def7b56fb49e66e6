"""One real packet: where it has to pass, and where it is seen."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import probing
from ovnlab.insight.logical import LogicalTrace
from ovnlab.insight.lookup import Look
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.packets import UNREACHABLE, Packet, packet
from ovnlab.insight.path import Leg
from ovnlab.insight.question import Question, endpoint
from ovnlab.insight.taps import Caught, Place, Tap, Taps
from ovnlab.insight.tunnels import PORTS
from ovnlab.lab import Target
from ovnlab.topology.addresses import ip_of

ARRIVAL_TIMEOUT = 2.0
"""Seconds that a probe may take to be seen everywhere; on emulated machines one hop takes tens of milliseconds."""

ANSWERS = tuple(
    f"{protocol} {kind}"
    for protocol in ("ICMP", "ICMPv6")
    for kind in ("echo reply", "unreachable", *UNREACHABLE.values(), "time exceeded", "packet too big")
)
"""How packets are told that answer one, and bring some of it along."""

QUIET = 0.35
"""Seconds that a probe is looked for where it must not come."""


@dataclass(frozen=True)
class Hop:
    """A place where the probe has to pass, or must not, and whether it was seen there; `tunnel` as observed.

    `wanted` says whether it should be seen; `seen` is None where nothing was sent.
    """

    place: str
    what: str
    node: str
    wanted: bool
    seen: bool | None = None
    tunnel: TunnelNames | None = None
    packet: Packet | None = None
    problem: str = ""


@dataclass(frozen=True)
class Watch:
    """A hop, the device to listen on, and how to tell the probe there.

    `answer` says that its answer is meant, `mac` whom it must be for, `not_from` who must not have sent it, `ends`
    between whose addresses its tunnel is.
    """

    hop: Hop
    place: Place
    tunnelled: bool
    answer: bool = False
    mac: str = ""
    not_from: str = ""
    ends: tuple[frozenset[str], ...] = ()


def watches(seen: Look, asked: Question, way: Sequence[Leg], meant: LogicalTrace) -> list[Watch]:
    """Where the probe has to pass, in order, and at the end where it is meant for, should it come there or not."""
    found: list[Watch] = []
    source = asked.source
    if source.place is not None:
        found.append(_at(source.place, source.name, "sent", wanted=True))
    for leg in way[1:]:
        found += _between(seen, leg)
    delivered: set[str] = set()
    for leg in way:
        for output in leg.outputs:
            watch = _output(seen, asked, leg, output.port, output.type)
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


def is_answer(asked: Question, meant: LogicalTrace) -> bool:
    """Whether what leaves at the end goes back to whoever sent it: a router has answered."""
    if asked.source.name in {output.port for output in meant.outputs}:
        return True
    ip = "ip6" if "ip6.src" in asked.fields else "ip4"
    ends = asked.fields.get(f"{ip}.src"), asked.fields.get(f"{ip}.dst")
    left = meant.rewritten(asked.fields)
    goes_on = bool(meant.outputs) or any(output.type == "remote" for output in meant.sections[-1].outputs)
    return goes_on and all(ends) and (left.get(f"{ip}.dst"), left.get(f"{ip}.src")) == ends


def _between(seen: Look, leg: Leg) -> list[Watch]:
    """Where a packet passes between two chassis: their NICs, in a tunnel or on a physical network."""
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
            found.append(Watch(hop, place, tunnelled=leg.tunnel is not None, ends=ends))
    return found


def _encap_ips(seen: Look, chassis: str) -> frozenset[str]:
    return frozenset(encap.ip for encap in seen.zone_of(chassis).names.encaps if encap.chassis == chassis)


def _nic(seen: Look, chassis: str, network: str) -> Place | None:
    """A chassis' NIC on a physical network."""
    node = seen.topology.node(chassis)
    nic = node.nic(network) if node else None
    if nic is None or chassis not in seen.nodes:
        return None
    return Place(chassis, nic.device, seen.nodes[chassis].command, chassis)


def _at(place: Target, name: str, what: str, *, wanted: bool, answer: bool = False) -> Watch:
    listened = Place(name, place.interface or "eth1", place.command, place.node.name)
    return Watch(Hop(listened.title, what, place.node.name, wanted), listened, tunnelled=False, answer=answer)


def _output(seen: Look, asked: Question, leg: Leg, port: str, kind: str) -> Watch | None:
    """Where a logical port's packets can be seen: in the fake VM, or on the NIC of a physical network."""
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
        return Watch(hop, place, tunnelled=False, not_from=sender)
    try:
        target = endpoint(seen, port).place
    except OvnlabError:  # it is bound nowhere, or is no fake VM's
        return None
    if target is None:
        return None
    answer = port == asked.source.name
    return _at(target, port, "answered" if answer else "received", wanted=True, answer=answer)


def underlay(seen: Look, node: str) -> Place | None:
    """The device with a chassis' tunnels."""
    found, state = seen.topology.node(node), seen.states.get(node)
    if found is None or state is None or node not in seen.nodes:
        return None
    devices = ["eth1"] if "eth1" in state.devices and not found.machine.host else []
    devices += [name for name, device in state.devices.items() if any(ip_of(a) == found.ip for a in device.addresses)]
    return Place(node, devices[0], seen.nodes[node].command, node) if devices else None


def tunnel_filter() -> str:
    """The expression of tcpdump for tunnels (pcap-filter(7))."""
    return " or ".join(f"udp port {port}" for port in PORTS)


def observe(
    seen: Look, asked: Question, frame: bytes, watches: Sequence[Watch], *, from_chassis: bool
) -> dict[Watch, Hop]:
    """Listen at every hop, send the probe, and tell where it was seen."""
    if from_chassis or asked.source.place is None:
        watches = [watch for watch in watches if watch.hop.what != "sent"]
    caught: dict[int, tuple[Caught, Packet]] = {}
    arrived = threading.Condition()

    def listen(number: int, tap: Tap, watch: Watch) -> None:
        for one in tap.packets():
            found = packet(one.data)
            if number not in caught and _is_probe(found, asked, watch):
                with arrived:
                    caught[number] = (one, found)
                    arrived.notify_all()

    wanted = [number for number, watch in enumerate(watches) if watch.hop.wanted]
    listened = [(watch.place, tunnel_filter() if watch.tunnelled else "") for watch in watches]
    with Taps(listened, snapshot=2048, tolerant=True) as taps:
        wanted = [number for number in wanted if number not in taps.problems]
        threads = [
            threading.Thread(target=listen, args=(number, tap, watch), daemon=True)
            for number, (tap, watch) in enumerate(zip(taps.taps, watches, strict=True))
        ]
        for thread in threads:
            thread.start()
        probing.send(asked, frame, from_chassis=from_chassis)
        with arrived:
            arrived.wait_for(lambda: all(number in caught for number in wanted), ARRIVAL_TIMEOUT)
            if len(wanted) < len(watches):
                arrived.wait_for(lambda: len(caught) == len(watches), QUIET)
        taps.end()
        for thread in threads:
            thread.join(ARRIVAL_TIMEOUT)
    return {
        watch: replace(_seen(seen, watch, caught.get(number)), problem=taps.problems.get(number, ""))
        for number, watch in enumerate(watches)
    }


def _is_probe(found: Packet, asked: Question, watch: Watch) -> bool:
    """Whether a frame is the probe, or where it is an answer, that."""
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


def _is_answer(found: Packet, asked: Question) -> bool:
    """Whether a packet answers the probe without its payload: a TCP connection, an ICMP error."""
    ports = asked.fields.get("tcp.src"), asked.fields.get("udp.src")
    mine = {int(port, 0) for port in ports if port}
    return found.destination_port in mine or (found.said.startswith(ANSWERS) and "reply" not in found.said)


def _seen(seen: Look, watch: Watch, caught: tuple[Caught, Packet] | None) -> Hop:
    if caught is None:
        return replace(watch.hop, seen=False)
    found = caught[1]
    names = seen.zone_of(watch.hop.node).names
    tunnel = names.named(found.tunnel, found.source, found.destination) if found.tunnel else None
    return replace(watch.hop, seen=True, tunnel=tunnel, packet=found.innermost)
