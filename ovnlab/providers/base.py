"""A provider and its optional capabilities. Nothing here knows how a node is made or reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ovnlab.nodes.node import RunningNode
from ovnlab.topology.resolved import Topology

SUSPENDED = "suspended"
"""What becomes of a node whose memory is on disk."""

DOES_NOT_ANSWER = "does not answer"
"""What becomes of a node that may be on and cannot be reached, where nobody knows more."""


class Provider(Protocol):
    """A provider of the machines of one lab."""

    def is_up(self) -> bool:
        """Return True if the lab holds any machine."""

    def running(self) -> frozenset[str]:
        """Return the names of the nodes that are there and answer."""

    def active(self) -> frozenset[str]:
        """Return the names of the nodes that are switched on, as far as that is known; they may not answer."""

    def defined_nodes(self) -> frozenset[str]:
        """Return the names of the nodes that there is anything of, whether they run or not."""

    def stopped_reasons(self, names: Collection[str]) -> Mapping[str, str]:
        """Return what became of nodes that do not run, such as `suspended`, where more is known of them than that."""

    def add(self, topology: Topology, names: Sequence[str]) -> None:
        """Make nodes of the topology, each ready to run commands, and tell all of them about one another.

        Begins the lab where it is not there.
        """

    def deliver(self, builds: Mapping[str, str]) -> None:
        """Let nodes see their builds of OVS and OVN, by the keys of those."""

    def stop(self, names: Sequence[str]) -> None:
        """End nodes, and leave what they wrote. What is just being made by `add` is not made any more."""

    def remove(self, names: Sequence[str]) -> None:
        """Remove nodes and all that they wrote, their logs excepted."""

    def destroy(self) -> None:
        """Remove the whole lab, from any state that it may be in."""

    def nodes(self) -> Mapping[str, RunningNode]:
        """Return the nodes that are there and alive, by name."""

    def node(self, name: str) -> RunningNode:
        """Return a node that is running."""

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return what is run to make the machines: titles and texts, in order."""


@runtime_checkable
class Suspends(Provider, Protocol):
    """A provider that can write the memory of nodes to disk, and go on from there."""

    def suspend(self) -> None:
        """Write the memory of all nodes to disk and end them, all at one moment."""

    def resume(self) -> list[str]:
        """Go on where `suspend` has stopped. Returns the names of the nodes that do."""


@runtime_checkable
class TakesSnapshots(Protocol):
    """A provider that can keep a lab as it is at one moment, memory included, under a name."""

    def save(self, snapshot: str) -> None:
        """Take a snapshot of all nodes. Raises OvnlabError if one does not run, or has one of that name."""

    def restore(self, snapshot: str) -> None:
        """Make all nodes what they were. Raises UsageError if not all of them have that snapshot."""

    def snapshots(self) -> Mapping[str, int]:
        """Return the snapshots that all nodes have, and when each was taken, in seconds since 1970."""

    def forget(self, snapshot: str) -> bool:
        """Remove a snapshot. Returns True if any node had it."""


@runtime_checkable
class ShapesLinks(Protocol):
    """A provider that can cut, slow and disturb the links of nodes."""

    def shape(self, topology: Topology) -> None:
        """Make all links what the topology and the lab's faults say, and the others ordinary ones."""

    def misshapen(self, topology: Topology) -> frozenset[tuple[str, str]]:
        """Return the node and device of each link that is otherwise, as far as that can be seen."""


@runtime_checkable
class HasConsoles(Protocol):
    """A provider whose nodes have serial consoles."""

    def console(self, name: str) -> list[str]:
        """Return the command that shows the console of a node."""


@runtime_checkable
class Keeps(Protocol):
    """A provider that keeps a lab as it was when it first was up, for the next `up` of the same after `down`."""

    @property
    def is_half_back(self) -> bool:
        """Return True if somebody was killed while a lab began as it was kept."""

    def keep(self, topology: Topology, builds: Mapping[str, str]) -> None:
        """Keep the lab as it is now."""

    def bring_back(self, topology: Topology, builds: Mapping[str, str]) -> bool:
        """Begin the lab as it was kept. Returns False if that cannot be done: then no node is there."""

    def discard(self) -> None:
        """Forget what is kept. What runs goes on."""


@runtime_checkable
class ForgetsHosts(Protocol):
    """A provider whose machines are not its own: they may be gone for good while the lab is still there."""

    def forget_hosts(self) -> list[str]:
        """Remove the lab with the machines that answer; return what stays on each of the others, in a sentence."""
