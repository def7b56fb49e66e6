"""The transit switches that join availability zones (ovn-ic-nb(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovnlab.northbound.rows import MARK
from ovnlab.ovsdb.client import rows
from ovnlab.tasks.daemons import TransitSwitch
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context


def read(central: Context) -> list[TransitSwitch]:
    """Return the transit switches that are there, in one ovn-ic-nbctl."""
    script = render("node/list-transit-switches.sh.j2")
    printed = run_script(central, script, where="central: reading the interconnection")
    return [TransitSwitch(row["name"], row["external_ids"].get(MARK, "")) for row in rows(printed)]
