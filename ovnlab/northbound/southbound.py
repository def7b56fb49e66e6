"""The Southbound database (ovn-sb(5)): what ovn-northd and the chassis made of the logical network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.ovsdb.client import Tables, listed
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.ovsdb.queries import SOUTHBOUND, TableQuery
from ovnlab.tasks.script import run_script
from ovnlab.topology.addresses import bracketed

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

QUESTION = TableQuery(
    SOUTHBOUND,
    {
        "Chassis": ("_uuid", "name", "encaps"),
        "Chassis_Private": ("name", "nb_cfg"),
        "Encap": ("_uuid", "type", "ip"),
        "Port_Binding": ("logical_port", "chassis", "tunnel_key"),
        "SB_Global": ("nb_cfg",),
        "Service_Monitor": ("ip", "port", "logical_port", "status"),
    },
)
"""Chassis and how far each is, where logical ports are bound, and what health checks find."""


def tables(central: Context, databases: Databases, columns: Mapping[str, Sequence[str]]) -> Tables:
    """Return the rows of tables of one zone, with these columns each, in one ovn-sbctl."""
    question = TableQuery(SOUTHBOUND, columns)
    return question.parse(
        run_script(central, question.script(databases), where="central: reading the Southbound database")
    )


class PortBinding(msgspec.Struct, frozen=True):
    """The binding of a logical port: the name of its chassis, and its key in tunnels."""

    chassis: str | None
    tunnel_key: int


class Southbound(msgspec.Struct, frozen=True):
    """The encapsulation of each chassis by its name, and the bindings of logical ports by theirs.

    A chassis is one that ovn-controller has registered: `up` writes rows of Chassis before there is one. `behind` says
    of those that lag how many configurations (nb_cfg) they are behind ovn-northd. `offline` are the backends that do
    not answer health checks, and the ports that have them.
    """

    chassis: Mapping[str, str] = {}
    ports: Mapping[str, PortBinding] = {}
    behind: Mapping[str, int] = {}
    offline: Mapping[str, str] = {}


def bindings_in(tables: Tables) -> Southbound:
    """Return chassis and port bindings of one zone, of the answer to QUESTION."""
    chassis, private, encaps, bindings, global_rows, monitors = tables.values()
    wanted = max((row["nb_cfg"] for row in global_rows), default=0)
    registered = {row["name"] for row in private}
    names = {row["_uuid"]: row["name"] for row in chassis}
    kinds = {row["_uuid"]: row["type"] for row in encaps}
    return Southbound(
        {
            row["name"]: "+".join(sorted(kinds[uuid] for uuid in listed(row["encaps"])))
            for row in chassis
            if row["name"] in registered
        },
        {row["logical_port"]: PortBinding(names.get(str(row["chassis"])), row["tunnel_key"]) for row in bindings},
        {row["name"]: wanted - row["nb_cfg"] for row in private if row["nb_cfg"] < wanted},
        {
            f"{bracketed(row['ip'])}:{row['port']}": row["logical_port"]
            for row in monitors
            if row["status"] == "offline"
        },
    )
