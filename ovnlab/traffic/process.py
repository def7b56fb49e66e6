"""A running agent: the program of agent.py on a node or in a fake VM, and its events so far."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ovnlab.errors import CommandFailed, OvnlabError
from ovnlab.nodes.target import Target
from ovnlab.tasks.script import tail
from ovnlab.traffic import agent
from ovnlab.traffic.agent import CLOCK as CLOCK_EVENT
from ovnlab.traffic.agent import EVENT, PORT
from ovnlab.waiting import now_ns, wait_until

BEGIN_TIMEOUT = 30.0
"""Seconds that an agent may take to start, and to answer."""

END_TIMEOUT = 6.0
"""Seconds that an agent may take to end: it waits for the last answers."""

SAID_TIMEOUT = 1.0
"""Seconds that what an agent said may take to be read when it has ended."""

QUESTIONS = 3
"""How often an agent is asked for the time: the quickest answer is the best."""


class Agent:
    """An agent that runs at an end. It ends when this program does."""

    def __init__(self, end: Target, **asked: Any) -> None:
        self.end = end
        self.offset = 0
        """What is added to its times to make them times of this machine."""
        asked = {"device": end.interface if end.is_vlan else "", **asked}
        program = Path(agent.__file__).read_text(encoding="utf-8")
        argv = ["python3", "-IS", "-c", program, json.dumps(asked)]
        self._process = subprocess.Popen(
            end.command(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for ovnlab, which ends it
        )
        self._received = bytearray()
        self._said = bytearray()
        self._read = 0
        readers = ((self._process.stdout, self._received), (self._process.stderr, self._said))
        self._readers = [threading.Thread(target=_take, args=reader, daemon=True) for reader in readers]
        for reader in self._readers:
            reader.start()

    def events(self) -> Iterator[tuple[int, int, int]]:
        """Return the events that were not returned yet: kind, number, and time of this machine."""
        whole = len(self._received) // EVENT.size * EVENT.size
        part = bytes(self._received[self._read : whole])
        self._read = whole
        for kind, number, when in EVENT.iter_unpack(part):
            yield kind, number, when + self.offset

    def await_port(self) -> int:
        """Return the port that it listens on."""
        return self._await(
            "the port of an agent", lambda: next((n for kind, n, _ in self.events() if kind == PORT), None)
        )

    def synchronise(self) -> None:
        """Find out what its clock is ahead or behind, as far as that is more than asking takes. It is running then."""
        measured = []
        for _ in range(QUESTIONS):
            asked = now_ns()
            self._tell(b"t")
            theirs = self._await(
                "an agent", lambda: next((t for kind, _, t in self.events() if kind == CLOCK_EVENT), None)
            )
            measured.append((now_ns() - asked, (asked + now_ns()) // 2 - theirs))
        took, offset = min(measured)
        self.offset = offset if abs(offset) > took else 0

    def _await(self, what: str, look: Callable[[], int | None]) -> int:
        def ask() -> int | None:
            found = look()
            if found is None and self._process.poll() is not None:
                self._join()
                found = look()
                if found is None:
                    raise self.failure()
            return found

        return wait_until(f"{what} at {self.end.name}", ask, timeout=BEGIN_TIMEOUT)

    def begin(self) -> None:
        """Have it send."""
        self._tell(b"g")

    def _tell(self, letter: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write(letter)
                self._process.stdin.flush()

    @property
    def has_ended(self) -> bool:
        """Return True if it does not run any more."""
        return self._process.poll() is not None

    def failure(self) -> OvnlabError:
        """Return what it said is wrong; it has ended."""
        for reader in self._readers:  # what it said last may not be read yet
            reader.join(SAID_TIMEOUT)
        lines = self._said.decode(errors="replace").strip().splitlines()
        message = lines[-1].removeprefix("ovnlab: ") if lines else "it ended"
        missing = "python3" in message and self._process.returncode == 127
        return CommandFailed(
            f"no traffic from here: {message}",
            where=self.end.name,
            exited=self._process.returncode or 0,
            detail=tail("\n".join(lines[:-1])),
            hint=f"install python3 on {self.end.node.name}" if missing else "",
        )

    def stop(self) -> None:
        """Have it end; what it still tells can be read after `close`."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def close(self) -> None:
        """End it, and wait until it has."""
        self.stop()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(END_TIMEOUT)


def _take(stream: Any, into: bytearray) -> None:
    """Read a stream to its end."""
    with contextlib.suppress(OSError, ValueError):
        while part := os.read(stream.fileno(), 1 << 16):
            into += part
