"""A lab's processes, read from /proc (proc(5))."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

MAX_DEPTH = 6
"""How far below the lab's PID 1 a node's PID 1 can be."""


def children(pid: int) -> list[int]:
    """Return the children of a process, none where it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended, or is not ours to see
        return []


def arguments(pid: int) -> list[str]:
    """Return the command line of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:  # it has ended, or is not ours to see
        return []


def is_init(pid: int) -> bool:
    """Return True if a process is PID 1 of its own PID namespace, and alive."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended, or is not ours to see
        return False
    fields = dict(line.partition(":")[::2] for line in status.splitlines())
    return fields["NSpid"].split()[-1] == "1" and fields["State"].split()[0] not in "ZX"


def node_inits(lab_init: int, script: str) -> Iterator[tuple[str, int]]:
    """Yield the nodes of a lab: each name, and its PID 1 as this machine numbers it.

    A node's PID 1 runs `sh SCRIPT NAME …`.
    """
    level = children(lab_init)
    for _ in range(MAX_DEPTH):
        below: list[int] = []
        for pid in level:
            argv = arguments(pid)
            if argv[1:2] == [script] and is_init(pid):
                yield argv[2], pid
            else:
                below.extend(children(pid))
        level = below


def find(script: str) -> list[int]:
    """Return the processes of this machine that run `sh SCRIPT` as PID 1 of their PID namespace."""
    return [pid for pid in _all() if arguments(pid)[1:2] == [script] and is_init(pid)]


def starters(script: str) -> list[int]:
    """Return the processes of this machine that have started `sh SCRIPT` in namespaces of its own, and wait for its
    end.
    """
    return [pid for pid in _all() if (argv := arguments(pid))[:1] == ["unshare"] and argv[-2:] == ["sh", script]]


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def kill(pid: int) -> None:
    """End a process with SIGKILL; that it has ended already is as good."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
