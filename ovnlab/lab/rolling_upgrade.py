"""Other software on nodes of a running lab, one node after the other, and what traffic sees of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ovnlab import deliberate
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.lab import builds
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import daemon_status, software_of
from ovnlab.software import artefacts
from ovnlab.tasks.script import run_script
from ovnlab.topology.resolved import Software, Topology
from ovnlab.traffic.traffic import Loss, Traffic
from ovnlab.waiting import CLOCK, now_ns

Watch = Callable[[], AbstractContextManager[Traffic | None]]
"""Begins to watch traffic, if that was asked for, and ends it."""

GO_ON = "the same command once more goes on with it; `ovnlab up` makes the lab what its file says"

Before = Mapping[str, tuple[Software, str]]
"""What nodes had before: software, and the key of its build."""


@dataclass(frozen=True)
class UpgradeStep:
    """A node with new software: the versions of its daemons before and after, as the daemons report them."""

    node: str
    before: str
    after: str
    seconds: float
    loss: Loss | None


def order(topology: Topology, names: Sequence[str], *, every: bool) -> list[str]:
    """Return the nodes to upgrade. All of them in the order that OVN asks for: chassis first, central nodes last.

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
    lab: Lab, names: Sequence[str], software: Callable[[Software], Software], watch: Watch
) -> list[UpgradeStep]:
    """Give nodes other software, one after the other; each is in sync before the next.

    `software` says what a node is to have, by what it has. Everything is built before anything is changed, and before
    traffic is watched. Raises OvnlabError where a node does not come back; every node has the software then that it had
    before.
    """
    lab.central()
    topology = lab.topology
    for fault in deliberate.active(lab.folder):
        if broken := sorted(deliberate.left_alone([fault]) & set(names)):
            hint = f"`ovnlab heal {fault.number}` first"
            raise UsageError(f"is broken on purpose: {fault.sentence}", where=broken[0], hint=hint)
    wanted = {node.name: software(node.software) for node in topology.nodes if node.name in names}
    with artefacts.claimed(lab.reporter.note):
        built = builds.obtain(wanted.values(), lab.reporter, lab.build_host)
        keys = {name: built[found].key if found in built else "" for name, found in wanted.items()}
        return _upgraded(lab, names, wanted, keys, watch)


def _upgraded(
    lab: Lab,
    names: Sequence[str],
    wanted: Mapping[str, Software],
    keys: Mapping[str, str],
    watch: Watch,
) -> list[UpgradeStep]:
    found = {node.name: node.software for node in lab.topology.nodes}
    states = lab.states()
    had = {name: (found[name], states[name].build) for name in names if name in states}
    with watch() as traffic:
        steps: list[tuple[UpgradeStep, int, int]] = []
        for name in names:
            lab.reporter.step(f"upgrading {name}")
            began, before = CLOCK.monotonic(), _software(lab, name)
            start_ns = now_ns()
            if traffic is not None:
                traffic.mark(f"upgrade {name}")
            try:
                lab.set_software(name, wanted[name], keys[name])
            except OvnlabError as error:
                begun = [name, *(step.node for step, _, _ in reversed(steps))]
                left = _undo(lab, begun, had)
                error.detail = "\n".join(filter(None, [error.detail, *left]))
                error.hint = error.hint or (GO_ON if left else "the lab runs what it ran before")
                raise
            seconds = CLOCK.monotonic() - began
            steps.append((UpgradeStep(name, before, _software(lab, name), round(seconds, 3), None), start_ns, now_ns()))
    if traffic is None:
        return [step for step, _, _ in steps]
    return [
        UpgradeStep(step.node, step.before, step.after, step.seconds, traffic.loss(start_ns, end_ns))
        for step, start_ns, end_ns in steps
    ]


def _undo(lab: Lab, names: Sequence[str], had: Before) -> list[str]:
    """Give nodes the software back that they had. Returns a line for each that has not got it."""
    left = []
    for name in (name for name in names if name in had):
        lab.reporter.step(f"undoing the upgrade of {name}")
        try:
            lab.set_software(name, *had[name])
        except OvnlabError as error:
            left.append(f"{name} has not got its software back: {error}")
    return left


def _software(lab: Lab, name: str) -> str:
    """Return the versions of a node's daemons, as they report them."""
    printed = run_script(lab.node(name).context, lab.daemons_script(name, {}), where=f"{name}: looking")
    state = lab.daemons(name, printed, {})
    return software_of(daemon_status(daemon, state.build) for daemon in state.daemons.values())
