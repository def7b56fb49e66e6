"""Databases that a crash has damaged, or that other software cannot have: which they are, and what became of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import msgspec

from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

TITLES = {
    "conf.db": "the local OVS database",
    "ovnnb_db.db": "the Northbound database",
    "ovnsb_db.db": "the Southbound database",
    "ovn_ic_nb_db.db": "the interconnection's Northbound database",
    "ovn_ic_sb_db.db": "the interconnection's Southbound database",
}
MOST_NAMES = 10
"""Names that one sentence lists."""


class Damage(msgspec.Struct, frozen=True):
    """A database of a node that could not be read to its end, and was put aside.

    `is_recovered` says that what could be read of it is there; `names` are those that the rest of it has.
    """

    path: str
    aside: str
    is_recovered: bool
    names: tuple[str, ...] = ()

    def sentence(self, node: str, known: Collection[str]) -> str:
        """Return what a person is told of it; names that are `known` are not lost."""
        title = TITLES.get(self.path.rpartition("/")[2], self.path)
        done = "what could be read of it was recovered" if self.is_recovered else "it is made anew"
        said = f"{node}: {title} was damaged: {done}, and the damaged file is {self.aside}"
        lost = [name for name in self.names if name not in known] if title == TITLES["ovnnb_db.db"] else []
        if lost:
            more = f" and {len(lost) - MOST_NAMES} more" if len(lost) > MOST_NAMES else ""
            said += f"; the topology does not have, and these may be lost: {', '.join(lost[:MOST_NAMES])}{more}"
        return said


class Unconverted(msgspec.Struct, frozen=True):
    """A database that could not be converted to the schema of other software, and was made anew.

    `aside` is where the old file is, empty for a member of a cluster, all of which is empty then.
    """

    path: str
    aside: str
    reason: str

    def sentence(self, node: str, known: Collection[str]) -> str:
        """Return what a person is told of it."""
        del known
        title = TITLES.get(self.path.rpartition("/")[2], self.path)
        said = f"{node}: {title} cannot be converted to the schema of its new software: it is made anew"
        kept = f", and the old file is {self.aside}" if self.aside else ""
        return f"{said}{kept} ({self.reason})"


def parse(printed: str) -> Iterator[Damage | Unconverted]:
    """Yield what templates/node/start-switch.sh.j2 and what it includes say of the databases of a node."""
    names: list[str] = []
    for line in printed.splitlines():
        match line.split():
            case ["ovnlab:", "lost", name]:
                names.append(name)
            case ["ovnlab:", "damaged", path, aside, *recovered]:
                yield Damage(path, aside, bool(recovered), tuple(names))
                names = []
            case ["ovnlab:", "unconverted", path, aside, *reason]:
                yield Unconverted(path, "" if aside == "-" else aside, " ".join(reason).removeprefix("ovsdb-tool: "))


class MemberFile(msgspec.Struct, frozen=True):
    """A member's file of a clustered database, `nb` or `sb`; one `is_missed` where the cluster goes on without it."""

    node: str
    database: str
    is_sound: bool
    is_missed: bool = False


def examine(context: Context, node: str) -> list[MemberFile]:
    """Return the files of clustered databases on a node. One that is served just now is sound."""
    printed = run_script(
        context, render("node/check-databases.sh.j2", node=node), where=f"{node}: looking at its databases"
    )
    lines = (line.split() for line in printed.splitlines())
    return [MemberFile(node, words[0], words[1] == "sound") for words in lines if len(words) == 2]
