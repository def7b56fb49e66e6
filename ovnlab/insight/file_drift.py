"""Differences between the file and the Northbound database on a packet's way: missing, changed or left over.

ovn-trace tells what the database means. Where somebody deleted a route of the file by hand, a drop is meant by OVN and
by nobody else. All is read already: the rows that were read with the lab are compared with those of its topology.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovnlab.errors import OvnlabError
from ovnlab.insight.decisions import deciding, place_named
from ovnlab.insight.evidence import Trace
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.verdict import Verdict
from ovnlab.northbound.change import Change, changes, without_schema_rows
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.rows import WantedRow, wanted
from ovnlab.northbound.schema import TABLES
from ovnlab.topology.addresses import host_of, is_ip
from ovnlab.topology.resolved import Topology

_FILTERS = ("ACL", "Address_Set", "Port_Group")
"""What decides in the stages of ACLs, and nowhere else."""

_REFUSALS = ("unreachable", "prohibited", "time exceeded", "too big", "fragmentation")
"""What a router's ICMP messages say where they are no replies."""


ENABLING = {
    "Logical_Router": "set Logical_Router {name} enabled=true",
    "Logical_Router_Port": "lrp-set-enabled {name} enabled",
    "Logical_Switch_Port": "lsp-set-enabled {name} enabled",
}
"""What enables an object that drops everything, with ovn-nbctl."""


@dataclass(frozen=True)
class Drift:
    """A row that `ovnlab up` would add, change or remove, or that somebody disabled by hand.

    `is_cause` says that it decides about the packet, `remedy` is the command that mends it.
    """

    change: Change
    is_cause: bool
    place: str = ""
    remedy: str = ""

    @property
    def object(self) -> str:
        """Return the kind and name of the row."""
        return f"{TABLES[self.change.table].kind} {self.change.name}"

    @property
    def problem(self) -> str:
        """Return what is wrong with it."""
        where = f" ({self.place})" if self.place else ""
        match self.change.verb:
            case "add":
                return f"the file has it{where}, and it is missing"
            case "remove":
                return "it is there, and the file does not have it"
        return f"it is not as the file says{where}: {self.change.reason}"


def against_file(trace: Trace, verdict: Verdict) -> tuple[Verdict, tuple[Drift, ...]]:
    """Return the verdict with the file taken into account, and the differences on the packet's way, causes first.

    Of a packet that arrives, and is answered, it is told that rules of the file are not there that might drop it.
    """
    if not verdict.agrees:
        return verdict, ()
    found = tuple(drifts(trace))
    if reaches(trace):
        rules = [drift.object for drift in found if drift.change.table in _FILTERS]
        said = f"; but not all that the file says is there: {', '.join(rules)}" if rules else ""
        return dataclasses.replace(verdict, sentence=verdict.sentence + said), ()
    cause = next((drift for drift in found if drift.is_cause), None)
    if cause is not None:
        meant = verdict.sentence.replace(" as intended", " as OVN means it", 1)
        said = f"{meant}, but not as the file does: {cause.object}: {cause.problem}"
        return Verdict(False, said, cause.object, cause.problem, cause.remedy), found
    if made := _by_hand(trace):
        said = f"{verdict.sentence}; made by hand: {', '.join(title for _, title in made)}"
        hint = verdict.hint or f"if that is not meant: {_removal(made[0][0])}"
        return dataclasses.replace(verdict, sentence=said, hint=hint), found
    return verdict, found


def reaches(trace: Trace) -> bool:
    """Return True if a packet came where it goes, and nobody refused it or failed to answer."""
    if trace.outcome == "answered":
        said = " ".join(hop.packet.said for hop in trace.hops if hop.what == "answered" and hop.packet)
        return not any(word in said for word in _REFUSALS)
    if trace.outcome == "left":
        return trace.answer is not None and trace.answer.state == "came"
    answered = trace.answer is None or trace.answer.state == "came"
    return trace.outcome == "delivered" and answered and not trace.logical.asks_for_mac


def up_command(look: LabView) -> str:
    """Return the command that makes the lab what its file says."""
    return look.lab.folder.up_words() if look.lab is not None else "ovnlab up"


def drifts(trace: Trace) -> list[Drift]:
    """Return the differences between the file and the database that are on a packet's way, causes first."""
    look = trace.look
    if not look.northbound:
        return []
    rows = wanted(look.topology)
    try:
        found = without_schema_rows(look.topology, changes(look.topology.name, rows, look.northbound))
    except OvnlabError:  # a row of somebody else's is in the way: `up` says which
        return []
    read = {row.zone for row in look.northbound}  # a database that is silent lacks nothing
    found = [change for change in found if change.zone in read]
    disabled = list(_disabled(look))
    way = _Way(trace, {row.key: row for row in rows}, {row.key: row for row in look.northbound}, found)
    judged = [(change, way.decides(change)) for change in [*found, *disabled]]
    return sorted(
        (
            Drift(
                change,
                decides,
                place_named(look.topology, change.table, change.name),
                f"ovnlab nbctl {ENABLING[change.table].format(name=change.name)}"
                if change in disabled
                else up_command(look),
            )
            for change, decides in judged
            if decides is not None
        ),
        key=lambda drift: not drift.is_cause,
    )


def disabled_by_file(topology: Topology) -> set[str]:
    """Return the names of the rows that the file disables."""
    found = {row.name for row in topology.rows if row.columns.get("enabled") == (False,)}
    return found | {row.name for row in topology.schema_rows if row.columns.get("enabled") in (False, [False])}


def _disabled(look: LabView) -> Iterator[Change]:
    """Yield the rows of the file that somebody disabled by hand, which `up` leaves alone, as changes."""
    meant = disabled_by_file(look.topology)
    for row in look.northbound:
        is_disabled = row.table in ENABLING and tuple(row.columns.get("enabled", ())) == (False,)
        if is_disabled and row.name not in meant and not is_by_hand(row):
            yield Change("change", row.table, row.name, "somebody disabled it", (), row.zone)


def _by_hand(trace: Trace) -> list[tuple[LiveRow, str]]:
    """Return the rows on a packet's way that somebody made by hand, with their titles."""
    made = [trace.decision] if trace.decision is not None else []
    made += deciding(trace.look, trace.legs)
    rows = {one.row.uuid: one for one in made if one.row is not None and is_by_hand(one.row)}
    return [(one.row, one.title) for one in rows.values() if one.row is not None]


def _removal(row: LiveRow) -> str:
    """Return the command that takes a row away."""
    held = row.belongs
    if held is None:
        return f"ovnlab nbctl destroy {row.table} {row.uuid}"
    return f"ovnlab nbctl remove {held.table} {held.name} {held.column} {row.uuid}"


def is_by_hand(row: LiveRow) -> bool:
    """Return True if neither `ovnlab up`, `ovnlab bind` nor ovn-ic made a row."""
    return row.mark is None and not row.by_bind and not row.is_learned


class _Way:
    """Datapaths, ports and addresses that a packet passes, and what changes would be made there."""

    def __init__(
        self,
        trace: Trace,
        wanted: dict[tuple[str, str, str], WantedRow],
        live: dict[tuple[str, str, str], LiveRow],
        found: list[Change],
    ) -> None:
        sections = [*trace.logical.sections]
        if trace.answer is not None and trace.answer.back is not None:
            sections += trace.answer.back.logical.sections
        names = trace.question.zone.names
        self.topology: Topology = trace.look.topology
        self.wanted, self.live = wanted, live
        self.changed = {change.name for change in found if change.table == "ACL"}
        self.datapaths = {section.datapath for section in sections} | {trace.question.datapath}
        self.ports = {trace.question.source.name, trace.question.destination.name}
        self.ports |= {port for section in sections for port in (section.inport, section.outport) if port}
        self.ports |= {port.removeprefix("cr-") for port in self.ports}
        self.ports |= {
            port.options["peer"] for name in self.ports if (port := names.ports.get(name)) and "peer" in port.options
        }
        self.ports |= {
            port.name for datapath in self.datapaths for port in names.ports_of(datapath) if port.type == "localnet"
        }
        joined = {
            row.columns["options"].get("router-port"): row.parent
            for row in live.values()
            if row.table == "Logical_Switch_Port"
        }
        self.beside = {  # a disabled router has no datapath
            row.parent
            for row in live.values()
            if row.table == "Logical_Router_Port" and row.parent and joined.get(row.name) in self.datapaths
        }
        fields = {**trace.question.fields, **trace.logical.rewritten(trace.question.fields)}
        every = [trace.question.fields, fields]
        self.targets = _ips(field.get(key, "") for field in every for key in ("ip4.dst", "ip6.dst"))
        self.targets |= _ips([trace.question.destination.ip])
        self.sources = _ips(field.get(key, "") for field in every for key in ("ip4.src", "ip6.src"))
        self.stage = trace.decision.stage.name if trace.decision is not None else ""
        row = trace.decision.row if trace.decision is not None else None
        self.is_filtered = "_acl" in self.stage
        self.is_of_the_file = (
            row is not None
            and row.mark is not None
            and not any(change.table == row.table and change.name == row.name for change in found)
        )

    def decides(self, change: Change) -> bool | None:
        """Return True if a change decides about the packet, False if it may, None if it is elsewhere."""
        row, live = (
            self.wanted.get((change.zone, change.table, change.name)),
            self.live.get((change.zone, change.table, change.name)),
        )
        owner = (row.parent if row else None) or (live.parent if live else None) or ""
        if change.table in _FILTERS:
            return self._filters(change, owner)
        if (relevant := self._passes(change, owner, [c.columns for c in (row, live) if c is not None])) is None:
            return None
        return relevant and not (self.is_filtered and self.is_of_the_file)

    def _filters(self, change: Change, owner: str) -> bool | None:
        """Judge ACLs of the switches and groups on the way, and the sets that these speak of."""
        groups = {group.name for group in self.topology.port_groups if self.ports & set(group.ports)}
        on_the_way = [acl for acl in self.topology.acls if acl.owner in self.datapaths | groups]
        if change.table == "ACL":
            return self.is_filtered if owner in self.datapaths | groups else None
        name = re.escape(change.name)
        spoken = any(re.search(rf"[$@]{name}(?:_ip[46])?\b", acl.match) for acl in on_the_way)
        if not spoken and not (change.table == "Port_Group" and change.name in groups):
            return None
        return self.is_filtered

    def _passes(self, change: Change, owner: str, columns: Sequence[Mapping[str, Any]]) -> bool | None:
        """Return True if a row is on the way, and about the packet's addresses where it is about any."""
        match change.table:
            case "Logical_Router_Static_Route" | "Logical_Router_Policy":
                if owner not in self.datapaths:
                    return None
                prefixes = [str(value) for value in _values(columns, "ip_prefix")]
                return any(_covers(prefix, self.targets | self.sources) for prefix in prefixes) or not prefixes
            case "NAT":
                known = _values(columns, "external_ip", "logical_ip")
                is_about = any(_covers(str(value), self.targets | self.sources) for value in known)
                return is_about if owner in self.datapaths or is_about else None
            case "Load_Balancer" | "Load_Balancer_Health_Check":
                vips = [key for value in _values(columns, "vips") if isinstance(value, dict) for key in value]
                return True if self._is_vip(vips) else None
            case "Logical_Switch" | "Logical_Router":
                if not change.commands and change.name in self.beside:
                    return True
                if change.name not in self.datapaths:
                    return None
                only_balancers = change.verb == "change" and change.reason.startswith("load_balancer: ")
                every = [balancer.vip for balancer in self.topology.load_balancers]
                return not only_balancers or self._is_vip(every)
            case "Logical_Switch_Port":
                return True if change.name in self.ports else None
            case "Logical_Router_Port":
                return True if change.name in self.ports or self._is_gateway(owner, columns) else None
            case "Gateway_Chassis" | "HA_Chassis":
                return True if owner in self.ports else None
            case "QoS":
                return False if owner in self.datapaths else None
        return None

    def _is_vip(self, vips: list[str]) -> bool:
        return bool({host_of(vip) for vip in vips} & {str(ip) for ip in self.targets})

    def _is_gateway(self, router: str, columns: Sequence[Mapping[str, Any]]) -> bool:
        """Return True if a packet should have come by a router port: its network has one of the ends."""
        networks = [str(network) for value in _values(columns, "networks") for network in _list(value)]
        near = router in self.datapaths or any(_covers(network, self.sources) for network in networks)
        return near and any(_covers(network, self.targets | self.sources) for network in networks)


def _values(columns: Sequence[Mapping[str, Any]], *names: str) -> Iterator[Any]:
    for one in columns:
        for name in names:
            if one.get(name):
                yield one[name]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ips(words: Iterable[str]) -> set[_Address]:
    return {ipaddress.ip_address(word) for word in words if is_ip(word)}


def _covers(prefix: str, addresses: set[_Address]) -> bool:
    """Return True if an address or a prefix has one of these addresses in it."""
    try:
        network = ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for address in addresses)
