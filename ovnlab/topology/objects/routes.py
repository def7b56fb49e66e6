"""Options of static routes: BFD, symmetric replies, route tables (ovn-nb(5))."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from ovnlab.topology.findings import Finding
from ovnlab.topology.grammar import Network, OneOrMore, Or, Part, Text, true_is_default
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import Route, Router


class Bfd(Part):
    """A BFD session of a router with a next hop (RFC 5880)."""

    min_tx: Annotated[int, Field(ge=1)] | None = None
    """Milliseconds between two of its packets; 1000 by default."""
    min_rx: Annotated[int, Field(ge=0)] | None = None
    """Milliseconds between two packets of the next hop that it can take; 1000 by default."""
    detect_mult: Annotated[int, Field(ge=1, le=255)] | None = None
    """Packets that may be lost; 5 by default."""


class RouteOptions(Keys):
    """The options of a static route, beyond prefix and next hop."""

    bfd: Annotated[Bfd | None, BeforeValidator(true_is_default), Or({"type": "boolean"})] = None
    """true, or how it finds out whether its next hops live: those that do not get no packets."""
    ecmp_symmetric_reply: bool = False
    """Whether answers leave by the next hop that the request came from."""
    route_table: Text | None = None
    """The route table that it is in: that of router ports with the same `route_table`."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield a BFD session of a route that leaves by no port, and one that has other times in another route."""
        if self.bfd is None:
            return
        before = scope.file.logical.routers[scope.owner].routes[: int(scope.where[-1])]
        for hop in _hops(scope):
            if not _port(scope, hop):
                yield scope.at("bfd"), f"{hop} is in no network of {scope.owner} that BFD could be spoken on"
            if any(hop in other.nexthop and other.bfd not in (None, self.bfd) for other in before):
                yield scope.at("bfd"), f"the BFD session with {hop} has other times in another route"

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield further columns for each next hop, and its BFD session."""
        route: Route = scope.file.logical.routers[scope.owner].routes[int(scope.where[-1])]
        for hop in _hops(scope):
            name = route.row_name(scope.owner, hop)
            yield from scope.more(
                {"options": {"ecmp_symmetric_reply": "true"} if self.ecmp_symmetric_reply else {}}, name=name
            )
            yield from scope.more({"route_table": self.route_table} if self.route_table else {}, name=name)
            if self.bfd is not None:
                session = f"{_port(scope, hop)} {hop}"
                times = {"min_tx": self.bfd.min_tx, "min_rx": self.bfd.min_rx, "detect_mult": self.bfd.detect_mult}
                yield from scope.row(
                    "BFD",
                    session,
                    {
                        "logical_port": _port(scope, hop),
                        "dst_ip": hop,
                        **{key: (value,) if value is not None else () for key, value in times.items()},
                    },
                    shown=("BFD", f"{hop} on {_port(scope, hop)}"),
                )
                yield from scope.more({"bfd": (session,)}, name=name)


class Discards(Keys):
    """Prefixes that a router drops packets to."""

    discards: Annotated[list[Network], *OneOrMore] = []
    """Prefixes that it drops packets to, by routes to nowhere."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield prefixes that stand twice."""
        for number, prefix in enumerate(self.discards):
            if prefix in self.discards[:number]:
                yield scope.at("discards", number), f"duplicate prefix {prefix}"

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a static route that leads nowhere for each."""
        for prefix in self.discards:
            yield from scope.child(
                "Logical_Router_Static_Route",
                f"{scope.name} {prefix} discard",
                {"ip_prefix": prefix, "nexthop": "discard", "output_port": (), "policy": ("dst-ip",)},
                shown=("discard", prefix),
            )


class PortRouteTable(Keys):
    """The route table of what comes in by a router port."""

    route_table: Text | None = None
    """The route table for what comes in by it: routes that are in none are not for it then."""

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield the option of the port."""
        yield from scope.more({"options": {"route_table": self.route_table} if self.route_table else {}})


def _hops(scope: Scope) -> list[str]:
    return scope.file.logical.routers[scope.owner].routes[int(scope.where[-1])].nexthop


def _port(scope: Scope, hop: str) -> str:
    """Return the router port whose network a next hop is in, empty where there is none."""
    router: Router = scope.file.logical.routers[scope.owner]
    for switch, port in router.ports.items():
        if any(ipaddress.ip_address(hop) in ipaddress.ip_interface(ip).network for ip in port.ip):
            return f"{scope.owner}-{switch}"
    return ""
