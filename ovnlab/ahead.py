"""Looks at a lab's nodes that are begun before it is known whether they are wanted, while the program is loaded.

A lab's folder keeps what was run last to look at each node. It is begun at once; what then turns out to be wanted, word
by word, is taken, and what is not is ended.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Self

import msgspec

from ovnlab.writing import write_whole

MOST = 8
"""Looks that are begun ahead at once."""


class Look(msgspec.Struct, frozen=True):
    """A command, and the script that is its standard input."""

    command: tuple[str, ...]
    script: str

    def begin(self) -> subprocess.Popen[bytes]:
        """Run it in the background. Raises OSError where that cannot be done."""
        with os.fdopen(os.memfd_create("script"), "w+b") as file:
            file.write(self.script.encode())
            file.seek(0)
            return subprocess.Popen(self.command, stdin=file, stdout=PIPE, stderr=PIPE, cwd="/")


class Ahead:
    """The looks that were begun, and in `ran` those that can be begun the next time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "looks.json"
        self._begun: dict[Look, subprocess.Popen[bytes]] = {}
        self.ran: list[Look] = []
        self._kept = b""
        with contextlib.suppress(OSError):
            self._kept = self._path.read_bytes()

    def __enter__(self) -> Self:
        """Begin what is kept."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            for look in msgspec.json.decode(self._kept, type=tuple[Look, ...])[:MOST]:
                self._begun[look] = look.begin()
        return self

    def __exit__(self, *_: object) -> None:
        while self._begun:
            process = self._begun.popitem()[1]
            process.kill()
            with process:  # what it printed is not waited for: an ssh that shares a connection gave its output away
                pass

    def begin(self, command: Sequence[str], script: str, *, again: bool) -> subprocess.Popen[bytes]:
        """What runs that script, begun now if it was not; `again` if it can be begun ahead the next time.

        Raises OSError where that cannot be done.
        """
        look = Look(tuple(command), script)
        if again:
            self.ran.append(look)
        return self._begun.pop(look, None) or look.begin()

    def keep(self, looks: Collection[Look]) -> None:
        """Begin these the next time, and no others."""
        wanted = msgspec.json.encode(sorted(looks, key=lambda look: look.command))
        if wanted != self._kept:
            with contextlib.suppress(OSError):  # there is no lab any more, or no room
                write_whole(self._path, wanted)
