"""Ports that join a switch to something outside of OVN: localnet, l2gateway, vtep (ovn-nb(5), Logical_Switch_Port)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Name
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import Port

OUTSIDE = ("localnet", "l2gateway", "vtep")
"""Types of ports that have no address: what is behind them is not OVN's."""


class OutsidePort(Keys):
    """A port that joins its switch to something outside."""

    physical_network: Name | None = None
    """The physical network that a localnet or l2gateway port joins the switch to, on `vlan` where it has one."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield networks and gateways that are not there, and keys that mean nothing here."""
        port: Port = scope.file.logical.switches[scope.owner].ports[scope.name]
        joins = port.type in ("localnet", "l2gateway")
        if joins and self.physical_network is None:
            yield scope.at("type"), f"type: {port.type} needs the physical_network that it joins {scope.owner} to"
        if self.physical_network is not None:
            if not joins:
                yield scope.at("physical_network"), "physical_network goes with type: localnet or l2gateway"
            where = scope.at("physical_network")
            yield from unknown(where, self.physical_network, "physical network", scope.file.physical_networks)
        if port.type == "l2gateway" and port.chassis is None:
            yield scope.at("type"), "type: l2gateway needs the chassis that it is on"
        if port.type in OUTSIDE and (port.ip or port.mac):
            yield scope.at("type"), f"a {port.type} port has neither ip nor mac"

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield the port, which nothing else makes."""
        port: Port = scope.file.logical.switches[scope.owner].ports[scope.name]
        if port.type not in OUTSIDE:
            return
        options = {"network_name": self.physical_network} if self.physical_network else {}
        if port.type == "l2gateway" and port.chassis:
            options["l2gateway-chassis"] = port.chassis
        vlan = f" VLAN {port.vlan}" if port.vlan else ""
        for zone in scope.zones:
            yield NorthboundRow(
                "Logical_Switch_Port",
                scope.name,
                {
                    "type": port.type,
                    "addresses": ("unknown",),
                    "options": {**options, **port.options},
                    "tag": (port.vlan,) if port.vlan else (),
                },
                scope.owner,
                "Logical_Switch",
                zone,
                scope.owner,
                (port.type, f"{scope.name} on {self.physical_network or 'a VTEP'}{vlan}"),
            )
