"""Shell scripts that run on a node in one round trip."""

from __future__ import annotations

import io
from collections.abc import Sequence

from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError, Timeout
from ovnlab.nodes.context import Context, Output, TimedOut

TIMEOUT = 60.0
TAIL = 12
"""Lines of output that an error shows."""


_WELL, _ILL = "ovnlab: that was it", "ovnlab: that failed"
"""What ends the output of one of several scripts."""


class _Whole(io.StringIO):
    """A script as standard input, read in one piece. invoke would ask for it byte by byte."""

    def read(self, size: int | None = None, /) -> str:
        del size
        return super().read()


def run_script(
    context: Context,
    script: str,
    *,
    where: str,
    timeout: float = TIMEOUT,
    output: Output | None = None,
    quick: bool = False,
) -> str:
    """Return what the script prints; `output` is given it as it comes.

    A `quick` script runs the same by whatever shell reads it.
    `where` names the node and the step in errors: CommandFailed with the end of what was printed, Timeout
    after `timeout` seconds, HostRequirementError where the disk is full.
    """
    try:
        result = context.run(
            "sh -s",
            in_stream=_Whole(f"{{\n{script}\n}}\n"),  # in braces: sh runs nothing of a script that is cut off
            hide=True,
            pty=False,
            warn=True,
            echo_stdin=False,
            timeout=timeout,
            **({"out_stream": output} if output else {}),
            **({"quick": True} if quick else {}),
        )
    except TimedOut as error:
        raise Timeout(f"gave up after {timeout:g} s", where=where, detail=tail(error.stderr)) from None
    assert result is not None  # noqa: S101  invoke returns None for a dry run only
    if result.exited:
        raise failure(where, result.exited, result.stderr)
    return result.stdout


def one_of(scripts: Sequence[str]) -> str:
    """Return one script that runs several one after the other, whatever becomes of each.

    It prints all at once: each line by itself would be a packet, and two processes that wake up for it.
    """
    parts = [
        # Not as a part of `&&`, where `set -e` of the script would mean nothing (POSIX, set).
        f"said=$(\n{script}\n)\n[ $? = 0 ] && end='{_WELL}' || end='{_ILL}'\nall=$all$said$newline$end$newline"
        for script in scripts
    ]
    return "\n".join(["all= newline='\n'", *parts, 'printf %s "$all"'])


def each_of(printed: str) -> list[str | None]:
    """Return what each of those scripts printed; None of one that failed."""
    found: list[str | None] = []
    lines: list[str] = []
    for line in printed.splitlines():
        if line in (_WELL, _ILL):
            found.append("\n".join(lines) if line == _WELL else None)
            lines = []
        else:
            lines.append(line)
    return found


def failure(where: str, exited: int, stderr: str) -> OvnlabError:
    """Return the error that a failed script means."""
    if "No space left on device" in stderr:
        return HostRequirementError("the disk is full", where=where, hint="make room there", detail=tail(stderr))
    said = [line.removeprefix("ovnlab: ") for line in stderr.splitlines() if line.startswith("ovnlab: ")]
    message = said[-1] if said else f"a command ended with exit code {exited}"
    return CommandFailed(message, where=where, exited=exited, detail=tail(stderr))


def tail(text: str) -> str:
    """Return the last lines of what a command printed, without our own summary."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("ovnlab: ")]
    return "\n".join(lines[-TAIL:])
