"""trace, capture, decode, flows, explain, bundle: what happens in a lab, with names instead of numbers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.options import bundle_option, complete_targets, complete_vms, json_option, lab_option, node_argument
from ovnlab.errors import OvnlabError, UsageError

if TYPE_CHECKING:
    from ovnlab.cli.render.trace_text import NamedCause
    from ovnlab.insight.file_drift import Drift
    from ovnlab.insight.lab_view import LabView
    from ovnlab.insight.probe_packet import TraceRequest
    from ovnlab.lab.lab import Lab


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


@contextlib.contextmanager
def _look(lab: str | None, bundle: str | None) -> Iterator[LabView]:
    """Yield the view of a running lab, or of one in a bundle."""
    if bundle is None:
        from ovnlab.insight.lab_view import look  # noqa: PLC0415

        yield look(_find(lab))
        return
    if lab is not None:
        raise UsageError("it is either of --lab or of --bundle")
    from ovnlab.cli.progress import PlainProgress  # noqa: PLC0415
    from ovnlab.insight.bundle import opened  # noqa: PLC0415

    with opened(Path(bundle), PlainProgress().note) as seen:
        yield seen


@click.command("trace")
@click.argument(
    "source", metavar="SRC", shell_complete=complete_targets, help="A fake VM, a host, an address or a MAC."
)
@click.argument(
    "destination", metavar="DST", shell_complete=complete_targets, help="A fake VM, a host, an address or a MAC."
)
@click.option("--icmp", is_flag=True, help="An ICMP echo request; the default.")
@click.option("--tcp", metavar="PORT", type=click.IntRange(min=1, max=65535), help="A TCP connection's first packet.")
@click.option("--udp", metavar="PORT", type=click.IntRange(min=1, max=65535), help="A UDP packet.")
@click.option(
    "--expr", "expression", metavar="MATCH", default="", help="Fields of an OVN expression that override others."
)
@click.option("--size", metavar="BYTES", type=click.IntRange(0, 9000), default=0, help="Bytes of its payload.")
@click.option(
    "--count", metavar="N", type=click.IntRange(1, 1000), default=1, help="Also send N at once, and count arrivals."
)
@click.option("--from-chassis", is_flag=True, help="Put the packet in at the chassis' switch, not in the fake VM.")
@click.option("--no-send", is_flag=True, help="Send nothing: only what flows tell.")
@click.option("--logical", is_flag=True, help="Only what OVN means to do.")
@bundle_option
@click.option("--summary", is_flag=True, help="Only pipelines and the verdict.")
@click.option("--detail", is_flag=True, help="Every stage and every OpenFlow table.")
@click.option("--html", metavar="FILE", help="Write a page as well, with the way drawn.")
@lab_option
@json_option
def trace(
    source: str,
    destination: str,
    icmp: bool,
    tcp: int | None,
    udp: int | None,
    expression: str,
    size: int,
    count: int,
    from_chassis: bool,
    no_send: bool,
    logical: bool,
    bundle: str | None,
    summary: bool,
    detail: bool,
    html: str | None,
    lab: str | None,
    json: bool,
) -> int:
    """Trace a packet through OVN, the switches and the wire, and say whether the three agree.

    If a reply is expected and missing, it is traced, too. Exit code 0 if the three agree; 4 if they do not, if the
    reply is lost, if a row of the file that would let the packet pass is missing, or if the result is unknown.

    \b
    ovnlab trace vm1 vm2
    ovnlab trace vm1 10.0.0.48 --tcp 80 --detail
    ovnlab trace vm1 vm2 --size 1400 --count 5
    ovnlab trace vm1 vm2 --expr 'ip.ttl == 1' --no-send
    """
    from ovnlab.insight.file_drift import against_file  # noqa: PLC0415
    from ovnlab.insight.trace import trace as traced  # noqa: PLC0415
    from ovnlab.insight.trace_json import as_dict  # noqa: PLC0415
    from ovnlab.insight.verdict import verdict  # noqa: PLC0415

    if summary and detail:
        raise UsageError("--summary and --detail are two ways of showing it")
    if html is not None:
        output.require_writable(Path(html))
    wish = dataclasses.replace(_wish(source, destination, icmp, tcp, udp, expression), size=size)
    from ovnlab.cli.progress import busy  # noqa: PLC0415

    with busy("following a packet"), _look(lab, bundle) as seen:
        found = traced(
            seen,
            wish,
            send=not no_send,
            from_chassis=from_chassis,
            logical_only=logical or bundle is not None,
            copies=count,
        )
        judged, drifts = against_file(found, verdict(found)) if seen.lab is not None else (verdict(found), ())
        causes = _drifted(drifts)
        if not judged.agrees and not causes and seen.lab is not None:
            causes = _causes(seen.lab, wish)
    if html is not None:
        from ovnlab.insight.trace_html import page  # noqa: PLC0415

        output.write_text(Path(html), page(found, judged))
    if json:
        output.as_json(**as_dict(found, judged), causes=[one.as_dict() for one in causes])
    else:
        from ovnlab.cli.render.trace_text import show  # noqa: PLC0415

        show(found, judged, how="summary" if summary else "detail" if detail else "", causes=causes)
    return 0 if judged.agrees else 4


def _drifted(drifts: Sequence[Drift]) -> list[NamedCause]:
    """Return the differences between the file and the Northbound database that are on a packet's way."""
    from ovnlab.cli.render.trace_text import NamedCause  # noqa: PLC0415

    return [
        NamedCause(
            "northbound-drift", f"{one.object}: {one.problem}", one.remedy, "certain" if one.is_cause else "likely"
        )
        for one in drifts
    ]


def _causes(lab: Lab, wish: TraceRequest) -> list[NamedCause]:
    """Return what `ovnlab diagnose` says of a pair that a trace found something wrong with."""
    from ovnlab.checks.diagnosis import DiagnosisRequest, diagnose  # noqa: PLC0415
    from ovnlab.cli.render.trace_text import NamedCause  # noqa: PLC0415

    try:
        diagnosis = diagnose(
            lab, DiagnosisRequest(wish.source, wish.destination, tcp=wish.port if wish.protocol == "tcp" else 0)
        )
    except OvnlabError:  # of an address or a node that it does not take: the verdict stands alone
        return []
    named = [one for one in diagnosis.found if one.pairs or one.possibly] or list(diagnosis.found)
    return [
        NamedCause(one.finding.cause, one.finding.sentence, one.finding.remedy, one.finding.certainty) for one in named
    ]


def _wish(source: str, destination: str, icmp: bool, tcp: int | None, udp: int | None, expression: str) -> TraceRequest:
    from ovnlab.insight.probe_packet import TraceRequest  # noqa: PLC0415

    chosen = [name for name, given in (("--icmp", icmp), ("--tcp", tcp), ("--udp", udp)) if given]
    if len(chosen) > 1:
        raise UsageError(f"a packet is one of {' and '.join(chosen)}")
    protocol = "tcp" if tcp else "udp" if udp else "icmp"
    return TraceRequest(source, destination, protocol, tcp or udp or 0, expression)


@click.command("capture")
@click.argument(
    "targets",
    metavar="[TARGET]...",
    nargs=-1,
    shell_complete=complete_targets,
    help="Fake VMs, nodes, and devices of nodes as NODE:DEVICE; all of the lab if omitted.",
)
@click.option("--write", "-w", "into", metavar="FILE", help="Write pcapng to a file, or to standard output for -.")
@click.option("--filter", "expression", metavar="EXPR", default="", help="Only what matches (pcap-filter(7)).")
@click.option("--inner", is_flag=True, help="On nodes, what tunnels carry, without their header.")
@click.option("--outer", is_flag=True, help="On nodes only, packets with their tunnel header.")
@click.option("--bfd", is_flag=True, help="Show the BFD of tunnels, too.")
@click.option("--count", "-c", metavar="N", type=click.IntRange(min=0), default=0, help="End after N packets.")
@click.option("--seconds", metavar="S", type=click.FloatRange(min=0), help="End after S seconds.")
@lab_option
@json_option
def capture(
    targets: tuple[str, ...],
    into: str | None,
    expression: str,
    inner: bool,
    outer: bool,
    bfd: bool,
    count: int,
    seconds: float | None,
    lab: str | None,
    json: bool,
) -> int:
    """Capture packets at several interfaces, merged by timestamp, with the names of what tunnels carry. Ctrl-C ends it.

    On a node, it captures at the underlay NIC, without --filter only tunnels; in a fake VM, at its interface. --filter
    also applies to the packets in tunnels. With --json, it prints one object per line.

    \b
    ovnlab capture vm1 worker1 worker2
    ovnlab capture --inner worker1 --filter icmp -c 10
    ovnlab capture -w lab.pcapng --seconds 5
    ovnlab capture gw1:eth2 worker1 -w - | wireshark -k -i -
    """
    from ovnlab.cli.render.packet_text import into_file, lines  # noqa: PLC0415
    from ovnlab.insight.capture import CaptureRequest  # noqa: PLC0415

    wanted = CaptureRequest(targets, expression, inner, outer, count, seconds, bfd)
    found = _find(lab)
    if into is not None:
        return into_file(found, wanted, into, json=json)
    return lines(found, wanted, json=json)


@click.command("decode")
@click.argument("file", metavar="FILE", help="A pcap or pcapng file, or a dump in hexadecimal; - for the input.")
@bundle_option
@lab_option
@json_option
def decode(file: str, bundle: str | None, lab: str | None, json: bool) -> int:
    """Say what is in captured packets: tunnels with their keys, and what these stand for in a lab or a bundle.

    \b
    ovnlab decode lab.pcapng --lab 3node
    ovnlab decode dump.txt --json
    """
    from ovnlab.cli.render.packet_text import decoded  # noqa: PLC0415

    if lab is None and bundle is None:
        return decoded(file, (), json=json)
    with _look(lab, bundle) as seen:
        return decoded(file, [zone.names for zone in seen.zones.values()], json=json)


@click.command("flows")
@node_argument
@click.option("--active", is_flag=True, help="Only flows that match packets at the moment.")
@click.option("--port", metavar="VM", default="", shell_complete=complete_vms, help="Only those about a logical port.")
@click.option("--table", metavar="NAME", default="", help="Only those of a table, by name or number.")
@click.option("--follow", "-f", is_flag=True, help="Show matching flows repeatedly.")
@lab_option
@json_option
def flows(node: str, active: bool, port: str, table: str, follow: bool, lab: str | None, json: bool) -> int:
    """Show the OpenFlow flows of a chassis, with names: tables by purpose, datapaths, ports, and rows behind cookies.

    Rates are packets in the second in which it looks.

    \b
    ovnlab flows worker1 --active
    ovnlab flows worker1 --port vm1 --table ls_in_l2_lkup
    ovnlab flows worker2 --follow
    """
    from ovnlab.cli.render.flow_text import flows as shown  # noqa: PLC0415
    from ovnlab.insight.flow_tables import Filter  # noqa: PLC0415

    return shown(_find(lab), node, Filter(active or follow, port, table), follow=follow, json=json)


@click.command("explain")
@click.argument(
    "name",
    metavar="NAME",
    shell_complete=complete_targets,
    help="A logical port, router, switch, node, load balancer, router port or address.",
)
@lab_option
@bundle_option
@json_option
def explain(name: str, lab: str | None, bundle: str | None, json: bool) -> int:
    """Explain an object: rows, keys, chassis, addresses, rules that apply with their lines, and what is wrong.

    \b
    ovnlab explain vm1
    ovnlab explain router1
    ovnlab explain 10.0.0.11
    """
    from ovnlab.cli.render.port_text import show  # noqa: PLC0415

    with _look(lab, bundle) as seen:
        return show(seen, name, json=json)


@click.command("bundle")
@click.option("--output", "-o", "into", metavar="FILE", help="Where to; LAB-DATE.tar.gz if omitted.")
@lab_option
@json_option
def bundle(into: str | None, lab: str | None, json: bool) -> int:
    """Write databases, flows, logs and versions of a lab to one archive, without secrets, for a bug report.

    `trace --logical`, `explain`, `decode` and `graph` read it with --bundle, on any machine.

    \b
    ovnlab bundle
    ovnlab explain vm1 --bundle 3node-20260101-120000.tar.gz
    """
    from ovnlab.cli.render.port_text import bundle as written  # noqa: PLC0415

    return written(_find(lab), into, json=json)


COMMANDS = (trace, capture, decode, flows, explain, bundle)
