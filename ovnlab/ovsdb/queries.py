"""Queries: the rows of a node's databases that are read, and the servers that have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ovnlab.ovsdb.client import Tables, rows
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.templating import render


class Server(msgspec.Struct, frozen=True):
    """A database server of a node: its database, its socket there, and the tool that reads it there."""

    database: str
    socket: str
    tool: tuple[str, ...]


SWITCH = Server("Open_vSwitch", "/run/openvswitch/db.sock", ("ovs-vsctl", "--timeout=5"))
NORTHBOUND = Server("OVN_Northbound", "/run/ovn/ovnnb_db.sock", ("ovn-nbctl", "--no-leader-only", "--timeout=30"))
SOUTHBOUND = Server("OVN_Southbound", "/run/ovn/ovnsb_db.sock", ("ovn-sbctl", "--no-leader-only", "--timeout=30"))


class TableQuery(msgspec.Struct, frozen=True):
    """A query: the tables of a server's database, and the columns of each."""

    server: Server
    columns: Mapping[str, Sequence[str]]

    def script(self, databases: Databases | None = None) -> str:
        """Return the script that prints the rows, a table a line; of a cluster where `databases` says so."""
        return render("node/list-tables.sh.j2", tool=self.server.tool, tables=self.columns, databases=databases)

    def parse(self, printed: str) -> Tables:
        """Return what that script printed."""
        lines = filter(None, printed.split("\n"))  # values may have U+2028 and others that end a line for Python
        return dict(zip(self.columns, map(rows, lines), strict=True))
