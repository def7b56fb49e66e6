"""A context: where the commands of a task run.

A node that is reached by SSH has a Fabric Connection. Everything that a local process can run has a ProcessContext,
which has the part of invoke's `Context.run` that ovnlab uses, and none of the 90 ms that invoke takes to import.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

import msgspec

from ovnlab.interruption import check
from ovnlab.parallel import is_given_up
from ovnlab.waiting import CLOCK

GIVE_UP_AFTER = 0.2
"""Seconds after which a command that nobody waits for any more is ended, at most."""

Wrap = Callable[[Sequence[str]], Sequence[str]]
"""Returns the command that runs a command elsewhere: one that enters namespaces, or ssh."""

CHUNK = 1 << 16
"""Bytes that are read at once of what a command prints."""


class Result(Protocol):
    """The result of a command, as invoke's Result has it."""

    @property
    def stdout(self) -> str:
        """Return all that was printed to stdout."""

    @property
    def stderr(self) -> str:
        """Return all that was printed to stderr."""

    @property
    def exited(self) -> int:
        """Return the exit code of the command."""


class Context(Protocol):
    """A place to run commands: `run` takes what invoke's `Context.run` does."""

    def run(self, command: str, **options: Any) -> Result | None:
        """Run a shell command and return what came of it. Raises TimedOut."""


class Output(Protocol):
    """A sink for what a script prints, as it comes."""

    def write(self, text: str) -> object:
        """Write a part of the output."""

    def flush(self) -> object:
        """Return nothing more comes for now."""


class TimedOut(Exception):
    """A command that did not end in time, and what it had printed to its standard error."""

    def __init__(self, stderr: str) -> None:
        super().__init__("a command did not end in time")
        self.stderr = stderr


class Ended(msgspec.Struct, frozen=True):
    """The result of a command that has ended."""

    stdout: str
    stderr: str
    exited: int


def shell_words(command: str) -> list[str]:
    """Return what runs a shell command. A shell that only starts a shell costs 25 ms on an emulated machine."""
    return ["sh", "-s"] if command == "sh -s" else ["sh", "-c", command]


class ProcessContext:
    """A context that runs commands as `wrap` makes them, in an environment, by default that of this process."""

    def __init__(self, wrap: Wrap, environment: Mapping[str, str] | None = None) -> None:
        self.wrap = wrap
        self.environment = environment

    def run(
        self,
        command: str,
        *,
        in_stream: IO[str] | bool | None = None,
        out_stream: Output | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Ended:
        """Run a shell command and return what came of it; `out_stream` is given its output as it comes.

        Its standard input is all of `in_stream`. It has a session of its own: a Ctrl-C is for ovnlab to handle. When
        this is interrupted, and after `timeout` seconds, the command and all of its session is killed. Raises TimedOut.
        Other options of invoke's `run` do not apply: nothing is echoed, and an exit code raises nothing.
        """
        check()
        words = self.wrap(shell_words(command))
        with os.fdopen(os.memfd_create("stdin"), "w+b") as stdin:
            stdin.write(in_stream.read().encode() if in_stream and not isinstance(in_stream, bool) else b"")
            stdin.seek(0)
            process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=self.environment,
                cwd="/",
            )
        try:
            return _finish(process, out_stream, timeout)
        except BaseException:
            _kill(process)
            raise
        finally:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _finish(process: subprocess.Popen[bytes], output: Output | None, timeout: float | None) -> Ended:
    """Read what a process prints until it has ended. Raises TimedOut."""
    deadline = None if timeout is None else CLOCK.monotonic() + timeout
    printed: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with selectors.DefaultSelector() as selector:
        for stream in printed:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = None if deadline is None else deadline - CLOCK.monotonic()
            if left is not None and left <= 0:
                raise TimedOut(printed[process.stderr].decode(errors="replace"))
            check()
            if is_given_up():
                raise TimedOut(printed[process.stderr].decode(errors="replace"))
            for key, _ in selector.select(GIVE_UP_AFTER if left is None else min(left, GIVE_UP_AFTER)):
                part = os.read(key.fd, CHUNK)
                printed[key.fileobj] += part
                if output is not None and key.fileobj is process.stdout:
                    output.write(decoder.decode(part, final=not part))
                    output.flush()
                if not part:
                    selector.unregister(key.fileobj)
    try:
        exited = process.wait(None if deadline is None else max(0.1, deadline - CLOCK.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimedOut(printed[process.stderr].decode(errors="replace")) from None
    out, err = (part.decode(errors="replace") for part in printed.values())
    return Ended(out, err, exited)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
