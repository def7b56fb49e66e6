"""trace, capture, decode, flows, explain, bundle: what happens in a lab, with names instead of numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovnlab.cli import output
from ovnlab.cli.options import BundleOption, JsonOption, LabOption, NodeArgument, complete_targets, complete_vms
from ovnlab.errors import UsageError

if TYPE_CHECKING:
    from ovnlab.insight.lookup import Look
    from ovnlab.insight.question import Wish
    from ovnlab.lab import Lab


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(trace)
    app.command()(capture)
    app.command()(decode)
    app.command()(flows)
    app.command()(explain)
    app.command()(bundle)


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import Quiet  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab import find  # noqa: PLC0415

    return find(lab, Quiet())


@contextlib.contextmanager
def _look(lab: str | None, bundle: str | None) -> Iterator[Look]:
    """A lab that runs, or one in a bundle."""
    if bundle is None:
        from ovnlab.insight.lookup import look  # noqa: PLC0415

        yield look(_find(lab))
        return
    if lab is not None:
        raise UsageError("it is either of --lab or of --bundle")
    from ovnlab.cli.progress import Lines  # noqa: PLC0415
    from ovnlab.insight.bundle import opened  # noqa: PLC0415

    with opened(Path(bundle), Lines().note) as seen:
        yield seen


def trace(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A fake VM, a host, an address or a MAC.",
            autocompletion=complete_targets,
            show_default=False,
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="A fake VM, a host, an address or a MAC.",
            autocompletion=complete_targets,
            show_default=False,
        ),
    ],
    icmp: Annotated[bool, typer.Option("--icmp", help="An ICMP echo request; the default.")] = False,
    tcp: Annotated[
        int | None, typer.Option("--tcp", metavar="PORT", min=1, max=65535, help="A TCP connection's first packet.")
    ] = None,
    udp: Annotated[int | None, typer.Option("--udp", metavar="PORT", min=1, max=65535, help="A UDP packet.")] = None,
    expression: Annotated[
        str, typer.Option("--expr", metavar="MATCH", help="Fields of an OVN expression that override others.")
    ] = "",
    from_chassis: Annotated[
        bool, typer.Option("--from-chassis", help="Put the packet in at the chassis' switch, not in the fake VM.")
    ] = False,
    no_send: Annotated[bool, typer.Option("--no-send", help="Send nothing: only what flows tell.")] = False,
    logical: Annotated[bool, typer.Option("--logical", help="Only what OVN means to do.")] = False,
    bundle: BundleOption = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only pipelines and the verdict.")] = False,
    detail: Annotated[bool, typer.Option("--detail", help="Every stage and every OpenFlow table.")] = False,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page as well, with the way drawn.")
    ] = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """What OVN means to do with a packet, what the switches do, what is seen on the wire, and whether they agree.

    Exit code 0 where they agree, 4 where not.

    \b
    ovnlab trace vm1 vm2
    ovnlab trace vm1 10.0.0.48 --tcp 80 --detail
    ovnlab trace vm1 vm2 --expr 'ip.ttl == 1' --no-send
    """
    from ovnlab.insight.told import as_dict  # noqa: PLC0415
    from ovnlab.insight.trace import trace as traced  # noqa: PLC0415
    from ovnlab.insight.verdict import verdict  # noqa: PLC0415

    if summary and detail:
        raise UsageError("--summary and --detail are two ways of showing it")
    wish = _wish(source, destination, icmp, tcp, udp, expression)
    with _look(lab, bundle) as seen:
        found = traced(
            seen,
            wish,
            send=not no_send,
            from_chassis=from_chassis,
            logical_only=logical or bundle is not None,
        )
        judged = verdict(found)
    if html is not None:
        from ovnlab.insight.page import page  # noqa: PLC0415

        output.write_text(Path(html), page(found, judged))
    if json:
        output.as_json(**as_dict(found, judged))
    else:
        from ovnlab.cli.tracing import show  # noqa: PLC0415

        show(found, judged, how="summary" if summary else "detail" if detail else "")
    return 0 if judged.agrees else 4


def _wish(source: str, destination: str, icmp: bool, tcp: int | None, udp: int | None, expression: str) -> Wish:
    from ovnlab.insight.question import Wish  # noqa: PLC0415

    chosen = [name for name, given in (("--icmp", icmp), ("--tcp", tcp), ("--udp", udp)) if given]
    if len(chosen) > 1:
        raise UsageError(f"a packet is one of {' and '.join(chosen)}")
    protocol = "tcp" if tcp else "udp" if udp else "icmp"
    return Wish(source, destination, protocol, tcp or udp or 0, expression)


def capture(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="Fake VMs and nodes; all of the lab if omitted.",
            autocompletion=complete_targets,
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str | None, typer.Option("--write", "-w", metavar="FILE", help="Write a pcapng file instead of lines.")
    ] = None,
    expression: Annotated[
        str, typer.Option("--filter", metavar="EXPR", help="Only what matches (pcap-filter(7)).")
    ] = "",
    inner: Annotated[bool, typer.Option("--inner", help="On nodes, what tunnels carry, without their header.")] = False,
    outer: Annotated[bool, typer.Option("--outer", help="On nodes only, packets with their tunnel header.")] = False,
    count: Annotated[int, typer.Option("--count", "-c", metavar="N", min=0, help="End after N packets.")] = 0,
    seconds: Annotated[float | None, typer.Option("--seconds", metavar="S", min=0, help="End after S seconds.")] = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Capture at several places at once, by time, with the names of what tunnels carry. Ctrl-C ends it.

    On a node that is its NIC of the underlay, and tunnels there unless --filter says otherwise; in a fake VM its
    interface. With --json, an object a line.

    \b
    ovnlab capture vm1 worker1 worker2
    ovnlab capture --inner worker1 --filter icmp -c 10
    ovnlab capture -w lab.pcapng --seconds 5
    """
    from ovnlab.cli.capturing import into_file, lines  # noqa: PLC0415
    from ovnlab.insight.capture import Wanted  # noqa: PLC0415

    wanted = Wanted(tuple(targets or ()), expression, inner, outer, count, seconds)
    found = _find(lab)
    if into is not None:
        return into_file(found, wanted, into, json=json)
    return lines(found, wanted, json=json)


def decode(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A pcap or pcapng file, or a dump in hexadecimal; - for the input.")
    ],
    bundle: BundleOption = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Say what is in captured packets: tunnels with their keys, and what these stand for in a lab or a bundle.

    \b
    ovnlab decode lab.pcapng --lab 3node
    ovnlab decode dump.txt --json
    """
    from ovnlab.cli.capturing import decoded  # noqa: PLC0415

    if lab is None and bundle is None:
        return decoded(file, (), json=json)
    with _look(lab, bundle) as seen:
        return decoded(file, [zone.names for zone in seen.zones.values()], json=json)


def flows(
    node: NodeArgument,
    active: Annotated[bool, typer.Option("--active", help="Only those that match packets just now.")] = False,
    port: Annotated[
        str,
        typer.Option("--port", metavar="VM", help="Only those about a logical port.", autocompletion=complete_vms),
    ] = "",
    table: Annotated[
        str, typer.Option("--table", metavar="NAME", help="Only those of a table, by name or number.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what is hit, again and again.")] = False,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """The OpenFlow flows of a chassis, with names: tables by what they do, datapaths, ports, and rows behind cookies.

    Rates are packets in the second in which it looks.

    \b
    ovnlab flows worker1 --active
    ovnlab flows worker1 --port vm1 --table ls_in_l2_lkup
    ovnlab flows worker2 --follow
    """
    from ovnlab.cli.flowing import flows as shown  # noqa: PLC0415
    from ovnlab.insight.flows import Filter  # noqa: PLC0415

    return shown(_find(lab), node, Filter(active or follow, port, table), follow=follow, json=json)


def explain(
    vm: Annotated[
        str,
        typer.Argument(metavar="VM", help="A logical port.", autocompletion=complete_vms, show_default=False),
    ],
    lab: LabOption = None,
    bundle: BundleOption = None,
    json: JsonOption = False,
) -> int:
    """All about one port: rows, keys, chassis, addresses, rules that apply, and why it is down if it is.

    \b
    ovnlab explain vm1
    """
    from ovnlab.cli.explaining import show  # noqa: PLC0415

    with _look(lab, bundle) as seen:
        return show(seen, vm, json=json)


def bundle(
    into: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; LAB-DATE.tar.gz if omitted.")
    ] = None,
    lab: LabOption = None,
    json: JsonOption = False,
) -> int:
    """Put all that is asked for when something is wrong into one archive: databases, flows, logs, versions. No secrets.

    `trace --logical`, `explain`, `decode` and `graph` read it with --bundle, on any machine.

    \b
    ovnlab bundle
    ovnlab explain vm1 --bundle 3node-20260101-120000.tar.gz
    """
    from ovnlab.cli.explaining import bundle as written  # noqa: PLC0415

    return written(_find(lab), into, json=json)
