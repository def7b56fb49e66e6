"""Policies of a router: what it does with packets before and beyond its routes (ovn-nb(5), Logical_Router_Policy)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ovnlab.topology.findings import Finding
from ovnlab.topology.grammar import Ip, Match, OneOrMore, Options, Part
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import Router


class Policy(Part):
    """A policy that a router applies to matching packets after its routing decision."""

    priority: Annotated[int, Field(ge=0, le=32767)]
    """Higher comes first."""
    match: Match
    """An OVN match expression."""
    action: Literal["allow", "drop", "reroute"]
    """allow leaves the packet to its route, reroute sends it to `nexthop` instead."""
    nexthop: Annotated[list[Ip], *OneOrMore] = []
    """Where it is rerouted to; several share the traffic (ECMP)."""
    options: Options = {}
    """Further options of the Logical_Router_Policy (ovn-nb(5)), such as pkt_mark."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.action == "reroute") != bool(self.nexthop):
            raise PydanticCustomError("policy", "nexthop goes with action: reroute, which needs one")
        return self


class Policies(Keys):
    """Policies of a router."""

    policies: Annotated[list[Policy], *OneOrMore] = []
    """What it does with packets that match, whatever their route."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield policies that stand twice, and next hops that cannot be."""
        router: Router = scope.file.logical.routers[scope.owner]
        networks = [ipaddress.ip_interface(ip).network for port in router.ports.values() for ip in port.ip]
        seen = set()
        for number, policy in enumerate(self.policies):
            where = scope.at("policies", number)
            hops = [ipaddress.ip_address(hop) for hop in policy.nexthop]
            if len({hop.version for hop in hops}) > 1:
                yield (*where, "nexthop"), "invalid nexthop: expected addresses of one family"
            for hop in hops:
                if networks and not any(hop in network for network in networks):
                    yield (*where, "nexthop"), f"{hop} is in no network of {scope.owner}"
            if (policy.priority, policy.match) in seen:
                yield where, f"duplicate policy: priority {policy.priority} and this match"
            seen.add((policy.priority, policy.match))

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a Logical_Router_Policy for each."""
        for policy in self.policies:
            hops = f" to {', '.join(policy.nexthop)}" if policy.nexthop else ""
            yield from scope.child(
                "Logical_Router_Policy",
                f"{scope.name} {policy.priority} {policy.match}",
                {
                    "priority": policy.priority,
                    "match": policy.match,
                    "action": policy.action,
                    "nexthop": (),
                    "nexthops": tuple(policy.nexthop),
                    "options": dict(policy.options),
                },
                shown=("policy", f"{policy.priority} {policy.match}: {policy.action}{hops}"),
            )
