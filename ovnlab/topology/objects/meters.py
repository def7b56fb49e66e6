"""Meters, which limit rates of packets, and what uses them: ACLs' logs, protection of ovn-controller (ovn-nb(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Name, OptionKey, Part
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow


class Meter(Part):
    """A rate that something may have on each chassis."""

    rate: Annotated[int, Field(ge=1, le=4_294_967_295)]
    """What may pass in a second: packets, or kilobits."""
    unit: Literal["pktps", "kbps"] = "pktps"
    """What is counted."""
    burst: Annotated[int, Field(ge=0, le=4_294_967_295)] = 0
    """What may pass at once, in the same unit."""
    fair: bool = False
    """Whether each ACL that names it has a rate of its own."""


class Meters(Keys):
    """Meters by name."""

    meters: dict[Name, Meter] = {}
    """Meters by name: rates that packets are limited to."""
    copp: dict[Name, dict[OptionKey, Name]] = {}
    """Protections of ovn-controller by name: for each of its protocols, such as arp, the meter."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield protections by meters that are not there."""
        for name, protocols in self.copp.items():
            for protocol, meter in protocols.items():
                yield from unknown(scope.at("copp", name, protocol), meter, "meter", self.meters)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a Meter and its band for each, and a Copp for each protection."""
        for name, meter in self.meters.items():
            yield from scope.row("Meter", name, {"unit": meter.unit, "fair": (meter.fair,)})
            for row in scope.row("Meter_Band", f"{name} drop", {}):
                yield NorthboundRow(
                    "Meter_Band",
                    row.name,
                    {"action": "drop", "rate": meter.rate, "burst_size": meter.burst},
                    name,
                    "Meter",
                    row.zone,
                )
        for name, protocols in self.copp.items():
            yield from scope.row("Copp", name, {"meters": dict(protocols)})


class Protection(Keys):
    """The protection of ovn-controller by a switch or router."""

    copp: Name | None = None
    """The protection of ovn-controller, by its name in `logical.copp`."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield a protection that is not there."""
        if self.copp is not None:
            yield from unknown(scope.at("copp"), self.copp, "protection", scope.file.logical.copp)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield the reference to it."""
        yield from scope.more({"copp": (self.copp,) if self.copp else ()}, shown=("copp", self.copp or ""))


class AclOptions(Keys):
    """The options of an ACL, beyond match and action."""

    meter: Name | None = None
    """The meter that limits its log, by its name in `logical.meters`."""
    label: Annotated[int, Field(ge=1, le=4_294_967_295)] | None = None
    """A number that its connections carry in conntrack (ct_label)."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield a meter that is not there, and keys that mean nothing here."""
        acl = scope.file.logical.acls[int(scope.where[-1])]
        if self.meter is not None:
            yield from unknown(scope.at("meter"), self.meter, "meter", scope.file.logical.meters)
            if not acl.log:
                yield scope.at("meter"), "meter goes with log: true"
        if self.label is not None and acl.action != "allow-related":
            yield scope.at("label"), "label goes with action: allow-related"

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield further columns of the rule."""
        yield from scope.more({"meter": (self.meter,) if self.meter else ()})
        yield from scope.more({"label": self.label} if self.label else {})
