"""Control of deliberate faults: inject, list and heal.

A fault is recorded before anything is broken, and its record goes only when all of it is mended: whoever is killed in
between leaves a record that `ovnlab heal` works off.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ovnlab import deliberate
from ovnlab.deliberate import Fault
from ovnlab.errors import OvnlabError, Timeout, UsageError
from ovnlab.faults import timer
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.kinds import KINDS, kind_of
from ovnlab.faults.links import link_of
from ovnlab.insight import causes
from ovnlab.insight.causes.finding import CERTAIN
from ovnlab.insight.snapshot import observe
from ovnlab.lab.lab import Lab
from ovnlab.waiting import now_ns, wait_until

FAILOVER = "gateway-failover"
"""The cause that is only likely while the preferred gateway runs, and over when it has taken over again."""

WELL_TIMEOUT = 60.0
"""Seconds in which a lab that was healed must be well."""


def seconds_now() -> float:
    """Return the seconds since 1970."""
    return now_ns() / 10**9


def put_on(lab: Lab, kind: Kind, request: FaultRequest, *, seconds: float = 0.0) -> Fault:
    """Put a fault on a lab, for some seconds or, with 0, until it is healed. Returns once it is on."""
    with lab.locked():
        if not lab.provider.is_up():
            raise OvnlabError(f"lab {lab.name} is down", hint=f"{lab.folder.up_command()} brings it back")
        described = kind.describe(lab, request)
        others = [other for other in deliberate.stored(lab.folder) if not _replaces(described, other)]
        _refuse_twice(described, others)
        began = seconds_now()
        fault = replace(
            described,
            number=max((other.number for other in others), default=0) + 1,
            command=request.command,
            since=began,
            until=began + seconds if seconds else 0.0,
        )
        deliberate.store(lab.folder, [*others, fault])
        if seconds:
            timer.start(lab, fault)
        try:
            kind.begin(lab, fault)
            if kind.momentary:
                _end(lab, [fault])
        except BaseException:
            with contextlib.suppress(OvnlabError):  # what went wrong first is what is told
                _end(lab, [fault])
            raise
    if kind.momentary:
        await_well(lab)
    return fault


def parse(words: Sequence[str]) -> tuple[Kind, FaultRequest]:
    """Return the kind of a fault, and what is asked of it, from words as after `ovnlab fault`. Raises UsageError."""
    name, *rest = words or ("",)
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        raise UsageError(f"unknown fault {name}", hint=f"available: {', '.join(kind.name for kind in KINDS)}")
    plain: list[str] = []
    settings: dict[str, str] = {}
    left = iter(rest)
    for word in left:
        option, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            plain.append(word)
        elif option not in kind.options:
            hint = f"available: {', '.join(f'--{one}' for one in kind.options)}" if kind.options else ""
            raise UsageError(f"unknown option {word}", where=name, hint=hint)
        elif option in FLAGS or separator:
            settings[option] = value or "yes"
        else:
            settings[option] = next(left, "")
    group = "" if name in ("link", "partition", "flap") else "fault "
    return kind, FaultRequest(tuple(plain), settings, f"ovnlab {group}{shlex.join(words)}")


FLAGS = ("one-way",)
"""Options without a value."""


@contextlib.contextmanager
def put_for_a_while(lab: Lab, words: Sequence[str]) -> Iterator[Fault]:
    """Put a fault on for the body of a `with`, by words as after `ovnlab fault`; heal it at the end.

    A fault that heals by itself after `--for TIME`, and one that is over when it has begun, need not be healed.
    """
    kind, request = parse(words)
    fault = put_on(lab, kind, request)
    try:
        yield fault
    finally:
        if any(one.number == fault.number for one in deliberate.stored(lab.folder)):
            heal(lab, [str(fault.number)])


def _replaces(fault: Fault, other: Fault) -> bool:
    """Return True if a fault says something else of what another one is about: the same link and direction."""
    if (fault.kind, fault.target) != (other.kind, other.target):
        return False
    if "vm" in fault.settings:
        return fault.settings == other.settings
    same = [rule.direction for rule in fault.links] == [rule.direction for rule in other.links]
    return bool(fault.links and other.links and same)


def _refuse_twice(fault: Fault, others: Sequence[Fault]) -> None:
    """Raise UsageError if something is broken already that this fault breaks as well."""
    for other in others:
        same_node = set(fault.nodes) & set(other.nodes) and (fault.ends_nodes or other.ends_nodes)
        if same_node or set(fault.daemons) & set(other.daemons):
            raise UsageError(f"already broken: {other.sentence}", hint=f"`ovnlab heal {other.number}` first")


def chosen(lab: Lab, words: Sequence[str], *, every: bool) -> list[Fault]:
    """Return the faults that words name by number or node, or all. Raises UsageError for a word that names none."""
    there = deliberate.stored(lab.folder)
    if every:
        return list(there)
    if not words:
        if len(there) > 1:
            hint = f"say which, such as `ovnlab heal {there[0].number}`, or --all"
            raise UsageError(f"there are {len(there)} faults", hint=hint)
        return list(there)
    found: list[Fault] = []
    for word in words:
        mine = [fault for fault in there if word == str(fault.number) or word in (*fault.nodes, fault.target)]
        if not mine and lab.topology.node(word) is None:
            known = ", ".join(str(fault.number) for fault in there)
            raise UsageError(f"unknown fault {word}", hint=f"available: {known}" if known else "there are none")
        found += [fault for fault in mine if fault not in found]
    return found


def heal_link(lab: Lab, text: str) -> list[Fault]:
    """Make a link `NODE[:NIC]` an ordinary one again. Raises UsageError for an unknown one."""
    target = text
    if lab.topology.vm(text) is None:
        node, device = link_of(lab, text)
        target = f"{node.name}:{device}"
    mine = [fault for fault in deliberate.stored(lab.folder) if fault.target == target]
    return heal(lab, [str(fault.number) for fault in mine]) if mine else []


def heal(lab: Lab, words: Sequence[str], *, every: bool = False, wait: bool = True) -> list[Fault]:
    """End faults, and wait until the lab is well but for those that stay. Returns those that were ended."""
    with lab.locked():
        faults = chosen(lab, words, every=every)
        _end(lab, faults)
    if faults and wait and lab.provider.is_up():
        await_well(lab)
    return faults


def heal_due(lab: Lab, number: int, moment: float) -> list[Fault]:
    """End a fault whose time has come, in seconds since 1970, unless another one has got its number meanwhile."""
    with lab.locked():
        faults = [fault for fault in deliberate.stored(lab.folder) if (fault.number, fault.until) == (number, moment)]
        _end(lab, faults)
    return faults


def _end(lab: Lab, faults: Sequence[Fault]) -> None:
    """End faults. The caller holds the lock."""
    numbers = {fault.number for fault in faults}

    if not faults:
        return
    stored = deliberate.stored(lab.folder)
    deliberate.store(lab.folder, (replace(one, ending=one.number in numbers or one.ending) for one in stored))
    for fault in reversed(faults):
        if lab.provider.is_up():
            kind_of(fault.kind).end(lab, fault)
    if any(kind_of(fault.kind).converges for fault in faults) and lab.provider.is_up():
        lab.mend()
    deliberate.store(lab.folder, (one for one in stored if one.number not in numbers))


def await_well(lab: Lab) -> None:
    """Return when nothing is wrong with a lab that its faults, and links that its file cuts, do not explain.

    Raises Timeout with what is left.
    """
    left: list[str] = []

    def look() -> bool | None:
        found = causes.of(observe(lab))
        mine = [finding for finding in found if finding.cause == "deliberate"]
        meant = [*mine, *(finding for finding in found if finding.cause == "link-down")]
        others = [
            finding
            for finding in found
            if finding not in meant
            and (finding.certainty == CERTAIN or finding.cause == FAILOVER)
            and not any(one.explains(finding.keys) or one.may_explain(finding.keys) for one in meant)
        ]
        left[:] = [finding.sentence for finding in others]
        return True if not left or mine else None

    try:
        wait_until(f"lab {lab.name} to be well", look, timeout=WELL_TIMEOUT, explain=lambda: "\n".join(left))
    except Timeout as error:
        error.hint = "what was broken on purpose is mended: `ovnlab diagnose` says what else is wrong"
        raise
