"""A command line of ovnlab that runs: a fork of a server that has ovnlab loaded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.lab import forkserver


class Command:
    """A process with the members of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, end: socket.socket, stdout: int | None, stderr: int | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._end = end
        self.stdout: IO[str] | None = None if stdout is None else os.fdopen(stdout)
        self.stderr: IO[str] | None = None if stderr is None else os.fdopen(stderr)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code: minus the number of the signal that it was killed by, if it was."""
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                said = self._end.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            self._end.close()
            assert said, f"the server that forks died while process {self.pid} ran"
            self.returncode = int(said)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their ends, wait, and return what was read.

        Raises subprocess.TimeoutExpired when that takes too long. The process is killed then, and stderr has the stacks
        of its threads.
        """
        read: dict[int, str] = {}
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        threads = [
            threading.Thread(target=lambda at=at, stream=stream: read.update({at: _rest(stream)}), daemon=True)
            for at, stream in enumerate(streams)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
            if thread.is_alive():
                self._dump()
                for other in threads:
                    other.join(5)
                shown = f"process {self.pid}, which said {read.get(0)!r} and {read.get(1)!r},"
                raise subprocess.TimeoutExpired(shown, timeout or 0, read.get(0), read.get(1))
        self.wait(timeout)
        return read.get(0, ""), read.get(1, "")

    def _dump(self) -> None:
        """Let the process write the stacks of its threads, and kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, forkserver.DUMP)
            time.sleep(1)  # nothing shows that it has written them
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(5)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _rest(stream: IO[str]) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


class Server:
    """Python of one account that forks for each command line."""

    def __init__(self, prefix: Sequence[str], python: str, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, forkserver.LARGEST)
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, python, "-c", Path(forkserver.__file__).read_text(), str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env={**environment}, cwd="/",
            )  # fmt: skip

    def close(self) -> None:
        """End the server; what it has forked goes on."""
        self._socket.close()
        self._process.wait(timeout=20)

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: Sequence[int],
        *,
        session: bool,
    ) -> Command:
        """Begin a command line with these three descriptors as its streams. Its pipes are for the caller to give it."""
        asked = {"words": words, "environment": environment, "folder": str(folder), "session": session}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [json.dumps(asked).encode()], [*streams, theirs.fileno()])
        said = ours.recv(64)
        if not said:
            ours.close()
            raise RuntimeError("the server that forks for commands has died")
        return Command(int(said), ours, None, None)

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], folder: Path, *, stdin: int, session: bool
    ) -> Command:
        """Begin a command line with pipes for what it prints."""
        out, its_out = os.pipe()
        err, its_err = os.pipe()
        try:
            command = self.run(words, environment, folder, [stdin, its_out, its_err], session=session)
        finally:
            os.close(its_out)
            os.close(its_err)
        command.stdout, command.stderr = os.fdopen(out), os.fdopen(err)
        return command
