"""Real packets between many places of a lab, many at a time: what comes of a ping, or of a TCP connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ovnlab.nodes.node import RunningNode
from ovnlab.nodes.target import Target
from ovnlab.parallel import for_each
from ovnlab.tasks.script import TIMEOUT, run_script
from ovnlab.templating import render

PARALLEL = 32
"""Packets that are on their way at once from one node: waiting costs nothing."""

SECONDS = 2
"""How long an answer is waited for."""

PATIENTLY = 5
"""How long it is waited for where one should come and did not."""


@dataclass(frozen=True)
class ReachabilityTest:
    """A ping (of `detail` bytes, not to be fragmented, where there are any) or a TCP connection (to port `detail`).

    `device` is what it has to leave by, empty where the routes say that.
    """

    source: Target
    address: str
    kind: str = "ping"
    detail: int = 0
    device: str = ""

    def line(self, number: int) -> str:
        """Return its arguments in the script; none of them has a space or a quote in it."""
        words = (number, self.source.vm or "-", self.device or "-", self.kind, self.address, self.detail or "-")
        return " ".join(map(str, words))


def outcomes(tries: Sequence[ReachabilityTest], hoped: Sequence[bool]) -> list[str]:
    """Return what comes of each, in order: reachable, unreachable or refused. One script on each node that sends.

    What is `hoped` to be answered and is not is tried once more, patiently: a busy machine is not a defect of a lab.
    """
    found = _sent(tries, SECONDS)
    late = [number for number, outcome in enumerate(found) if outcome == "unreachable" and hoped[number]]
    again = _sent([tries[number] for number in late], PATIENTLY)
    for number, outcome in zip(late, again, strict=True):
        found[number] = outcome
    return found


def _sent(tries: Sequence[ReachabilityTest], seconds: int) -> list[str]:
    homes: dict[str, tuple[RunningNode, list[int]]] = {}
    for number, one in enumerate(tries):
        homes.setdefault(one.source.node.name, (one.source.node, []))[1].append(number)

    def send(home: tuple[RunningNode, list[int]]) -> list[tuple[int, str]]:
        node, numbers = home
        lines = [tries[number].line(number) for number in numbers]
        script = render("node/try-packets.sh.j2", node=node.name, tries=lines, seconds=seconds, parallel=PARALLEL)
        timeout = TIMEOUT + len(numbers) * (seconds + 1)
        printed = run_script(node.context, script, where=f"{node.name}: sending packets", timeout=timeout)
        return [(int(number), outcome) for number, outcome in map(str.split, printed.splitlines())]

    found = dict(pair for told in for_each(homes.values(), send) for pair in told)
    return [found[number] for number in range(len(tries))]
