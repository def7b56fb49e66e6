"""Python that has ovnlab loaded, and forks for each command line that it is given.

An account runs this file's text with `python -c` and a socket as the descriptor that its argument names. What
a child then runs is `ovnlab.__main__.main`, with arguments, environment, folder and standard streams of its own. A new
interpreter that imports the same takes ten times as long; tests/lab/test_forkserver.py holds both to the same results.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import faulthandler
import gc
import importlib
import io
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

LARGEST = 1 << 18
"""The length of a request: the environment is in it."""

DUMP = signal.SIGUSR2
"""The signal at which a command writes the stacks of its threads to stderr."""


def load() -> None:
    """Import all that commands import, but for what needs a package that this Python does not have."""
    import ovnlab  # noqa: PLC0415

    for found in pkgutil.walk_packages(ovnlab.__path__, "ovnlab."):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as missing:
            if str(missing.name).startswith("ovnlab"):
                raise


def receive(server: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next request with its descriptors: stdin, stdout, stderr, and where its end is told. None at the end."""
    fds = array.array("i")
    text, ancillary, _, _ = server.recvmsg(LARGEST, socket.CMSG_SPACE(4 * fds.itemsize))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return (json.loads(text), list(fds)) if text else None


def serve(server: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each request until there are no more. Returns the request in the child, None in the server."""
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not server:
                    _end(selector, key)
                    continue
                if (asked := receive(server)) is None:
                    return None
                if (pid := os.fork()) == 0:
                    return asked
                *streams, told = asked[1]
                for stream in streams:
                    os.close(stream)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _end(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """A child has ended: say how."""
    pid, told = key.data
    selector.unregister(key.fileobj)
    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # who asked has gone
        os.write(told, b"%d\n" % code)
    os.close(told)


def become(asked: dict[str, Any], descriptors: list[int]) -> None:
    """Make this process what a new one would be."""
    if asked["session"]:
        os.setsid()
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(DUMP, file=2, all_threads=True)
    os.write(descriptors[3], b"%d\n" % os.getpid())  # from now on it can be sent signals
    os.closerange(3, max(descriptors) + 64)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = ["ovnlab", *asked["words"]]
    sys.path[0] = asked["folder"]
    # What is at the end of a stream decides how it is buffered.
    sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb", closefd=False))
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), errors="backslashreplace", line_buffering=True)


def finish(run: Callable[[], None]) -> NoReturn:
    """Run it, and end as the interpreter does, but for taking apart what is loaded: that takes longer than `ls`."""
    try:
        run()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except BaseException:  # noqa: BLE001  an interpreter shows whatever it is
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what waits for threads when an interpreter ends
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Serve what is asked at the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal is for the children
    load()
    gc.collect()
    gc.freeze()  # what is never looked at is not copied by the children
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        become(*asked)
        from ovnlab.__main__ import main as ovnlab  # noqa: PLC0415

        finish(ovnlab)


if __name__ == "__main__":
    main()
