"""The base of kinds of Northbound objects: keys of the file, and the rows that they mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovnlab.topology.findings import Finding
from ovnlab.topology.grammar import Part
from ovnlab.topology.resolved import Column, NorthboundRow, Topology
from ovnlab.topology.source import Where

if TYPE_CHECKING:
    from ovnlab.topology.model import TopologyFile

NOTHING = ("", "")
"""What a picture says of a row that something else in it stands for."""


@dataclass(frozen=True)
class Scope:
    """The part of a file that has a kind's keys: where it is, and which row of the Northbound database it means.

    `table` and `name` are those of that row, empty for the logical network itself; `zones` are the availability zones
    that it is in. `owner` is the switch or router that the part is in. `topology` is what was decided, once it was.
    """

    file: TopologyFile
    where: Where
    zones: tuple[str, ...]
    table: str = ""
    name: str = ""
    owner: str = ""
    topology: Topology | None = None

    def at(self, *keys: str | int) -> Where:
        """Return where something in the part is."""
        return (*self.where, *keys)

    def row(
        self, table: str, name: str, columns: dict[str, Column], *, shown: tuple[str, str] = NOTHING
    ) -> Iterator[NorthboundRow]:
        """Yield a row that stands alone, for each zone; `shown` is a word and a text for pictures."""
        for zone in self.zones:
            yield NorthboundRow(table, name, columns, zone=zone, owner=self.owner, shown=shown)

    def child(
        self, table: str, name: str, columns: dict[str, Column], *, shown: tuple[str, str] = NOTHING
    ) -> Iterator[NorthboundRow]:
        """Yield a row that belongs to the row of the part."""
        for zone in self.zones:
            yield NorthboundRow(table, name, columns, self.name, self.table, zone, self.owner, shown)

    def more(
        self,
        columns: dict[str, Column],
        *,
        shown: tuple[str, str] = NOTHING,
        name: str = "",
        needs: tuple[str, str] = ("", ""),
    ) -> Iterator[NorthboundRow]:
        """Yield further columns of the row of the part, or of the one called `name` where it is several."""
        for zone in self.zones if any(value not in ((), {}) for value in columns.values()) else ():
            yield NorthboundRow(
                self.table, name or self.name, columns, zone=zone, owner=self.owner, shown=shown, needs=needs
            )


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
