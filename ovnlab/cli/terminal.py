"""Programs that have the terminal to themselves; it is restored however they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
"""Signals of the keyboard that the program gets itself."""


def run_with_terminal(command: Sequence[str], *, suspends: bool = False) -> int:
    """Run an interactive program and return its exit code.

    A shell turns echo and line editing off. One that is killed with its lab would leave the terminal so. A program that
    `suspends` stops on Ctrl-Z, as editors do, and this process with it.
    """
    if not sys.stdin.isatty():
        return subprocess.run(list(command), check=False).returncode
    import termios  # noqa: PLC0415  for a shell only

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    # Handlers that do nothing: unlike SIG_IGN, they are not inherited by the program.
    handlers = {number: signal.signal(number, lambda *_: None) for number in PASSED_ON}
    if suspends:
        signal.signal(signal.SIGTSTP, handlers.pop(signal.SIGTSTP))
    try:
        with subprocess.Popen(list(command)) as process:
            code = process.wait()
    finally:
        background = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # until the terminal is ours again
        os.tcsetpgrp(terminal, os.getpgrp())
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTTOU, background)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code
