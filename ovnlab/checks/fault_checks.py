"""The checks of a file that break something: a fault is put on, its outcome is checked, and it is healed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from ovnlab.checks.check_result import CheckResult, failed, held
from ovnlab.checks.examination import observe
from ovnlab.errors import OvnlabError
from ovnlab.faults import control
from ovnlab.lab.lab import Lab
from ovnlab.reporting import Reporter
from ovnlab.topology.resolved import FaultCheck
from ovnlab.traffic.traffic import Traffic
from ovnlab.traffic.watcher import Facts, Watcher
from ovnlab.waiting import now_ns, wait_until

PATIENCE = 30.0
"""Seconds in which what must take over does so."""


@dataclass(frozen=True)
class FaultCheckResult:
    """The result of a fault: its parts, and how long traffic had no answer, in ms, None without traffic."""

    check: FaultCheck
    parts: tuple[CheckResult, ...]
    gap_ms: int | None = None

    @property
    def ok(self) -> bool:
        """Return True if all of it is as the file says."""
        return all(part.ok for part in self.parts)

    @property
    def title(self) -> str:
        """Return the fault, for people."""
        return " ".join(self.check.fault)


def run(lab: Lab, reporter: Reporter) -> list[FaultCheckResult]:
    """Run all checks of a lab's file that break something, one after the other; each is healed before the next."""
    found = []
    for number, check in enumerate(lab.topology.fault_checks, 1):
        reporter.step(f"fault {number} of {len(lab.topology.fault_checks)}: {' '.join(check.fault)}")
        found.append(_run_one(lab, check))
    return found


def _run_one(lab: Lab, check: FaultCheck) -> FaultCheckResult:
    parts: list[CheckResult] = []
    gap: int | None = None
    title = " ".join(check.fault)
    try:
        with _watched(lab, check) as seen:
            before = dict(seen.facts)
            began = now_ns()
            with control.put_for_a_while(lab, check.fault):
                if seen.traffic is not None:
                    seen.traffic.settle()
                    gap = seen.traffic.loss(began, now_ns()).longest_gap_ms
                    ended = [pair.sender.failure() for pair in seen.traffic.pairs if pair.sender.has_ended]
                    parts.append(_gap(check, title, gap, next((error.message for error in ended), "")))
                parts += list(_taken_over(check, title, before, seen))
                if check.check is not None:
                    parts.append(_tried(lab, check, title))
        if not parts:
            parts.append(held("faults", title, "healed"))
    except OvnlabError as error:
        parts.append(failed("faults", title, "a fault that is put on and healed", str(error), error.hint))
    return FaultCheckResult(check, tuple(parts), gap)


@dataclass(frozen=True)
class _Watched:
    """Traffic, if there is any, and who is in charge."""

    traffic: Traffic | None
    watcher: Watcher | None

    @property
    def facts(self) -> Facts:
        """Return who is in charge now."""
        if self.traffic is not None:
            return self.traffic.in_charge
        return self.watcher.facts if self.watcher is not None else {}


@contextlib.contextmanager
def _watched(lab: Lab, check: FaultCheck) -> Iterator[_Watched]:
    if check.traffic:
        source, destination = check.traffic
        patience = max(PATIENCE, 2 * check.lost_within)
        with Traffic(lab, [(source, destination)], patience=patience) as traffic:
            traffic.mark(" ".join(check.fault))
            yield _Watched(traffic, None)
        return
    with Watcher(lab.topology, lab.nodes) as watcher:
        yield _Watched(None, watcher)


def _gap(check: FaultCheck, title: str, gap: int, ended: str) -> CheckResult:
    what = f"{title}: {' → '.join(check.traffic)}"
    observed = ended or f"{gap / 1000:.3f} s without an answer"
    if check.lost_within >= 0 and (ended or gap > check.lost_within * 1000):
        hint = f"ovnlab fault {title} --traffic {','.join(check.traffic)}"
        return failed("faults", what, f"at most {check.lost_within:g} s without an answer", observed, hint)
    return held("faults", what, observed)


def _taken_over(check: FaultCheck, title: str, before: Facts, seen: _Watched) -> Iterator[CheckResult]:
    """Wait for what must take over."""
    if check.gateway:
        yield _awaited(f"{title}: gateway", check.gateway, lambda: _values(seen.facts, "gateway"), {check.gateway})
    if check.leader:
        database = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}[check.leader]
        old = before.get(("leader", database), "")
        now = lambda: {seen.facts.get(("leader", database), "")} - {"", old}  # noqa: E731
        yield _awaited(f"{title}: leader of {check.leader}", f"another one than {old or 'none'}", now, None)


def _values(facts: Facts, kind: str) -> set[str]:
    return {value for (found, _), value in facts.items() if found == kind}


def _awaited(title: str, expected: str, look: object, wanted: set[str] | None) -> CheckResult:
    """Return whether something is in charge in time; without `wanted`, anything that `look` finds."""
    assert callable(look)  # noqa: S101  a function without arguments
    try:
        found = wait_until(
            title, lambda: now if (now := look()) == wanted or (wanted is None and now) else None, timeout=PATIENCE
        )
    except OvnlabError:
        return failed("faults", title, expected, ", ".join(sorted(look())) or "none", "ovnlab status")
    return held("faults", title, ", ".join(sorted(found)))


def _tried(lab: Lab, check: FaultCheck, title: str) -> CheckResult:
    one = check.check
    assert one is not None  # noqa: S101  callers have looked
    observed = observe([one], lab.endpoints({one.source, one.target}))[0]
    where = one.target if one.kind == "ping" else f"{one.target}:{one.port}"
    what = f"{title}: {one.kind} {where} from {one.source}"
    if observed == one.expect:
        return held("faults", what, observed)
    return failed("faults", what, one.expect, observed, f"ovnlab fault {title}; ovnlab diagnose")
