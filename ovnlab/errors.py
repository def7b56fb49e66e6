"""Every error that ovnlab raises on purpose.

    OvnlabError                 1  something failed while it was being done
    ├── UsageError              2  the command line does not make sense
    ├── TopologyError           2  the file has mistakes; carries all of them
    ├── HostRequirementError       3  this machine lacks something
    ├── ChecksFailed            4  a check of the lab did not hold
    ├── CommandFailed           1  a command on a node failed; carries its result
    ├── LoginRefused            1  a machine does not let us in
    └── Timeout                 1  what was awaited did not come

The number is the exit code of the command line (DESIGN of the command line: docs/commands.md).
Only the command line exits; everything else raises one of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class OvnlabError(Exception):
    """An error with a message, a place and a hint.

    `message` is one sentence for the person at the keyboard, `where` a file:line, node, step or command,
    `hint` something that can be acted on, `detail` lines that explain it (the tail of a log).
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(OvnlabError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class Problem(msgspec.Struct, frozen=True, order=True):
    """A problem in a topology. Lines and columns count from 1; `option` names a --set that holds it."""

    line: int
    column: int
    message: str
    hint: str = ""
    option: str = ""

    def place(self, path: str) -> str:
        """Return `FILE:LINE:COL`, the form that editors make clickable, or the option that holds it."""
        return self.option or (f"{path}:{self.line}:{self.column}" if self.line else path)

    def located(self, path: str) -> str:
        """Return place, message and hint."""
        return f"{self.place(path)}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class TopologyError(OvnlabError):
    """A topology that cannot be accepted, with every mistake that was found in it."""

    exit_code = 2

    def __init__(self, path: str, mistakes: Sequence[Problem]) -> None:
        self.path = path
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__("\n".join(mistake.located(path) for mistake in self.mistakes))


class HostRequirementError(OvnlabError):
    """This machine lacks something; the hint is the command that mends it."""

    exit_code = 3


class ChecksFailed(OvnlabError):
    """The lab is there, and a check of it did not hold."""

    exit_code = 4


class CommandFailed(OvnlabError):
    """A command on a node ended with another exit code than 0."""

    def __init__(self, message: str, *, where: str, exited: int, detail: str = "", hint: str = "") -> None:
        super().__init__(message, where=where, detail=detail, hint=hint)
        self.exited = exited


class LoginRefused(OvnlabError):
    """A machine does not let us in with what we have."""


class Timeout(OvnlabError):
    """A deadline that passed before the awaited thing came."""
