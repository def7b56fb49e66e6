"""Performance between two ends: throughput, packets, latency, and the CPU time of the switches."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.nodes.node import RunningNode
from ovnlab.nodes.target import Target
from ovnlab.parallel import for_each
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.traffic.agent import ANSWERED, BYTES, DIED, OVERFLOWN, PACKETS, SENT
from ovnlab.traffic.process import Agent
from ovnlab.traffic.traffic import TrafficLab, address_of, endpoints
from ovnlab.waiting import CLOCK, now_ns

IDLE = 1.0
"""Seconds in which the latency is measured before the load begins."""

DRAINING = 0.3
"""Seconds in which what is still on its way comes, after the load has ended."""

PROBE_INTERVAL = 0.005
"""Seconds between two pings that the latency is measured by."""

PERCENTILES = (50, 90, 99)

LARGEST_DATAGRAM = 65507
"""Bytes that a UDP packet over IPv4 can carry."""

DEFAULT_SIZES = {"tcp": 131072, "udp": 1380}
"""Bytes that are written at once. Those of UDP are one packet, which the MTU of fake VMs takes whole."""


class Latency(msgspec.Struct, frozen=True):
    """The time from a ping to its answer, in milliseconds: percentiles of so many answers, and how many were lost."""

    answers: int
    lost: int
    percentiles: dict[str, float]
    longest: float


class SwitchLoad(msgspec.Struct, frozen=True):
    """The CPU that a node's ovs-vswitchd took, in percent of one processor."""

    node: str
    cpu_percent: float


class Perf(msgspec.Struct, frozen=True):
    """The measured performance. Packets are those that arrived; of TCP, segments as the receiver's device saw them."""

    source: str
    destination: str
    address: str
    protocol: str
    streams: int
    size: int
    seconds: float
    bits_per_second: float
    packets_per_second: float
    sent_packets: int
    received_packets: int
    lost_percent: float | None
    dropped_by_receiver: int
    latency_idle: Latency
    latency_loaded: Latency
    switches: tuple[SwitchLoad, ...]


@dataclass(frozen=True)
class Load:
    """The load to send."""

    protocol: str
    streams: int
    size: int
    seconds: float


def load(protocol: str, streams: int, size: int | None, seconds: float) -> Load:
    """Return what is sent. Raises UsageError for a size that no packet can have."""
    chosen = DEFAULT_SIZES[protocol] if size is None else size
    if protocol == "udp" and chosen > LARGEST_DATAGRAM:
        raise UsageError(f"invalid size {chosen}: expected at most {LARGEST_DATAGRAM} bytes by UDP")
    return Load(protocol, streams, chosen, seconds)


def measure(lab: TrafficLab, source: str, destination: str, wanted: Load) -> Perf:
    """Send as much as goes for a time. Raises OvnlabError where one of the ends is not there or cannot be reached."""
    ends = endpoints(lab, [(source, destination)])
    if destination not in ends:
        raise UsageError(f"nobody of the lab receives at {destination}", hint="name a fake VM or a node")
    here, there = ends[source], ends[destination]
    address = address_of(here, destination, ends)
    agents: list[Agent] = []
    try:
        return _measured(lab, here, there, address, wanted, agents)
    finally:
        for agent in agents:
            agent.stop()
        for agent in agents:
            agent.close()


def _measured(lab: TrafficLab, here: Target, there: Target, address: str, wanted: Load, agents: list[Agent]) -> Perf:
    def agent(end: Target, **asked: Any) -> Agent:
        agents.append(Agent(end, address=address, **asked))
        return agents[-1]

    switches = {name: node for name, node in lab.nodes().items() if _has_switch(lab, name)}
    sink = agent(there, role="sink")
    port = sink.await_port()
    probe = agent(here, role="send", protocol="icmp", interval=PROBE_INTERVAL, size=56, port=0)
    flood = agent(here, role="flood", protocol=wanted.protocol, port=port, size=wanted.size, streams=wanted.streams)
    for one in agents:
        one.synchronise()
    probe.begin()
    CLOCK.sleep(IDLE)
    began_counters, packets_before = _cpu(switches), _received(there)
    began = now_ns()
    flood.begin()
    CLOCK.sleep(wanted.seconds)
    flood.stop()
    ended = now_ns()
    ended_counters = _cpu(switches)
    packets_after = _received(there)
    CLOCK.sleep(DRAINING)
    for one in (flood, probe, sink):
        one.close()
    sent, received = list(flood.events()), list(sink.events())
    # A connection that is not refused is still being made when a short time is over.
    failed = wanted.protocol == "tcp" or any(kind == DIED for kind, _, _ in sent)
    if failed and not _sum(received, BYTES):
        hint = f"ovnlab trace {here.name} {there.name}"
        raise OvnlabError(f"cannot be reached by {wanted.protocol.upper()}", where=address, hint=hint)
    seconds = (ended - began) / 1e9
    sent_packets, arrived = _sum(sent, PACKETS), _sum(received, PACKETS)
    if wanted.protocol == "tcp":
        arrived = max(packets_after - packets_before, 0)
    pings = list(probe.events())
    return Perf(
        source=here.name,
        destination=there.name,
        address=address,
        protocol=wanted.protocol,
        streams=wanted.streams,
        size=wanted.size,
        seconds=round(seconds, 3),
        bits_per_second=round(8 * _sum(received, BYTES) / seconds),
        packets_per_second=round(arrived / seconds),
        sent_packets=sent_packets if wanted.protocol == "udp" else arrived,
        received_packets=arrived,
        lost_percent=_percent(sent_packets - arrived, sent_packets) if wanted.protocol == "udp" else None,
        dropped_by_receiver=_sum(received, OVERFLOWN),
        latency_idle=latency(pings, 0, began),
        latency_loaded=latency(pings, began, ended),
        switches=tuple(
            SwitchLoad(name, round(100 * (ended_counters[name] - began_counters[name]) / seconds, 1))
            for name in switches
            if name in began_counters and name in ended_counters
        ),
    )


def _has_switch(lab: TrafficLab, name: str) -> bool:
    node = lab.topology.node(name)
    return node is not None and node.has_switch


def _percent(part: int, whole: int) -> float:
    return round(100 * max(part, 0) / max(whole, 1), 2)


def _sum(events: Iterable[tuple[int, int, int]], kind: int) -> int:
    return sum(number for one, number, _ in events if one == kind)


def latency(events: Sequence[tuple[int, int, int]], start: int, end: int) -> Latency:
    """Return how long answers took to pings that were sent in a time."""
    sent = {number: when for kind, number, when in events if kind == SENT and start <= when < end}
    took = sorted((when - sent[number]) / 1e6 for kind, number, when in events if kind == ANSWERED and number in sent)
    at = {f"p{part}": round(took[min(len(took) * part // 100, len(took) - 1)], 3) for part in PERCENTILES if took}
    return Latency(len(took), len(sent) - len(took), at, round(took[-1], 3) if took else 0.0)


def _cpu(switches: Mapping[str, RunningNode]) -> dict[str, float]:
    """Return the seconds of CPU that each node's ovs-vswitchd has taken."""

    def ask(node: RunningNode) -> float:
        user, system, ticks = map(
            int, run_script(node.context, render("node/read-switch-cpu.sh.j2"), where=f"{node.name}: counting").split()
        )
        return (user + system) / ticks

    return dict(zip(switches, for_each(switches.values(), ask), strict=True))


def _received(end: Target) -> int:
    """Return the packets that the devices of an end have received."""
    done = subprocess.run(end.command(["cat", "/proc/net/dev"]), capture_output=True, text=True, check=False)
    rows = [line.partition(":") for line in done.stdout.splitlines() if ":" in line]
    return sum(int(rest.split()[1]) for name, _, rest in rows if name.strip() != "lo")
