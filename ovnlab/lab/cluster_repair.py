"""Members of a cluster whose database is damaged: they come back as new members of the cluster that the others are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.lab.plan import LabState
from ovnlab.nodes.node import RunningNodes
from ovnlab.ovsdb import endpoints
from ovnlab.parallel import for_each
from ovnlab.providers.base import Provider
from ovnlab.tasks import daemons, damage
from ovnlab.tasks.damage import MemberFile
from ovnlab.topology.resolved import Node, Topology


class ClusterRepair(msgspec.Struct, frozen=True):
    """The clusters of a topology, and the nodes that their members are on."""

    provider: Provider
    topology: Topology

    def damaged(self, starting: Sequence[Node], seen: LabState) -> list[MemberFile]:
        """Return the damaged files of members that are to start again.

        Raises OvnlabError where the sound ones of a cluster are no majority of it.
        """
        running = {name: state.daemons for name, state in seen.nodes.items()}
        asleep = [
            node
            for node in starting
            if node.central and len(self.topology.centrals(node.zone)) > 1
            if not {"ovnnb_db", "ovnsb_db"} <= set(running.get(node.name, ()))
        ]
        examined = for_each(asleep, lambda node: damage.examine(self.provider.node(node.name).context, node.name))
        files = [file for found in examined for file in found]
        files += [
            MemberFile(name, database, is_sound=True)
            for database in ("nb", "sb")
            for name in running
            if f"ovn{database}_db" in running[name] and name not in {node.name for node in asleep}
        ]
        return list(self._rejoining(files))

    def _rejoining(self, files: Sequence[MemberFile]) -> Iterator[MemberFile]:
        for zone in self.topology.zones:
            members = [node.name for node in self.topology.centrals(zone)]
            for database in ("nb", "sb"):
                mine = [file for file in files if file.node in members and file.database == database]
                sound = sorted(file.node for file in mine if file.is_sound)
                bad = sorted(file.node for file in mine if not file.is_sound)
                if sound and bad and len(sound) <= len(bad):
                    title = damage.TITLES[f"ovn{database}_db.db"]
                    raise OvnlabError(
                        f"{title} is damaged on {', '.join(bad)}, and {', '.join(sound)} is not a majority"
                        " of its cluster",
                        hint="`ovnlab down`, then `ovnlab up`, make all of it anew",
                    )
                yield from (MemberFile(name, database, is_sound=False, is_missed=bool(sound)) for name in bad)

    def kick(self, damaged: Sequence[MemberFile]) -> None:
        """Take the members that were on these nodes out of their clusters, so that new ones can join."""
        running = RunningNodes(self.provider.nodes())
        bad = {member.node for member in damaged}
        for member in damaged:
            node = self.topology.node(member.node)
            if node is not None and member.is_missed:
                others = [other.name for other in self.topology.centrals(node.zone) if other.name not in bad]
                address = f"{endpoints.protocol(self.topology)}:{endpoints.host(node.ip)}"
                daemons.kick(running[others[0]].context, [address], [member.database])
