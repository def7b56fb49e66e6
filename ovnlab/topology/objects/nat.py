"""Options of NAT rules: statelessness, port ranges, allowed addresses (ovn-nb(5), NAT)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from ovnlab.topology.findings import Finding, unknown
from ovnlab.topology.grammar import Name, SetName, string, text
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import Nat, Router


def _whole_number(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _port_range(value: str) -> str:
    first, dash, last = value.partition("-")
    ports = [first, last] if dash else [first]
    if not all(port.isascii() and port.isdigit() and 1 <= int(port) <= 65535 for port in ports):
        raise ValueError(f"invalid port range {value!r}: expected FIRST-LAST of 1 to 65535")
    if dash and int(first) > int(last):
        raise ValueError(f"invalid port range {value!r}: expected the lower port first")
    return value


PortRange = Annotated[
    str, text("1024-2047", _port_range), BeforeValidator(_whole_number), string("a port, or FIRST-LAST")
]


class NatOptions(Keys):
    """The options of a NAT rule, beyond addresses."""

    stateless: bool = False
    """Whether addresses are rewritten without connection tracking; for dnat_and_snat."""
    port_range: PortRange | None = None
    """The ports that `external` uses for connections."""
    allowed: SetName | None = None
    """The address set of outside addresses that it is for, and no others."""
    exempted: SetName | None = None
    """The address set of outside addresses that it is not for."""
    gateway_port: Name | None = None
    """The switch whose router port does it, where the router has several gateway ports."""

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield address sets and ports that are not there, and what does not go together."""
        router: Router = scope.file.logical.routers[scope.owner]
        nat: Nat = router.nat[int(scope.where[-1])]
        if self.stateless and nat.type != "dnat_and_snat":
            yield scope.at("stateless"), "only dnat_and_snat can be stateless"
        if self.stateless and self.port_range:
            yield scope.at("port_range"), "a stateless rule keeps ports: port_range needs connection tracking"
        if self.allowed and self.exempted:
            yield scope.at("exempted"), "has either allowed or exempted"
        for key, name in (("allowed", self.allowed), ("exempted", self.exempted)):
            if name is not None:
                yield from unknown(scope.at(key), name, "address set", scope.file.logical.address_sets)
        if self.gateway_port is not None:
            yield from unknown(scope.at("gateway_port"), self.gateway_port, "port", router.ports)
            port = router.ports.get(self.gateway_port)
            if port is not None and not (port.gateway_chassis or port.ha_chassis_group):
                yield scope.at("gateway_port"), f"the port on {self.gateway_port} has no gateway"

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield further columns of the rule."""
        yield from scope.more({"options": {"stateless": "true"} if self.stateless else {}})
        yield from scope.more({"external_port_range": self.port_range} if self.port_range else {})
        yield from scope.more({"allowed_ext_ips": (self.allowed,) if self.allowed else ()})
        yield from scope.more({"exempted_ext_ips": (self.exempted,) if self.exempted else ()})
        port = (f"{scope.owner}-{self.gateway_port}",) if self.gateway_port else ()
        yield from scope.more({"gateway_port": port})
