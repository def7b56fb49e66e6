"""traffic, perf: what is lost between two ends and for how long, and how much goes through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ovnlab.cli import output
from ovnlab.cli.commands.fault_commands import duration
from ovnlab.cli.measuring import asked
from ovnlab.cli.options import complete_targets, json_option, lab_option
from ovnlab.errors import UsageError

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab
    from ovnlab.traffic.perf import Perf


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


@click.command("traffic")
@click.argument(
    "words",
    metavar="A B | A,B[,C...]...",
    nargs=-1,
    required=True,
    shell_complete=complete_targets,
    help="Fake VMs and nodes: from A to B. An address is a destination, too.",
)
@click.option("--for", "time", metavar="TIME", default="5s", help="How long, such as 500ms, 5s or 2m.")
@click.option("--udp", is_flag=True, help="UDP packets, not pings.")
@click.option("--tcp", is_flag=True, help="TCP connections, and which of them die.")
@click.option("--svg", metavar="FILE", type=click.Path(path_type=Path), help="Draw the loss over time.")
@lab_option
@json_option
def traffic(
    words: tuple[str, ...], time: str, udp: bool, tcp: bool, svg: Path | None, lab: str | None, json: bool
) -> int:
    """Send a packet each millisecond, and say what is lost, for how long, and what took over.

    Exit code 4 if nothing is answered at the end. Commands that change a lab have this as --traffic.

    \b
    ovnlab traffic vm1 vm2
    ovnlab traffic vm1,host1 vm2,host1 --for 30s --udp
    ovnlab traffic vm1,vm2 --tcp --svg loss.svg
    """
    seconds = duration(time)
    pair = len(words) == 2 and not any("," in word for word in words)
    measure = asked([",".join(words)] if pair else words, udp=udp, tcp=tcp, svg=svg)
    found = _find(lab)
    with measure.around(found, required=False) as seen:
        if seen is not None:
            seen.patience = 0
            seen.watch(seconds)
    if measure.report is None:
        raise UsageError("no pairs")
    if json:
        measure.draw()
        output.as_json(**msgspec.to_builtins(measure.report))
    else:
        measure.show()
    return 0 if measure.report.is_well else 4


@click.command("perf")
@click.argument("source", metavar="SRC", shell_complete=complete_targets, help="A fake VM or node.")
@click.argument("destination", metavar="DST", shell_complete=complete_targets, help="A fake VM or node.")
@click.option("--tcp", is_flag=True, help="Use TCP; the default.")
@click.option("--udp", is_flag=True, help="Use UDP.")
@click.option("--streams", metavar="N", type=click.IntRange(1, 64), default=1, help="Number of parallel streams.")
@click.option(
    "--size",
    metavar="B",
    type=click.IntRange(1, 1 << 20),
    help="Bytes per write, or per packet with --udp; 131072 and 1380 if omitted.",
)
@click.option("--for", "time", metavar="TIME", default="5s", help="How long, such as 500ms, 5s or 2m.")
@lab_option
@json_option
def perf(
    source: str,
    destination: str,
    tcp: bool,
    udp: bool,
    streams: int,
    size: int | None,
    time: str,
    lab: str | None,
    json: bool,
) -> int:
    """Measure throughput, packets, latency without and under load, and the CPU time of switches.

    \b
    ovnlab perf vm1 vm2
    ovnlab perf vm1 host1 --udp --size 64 --for 10s
    ovnlab perf vm1 vm2 --streams 4 --json
    """
    from ovnlab.traffic.perf import load, measure  # noqa: PLC0415  for this command only

    if tcp and udp:
        raise UsageError("--udp and --tcp exclude each other")
    if source == destination:
        raise UsageError(f"{source} would send to itself")
    wanted = load("udp" if udp else "tcp", streams, size, duration(time))
    found = measure(_find(lab), source, destination, wanted)
    if json:
        output.as_json(**msgspec.to_builtins(found))
    else:
        for line in _perf_lines(found):
            output.line(line)
    return 0


def _perf_lines(found: Perf) -> Iterator[str]:
    """Return what perf has measured, for people."""
    how = f"{found.protocol.upper()}, {output.count(found.streams, 'stream')}, {found.seconds:.1f} s"
    yield f"{found.source} → {found.destination} ({found.address}), {how}"
    yield f"  throughput    {_rate(found.bits_per_second)}"
    lost = "" if found.lost_percent is None else f", {found.lost_percent:g} % of {found.sent_packets} lost"
    yield f"  packets       {found.packets_per_second:.0f} a second{lost}"
    for title, latency in (("idle", found.latency_idle), ("under load", found.latency_loaded)):
        parts = [f"{name} {value:.2f}" for name, value in latency.percentiles.items()]
        shown = f"{', '.join(parts)}, longest {latency.longest:.2f} ms" if parts else "no answers"
        yield f"  latency       {shown} {title}" + (f", {latency.lost} lost" if latency.lost else "")
    used = sorted((one for one in found.switches if one.cpu_percent >= 1), key=lambda one: -one.cpu_percent)
    yield f"  switch CPU    {', '.join(f'{one.node} {one.cpu_percent:.0f} %' for one in used) or '-'}"
    if found.dropped_by_receiver:
        dropped = output.count(found.dropped_by_receiver, "packet")
        yield f"note: the receiver was too slow to take {dropped}, which count as lost"


def _rate(bits: float) -> str:
    """Return a number of bits a second as a person reads it.

    >>> _rate(1_300_000)
    '1.30 Mbit/s'
    """
    for unit, length in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits >= length:
            return f"{bits / length:.2f} {unit}"
    return f"{bits:.0f} bit/s"


COMMANDS = (traffic, perf)
