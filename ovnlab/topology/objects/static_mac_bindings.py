"""Static MAC bindings of a router: which MAC address an IP address on one of its ports has (ovn-nb(5))."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Ip, Mac, Name, OneOrMore, Part
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import Router


class StaticMacBinding(Part):
    """A neighbour of a router that need not answer for its address."""

    port: Name
    """The switch whose router port it is behind."""
    ip: Ip
    """Its address."""
    mac: Mac
    """The MAC address that packets to it get."""
    override: bool = False
    """Whether it counts more than what the router learns."""


class StaticMacBindings(Keys):
    """Static MAC bindings of a router."""

    static_mac_bindings: Annotated[list[StaticMacBinding], *OneOrMore] = []
    """Neighbours whose MAC addresses are given, not learned."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield bindings on no port, outside of its networks, and those of one address."""
        router: Router = scope.file.logical.routers[scope.owner]
        seen = set()
        for number, binding in enumerate(self.static_mac_bindings):
            where = scope.at("static_mac_bindings", number)
            yield from unknown((*where, "port"), binding.port, "port", router.ports)
            port = router.ports.get(binding.port)
            networks = [ipaddress.ip_interface(ip).network for ip in port.ip] if port else []
            if networks and not any(ipaddress.ip_address(binding.ip) in network for network in networks):
                yield (*where, "ip"), f"{binding.ip} is in no network of {scope.owner} on {binding.port}"
            if (binding.port, binding.ip) in seen:
                yield (*where, "ip"), f"duplicate static MAC binding of {binding.ip} on {binding.port}"
            seen.add((binding.port, binding.ip))

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a Static_MAC_Binding for each."""
        for binding in self.static_mac_bindings:
            port = f"{scope.owner}-{binding.port}"
            yield from scope.row(
                "Static_MAC_Binding",
                f"{port} {binding.ip}",
                {
                    "logical_port": port,
                    "ip": binding.ip,
                    "mac": binding.mac,
                    "override_dynamic_mac": binding.override,
                },
                shown=("MAC", f"{binding.ip} is at {binding.mac}"),
            )
