"""Options of load balancers: further VIPs, affinity, groups, templates (ovn-nb(5), Load_Balancer)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ovnlab.topology.addresses import Endpoint, parse_endpoint, split_name
from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Backend, Name, OneOrMore, OptionKey, Part, Text, Vip
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.objects.port_types import OUTSIDE
from ovnlab.topology.resolved import NorthboundRow
from ovnlab.topology.source import Where

if TYPE_CHECKING:
    from ovnlab.topology.model import Logical


class BalancerOptions(Keys):
    """The options of a load balancer, beyond a VIP and its backends."""

    vips: dict[Vip, Annotated[list[Backend], *OneOrMore]] = {}
    """Further VIPs, each with its backends."""
    affinity_timeout: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Seconds for which a client stays at its backend."""
    reject: bool = False
    """Whether clients are refused where there is no backend, instead of hearing nothing."""
    event: bool = False
    """Whether ovn-controller tells of clients where there is no backend (Controller_Event)."""
    skip_snat: bool = False
    """Whether the router's lb_force_snat_ip is not for it."""
    selection_fields: Annotated[
        list[Literal["eth_src", "eth_dst", "ip_src", "ip_dst", "tp_src", "tp_dst"]], *OneOrMore
    ] = []
    """What of a packet chooses its backend; all of the connection by default."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield VIPs and backends that do not fit each other."""
        balancer = scope.file.logical.load_balancers[scope.name]
        first = parse_endpoint(balancer.vip)
        for number, backend in enumerate(balancer.backends):
            if split_name(backend)[0]:
                yield from _backend_mistakes(scope, scope.at("backends", number), first, backend)
        for text, backends in self.vips.items():
            vip = parse_endpoint(text)
            if vip == first:
                yield scope.at("vips", text), f"duplicate VIP {text}"
            for number, backend in enumerate(backends):
                yield from _backend_mistakes(scope, scope.at("vips", text, number), vip, backend)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield further columns of the load balancer."""
        for vip, wanted in self.vips.items():
            version = parse_endpoint(vip).address.version
            backends = [scope.topology.backend(found, version) if scope.topology else found for found in wanted]
            shown = (scope.name, f"{vip} → {', '.join(backends) or 'no backend'}")
            yield from scope.more({"vips": {vip: ",".join(backends)}}, shown=shown)
        options = {
            "affinity_timeout": str(self.affinity_timeout or ""),
            "reject": "true" if self.reject else "",
            "event": "true" if self.event else "",
            "skip_snat": "true" if self.skip_snat else "",
        }
        yield from scope.more({"options": {key: value for key, value in options.items() if value}})
        yield from scope.more({"selection_fields": tuple(self.selection_fields)})


def _backend_mistakes(scope: Scope, where: Where, vip: Endpoint, backend: str) -> Iterator[Finding]:
    """Yield what a backend has otherwise than its VIP, and a name that no fake VM has."""
    name, port = split_name(backend)
    switches = scope.file.logical.switches.values()
    if name:
        ports = {vm: port for switch in switches for vm, port in switch.ports.items()}
        yield from unknown(where, name, "fake VM", [vm for vm, port in ports.items() if port.type not in OUTSIDE])
        owner = next((switch for switch in switches if name in switch.ports), None)
        given = [ip for ip in owner.ports[name].ip if ip not in ("dhcp", "slaac")] or owner.subnet if owner else []
        if owner and not any(ipaddress.ip_interface(ip).version == vip.address.version for ip in given):
            yield where, f"{name} has no address of the family of the VIP {vip}"
    else:
        port = parse_endpoint(backend).port
        if parse_endpoint(backend).address.version != vip.address.version:
            yield where, f"{backend} is of another family than the VIP {vip}"
            return
    if bool(port) != bool(vip.port):
        yield where, f"{backend} and the VIP {vip} must both have a port, or neither"


class BalancerGroup(Part):
    """Load balancers that switches and routers have together."""

    load_balancers: Annotated[list[Name], *OneOrMore] = []
    """Its load balancers."""
    switches: Annotated[list[Name], *OneOrMore] = []
    """Switches that have it."""
    routers: Annotated[list[Name], *OneOrMore] = []
    """Routers that have it."""


def zones_of_group(group: BalancerGroup, logical: Logical, zones: Sequence[str]) -> tuple[str, ...]:
    """Return the availability zones of what has a group, the first of them where nothing has it."""
    places = [logical.switches[name].zone for name in group.switches if name in logical.switches]
    places += [logical.routers[name].zone for name in group.routers if name in logical.routers]
    return tuple(dict.fromkeys(zone or "" for zone in places)) or tuple(zones[:1])


class BalancerGroups(Keys):
    """Groups of load balancers, and variables of templates."""

    load_balancer_groups: dict[Name, BalancerGroup] = {}
    """Groups of load balancers by name."""
    template_variables: dict[Name, dict[OptionKey, Text]] = {}
    """For each chassis its variables, which stand as ^NAME in load balancers with options: {template: "true"}."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield names that nothing has."""
        logical = scope.file.logical
        for name, group in self.load_balancer_groups.items():
            where = scope.at("load_balancer_groups", name)
            for key, members, kind, known in (
                ("load_balancers", group.load_balancers, "load balancer", [*logical.load_balancers]),
                ("switches", group.switches, "switch", [*logical.switches]),
                ("routers", group.routers, "router", [*logical.routers]),
            ):
                for number, member in enumerate(members):
                    yield from unknown((*where, key, number), member, kind, known)
        for chassis in self.template_variables:
            yield from unknown(scope.at("template_variables", chassis), chassis, "node", scope.file.nodes)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a Load_Balancer_Group for each with references to it, and each chassis' Chassis_Template_Var."""
        logical = scope.file.logical
        for name, group in self.load_balancer_groups.items():
            for zone in zones_of_group(group, logical, scope.zones):
                members = tuple(dict.fromkeys(group.load_balancers))
                yield NorthboundRow("Load_Balancer_Group", name, {"load_balancer": members}, zone=zone)
            for switch in group.switches:
                zone = logical.switches[switch].zone or ""
                yield NorthboundRow("Logical_Switch", switch, {"load_balancer_group": (name,)}, zone=zone)
            for router in group.routers:
                zone = logical.routers[router].zone or ""
                yield NorthboundRow("Logical_Router", router, {"load_balancer_group": (name,)}, zone=zone)
        for chassis, variables in self.template_variables.items():
            yield from scope.row("Chassis_Template_Var", chassis, {"chassis": chassis, "variables": dict(variables)})
