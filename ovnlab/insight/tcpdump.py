"""Packets as they pass: tcpdump on devices of nodes and fake VMs, started at once and read together."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Self

from ovnlab.errors import CommandFailed, OvnlabError, Timeout, UsageError
from ovnlab.insight.pcap import pcap
from ovnlab.parallel import for_each
from ovnlab.tasks.script import tail
from ovnlab.templating import render

LISTEN_TIMEOUT = 15.0
"""Seconds that tcpdump may take to be there."""

END_TIMEOUT = 5.0
"""Seconds that it may take to end."""

SNAPSHOT = 262144
"""Bytes of a packet that are kept, tcpdump's own choice."""


@dataclass(frozen=True)
class CapturePoint:
    """A device that is listened on: what people call the place, and the command that runs `argv` there."""

    name: str
    device: str
    command: Callable[[Sequence[str]], Sequence[str]] = field(compare=False)
    node: str = ""

    @property
    def title(self) -> str:
        """Return the place and its device, as in `worker1:eth1`."""
        return self.name if self.name == self.device else f"{self.name}:{self.device or 'tunnels'}"


@dataclass(frozen=True)
class CapturedPacket:
    """A frame: where, when (nanoseconds since 1970), its bytes, and how long it was on the wire."""

    place: CapturePoint
    time: int
    data: bytes
    length: int


class Capture:
    """A running tcpdump. It ends with this program: it goes on as long as its input is open."""

    def __init__(
        self, place: CapturePoint, filters: str, *, snapshot: int = SNAPSHOT, into: IO[bytes] | None = None
    ) -> None:
        self.place = place
        script = render("node/capture-packets.sh.j2")
        self._process = subprocess.Popen(
            list(place.command(["sh", "-c", script, "sh", place.device, filters, str(snapshot)])),
            stdin=subprocess.PIPE,
            stdout=into if into is not None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for ovnlab, which ends it
        )
        self._said: list[str] = []
        self._listening = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for raw in self._process.stderr or ():
            text = raw.decode(errors="replace").strip()
            self._said.append(text)
            if "listening on" in text:
                self._listening.set()
        self._listening.set()

    def await_listening(self) -> None:
        """Return when packets are seen. Raises CommandFailed with what tcpdump says, or Timeout."""
        if not self._listening.wait(LISTEN_TIMEOUT):
            raise Timeout(f"waited {LISTEN_TIMEOUT:g} s for tcpdump", where=self.place.title)
        if not any("listening on" in line for line in self._said):
            self._process.wait()
            raise self._failure()

    def _failure(self) -> OvnlabError:
        said = [line.removeprefix("ovnlab: ").removeprefix("tcpdump: ") for line in self._said]
        message = next((line for line in reversed(said) if line), f"exit code {self._process.returncode}")
        hint = "install tcpdump there" if self._process.returncode in (3, 127) else ""
        return CommandFailed(
            f"{NOTHING}: {message}",
            where=self.place.title,
            exited=self._process.returncode,
            detail=tail("\n".join(self._said[:-1])),
            hint=hint,
        )

    def packets(self) -> Iterator[CapturedPacket]:
        """Yield what is seen, as it comes, until the capture ends."""
        if self._process.stdout is not None:
            for time, data, length in pcap(self._process.stdout):
                yield CapturedPacket(self.place, time, data, length)

    def is_running(self) -> bool:
        """Return True if it goes on."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it; what was seen can still be read."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def close(self) -> None:
        """End it, and wait until it has."""
        self.end()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # tcpdump too: whoever reads what it writes would wait for it
            self._process.wait()
        self._listener.join(END_TIMEOUT)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def lost(self) -> int:
        """Return packets that the kernel had no room for, which tcpdump tells when it ends."""
        found = [line.split()[0] for line in self._said if "dropped by kernel" in line]
        return int(found[-1]) if found and found[-1].isdigit() else 0


NOTHING = "nothing can be captured"

FILTER_ERRORS = ("filter expression", "syntax error", "unknown host", "parse error")
"""What tcpdump says of a filter that it cannot read."""


class Captures:
    """Several of them, all listening once it is entered, and gone when it is left.

    With `tolerant`, those that cannot listen are told in `problems`, by their number, and are no error.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[CapturePoint, str]],
        *,
        snapshot: int = SNAPSHOT,
        into: Sequence[IO[bytes]] = (),
        tolerant: bool = False,
    ) -> None:
        self._wanted, self._snapshot, self._into, self._tolerant = wanted, snapshot, into, tolerant
        self.taps: list[Capture] = []
        self.problems: dict[int, str] = {}
        self._errors: dict[int, OvnlabError] = {}

    def __enter__(self) -> Self:
        try:
            for (place, filters), file in itertools.zip_longest(self._wanted, self._into):
                self.taps.append(Capture(place, filters, snapshot=self._snapshot, into=file))
            for_each(range(len(self.taps)), self._await)
            if self._errors:
                raise self._failure()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _await(self, number: int) -> None:
        try:
            self.taps[number].await_listening()
        except OvnlabError as error:
            if not self._tolerant:
                self._errors[number] = error
            self.problems[number] = error.message

    def _failure(self) -> OvnlabError:
        """Return the first error. What is wrong with the filter is told once, not for each place."""
        number = min(self._errors)
        error = self._errors[number]
        if any(text in error.message for text in FILTER_ERRORS):
            filters = min((word for _, word in self._wanted if word), key=len, default="")
            filters = re.sub(r"^\((.*)\) or \(udp port \d+ and \w+ and \(\1\)\)$", r"\1", filters)
            message = error.message.removeprefix(f"{NOTHING}: ").removeprefix("can't parse filter expression: ")
            return UsageError(f"invalid filter {filters!r}: {message}", hint="expected an expression of pcap-filter(7)")
        others = [self._wanted[other][0].title for other in sorted(self._errors) if other != number]
        if others:
            error.detail = f"{error.detail}\nand also at {', '.join(others)}".strip()
        return error

    def close(self) -> None:
        """End all of them, and wait until they have."""
        self.end()
        for tap in self.taps:
            tap.close()

    def end(self) -> None:
        """End all of them; what was seen can still be read."""
        for tap in self.taps:
            tap.end()
