"""Mirrors: copies of what ports send or receive, in a tunnel to a collector (ovn-nb(5), Mirror)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Ip, Name, OneOrMore, Part
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow


class Mirror(Part):
    """Copies of packets in a tunnel."""

    type: Literal["gre", "erspan"] = "gre"
    """The tunnel that they go by."""
    filter: Literal["from-lport", "to-lport", "both"] = "from-lport"
    """What is copied: what ports send, or what they receive."""
    sink: Ip
    """The collector: an address that chassis reach outside of OVN."""
    index: Annotated[int, Field(ge=0, le=4_294_967_295)] = 0
    """The tunnel's number: key of GRE, index of ERSPAN."""


class Mirrors(Keys):
    """Mirrors by name."""

    mirrors: dict[Name, Mirror] = {}
    """Mirrors by name: copies of what ports send or receive."""

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield a Mirror for each."""
        for name, mirror in self.mirrors.items():
            columns: dict[str, str | int] = {"sink": mirror.sink, "index": mirror.index}
            needs = ("mirror filter both", "24.09") if mirror.filter == "both" else ("", "")
            for row in scope.row("Mirror", name, {"type": mirror.type, "filter": mirror.filter, **columns}):
                yield NorthboundRow(row.table, row.name, row.columns, zone=row.zone, needs=needs)


class PortMirrors(Keys):
    """Mirrors of a port."""

    mirrors: Annotated[list[Name], *OneOrMore] = []
    """The mirrors of it, by their names in `logical.mirrors`."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield mirrors that are not there."""
        for number, name in enumerate(self.mirrors):
            yield from unknown(scope.at("mirrors", number), name, "mirror", scope.file.logical.mirrors)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield the references to them."""
        shown = ("mirror", f"{scope.name} to {', '.join(self.mirrors)}") if self.mirrors else ("", "")
        yield from scope.more({"mirror_rules": tuple(self.mirrors)}, shown=shown)
