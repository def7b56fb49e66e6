"""Alternative paths of a packet: one, or each of several where OVN chooses.

It chooses among the members of a `select` (routes and policies of several next hops) and among a load balancer's
backends (ovn-sb(5), Logical_Flow actions); ovn-trace(8) takes one of them at random.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from ovnlab.insight import ovn_trace
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.ovn_trace import CONNECTIONS, LogicalTrace
from ovnlab.insight.probe_packet import ProbePacket
from ovnlab.parallel import for_each

MOST = 8
"""Ways that are followed at most, of backends and of members each; others are told as not seen."""

_SELECT = re.compile(r"= select\((?:values=\()?([^)]*)\)")
_SELECTED = re.compile(r"select: (\S+) = (\d+)")
_NEXT_HOP = re.compile(r"reg0 = ([0-9a-f.:]+);|xxreg0 = ([0-9a-f.:]+);")
_OUTPORT = re.compile(r'outport = "([^"]+)";')


def meant(asked: ProbePacket, *options: str, tracked: str = "new") -> LogicalTrace:
    """Return what ovn-trace says of a packet, where connection tracking answers `tracked` each time."""
    words = [word for _ in range(CONNECTIONS) for word in ("--ct", tracked)]
    return ovn_trace.run(
        asked.zone.context, asked.zone.databases, asked.datapath, asked.microflow, options=[*words, *options]
    )


def ways(seen: LabView, asked: ProbePacket, first: LogicalTrace, *, tracked: str = "new") -> list[LogicalTrace]:
    """Return all that OVN may do with a packet; `first` is one of them."""
    members = _members(first)
    backends = _backends(seen, asked) if _balances(first) else []
    choices = list(itertools.product(backends or [""], members or [""]))[: 2 * MOST]
    if len(choices) < 2 and not backends:
        return [first]

    def ask(choice: tuple[str, str]) -> LogicalTrace:
        backend, member = choice
        options = [*(("--lb-dst", backend) if backend else ()), *(("--select-id", member) if member else ())]
        return meant(asked, *options, tracked=tracked)

    found = for_each(choices, ask)
    if sum(1 for section in first.sections if _SELECTED.match(section.title)) > 1:
        # One --select-id is for every select on the way: other combinations come by chance only.
        found += for_each(range(MOST), lambda _: meant(asked, tracked=tracked))
    return _different([*found, first] if not backends else found)


def _different(found: Sequence[LogicalTrace]) -> list[LogicalTrace]:
    """Return each way once, whatever ovn-trace called it."""
    kept: dict[tuple[tuple[str, ...], ...], LogicalTrace] = {}
    for one in found:
        key = tuple(
            (section.pipeline, section.datapath, section.inport, section.outport, *(s.uuid for s in section.stages))
            for section in one.sections
        )
        kept.setdefault(key, one)
    return list(kept.values())


def _members(trace: LogicalTrace) -> list[str]:
    """Return the members of the first select on the way."""
    for stage in trace.stages:
        for action in stage.actions:
            if found := _SELECT.search(action):
                return [member.partition("=")[0].strip() for member in found[1].split(",")][:MOST]
    return []


def _balances(trace: LogicalTrace) -> bool:
    return any(section.title.startswith("ct_lb") for section in trace.sections)


def _backends(seen: LabView, asked: ProbePacket) -> list[str]:
    """Return the backends of the virtual addresses that a packet goes to."""
    port = asked.fields.get("tcp.dst") or asked.fields.get("udp.dst")
    ip = asked.fields.get("ip4.dst") or asked.fields.get("ip6.dst") or asked.destination.ip
    vips = {f"{ip}:{port}", f"[{ip}]:{port}", ip}
    return [
        backend.strip()
        for row in seen.northbound
        if row.table == "Load_Balancer" and (asked.protocol in (row.columns["protocol"] or ("tcp",)))
        for vip, behind in row.columns["vips"].items()
        if vip in vips
        for backend in behind.split(",")
        if backend.strip()
    ][:MOST]


def choice(trace: LogicalTrace) -> str:
    """Return what OVN chose on a way, in words; empty where there was nothing to choose."""
    said = []
    for section in trace.sections:
        if _SELECTED.match(section.title):
            text = "\n".join(section.text)
            hop, port = _NEXT_HOP.search(text), _OUTPORT.search(text)
            if hop and port:
                said.append(f"next hop {hop[1] or hop[2]} by {port[1]}")
        elif section.title.startswith("ct_lb") and (backend := re.search(r"ip[46]\.dst=(\S+)", section.title)):
            said.append(f"backend {backend[1].rstrip(')')}")
    return ", ".join(said)
