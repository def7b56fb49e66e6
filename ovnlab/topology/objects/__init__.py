"""Kinds of Northbound objects, a module each: keys of the file, what they must agree with, and the rows they mean.

A new kind is a module with a class of `Keys`, and its name in one of the lists below: those of the part of the file
that has the keys. Its tables are in `northbound.schema`, which knows all of OVN's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ovnlab.topology.findings import Finding
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.objects.load_balancing import BalancerGroups, BalancerOptions, zones_of_group
from ovnlab.topology.objects.meters import AclOptions, Meters, Protection
from ovnlab.topology.objects.mirrors import Mirrors, PortMirrors
from ovnlab.topology.objects.nat import NatOptions
from ovnlab.topology.objects.northbound_options import NorthboundOptions
from ovnlab.topology.objects.policies import Policies
from ovnlab.topology.objects.port_types import OutsidePort
from ovnlab.topology.objects.ports import PortOptions
from ovnlab.topology.objects.routes import Discards, PortRouteTable, RouteOptions
from ovnlab.topology.objects.static_mac_bindings import StaticMacBindings
from ovnlab.topology.objects.switching import Switching
from ovnlab.topology.resolved import NorthboundRow, Topology

if TYPE_CHECKING:
    from ovnlab.topology.model import Acl, TopologyFile
    from ovnlab.topology.source import Where


class LogicalKeys(
    NorthboundOptions,
    Meters,
    Mirrors,
    BalancerGroups,
):
    """Kinds whose keys are those of the logical network itself."""


class SwitchKeys(
    Switching,
    Protection,
):
    """Kinds whose keys are those of a switch."""


class PortKeys(
    OutsidePort,
    PortOptions,
    PortMirrors,
):
    """Kinds whose keys are those of a switch's port."""


class RouterKeys(
    StaticMacBindings,
    Policies,
    Discards,
    Protection,
):
    """Kinds whose keys are those of a router."""


class RouterPortKeys(
    PortRouteTable,
):
    """Kinds whose keys are those of a router's port."""


class RouteKeys(
    RouteOptions,
):
    """Kinds whose keys are those of a static route."""


class NatKeys(
    NatOptions,
):
    """Kinds whose keys are those of a NAT rule."""


class AclKeys(
    AclOptions,
):
    """Kinds whose keys are those of an ACL."""


class BalancerKeys(
    BalancerOptions,
):
    """Kinds whose keys are those of a load balancer."""


def check(file: TopologyFile) -> Iterator[Finding]:
    """Yield all that keys of these kinds contradict."""
    for part, scope in _parts(file):
        for kind in _kinds(part):
            yield from kind.find_mistakes(part, scope)


def rows(file: TopologyFile, topology: Topology) -> Iterator[NorthboundRow]:
    """Yield the rows that keys of these kinds mean, of a file without mistakes and what was decided for it."""
    for part, scope in _parts(file):
        decided = replace(scope, topology=topology)
        found = [row for kind in _kinds(part) for row in kind.northbound_rows(part, decided)]
        # Behind the row that one of the kinds makes, which says what it belongs to, come further columns of it.
        yield from sorted(found, key=lambda row: not row.parent and (row.table, row.name) == (scope.table, scope.name))


def _kinds(part: Keys) -> Iterator[type[Keys]]:
    """Yield the kinds whose keys a part has."""
    return (kind for kind in reversed(type(part).__mro__) if Keys in kind.__bases__ and kind.__annotations__)


def _parts(file: TopologyFile) -> Iterator[tuple[Keys, Scope]]:
    """Yield the parts of a file that may have keys of these kinds."""
    logical = file.logical
    zones = tuple(dict.fromkeys(node.zone or "" for node in file.nodes.values() if node.role == "central"))
    yield logical, Scope(file, ("logical",), zones)
    yield from _switches(file)
    yield from _routers(file)
    for number, acl in enumerate(logical.acls):
        where: Where = ("logical", "acls", number)
        owner = acl.switch or acl.port_group or ""
        yield acl, Scope(file, where, _zones_of_acl(file, acl) or zones[:1], "ACL", acl.row_name, owner)

    for name, balancer in logical.load_balancers.items():
        where = ("logical", "load_balancers", name)
        switches = [logical.switches[switch].zone for switch in balancer.switches if switch in logical.switches]
        routers = [logical.routers[router].zone for router in balancer.routers if router in logical.routers]
        groups = [group for group in logical.load_balancer_groups.values() if name in group.load_balancers]
        in_groups = [zone for group in groups for zone in zones_of_group(group, logical, zones)]
        found = tuple(dict.fromkeys(zone or "" for zone in (*switches, *routers, *in_groups)))
        yield balancer, Scope(file, where, found or zones[:1], "Load_Balancer", name)


def _switches(file: TopologyFile) -> Iterator[tuple[Keys, Scope]]:
    for name, switch in file.logical.switches.items():
        where: Where = ("logical", "switches", name)
        zones = (switch.zone or "",)
        yield switch, Scope(file, where, zones, "Logical_Switch", name, name)
        for port_name, port in switch.ports.items():
            yield port, Scope(file, (*where, "ports", port_name), zones, "Logical_Switch_Port", port_name, name)


def _routers(file: TopologyFile) -> Iterator[tuple[Keys, Scope]]:
    for name, router in file.logical.routers.items():
        where: Where = ("logical", "routers", name)
        zones = (router.zone or "",)
        yield router, Scope(file, where, zones, "Logical_Router", name, name)
        for switch, port in router.ports.items():
            at = (*where, "ports", switch)
            yield port, Scope(file, at, zones, "Logical_Router_Port", f"{name}-{switch}", name)
        for number, route in enumerate(router.routes):
            yield route, Scope(file, (*where, "routes", number), zones, "Logical_Router_Static_Route", "", name)
        for number, nat in enumerate(router.nat):
            yield nat, Scope(file, (*where, "nat", number), zones, "NAT", nat.row_name(name), name)


def _zones_of_acl(file: TopologyFile, acl: Acl) -> tuple[str, ...]:
    """Return the zones of an ACL's switch, or of the ports of its group."""
    if acl.switch is not None:
        switch = file.logical.switches.get(acl.switch)
        return (switch.zone or "",) if switch else ()
    group = file.logical.port_groups.get(acl.port_group or "")
    switches = file.logical.switches.values()
    members = group.ports if group else []
    return tuple(dict.fromkeys(s.zone or "" for port in members for s in switches if port in s.ports))
