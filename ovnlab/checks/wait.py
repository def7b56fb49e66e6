"""Waiting for a lab to be where a script can go on, and at the deadline saying what lagged."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from ovnlab.checks import assertions
from ovnlab.errors import OvnlabError, Timeout, UsageError
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import NodeStatus, Status, status
from ovnlab.ovsdb.endpoints import Databases, of_zone
from ovnlab.parallel import for_each
from ovnlab.tasks import bind, daemons
from ovnlab.topology.resolved import NAME
from ovnlab.waiting import CLOCK

KINDS = ("hv-synced", "port-up", "chassis")


@dataclass(frozen=True)
class Condition:
    """A condition to wait for: `hv-synced`, `port-up` of a logical switch port, or a registered `chassis`."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}={self.name}" if self.name else self.kind


def condition(word: str) -> Condition:
    """Return the condition that a word such as `port-up=vm1` means. Raises UsageError for any other."""
    kind, given, name = word.partition("=")
    if kind not in KINDS:
        raise UsageError(f"--for {word}: nothing to wait for", hint=f"one of {KINDS[0]}, port-up=PORT, chassis=NODE")
    if (kind == "hv-synced") == bool(given) or (given and not NAME.fullmatch(name)):
        raise UsageError(f"--for {word} makes no sense", hint="hv-synced, port-up=PORT or chassis=NODE")
    return Condition(kind, name)


def wait(lab: Lab, condition: Condition, *, timeout: int) -> None:
    """Return when it holds. Raises Timeout after `timeout` seconds, with what lagged.

    A port need not be there yet, nor be the topology's; a chassis has to be one of its nodes.
    """
    began = CLOCK.monotonic()
    topology = lab.topology
    if condition.kind == "chassis":
        node = topology.node(condition.name)
        if node is None:
            raise lab.unknown_name(condition.name)
        if not node.chassis:
            raise UsageError(f"{condition.name} is not a chassis: it runs no ovn-controller")
        zones: tuple[str, ...] = (node.zone,)
    elif condition.kind == "port-up":
        own = [switch.zone for switch in topology.switches for port in switch.ports if port.name == condition.name]
        zones = (*own, *topology.zones)[:1]
    else:
        zones = tuple(topology.zones)
    try:
        for_each(zones, lambda zone: _wait_in(lab, condition, of_zone(topology, zone), zone, timeout))
    except OvnlabError as error:
        if CLOCK.monotonic() - began < timeout:
            raise
        lagging = "\n".join(_lagging(lab, condition))
        raise Timeout(error.message, where=f"lab {lab.name}", detail=lagging or error.detail) from None


def _wait_in(lab: Lab, condition: Condition, databases: Databases, zone: str, timeout: int) -> None:
    central = lab.central(zone).context
    if condition.kind == "chassis":
        daemons.await_chassis(central, databases, condition.name, timeout)
    elif condition.kind == "port-up":
        bind.await_up(central, databases, [condition.name], timeout=timeout, synced=False)
    else:
        daemons.await_sync(central, databases, timeout)


def _lagging(lab: Lab, condition: Condition) -> Iterator[str]:
    """Yield what of the lab explains that it does not hold."""
    found = status(lab)
    wanted = [node for node in found.nodes if node.is_chassis]
    if condition.kind == "chassis":
        wanted = [node for node in wanted if node.name == condition.name]
    elif condition.kind == "port-up":
        wanted = yield from _of_port(found, condition.name)
    for node in wanted:
        for daemon in node.daemons:
            finding = assertions.daemon_runs(node, daemon)
            if not finding.ok:
                yield str(finding)


def _of_port(found: Status, name: str) -> Generator[str, None, list[NodeStatus]]:
    """Yield what a port is like, and return the nodes that may be involved."""
    port = next((port for port in found.ports if port.name == name), None)
    if port is None:
        yield f"unknown logical switch port {name}"
        return []
    yield str(assertions.port_bound(port))
    return [node for node in found.nodes if node.name == port.chassis or (port.chassis is None and node.is_chassis)]
