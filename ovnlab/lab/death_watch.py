"""A watch over nodes and daemons while `up` waits: what has died is named at once, not at the deadline."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import msgspec

from ovnlab.errors import HostRequirementError, OvnlabError, TopologyError, UsageError
from ovnlab.lab.plan import LabState
from ovnlab.lab.plan import daemons as expected_daemons
from ovnlab.nodes.node import ENDED, RunningNode
from ovnlab.parallel import Watch, for_each, watched
from ovnlab.providers.base import Provider
from ovnlab.tasks import vitals
from ovnlab.topology.resolved import Topology

HINT = "`ovnlab up` starts it again"


def relied_on(topology: Topology, seen: LabState) -> Iterator[str]:
    """Return the nodes whose databases must live: of a cluster, not the members that are dead already."""
    for node in topology.nodes:
        state = seen.nodes.get(node.name)
        is_whole = state is not None and set(expected_daemons(topology, node)) <= state.daemons.keys()
        if node.central and (is_whole or len(topology.centrals(node.zone)) == 1):
            yield node.name


class DeathWatch(msgspec.Struct, frozen=True):
    """A watch over the nodes that ran when it began, and over the daemons that the topology has on them.

    Before all of them are started, a daemon without a pidfile may be one that is about to start.
    """

    provider: Provider
    topology: Topology
    names: Collection[str]

    @contextlib.contextmanager
    def during(self, look: Watch) -> Iterator[None]:
        """Look from time to time while this block waits, and once more where it fails: the dead explain much.

        At its end, all nodes must still be there.
        """
        try:
            with watched(look):
                yield
            self._check_nodes(self.provider.nodes())
        except (TopologyError, HostRequirementError, UsageError):
            raise
        except OvnlabError as error:
            try:
                look()
            except OvnlabError as dead:
                if str(dead) != str(error):
                    dead.detail = f"{dead.detail}\nand also: {error}".strip()
                raise dead from None
            raise

    def look(self) -> None:
        """Raise OvnlabError where a node has ended, or a daemon has died that had started."""
        self._look(started=False)

    def look_at_all(self) -> None:
        """Raise OvnlabError where a node has ended, or a daemon does not run."""
        self._look(started=True)

    def _look(self, *, started: bool) -> None:
        nodes = self.provider.nodes()
        self._check_nodes(nodes)
        for name, died in self._died(nodes, started=started).items():
            for daemon, log in died.items():
                raise OvnlabError(f"{daemon} died while ovnlab was waiting", where=name, hint=HINT, detail=log)

    def _check_nodes(self, nodes: Mapping[str, RunningNode]) -> None:
        for name in self.names:
            if name not in nodes:
                raise OvnlabError(ENDED, where=name, hint=HINT)

    def _died(self, nodes: Mapping[str, RunningNode], *, started: bool) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}

        def look_at(name: str) -> None:
            wanted = self.topology.node(name)
            expected = expected_daemons(self.topology, wanted) if wanted else []
            if expected:
                with contextlib.suppress(OvnlabError):  # one that is silent is not one that has died
                    found[name] = vitals.died(nodes[name].context, name, expected, started=started)

        for_each([name for name in self.names if name in nodes], look_at)
        return {name: found[name] for name in sorted(found)}
