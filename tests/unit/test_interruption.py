"""An interruption that Python drops, because it comes upon a finalizer, ends what goes on all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from ovnlab import interruption
from ovnlab.nodes.context import ProcessContext
from ovnlab.parallel import for_each
from ovnlab.waiting import wait_until


@pytest.fixture
def handled() -> Iterator[None]:
    """Signals are handled as in a command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.handle()
    yield
    interruption.end()
    for number, handler in before.items():
        signal.signal(number, handler)


class _Finalized:
    """What is interrupted while it is finalized."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):  # a signal is handled between two steps of the interpreter
            pass


def _drop() -> None:
    """Be interrupted without noticing."""
    with contextlib.suppress(pytest.PytestUnraisableExceptionWarning):
        finalized = _Finalized()
        del finalized


ACTIONS: dict[str, Callable[[], object]] = {
    "check": interruption.check,
    "for_each of one": lambda: for_each([1], str),
    "for_each of many": lambda: for_each([1, 2], str),
    "wait_until": lambda: wait_until("it", lambda: 1, timeout=1),
    "a script": lambda: ProcessContext(list).run("true"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.usefixtures("handled")
def test_what_is_begun_after_a_dropped_interruption_is_interrupted(action: Callable[[], object]) -> None:
    _drop()
    assert interruption.INTERRUPTION.asked
    with pytest.raises(KeyboardInterrupt):
        action()


WAITS: dict[str, Callable[[threading.Event], object]] = {
    "for_each": lambda done: for_each([1, 2], lambda _: done.wait(30)),
    "wait_until": lambda done: wait_until("it", lambda: done.is_set() or None, timeout=30),
    "a script": lambda _: ProcessContext(list).run("sleep 30"),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
@pytest.mark.usefixtures("handled")
def test_what_waits_during_a_dropped_interruption_is_interrupted(wait: Callable[[threading.Event], object]) -> None:
    done = threading.Event()
    threading.Timer(0.1, lambda: setattr(interruption.INTERRUPTION, "asked", True)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait(done)
        assert not done.is_set()
    finally:
        done.set()


@pytest.mark.usefixtures("handled")
def test_what_takes_back_is_not_interrupted_again() -> None:
    taken_back = []

    @contextlib.contextmanager
    def lab() -> Iterator[None]:
        try:
            yield
        finally:
            try:
                raise OSError
            except OSError:
                taken_back.extend(for_each([1, 2], str))

    with pytest.raises(KeyboardInterrupt), lab():  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                pass
        except KeyboardInterrupt:
            taken_back += for_each([3, 4], str)
            raise
    assert taken_back == ["3", "4", "1", "2"]
    interruption.end()
    assert for_each([5], str) == ["5"]


def test_a_thread_of_a_pool_is_given_up_and_not_interrupted() -> None:
    interruption.INTERRUPTION.asked = True
    try:
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(ProcessContext(list).run("echo yes").stdout))
        thread.start()
        thread.join()
        assert found == ["yes\n"]
    finally:
        interruption.end()


def test_a_sigint_that_is_ignored_stays_ignored() -> None:
    code = (
        "import os, signal, ovnlab.interruption as i\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); i.handle()\n"
        "os.kill(os.getpid(), signal.SIGINT); i.check(); print('well')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.stdout == "well\n"
