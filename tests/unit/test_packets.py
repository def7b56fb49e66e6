"""What is in packets and capture files: never an exception, whatever is wrong with them."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnlab.errors import OvnlabError
from ovnlab.insight.dissection import packet
from ovnlab.insight.names import Names
from ovnlab.insight.pcap import Counter, dumped, merged, read, write

POSTED = """
17:02:13.403229 52:54:00:13:e0:a2 > 52:54:00:ac:67:5b, ethertype IPv4 (0x0800), length 156: [...] Geneve, Flags [C]
        0x0000:  5254 00ac 675b 5254 0013 e0a2 0800 4500
        0x0010:  008e f9b0 4000 4011 5a94 c0a8 3264 c0a8
        0x0020:  3265 1d7d 17c1 007a e6a5 0240 6558 0000
        0x0030:  0100 0102 8001 0001 0002 4044 0000 0002
        0x0040:  4044 0000 0001 0800 4500 0054 a3f0 4000
        0x0050:  4001 1551 c0a8 000b c0a8 000c 0800 c67b
        0x0060:  04e3 1af1 94d9 6e5c 0000 0000 41a7 0e00
        0x0070:  0000 0000 1011 1213 1415 1617 1819 1a1b
        0x0080:  1c1d 1e1f 2021 2223 2425 2627 2829 2a2b
        0x0090:  2c2d 2e2f 3031 3233 3435 3637
"""
"""A packet as a post about Geneve in OVN shows it (tcpdump -xx)."""

(GENEVE,) = dumped(POSTED)


def ethernet(kind: int, rest: bytes) -> bytes:
    return bytes.fromhex("404400000002404400000001") + struct.pack("!H", kind) + rest


def udp6(port: int, payload: bytes, *, extensions: bytes = b"", following: int = 17) -> bytes:
    body = extensions + struct.pack("!HHHH", 1000, port, 8 + len(payload), 0) + payload
    source, destination = bytes.fromhex("fd00" + "00" * 13 + "01"), bytes.fromhex("fd00" + "00" * 13 + "02")
    return ethernet(0x86DD, struct.pack("!IHBB", 6 << 28, len(body), following, 64) + source + destination + body)


VXLAN = udp6(4789, struct.pack("!B3xI", 8, (3 << 12 | 1) << 8) + GENEVE[-98:])
TAGGED = GENEVE[:12] + bytes.fromhex("88a800648100002a") + GENEVE[12:]


def test_the_dump_of_the_post_says_what_the_post_says() -> None:
    found = packet(GENEVE)
    assert found.tunnel is not None
    assert (found.tunnel.vni, found.tunnel.option) == (1, "00010002")
    assert (found.tunnel.ingress_key, found.tunnel.egress_key) == (1, 2)
    assert (found.source, found.destination) == ("192.168.50.100", "192.168.50.101")
    assert found.inner is not None
    assert found.inner.line == "192.168.0.11 > 192.168.0.12: ICMP echo request, id 1251, seq 6897, length 64"
    assert (found.inner.eth_source, found.inner.eth_destination) == ("40:44:00:00:00:01", "40:44:00:00:00:02")
    assert found.problem == ""


def test_keys_of_ports_have_all_their_bits() -> None:
    """15 of the ingress port, 16 of the egress port; the first bit is reserved (ovn-architecture(7))."""
    option = bytes.fromhex("0102800100010002")
    for keys, ingress, egress in ((0x7FFFFFFF, 0x7FFF, 0xFFFF), (0x10012001, 0x1001, 0x2001), (0x80010002, 1, 2)):
        found = packet(GENEVE.replace(option, option[:4] + struct.pack("!I", keys))).tunnel
        assert found is not None
        assert (found.ingress_key, found.egress_key) == (ingress, egress)


def test_names_stand_for_numbers() -> None:
    names = Names(
        {
            "Chassis": [
                {"_uuid": "c1", "name": "worker1", "encaps": ["e1"]},
                {"_uuid": "c2", "name": "worker2", "encaps": "e2"},
            ],
            "Encap": [
                {"_uuid": "e1", "type": "geneve", "ip": "192.168.50.100"},
                {"_uuid": "e2", "type": "geneve", "ip": "192.168.50.101"},
            ],
            "Datapath_Binding": [
                {"_uuid": "d1", "tunnel_key": 1, "external_ids": {"name": "network1", "logical-switch": "x"}}
            ],
            "Port_Binding": [
                {
                    "_uuid": name, "logical_port": name, "type": "", "datapath": "d1", "tunnel_key": number, "chassis": [],
                    "mac": [], "options": {}, "parent_port": [], "tag": [],
                }
                for number, name in ((1, "vm1"), (2, "vm2"))
            ],
        }
    )  # fmt: skip
    found = packet(GENEVE)
    assert found.tunnel is not None
    named = names.named(found.tunnel, found.source, found.destination)
    assert str(named) == "Geneve vni 1 (network1), inport 1 (vm1), outport 2 (vm2)"
    assert (named.src_chassis, named.dst_chassis) == ("worker1", "worker2")


def test_vxlan_has_the_egress_port_in_its_vni() -> None:
    found = packet(VXLAN)
    assert found.tunnel is not None
    assert (found.tunnel.datapath_key, found.tunnel.ingress_key, found.tunnel.egress_key) == (1, None, 3)
    assert found.source == "fd00::1"
    assert found.inner is not None
    assert found.inner.source == "192.168.0.11"


def test_tags_and_extension_headers_are_passed_over() -> None:
    found = packet(TAGGED)
    assert found.vlans == (100, 42)
    assert found.tunnel is not None
    assert found.tunnel.vni == 1
    hops = bytes([17, 0]) + bytes(6)
    inside = packet(udp6(6081, GENEVE[42:], extensions=hops, following=0))
    assert inside.tunnel is not None
    assert inside.tunnel.egress_key == 2


def test_what_is_unusual_in_a_header_is_said() -> None:
    options = struct.pack("!HBB", 0x0103, 1, 1) + b"abcd" + struct.pack("!HBB", 0x0102, 0x80, 30)
    header = struct.pack("!BBHI", 0x40 | len(options) // 4, 0x80, 0x0800, 5 << 8)
    found = packet(udp6(6081, header + options))
    assert found.tunnel is not None
    assert found.tunnel.remarks == (
        "version 1",
        "control packet",
        "option class 0x0103 type 0x01 data 61626364",
        "an option is longer than the header",
    )
    assert found.tunnel.egress_key is None
    assert found.inner is None, "it carries IP, not Ethernet"


@pytest.mark.parametrize("length", range(len(GENEVE)))
def test_a_packet_cut_off_anywhere_is_read_as_far_as_it_goes(length: int) -> None:
    found = packet(GENEVE[:length])
    assert found.line
    if length >= 34:
        assert found.destination == "192.168.50.101"
    if 42 <= length < 54:
        assert found.problem == "cut off in its Geneve header"


@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise(data: bytes) -> None:
    for frame in (data, ethernet(0x0800, data), ethernet(0x86DD, data), udp6(6081, data), udp6(4789, data)):
        assert isinstance(packet(frame).innermost.line, str)


@given(
    st.sampled_from([GENEVE, VXLAN, TAGGED]),
    st.lists(st.tuples(st.integers(0, 170), st.integers(0, 255)), max_size=6),
    st.integers(0, 170),
)
def test_no_damage_to_a_real_packet_raises(frame: bytes, changes: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(frame)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    found = packet(bytes(damaged[:length]))
    assert isinstance(found.innermost.line, str)
    assert isinstance(found.flow, str)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

NANOSECONDS = 1_700_000_000_123_456_789


def pcap(*frames: tuple[int, bytes]) -> bytes:
    """A file as tcpdump writes it, times in microseconds."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    return head + b"".join(
        struct.pack("<IIII", time // 10**9, time % 10**9 // 1000, len(data), len(data)) + data for time, data in frames
    )


def test_captures_become_one_file_by_time_with_an_interface_each(tmp_path: Path) -> None:
    parts = []
    for name, frames in (
        ("vm1", [(NANOSECONDS, b"a" * 60), (NANOSECONDS + 2000, b"c" * 61)]),
        ("worker1:eth1", [(NANOSECONDS + 1000, b"b" * 62)]),
        ("quiet", []),
    ):
        path = tmp_path / name.replace(":", "-")
        path.write_bytes(pcap(*frames))
        parts.append((name, path.open("rb")))
    assert [Counter(stream.fileno()).count() for _, stream in parts] == [2, 1, 0]
    target = tmp_path / "all.pcapng"
    assert write(target, [name for name, _ in parts], merged(parts)) == 3
    found = list(read(target))
    assert [(one.place, one.data[:1], one.length) for one in found] == [
        ("vm1", b"a", 60),
        ("worker1:eth1", b"b", 62),
        ("vm1", b"c", 61),
    ]
    assert [one.time for one in found] == [NANOSECONDS // 1000 * 1000 + extra for extra in (0, 1000, 2000)]
    assert not list(tmp_path.glob(".*"))
    for _, stream in parts:
        stream.close()


def test_pcap_and_dumps_are_read(tmp_path: Path) -> None:
    capture = tmp_path / "x.pcap"
    capture.write_bytes(pcap((NANOSECONDS, GENEVE)))
    (found,) = read(capture)
    assert (found.data, found.time) == (GENEVE, NANOSECONDS // 1000 * 1000)
    for text in (POSTED, GENEVE.hex(), GENEVE.hex(" ", 2)):
        path = tmp_path / "dump.txt"
        path.write_text(text)
        assert [one.data for one in read(path)] == [GENEVE]
    path.write_text(POSTED + POSTED)
    assert [one.data for one in read(path)] == [GENEVE, GENEVE]


def test_a_file_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    whole = pcap((NANOSECONDS, GENEVE), (NANOSECONDS + 1000, GENEVE))
    path = tmp_path / "x.pcap"
    blocks = tmp_path / "x.pcapng"
    path.write_bytes(whole)
    with path.open("rb") as stream:
        write(blocks, ["vm1"], merged([("vm1", stream)]))
    for content, complete in ((whole, 2), (blocks.read_bytes(), 2)):
        for cut in (1, 10, len(GENEVE) + 20):
            path.write_bytes(content[:-cut])
            found: list[object] = []
            with pytest.raises(OvnlabError, match=r"cut off|damaged"):
                found.extend(read(path))
        path.write_bytes(content)
        assert len(list(read(path))) == complete


def test_what_linux_says_of_any_device_is_read(tmp_path: Path) -> None:
    arp = bytes.fromhex("0001080006040001404400000001c0a8000b000000000000c0a8000c")
    for link, header in (
        (113, bytes(14) + b"\x08\x06"),
        (276, b"\x08\x06" + bytes(18)),
        (101, b""),
    ):
        body = header + (arp if header else GENEVE[14:])
        path = tmp_path / "x.pcap"
        content = bytearray(pcap((NANOSECONDS, body)))
        content[20:24] = struct.pack("<I", link)
        path.write_bytes(bytes(content))
        (found,) = read(path)
        assert found.packet.line.startswith("ARP, who has 192.168.0.12?" if header else "192.168.50.100")


def test_what_is_no_capture_is_refused_with_what_would_be(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"hello", bytes(100), b"\x0a\x0d\x0d\x0a", b"\xd4\xc3\xb2\xa1"):
        path.write_bytes(content)
        with pytest.raises(OvnlabError):
            list(read(path))
    with pytest.raises(OvnlabError, match="No such file"):
        list(read(tmp_path / "none"))


@given(st.binary(max_size=400), st.integers(0, 400))
def test_a_damaged_file_gives_what_it_has_or_says_that_it_is_damaged(damage: bytes, place: int) -> None:
    whole = pcap(*[(NANOSECONDS + number, GENEVE) for number in range(3)])
    with tempfile.NamedTemporaryFile() as file:
        for content in (whole[:place], whole[:place] + damage + whole[place:], b"\x0a\x0d\x0d\x0a" + damage):
            file.seek(0)
            file.truncate()
            file.write(content)
            file.flush()
            with contextlib.suppress(OvnlabError):
                for one in read(Path(file.name)):
                    assert one.packet.line
