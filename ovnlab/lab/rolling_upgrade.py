"""Other software on nodes of a running lab, one node after the other, and what traffic sees of it."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ovnlab.errors import OvnlabError, Timeout, UsageError
from ovnlab.lab import builds
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import daemon_status, software_of
from ovnlab.nodes.target import Target
from ovnlab.software import artefacts
from ovnlab.tasks.script import run_script
from ovnlab.topology.resolved import Software, Topology
from ovnlab.waiting import CLOCK, now_ns, wait_until

INTERVAL = 0.01
"""Seconds between two packets of the traffic that is watched."""

ANSWER_TIMEOUT = 5.0
"""Seconds that the first answer may take."""

SETTLING = 0.3
"""Seconds that traffic is watched before the first step and after the last."""


GO_ON = "the same command once more goes on with it; `ovnlab up` makes the lab what its file says"


@dataclass(frozen=True)
class Loss:
    """What became of the packets of one step. `longest_gap_ms` is the longest time without an answer."""

    sent: int
    lost: int
    longest_gap_ms: int


@dataclass(frozen=True)
class UpgradeStep:
    """One node that has other software now: what its daemons were of before and are of after, by their own account."""

    node: str
    before: str
    after: str
    seconds: float
    loss: Loss | None


def order(topology: Topology, names: Sequence[str], *, every: bool) -> list[str]:
    """The nodes to upgrade. All of them in the order that OVN asks for: chassis first, central nodes last.

    Source: OVN, Documentation/intro/install/ovn-upgrades. Raises UsageError for names that are no nodes with software.
    """
    able = [node for node in topology.nodes if node.role != "host"]
    if every:
        return [node.name for node in sorted(able, key=lambda node: node.central)]
    for name in names:
        if topology.node(name) is None:
            hint = f"it has {', '.join(node.name for node in able)}"
            raise UsageError(f"lab {topology.name} has no node {name!r}", hint=hint)
        if name not in {node.name for node in able}:
            raise UsageError(f"{name} is a host: it runs neither OVS nor OVN")
    return list(dict.fromkeys(names))


def upgrade(
    lab: Lab, names: Sequence[str], software: Callable[[Software], Software], traffic: tuple[str, str] | None
) -> list[UpgradeStep]:
    """Give nodes other software, one after the other; each is in sync before the next.

    `software` says what a node is to have, by what it has. Everything is built before anything is changed. Raises
    OvnlabError where a node does not come back; the others stay as they are.
    """
    lab.central()
    topology = lab.topology
    wanted = {node.name: software(node.software) for node in topology.nodes if node.name in names}
    with artefacts.claimed(lab.reporter.note):
        built = builds.obtain(wanted.values(), lab.reporter, lab.build_host)
        keys = {name: built[found].key if found in built else "" for name, found in wanted.items()}
        return _upgraded(lab, names, wanted, keys, traffic)


def _upgraded(
    lab: Lab,
    names: Sequence[str],
    wanted: Mapping[str, Software],
    keys: Mapping[str, str],
    traffic: tuple[str, str] | None,
) -> list[UpgradeStep]:
    with _watched(lab, traffic) as watch:
        steps: list[tuple[UpgradeStep, int, int]] = []
        for name in names:
            lab.reporter.step(f"upgrading {name}")
            began, before = CLOCK.monotonic(), _software(lab, name)
            start_ns = now_ns()
            try:
                lab.set_software(name, wanted[name], keys[name])
            except OvnlabError as error:
                error.hint = error.hint or GO_ON
                done = (f"{step.node} is upgraded: {step.after}" for step, _, _ in steps)
                error.detail = "\n".join(filter(None, [error.detail, *done]))
                raise
            seconds = CLOCK.monotonic() - began
            steps.append((UpgradeStep(name, before, _software(lab, name), round(seconds, 3), None), start_ns, now_ns()))
        if watch is None:
            return [step for step, _, _ in steps]
        answers = watch.answers()
    return [
        UpgradeStep(step.node, step.before, step.after, step.seconds, answers.within(start_ns, end_ns))
        for step, start_ns, end_ns in steps
    ]


def _software(lab: Lab, name: str) -> str:
    """What a node's daemons are of, by their own account."""
    printed = run_script(lab.node(name).context, lab.daemons_script(name, {}), where=f"{name}: looking")
    state = lab.daemons(name, printed, {})
    return software_of(daemon_status(daemon, state.build) for daemon in state.daemons.values())


_REPLY = re.compile(r"^\[(?P<time>[0-9.]+)\] \d+ bytes from .*icmp_seq=(?P<seq>\d+) .*time=(?P<took>[0-9.]+) ms")
_NONE = re.compile(r"^\[(?P<time>[0-9.]+)\] (?:no answer yet for|From .*) icmp_seq=(?P<seq>\d+)")


@dataclass(frozen=True)
class PingReplies:
    """When packets were sent, which of them were answered and when, and until when that was watched.

    All times are in seconds since 1970.
    """

    sent: dict[int, float]
    answered: dict[int, float]
    ended: float

    def within(self, start_ns: int, end_ns: int) -> Loss:
        """What became of the packets that were sent between two moments."""
        start, end = start_ns / 1e9, end_ns / 1e9
        mine = [number for number, when in self.sent.items() if start <= when <= end]
        pairs = itertools.pairwise(sorted([*self.answered.values(), self.ended]))
        longest = max((later - earlier for earlier, later in pairs if later >= start and earlier <= end), default=0)
        return Loss(len(mine), sum(number not in self.answered for number in mine), round(1000 * longest))


def parse(printed: str, ended: float = 0) -> PingReplies:
    """What `ping -D -O` printed until it ended. Its numbers begin again after 65535."""
    sent: dict[int, float] = {}
    answered: dict[int, float] = {}
    last = 0
    for line in printed.splitlines():
        found = _REPLY.match(line) or _NONE.match(line)
        if found is None:
            continue
        number = int(found["seq"]) + (last & ~0xFFFF)
        number += 0x10000 if number < last - 0x8000 else 0
        last = max(last, number)
        when = float(found["time"])
        if "took" in found.groupdict():
            sent[number] = when - float(found["took"]) / 1000
            answered[number] = when
        else:
            sent.setdefault(number, when - INTERVAL)
    return PingReplies(sent, answered, ended or max(answered.values(), default=0))


class TrafficWatch:
    """A ping that goes on from one fake VM to another, as long as this is entered."""

    def __init__(self, source: Target, target: Target) -> None:
        self._source = source
        self._target = target

    def __enter__(self) -> Self:
        self._printed = tempfile.TemporaryFile("w+")
        # It ends when its standard input does, however ovnlab ends.
        script = 'ping "$@" <&- & read -r _; kill $!'
        command = ["sh", "-c", script, "sh", "-n", "-D", "-O", "-i", str(INTERVAL), self._target.address]
        self._process = subprocess.Popen(
            self._source.command(command), stdin=subprocess.PIPE, stdout=self._printed, stderr=subprocess.STDOUT
        )
        try:
            what = f"an answer of {self._target.name} to {self._source.name}"
            wait_until(what, lambda: self._answers().answered or None, timeout=ANSWER_TIMEOUT)
        except Timeout as error:
            self._end()
            error.hint = "`ovnlab up` mends a lab that is not whole"
            raise
        CLOCK.sleep(SETTLING)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._printed.close()

    def _answers(self) -> PingReplies:
        self._printed.seek(0)
        return parse(self._printed.read(), now_ns() / 1e9)

    def answers(self) -> PingReplies:
        """What came of its packets until now."""
        CLOCK.sleep(SETTLING)
        return self._answers()


@contextlib.contextmanager
def _watched(lab: Lab, traffic: tuple[str, str] | None) -> Iterator[TrafficWatch | None]:
    if traffic is None:
        yield None
        return
    places = lab.endpoints(traffic)
    for name in traffic:
        if name not in places:
            raise OvnlabError("is not bound to a node", where=name, hint=f"ovnlab bind {name} NODE")
    with TrafficWatch(places[traffic[0]], places[traffic[1]]) as watch:
        yield watch
