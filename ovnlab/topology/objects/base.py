"""What the kinds of Northbound objects have in common: keys of a part of the file, and the rows that they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovnlab.topology.findings import Finding
from ovnlab.topology.grammar import Part
from ovnlab.topology.resolved import Column, NorthboundRow
from ovnlab.topology.source import Where

if TYPE_CHECKING:
    from ovnlab.topology.model import TopologyFile


@dataclass(frozen=True)
class Scope:
    """The part of a file that has a kind's keys: where it is, and which row of the Northbound database it means.

    `table` and `name` are those of that row, empty for the logical network itself; `zone` is its availability zone.
    `owner` is the switch or router that the part is in.
    """

    file: TopologyFile
    where: Where
    table: str = ""
    name: str = ""
    zone: str = ""
    owner: str = ""

    def at(self, *keys: str | int) -> Where:
        """Return where something in the part is."""
        return (*self.where, *keys)

    def row(self, table: str, name: str, columns: dict[str, Column], *, shown: tuple[str, str]) -> NorthboundRow:
        """Return a row that stands alone; `shown` is a word and a text for pictures."""
        return NorthboundRow(table, name, columns, zone=self.zone, owner=self.owner, shown=shown)

    def child(self, table: str, name: str, columns: dict[str, Column], *, shown: tuple[str, str]) -> NorthboundRow:
        """Return a row that belongs to the row of the part."""
        return NorthboundRow(table, name, columns, self.name, self.table, self.zone, self.owner, shown)

    def more(self, **columns: Column) -> NorthboundRow:
        """Return further columns of the row of the part."""
        return NorthboundRow(self.table, self.name, columns, zone=self.zone)


class Keys(Part):
    """The keys of one kind of Northbound object: a base class of the part of the file that has them.

    What the keys must agree with is in `find_mistakes`, what they mean in `northbound_rows`, which is asked only where
    there are no mistakes in the file.
    """

    def find_mistakes(self, scope: Scope) -> Iterator[Finding]:
        """Yield what contradicts something else in the file."""
        del scope
        yield from ()

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield the rows that the keys mean."""
        del scope
        yield from ()
