"""Diagnosis of a lab: causes first, and under each the pairs that fail because of it.

The snapshot is read first, then packets are sent between fake VMs. For those that get no answer it is asked what OVN's
own logic makes of them, and which finding is on their way. What nothing explains is traced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ovnlab.checks.examination import HEADERS, address
from ovnlab.checks.reachability import ReachabilityTest, outcomes
from ovnlab.checks.vm_matrix import VMPair, pairs, places, sampled
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.insight import causes
from ovnlab.insight.causes.finding import CERTAIN, Evidence, FailingPair, Finding
from ovnlab.insight.causes.passes import is_address, passes
from ovnlab.insight.expected_reachability import Intent, intents
from ovnlab.insight.file_drift import is_by_hand
from ovnlab.insight.probe_packet import TraceRequest
from ovnlab.insight.snapshot import LabSnapshot, observe
from ovnlab.insight.trace import trace
from ovnlab.insight.verdict import verdict
from ovnlab.lab.lab import Lab
from ovnlab.nodes.target import Target
from ovnlab.northbound.live import LiveRow
from ovnlab.state import LabFolder, labs
from ovnlab.topology.addresses import ip_of
from ovnlab.topology.resolved import Check, interface_name

MOST_PAIRS = 200
"""Pairs of fake VMs that are tried where no one is asked for."""

MOST_SIZES = 30
"""Pairs of chassis between which the largest packet is tried."""

MOST_TRACED = 2
"""Failing pairs that no finding explains and that are traced: each takes seconds."""


@dataclass(frozen=True)
class DiagnosisRequest:
    """A pair that a person asks about; `size` are bytes of ICMP payload, `tcp` is a port, 0 where neither is given."""

    source: str
    target: str
    size: int = 0
    tcp: int = 0


@dataclass(frozen=True)
class RankedCause:
    """A finding, the findings that follow from it, and the failing pairs that it explains."""

    finding: Finding
    symptoms: tuple[Finding, ...] = ()
    pairs: tuple[FailingPair, ...] = ()
    possibly: tuple[FailingPair, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis. `unexplained` are failing pairs without a visible reason; `tried` pairs were tried."""

    lab: str
    found: tuple[RankedCause, ...]
    unexplained: tuple[FailingPair, ...]
    tried: int
    failing: int
    notes: tuple[str, ...] = ()
    asked: DiagnosisRequest | None = None

    @property
    def ok(self) -> bool:
        """Return True if nothing is wrong."""
        return not self.found and not self.unexplained


def diagnose(lab: Lab, asked: DiagnosisRequest | None = None, *, send: bool = True) -> Diagnosis:
    """Look at all of a lab, and try its pairs, or the one that is asked for; `send` nothing where that is False.

    Raises OvnlabError where the lab is down, UsageError for a name that it does not have.
    """
    lab.require_up()
    snapshot = observe(lab)
    notes: list[str] = []
    if asked is not None:
        _known(lab, asked)
        tried, failing = _ask(snapshot, asked, notes)
    else:
        tried, failing = _all(snapshot, notes) if send else (0, [])
    return _judged(lab, snapshot, tried, failing, notes, asked)


def explain(lab: Lab, snapshot: LabSnapshot, failing: Sequence[FailingPair], tried: int) -> Diagnosis:
    """Return the diagnosis of pairs that have been tried already."""
    return _judged(lab, snapshot, tried, failing, [], None)


def _known(lab: Lab, asked: DiagnosisRequest) -> None:
    topology = lab.topology
    for name in (asked.source, asked.target):
        known = topology.node(name) or topology.vm(name) or topology.vlan(name) or topology.port(name)
        if known is None and not is_address(name):
            lab.target(name)  # raises for what nobody is called
    if is_address(asked.source):
        raise UsageError("SRC must be a fake VM or a node", where=asked.source)


def _judged(
    lab: Lab,
    snapshot: LabSnapshot,
    tried: int,
    failing: Sequence[FailingPair],
    notes: list[str],
    asked: DiagnosisRequest | None,
) -> Diagnosis:
    found = causes.of(snapshot, Evidence(tuple(failing)))
    if found:  # what is just changing is not a fault: only what is there twice is told
        again = observe(lab)
        keys = {(finding.cause, finding.object) for finding in causes.of(again, Evidence(tuple(failing)))}
        found = tuple(finding for finding in found if (finding.cause, finding.object) in keys)
    failing = [
        pair for pair in failing if pair.observed != NO_ROUTE or any(finding.explains(pair.keys) for finding in found)
    ]
    found, unexplained = _traced(snapshot, found, failing, notes)
    notes += [f"{what} could not be read: {why}" for what, why in snapshot.unread.items()]
    grouped = _grouped([_addressed(lab, finding) for finding in found], failing)
    return Diagnosis(lab.name, grouped, tuple(unexplained), tried, len(failing), tuple(notes), asked)


# ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _all(snapshot: LabSnapshot, notes: list[str]) -> tuple[int, list[FailingPair]]:
    """Try pairs of fake VMs, the largest packet between chassis, and the file's checks."""
    try:
        look = snapshot.look
        every = pairs(look, places(look))
    except OvnlabError as error:
        notes.append(f"no packets were sent: {error}")
        return 0, []
    reachable = [pair for pair in every if pair.source.target.node.name in snapshot.nodes]
    chosen = sampled(reachable, MOST_PAIRS, 1)
    if len(chosen) < len(every):
        notes.append(f"{len(chosen)} of {len(every)} pairs were tried")
    observed = _sent(snapshot, [_try(pair) for pair in chosen])
    lost = [number for number, outcome in enumerate(observed) if outcome == "unreachable"]
    meant = intents(dataclasses.replace(look, nodes={}), [chosen[number].wish for number in lost]) if lost else []
    hopeful = [
        (number, intent)
        for number, intent in zip(lost, meant, strict=True)
        if intent.is_hopeful and not intent.unanswered
    ]
    patient = outcomes([_try(chosen[number]) for number, _ in hopeful], [True] * len(hopeful)) if hopeful else []
    failing = [
        _failing(
            snapshot,
            chosen[number].source.name,
            chosen[number].target.name,
            str(chosen[number].address),
            "no answer",
            intent,
        )
        for (number, intent), outcome in zip(hopeful, patient, strict=True)
        if outcome == "unreachable"
    ]
    answered = [pair for pair, outcome in zip(chosen, observed, strict=True) if outcome == "reachable"]
    failing += _large(snapshot, answered)
    failing += _checked(snapshot, {(pair.source, pair.target) for pair in failing})
    unsent = [(number, intent) for number, intent in zip(lost, meant, strict=True) if _lacks_route(intent)]
    failing += [
        _failing(
            snapshot,
            chosen[number].source.name,
            chosen[number].target.name,
            str(chosen[number].address),
            NO_ROUTE,
            intent,
        )
        for number, intent in unsent
    ]
    return len(chosen), failing


NO_ROUTE = "no answer, or no route for one"
"""What is observed of a pair that fails only if something is wrong with its ends: fake VMs may be meant to be alone."""


def _lacks_route(intent: Intent) -> bool:
    """Return True if a packet, or its answer, cannot be sent, or nobody knows whether it can."""
    lacking = intent.outcome == "not sent" or intent.reason.endswith("has no route")
    return lacking or (intent.is_hopeful and intent.unanswered)


def _try(pair: VMPair) -> ReachabilityTest:
    return ReachabilityTest(pair.source.target, str(pair.address), device=pair.source.device)


def _sent(snapshot: LabSnapshot, tries: Sequence[ReachabilityTest]) -> list[str]:
    del snapshot
    return outcomes(tries, [False] * len(tries)) if tries else []


def _large(snapshot: LabSnapshot, answered: Sequence[VMPair]) -> list[FailingPair]:
    """Try the largest packet of fake VMs between each two chassis, in both directions."""
    chosen: dict[tuple[str, str], tuple[VMPair, int]] = {}
    for pair in answered:
        nodes = (pair.source.target.node.name, pair.target.target.node.name)
        mtu = min(_mtu(snapshot, pair.source.target), _mtu(snapshot, pair.target.target))
        if nodes[0] != nodes[1] and mtu and len(chosen) < MOST_SIZES:
            chosen.setdefault(nodes, (pair, mtu - HEADERS[pair.address.version]))
    tries = [dataclasses.replace(_try(pair), detail=size) for pair, size in chosen.values()]
    found = outcomes(tries, [True] * len(tries)) if tries else []
    return [
        _failing(snapshot, pair.source.name, pair.target.name, str(pair.address), "no answer", size=size)
        for (pair, size), outcome in zip(chosen.values(), found, strict=True)
        if outcome == "unreachable"
    ]


def _mtu(snapshot: LabSnapshot, target: Target) -> int:
    seen = snapshot.nodes.get(target.node.name)
    for bound in seen.state.vms if seen is not None else ():
        if bound.name == (target.vm or target.name) and target.interface in bound.devices:
            return bound.devices[target.interface].mtu
    return 0


def _checked(snapshot: LabSnapshot, known: set[tuple[str, str]]) -> list[FailingPair]:
    """Try the file's checks. One that should be answered and is not fails; so does the opposite."""
    there = _targets(snapshot)
    checks = [check for check in snapshot.topology.checks if check.source in there]
    found = _observed(checks, there)
    failing = []
    for check, outcome in zip(checks, found, strict=True):
        same = outcome == check.expect or (check.source, check.target) in known or not outcome
        if same or (check.expect == "unreachable" and outcome == "refused"):
            continue
        wish = TraceRequest(check.source, check.target, "tcp" if check.kind == "tcp" else "icmp", check.port)
        intent = intents(snapshot.look, [wish])[0]
        where = address(check.target, there, there[check.source]) or check.target
        what = f"TCP port {check.port}" if check.kind == "tcp" else "ping"
        pair = _failing(
            snapshot,
            check.source,
            check.target,
            where,
            f"{outcome}, and the file expects {check.expect}",
            intent,
            what=what,
        )
        failing.append(pair)
    return failing


def _observed(checks: Sequence[Check], there: dict[str, Target], size: int = 0) -> list[str]:
    """Return what comes of each check; empty where it cannot be tried."""
    tries: dict[int, ReachabilityTest] = {}
    for number, check in enumerate(checks):
        source = there[check.source]
        where = address(check.target, there, source)
        if where is not None:
            device = source.interface if source.is_vlan else ""
            tries[number] = ReachabilityTest(source, where, check.kind, size or check.port, device)
    hoped = [checks[number].expect != "unreachable" for number in tries]
    found = dict(zip(tries, outcomes(list(tries.values()), hoped), strict=True)) if tries else {}
    return [found.get(number, "") for number in range(len(checks))]


def _targets(snapshot: LabSnapshot) -> dict[str, Target]:
    """Return nodes, fake VMs and their VLANs, as places that packets are sent from."""
    found = {}
    for name, seen in snapshot.nodes.items():
        node = snapshot.topology.node(name)
        own = tuple(node.addresses) if node is not None else ()
        carriers = [nic.carrier for nic in node.nics] if node is not None else []
        own += tuple(ip_of(a) for carrier in carriers for a in seen.state.device(carrier).addresses)
        found[name] = Target(name, snapshot.running[name], address=next(iter(own), ""), addresses=own)
        for bound in seen.state.vms:
            words = tuple(ip_of(a) for a in bound.addresses)
            found[bound.name] = Target(
                bound.name,
                snapshot.running[name],
                bound.name,
                interface_name(bound.name),
                next(iter(words), ""),
                addresses=words,
            )
            vm = snapshot.topology.vm(bound.name)
            for vlan in vm.vlans if vm is not None else ():
                words = tuple(ip_of(a) for a in vlan.addresses)
                found[vlan.name] = Target(
                    vlan.name,
                    snapshot.running[name],
                    bound.name,
                    vlan.interface,
                    next(iter(words), ""),
                    is_vlan=True,
                    addresses=words,
                )
    return found


def _ask(snapshot: LabSnapshot, asked: DiagnosisRequest, notes: list[str]) -> tuple[int, list[FailingPair]]:
    """Try the one pair that is asked for."""
    there = _targets(snapshot)
    if asked.source not in there:
        notes.append(f"{asked.source} could not be made to send: it is on no node that answers")
        return 0, [_failing(snapshot, asked.source, asked.target, asked.target, "not sent")]
    check = Check("tcp" if asked.tcp else "ping", asked.source, asked.target, asked.tcp, "reachable")
    outcome = _observed([check], there, asked.size)[0]
    where = address(asked.target, there, there[asked.source]) or _address_of(snapshot, asked.target)
    if outcome == "reachable":
        return 1, []
    if not outcome and where:
        outcome = (
            _observed([msgspec.structs.replace(check, target=where)], there, asked.size)[0] if is_address(where) else ""
        )
        if outcome == "reachable":
            return 1, []
    intent = Intent("unknown")
    try:
        wish = TraceRequest(asked.source, asked.target, "tcp" if asked.tcp else "icmp", asked.tcp)
        intent = intents(snapshot.look, [wish])[0]
    except OvnlabError as error:
        notes.append(f"OVN's logic could not be asked: {error}")
    what = f"TCP port {asked.tcp}" if asked.tcp else "ping"
    said = {"": "no address is known", "refused": "refused"}.get(outcome, "no answer")
    size = 0
    if asked.size and _observed([check], there)[0] == "reachable":
        size = asked.size
    return 1, [
        _failing(snapshot, asked.source, asked.target, where or asked.target, said, intent, what=what, size=size)
    ]


def _address_of(snapshot: LabSnapshot, name: str) -> str:
    """Return the address of a logical port that no interface has."""
    for zone in snapshot.zones.values():
        if name in zone.names.ports:
            return next(iter(zone.names.ports[name].ips), "")
    return name if is_address(name) else ""


def _failing(
    snapshot: LabSnapshot,
    source: str,
    target: str,
    where: str,
    observed: str,
    intent: Intent | None = None,
    *,
    what: str = "ping",
    size: int = 0,
) -> FailingPair:
    way = passes(snapshot, source, target, where)
    keys = frozenset(f"size {key}" for key in way.keys) if size else way.keys
    if what != "ping":
        keys = frozenset(key for key in keys if not key.startswith("ping to "))
        port = what.rpartition(" ")[2]
        keys |= {f"tcp {key.removeprefix('vm ')} {port}" for key in way.keys if key.startswith("vm ")}
    what = f"{size} bytes" if size else what
    pair = FailingPair(
        source,
        target,
        where,
        observed,
        intent.outcome if intent else "delivered",
        intent.reason if intent else "",
        keys,
        way.tunnels,
        _own_addresses(snapshot, source),
        what,
    )
    return dataclasses.replace(pair, keys=keys | {pair.key, "logic"} if not size else keys | {pair.key})


def _own_addresses(snapshot: LabSnapshot, name: str) -> tuple[str, ...]:
    return tuple(
        ip_of(word)
        for seen in snapshot.nodes.values()
        for bound in seen.state.vms
        if bound.name == name
        for word in bound.addresses
    )


# ── what nothing explains ────────────────────────────────────────────────────────────────────────────────────────


def _traced(
    snapshot: LabSnapshot, found: tuple[Finding, ...], failing: Sequence[FailingPair], notes: list[str]
) -> tuple[tuple[Finding, ...], list[FailingPair]]:
    """Add findings of OVN's own logic, and of traces, for pairs that no finding explains."""
    more: dict[tuple[str, str, str], Finding] = {}
    unexplained: list[FailingPair] = []
    traced = 0
    for pair in failing:
        if any(finding.explains(pair.keys) for finding in (*found, *more.values())):
            continue
        finding = _meant(snapshot, pair)
        surely = [one for one in found if one.may_explain(pair.keys)]
        if finding is None and not surely and traced < MOST_TRACED:
            traced += 1
            finding = _by_trace(snapshot, pair, notes)
        if finding is None:
            if not surely:
                unexplained.append(pair)
            continue
        key = (finding.cause, finding.object, finding.problem)
        before = more.get(key, finding)
        more[key] = dataclasses.replace(before, effects=tuple(dict.fromkeys((*before.effects, pair.key))))
    return (*found, *more.values()), unexplained


def _meant(snapshot: LabSnapshot, pair: FailingPair) -> Finding | None:
    """Return the rule by which OVN means a packet, or its answer, to be lost."""
    if pair.meant not in ("dropped", "rejected", "not sent") or not pair.reason:
        return None
    answer = pair.reason.startswith("its answer: ")
    what = "the answer" if answer else "the packet"
    verb = "is rejected" if pair.meant == "rejected" else "is dropped" if pair.meant == "dropped" else "cannot be sent"
    reason = pair.reason.removeprefix("its answer: ")
    row = _row_of(snapshot, reason)
    evidence = [f"ovn-trace: {what} of {pair.title} {verb} by {reason}"]
    by_hand = row is not None and is_by_hand(row)
    if row is not None:
        columns = row.columns
        said = ", ".join(
            f"{key} {columns[key]}" for key in ("direction", "priority", "match", "action") if key in columns
        )
        evidence.append(
            f"{row.table} {row.uuid[:8]} of {row.parent}: {said}, {'made by hand' if by_hand else 'of the file'}"
        )
    return Finding(
        "meant",
        reason,
        f"{what} {verb} there, as the logical network says"
        + (", by a row that somebody made by hand" if by_hand else ""),
        tuple(evidence),
        _removal(row) if row is not None and by_hand else f"ovnlab trace {pair.source} {pair.target}",
        CERTAIN,
        frozenset({f"meant {reason}"}),
        (pair.key,),
    )


def _row_of(snapshot: LabSnapshot, reason: str) -> LiveRow | None:
    """Return the row that the beginning of its UUID names in a reason, such as `ACL 50340e10`."""
    return next((row for row in snapshot.rows if row.uuid[:8] in reason.split()), None)


def _removal(row: LiveRow) -> str:
    """Return the command that takes a row away from what it belongs to."""
    held = row.belongs
    if held is None:
        return f"ovnlab nbctl destroy {row.table} {row.uuid}"
    return f"ovnlab nbctl remove {held.table} {held.name} {held.column} {row.uuid}"


def _by_trace(snapshot: LabSnapshot, pair: FailingPair, notes: list[str]) -> Finding | None:
    """Return where a trace of the pair says that logic and reality part."""
    protocol, port = ("tcp", int(pair.what.rpartition(" ")[2])) if pair.what.startswith("TCP") else ("icmp", 0)
    try:
        done = trace(
            snapshot.look,
            TraceRequest(pair.source, pair.target, protocol, port, ip=pair.address if is_address(pair.address) else ""),
        )
        said = verdict(done)
    except OvnlabError as error:
        notes.append(f"{pair.title} could not be traced: {error}")
        return None
    if said.agrees or not said.place:
        notes.append(f"ovnlab trace {pair.source} {pair.target}: {said.sentence}")
        return None
    if _row_of(snapshot, said.place) is not None:  # OVN means it, and what it means is known after tracing only
        reason = f"its answer: {said.place}" if said.cause.startswith("its answer") else said.place
        outcome = "rejected" if "rejected" in said.cause else "dropped"
        return _meant(snapshot, dataclasses.replace(pair, meant=outcome, reason=reason))
    return Finding(
        "traced",
        said.place,
        said.cause,
        (f"ovnlab trace {pair.source} {pair.target}: {said.sentence}",),
        said.hint,
        CERTAIN,
        frozenset({f"traced {said.place}"}),
        (pair.key,),
    )


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _grouped(found: Sequence[Finding], failing: Sequence[FailingPair]) -> tuple[RankedCause, ...]:
    """Put symptoms under their cause; what explains failing pairs comes first."""
    under: dict[int, int] = {}
    for number, finding in enumerate(found):
        for earlier in range(len(found)):
            other = found[earlier]
            if earlier == number or not other.explains(finding.keys) or _follows(under, earlier, number):
                continue
            if earlier < number or not finding.explains(other.keys):
                under[number] = earlier
                break
    tops = [number for number in range(len(found)) if number not in under]
    groups = []
    for top in tops:
        symptoms = [n for n in range(len(found)) if n != top and _follows(under, n, top)]
        whole = [found[top], *(found[n] for n in symptoms)]
        mine = tuple(pair for pair in failing if any(one.explains(pair.keys) for one in whole))
        sure = {pair.key for pair in failing if any(one.explains(pair.keys) for one in found)}
        maybe = tuple(
            pair for pair in failing if pair.key not in sure and any(one.may_explain(pair.keys) for one in whole)
        )
        groups.append(RankedCause(found[top], tuple(found[n] for n in symptoms), mine, maybe))
    return tuple(
        sorted(groups, key=lambda group: (not group.pairs, not group.possibly, group.finding.certainty != CERTAIN))
    )


def _follows(under: dict[int, int], number: int, top: int) -> bool:
    """Return True if one finding is, in the end, under another."""
    seen = set()
    while number in under and number not in seen:
        seen.add(number)
        number = under[number]
        if number == top:
            return True
    return False


def _addressed(lab: Lab, finding: Finding) -> Finding:
    """Return the finding with a remedy that names the file, and the lab where there are several."""
    several = len(labs()) > 1
    commands = [_command(lab.name, command, several=several) for command in finding.remedy.split("; ")]
    return dataclasses.replace(finding, remedy="; ".join(commands))


def _command(lab: str, command: str, *, several: bool) -> str:
    words = command.split(" ", 2)
    if command == "ovnlab up":
        return LabFolder(lab).with_file(command)
    if words[0] == "ovnlab" and len(words) > 1 and several and words[1] != "up":
        return " ".join([*words[:2], "-l", lab, *words[2:]])
    return command


# ── as data ──────────────────────────────────────────────────────────────────────────────────────────────────────


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """Return the diagnosis as plain data."""
    return {
        "lab": found.lab,
        "ok": found.ok,
        "tried": found.tried,
        "failing": found.failing,
        "findings": [
            {
                **_finding(one.finding),
                "symptoms": [_finding(symptom) for symptom in one.symptoms],
                "explains": [_pair(pair) for pair in one.pairs],
                "may_explain": [_pair(pair) for pair in one.possibly],
            }
            for one in found.found
        ],
        "unexplained": [_pair(pair) for pair in found.unexplained],
        "notes": list(found.notes),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "object": finding.object,
        "problem": finding.problem,
        "evidence": list(finding.evidence),
        "remedy": finding.remedy,
        "certainty": finding.certainty,
    }


def _pair(pair: FailingPair) -> dict[str, Any]:
    return {
        "from": pair.source,
        "to": pair.target,
        "address": pair.address,
        "what": pair.what,
        "observed": pair.observed,
        "intended": pair.meant,
        "reason": pair.reason,
    }
