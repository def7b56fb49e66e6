"""Traffic between ends of a lab while something happens to it, and what it sees of that.

with Traffic(lab, [("vm1", "host1")]) as seen:
    seen.mark("kill gw1")
    ...
assert seen.longest_gap < 3
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from ovnlab.errors import OvnlabError, Timeout, UsageError
from ovnlab.nodes.node import RunningNode
from ovnlab.nodes.target import Target
from ovnlab.topology.resolved import Topology
from ovnlab.traffic.outage import NOTEWORTHY, Gap, Packets
from ovnlab.traffic.process import Agent
from ovnlab.traffic.watcher import Takeover, Watcher
from ovnlab.waiting import CLOCK, now_ns, wait_until

PROTOCOLS = ("icmp", "udp", "tcp")

INTERVAL = 0.001
"""Seconds between two packets."""

CONNECTIONS = 4
"""TCP connections of a pair."""

ANSWER_TIMEOUT = 10.0
"""Seconds that the first answer may take."""

FIRST_TIMEOUT = 1.0
"""Seconds that it may take where none has to come."""

SETTLING = 0.5
"""Seconds that traffic is watched before anything happens."""

QUIET = 1.0
"""Seconds that traffic has to be well for after something happened."""

HICCUP = 0.2
"""Seconds without an answer that end such a time."""

PATIENCE = 30.0
"""Seconds that traffic is waited for to be well again."""


class TrafficLab(Protocol):
    """A lab, as far as traffic is concerned."""

    @property
    def name(self) -> str:
        """Return the name of the lab."""

    @property
    def topology(self) -> Topology:
        """Return the topology of the last `up`."""

    def nodes(self) -> Mapping[str, RunningNode]:
        """Return the nodes that run."""

    def endpoints(self, names: Collection[str]) -> Mapping[str, Target]:
        """Return nodes and fake VMs that are there."""

    def unknown_name(self, name: str) -> UsageError:
        """Return the error for a name that is neither."""


@dataclass(frozen=True)
class Mark:
    """An action on the lab, and its time in nanoseconds since 1970."""

    text: str
    when: int


@dataclass(frozen=True)
class Loss:
    """The loss in a period. `longest_gap_ms` is the longest time without an answer."""

    sent: int
    lost: int
    longest_gap_ms: int


@dataclass
class Pair:
    """Traffic from one end to another, and its packets."""

    source: str
    destination: str
    protocol: str
    address: str
    packets: Packets
    sender: Agent
    answerer: Agent | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return the pair, for people."""
        return f"{self.source} → {self.destination}"

    def poll(self) -> None:
        """Take what the agents have told."""
        self.packets.add(self.sender.events())
        if self.answerer is not None:
            self.packets.add(self.answerer.events())

    @property
    def known_until(self) -> int:
        """Return the time until which all is known that its sender knows."""
        return next(reversed(self.packets.sent.values()), 0)


class Traffic:
    """Packets between pairs of ends, from when it is entered until it is left and traffic is well again.

    With `required`, each pair must be answered before anything happens. Raises UsageError and OvnlabError for ends that
    are not there, Timeout for those that do not answer. Left by an error, it waits for nothing.
    """

    def __init__(
        self,
        lab: TrafficLab,
        pairs: Sequence[tuple[str, str]],
        *,
        protocol: str = "icmp",
        interval: float = INTERVAL,
        size: int = 56,
        connections: int = CONNECTIONS,
        required: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UsageError(f"unknown protocol {protocol}", hint=f"one of {', '.join(PROTOCOLS)}")
        self.lab = lab
        self.protocol = protocol
        self.interval = interval
        self.patience = patience
        self.began = self.ended = 0
        self.marks: list[Mark] = []
        self.pairs: list[Pair] = []
        self._wanted = list(pairs)
        self._size, self._connections, self._required = size, connections, required
        self._agents: list[Agent] = []
        self._watcher = Watcher(lab.topology, lab.nodes)

    # ── beginning and ending ─────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        ends = endpoints(self.lab, self._wanted)
        try:
            self._start(ends)
            for agent in self._agents:
                agent.synchronise()
            self._watcher.__enter__()
            try:
                self.began = now_ns()
                for pair in self.pairs:
                    pair.sender.begin()
                try:
                    self._await_answers(ANSWER_TIMEOUT if self._required else FIRST_TIMEOUT)
                    self.began = now_ns()  # the first packets are lost while neighbours are looked up
                except Timeout:
                    if self._required:
                        raise
                self.watch(SETTLING)
            except BaseException:
                self._watcher.__exit__()
                raise
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.settle()
        finally:
            self.ended = now_ns()
            for pair in self.pairs:
                if pair.sender.has_ended:
                    pair.problems.append(f"the sender ended: {pair.sender.failure().message}")
                if pair.answerer is not None and pair.answerer.has_ended:
                    pair.problems.append(f"the receiver ended: {pair.answerer.failure().message}")
            self._close()
            self._watcher.__exit__()
            self._poll()

    def _start(self, ends: Mapping[str, Target]) -> None:
        answerers: dict[str, tuple[Agent, int]] = {}
        addresses = {pair: address_of(ends[pair[0]], pair[1], ends) for pair in self._wanted}
        if self.protocol != "icmp":
            if others := [name for _, name in self._wanted if name not in ends]:
                raise UsageError(
                    f"nobody of the lab receives {self.protocol.upper()} at {others[0]}", hint="by ICMP, or to a name"
                )
            for pair, address in addresses.items():
                if pair[1] not in answerers:
                    answerers[pair[1]] = (self._agent(ends[pair[1]], role="answer", address=address), 0)
            answerers = {name: (agent, agent.await_port()) for name, (agent, _) in answerers.items()}
        for (source, destination), address in addresses.items():
            answerer, port = answerers.get(destination, (None, 0))
            sender = self._agent(
                ends[source],
                role="connect" if self.protocol == "tcp" else "send",
                protocol=self.protocol,
                address=address,
                port=port,
                interval=self.interval,
                size=self._size,
                streams=self._connections,
            )
            packets = Packets(self._connections if self.protocol == "tcp" else 1, self.protocol == "udp")
            self.pairs.append(Pair(source, destination, self.protocol, address, packets, sender, answerer))

    def _agent(self, end: Target, **asked: Any) -> Agent:
        self._agents.append(Agent(end, **asked))
        return self._agents[-1]

    def _close(self) -> None:
        for pair in self.pairs:
            pair.sender.stop()
        for pair in self.pairs:
            pair.sender.close()
        for agent in self._agents:
            agent.stop()
        for agent in self._agents:
            agent.close()

    def _await_answers(self, timeout: float) -> None:
        for pair in self.pairs:

            def answered(pair: Pair = pair) -> bool | None:
                pair.poll()
                if pair.sender.has_ended:
                    raise pair.sender.failure()
                return True if pair.packets.answered else None

            try:
                wait_until(f"an answer of {pair.destination} to {pair.source}", answered, timeout=timeout)
            except OvnlabError as error:
                error.hint = error.hint or f"ovnlab trace {pair.source} {pair.destination}"
                raise

    # ── while it goes on ─────────────────────────────────────────────────────────────────────────────

    def mark(self, text: str) -> None:
        """Remember that something is done now: gaps are told by when they began after it."""
        self.marks.append(Mark(text, now_ns()))

    def watch(self, seconds: float) -> None:
        """Let traffic go on for a time."""
        deadline = CLOCK.monotonic() + seconds
        while (left := deadline - CLOCK.monotonic()) > 0:
            CLOCK.sleep(min(left, 0.1))
            self._poll()

    def settle(self) -> bool:
        """Return True when traffic has been well for a while and somebody is in charge, False if it takes too long."""
        began, deadline = now_ns(), CLOCK.monotonic() + self.patience
        while CLOCK.monotonic() < deadline:
            self.watch(0.1)
            going = [pair for pair in self.pairs if not pair.sender.has_ended]
            if not going:
                return False
            known = min(pair.known_until for pair in going)
            start = known - int(QUIET * 1e9)
            well = start >= began and all(self._is_well(pair, start, known) for pair in going)
            if well and self._watcher.is_settled:
                return len(going) == len(self.pairs)  # one that has ended, with its node, is never well again
        return False

    def _is_well(self, pair: Pair, start: int, end: int) -> bool:
        """Return True if there was no gap in a time, on any connection that has not died."""
        dead = {death.connection for death in pair.packets.deaths}
        longest = max(HICCUP, 3 * self.interval * pair.packets.streams)
        for stream in range(pair.packets.streams):
            if stream not in dead:
                gaps = pair.packets.gaps_of(stream, start, end)
                if not gaps or any(gap.seconds > longest for gap in gaps):
                    return False
        return True

    def _poll(self) -> None:
        for pair in self.pairs:
            pair.poll()

    # ── what was seen ────────────────────────────────────────────────────────────────────────────────

    def ended_of(self, pair: Pair) -> int:
        """Return the time until which all is known of a pair, in nanoseconds since 1970."""
        if not self.ended:
            pair.poll()
        return min(self.ended, pair.known_until) if self.ended else pair.known_until

    def pair(self, source: str, destination: str) -> Pair:
        """Return a pair. Raises KeyError where there is no traffic between the two."""
        for pair in self.pairs:
            if (pair.source, pair.destination) == (source, destination):
                return pair
        raise KeyError(f"{source} → {destination}")

    def gaps(self, pair: Pair, start: int = 0, end: int = 0) -> list[Gap]:
        """Return the gaps of a pair that are worth telling, the longest first."""
        found = pair.packets.gaps(start or self.began, end or self.ended_of(pair))
        return [gap for gap in found if gap.ended - gap.began > NOTEWORTHY]

    def longest_gap_of(self, pair: Pair, start: int = 0, end: int = 0) -> float:
        """Return the longest time without an answer of a pair, in seconds."""
        found = pair.packets.gaps(start or self.began, end or self.ended_of(pair))
        return found[0].seconds if found else 0.0

    @property
    def longest_gap(self) -> float:
        """Return the longest time without an answer, of all pairs, in seconds."""
        return max((self.longest_gap_of(pair) for pair in self.pairs), default=0.0)

    @property
    def sent(self) -> int:
        """Return the packets that were sent."""
        return sum(len(pair.packets.within(self.began, self.ended_of(pair))) for pair in self.pairs)

    @property
    def lost(self) -> int:
        """Return the packets that were not answered. Before the end, those of the last moment are not yet."""
        return sum(
            number not in pair.packets.answered
            for pair in self.pairs
            for number in pair.packets.within(self.began, self.ended_of(pair))
        )

    def loss(self, start: int, end: int) -> Loss:
        """Return what became of the packets that were sent between two moments, in nanoseconds since 1970."""
        found = [(pair.packets, pair.packets.within(start, end)) for pair in self.pairs]
        lost = sum(number not in packets.answered for packets, numbers in found for number in numbers)
        gap = max((self.longest_gap_of(pair, start, min(end, self.ended_of(pair))) for pair in self.pairs), default=0.0)
        return Loss(sum(len(numbers) for _, numbers in found), lost, round(1000 * gap))

    @property
    def died(self) -> int:
        """Return the TCP connections that ended by themselves."""
        self._poll()
        return sum(len(pair.packets.deaths) for pair in self.pairs)

    @property
    def duplicates(self) -> int:
        """Return the answers that came once more."""
        self._poll()
        return sum(pair.packets.duplicates for pair in self.pairs)

    @property
    def reordered(self) -> int:
        """Return the answers that came after later ones."""
        self._poll()
        return sum(pair.packets.reordered for pair in self.pairs)

    @property
    def changes(self) -> tuple[Takeover, ...]:
        """Return what took over: gateways, RAFT leaders, BFD sessions."""
        return self._watcher.changes

    @property
    def in_charge(self) -> dict[tuple[str, str], str]:
        """Return what is in charge now, by kind (gateway, leader, bfd) and name."""
        return self._watcher.facts


def endpoints(lab: TrafficLab, pairs: Sequence[tuple[str, str]]) -> Mapping[str, Target]:
    """Return the ends of pairs that have a name. Raises UsageError and OvnlabError for those that are not there."""
    names = {name for pair in pairs for name in pair}
    ends = lab.endpoints({name for name in names if not _is_ip(name)})
    for name in sorted(names):
        if name in ends or (_is_ip(name) and name not in {source for source, _ in pairs}):
            continue
        if lab.topology.node(name) is not None:
            raise OvnlabError("is not running", where=name, hint="`ovnlab up` starts it")
        if lab.topology.vm(name) is None and lab.topology.vlan(name) is None:
            raise lab.unknown_name(name)
        raise OvnlabError("is not bound to a node", where=name, hint=f"ovnlab bind {name} NODE")
    return ends


def _is_ip(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def address_of(source: Target, name: str, ends: Mapping[str, Target]) -> str:
    """Return the address of a destination, of an IP version that the source has as well."""
    versions = {ipaddress.ip_address(own).version for own in source.addresses}
    candidates = ends[name].addresses if name in ends else (name,)
    found = next((one for one in candidates if ipaddress.ip_address(one).version in versions), None)
    if found is None:
        raise OvnlabError(f"has no address that {source.name} could reach", where=name)
    return found
