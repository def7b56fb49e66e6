"""A lab as insight needs it: both databases, the nodes and their fake VMs, read once and all at the same time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ovnlab.errors import OvnlabError
from ovnlab.insight.names import COLUMNS, Names
from ovnlab.lab.lab import Lab
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound import live, southbound
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row
from ovnlab.ovsdb.endpoints import Databases, of_zone
from ovnlab.parallel import for_each
from ovnlab.tasks.probe import BoundVM, NodeState, probe
from ovnlab.topology.resolved import Topology
from ovnlab.topology.unknown_name import unknown_name

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

FLOWS = {
    "Logical_Flow": ("_uuid", "logical_datapath", "logical_dp_group", "pipeline", "table_id", "priority", "match",
                     "actions", "external_ids"),
    "MAC_Binding": ("_uuid", "logical_port", "ip", "mac", "datapath"),
    "Chassis_Private": ("_uuid", "name", "nb_cfg"),
    "SB_Global": ("_uuid", "nb_cfg"),
    "FDB": ("_uuid", "mac", "dp_key", "port_key"),
    "Load_Balancer": ("_uuid", "name", "vips"),
    "Service_Monitor": ("_uuid", "ip", "port", "protocol", "logical_port", "status"),
}  # fmt: skip
"""What tracing reads beside names."""

DIGITS = 8
"""The hexadecimal digits of a row's UUID that the cookie of its OpenFlow flows holds (ovn-controller(8))."""


@dataclass(frozen=True)
class ZoneView:
    """The databases of an availability zone. `context` is where OVN's tools reach them."""

    name: str
    context: Context
    databases: Databases
    names: Names
    tables: Mapping[str, Sequence[Row]]

    @functools.cached_property
    def rows(self) -> dict[str, tuple[str, Row]]:
        """Return every row that was read, with its table, by the first digits of its UUID."""
        return {row["_uuid"][:DIGITS]: (table, row) for table, rows in self.tables.items() for row in rows}

    def flow(self, uuid: str) -> Row | None:
        """Return the logical flow whose UUID begins so."""
        table, row = self.rows.get(uuid, ("", {}))
        return row if table == "Logical_Flow" else None


@dataclass(frozen=True)
class LabView:
    """A lab at one moment: one that runs, or one that was put into a bundle, which has no `lab` and no `nodes`."""

    name: str
    topology: Topology
    nodes: Mapping[str, RunningNode]
    states: Mapping[str, NodeState]
    zones: Mapping[str, ZoneView]
    northbound: Sequence[LiveRow] = ()
    lab: Lab | None = None
    interfaces: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    def node(self, name: str) -> RunningNode:
        """Return a node that runs.

        Raises UsageError for a name that the lab does not have, OvnlabError for what is down.
        """
        if self.topology.node(name) is None:
            raise unknown_name(self.topology, name)
        if name not in self.nodes:
            raise OvnlabError("does not run", where=name, hint="`ovnlab up` starts what is missing")
        return self.nodes[name]

    def zone_of(self, node: str) -> ZoneView:
        """Return the zone of a node. Raises OvnlabError where its databases could not be read."""
        found = self.topology.node(node)
        zone = self.zones.get(found.zone if found else "") or next(iter(self.zones.values()), None)
        if zone is None:
            raise OvnlabError("its Southbound database cannot be read", where=f"lab {self.name}")
        return zone

    def home(self, vm: str) -> tuple[str, BoundVM] | None:
        """Return the node that a fake VM is bound to, and what it is like there."""
        for node, state in self.states.items():
            for bound in state.vms:
                if bound.name == vm:
                    return node, bound
        return None

    def flow(self, uuid: str) -> Row | None:
        """Return the logical flow of any zone whose UUID begins so."""
        return next((found for zone in self.zones.values() if (found := zone.flow(uuid))), None)

    def northbound_row(self, hint: str) -> LiveRow | None:
        """Return the Northbound row whose UUID begins so: what a logical flow's stage-hint names."""
        if not hint:
            return None
        return next((row for row in self.northbound if row.uuid.startswith(hint)), None)


def look(lab: Lab, *, flows: bool = True, states: bool = True) -> LabView:
    """Read what there is of a lab; `flows` those tables as well that only tracing needs.

    Raises OvnlabError where the lab is down or no Southbound database answers.
    """
    topology = lab.topology
    central = lab.central()  # raises where the lab is down
    nodes = lab.nodes()
    found: dict[str, NodeState] = {}
    zones: dict[str, ZoneView] = {}
    rows: list[LiveRow] = []
    unread: list[OvnlabError] = []
    columns = {**COLUMNS, **(FLOWS if flows else {})}

    def read_state(node: RunningNode) -> None:
        with contextlib.suppress(OvnlabError):  # what does not answer is told by what needs it
            found[node.name] = probe(node.context, node.name)

    def read_zone(zone: str) -> None:
        running = [nodes[node.name] for node in topology.centrals(zone) if node.name in nodes]
        for node in running:
            databases = of_zone(topology, zone)
            try:
                tables = southbound.tables(node.context, databases, columns)
            except OvnlabError as error:
                unread.append(error)
                continue
            zones[zone] = ZoneView(zone, node.context, databases, Names(tables), tables)
            return

    def read_northbound(zone: str) -> None:
        for node in topology.centrals(zone):
            if flows and node.name in nodes:
                try:
                    rows.extend(live.read(nodes[node.name].context, Databases(zone)))
                except OvnlabError as error:
                    unread.append(error)
                    continue
                return

    questions: list[Callable[[], None]] = [functools.partial(read_state, node) for node in nodes.values() if states]
    for zone in topology.zones:
        questions += [functools.partial(read_zone, zone), functools.partial(read_northbound, zone)]
    for_each(questions, lambda ask: ask())
    if not zones:
        raise unread[0] if unread else OvnlabError("runs no Southbound database", where=central.name)
    return LabView(lab.name, topology, nodes, found, zones, tuple(rows), lab)
