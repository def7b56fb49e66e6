"""Links that a fault is put on: which ones, and what a diagnosis is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.targets import node_of
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.lab.lab import Lab
from ovnlab.providers.base import ShapesLinks
from ovnlab.topology.resolved import LinkRule, Node


def link_of(lab: Lab, text: str) -> tuple[Node, str]:
    """Return the node and device of a link `NODE[:NIC]`; without a NIC its underlay. Raises UsageError."""
    name, _, device = text.partition(":")
    node = node_of(lab, name)
    known = [*(["eth1"] if node.ip else []), *(nic.device for nic in node.nics)]
    device = device or next(iter(known), "")
    if device not in known:
        hint = f"available: {', '.join(known)}" if known else "it has none"
        raise UsageError(f"unknown NIC {device or 'eth1'}", where=name, hint=hint)
    return node, device


def require_shaping(lab: Lab) -> ShapesLinks:
    """Return the provider of a lab whose links can be disturbed. Raises UsageError for another one."""
    if isinstance(lab.provider, ShapesLinks):
        return lab.provider
    raise UsageError(
        f"links: not supported by provider {lab.topology.provider}",
        hint="on machines, `ovnlab fault kill|stop|pause NODE DAEMON` is; links are on --provider local",
    )


def shape(lab: Lab, fault: Fault) -> None:
    """Make links what the lab's record of faults says."""
    del fault
    require_shaping(lab).shape(lab.topology)


def effects_on(node: Node, device: str) -> tuple[str, ...]:
    """Return what follows from it that frames of a link are lost, as keys of a diagnosis."""
    if device == "eth1" and node.ip:
        return (f"nic {node.name} eth1", f"nic {node.name} br-eth1", *everything_on(node.name))
    network = next((nic.network for nic in node.nics if nic.device == device), "")
    return (
        f"nic {node.name} {device}",
        f"physical {node.name} {network}",
        *(everything_on(node.name) if node.role == "host" else ()),
    )


def of_others(lab: Lab, node: Node) -> tuple[str, ...]:
    """Return what may follow for other nodes of a zone where its databases cannot be reached."""
    central = node.central or node.role == "relay"
    alone = central and len(lab.topology.centrals(node.zone)) == 1
    return (
        ("connection *", "lag *", "registered *", "claims *", "cluster *", *(["pair *"] if alone else []))
        if central
        else ()
    )


def quantity(read: Callable[[str], float], text: str, what: str) -> float:
    """Return a value as a function of topology.quantities reads it. Raises UsageError."""
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"invalid {what} {text!r}: {error}") from None


def touched(rules: Iterable[LinkRule]) -> tuple[str, ...]:
    """Return the nodes of rules, once each."""
    return tuple(dict.fromkeys(rule.node for rule in rules))
