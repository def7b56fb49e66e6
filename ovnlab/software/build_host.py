"""Build hosts: where OVS and OVN are compiled, on this machine or on a node."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ovnlab.software import packages, toolchain

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

Report = Callable[[str], None]


class BuildHost(Protocol):
    """A place with a compiler. Trees have the same contents here and there, by places that it says."""

    @property
    def name(self) -> str:
        """Return the node that it is, empty for this machine."""

    @property
    def context(self) -> Context:
        """Return the context that tasks run in."""

    @property
    def kind(self) -> tuple[str, ...]:
        """Return what of it goes into what is built there: distribution, architecture, compiler."""

    @property
    def jobs(self) -> int:
        """Return how many compilers it runs at once."""

    def place(self, path: Path) -> Path:
        """Return where something of this machine is there."""

    def has(self, tree: Path) -> bool:
        """Return True if a tree is there."""

    def send(self, tree: Path, *, afresh: bool) -> None:
        """Make a tree there what it is here; `afresh` without what an earlier one has left."""

    def fetch(self, stage: Path) -> None:
        """Bring what was installed there."""


class LocalBuildHost:
    """This machine, with its own compiler or an unpacked one."""

    name = ""

    def __init__(self, temporary: Path, report: Report) -> None:
        self.temporary = temporary
        self.report = report

    @cached_property
    def _tools(self) -> tuple[Context, str]:
        self.temporary.mkdir(parents=True, exist_ok=True)
        return toolchain.obtain(self.temporary, self.report)

    @property
    def context(self) -> Context:
        """Return a context in namespaces that end with ovnlab."""
        return self._tools[0]

    @property
    def kind(self) -> tuple[str, ...]:
        """Return distribution, architecture and compiler."""
        return (packages.distribution(), platform.machine(), self._tools[1])

    @property
    def jobs(self) -> int:
        """Return the number of processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def place(self, path: Path) -> Path:
        """Return the tree itself."""
        return path

    def has(self, tree: Path) -> bool:
        """Return True if it is there."""
        return tree.exists()

    def send(self, tree: Path, *, afresh: bool) -> None:
        """Do nothing: the files are on this machine."""

    def fetch(self, stage: Path) -> None:
        """Do nothing: the result is on this machine."""
