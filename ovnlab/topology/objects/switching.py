"""Options of switches: multicast snooping, reverse DNS, forwarding groups (ovn-nb(5), Logical_Switch)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Ip, Mac, MayBeEmpty, Name, OneOrMore, Or, Part, true_is_default
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow, generated_mac

if TYPE_CHECKING:
    from ovnlab.topology.model import Switch


class Querier(Part):
    """The querier of multicast groups, where no router is one."""

    ip: Ip
    """The address that it asks from."""
    mac: Mac | None = None
    """Its MAC address; by default chosen automatically."""
    interval: Annotated[int, Field(ge=1, le=3600)] | None = None
    """Seconds between two questions."""


class Multicast(Part):
    """IGMP and MLD snooping: multicast goes only to ports that have joined."""

    querier: Querier | None = None
    """Who asks which groups somebody is in."""
    flood_unregistered: bool = False
    """Whether what nobody has joined goes everywhere."""
    table_size: Annotated[int, Field(ge=1, le=32766)] | None = None
    """How many groups it remembers."""


class ForwardingGroup(Part):
    """A forwarding group: an address for several ports, which share the traffic."""

    vip: Ip
    """The address."""
    mac: Mac | None = None
    """Its MAC address; by default chosen automatically."""
    ports: Annotated[list[Name], Field(min_length=1), *OneOrMore]
    """The ports of the switch that packets go to."""
    liveness: bool = False
    """Whether ports whose tunnel is down get none (BFD)."""


class Switching(Keys):
    """The options of a switch, beyond ports."""

    multicast: Annotated[Multicast | None, BeforeValidator(true_is_default), Or({"type": "boolean"})] = None
    """true, or how multicast is snooped on: it goes only to ports that have joined."""
    vlan_passthru: bool = False
    """Whether it takes tagged frames, and passes them on as they are."""
    dns_reverse: bool = False
    """Whether OVN also resolves the addresses of `dns` to their names (PTR)."""
    forwarding_groups: dict[Name, Annotated[ForwardingGroup, *MayBeEmpty]] = {}
    """Forwarding groups by name."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield a reverse of no names, and members of groups that are not ports of the switch."""
        switch: Switch = scope.file.logical.switches[scope.name]
        if self.dns_reverse and not switch.dns:
            yield scope.at("dns_reverse"), f"{scope.name} has no dns whose addresses could be resolved"
        for name, group in self.forwarding_groups.items():
            for other, found in scope.file.logical.switches.items():
                if other == scope.name:
                    break
                if name in found.forwarding_groups and found.zone == switch.zone:
                    where = scope.at("forwarding_groups", name)
                    yield where, f"{name!r} is the name of a forwarding group of {other} already"
            for number, port in enumerate(group.ports):
                yield from unknown(scope.at("forwarding_groups", name, "ports", number), port, "port", switch.ports)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield keys of other_config, PTR records, and a Forwarding_Group for each."""
        switch: Switch = scope.file.logical.switches[scope.name]
        yield from scope.more({"other_config": {"vlan-passthru": "true"} if self.vlan_passthru else {}})
        if self.multicast is not None:
            yield from scope.more({"other_config": self._snooping(scope)}, shown=("multicast", "snooping"))
        if self.dns_reverse:
            names = {ipaddress.ip_address(ip).reverse_pointer: host for host, ips in switch.dns.items() for ip in ips}
            for zone in scope.zones:
                yield NorthboundRow("DNS", scope.name, {"records": dict(names)}, zone=zone)
        for name, group in self.forwarding_groups.items():
            yield from scope.child(
                "Forwarding_Group",
                name,
                {
                    "vip": group.vip,
                    "vmac": group.mac or generated_mac(scope.name, name, "forwarding group"),
                    "liveness": group.liveness,
                    "child_port": tuple(group.ports),
                },
                shown=("group", f"{name} {group.vip}: {', '.join(group.ports)}"),
            )

    def _snooping(self, scope: Scope) -> dict[str, str | int]:
        multicast = self.multicast or Multicast()
        querier = multicast.querier
        found: dict[str, str | int] = {"mcast_snoop": "true", "mcast_querier": "true" if querier else "false"}
        if multicast.flood_unregistered:
            found["mcast_flood_unregistered"] = "true"
        if multicast.table_size:
            found["mcast_table_size"] = str(multicast.table_size)
        if querier is not None:
            family = "ip4" if ":" not in querier.ip else "ip6"
            found |= {
                "mcast_eth_src": querier.mac or generated_mac(scope.name, "querier"),
                f"mcast_{family}_src": querier.ip,
            }
            if querier.interval:
                found["mcast_query_interval"] = str(querier.interval)
        return found
