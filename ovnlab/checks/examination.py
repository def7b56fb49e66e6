"""A whole lab looked at: what its daemons and databases say, and whether packets go where they are meant to."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ovnlab.checks import assertions
from ovnlab.checks.check_result import CheckResult, failed, held
from ovnlab.checks.reachability import ReachabilityTest, outcomes
from ovnlab.checks.vm_matrix import PairResult, compared, pairs, places, sampled
from ovnlab.errors import OvnlabError
from ovnlab.insight.expected_reachability import Intent, intents
from ovnlab.insight.lab_view import LabView, look
from ovnlab.insight.probe_packet import TraceRequest
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import Status, status
from ovnlab.nodes.target import Target
from ovnlab.ovsdb.endpoints import of_zone
from ovnlab.parallel import for_each
from ovnlab.reporting import Reporter
from ovnlab.state import LabFolder, labs
from ovnlab.tasks import daemons
from ovnlab.topology.resolved import Check

SYNC_TIMEOUT = 10
"""Seconds that chassis have to follow the Northbound database."""

HEADERS = {4: 28, 6: 48}
"""Bytes of an IP and an ICMP header, by IP version (RFC 791, 792, 8200, 4443)."""


@dataclass(frozen=True)
class FileCheckResult:
    """A check of the topology's file: what OVN means, and what came of it (or why it could not be tried)."""

    check: Check
    intent: Intent
    observed: str

    @property
    def ok(self) -> bool:
        """Return True if it came as the file says, and as OVN means it."""
        return self.observed == self.check.expect and self.intent.agrees_with(self.observed)

    @property
    def title(self) -> str:
        """Return what was tried, for people."""
        where = self.check.target if self.check.kind == "ping" else f"{self.check.target}:{self.check.port}"
        return f"{self.check.kind} {where} from {self.check.source}"

    @property
    def finding(self) -> CheckResult:
        """Return this as a check result."""
        if self.ok:
            return held("checks", self.title, self.observed)
        expected = self.check.expect
        if self.observed == expected:
            expected = f"{self.intent.outcome} ({self.intent.reason})" if self.intent.reason else self.intent.outcome
        elif self.intent.outcome != "unknown":
            why = f": {self.intent.reason}" if self.intent.reason else ""
            expected += f" (OVN means {self.intent.outcome}{why})"
        tcp = f" --tcp {self.check.port}" if self.check.kind == "tcp" else ""
        hint = f"ovnlab trace {self.check.source} {self.check.target}{tcp}"
        return failed("checks", self.title, expected, self.observed, hint)


class FaultResult(Protocol):
    """The result of a check that breaks something."""

    @property
    def title(self) -> str:
        """Return the fault, for people."""

    @property
    def parts(self) -> tuple[CheckResult, ...]:
        """Return what was checked while it was on."""

    @property
    def gap_ms(self) -> int | None:
        """Return how long traffic had no answer, in milliseconds; None without traffic."""


@dataclass(frozen=True)
class Examination:
    """The results of an examination.

    Of `of_pairs` pairs those in `pairs` were tried, chosen by `seed` where not all. Hints name the lab where it
    `is_one_of_several`.
    """

    lab: str
    own: tuple[CheckResult, ...]
    pairs: tuple[PairResult, ...]
    of_pairs: int
    seed: int
    checks: tuple[FileCheckResult, ...]
    is_one_of_several: bool = False
    faults: tuple[FaultResult, ...] = ()

    @property
    def findings(self) -> tuple[CheckResult, ...]:
        """Return everything, in the order in which it is told."""
        found = (*self.own, *(pair.finding for pair in self.pairs), *(checked.finding for checked in self.checks))
        found += tuple(part for fault in self.faults for part in fault.parts)
        return (
            tuple(replace(one, hint=_of_lab(one.hint, self.lab)) for one in found) if self.is_one_of_several else found
        )

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """Return what does not hold."""
        return tuple(finding for finding in self.findings if not finding.ok)


def examine(lab: Lab, reporter: Reporter, *, sample: int, seed: int) -> Examination:
    """Look at a lab and try its packets, at most `sample` pairs of fake VMs. Raises OvnlabError where it is down."""
    if not lab.provider.is_up():
        raise OvnlabError(f"lab {lab.name} is down", hint=f"{lab.folder.up_command()} brings it back")
    reporter.step("looking at daemons, chassis, tunnels and ports")
    found, synced = _state(lab)
    own = [*assertions.all_of(found, lab.topology), *synced]
    try:
        seen = look(lab)
    except OvnlabError as error:
        known = [finding for finding in own if finding.kind not in ("chassis", "ports")]
        return Examination(lab.name, (*known, _unread(error)), (), 0, seed, (), len(labs()) > 1)
    own += [*_as_bound(seen), *_nowhere(found, seen)]
    every = pairs(seen, places(seen))
    chosen = sampled(every, sample, seed)
    if chosen:
        reporter.step(f"trying {len(chosen)} pairs of fake VMs" + _out_of(chosen, every))
    tried = compared(seen, chosen)
    own += _mtu(seen, tried)
    checks = lab.topology.checks
    if checks:
        reporter.step(f"trying {len(checks)} checks of the file")
    done = tuple(check(lab, seen, checks))
    return Examination(lab.name, tuple(own), tuple(tried), len(every), seed, done, len(labs()) > 1)


def _of_lab(hint: str, lab: str) -> str:
    """Return a command that names the lab; `up` goes by its file."""
    if hint == "ovnlab up":
        return LabFolder(lab).with_file(hint)
    if not hint.startswith("ovnlab "):
        return hint
    command, separator, rest = hint.partition(" -- ")
    return f"{command} -l {lab}{separator}{rest}"


def _as_bound(seen: LabView) -> Iterator[CheckResult]:
    """Yield whether fake VMs have in their namespaces what they were bound with, the only sign of a silent one."""
    for node, state in seen.states.items():
        for bound in state.vms:
            wanted = seen.topology.vm(bound.name) or bound.vm
            if wanted is None:
                continue
            title = f"{bound.name} on {node} is configured as its port"
            unlike = bound.unlike(wanted)
            if not unlike and (unrouted := bound.unrouted()):
                unlike = {"routes": (", ".join(unrouted), "none there")}
            if unlike:
                expected = ", ".join(f"{what} {wanted or 'none'}" for what, (wanted, _) in unlike.items())
                observed = ", ".join(f"{what} {is_now or 'none'}" for what, (_, is_now) in unlike.items())
                yield failed("vms", title, expected, observed, "ovnlab up")
            else:
                yield held("vms", title, " ".join(bound.addresses) or "none")


def _nowhere(found: Status, seen: LabView) -> Iterator[CheckResult]:
    """Yield ports that are bound in the Southbound database but on no node that answers: their pairs are not tried."""
    there = {bound.name for state in seen.states.values() for bound in state.vms}
    ports = {name: port for zone in seen.zones.values() for name, port in zone.names.ports.items()}
    for port in found.ports:
        owner = ports[port.name].parent if port.name in ports else ""  # of a VLAN child, which has no interface there
        if port.chassis is not None and (owner or port.name) not in there:
            title = f"{port.name} is on {port.chassis}"
            yield failed(
                "vms", title, "a fake VM", f"{port.chassis} does not tell of it", f"ovnlab explain {port.name}"
            )


def _out_of(chosen: Sequence[object], every: Sequence[object]) -> str:
    return f", a sample of {len(every)}" if len(chosen) < len(every) else ""


def _unread(error: OvnlabError) -> CheckResult:
    where = error.where or "the central node"
    return failed("databases", "the Southbound database answers", "yes", f"no ({where})", "ovnlab status")


def _state(lab: Lab) -> tuple[Status, list[CheckResult]]:
    """Return the lab's status, and whether chassis follow the databases, found out at the same time."""
    found: list[Status] = []
    synced: list[CheckResult] = []

    questions: list[Callable[[], None]] = [lambda: found.append(status(lab))]
    questions += [
        functools.partial(lambda zone: synced.append(hv_synced(lab, zone)), zone) for zone in lab.topology.zones
    ]
    for_each(questions, lambda ask: ask())
    return found[0], synced


def hv_synced(lab: Lab, zone: str, timeout: int = SYNC_TIMEOUT) -> CheckResult:
    """Return whether all chassis of a zone follow the Northbound database (ovn-nbctl(8), --wait=hv)."""
    title = "all chassis follow the Northbound database" + (f" of {zone}" if zone else "")
    try:
        daemons.await_sync(lab.central(zone).context, of_zone(lab.topology, zone), timeout)
    except OvnlabError as error:
        return failed("synced", title, f"within {timeout} s", error.message, "ovnlab status")
    return held("synced", title)


def _mtu(seen: LabView, tried: Sequence[PairResult]) -> list[CheckResult]:
    """Yield whether the largest packet of fake VMs gets through between each two chassis that have some."""
    chosen: dict[frozenset[str], tuple[PairResult, int]] = {}
    for one in tried:
        source, target = one.pair.source.target, one.pair.target.target
        nodes = frozenset((source.node.name, target.node.name))
        mtu = min(_mtu_of(seen, source), _mtu_of(seen, target))
        if len(nodes) == 2 and nodes not in chosen and one.observed == "reachable" and one.ok and mtu:
            chosen[nodes] = one, mtu
    tries = [
        ReachabilityTest(
            one.pair.source.target, str(one.pair.address),
            detail=mtu - HEADERS[one.pair.address.version], device=one.pair.source.device,
        )
        for one, mtu in chosen.values()
    ]  # fmt: skip
    found = []
    for (one, mtu), observed in zip(chosen.values(), outcomes(tries, [True] * len(tries)), strict=True):
        near, far = one.pair.source.target, one.pair.target.target
        title = f"{mtu} bytes from {near.node.name} to {far.node.name} ({one.pair.title})"
        hint = f"ovnlab ping {near.name} {far.name} --size {mtu - HEADERS[one.pair.address.version]}"
        well = observed == "reachable"
        found.append(held("mtu", title, observed) if well else failed("mtu", title, "reachable", observed, hint))
    return found


def _mtu_of(seen: LabView, place: Target) -> int:
    home = seen.home(place.vm or place.name)
    device = home[1].devices.get(place.interface) if home else None
    return device.mtu if device else 0


def check(lab: Lab, seen: LabView, checks: Sequence[Check]) -> list[FileCheckResult]:
    """Try what a file's `checks:` say, and compare it with what OVN means."""
    there = lab.endpoints({one.source for one in checks} | {one.target for one in checks})
    observed = observe(checks, there)
    wishes = [
        TraceRequest(
            one.source, one.target, one.kind if one.kind == "tcp" else "icmp", one.port,
            ip=(address(one.target, there, there.get(one.source)) or "") if one.target in there else "",
        )
        for one in checks
    ]  # fmt: skip
    meant = intents(seen, wishes)  # after the packets: routers have learnt MAC addresses from them
    return [FileCheckResult(*one) for one in zip(checks, meant, observed, strict=True)]


def observe(checks: Sequence[Check], there: Mapping[str, Target]) -> list[str]:
    """Return what comes of each check between places of a lab: reachable, unreachable, refused, or why it was not
    tried.
    """
    tries: dict[int, ReachabilityTest] = {}
    observed: dict[int, str] = {}
    for number, one in enumerate(checks):
        source = there.get(one.source)
        found = address(one.target, there, source)
        if source is None:
            observed[number] = f"{one.source} is not there"
        elif found is None:
            observed[number] = f"{one.target} has no address" if one.target in there else f"{one.target} is not there"
        else:
            tries[number] = ReachabilityTest(
                source, found, one.kind, one.port, source.interface if source.is_vlan else ""
            )
    hoped = [checks[number].expect != "unreachable" for number in tries]
    observed.update(zip(tries, outcomes(list(tries.values()), hoped), strict=True))
    return [observed[number] for number in range(len(checks))]


def address(target: str, there: Mapping[str, Target], source: Target | None = None) -> str | None:
    """Return an address of a node or fake VM, of an IP version that the source has if possible; or the given one."""
    if target in there:
        mine = {":" in word for word in source.addresses} if source else set()
        same = [word for word in there[target].addresses if (":" in word) in mine]
        return next(iter([*same, *there[target].addresses, there[target].address]), None) or None
    try:
        return str(ipaddress.ip_address(target))
    except ValueError:
        return None
