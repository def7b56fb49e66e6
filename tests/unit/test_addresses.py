"""Addresses have one spelling, whatever the file's is, and are parsed in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ovnlab.errors import TopologyError
from ovnlab.topology import addresses
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import Topology

PACKAGE = Path(addresses.__file__).parents[1]

FILE = """
nodes: {{central: {{role: central}}, w1: {{}}}}
logical:
  switches:
    n1:
      subnet: [192.168.0.0/24, "FD00:0::/64"]
      ports: {{vm1: {{ip: [192.168.0.11, "fd00::11"]}}}}
  load_balancers: {{{}}}
checks: [{}]
"""


def load(balancers: str = "", checks: str = "") -> Topology:
    return load_text("lab.yaml", FILE.format(balancers, checks).encode()).topology


def test_backends_are_those_that_are_meant() -> None:
    lab = load('a: {vip: "[FD01::100]:080", backends: ["[FD00::11]:80"], switches: [n1], health_check: true}')
    (balancer,) = lab.load_balancers
    assert (balancer.vip, balancer.backends) == ("[fd01::100]:80", ("[fd00::11]:80",))
    assert balancer.health_check
    assert list(balancer.health_check.mappings) == ["[fd00::11]"]
    assert lab.switches[0].subnets[1] == "fd00::/64"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[fd01::100]:80", "[fd01:0::100]:80"),
        ("[fd01::100]:80", "[FD01::100]:080"),
        ("fd01::100", "[fd01:0:0::100]:80"),
        ("10.0.0.1:80", "10.0.0.1:0080"),
    ],
)
def test_one_vip_is_one_however_it_is_spelled(one: str, other: str) -> None:
    backend = {True: "[fd00::11]:80", False: "192.168.0.11:80"}["fd" in one.lower()]
    bare = backend.rpartition(":")[0].strip("[]")
    first, second = (backend if addresses.port_of(vip) else bare for vip in (one, other))
    with pytest.raises(TopologyError, match="overlaps the VIP of a on n1"):
        load(
            f'a: {{vip: "{one}", backends: ["{first}"], switches: [n1]}}, '
            f'b: {{vip: "{other}", backends: ["{second}"], switches: [n1]}}'
        )


def test_other_ports_and_addresses_are_other_vips() -> None:
    lab = load(
        'a: {vip: "[fd01::100]:80", backends: ["[fd00::11]:80"], switches: [n1]}, '
        'b: {vip: "[fd01::100]:81", backends: ["[fd00::11]:80"], switches: [n1]}, '
        'c: {vip: "[fd01::101]:80", backends: ["[fd00::11]:80"], switches: [n1]}'
    )
    assert len(lab.load_balancers) == 3


def test_what_is_connected_to() -> None:
    checks = ", ".join(f'{{tcp: "{to}", from: w1}}' for to in ("vm1:22", "[FD00::11]:80", "fd00::11:80", "10.0.0.1:1"))
    lab = load(checks=checks)
    assert [(check.target, check.port) for check in lab.checks] == [
        ("vm1", 22), ("fd00::11", 80), ("fd00::11", 80), ("10.0.0.1", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["vm1", "vm1:", ":80", "vm1:0", "vm1:65536", "vm1:x", "[vm1", "a b:80", "vm1:٣", "fd00::11", "-x:80"]
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(TopologyError):
        load(checks=f'{{tcp: "{text}", from: w1}}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "10.0.0.1:",
        "10.0.0.1:0",
        "[10.0.0.1",
        "10.0.0.1]:80",
        "[fd00::1]80",
        "fe80::1%eth0",
        "[fe80::1%x]:80",
        "10.0.0.0/24",
    ],
)
def test_what_is_no_vip(text: str) -> None:
    with pytest.raises(ValueError, match=r"ADDRESS or ADDRESS:PORT|invalid port"):
        addresses.parse_endpoint(text)


def test_endpoints_sort_and_print_as_ovn_has_them() -> None:
    for text in ("10.0.0.1:80", "[fd00::1]:80", "10.0.0.1", "fd00::1"):
        assert str(addresses.parse_endpoint(text)) == text
        assert addresses.host_of(text) == addresses.parse_endpoint(text).ip
        assert addresses.port_of(text) == addresses.parse_endpoint(text).port


def test_rows_of_a_database_are_read_whatever_is_in_them() -> None:
    assert addresses.host_of(" 10.0.0.1:80 ") == "10.0.0.1"
    assert addresses.host_of("10.0.0.1:port") == "10.0.0.1:port"
    assert addresses.port_of("10.0.0.1:port") == 0
    assert addresses.host_of("") == ""


def test_addresses_are_parsed_in_one_place() -> None:
    """Text is not split again where it is used."""
    copies = re.compile(
        r"""\.partition\("/"\)\[0\]|strip\("\[\]"\)(?!\.split)|partition\("\]"\)|count\(":"\) ==|\{2\}\(:|0xFE\b|max_prefixlen"""
    )
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "addresses.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if copies.search(line)
    ]
    assert not found
