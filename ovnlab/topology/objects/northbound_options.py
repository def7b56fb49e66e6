"""Options of the whole Northbound database (ovn-nb(5), NB_Global)."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.topology.grammar import Options
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.resolved import NorthboundRow


class NorthboundOptions(Keys):
    """Options of the whole Northbound database."""

    nb_global: Options = {}
    """Options of NB_Global (ovn-nb(5)), such as use_logical_dp_groups."""

    def northbound_rows(self, scope: Scope) -> Iterator[NorthboundRow]:
        """Yield keys of its one row."""
        for zone in scope.zones if self.nb_global else ():
            yield NorthboundRow("NB_Global", ".", {"options": dict(self.nb_global)}, zone=zone)
