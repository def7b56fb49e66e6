"""The OpenFlow flows of a chassis in OVN's terms: tables by what they do, numbers by name, and what they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ovnlab.insight.lab_view import LabView
from ovnlab.insight.names import Names
from ovnlab.insight.ofproto_trace import split
from ovnlab.insight.trace import place_of
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row
from ovnlab.tasks.script import TIMEOUT, run_script
from ovnlab.templating import render

_FLOW = re.compile(
    r"cookie=(0x[0-9a-f]+), duration=[\d.]+s, table=(\d+), n_packets=(\d+), n_bytes=(\d+), (.*?)actions=(.*)$"
)
_ABOUT = re.compile(
    r"(?:idle_age|hard_age|idle_timeout|hard_timeout|importance|send_flow_rem|reset_counts)(?:=\d+)?,? ?"
)
_PRIORITY = re.compile(r"priority=(\d+),?")
_LOAD = re.compile(r"(?:load|set_field):(0x[0-9a-f]+|\d+)->(?:NXM_NX_|OXM_OF_)?([A-Za-z0-9_]+)(\[[0-9.]*\])?$")
_RESUBMIT = re.compile(r"resubmit\(,(\d+)\)$")
_TERM = re.compile(r"(metadata|reg14|reg15)=(0x[0-9a-f]+|\d+)$")

_MOVES = {
    "move:NXM_NX_TUN_ID[0..23]->OXM_OF_METADATA[0..23]": "datapath=the tunnel's",
    "move:NXM_NX_TUN_METADATA0[16..30]->NXM_NX_REG14[0..14]": "inport=the tunnel's",
    "move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG15[0..15]": "outport=the tunnel's",
    "move:NXM_NX_REG14[0..14]->NXM_NX_TUN_METADATA0[16..30]": "tunnel inport=inport",
}
_REGISTERS = {"REG11": "dnat zone", "REG12": "snat zone", "REG13": "ct zone"}
"""What ovn-controller keeps in registers (ovn-architecture(7), Architectural Physical Life Cycle of a Packet)."""


@dataclass(frozen=True)
class Flow:
    """A flow. `rate` is packets in a second, None where it was looked at once only."""

    cookie: int
    table: int
    priority: int
    match: str
    actions: str
    packets: int
    size: int
    rate: float | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """Return what tells it from every other (OpenFlow 1.5, 6.4)."""
        return self.table, self.priority, self.match

    @property
    def uuid(self) -> str:
        """Return the first digits of the UUID of the Southbound row that it is of; empty where it is of none."""
        return f"{self.cookie:08x}" if self.cookie else ""


@dataclass(frozen=True)
class DescribedFlow:
    """A flow with names: what it matches, what it does, and the rows that it is of."""

    flow: Flow
    table: str
    match: str
    actions: str
    southbound: str = ""
    logical: str = ""
    northbound: LiveRow | None = None
    place: str = ""


@dataclass(frozen=True)
class Filter:
    """A filter of flows: an empty field matches all."""

    active: bool = False
    port: str = ""
    table: str = ""


@dataclass(frozen=True)
class Sample:
    """The flows at one moment, in nanoseconds since 1970."""

    time: int
    flows: Mapping[tuple[int, int, str], Flow] = field(default_factory=dict)


def sample(look: LabView, node: str, *, times: int = 2, interval: float = 1.0) -> list[Flow]:
    """Return the flows of a node's br-int; looked at twice, with their rates between."""
    script = render("node/dump-flows.sh.j2", times=times, interval=interval)
    printed = run_script(look.node(node).context, script, where=f"{node}: its flows", timeout=TIMEOUT + interval)
    samples = [_parsed(part) for part in printed.split("at ")[1:]]
    return rated(samples[0], samples[-1]) if len(samples) > 1 else list(samples[0].flows.values())


def _parsed(text: str) -> Sample:
    moment, *lines = text.splitlines()
    flows = [found for line in lines if (found := parse(line)) is not None]
    return Sample(int(moment), {flow.key: flow for flow in flows})


def rated(before: Sample, after: Sample) -> list[Flow]:
    """Return the flows of the later sample, with what they matched since the earlier one."""
    seconds = max((after.time - before.time) / 1e9, 0.001)
    found = []
    for key, flow in after.flows.items():
        known = before.flows.get(key)
        packets = flow.packets - known.packets if known and known.packets <= flow.packets else flow.packets
        found.append(replace(flow, rate=packets / seconds))
    return found


def parse(line: str) -> Flow | None:
    """Return a line of `ovs-ofctl dump-flows`; None for what is not a flow."""
    found = _FLOW.search(line)
    if found is None:
        return None
    cookie, table, packets, size, rest, actions = found.groups()
    match = _ABOUT.sub("", rest).strip()
    priority = _PRIORITY.search(match)
    return Flow(
        int(cookie, 16) & 0xFFFFFFFF,
        int(table),
        int(priority[1]) if priority else 32768,
        _PRIORITY.sub("", match, count=1).strip(" ,"),
        actions.strip(),
        int(packets),
        int(size),
    )


class FlowFormatter:
    """A formatter that describes flows of one chassis with the names of its zone."""

    def __init__(self, look: LabView, node: str, flows: Sequence[Flow]) -> None:
        self._look, self._node = look, node
        self._zone = look.zone_of(node)
        self._names: Names = self._zone.names
        by_table: dict[int, list[Flow]] = {}
        for flow in flows:
            by_table.setdefault(flow.table, []).append(flow)
        self.tables = {table: self._meaning(table, found) for table, found in by_table.items()}

    def describe(self, flow: Flow) -> DescribedFlow:
        """Return a flow with names."""
        datapath = self._datapath(flow.match)
        kind, row = self._zone.rows.get(flow.uuid, ("", {}))
        logical, northbound = "", None
        if kind == "Logical_Flow":
            logical = str(row["match"])
            northbound = self._look.northbound_row(row["external_ids"].get("stage-hint", ""))
        match = ",".join(self._term(term, datapath) for term in split(flow.match)) or "any"
        return DescribedFlow(
            flow,
            self.tables.get(flow.table, ""),
            match,
            ", ".join(self._actions(flow.actions, datapath)),
            self._southbound(kind, row),
            logical,
            northbound,
            place_of(self._look.topology, northbound),
        )

    def wanted(self, flows: Sequence[Flow], which: Filter) -> list[Flow]:
        """Return the flows that a filter lets through, in the order of tables and priorities."""
        kept = [flow for flow in flows if self._is_wanted(flow, which)]
        return sorted(kept, key=lambda flow: (flow.table, -flow.priority, flow.match))

    def _is_wanted(self, flow: Flow, which: Filter) -> bool:
        if which.active and not (flow.rate or 0) > 0:
            return False
        if which.table and which.table not in (str(flow.table), *self.tables.get(flow.table, "").split(", ")):
            return False
        return not which.port or self._is_of(flow, which.port)

    def _is_of(self, flow: Flow, name: str) -> bool:
        """Return True if a flow is about a logical port: its number, its addresses, its binding, or the port itself."""
        port = self._names.ports.get(name)
        if port is None:
            return False
        home = self._look.home(name)
        terms = set(split(flow.match))
        if flow.uuid == port.uuid[:8] or (home and f"in_port={home[1].port}" in {t.replace('"', "") for t in terms}):
            return True
        datapath = self._datapath(flow.match)
        if datapath == port.datapath and {f"reg14={port.key:#x}", f"reg15={port.key:#x}"} & terms:
            return True
        return any(address in flow.match for address in (*port.macs, *port.ips))

    # ── what tables are ──────────────────────────────────────────────────────────────────────────────────

    def _meaning(self, table: int, flows: Sequence[Flow]) -> str:
        """Return what a table does: the stages of its logical flows, or what its flows do.

        Numbers differ by version.
        """
        stages = {
            str(row["external_ids"].get("stage-name", ""))
            for flow in flows
            for kind, row in [self._zone.rows.get(flow.uuid, ("", {}))]
            if kind == "Logical_Flow"
        }
        if stages - {""}:
            return ", ".join(sorted(stages - {""}))
        kinds = {self._zone.rows.get(flow.uuid, ("", {}))[0] for flow in flows}
        return next((name for name, is_so in self._roles(table, flows, kinds) if is_so), "")

    def _roles(self, table: int, flows: Sequence[Flow], kinds: set[str]) -> Iterator[tuple[str, bool]]:
        """Yield what ovn-controller uses tables for besides logical flows, and whether this is one of them."""

        def does(text: str) -> bool:
            return any(text in flow.actions for flow in flows)

        def asks(text: str) -> bool:
            return any(text in flow.match for flow in flows)

        yield "physical to logical", table == 0
        yield "output to other chassis", does("NXM_NX_TUN_ID[0..23]") or does("->tun_id")
        yield "MAC binding lookup", "MAC_Binding" in kinds and does("mod_dl_dst")
        yield "MAC binding check", "MAC_Binding" in kinds
        yield "FDB lookup", "FDB" in kinds
        yield "load balancer hairpin", "Load_Balancer" in kinds
        yield "port security", does("->NXM_NX_REG10[12]") and "Port_Binding" in kinds
        yield "loopback", does("push:NXM_OF_IN_PORT[]")
        yield "logical to physical", asks("reg15=") and (does("output:") or does("clone(ct_clear"))
        yield "loopback check", asks("reg14=") and asks("reg15=") and does("drop")
        yield "output to ports here", asks("reg15=")
        yield "output", any(_RESUBMIT.match(flow.actions) for flow in flows)

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────

    def _datapath(self, match: str) -> str:
        for term in split(match):
            if found := re.fullmatch(r"metadata=(0x[0-9a-f]+|\d+)", term):
                datapath = self._names.datapath(int(found[1], 0))
                return datapath.name if datapath else ""
        return ""

    def _term(self, term: str, datapath: str) -> str:
        found = _TERM.fullmatch(term)
        if found is None:
            return term.replace('"', "")
        number = int(found[2], 0)
        if found[1] == "metadata":
            return f"datapath={datapath or number}"
        which = "inport" if found[1] == "reg14" else "outport"
        return f"{which}={self._names.port(datapath, number) or number}"

    def _actions(self, actions: str, datapath: str) -> Iterator[str]:
        for action in split(actions):
            if action in _MOVES:
                yield _MOVES[action]
            elif found := _RESUBMIT.match(action):
                yield f"→ {found[1]} {self._stage(int(found[1]), datapath)}".rstrip()
            elif found := _LOAD.match(action):
                name, datapath = self._loaded(int(found[1], 0), found[2].upper(), found[3] or "[]", datapath, action)
                if name:
                    yield name
            elif action.startswith("clone("):
                inside = ", ".join(self._actions(action[6:-1], datapath))
                yield f"clone({inside})"
            else:
                yield action.replace('"', "")

    def _loaded(self, number: int, name: str, bits: str, datapath: str, action: str) -> tuple[str, str]:
        """Return a number that is put into a register, and the datapath from then on."""
        if name == "METADATA":
            found = self._names.datapath(number)
            datapath = found.name if found else datapath
            return f"datapath={datapath or number}", datapath
        if name in ("REG14", "REG15") and bits == "[]":
            if number == 0:
                return "", datapath
            which = "inport" if name == "REG14" else "outport"
            return f"{which}={self._names.port(datapath, number) or number}", datapath
        if name == "TUN_ID":
            found = self._names.datapath(number)
            return f"tunnel vni={number}{f' ({found.name})' if found else ''}", datapath
        if name == "TUN_METADATA0":
            return f"tunnel outport={self._names.port(datapath, number) or number}", datapath
        if name in _REGISTERS and bits == "[]":
            return (f"{_REGISTERS[name]}={number}" if number else ""), datapath
        if re.fullmatch(r"REG\d+", name) and number == 0 and bits == "[]":
            return "", datapath
        return action, datapath

    def _stage(self, table: int, datapath: str) -> str:
        """Return what a table is for a datapath: of a switch or of a router, where it is a stage of both."""
        names = self.tables.get(table, "").split(", ")
        known = self._names.datapaths.get(datapath)
        if known is not None and len(names) > 1:
            names = [name for name in names if name.startswith("ls_" if known.kind == "switch" else "lr_")] or names
        return ", ".join(names)

    def _southbound(self, kind: str, row: Row) -> str:
        if not kind:
            return ""
        name = row.get("logical_port") or row.get("name") or row.get("ip") or ""
        if kind == "Logical_Flow":
            name = row["external_ids"].get("stage-name", "")
        return f"{kind} {name}".strip()
