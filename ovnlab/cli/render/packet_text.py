"""Captured packets, for people: as lines, as objects, and in files."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ovnlab import scratch
from ovnlab.cli import output, streams
from ovnlab.errors import UsageError
from ovnlab.insight import pcap
from ovnlab.insight.capture import CaptureRequest, PacketLine, capture, capture_into, capture_to
from ovnlab.insight.dissection import Packet
from ovnlab.insight.names import Names, TunnelNames
from ovnlab.insight.tcpdump import CapturePoint
from ovnlab.lab.lab import Lab


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set: they end a capture, and what was captured by then is shown."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _begun(places: Sequence[CapturePoint]) -> None:
    """Say on the terminal where it is listened."""
    if sys.stderr.isatty():
        shown = ", ".join(place.title for place in places[:6]) + (" …" if len(places) > 6 else "")
        text = output.coloured(f"capturing at {shown}; Ctrl-C ends it", "dim", stream=sys.stderr)
        streams.say(output.shown(text))


def lines(lab: Lab, wanted: CaptureRequest, *, json: bool) -> int:
    """Show packets as they come."""
    width = 0
    with _until_interrupted() as stop:

        def begun(places: Sequence[CapturePoint]) -> None:
            nonlocal width
            width = max(len(place.title) for place in places)
            _begun(places)

        for line in capture(lab, wanted, begun, stop):
            caught = line.caught
            if json:
                output.object_line(**_object(line))
            else:
                place = output.coloured(caught.place.title.ljust(width), "blue")
                output.line(f"{clock(caught.time)}  {place}  {told(line.packet, line.tunnel)}")
            streams.flush()
    return 0


def clock(time: int | None) -> str:
    """Return the time of day of a packet, here, to the microsecond."""
    if time is None:
        return "-"
    try:
        moment = datetime.fromtimestamp(time // 1_000_000_000, tz=UTC).astimezone()
    except (ValueError, OverflowError, OSError):  # no time of any calendar: a file is damaged, or means to be
        return f"{time // 1_000_000_000}.{time % 1_000_000_000 // 1000:06} s"
    return f"{moment:%H:%M:%S}.{time % 1_000_000_000 // 1000:06}"


def told(found: Packet, tunnel: TunnelNames | None) -> str:
    """Return a packet in a line: its tunnel with names, and what that carries."""
    if found.tunnel is None:
        return found.line
    header = str(tunnel) if tunnel else str(numbers(found))
    remarks = f" [{'; '.join(found.tunnel.remarks)}]" if found.tunnel.remarks else ""
    carried = found.inner.line if found.inner else f"protocol 0x{found.tunnel.protocol:04x}"
    source = tunnel.src_chassis if tunnel and tunnel.src_chassis else found.source
    destination = tunnel.dst_chassis if tunnel and tunnel.dst_chassis else found.destination
    return f"{source} > {destination}: {output.coloured(header, 'cyan')}{remarks} | {carried}"


def numbers(found: Packet) -> TunnelNames | None:
    """Return a tunnel's header without anybody to ask for names."""
    return Names({}).named(found.tunnel, found.source, found.destination) if found.tunnel else None


def _object(line: PacketLine) -> dict[str, Any]:
    caught = line.caught
    where = {"place": caught.place.title, "node": caught.place.node, "device": caught.place.device}
    return {**where, **as_object(caught.time, caught.length, line.packet, line.tunnel)}


def as_object(time: int | None, length: int, found: Packet, tunnel: TunnelNames | None) -> dict[str, Any]:
    """Return a packet as plain data."""
    names = tunnel or numbers(found)
    header = None
    if names is not None and found.tunnel is not None:
        header = {
            **dataclasses.asdict(names),
            "option": found.tunnel.option,
            "source": found.source,
            "destination": found.destination,
            "remarks": found.tunnel.remarks,
        }
    inner = found.innermost
    return {
        "time": None if time is None else time / 1_000_000_000,
        "length": length,
        "tunnel": header,
        "eth_src": inner.eth_source,
        "eth_dst": inner.eth_destination,
        "vlans": inner.vlans,
        "protocol": inner.protocol,
        "source": inner.source,
        "destination": inner.destination,
        "source_port": inner.source_port or None,
        "destination_port": inner.destination_port or None,
        "text": inner.line,
        "problem": found.problem or inner.problem,
    }


def into_file(lab: Lab, wanted: CaptureRequest, into: str, *, json: bool) -> int:
    """Capture into a file, and say what came of it; `-` is standard output, which others read as packets come."""
    if into == "-":
        if json:
            raise UsageError("--json and -w - would both be on standard output")
        with _until_interrupted() as stop, contextlib.suppress(BrokenPipeError):
            capture_to(lab, wanted, sys.stdout.buffer, _begun, stop)
        return 0
    with _until_interrupted() as stop:
        written = capture_into(lab, wanted, Path(into), _begun, stop)
    if json:
        output.as_json(written=into, packets=written.packets, places=written.places, lost=written.lost)
        return 0
    lost = f"; {output.count(written.lost, 'packet')} lost for lack of room" if written.lost else ""
    output.line(
        f"wrote {output.count(written.packets, 'packet')} of {output.count(written.places, 'place')} to {into}{lost}"
    )
    return 0


def decoded(file: str, names: Sequence[Names], *, json: bool) -> int:
    """Show the packets of a file, with the names of a lab's zones."""
    with scratch.folder("decoding-") as folder, (folder / "capture").open("w+b") as copied:
        path = Path(file)
        if file == "-":
            shutil.copyfileobj(sys.stdin.buffer, copied)
            copied.flush()
            path = Path(copied.name)
        if json:
            output.json_list("packets", packets(path, names))
        else:
            _show(path, names)
    return 0


def packets(path: Path, names: Sequence[Names]) -> Iterator[dict[str, Any]]:
    """Yield the packets of a file as plain data."""
    for recorded in pcap.read(path):
        found = recorded.packet
        about = {"number": recorded.number, "place": recorded.place or None}
        yield {**about, **as_object(recorded.time, recorded.length, found, _tunnel(names, found))}


def _show(path: Path, names: Sequence[Names]) -> None:
    """Print the packets of a file, a line each."""
    width = 0
    for recorded in pcap.read(path):
        found, shown = recorded.packet, output.shown(recorded.place)
        width = max(width, len(shown))
        place = f"{shown.ljust(width)}  " if width else ""
        when = f"{clock(recorded.time)}  " if recorded.time is not None else ""
        output.line(f"{recorded.number:>4}  {when}{place}{told(found, _tunnel(names, found))}")


def _tunnel(names: Sequence[Names], found: Packet) -> TunnelNames | None:
    """Return the names of a tunnel by the first zone that knows it, otherwise its numbers."""
    return next((named for known in names if (named := _named(known, found))), None) or numbers(found)


def _named(names: Names, found: Packet) -> TunnelNames | None:
    """Return the names of a zone for a tunnel; None where it is not one of this zone."""
    if found.tunnel is None or names.datapath(found.tunnel.datapath_key) is None:
        return None
    return names.named(found.tunnel, found.source, found.destination)
