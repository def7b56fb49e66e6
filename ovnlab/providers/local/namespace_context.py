"""A context whose commands run inside the namespaces of a process."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from ovnlab.nodes.context import ProcessContext

PATH = "/opt/ovnlab/current/sbin:/opt/ovnlab/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment() -> dict[str, str]:
    """Return what a command in a node gets of this machine's environment: its terminal and language, no more."""
    kept = {key: value for key, value in os.environ.items() if key in ("TERM", "LANG", "LC_ALL", "COLORTERM")}
    return {"PATH": PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", **kept}


def enter(pid: int, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in all namespaces of a process, as root there."""
    entered = [*_user(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--wdns=/"]
    variables = [f"{key}={value}" for key, value in environment().items()]
    return ["nsenter", f"--target={pid}", *entered, "--", "env", "-i", *variables, *argv]


def _user(pid: int) -> list[str]:
    """Return the options that enter a process' user namespace: none where it has that of this process."""
    if os.geteuid() != 0:
        return ["--user", "--preserve-credentials"]  # there are no others that it could take on
    try:
        same = Path(f"/proc/{pid}/ns/user").readlink() == Path("/proc/self/ns/user").readlink()
    except OSError:  # it has ended, which nsenter will say
        same = True
    return [] if same else ["--user"]


def context_in(pid: int) -> ProcessContext:
    """Return what runs commands in the namespaces of a process."""
    return ProcessContext(functools.partial(enter, pid))
