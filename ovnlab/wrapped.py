"""An invoke Context whose commands another command runs: one that enters namespaces, or makes some."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invoke.config import Config
from invoke.context import Context
from invoke.runners import Local

Wrap = Callable[[Sequence[str]], Sequence[str]]


def shell_words(command: str) -> list[str]:
    """What runs a shell command. A shell that only starts a shell would cost 25 ms on an emulated machine."""
    return ["sh", "-s"] if command == "sh -s" else ["sh", "-c", command]


class WrappedRunner(Local):
    """Runs commands as invoke's Local does, wrapped as the context says."""

    input_sleep = 0.001

    def start(self, command: str, shell: str, env: dict[str, Any]) -> None:
        """Start the command in a session of its own: a Ctrl-C here is for ovnlab to handle."""
        del shell, env
        self.process = subprocess.Popen(
            self.context.wrap(shell_words(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=self.context.environment,
            cwd="/",
        )

    def stop(self) -> None:
        """Close what the command was talked to by; invoke leaves that to chance. Who still reads needs it open."""
        super().stop()
        if not hasattr(self, "process"):  # interrupted before it was there
            return
        if not any(thread.is_alive() for thread in getattr(self, "threads", {}).values()):
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not written any more
                        stream.close()

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


class WrappedContext(Context):
    """Runs commands by what `wrap` makes of them, in an environment, this process' own where none is given."""

    def __init__(self, wrap: Wrap, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(Config(overrides={"runners": {"local": WrappedRunner}}, lazy=True))
        self._set(wrap=wrap, environment=environment)
