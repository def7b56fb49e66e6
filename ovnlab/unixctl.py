"""Commands to a daemon of OVS or OVN over its control socket, as ovs-appctl(8) sends them: JSON-RPC (RFC 7047, 4)."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec

from ovnlab.ovsdb.client import ANSWER_TIMEOUT

AT_ONCE = 500
"""Commands that are sent before the answers to them are read: neither side may wait for the other to read."""


def command(method: str, *params: str) -> bytes:
    """Return a command in the form that is sent."""
    return msgspec.json.encode({"method": method, "params": params, "id": 0})


def send(server: socket.socket, commands: Sequence[bytes]) -> None:
    """Send commands over one connection and wait for all answers.

    Raises TimeoutError where the daemon is silent, OSError where it goes away or refuses a command.
    """
    server.settimeout(ANSWER_TIMEOUT)
    for first in range(0, len(commands), AT_ONCE):
        some = commands[first : first + AT_ONCE]
        server.sendall(b"".join(some))
        _await_answers(server, len(some))


def _await_answers(server: socket.socket, count: int) -> None:
    """Read answers until there are `count`. Inside of a string, the quotes that are looked for would be escaped."""
    received = bytearray()
    while received.count(b'"error":') < count or not received.rstrip().endswith(b"}"):
        part = server.recv(1 << 16)
        if not part:
            raise OSError("the daemon went away")
        received += part
    if received.count(b'"error":null') < count:
        raise OSError(f"the daemon refuses: {received.decode(errors='replace')[:200]}")
