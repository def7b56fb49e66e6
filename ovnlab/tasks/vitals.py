"""Dead daemons of a node, and the last lines of their logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

LINES = 5
"""Lines of a log that are shown."""

TIMEOUT = 10.0

_MARK = "ovnlab: died "


class DaemonFiles(msgspec.Struct, frozen=True):
    """The pidfile and the log of a daemon on a node, by the name of its pidfile."""

    name: str

    @property
    def program(self) -> str:
        """Return the program that it is a process of."""
        return "ovsdb-server" if self.name.endswith("_db") or self.name == "ovnsb_relay" else self.name

    @property
    def pidfile(self) -> str:
        """Return the path of the daemon's pidfile."""
        folder = "openvswitch" if self.name in ("ovsdb-server", "ovs-vswitchd") else "ovn"
        return f"/run/{folder}/{self.name}.pid"

    @property
    def log(self) -> str:
        """Return the path of the daemon's log."""
        if self.name in ("ovsdb-server", "ovs-vswitchd"):
            return f"/var/log/openvswitch/{self.name}.log"
        short = {
            "ovnnb_db": "ovsdb-server-nb",
            "ovnsb_db": "ovsdb-server-sb",
            "ovn_ic_nb_db": "ovsdb-server-ic-nb",
            "ovn_ic_sb_db": "ovsdb-server-ic-sb",
            "ovnsb_relay": "ovsdb-server-relay",
        }
        return f"/var/log/ovn/{short.get(self.name, self.name)}.log"


def died_script(node: str, daemons: Sequence[str], *, started: bool) -> str:
    """Return names those of the daemons that have died; once all are `started`, also those that are not there."""
    files = [DaemonFiles(name) for name in daemons]
    return render("node/find-dead-daemons.sh.j2", node=node, daemons=files, started=started, lines=LINES)


def died(context: Context, node: str, daemons: Sequence[str], *, started: bool) -> dict[str, str]:
    """Return the daemons of a node that have died, each with the end of its log."""
    script = died_script(node, daemons, started=started)
    printed = run_script(context, script, where=f"{node}: looking at its daemons", timeout=TIMEOUT)
    found: dict[str, str] = {}
    for part in printed.split(_MARK)[1:]:
        name, _, log = part.partition("\n")
        found[name] = log.strip()
    return found
