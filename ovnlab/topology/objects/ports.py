"""Options of ports: address pairs, and where they may be bound (ovn-nb(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from ovnlab.topology import addresses
from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Name, OneOrMore, string, text
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

WORDS = ("unknown", "dynamic", "router")


def _owned(value: str) -> str:
    """Return a MAC address with IP addresses or networks behind it, or only those, in their usual form."""
    first, *others = value.split() or [""]
    if addresses.is_mac(first):
        return " ".join([addresses.parse_mac(first), *map(_ip_or_network, others)])
    return " ".join(map(_ip_or_network, [first, *others]))


def _ip_or_network(value: str) -> str:
    return addresses.parse_network(value) if "/" in value else addresses.parse_ip(value)


def _owned_or_word(value: str) -> str:
    first, _, rest = value.partition(" ")
    if first in WORDS and not rest:
        return value
    if rest == "dynamic" and addresses.is_mac(first):
        return f"{addresses.parse_mac(first)} dynamic"
    return _owned(value)


Owned = Annotated[str, text("0a:00:00:00:00:01 192.168.0.11", _owned), string("addresses: MAC IP…, or IP")]
OwnedOrWord = Annotated[
    str, text("0a:00:00:00:00:01 192.168.0.11", _owned_or_word), string("unknown, dynamic, or MAC IP…")
]


class PortOptions(Keys):
    """The options of a port, beyond its own addresses."""

    addresses: Annotated[list[OwnedOrWord], *OneOrMore] = []
    """What OVN takes it to have instead of `mac` and `ip`; unknown gets what no other port has."""
    allowed_addresses: Annotated[list[Owned], *OneOrMore] = []
    """What it may send from beside its own, in spite of port_security (allowed address pairs)."""
    requested_chassis: Annotated[list[Name], *OneOrMore] = []
    """The chassis that may bind it, the first where it is; others while it moves there."""
    activation: Literal["rarp"] | None = None
    """What a VM sends when it has moved to another of `requested_chassis`."""
    enabled: bool = True
    """Whether packets pass it."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield chassis that are none, and keys that mean nothing here."""
        port = scope.file.logical.switches[scope.owner].ports[scope.name]
        if self.allowed_addresses and not port.port_security:
            yield scope.at("allowed_addresses"), "allowed_addresses goes with port_security: true"
        if self.activation and len(self.requested_chassis) < 2:
            yield scope.at("activation"), "activation goes with several requested_chassis"
        if port.type is None and self.requested_chassis and port.chassis not in (None, *self.requested_chassis):
            yield scope.at("requested_chassis"), f"{port.chassis} is to bind {scope.name}, and is not among them"
        for number, name in enumerate(self.requested_chassis):
            yield from unknown(scope.at("requested_chassis", number), name, "node", scope.file.nodes)

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield further columns of the port."""
        yield from scope.more({"addresses": tuple(self.addresses)})
        decided = scope.topology.port(scope.name) if scope.topology else None
        if self.allowed_addresses and decided is not None:
            more = [a if addresses.is_mac(a.split()[0]) else f"{decided.mac} {a}" for a in self.allowed_addresses]
            own = " ".join([*decided.addresses, *decided.virtual_ips])
            yield from scope.more({"port_security": (own, *more)})
        options = {
            "requested-chassis": ",".join(self.requested_chassis),
            "activation-strategy": self.activation or "",
        }
        yield from scope.more({"options": {key: value for key, value in options.items() if value}})
        if not self.enabled:
            yield from scope.more({"enabled": (False,)}, shown=("disabled", scope.name))
