"""Small trees of autotools that stand for those of OVS and OVN: the same entry points, compiled in a second.

OVN's own source is not to be had on a machine that reaches a package mirror only. What these have in common with it:
boot.sh, configure with --with-ovs-source and --with-ovs-build, make, install, and the commit of OVS that is pinned as
a submodule.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIGURE = """AC_INIT([{name}], [{version}])
AC_CONFIG_AUX_DIR([build-aux])
AC_CONFIG_HEADERS([config.h])
AM_INIT_AUTOMAKE([foreign subdir-objects])
AM_SILENT_RULES
AC_PROG_CC
AC_PROG_RANLIB
{more}
AC_CONFIG_FILES([Makefile])
AC_OUTPUT
"""

BOOT = "#!/bin/sh\nset -e\nmkdir -p build-aux\nautoreconf --install --force\n"

OVS = {
    "boot.sh": BOOT,
    "lib/greet.h": "const char *greeting(void);\n",
    "lib/greet.c": '#include <config.h>\n#include "lib/greet.h"\nconst char *greeting(void) { return "hello"; }\n',
    "vswitchd/toy-switch.c": (
        '#include <config.h>\n#include <stdio.h>\n#include "lib/greet.h"\n'
        'int main(void) { printf("%s from " PACKAGE_STRING "\\n", greeting()); return 0; }\n'
    ),
    "utilities/toy-script.in": "#! @PYTHON3@\n",
    "tests/never.c": "#error a test program is not built\n",
    "share.ovsschema": "{}\n",
    "Makefile.am": """AM_CPPFLAGS = -I$(srcdir)
lib_LIBRARIES = lib/libopenvswitch.a
lib_libopenvswitch_a_SOURCES = lib/greet.c lib/greet.h
sbin_PROGRAMS = vswitchd/toy-switch
vswitchd_toy_switch_SOURCES = vswitchd/toy-switch.c
vswitchd_toy_switch_LDADD = lib/libopenvswitch.a
noinst_PROGRAMS = tests/never
tests_never_SOURCES = tests/never.c
man_MANS = never.8
never.8:
\t@echo 'a manual page is not made' >&2; exit 1
dist_pkgdata_DATA = share.ovsschema
""",
}

OVN = {
    "boot.sh": BOOT,
    "controller/toy-controller.c": (
        '#include <config.h>\n#include <stdio.h>\n#include "lib/greet.h"\n'
        'int main(void) { printf("%s from " PACKAGE_STRING "\\n", greeting()); return 0; }\n'
    ),
    "northd/toy-northd.c": "int main(void) { return 0; }\n",
    "Makefile.am": """AM_CPPFLAGS = -I$(OVS_SOURCE) -I$(OVS_BUILD)
bin_PROGRAMS = controller/toy-controller northd/toy-northd
northd_toy_northd_SOURCES = northd/toy-northd.c
controller_toy_controller_SOURCES = controller/toy-controller.c
controller_toy_controller_LDADD = $(OVS_BUILD)/lib/libopenvswitch.a
""",
}

WITH_OVS = """AC_ARG_WITH([ovs-source], [], [OVS_SOURCE=$withval], [AC_MSG_ERROR([where is the source of OVS?])])
AC_ARG_WITH([ovs-build], [], [OVS_BUILD=$withval], [AC_MSG_ERROR([where was OVS built?])])
AS_IF([test ! -e "$OVS_BUILD/config.h"], [AC_MSG_ERROR([$OVS_BUILD is not configured])])
AC_SUBST([OVS_SOURCE])
AC_SUBST([OVS_BUILD])"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def ovs(folder: Path, version: str = "3.1.9") -> Path:
    return write(folder, {**OVS, "configure.ac": CONFIGURE.format(name="openvswitch", version=version, more="")})


def ovn(folder: Path, version: str = "23.03.9") -> Path:
    return write(folder, {**OVN, "configure.ac": CONFIGURE.format(name="ovn", version=version, more=WITH_OVS)})


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "safe.directory=*"]
    command = ["git", *identity, "-c", "init.defaultBranch=main", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> str:
    """Make a folder a git repository with all of it committed; the commit."""
    git(folder, "init", "--quiet")
    return commit(folder, "first")


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def pin(folder: Path, url: str, commit_of_ovs: str) -> str:
    """Have a commit of OVS as the submodule `ovs`, without bringing it; the commit."""
    (folder / ".gitmodules").write_text(f'[submodule "ovs"]\n\tpath = ovs\n\turl = {url}\n')
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit_of_ovs},ovs")
    git(folder, "add", ".gitmodules")
    git(folder, "commit", "--quiet", "--message", "pin")
    return git(folder, "rev-parse", "HEAD")
