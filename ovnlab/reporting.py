"""Who is told how far things are."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Is told what is being done."""

    def step(self, text: str) -> None:
        """What the whole lab is at."""

    def node(self, name: str, doing: str) -> None:
        """What one node is at; `done` where it has finished this step."""

    def note(self, text: str) -> None:
        """Something that the person should know and that is no error."""
