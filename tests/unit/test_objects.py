"""Kinds of Northbound objects: what of them is refused, and where, and the rows that they mean."""

from __future__ import annotations

import pytest

from ovnlab.errors import TopologyError
from ovnlab.topology.load import load_text

BASE = """\
nodes: {central: {role: central}, w1: {}, g1: {role: gateway}, g2: {role: gateway}}
logical:
  switches:
    a: {subnet: 10.1.0.0/24, ports: {vm1: {ip: 10.1.0.11}, vm2: {ip: 10.1.0.12}}}
    b: {subnet: 10.2.0.0/24}
"""

ROUTER = "  routers: {r: {ports: {a: {ip: 10.1.0.1/24}, b: {ip: 10.2.0.1/24}}, %s}}\n"


def refusal(text: str) -> list[str]:
    """Return what is refused of a topology, each as LINE: MESSAGE."""
    with pytest.raises(TopologyError) as refused:
        load_text("lab.yaml", (BASE + text).encode())
    return [f"{mistake.line}: {mistake.message}" for mistake in refused.value.mistakes]


BINDING = "static_mac_bindings: [%s]"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (BINDING % '{port: c, ip: 10.1.0.9, mac: "0a:00:00:00:00:01"}', "there is no port 'c' (there is a, b)"),
        (BINDING % '{port: a, ip: 10.2.0.9, mac: "0a:00:00:00:00:01"}', "10.2.0.9 is in no network of r on a"),
        (BINDING % "{port: a, ip: 10.1.0.9}", "'mac' is missing in logical.routers.r.static_mac_bindings.0"),
        (
            BINDING % ", ".join(['{port: a, ip: 10.1.0.9, mac: "0a:00:00:00:00:01"}'] * 2),
            "duplicate static MAC binding of 10.1.0.9 on a",
        ),
    ],
)
def test_what_a_router_cannot_have_is_refused_with_its_line(keys: str, message: str) -> None:
    assert refusal(ROUTER % keys) == [f"6: {message}"]
