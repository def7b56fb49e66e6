"""Where OVS and OVN are built on this machine: its own compiler where it has one, otherwise one from packages.

Those packages are unpacked, not installed, and laid over /usr in namespaces of the build's own. All that a build starts
ends with ovnlab, however that ends.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ovnlab.software.packages import BUILDING, SEARCHED, Report, tree
from ovnlab.wrapped import WrappedContext

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


def _wrap(tree: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in namespaces that end with ovnlab, with a compiler in /usr."""
    root = os.geteuid() == 0
    user = () if root else ("--user", "--map-root-user")
    over = "mount -t overlay{} -o lowerdir=$1/usr:/usr overlay /usr".format("" if root else " -o userxattr")
    prepare = f'{over if tree else ":"}; shift; exec "$@"'
    ending = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["unshare", *user, "--mount", "sh", "-ec", prepare, "sh", tree, *ending, *argv]


def _context(tree: str, temporary: Path) -> WrappedContext:
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT or key.startswith(("GIT_", "SSL_CERT_", "CCACHE_"))
    }
    environment = {**kept, "PATH": os.pathsep.join(SEARCHED), "LC_ALL": "C", "TMPDIR": str(temporary)}
    return WrappedContext(functools.partial(_wrap, tree), environment)


def obtain(temporary: Path, report: Report) -> tuple[WrappedContext, str]:
    """A context to build in, and what says which compiler it has. Temporary files go to `temporary`.

    Raises SurroundingsError where this machine has no compiler, and no packages of one can be had.
    """
    if missing():
        found = tree(BUILDING, report)
        return _context(found.tree or "", temporary), f"packages {found.key}"
    said = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False).stdout
    return _context("", temporary), said.partition("\n")[0]
