"""Faults that somebody has put on the lab with `ovnlab fault`, `link`, `partition` or `flap`."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.snapshot import LabSnapshot


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    yield from _links(snapshot, evidence)
    for fault in snapshot.faults:
        yield Finding(
            "deliberate",
            f"fault {fault.number}",
            f"deliberately, {fault.sentence}",
            (fault.command,),
            f"ovnlab heal {fault.number}",
            keys=frozenset({f"fault {fault.number}"}),
            effects=fault.effects,
            may=fault.may,
        )


def _links(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    """Find links that let nothing pass, as the file says, where a pair fails because of that."""
    names = {node.mac: node.name for node in snapshot.topology.nodes if node.mac}
    for rule in snapshot.topology.links:
        if not rule.down and rule.loss < 1:
            continue
        peers = [names[mac] for mac in rule.peers if mac in names]
        tunnels = [
            f"{what} {a} {b}" for peer in peers for a, b in ((rule.node, peer), (peer, rule.node)) for what in BOTH
        ]
        finding = Finding(
            "link-down",
            f"link {rule.node}:{rule.device}",
            f"lets nothing pass{f' from {peers[0]}' if peers else ''}, as the file says",
            ("links: of the topology",),
            "ovnlab up, with another file",
            keys=frozenset({f"link {rule.node}"}),
            effects=tuple(tunnels) if rule.peers else (f"nic {rule.node} {rule.device}", *everything_on(rule.node)),
        )
        if any(finding.explains(pair.keys) for pair in evidence.pairs) or rule.down:
            yield finding


BOTH = ("tunnel", "size tunnel", "bfd")
"""What goes from one node to another."""

CAUSE = Cause(
    name="deliberate",
    title="A fault that somebody has put on the lab",
    reads="the lab's record of faults (`ovnlab faults`)",
    certainty="certain",
    explains="whatever the fault breaks: a node, a daemon, a link and what passes it",
    remedy="ovnlab heal",
    find=_find,
)
