"""The toolchain of this machine: its own compiler where it has one, otherwise one from packages.

Those packages are unpacked, not installed, and laid over /usr in namespaces of the build's own. All that a build starts
ends with ovnlab, however that ends.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovnlab.errors import HostRequirementError
from ovnlab.nodes.context import ProcessContext
from ovnlab.software.packages import BUILDING, SEARCHED, Report, tree
from ovnlab.state import cache_root

PROGRAMS = ("gcc", "make", "autoconf", "automake", "libtoolize", "pkg-config", "git", "strip", "perl", "m4")
"""What is run to build."""

HEADERS = ("/usr/include/stdio.h", "/usr/include/openssl/ssl.h")
"""What is compiled against."""

OF_GIT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM")
"""What git is told of how to reach others. The rest of GIT_* is of the repository that somebody works in."""

KEPT = ("HOME", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSH_AUTH_SOCK")
"""What a build gets of this machine's environment, beside all that begins with SSL_CERT_, GIT_SSL_ and CCACHE_."""


def missing() -> list[str]:
    """Return what this machine itself lacks to build OVS and OVN."""
    path = os.pathsep.join(SEARCHED)
    programs = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return programs + [header for header in HEADERS if not Path(header).exists()]


def without_git(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which git works on the repository that it is run in, and on no other."""
    return {key: value for key, value in environment.items() if not key.startswith("GIT_") or key in OF_GIT}


def _wrap(tree: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in namespaces that end with ovnlab, with a compiler in /usr."""
    root = os.geteuid() == 0
    user = () if root else ("--user", "--map-root-user")
    over = 'mount -t overlay{} -o lowerdir="$1"/usr:/usr overlay /usr'.format("" if root else " -o userxattr")
    prepare = f'{over if tree else ":"}; shift; exec "$@"'
    ending = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["unshare", *user, "--mount", "sh", "-ec", prepare, "sh", tree, *ending, *argv]


def _context(tree: str, temporary: Path) -> ProcessContext:
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT or key in OF_GIT or key.startswith(("GIT_SSL_", "SSL_CERT_", "CCACHE_"))
    }
    environment = {**kept, "PATH": os.pathsep.join(SEARCHED), "LC_ALL": "C", "TMPDIR": str(temporary)}
    return ProcessContext(functools.partial(_wrap, tree), environment)


def obtain(temporary: Path, report: Report) -> tuple[ProcessContext, str]:
    """Return a context to build in, and what says which compiler it has. Temporary files go to `temporary`.

    Raises HostRequirementError where this machine has no compiler, and no packages of one can be had.
    """
    if missing():
        if odd := sorted(set(str(cache_root())) & set(':,\\"')):
            hint = "choose another folder with XDG_CACHE_HOME"
            raise HostRequirementError(
                f"overlay mounts cannot have {' '.join(odd)} in a path", where=str(cache_root()), hint=hint
            )
        found = tree(BUILDING, report)
        return _context(found.tree or "", temporary), f"packages {found.key}"
    # By the PATH that it is found by when something is built.
    around = {"PATH": os.pathsep.join(SEARCHED), "LC_ALL": "C"}
    said = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False, env=around).stdout
    return _context("", temporary), said.partition("\n")[0]
