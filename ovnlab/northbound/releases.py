"""Releases of OVN that parts of a topology need: refused on older ones, before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ovnlab.errors import UsageError
from ovnlab.topology.resolved import Topology


def refuse_newer(topology: Topology, versions: Mapping[str, str]) -> None:
    """Raise UsageError where nodes that run packages have an older OVN than rows of the topology need.

    `versions` are those of the packages. What is built from source is taken to have it.
    """
    installed = next((version for name, version in versions.items() if name.startswith("ovn")), "")
    release = re.match(r"(\d+)\.(\d+)[\d.]*", installed)
    node = next((node.name for node in topology.nodes if node.has_switch and not node.software.ovn.is_source), None)
    if release is None or node is None:
        return
    for row in topology.rows:
        what, first = row.needs
        if what and tuple(map(int, first.split("."))) > (int(release[1]), int(release[2])):
            raise UsageError(
                f"{what} needs OVN {first} or newer; {node} runs {release[0]}",
                where=f"{row.table} {row.name}",
                hint="leave it out, or build a newer OVN: software: {ovn: {git: URL, ref: BRANCH}}",
            )
