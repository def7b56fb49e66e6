"""Interruptions: a Ctrl-C or SIGTERM is an exception, and a flag that is looked at.

Python drops an exception that a signal handler raises while a finalizer or the callback of a weak reference runs. That
of the lock with which modules are imported is one: of 150 commands that were interrupted at random, 2 went on to their
end. So whoever begins a step or waits calls `check`, which raises what was dropped.
"""

from __future__ import annotations

import signal
import sys
import threading


class Interruption:
    """A flag that tells this process to end what it does."""

    asked = False


INTERRUPTION = Interruption()
"""Signals are sent to a process, so there is one."""


def handle() -> None:
    """Let SIGINT and SIGTERM interrupt this process. A SIGINT that is ignored, as in the background, stays ignored."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    INTERRUPTION.asked = True
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt in the main thread if it was interrupted, unless that is just being handled."""
    if INTERRUPTION.asked and threading.current_thread() is threading.main_thread() and not _is_handled():
        raise KeyboardInterrupt


def _is_handled() -> bool:
    """Return True in the handlers and finalizing blocks that a KeyboardInterrupt passes."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def end() -> None:
    """Forget an interruption: it has been handled."""
    INTERRUPTION.asked = False
