"""Where OVS and OVN are built on this machine: its own compiler where it has one, otherwise one from packages.

Those packages are unpacked, not installed, and laid over /usr in namespaces of the build's own. All that a build starts
ends with ovnlab, however that ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from invoke.config import Config
from invoke.context import Context
from invoke.runners import Local

from ovnlab.software.packages import BUILDING, SEARCHED, Report, tree

PROGRAMS = ("gcc", "make", "autoconf", "automake", "libtoolize", "pkg-config", "git", "strip", "perl", "m4")
"""What is run to build."""

HEADERS = ("/usr/include/stdio.h", "/usr/include/openssl/ssl.h")
"""What is compiled against."""

KEPT = ("HOME", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSH_AUTH_SOCK")
"""What a build gets of this machine's environment, beside all that begins with GIT_, SSL_CERT_ and CCACHE_."""


def missing() -> list[str]:
    """What this machine itself lacks to build OVS and OVN."""
    path = os.pathsep.join(SEARCHED)
    programs = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return programs + [header for header in HEADERS if not Path(header).exists()]


class BuildRunner(Local):
    """Runs commands as invoke's Local does, but in namespaces that end with ovnlab, with a compiler in /usr."""

    input_sleep = 0.001

    def start(self, command: str, shell: str, env: dict[str, Any]) -> None:
        """Start the command in a session of its own: a Ctrl-C here is for ovnlab to handle."""
        del shell, env
        root = os.geteuid() == 0
        user = () if root else ("--user", "--map-root-user")
        over = "mount -t overlay{} -o lowerdir=$1/usr:/usr overlay /usr".format("" if root else " -o userxattr")
        prepare = f'{over if self.context.tree else ":"}; shift; exec "$@"'
        ending = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        self.process = subprocess.Popen(
            ["unshare", *user, "--mount", "sh", "-ec", prepare, "sh", self.context.tree, *ending, "sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=self.context.environment,
            cwd="/",
        )

    def send_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        """End the command: an interrupt is for ovnlab, and the command has no terminal to be told by."""
        self.kill()
        raise interrupt

    def kill(self) -> None:
        """End the command and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class BuildContext(Context):
    """Runs commands where things are built. `tree` is laid over /usr, empty where this machine has all it takes."""

    def __init__(self, tree: str, temporary: Path) -> None:
        super().__init__(Config(overrides={"runners": {"local": BuildRunner}}, lazy=True))
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in KEPT or key.startswith(("GIT_", "SSL_CERT_", "CCACHE_"))
        }
        environment = {**kept, "PATH": os.pathsep.join(SEARCHED), "LC_ALL": "C", "TMPDIR": str(temporary)}
        self._set(tree=tree, environment=environment)


def obtain(temporary: Path, report: Report) -> tuple[BuildContext, str]:
    """A context to build in, and what says which compiler it has. Temporary files go to `temporary`.

    Raises SurroundingsError where this machine has no compiler, and no packages of one can be had.
    """
    if missing():
        found = tree(BUILDING, report)
        return BuildContext(found.tree or "", temporary), f"packages {found.key}"
    said = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False).stdout
    return BuildContext("", temporary), said.partition("\n")[0]
