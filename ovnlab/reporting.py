"""The interface for progress reports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from ovnlab.errors import OvnlabError
from ovnlab.waiting import reported


class Reporter(Protocol):
    """A receiver of progress reports."""

    def step(self, text: str) -> None:
        """Report what the whole lab is doing."""

    def node(self, name: str, doing: str) -> None:
        """Report what one node is doing; `done` where it has finished this step."""

    def note(self, text: str) -> None:
        """Report something that the person should know and that is not an error."""

    def secret(self, what: str) -> str:
        """Return what the person answers when asked for it, unseen. Raises OvnlabError where nobody can be asked."""
        hint = "run this on a terminal, or put it into OVNLAB_SSH_PASSWORD"
        raise OvnlabError(f"nobody can be asked for the {what}", hint=hint)


class SilentReporter(Reporter):
    """A reporter that reports nothing."""

    def step(self, text: str) -> None:
        """Ignore the step."""

    def node(self, name: str, doing: str) -> None:
        """Ignore the node's progress."""

    def note(self, text: str) -> None:
        """Ignore the note."""


def slowly(reporter: Reporter, what: Callable[[], str] | str) -> contextlib.AbstractContextManager[None]:
    """Note what is awaited, and for how long so far, whenever the body of a `with` takes more than some seconds."""

    def tell(seconds: float) -> None:
        reporter.note(f"{what if isinstance(what, str) else what()} ({seconds:.0f} s so far)")

    return reported(tell)
