"""A snapshot of a lab, read once: every node, its switch and fake VMs, and both databases of each zone.

All questions are asked at the same time, each with a limit of LIMIT seconds. What could not be read is part of the
snapshot, with the reason: silence is a fact, and is never taken for "there is nothing".
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ovnlab.deliberate import Fault, active
from ovnlab.errors import CommandFailed, OvnlabError
from ovnlab.insight.lab_view import FLOWS, LabView, ZoneView
from ovnlab.insight.names import COLUMNS, Names
from ovnlab.insight.tool_output import DumpedFlow, flows_in, interfaces_in, port_states_in
from ovnlab.lab.lab import Lab
from ovnlab.lab.plan import LabState, Plan, plan
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound import live
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row, Tables, rows, select
from ovnlab.ovsdb.endpoints import of_zone
from ovnlab.ovsdb.queries import NORTHBOUND, SOUTHBOUND, SWITCH, TableQuery
from ovnlab.parallel import for_each
from ovnlab.tasks.probe import NodeState, parse
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import is_mac
from ovnlab.topology.resolved import Topology

LIMIT = 3
"""Seconds that each question may take."""

NODE_LIMIT = 12
"""Seconds that all questions to a node may take, which runs them on a machine that may be busy."""

SWITCH_TABLES = TableQuery(
    SWITCH,
    {
        "Open_vSwitch": ("external_ids", "other_config"),
        "Bridge": (
            "name", "other_config", "datapath_type", "external_ids", "fail_mode", "protocols", "controller", "ports",
        ),
        "Interface": (
            "_uuid", "name", "type", "ofport", "options", "external_ids", "mac", "mac_in_use", "mtu", "mtu_request",
            "error", "admin_state", "link_state", "bfd", "bfd_status", "statistics", "ingress_policing_rate",
        ),
        "Port": ("_uuid", "name", "interfaces", "tag", "trunks", "vlan_mode", "external_ids", "qos"),
    },
)  # fmt: skip
"""What is read of a node's own database (ovs-vswitchd.conf.db(5)); these tables are in the order of probe.QUESTION."""

_NORTHBOUND_STATE: Mapping[str, Sequence[str]] = {
    "NB_Global": ("nb_cfg", "sb_cfg", "hv_cfg", "options", "name", "external_ids"),
    "BFD": ("_uuid", "logical_port", "dst_ip", "status"),
}

NORTHBOUND_COLUMNS: Mapping[str, Sequence[str]] = {
    table: tuple(dict.fromkeys((*live.QUESTION.columns.get(table, ()), *_NORTHBOUND_STATE.get(table, ()))))
    for table in (*live.QUESTION.columns, *_NORTHBOUND_STATE)
}
"""What `up` compares, and what OVN says of its state."""

SOUTHBOUND_COLUMNS: Mapping[str, Sequence[str]] = {
    **COLUMNS,
    **FLOWS,
    "Chassis": ("_uuid", "name", "hostname", "encaps", "external_ids", "other_config", "transport_zones"),
    "Encap": ("_uuid", "type", "ip", "chassis_name"),
    "Port_Binding": (*COLUMNS["Port_Binding"], "up"),
    "Service_Monitor": ("_uuid", "ip", "port", "protocol", "logical_port", "status"),
    "BFD": ("_uuid", "logical_port", "dst_ip", "status"),
    "Gateway_Chassis": ("_uuid", "chassis", "priority"),
    "HA_Chassis": ("_uuid", "chassis", "priority"),
    "HA_Chassis_Group": ("_uuid", "name", "ha_chassis"),
    "Logical_DP_Group": ("_uuid", "datapaths"),
    "Meter": ("_uuid", "name"),
    "Static_MAC_Binding": ("_uuid",),
    "IGMP_Group": ("_uuid",),
    "Connection": ("_uuid", "target"),
}  # fmt: skip

PARTS = frozenset({"nodes", "northbound", "southbound"})
"""What `observe` can read."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question: its text, or why there is none."""

    text: str
    code: int
    error: str = ""

    @property
    def ok(self) -> bool:
        """Return True if the question was answered."""
        return self.code == 0

    @property
    def reason(self) -> str:
        """Return why it was not answered, empty where it was."""
        if self.code == 0:
            return ""
        if self.code in (124, 137, 142) or "SIGALRM" in self.error or "timed out" in self.error:
            return f"no answer within {LIMIT} s"
        return self.error or f"exit code {self.code}"


MISSING = Answer("", 127, "not asked")


@dataclass(frozen=True)
class VMNetwork:
    """The inside of a fake VM's namespace: routes, neighbours, and the TCP ports that somebody listens on."""

    routes: tuple[Row, ...] = ()
    neighbours: tuple[Row, ...] = ()
    listening: frozenset[int] = frozenset()
    ignores_echo: bool = False


@dataclass(frozen=True)
class NodeSnapshot:
    """A node, as the answers to all questions say. `state` is what `up` compares."""

    name: str
    state: NodeState
    answers: Mapping[str, Answer] = field(repr=False)
    switch: Tables = field(repr=False)

    def answer(self, question: str) -> Answer:
        """Return the answer to a question; one that says so where it was not asked."""
        return self.answers.get(question, MISSING)

    @property
    def ids(self) -> Mapping[str, str]:
        """Return Open_vSwitch:external_ids of the node."""
        return self.state.external_ids

    @property
    def has_no_switch(self) -> bool:
        """Return True for a machine without Open vSwitch."""
        return "ovsdb-server" not in self.state.daemons and "switch" in self.answers

    @property
    def listens(self) -> bool:
        """Return True if both databases say where they listen."""
        return all(self.answer(f"listens.{kind}").ok for kind in ("nb", "sb"))

    @functools.cached_property
    def interfaces(self) -> dict[str, Row]:
        """Return the Interface rows by name."""
        return {row["name"]: row for row in self.switch.get("Interface", ())}

    @functools.cached_property
    def bridges(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the interfaces in each bridge."""
        return interfaces_in(self.switch)

    def bridge_of(self, interface: str) -> str:
        """Return the bridge that an interface is in, empty where it is in none."""
        return next((bridge for bridge, names in self.bridges.items() if interface in names), "")

    def ports(self) -> dict[str, Row]:
        """Return the Port rows by name."""
        return {row["name"]: row for row in self.switch.get("Port", ())}

    @functools.cached_property
    def flows(self) -> dict[str, tuple[DumpedFlow, ...]]:
        """Return the OpenFlow flows of each bridge whose flows could be read."""
        prefix = "flows."
        return {
            name.removeprefix(prefix): flows_in(answer.text)
            for name, answer in self.answers.items()
            if name.startswith(prefix) and answer.ok
        }

    @functools.cached_property
    def port_states(self) -> dict[str, dict[str, frozenset[str]]]:
        """Return the OpenFlow configuration bits that are set, by bridge and port (ovs-ofctl(8), mod-port)."""
        prefix = "ports."
        return {
            name.removeprefix(prefix): port_states_in(answer.text)
            for name, answer in self.answers.items()
            if name.startswith(prefix) and answer.ok
        }

    @functools.cached_property
    def network(self) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
        """Return links with addresses, routes of all tables, neighbours, and rules."""
        found = _arrays(self.answer("network").text, 4)
        return found[0], found[1], found[2], found[3]

    @property
    def links(self) -> dict[str, Row]:
        """Return network devices by name."""
        return {str(link["ifname"]): link for link in self.network[0] if "ifname" in link}

    @functools.cached_property
    def tunnel_neighbours(self) -> dict[str, tuple[str, str]]:
        """Return MAC and bridge by IP address, from tnl/neigh/show."""
        words = [line.split() for line in self.answer("neighbours").text.splitlines()]
        return {word[0]: (word[1], word[2]) for word in words if len(word) == 3 and is_mac(word[1])}

    def inside(self, vm: str) -> VMNetwork | None:
        """Return the inside of a fake VM's namespace, None where it could not be read."""
        answer = self.answers.get(f"vm.{vm}")
        if answer is None or not answer.ok:
            return None
        _, routes, neighbours = _arrays(answer.text, 3)
        rest = [line for line in answer.text.splitlines() if line and line[0] not in "[{"]
        listening = frozenset(int(word, 16) for word in rest[1:] if len(word) == 4)
        return VMNetwork(tuple(routes), tuple(neighbours), listening, rest[:1] == ["1"])

    def log(self, name: str) -> list[str]:
        """Return the last warnings and errors of a log."""
        return self.answer(f"log.{name}.log").text.splitlines()


@dataclass(frozen=True)
class ZoneSnapshot:
    """The databases of one zone; a database that could not be read is empty and named in `Snapshot.unread`."""

    name: str
    northbound: Tables = field(repr=False)
    southbound: Tables = field(repr=False)

    @functools.cached_property
    def names(self) -> Names:
        """Return the names in the Southbound database."""
        return Names(self.southbound)

    @functools.cached_property
    def chassis(self) -> dict[str, Row]:
        """Return the rows of Chassis by name."""
        return {row["name"]: row for row in self.southbound.get("Chassis", ())}

    def table(self, name: str) -> Sequence[Row]:
        """Return the rows of a Southbound table."""
        return self.southbound.get(name, ())

    @property
    def wanted(self) -> int:
        """Return the configuration that the Northbound database is at."""
        return max((row["nb_cfg"] for row in self.northbound.get("NB_Global", ())), default=0)

    @property
    def translated(self) -> int:
        """Return the configuration that ovn-northd has written to the Southbound database."""
        return max((row["nb_cfg"] for row in self.southbound.get("SB_Global", ())), default=0)


@dataclass(frozen=True)
class LabSnapshot:
    """A lab at one moment.

    `unread` says what could not be read: a node or a database (`nb@NODE`, `sb@NODE`) and why. `running` are the nodes
    whose machines run, `faults` what is broken on purpose.
    """

    lab: str
    topology: Topology
    running: Mapping[str, RunningNode] = field(repr=False)
    nodes: Mapping[str, NodeSnapshot] = field(repr=False)
    zones: Mapping[str, ZoneSnapshot] = field(repr=False)
    rows: tuple[LiveRow, ...] = field(repr=False)
    unread: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    source: Lab | None = field(default=None, repr=False)
    faults: tuple[Fault, ...] = ()

    def zone_of(self, node: str) -> ZoneSnapshot | None:
        """Return the databases of a node's zone, None where they could not be read."""
        found = self.topology.node(node)
        return self.zones.get(found.zone if found else "") or (
            next(iter(self.zones.values()), None) if found is None else None
        )

    def home(self, vm: str) -> str:
        """Return the node that a fake VM's interface is on, empty where none tells of it."""
        return next((name for name, node in self.nodes.items() if any(b.name == vm for b in node.state.vms)), "")

    @functools.cached_property
    def look(self) -> LabView:
        """Return the lab as a view for the other functions of insight.

        Raises OvnlabError where no Southbound database was read.
        """
        zones = {}
        for name, zone in self.zones.items():
            central = next((n for n in self.topology.centrals(name) if n.name in self.running), None)
            if central is not None and zone.southbound:
                context = self.running[central.name].context
                zones[name] = ZoneView(name, context, of_zone(self.topology, name), zone.names, zone.southbound)
        if not zones:
            raise OvnlabError("no Southbound database could be read", where=f"lab {self.lab}")
        states = {name: node.state for name, node in self.nodes.items()}
        return LabView(self.lab, self.topology, self.running, states, zones, self.rows, self.source)


def observe(lab: Lab, parts: Collection[str] = PARTS) -> LabSnapshot:
    """Read a lab. Raises OvnlabError only where it is not there at all."""
    topology = lab.topology
    running = lab.nodes()
    nodes: dict[str, NodeSnapshot] = {}
    tables: dict[tuple[str, str], Tables] = {}
    unread: dict[str, str] = {}

    def read_node(node: RunningNode) -> None:
        try:
            nodes[node.name] = _node(node)
        except OvnlabError as error:
            unread[node.name] = error.message

    def read_database(node: RunningNode, kind: str) -> None:
        try:
            tables[node.name, kind] = _database(node, kind)
        except (OvnlabError, OSError, ValueError) as error:
            unread[f"{kind}@{node.name}"] = (
                f"no answer within {LIMIT} s" if isinstance(error, TimeoutError) else str(error)
            )

    questions: list[Callable[[], None]] = []
    if "nodes" in parts:
        questions += [functools.partial(read_node, node) for node in running.values()]
    for kind, part in (("nb", "northbound"), ("sb", "southbound")):
        centrals = [node.name for node in topology.nodes if node.central and node.name in running]
        if part in parts:
            questions += [functools.partial(read_database, running[name], kind) for name in centrals]
    for_each(questions, lambda question: question(), workers=32)
    nodes = {node.name: nodes[node.name] for node in topology.nodes if node.name in nodes}
    zones = {zone: _zone(topology, zone, nodes, tables) for zone in topology.zones}
    found = tuple(row for zone in zones.values() if zone.northbound for row in live.rows_in(_own(zone), zone.name))
    snapshot = LabSnapshot(lab.name, topology, running, nodes, zones, found, unread, None, lab, active(lab.folder))
    return replace(snapshot, plan=_plan(lab, snapshot) if "nodes" in parts and "northbound" in parts else None)


def _own(zone: ZoneSnapshot) -> Tables:
    return {table: zone.northbound[table] for table in live.QUESTION.columns}


def _plan(lab: Lab, snapshot: LabSnapshot) -> Plan:
    """Return what `up` of the same topology would do."""
    states = {name: node.state for name, node in snapshot.nodes.items()}
    unread = [OvnlabError(reason, where=what) for what, reason in snapshot.unread.items() if what.startswith("nb@")]
    read = all(zone.northbound for zone in snapshot.zones.values())
    seen = LabState(states, snapshot.rows if read else None, (), tuple(unread))
    builds = {name: node.state.build for name, node in snapshot.nodes.items()}
    try:
        found = plan(lab.topology, seen, known=lab.topology.nodes, builds=builds, faults=snapshot.faults)
    except OvnlabError:  # a row of somebody else's has a name that the lab needs: `up` says so
        return Plan()
    return _of_what_was_read(snapshot, found, northbound=read)


def _of_what_was_read(snapshot: LabSnapshot, found: Plan, *, northbound: bool) -> Plan:
    """Return the part of a plan that does not follow from silence."""
    heard = {name for name, node in snapshot.nodes.items() if node.switch}
    configure = {
        name: tuple(reason for reason in reasons if "does not listen" not in reason or snapshot.nodes[name].listens)
        for name, reasons in found.configure.items()
        if name in heard or snapshot.nodes[name].has_no_switch
    }
    return msgspec.structs.replace(
        found,
        configure={name: reasons for name, reasons in configure.items() if reasons},
        changes=found.changes if northbound else (),
        bind={name: vms for name, vms in found.bind.items() if name in heard},
        unbind={name: vms for name, vms in found.unbind.items() if name in heard},
    )


# ── a node ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _node(node: RunningNode) -> NodeSnapshot:
    script = render("node/snapshot-node.sh.j2", limit=LIMIT, switch=SWITCH_TABLES)
    printed = run_script(node.context, script, where=f"{node.name}: looking", timeout=NODE_LIMIT)
    return node_in(node.name, printed)


def node_in(name: str, printed: str) -> NodeSnapshot:
    """Return the node that templates/node/snapshot-node.sh.j2 printed."""
    answers: dict[str, Answer] = {}
    for part in ("\n" + printed).split("\novnlab-question ")[1:]:
        head, _, text = part.partition("\n")
        question, code, *error = head.split(" ", 2)
        answers[question] = Answer(text.removesuffix("\n"), int(code), _message(error[0] if error else ""))
    switch = _switch(answers.get("switch", MISSING))
    return NodeSnapshot(name, parse("\n".join(_as_probed(answers)), _probed_tables(switch)), answers, switch)


def _message(error: str) -> str:
    """Return the last line of what a tool wrote, without time stamp and names (vlog's format)."""
    return error.rpartition("|")[2].strip() if error.count("|") > 3 else error.strip()


def _switch(answer: Answer) -> Tables:
    lines = answer.text.splitlines()
    if not answer.ok or len(lines) != len(SWITCH_TABLES.columns):
        return {}
    return dict(zip(SWITCH_TABLES.columns, map(rows, lines), strict=True))


def _probed_tables(switch: Tables) -> Tables | None:
    return {table: switch[table] for table in ("Open_vSwitch", "Bridge", "Interface", "Port")} if switch else None


def _as_probed(answers: Mapping[str, Answer]) -> list[str]:
    """Return the facts of a snapshot in the lines of templates/node/probe-node.sh.j2."""
    lines = [line for name in ("daemons", "serves") for line in answers.get(name, MISSING).text.splitlines()]
    links, routes, _, _ = _arrays(answers.get("network", MISSING).text, 4)
    lines.append(f"links {json.dumps(links)}")
    lines.append(f"routes {json.dumps([route for route in routes if str(route.get('protocol')) == '201'])}")
    lines.append(f"connected {json.dumps([route for route in routes if route.get('protocol') == 'kernel'])}")
    for db in ("nb", "sb"):
        lines += [f"connection {line}" for line in answers.get(f"listens.{db}", MISSING).text.splitlines()]
        lines += [f"cluster {db} {line}" for line in answers.get(f"cluster.{db}", MISSING).text.splitlines()]
    for name, answer in answers.items():
        if not name.startswith("vm.") or not answer.ok:
            continue
        vm = name.removeprefix("vm.")
        inside, ways, _ = _arrays(answer.text, 3)
        main = [way for way in ways if "table" not in way and way.get("type", "unicast") != "multicast"]
        six = [way for way in main if _is_v6(way)]
        lines += [
            f"vm-links {vm} {json.dumps(inside)}",
            f"vm-routes {vm} {json.dumps([way for way in main if way not in six])}",
            f"vm-routes6 {vm} {json.dumps(six)}",
        ]
    return lines


def _is_v6(way: Row) -> bool:
    return ":" in str(way.get("dst", "")) or ":" in str(way.get("gateway", ""))


def _arrays(text: str, count: int) -> list[list[Any]]:
    """Return the JSON arrays that `ip -j -batch` printed, one a line."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith("[")]
    return (found + [[] for _ in range(count)])[:count]


# ── a database ───────────────────────────────────────────────────────────────────────────────────────────────────


def _database(node: RunningNode, kind: str) -> Tables:
    """Return the rows of a database: from its socket, by its tool where the socket cannot be reached from here."""
    server, columns = (NORTHBOUND, NORTHBOUND_COLUMNS) if kind == "nb" else (SOUTHBOUND, SOUTHBOUND_COLUMNS)
    connection = node.connect(server.socket)
    if connection is not None:
        connection.settimeout(LIMIT)
        with connection:
            try:
                return select(connection, server.database, columns)
            except TimeoutError:
                raise
            except OSError:  # ssh may not connect there
                pass
    tool = (*server.tool[:-1], f"--timeout={LIMIT}")
    question = TableQuery(msgspec.structs.replace(server, tool=tool), columns)
    where = f"{node.name}: reading a database"
    try:
        return question.parse(run_script(node.context, question.script(), where=where, timeout=NODE_LIMIT))
    except CommandFailed as error:
        raise OvnlabError(_message(error.detail.rpartition("\n")[2]) or error.message) from None


def _zone(
    topology: Topology, zone: str, nodes: Mapping[str, NodeSnapshot], tables: Mapping[tuple[str, str], Tables]
) -> ZoneSnapshot:
    """Return the databases of a zone, as the leader of a cluster says, or whoever answered."""
    found: dict[str, Tables] = {}
    for kind in ("nb", "sb"):
        members = [node.name for node in topology.centrals(zone) if (node.name, kind) in tables]
        leaders = [name for name in members if name in nodes and _leads(nodes[name], kind)]
        for name in [*leaders, *members][:1]:
            found[kind] = tables[name, kind]
    return ZoneSnapshot(zone, found.get("nb", {}), found.get("sb", {}))


def _leads(node: NodeSnapshot, kind: str) -> bool:
    member = node.state.clusters.get(kind)
    return member is not None and member.role == "leader"
