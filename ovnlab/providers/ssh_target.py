"""SSH targets: the address of a machine, and how a command runs there as root."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

PATH = "/opt/ovnlab/current/sbin:/opt/ovnlab/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONNECT_TIMEOUT = 20.0
"""Seconds that each part of a login may take: connection, banner, key exchange, authentication."""

SSH_FAILED = 255
"""The exit code of ssh itself (ssh(1), EXIT STATUS)."""


class SshTarget(msgspec.Struct, frozen=True):
    """An SSH target: address, user, and the files with our private keys and with its host key.

    With `agent` keys may also be those of the person's ssh-agent.
    """

    host: str
    port: int
    user: str
    keys: tuple[Path, ...]
    known_hosts: Path
    sudo: bool = False
    jump: SshTarget | None = None
    agent: bool = False

    @property
    def known_name(self) -> str:
        """Return the name of the machine in the file of host keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    @property
    def key(self) -> str:
        """Return a short hash that identifies this SSH target."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:6]


def as_root(argv: Sequence[str], *, sudo: bool) -> list[str]:
    """Return the command that runs `argv` as root in an environment that does not depend on who logged in."""
    variables = [f"PATH={PATH}", "HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8"]
    if terminal := os.environ.get("TERM"):
        variables.append(f"TERM={terminal}")
    if len(argv) > 1 and argv[0] == "env" and not argv[1].startswith("-"):
        argv = argv[1:]  # one does what two do, 20 ms of an emulated CPU sooner
    return [*(("sudo", "-n") if sudo else ()), "env", "-i", *variables, *argv]
