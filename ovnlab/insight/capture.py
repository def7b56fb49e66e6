"""Packets of several places of a lab at once, by time, with the names of what their tunnels carry."""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.insight import pcap
from ovnlab.insight.dissection import Packet, packet
from ovnlab.insight.encapsulation import GENEVE_PORT, VXLAN_PORT, TunnelHeader
from ovnlab.insight.lab_view import LabView, look
from ovnlab.insight.names import Names, TunnelNames
from ovnlab.insight.probe_capture import tunnel_filter, underlay
from ovnlab.insight.probe_packet import endpoint
from ovnlab.insight.tcpdump import END_TIMEOUT, Capture, CapturedPacket, CapturePoint, Captures
from ovnlab.lab.lab import Lab
from ovnlab.topology.resolved import interface_name
from ovnlab.waiting import CLOCK

HOLD = 0.25
"""Seconds that a packet waits for those of other places that were seen before it."""

REFRESH = 1.0
"""Seconds between two looks at the Southbound database for a key that nobody knew."""

BFD = 3784
"""The UDP port of BFD, with which chassis try their tunnels (RFC 5881, 4)."""

KERNEL_DEVICES = ("genev_sys_6081", "vxlan_sys_4789")
"""What the kernel's datapath has for tunnels, where packets pass without their header (ovs-vswitchd(8))."""


@dataclass(frozen=True)
class CaptureRequest:
    """The interfaces to capture on by name, all where none is given; before or after encapsulation on nodes.

    `count` is 0 and `seconds` None for no end; `bfd` says that the probes of tunnels are wanted as well.
    """

    targets: tuple[str, ...] = ()
    expression: str = ""
    inner: bool = False
    outer: bool = False
    count: int = 0
    seconds: float | None = None
    bfd: bool = False


@dataclass(frozen=True)
class PacketLine:
    """A packet with where it was seen, and what its tunnel's numbers stand for."""

    caught: CapturedPacket
    packet: Packet
    tunnel: TunnelNames | None


class NameLookup:
    """The names of a lab's numbers, read again when one is not known."""

    def __init__(self, lab: Lab, first: LabView) -> None:
        self._lab, self._look = lab, first
        self._next = 0.0

    def named(self, node: str, found: Packet) -> TunnelNames | None:
        """Return what the tunnel of a packet seen on a node stands for."""
        if found.tunnel is None:
            return None
        names = self._known(self._look.zone_of(node).names, node, found.tunnel)
        return names.named(found.tunnel, found.source, found.destination)

    def _known(self, names: Names, node: str, tunnel: TunnelHeader) -> Names:
        datapath = names.datapath(tunnel.datapath_key)
        known = datapath is not None and bool(names.port(datapath.name, tunnel.egress_key))
        if known or CLOCK.monotonic() < self._next:
            return names
        self._next = CLOCK.monotonic() + REFRESH
        try:
            self._look = look(self._lab, flows=False, states=False)
        except OvnlabError:  # the database is away for a moment; the numbers are shown
            return names
        return self._look.zone_of(node).names


def places(seen: LabView, wanted: CaptureRequest) -> list[tuple[CapturePoint, str]]:
    """Return where to listen, each with tcpdump's expression.

    Raises UsageError for names that the lab does not have.
    """
    if wanted.inner and wanted.outer:
        raise UsageError("--inner and --outer are the two sides of a tunnel: one of them")
    if wanted.seconds is not None and not math.isfinite(wanted.seconds):
        raise UsageError(f"--seconds {wanted.seconds} is not a time")
    names = wanted.targets or _everywhere(seen, wanted)
    return [_place(seen, wanted, name) for name in dict.fromkeys(names)]


def _everywhere(seen: LabView, wanted: CaptureRequest) -> list[str]:
    chassis = [node.name for node in seen.topology.chassis if node.name in seen.nodes]
    if wanted.inner or wanted.outer:
        return chassis
    vms = [bound.name for state in seen.states.values() for bound in state.vms]
    return [*chassis, *vms]


def _place(seen: LabView, wanted: CaptureRequest, name: str) -> tuple[CapturePoint, str]:
    where, separator, device = name.partition(":")
    if separator and seen.topology.node(where) is not None and not wanted.inner:  # as `ovnlab trace` names places
        state = seen.states.get(where)
        if state is not None and device not in state.devices:
            known = ", ".join(sorted(state.devices))
            raise UsageError(f"unknown device {device}", where=where, hint=f"available: {known}")
        return CapturePoint(where, device, seen.node(where).command, where), wanted.expression
    if seen.topology.node(name) is None:
        end = endpoint(seen, name)  # raises for a name that the lab does not have
        if end.place is None:
            raise UsageError(f"{name} is nowhere that could be listened at")
        device = end.place.interface or interface_name(name)
        return CapturePoint(name, device, end.place.command, end.place.node.name), wanted.expression
    node = seen.node(name)
    if wanted.inner:
        state = seen.states.get(name)
        found = next((device for device in KERNEL_DEVICES if state and device in state.devices), None)
        return CapturePoint(name, found or "", node.command, name), wanted.expression
    place = underlay(seen, name)
    if place is not None:
        return place, _in_tunnels(seen, name, wanted.expression) if wanted.expression else tunnel_filter()
    host = seen.topology.node(name)
    devices = [nic.carrier for nic in host.nics] if host else []
    if not devices:
        raise OvnlabError("has no device of the lab's", where=name)
    return CapturePoint(name, devices[0], node.command, name), wanted.expression


def _in_tunnels(seen: LabView, node: str, expression: str) -> str:
    """Return an expression that matches what a node's tunnels carry as well (pcap-filter(7), geneve and vxlan)."""
    kinds = {encap.type for encap in seen.zone_of(node).names.encaps if encap.chassis == node}
    kind = "vxlan" if kinds == {"vxlan"} else "geneve"
    return (
        f"({expression}) or (udp port {GENEVE_PORT if kind == 'geneve' else VXLAN_PORT} and {kind} and ({expression}))"
    )


def capture(
    lab: Lab, wanted: CaptureRequest, begun: Callable[[Sequence[CapturePoint]], None], stop: threading.Event
) -> Iterator[PacketLine]:
    """Yield the packets of all places as they come, by time, until one of the limits, or until `stop` is set.

    `begun` is told when all places are listened at.
    """
    seen = look(lab, flows=False)
    wished = places(seen, wanted)
    lookup = NameLookup(lab, seen)
    arrived: queue.SimpleQueue[CapturedPacket] = queue.SimpleQueue()
    with Captures(wished) as taps:
        threads = [threading.Thread(target=_pass_on, args=(tap, arrived), daemon=True) for tap in taps.taps]
        for thread in threads:
            thread.start()
        begun([place for place, _ in wished])
        every = ((caught, packet(caught.data)) for caught in _ordered(arrived, taps, threads, wanted, stop))
        shown = ((caught, found) for caught, found in every if _is_wanted(wanted, found))
        for caught, found in itertools.islice(shown, wanted.count or None):
            yield PacketLine(caught, found, lookup.named(caught.place.node, found))


def _is_wanted(wanted: CaptureRequest, found: Packet) -> bool:
    """Return False for the probes with which tunnels are tried all the time, unless they are asked for."""
    return wanted.bfd or found.innermost.destination_port != BFD


def capture_to(
    lab: Lab,
    wanted: CaptureRequest,
    stream: IO[bytes],
    begun: Callable[[Sequence[CapturePoint]], None],
    stop: threading.Event,
) -> int:
    """Write packets as pcapng to a stream as they come, and return how many: `wireshark -k -i -` shows them."""
    writer: pcap.Writer | None = None
    count = 0

    def started(found: Sequence[CapturePoint]) -> None:
        nonlocal writer
        writer = pcap.Writer(stream, [place.title for place in found])
        stream.flush()
        begun(found)

    for line in capture(lab, wanted, started, stop):
        if writer is not None:
            caught = line.caught
            writer.write(caught.time, caught.place.title, caught.data, caught.length)
            stream.flush()
            count += 1
    return count


def _pass_on(tap: Capture, arrived: queue.SimpleQueue[CapturedPacket]) -> None:
    for one in tap.packets():
        arrived.put(one)


def _ordered(
    arrived: queue.SimpleQueue[CapturedPacket],
    taps: Captures,
    threads: Sequence[threading.Thread],
    wanted: CaptureRequest,
    stop: threading.Event,
) -> Iterator[CapturedPacket]:
    """Yield packets by time: each waits a little for those that were seen before it and come later."""
    waiting: list[tuple[int, int, float, CapturedPacket]] = []
    numbers = itertools.count()
    end = CLOCK.monotonic() + wanted.seconds if wanted.seconds is not None else None

    def take(seconds: float) -> bool:
        try:
            caught = arrived.get(timeout=seconds) if seconds else arrived.get_nowait()
        except queue.Empty:
            return False
        heapq.heappush(waiting, (caught.time, next(numbers), CLOCK.monotonic(), caught))
        return True

    while True:
        take(0.05)
        now = CLOCK.monotonic()
        if stop.is_set() or (end is not None and now >= end) or not any(thread.is_alive() for thread in threads):
            break
        while waiting and now - waiting[0][2] >= HOLD:
            yield heapq.heappop(waiting)[3]
    taps.end()  # what is still on its way is let in, and no more
    for thread in threads:
        thread.join(END_TIMEOUT)
    while take(0):
        pass
    while waiting:
        yield heapq.heappop(waiting)[3]


@dataclass(frozen=True)
class CaptureResult:
    """The result of a capture into a file: packets written, and packets that the kernel dropped."""

    packets: int
    lost: int
    places: int


def capture_into(
    lab: Lab, wanted: CaptureRequest, path: Path, begun: Callable[[Sequence[CapturePoint]], None], stop: threading.Event
) -> CaptureResult:
    """Capture into a pcapng file with an interface for each place.

    tcpdump writes into files of its own, and nothing of ours is between it and the disk: at the end they become one.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise OvnlabError("cannot be written: there is no such folder", where=str(path))
    wished = places(look(lab, flows=False), wanted)
    titles = [place.title for place, _ in wished]
    parts: list[IO[bytes]] = []
    try:
        # They have no names: whatever happens, they go with us.
        parts.extend(tempfile.TemporaryFile(dir=path.parent) for _ in wished)  # noqa: SIM115  closed below
        with Captures(wished, into=parts) as taps:
            begun([place for place, _ in wished])
            _wait(wanted, parts, stop, [tap.is_running for tap in taps.taps])
            taps.close()
            lost = sum(tap.lost for tap in taps.taps)
        for part in parts:
            part.seek(0)
        frames = pcap.merged(list(zip(titles, parts, strict=True)))
        count = pcap.write(path, titles, itertools.islice(frames, wanted.count or None))
    except OSError as error:
        raise OvnlabError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    finally:
        for part in parts:
            part.close()
    return CaptureResult(count, lost, len(wished))


def _wait(
    wanted: CaptureRequest, parts: Sequence[IO[bytes]], stop: threading.Event, running: Sequence[Callable[[], bool]]
) -> None:
    """Return when one of the limits is reached, or `stop` is set."""
    counters = [pcap.Counter(part.fileno()) for part in parts]
    end = CLOCK.monotonic() + wanted.seconds if wanted.seconds is not None else None
    while not stop.is_set():  # not `wait`, which holds a lock that a signal's handler would wait for
        CLOCK.sleep(0.1)
        if end is not None and CLOCK.monotonic() >= end:
            return
        if wanted.count and sum(counter.count() for counter in counters) >= wanted.count:
            return
        if not any(is_running() for is_running in running):
            return
