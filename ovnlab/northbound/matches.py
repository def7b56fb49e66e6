"""Validation of a topology's matches by OVN's own parser, before anything is written.

ovn-nbctl and ovn-northd take any text; only who reads logical flows parses it. So the matches become logical flows
of a Southbound database that is made for the question, and ovn-trace (ovn-trace(8)) reads that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ovnlab.errors import Problem, TopologyError
from ovnlab.northbound.change import Change
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Acl, Qos, Topology

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

FAILED = ": parsing expression failed ("


def check(context: Context, topology: Topology, source: str, changes: Sequence[Change]) -> None:
    """Raise TopologyError with what OVN says to each match that it rejects, where matches are about to be written."""
    rules_change = any(change.table in ("ACL", "QoS") and change.verb != "remove" for change in changes)
    if not rules_change and not any(change.table in ("Address_Set", "Port_Group") for change in changes):
        return
    # Not to be taken from the database: sets and groups that the topology has, and those that go.
    names = [found.name for found in changes if found.table in ("Address_Set", "Port_Group")]
    names += [*(item.name for item in topology.address_sets), *(item.name for item in topology.port_groups)]
    rules: tuple[Acl | Qos, ...] = (*topology.acls, *topology.qos)
    script = render(
        "node/check-matches.sh.j2",
        matches=sorted({rule.match for rule in rules}),
        address_sets=topology.address_sets,
        port_groups=topology.port_groups,
        names=names,
    )
    said = run_script(context, script, where="central: asking OVN whether it understands the matches")
    if mistakes := list(_mistakes(rules, said)):
        raise TopologyError(source, mistakes)


def _mistakes(rules: Sequence[Acl | Qos], said: str) -> Iterator[Problem]:
    for rule in rules:
        _, found, complaint = said.partition(f"|WARN|{rule.match}{FAILED}")
        if found:
            first = complaint.partition("\n")[0].removesuffix(")")
            yield _mistake(rule.place, f"OVN does not understand this match: {first}")


def _mistake(place: str, message: str) -> Problem:
    """Return an error at FILE:LINE:COL, or at the option that holds the match."""
    words = place.rsplit(":", 2)
    if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
        return Problem(int(words[1]), int(words[2]), message)
    return Problem(0, 0, message, option=place)
