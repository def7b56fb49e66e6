"""Standard input, output and error as a command finds them: closed, full, or read by nobody any more."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path

    from ovnlab.errors import OvnlabError


NOBODY_READS = 141
"""The exit code of a program whose output nobody reads (128 + SIGPIPE)."""

FULL = (errno.ENOSPC, errno.EDQUOT)
EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def open_closed() -> None:
    """Put /dev/null in the place of each standard stream that is closed, as cron jobs and supervisors leave them.

    Otherwise Python has None there, and the next file that is opened gets its number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False, encoding="utf-8"))  # noqa: SIM115


def say(text: str, *, end: str = "\n") -> None:
    """Write a line to stderr. If it cannot be written, the work goes on."""
    try:
        sys.stderr.write(f"{text}{end}")
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)  # Python would try once more when it ends, and change the exit code


def write(text: str) -> None:
    """Write to stdout. Raises OutputError where it takes nothing, or nobody reads it."""
    with _writing():
        sys.stdout.write(text)


def flush() -> None:
    """Let what was written leave. Raises as `write` does."""
    with _writing():
        sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error) from None


def sent(command: Callable[[], int | None]) -> int:
    """Return the exit code of a command when its output has left, or what it means that it cannot."""
    try:
        code = command() or 0
        flush()
    except OutputError as error:
        problem = error.problem
    except OSError as error:
        if not is_of_output(error):
            raise
        problem = error
    else:
        return code
    discard(sys.stdout)
    if problem.errno == errno.EPIPE:
        return NOBODY_READS
    say(f"ovnlab: standard output: cannot be written: {problem.strerror}")
    return 1


def is_of_output(error: OSError) -> bool:
    """Return True for an error of what click prints."""
    import traceback  # noqa: PLC0415  5 ms that only errors are worth

    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "echo" and frame.f_globals["__name__"] == "click.utils" for frame, _ in frames)


def discard(stream: TextIO) -> None:
    """Let a stream's output go nowhere from now on, also what is still buffered."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class OutputError(Exception):
    """Standard output takes nothing: its disk is full, or its other end is gone."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(str(problem))
        self.problem = problem


def described(error: OSError, *, state: Path, cache: Path) -> OvnlabError:
    """Return what an error of the system means, and where it came from as far as that can be told."""
    from pathlib import Path  # noqa: PLC0415  --version needs none of these
    from tempfile import gettempdir  # noqa: PLC0415

    from ovnlab.errors import HostRequirementError, OvnlabError  # noqa: PLC0415

    if error.filename is not None:
        return _of_file(error, Path(os.fsdecode(error.filename)), (state, cache))
    if error.errno in FULL:
        place = next((str(path) for path in (state, cache, Path(gettempdir())) if _is_full(path)), "")
        there = "there" if place else f"where {state} and {cache} are, and in {gettempdir()}"
        return HostRequirementError("the disk is full", where=place, hint=f"make room {there}")
    if error.errno == errno.ENOENT and not _has_folder():
        return HostRequirementError("the current folder was removed", hint="cd to one that is there")
    if error.errno in EXHAUSTED:
        hint = "end other programs, or raise the limit (ulimit -a shows them)"
        return HostRequirementError(f"the system refuses more: {error.strerror}", hint=hint)
    return OvnlabError(f"a system call failed: {error.strerror or error}", hint="OVNLAB_TRACEBACK=1 shows which")


def _of_file(error: OSError, path: Path, own: tuple[Path, ...]) -> OvnlabError:
    from ovnlab.errors import HostRequirementError  # noqa: PLC0415

    where = str(path)
    if error.errno in FULL:
        return HostRequirementError("the disk is full", where=where, hint="make room there")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        others = ", or set XDG_STATE_HOME and XDG_CACHE_HOME" if any(path.is_relative_to(root) for root in own) else ""
        hint = f"make it writable for user {os.geteuid()}{others}"
        return HostRequirementError(f"cannot be written: {error.strerror}", where=where, hint=hint)
    return HostRequirementError(f"cannot be used: {error.strerror}", where=where)


def _is_full(path: Path) -> bool:
    """Return True if there is no room for a file where a path is, or would be."""
    there = next(folder for folder in (path, *path.parents) if folder.is_dir())
    try:
        found = os.statvfs(there)
        return found.f_bavail * found.f_frsize < 2**20 or found.f_favail == 0 < found.f_files
    except OSError:
        return False


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109  Path.cwd() is the same
    except FileNotFoundError:
        return False
