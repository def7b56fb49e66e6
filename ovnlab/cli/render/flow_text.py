"""The flows of a chassis, for people: by table, with rates, and with the rows that they are of."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ovnlab import interruption
from ovnlab.cli import output, streams
from ovnlab.cli.progress import busy
from ovnlab.errors import UsageError
from ovnlab.insight.flow_tables import DescribedFlow, Filter, Flow, FlowFormatter, sample
from ovnlab.insight.lab_view import LabView, look
from ovnlab.lab.lab import Lab
from ovnlab.topology.unknown_name import unknown_name

INTERVAL = 1.0
"""Seconds between two looks, which rates are told of."""


def flows(lab: Lab, node: str, which: Filter, *, follow: bool, json: bool) -> int:
    """Show flows once, or those that are hit from now on until Ctrl-C."""
    seen = look(lab)
    _check(seen, node, which)
    if follow:
        try:
            while True:
                _show(seen, node, which, json=json, following=True)
        except KeyboardInterrupt:
            interruption.end()
            return 0
    _show(seen, node, which, json=json, following=False)
    return 0


def _check(seen: LabView, node: str, which: Filter) -> None:
    found = seen.topology.node(node)
    if found is None:
        raise unknown_name(seen.topology, node)
    if not found.chassis:
        raise UsageError(f"{node} is not a chassis: it has no br-int")
    if which.port and which.port not in seen.zone_of(node).names.ports:
        raise UsageError(f"unknown logical port {which.port!r}", hint="`ovnlab sbctl list Port_Binding` has all")


def _show(seen: LabView, node: str, which: Filter, *, json: bool, following: bool) -> None:
    with busy(f"measuring rates for {INTERVAL:g} s") if not following else contextlib.nullcontext():
        found = sample(seen, node, interval=INTERVAL)
    formatter = FlowFormatter(seen, node, found)
    if which.table and not any(which.table in (str(t), *name.split(", ")) for t, name in formatter.tables.items()):
        names = sorted({part for name in formatter.tables.values() for part in name.split(", ") if part})
        raise UsageError(f"unknown table {which.table!r}", hint=f"available: {', '.join(names)}")
    wanted = formatter.wanted(found, which)
    if json and following:
        output.object_line(node=node, flows=[_object(formatter.describe(flow)) for flow in wanted])
    elif json:
        output.as_json(node=node, flows=[_object(formatter.describe(flow)) for flow in wanted])
    else:
        if following and sys.stdout.isatty():
            _show_screen(node, formatter, wanted, len(found))
            return
        for line in _lines(node, formatter, wanted, len(found)):
            output.line(line)
        if following:
            output.line()
    streams.flush()


def _show_screen(node: str, formatter: FlowFormatter, wanted: Sequence[Flow], everything: int) -> None:
    """Fill the terminal with those that are hit most, in the order of the tables, a line of it for each line."""
    size = os.get_terminal_size(sys.stdout.fileno())
    room = (size.lines or 24) - 3
    chosen: list[Flow] = []
    for flow in sorted(wanted, key=lambda flow: -(flow.rate or 0)):
        room -= 2 + (flow.table not in {other.table for other in chosen})
        if room < 0:
            break
        chosen.append(flow)
    shown = [flow for flow in wanted if flow in chosen]
    lines = [_cut(line, size.columns or 80) for line in _lines(node, formatter, shown, everything)]
    if len(shown) < len(wanted):
        lines.append(output.coloured(f"{len(wanted) - len(shown)} more are hit less; --table shows one table", "dim"))
    streams.write("\x1b[H" + "".join(f"{output.shown(line)}\x1b[K\n" for line in lines) + "\x1b[J")
    streams.flush()


def _cut(line: str, columns: int) -> str:
    """Return a line that takes no more than some columns: colours take none."""
    parts, left = [], columns
    for part in re.split(r"(\x1b\[\d+m)", line):
        if part.startswith("\x1b"):
            parts.append(part)
        elif len(part) <= left:
            parts.append(part)
            left -= len(part)
        else:
            parts.append(part[: max(left - 1, 0)] + ("…" if left else ""))
            left = 0
    return "".join(parts)


def _lines(node: str, formatter: FlowFormatter, wanted: Sequence[Flow], everything: int) -> Iterator[str]:
    yield output.coloured(f"{node}: {len(wanted)} of {output.count(everything, 'flow')}", "bold")
    rates = [_rate(flow) for flow in wanted]
    width = max(map(len, rates), default=0)
    packets = max((len(str(flow.packets)) for flow in wanted), default=0)
    for table, group in itertools.groupby(wanted, key=lambda flow: flow.table):
        name = formatter.tables.get(table, "")
        yield f"{output.coloured(f'table {table}', 'blue')}  {name}"
        for flow in group:
            told = formatter.describe(flow)
            rate = output.coloured(_rate(flow).rjust(width), "green" if flow.rate else "dim")
            yield f"  {rate}  {flow.packets:>{packets}}  {flow.priority:>5}  {told.match}"
            yield f"  {' ' * (width + packets + 9)}  {output.coloured(told.actions, 'dim')}{_of(told)}"


def _rate(flow: Flow) -> str:
    return f"{flow.rate:.1f}/s" if flow.rate else "-"


def _of(told: DescribedFlow) -> str:
    if told.northbound is not None:
        row = told.northbound
        name = told.place or row.name or row.uuid[:8]
        return f"  {output.coloured(f'[{row.table} {name}]', 'cyan')}"
    if told.southbound and not told.logical:
        return f"  {output.coloured(f'[{told.southbound}]', 'cyan')}"
    return ""


def _object(told: DescribedFlow) -> dict[str, Any]:
    flow, row = told.flow, told.northbound
    return {
        "table": flow.table,
        "table_name": told.table,
        "priority": flow.priority,
        "cookie": f"{flow.cookie:#x}",
        "packets": flow.packets,
        "bytes": flow.size,
        "rate": flow.rate,
        "match": flow.match,
        "actions": flow.actions,
        "match_named": told.match,
        "actions_named": told.actions,
        "southbound": told.southbound,
        "logical_match": told.logical,
        "northbound": {"table": row.table, "uuid": row.uuid, "name": row.name, "place": told.place} if row else None,
    }
