"""Rows of the databases of a node: by their servers' sockets, or by the tools of OVS and OVN that are on it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from invoke.context import Context

from ovnlab.ovsdb import Tables, rows, select
from ovnlab.tasks.databases import Databases
from ovnlab.tasks.script import run_scripts
from ovnlab.templating import render


class Node(Protocol):
    """What is asked: a node, of whatever kind."""

    @property
    def name(self) -> str:
        """What the topology calls it."""

    @property
    def context(self) -> Context:
        """Where scripts run."""

    def connect(self, path: str) -> socket.socket | None:
        """A connection to a UNIX socket of the node, None where it cannot be had."""


@dataclass(frozen=True)
class Server:
    """A database server of a node: its database, its socket there, and the tool that reads it there."""

    database: str
    socket: str
    tool: str


SWITCH = Server("Open_vSwitch", "/run/openvswitch/db.sock", "ovs-vsctl --timeout=5")
NORTHBOUND = Server("OVN_Northbound", "/run/ovn/ovnnb_db.sock", "ovn-nbctl --no-leader-only --timeout=30")
SOUTHBOUND = Server("OVN_Southbound", "/run/ovn/ovnsb_db.sock", "ovn-sbctl --no-leader-only --timeout=30")


@dataclass(frozen=True)
class Question:
    """Which tables of a server's database are read, and which columns of each."""

    server: Server
    columns: Mapping[str, Sequence[str]]

    def script(self, databases: Databases | None = None) -> str:
        """Prints the rows on the node, a table a line; of a cluster where `databases` says so."""
        return render("node/tables.sh.j2", tool=self.server.tool, tables=self.columns, databases=databases)

    def parse(self, printed: str) -> Tables:
        """What that script printed."""
        return dict(zip(self.columns, map(rows, printed.splitlines()), strict=True))


def read(node: Node, questions: Sequence[Question], script: str) -> tuple[str | None, list[Tables | None]]:
    """What a script prints on a node, None where it fails; and answers to questions, None where nobody gives one.

    What a socket does not answer, and the script, are one round trip. A server that is silent is not asked once more.
    """
    answers: list[Tables | None] = []
    by_tool: list[int] = []
    for number, question in enumerate(questions):
        tables = None
        try:
            if server := node.connect(question.server.socket):
                with server:
                    tables = select(server, question.server.database, question.columns)
            else:
                by_tool.append(number)
        except TimeoutError:
            pass
        except OSError:  # ssh may not connect there
            by_tool.append(number)
        answers.append(tables)
    scripts = [script, *(questions[number].script() for number in by_tool)]
    said, *printed = run_scripts(node.context, scripts, where=f"{node.name}: looking")
    for number, text in zip(by_tool, printed, strict=True):
        answers[number] = None if text is None else questions[number].parse(text)
    return said, answers
