"""An invoke Context whose commands run inside the namespaces of a process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from invoke.config import Config
from invoke.context import Context
from invoke.runners import Local

PATH = "/opt/ovnlab/current/sbin:/opt/ovnlab/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment() -> dict[str, str]:
    """What a command in a node gets of this machine's environment: its terminal and language, no more."""
    kept = {key: value for key, value in os.environ.items() if key in ("TERM", "LANG", "LC_ALL", "COLORTERM")}
    return {"PATH": PATH, "HOME": os.environ.get("HOME", "/"), "USER": "root", "LOGNAME": "root", **kept}


def enter(pid: int, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in all namespaces of a process, as root there."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    entered = ["--mount", "--uts", "--ipc", "--net", "--pid", "--wdns=/"]
    variables = [f"{key}={value}" for key, value in environment().items()]
    return ["nsenter", f"--target={pid}", *user, *entered, "--", "env", "-i", *variables, *argv]


class NamespaceRunner(Local):
    """Runs commands as invoke's Local does, but inside the namespaces that the context names."""

    input_sleep = 0.001

    def start(self, command: str, shell: str, env: dict[str, Any]) -> None:
        """Start the command in a session of its own: a Ctrl-C here is for ovnlab to handle."""
        del shell, env
        self.process = subprocess.Popen(
            enter(self.context.pid, ["sh", "-c", command]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def send_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        """End the command: an interrupt is for ovnlab, and the command has no terminal to be told by."""
        self.kill()
        raise interrupt

    def kill(self) -> None:
        """End the command and all that it started in its session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class NamespaceContext(Context):
    """Runs commands in the namespaces of process `pid`."""

    def __init__(self, pid: int) -> None:
        super().__init__(Config(overrides={"runners": {"local": NamespaceRunner}}, lazy=True))
        self._set(pid=pid)
