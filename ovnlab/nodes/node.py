"""A node that runs: a name, and a way to run commands on it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ovnlab.errors import OvnlabError

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

ENDED = "the node ended while ovnlab was working on it"


class RunningNode(Protocol):
    """A machine of a running lab: a name and a way to run things on it."""

    @property
    def name(self) -> str:
        """Return what the topology calls it."""

    @property
    def context(self) -> Context:
        """Return where tasks run: `context.run(command)` runs on the node, as root."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command to run here, on this machine, so that `argv` runs on the node."""

    def connect(self, path: str) -> socket.socket | None:
        """Return a connection to a UNIX socket of the node, None where it cannot be had from here."""


class RunningNodes(dict[str, RunningNode]):
    """Nodes that run, by name. Raises OvnlabError for another one: who asks for it has just seen it run."""

    def __missing__(self, name: str) -> RunningNode:
        raise OvnlabError(ENDED, where=name, hint="`ovnlab up` starts it again")
