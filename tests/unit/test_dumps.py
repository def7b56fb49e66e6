"""Hexadecimal dumps as people post them, and captures that gzip made smaller."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ovnlab.errors import OvnlabError
from ovnlab.insight.dissection import packet
from ovnlab.insight.pcap import read
from tests.unit.test_packets import GENEVE, POSTED

ARP = bytes.fromhex("ffffffffffff52540000000108060001080006040001525400000001c0a8320a000000000000c0a83264")
IPV6 = bytes.fromhex("525400000002525400000001" "86dd" "6000000000083a40fe800000000000000000000000000001"
                     "fe8000000000000000000000000000028000000000010001")  # fmt: skip


def dump(data: bytes, *, ascii_too: bool = False, colon: bool = False) -> str:
    """As `tcpdump -x` prints it, with -X what can be read beside it."""
    lines = []
    for offset in range(0, len(data), 16):
        part = data[offset : offset + 16]
        words = part.hex(":") if colon else part.hex(" ", -2)
        text = "".join(chr(byte) if 32 < byte < 127 else "." for byte in part)
        lines.append(f"\t0x{offset:04x}:  {words:39}" + (f"  {text}" if ascii_too else ""))
    return "10:11:12.131415 IP 192.168.50.100.1 > 192.168.50.101.6081: Geneve\n" + "\n".join(lines) + "\n"


def said(path: Path, text: str | bytes) -> list[str]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [one.packet.line for one in read(path)]


@pytest.mark.parametrize("frame", [GENEVE, ARP, IPV6])
@pytest.mark.parametrize("more", [{}, {"ascii_too": True}, {"colon": True}])
@pytest.mark.parametrize("quote", ["", "> ", "> > ", "  | "])
def test_a_dump_is_read_with_and_without_its_ethernet_header(
    tmp_path: Path, frame: bytes, more: dict[str, bool], quote: str
) -> None:
    wanted = packet(frame).line
    for data in (frame, frame[14:]):  # -xx and -XX, -x and -X
        text = "".join(f"{quote}{line}\n" for line in dump(data, **more).splitlines())
        assert said(tmp_path / "dump", text) == [wanted]


def test_digits_alone_with_colons(tmp_path: Path) -> None:
    assert said(tmp_path / "dump", GENEVE.hex(":")) == [packet(GENEVE).line]


def test_several_packets_of_one_dump(tmp_path: Path) -> None:
    assert len(said(tmp_path / "dump", dump(GENEVE[14:]) + dump(ARP) + dump(GENEVE))) == 3


def test_gzip(tmp_path: Path) -> None:
    assert said(tmp_path / "dump.gz", gzip.compress(POSTED.encode())) == [packet(GENEVE).line]
    whole = gzip.compress(POSTED.encode())
    with pytest.raises(OvnlabError, match="is damaged"):
        said(tmp_path / "dump.gz", whole[:-12])
    with pytest.raises(OvnlabError, match="neither a capture file nor"):
        said(tmp_path / "dump.gz", gzip.compress(b"nothing of the kind"))
    with pytest.raises(OvnlabError, match="packed twice"):
        said(tmp_path / "dump.gz", gzip.compress(whole))


def test_gre_and_erspan_have_names() -> None:
    ip = bytes.fromhex("4500003c00010000402f0000c0a83201c0a83202")
    frame = bytes(12) + b"\x08\x00" + ip
    assert "GRE, IPv4" in packet(frame + bytes.fromhex("00000800") + bytes(20)).line
    erspan = packet(frame + bytes.fromhex("100088be000000071005002a00000000") + bytes(20))
    assert "GRE, ERSPAN, seq 7, VLAN 5, session 42" in erspan.line
