"""What OVN's multinode tests get of ovnlab: outcomes that are read, and errors that a tunnel answers with."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from ovnlab.shipped import TEMPLATES
from ovnlab.upstream import FAIL, PASS, SKIP, expectations, outcome_in

MACS = bytes.fromhex("525400000002") + bytes.fromhex("525400000001")
VM_MACS = bytes.fromhex("505400000004") + bytes.fromhex("505400000003")


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("  1: ovn multinode basic test                        ok", (PASS, "")),
        (
            " 18: ovn multinode bgp unnumbered                    skipped (multinode.at:2898)",
            (SKIP, "multinode.at:2898"),
        ),
        (
            " 17: Migration of container ports                    FAILED (multinode.at:2763)",
            (FAIL, "multinode.at:2763"),
        ),
        ("bash: no such file", (FAIL, "the suite did not run")),
    ],
)
def test_the_outcome_of_a_group_is_read(line: str, outcome: tuple[str, str]) -> None:
    assert outcome_in(f"## ---- ##\n{line}\n\n## Test results. ##\n") == outcome


def test_groups_that_cannot_pass_have_a_reason() -> None:
    found = expectations("local")
    assert all(one.reason and one.outcome in (FAIL, SKIP) for one in found.values())
    assert expectations("elsewhere") == {}


@pytest.fixture(scope="module")
def answer() -> Callable[[bytes, int], bytes | None]:
    names: dict[str, Any] = {"__name__": "pmtu"}
    exec(compile((TEMPLATES / "multinode/pmtu.py.j2").read_text(), "pmtu", "exec"), names)  # noqa: S102  ours
    return names["answer"]  # type: ignore[no-any-return]


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(source: str, target: str, protocol: int, payload: bytes, flags: int = 0x4000) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, flags, 64, protocol, 0)
    return header + ip_address(source).packed + ip_address(target).packed + payload


def in_geneve(inner: bytes, kind: int = 0x0800, options: bytes = b"\1\2\x80\1" + b"\0\1\0\2") -> bytes:
    geneve = struct.pack("!BBHI", len(options) // 4, 0, 0x6558, 5 << 8) + options
    payload = geneve + VM_MACS + struct.pack("!H", kind) + inner
    udp = struct.pack("!HHHH", 40000, 6081, 8 + len(payload), 0)
    return MACS + b"\x08\x00" + ip4("192.168.50.1", "192.168.50.2", 17, udp + payload)


def test_a_packet_that_is_too_large_is_answered_in_its_tunnel(answer: Callable[[bytes, int], bytes | None]) -> None:
    sent = in_geneve(ip4("10.0.0.3", "10.0.0.4", 1, b"\x08\0\0\0" + bytes(1300)))
    came = answer(sent, 1200)
    assert came is not None
    assert came[:12] == MACS[6:] + MACS[:6]
    assert (came[26:30], came[30:34]) == (ip_address("192.168.50.2").packed, ip_address("192.168.50.1").packed)
    assert checksum(came[14:34]) == 0
    assert came[42:58] == sent[42:58], "the same VNI and ports of OVN"
    inner = came[58:]
    assert inner[:12] == VM_MACS[6:] + VM_MACS[:6]
    assert checksum(inner[14:34]) == 0
    assert (inner[26:30], inner[30:34]) == (ip_address("10.0.0.4").packed, ip_address("10.0.0.3").packed)
    kind, code, _, _, mtu = struct.unpack_from("!BBHHH", inner, 34)
    assert (kind, code, mtu) == (3, 4, 1200 - 20 - 8 - 8 - 8 - 14)
    assert checksum(inner[34:]) == 0


def test_ipv6_is_answered_as_well(answer: Callable[[bytes, int], bytes | None]) -> None:
    addresses = ip_address("1000::3").packed + ip_address("1000::4").packed
    came = answer(in_geneve(struct.pack("!IHBB", 0x60000000, 1400, 17, 64) + addresses + bytes(1400), 0x86DD), 1400)
    assert came is not None
    inner = came[58:]
    assert inner[14 + 40] == 2
    assert struct.unpack_from("!I", inner, 14 + 44)[0] == 1400 - 58
    body = inner[54:]
    assert checksum(inner[22:54] + struct.pack("!II", len(body), 58) + body) == 0


@pytest.mark.parametrize(
    "sent",
    [
        in_geneve(ip4("10.0.0.3", "10.0.0.4", 1, b"\x08\0\0\0" + bytes(1300), flags=0)),
        in_geneve(ip4("10.0.0.3", "10.0.0.4", 1, b"\x03\4\0\0" + bytes(1300))),
        in_geneve(ip4("10.0.0.3", "10.0.0.4", 1, b"\x08\0\0\0" + bytes(1000))),
        in_geneve(bytes(1400), 0x0806),
        MACS + b"\x08\x00" + ip4("192.168.50.1", "192.168.50.2", 6, bytes(1300)),
    ],
    ids=["may be fragmented", "an error itself", "small enough", "not IP", "no tunnel"],
)
def test_nothing_else_is_answered(answer: Callable[[bytes, int], bytes | None], sent: bytes) -> None:
    assert answer(sent, 1200) is None
