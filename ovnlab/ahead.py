"""Looks at a lab's nodes that are begun before it is known whether they are wanted, while the program is loaded.

A lab's folder keeps what would be run next to look at each node. It is begun at once; what then turns out to be wanted,
word by word, is taken, and what is not is ended.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Self

import msgspec

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
    """The looks that were begun, and those for the next time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "looks.json"
        self._begun: dict[Look, subprocess.Popen[bytes]] = {}
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
        for process in self._begun.values():
            process.kill()
            with process:  # what it printed is not waited for: an ssh that shares a connection gave its output away
                pass

    def begin(self, command: Sequence[str], script: str) -> subprocess.Popen[bytes]:
        """What runs that script, begun now if it was not. Raises OSError where that cannot be done."""
        look = Look(tuple(command), script)
        return self._begun.pop(look, None) or look.begin()

    def keep(self, looks: Iterable[Look]) -> None:
        """Begin these the next time."""
        wanted = msgspec.json.encode(list(looks))
        if wanted != self._kept:
            scratch = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            with contextlib.suppress(OSError):  # there is no lab any more, or no room
                scratch.write_bytes(wanted)
                scratch.replace(self._path)
