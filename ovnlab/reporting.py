"""Who is told how far things are."""

from __future__ import annotations

from typing import Protocol

from ovnlab.errors import OvnlabError


class Reporter(Protocol):
    """Is told what is being done."""

    def step(self, text: str) -> None:
        """What the whole lab is at."""

    def node(self, name: str, doing: str) -> None:
        """What one node is at; `done` where it has finished this step."""

    def note(self, text: str) -> None:
        """Something that the person should know and that is no error."""

    def secret(self, what: str) -> str:
        """What the person answers when asked for it, unseen. Raises OvnlabError where nobody can be asked."""
        hint = "run this on a terminal, or put it into OVNLAB_SSH_PASSWORD"
        raise OvnlabError(f"nobody can be asked for the {what}", hint=hint)
