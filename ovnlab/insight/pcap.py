"""Packets in files: pcap and pcapng, and the hexadecimal dumps that tcpdump(8) prints."""

from __future__ import annotations

import gzip
import heapq
import io
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ovnlab import scratch
from ovnlab.errors import OvnlabError
from ovnlab.insight.dissection import Packet, packet

ETHERNET, RAW, COOKED = 1, (12, 101, 228, 229), {113: (14, 16), 276: (0, 20)}
"""Link types (pcap-linktype(7)): Ethernet, IP alone, and what Linux's `any` device has: where in its header the
protocol stands, and how long that is."""

MAGIC = {b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a"}
"""How capture files begin: pcap in both byte orders and units of time, and pcapng."""

LARGEST_DUMP = 16 * 2**20
"""Bytes of a hexadecimal dump, which is read into memory."""

GZIP = b"\x1f\x8b"
"""How a file begins that gzip(1) made (RFC 1952, 2.3.1)."""

LARGEST_UNPACKED = 4 * 2**30
"""Bytes that an unpacked file may have."""

ARP = bytes.fromhex("000108000604")
"""How ARP of Ethernet and IPv4 begins (RFC 826)."""

ETHERTYPES = {b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\xa8", b"\x08\x06"}
"""What stands behind the addresses of an Ethernet frame that carries IP or ARP (IEEE 802)."""

_QUOTED = re.compile(r"^[\s>|]*(?=(?:0x)?[0-9a-fA-F])")
"""What mail and forums put before a line."""

_DUMP = re.compile(
    r"^(?:0x)?([0-9a-fA-F]{4,8}):?\s+((?:[0-9a-fA-F]{2,4}[ :-]+)*[0-9a-fA-F]{2,4})(?:\s{2,}.*|\s*\|.*)?$"
)


@dataclass(frozen=True)
class Recorded:
    """A frame of a file: when (nanoseconds since 1970, None where that is not known), where, and its bytes."""

    number: int
    time: int | None
    place: str
    data: bytes
    length: int
    link: int = ETHERNET

    @property
    def packet(self) -> Packet:
        """Return the dissected packet."""
        if self.link == ETHERNET:
            return packet(self.data)
        if self.link in RAW and self.data:
            kind = b"\x86\xdd" if self.data[0] >> 4 == 6 else b"\x08\x00"
            return packet(bytes(12) + kind + self.data)
        if self.link in COOKED:
            protocol, start = COOKED[self.link]
            return packet(bytes(12) + self.data[protocol : protocol + 2] + self.data[start:])
        return Packet(length=len(self.data), problem=f"link type {self.link} is not understood")


def read(path: Path) -> Iterator[Recorded]:
    """Yield the frames of a file. Raises OvnlabError where it is none that has any."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start[:2] == GZIP:
                file.seek(0)
                yield from _unpacked(path, file)
                return
            text = "" if start in MAGIC else (start + file.read(LARGEST_DUMP)).decode(errors="replace")
            is_large = start not in MAGIC and bool(file.read(1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OvnlabError(f"cannot be read: {reason}", where=str(path)) from None
    if start in MAGIC:
        yield from _captured(path)
        return
    if is_large:
        most = f"{LARGEST_DUMP // 2**20} MiB"
        raise OvnlabError(f"is not a capture file, and larger than a hexadecimal dump may be ({most})", where=str(path))
    frames = dumped(text)
    if not frames:
        raise OvnlabError(
            "is neither a capture file nor a hexadecimal dump of packets",
            where=str(path),
            hint="`tcpdump -w FILE` writes the one, `tcpdump -xx` prints the other",
        )
    for number, data in enumerate(frames, 1):
        yield _as_recorded(number, data)


def _unpacked(path: Path, file: IO[bytes]) -> Iterator[Recorded]:
    """Read a file that gzip(1) made smaller."""
    with scratch.folder("decoding-") as folder:
        inside = folder / "unpacked"
        try:
            with gzip.open(file) as packed, inside.open("wb") as plain:
                size = 0
                while chunk := packed.read(2**20):
                    size += len(chunk)
                    if size > LARGEST_UNPACKED:
                        most = f"{LARGEST_UNPACKED // 2**30} GiB"
                        raise OvnlabError(f"is larger than {most} when it is unpacked", where=str(path))
                    plain.write(chunk)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise OvnlabError(f"is damaged ({error})", where=str(path)) from None
        with inside.open("rb") as plain:
            if plain.read(2) == GZIP:
                raise OvnlabError("is packed twice", where=str(path), hint="gunzip it first")
        try:
            yield from read(inside)
        except OvnlabError as error:
            raise OvnlabError(error.message, where=str(path), hint=error.hint) from None


def _as_recorded(number: int, data: bytes) -> Recorded:
    """Return a frame of a dump; `tcpdump -x` and `-X` leave its Ethernet header out, `-xx` and `-XX` do not."""
    if _is_ip(data):
        return Recorded(number, None, "", data, len(data), RAW[1])
    if data.startswith(ARP):
        data = bytes(12) + b"\x08\x06" + data
    return Recorded(number, None, "", data, len(data))


def _is_ip(data: bytes) -> bool:
    """Return True if bytes begin with an IP header: its checksum (RFC 791, 3.1) or length (RFC 8200, 3) is right."""
    if len(data) >= 20 and data[0] >> 4 == 4 and (length := (data[0] & 15) * 4) >= 20 and len(data) >= length:
        total = int(sum(struct.unpack(f"!{length // 2}H", data[:length])))
        return total % 0xFFFF == 0 and total > 0
    if len(data) >= 40 and data[0] >> 4 == 6:
        return int.from_bytes(data[4:6]) + 40 >= len(data) and data[12:14] not in ETHERTYPES
    return False


def _captured(path: Path) -> Iterator[Recorded]:
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from scapy.error import Scapy_Exception  # noqa: PLC0415  takes 0.3 s
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    number = 0
    try:
        with path.open("rb") as file, _reader(RawPcapReader, file) as reader:
            for data, about in reader:
                number += 1
                name = getattr(about, "ifname", None) or b""
                link = getattr(about, "linktype", None)
                yield Recorded(
                    number,
                    _time(reader, about),
                    name.decode(errors="replace") if isinstance(name, bytes) else str(name),
                    bytes(data),
                    int(getattr(about, "wirelen", len(data)) or len(data)),
                    int(link if link is not None else reader.linktype) & 0xFFFF,
                )
        _refuse_cut(path, number)
    except (Scapy_Exception, EOFError, struct.error, ValueError, OSError, TypeError, IndexError, KeyError) as error:
        reason = f" ({error})" if str(error) else ""
        raise OvnlabError(f"is damaged after packet {number}{reason}", where=str(path)) from None


def _refuse_cut(path: Path, number: int) -> None:
    """Raise OvnlabError where a file ends in the middle of something: scapy reads it as far as it goes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(24)
        is_blocks = start[:4] == b"\x0a\x0d\x0d\x0a"
        order = "<" if start[:1] in (b"\xd4", b"\x4d") or start[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
        at = 0 if is_blocks else 24
        while at < size:
            file.seek(at)
            head = file.read(16)
            if len(head) < (8 if is_blocks else 16):
                break
            length = struct.unpack(f"{order}4xI", head[:8])[0] if is_blocks else 0
            at += max(length, 12) if is_blocks else 16 + struct.unpack(f"{order}8xI4x", head)[0]
        else:
            if at == size and size >= (28 if is_blocks else 24):
                return
    raise OvnlabError(f"is cut off after packet {number}", where=str(path))


class _Sized(io.RawIOBase):
    """An open file that is asked for no more than it has: a length in a damaged one may say 4 GiB."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.name = file.name
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes, or as many as there are."""
        rest = self.size - self.file.tell()
        return self.file.read(rest if size < 0 else min(size, rest))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position in the file."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self.file.tell()


def _reader(kind: Any, file: IO[bytes]) -> Any:
    """Return scapy's reader of an open file: by itself it leaves damaged files open, and takes open ones."""
    return kind(_Sized(file))


def _time(reader: Any, about: Any) -> int | None:
    """Return the timestamp in nanoseconds since 1970."""
    if hasattr(about, "tshigh"):
        if about.tshigh is None or about.tslow is None or not about.tsresol:
            return None
        return int(((about.tshigh << 32) + about.tslow) * 1_000_000_000 // about.tsresol)
    return int(about.sec * 1_000_000_000 + about.usec * (1 if reader.nano else 1000))


def dumped(text: str) -> list[bytes]:
    """Return the frames in a hexadecimal dump: tcpdump's with -xx, xxd's, or nothing but digits."""
    frames: list[bytes] = []
    current = bytearray()
    text = "\n".join(_QUOTED.sub("", line) for line in text.splitlines())
    for line in text.splitlines():
        found = _DUMP.match(line)
        if found is None:
            continue
        offset = int(found[1], 16)
        if offset == 0 and current:
            frames.append(bytes(current))
            current = bytearray()
        digits = re.sub(r"[^0-9a-fA-F]", "", found[2])
        if offset == len(current) and len(digits) % 2 == 0:
            current += bytes.fromhex(digits)
    if current:
        frames.append(bytes(current))
    if frames:
        return frames
    digits = re.sub(r"[\s:.-]+|0x|\\x", "", text)
    if len(digits) >= 28 and len(digits) % 2 == 0 and re.fullmatch(r"[0-9a-fA-F]+", digits):
        return [bytes.fromhex(digits)]
    return []


def pcap(stream: IO[bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Yield the frames that a tcpdump of our own writes: time in nanoseconds since 1970, bytes, length on the wire."""
    header = stream.read(24)
    if len(header) < 24:
        return
    order = "<" if header[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    unit = 1 if header[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1000
    while len(record := stream.read(16)) == 16:
        seconds, fraction, kept, length = struct.unpack(f"{order}IIII", record)
        data = stream.read(kept)
        if len(data) < kept:
            return
        yield seconds * 1_000_000_000 + fraction * unit, data, length


class Counter:
    """A counter of the frames that a tcpdump of our own is writing into a file."""

    def __init__(self, file: int) -> None:
        self._file, self._at, self._count = file, 24, 0

    def count(self) -> int:
        """Return the frames that are there in whole."""
        size = os.fstat(self._file).st_size
        while self._at + 16 <= size:
            (kept,) = struct.unpack("=8xI4x", os.pread(self._file, 16, self._at))
            if self._at + 16 + kept > size:
                break
            self._at += 16 + kept
            self._count += 1
        return self._count


def merged(parts: Sequence[tuple[str, IO[bytes]]]) -> Iterator[tuple[int, str, bytes, int]]:
    """Yield the frames of several captures, by time: time, place, bytes, length on the wire."""

    def named(number: int, stream: IO[bytes]) -> Iterator[tuple[int, int, bytes, int]]:
        for time, data, length in pcap(stream):
            yield time, number, data, length

    streams = [named(number, stream) for number, (_, stream) in enumerate(parts)]
    for time, number, data, length in heapq.merge(*streams, key=lambda one: one[0]):
        yield time, parts[number][0], data, length


SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
"""The blocks that we write (draft-ietf-opsawg-pcapng, 4)."""

IF_NAME, IF_TSRESOL = 2, 9
"""Options of an interface: its name, and its unit of time."""

NO_OPTION = struct.pack("<HH", 0, 0)


class Writer:
    """A writer of pcapng, times in nanoseconds, with an interface for each capture point."""

    def __init__(self, file: IO[bytes], places: Sequence[str]) -> None:
        self._file = file
        self._numbers = {place: number for number, place in enumerate(places)}
        file.write(_block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for place in places:
            options = _option(IF_NAME, place.encode()) + _option(IF_TSRESOL, b"\x09") + NO_OPTION
            file.write(_block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, 0) + options))

    def write(self, time: int, place: str, data: bytes, length: int) -> None:
        """Write a frame that was seen at a place."""
        head = struct.pack("<IIIII", self._numbers[place], time >> 32, time & 0xFFFFFFFF, len(data), length)
        self._file.write(_block(PACKET, head + _padded(data)))


def write(path: Path, places: Sequence[str], frames: Iterable[tuple[int, str, bytes, int]]) -> int:
    """Write a pcapng file, its times in nanoseconds, with an interface for each place; the number of frames.

    The file is there when it is whole, and what was there before stays until then.
    """
    scratch = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with scratch.open("wb") as file:
            writer = Writer(file, places)
            for frame in frames:
                writer.write(*frame)
                count += 1
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise OvnlabError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    return count


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(number: int, value: bytes) -> bytes:
    return struct.pack("<HH", number, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
