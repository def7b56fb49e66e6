"""Requirements of this machine, and the commands that meet them. Things are tried, not looked up."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovnlab.errors import HostRequirementError
from ovnlab.scratch import folder as scratch_folder
from ovnlab.software import packages, toolchain
from ovnlab.state import NEEDED_BYTES, cache_root, state_root


@dataclass(frozen=True)
class Requirement:
    """A requirement of a lab. `fix` is a command as an argument list, empty where there is none to give.

    `optional`: a lab does without it.
    """

    name: str
    ok: bool
    message: str
    fix: tuple[str, ...] = ()
    needs_root: bool = False
    optional: bool = False

    @property
    def command(self) -> str:
        """Return the fix as it would be typed."""
        words = (*(("sudo",) if self.needs_root and os.geteuid() else ()), *self.fix)
        return shlex.join(words) if self.fix else ""


def require(finding: Requirement) -> None:
    """Raise HostRequirementError where something is not as a lab needs it."""
    if not finding.ok:
        raise HostRequirementError(
            finding.message, where=finding.name, hint=finding.command or "`ovnlab doctor` says more"
        )


def examine(of_providers: Iterable[Requirement] = ()) -> list[Requirement]:
    """Return all that a local lab needs of this machine, and what other providers need."""
    return [
        _python(),
        _programs(),
        tun(),
        namespaces(),
        *_folders(),
        _software(),
        _compiler(),
        *of_providers,
    ]


def _python() -> Requirement:
    version = ".".join(map(str, sys.version_info[:3]))
    return Requirement("python", sys.version_info >= (3, 11), f"Python {version}, 3.11 or newer is needed")


def _programs() -> Requirement:
    needed = {"unshare": "util-linux", "nsenter": "util-linux", "setsid": "util-linux", "mount": "mount"}
    path = os.pathsep.join(packages.SEARCHED)
    missing = {program: package for program, package in needed.items() if shutil.which(program, path=path) is None}
    if not missing:
        return Requirement("programs", True, f"{', '.join(needed)} are there")
    lacking = sorted(set(missing.values()))
    return Requirement(
        "programs",
        False,
        f"{', '.join(missing)} not found",
        ("apt-get", "install", "-y", *lacking),
        needs_root=True,
    )


def tun() -> Requirement:
    """Return internal ports of the userspace datapath are TAP devices."""
    device = Path("/dev/net/tun")
    fix: tuple[str, ...]
    try:
        os.close(os.open(device, os.O_RDWR))
    except FileNotFoundError:
        message = "there is no /dev/net/tun"
        fix = ("sh", "-c", "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200")
    except PermissionError:
        message, fix = "/dev/net/tun is not accessible for you", ("chmod", "0666", "/dev/net/tun")
    except OSError as error:
        message, fix = f"/dev/net/tun does not work: {error.strerror}", ("modprobe", "tun")
    else:
        return Requirement("tun", True, "/dev/net/tun is accessible")
    return Requirement("tun", False, message, fix, needs_root=True)


_SYSCTLS = (
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "15000"),
    ("user.max_net_namespaces", "0", "15000"),
)
"""What forbids namespaces to an ordinary user: the setting, the value that forbids, and one that does not."""


def namespaces() -> Requirement:
    """Make the namespaces of a lab, with a bridge, a veth and an overlay in them, and let them end."""
    script = (
        "set -e; ip link add name b type bridge; ip link add name v type veth peer name w;"
        " mkdir -p {0}/a {0}/b {0}/m;"
        " mount -t overlay{1} -o lowerdir={0}/a:{0}/b overlay {0}/m"
    )
    root = os.geteuid() == 0
    user = () if root else ("--user", "--map-root-user")
    namespaces = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc")
    with scratch_folder("ovnlab-doctor-", Path(tempfile.gettempdir())) as scratch:
        made = _try(["unshare", *user, *namespaces, "true"])
        if made is not None:
            return _forbidden(made)
        if shutil.which("ip") is None:
            return Requirement("namespaces", True, "namespaces can be made")
        command = script.format(scratch, "" if root else " -o userxattr")
        failed = _try(["unshare", *user, *namespaces, "sh", "-c", command])
    if failed is None:
        return Requirement("namespaces", True, "namespaces, bridge, veth and overlay can be made")
    return Requirement("namespaces", False, f"in namespaces of its own, a lab cannot make what it needs: {failed}")


def _try(argv: Sequence[str]) -> str | None:
    """Return None where a command succeeds, otherwise the last line of what it said."""
    try:
        result = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = result.stderr.strip().splitlines()
    return None if result.returncode == 0 else (lines[-1] if lines else f"exit code {result.returncode}")


def _forbidden(said: str) -> Requirement:
    for name, forbids, allows in _SYSCTLS:
        path = Path("/proc/sys") / name.replace(".", "/")
        try:
            current = path.read_text().strip()
        except OSError:
            continue
        if current == forbids:
            fix = ("sysctl", "-w", f"{name}={allows}")
            return Requirement(
                "namespaces", False, f"namespaces are forbidden: {name} is {current}", fix, needs_root=True
            )
    advice = "as root it may work" if os.geteuid() else "a container needs CAP_SYS_ADMIN for it"
    return Requirement("namespaces", False, f"namespaces cannot be made: {said} ({advice})")


def _folders() -> Iterator[Requirement]:
    for name, path, variable in (
        ("state folder", state_root(), "XDG_STATE_HOME"),
        ("cache folder", cache_root(), "XDG_CACHE_HOME"),
    ):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            fix = ("chown", "-R", str(os.geteuid()), str(there)) if there == path else ()
            yield Requirement(name, False, f"{there} is not writable for you (or set {variable})", fix, needs_root=True)
        elif (free := shutil.disk_usage(there).free) < NEEDED_BYTES * 4:
            yield Requirement(name, False, f"only {free // 2**20} MiB are free in {there} (or set {variable})")
        else:
            yield Requirement(name, True, f"{path}, {free // 2**30} GiB free")


def _software() -> Requirement:
    """Check OVS and OVN: downloaded, installed, or ready to be downloaded."""
    return next(filter(None, (look() for look in (_cached, _installed, _obtainable))))


def _cached() -> Requirement | None:
    found = packages.cached()
    return _has(found.versions, "downloaded") if found else None


def _installed() -> Requirement | None:
    try:
        return _has(packages.installed().versions, "installed")
    except HostRequirementError:
        return None


def _has(versions: dict[str, str], how: str) -> Requirement:
    wanted = ("openvswitch-switch", "ovn-host", "ovs-vswitchd", "ovn-controller")
    shown = ", ".join(f"{name} {versions[name]}" for name in wanted if name in versions)
    return Requirement("software", True, f"{shown} ({how})")


def _obtainable() -> Requirement:
    fix = ("apt-get", "install", "-y", *packages.PACKAGES)
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return Requirement(
            "software", True, "not there yet: the first `ovnlab up` downloads OVS and OVN from the package mirror"
        )
    return Requirement(
        "software", False, "there are no OVS and OVN, and no apt-get to download them", fix, needs_root=True
    )


_OF_DNF = {
    "libc6-dev": "glibc-devel",
    "libssl-dev": "openssl-devel",
    "pkg-config": "pkgconf-pkg-config",
}
"""Packages that dnf knows by another name."""


def _compiler() -> Requirement:
    """Return what building OVS and OVN from source takes, which most labs never do."""
    fix: tuple[str, ...]
    missing = toolchain.missing()
    if not missing:
        return Requirement("compiler", True, "OVS and OVN can be built from source")
    lacking = f"not all installed that builds OVS and OVN from source ({', '.join(missing)})"
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        instead = "downloaded and unpacked for the first build, unless it is installed"
        fix = ("apt-get", "install", "-y", *packages.BUILD_PACKAGES)
    elif shutil.which("dnf"):
        instead = "only topologies with software from source need it"
        fix = ("dnf", "install", "-y", *(_OF_DNF.get(name, name) for name in packages.BUILD_PACKAGES))
    else:
        instead, fix = "only topologies with software from source need it", ()
    return Requirement("compiler", False, f"{lacking}: {instead}", fix, needs_root=True, optional=True)


def mend(findings: Sequence[Requirement], say: Callable[[str], None]) -> None:
    """Run the fix of everything that is not right, through sudo where that is needed, each said first.

    Raises HostRequirementError where a fix fails.
    """
    for finding in findings:
        if finding.ok or not finding.fix:
            continue
        say(f"running: {finding.command}")
        argv = ["sudo", *finding.fix] if finding.needs_root and os.geteuid() else list(finding.fix)
        try:
            result = subprocess.run(argv, check=False, stdout=sys.stderr)
        except FileNotFoundError:
            raise HostRequirementError(
                f"there is no {argv[0]} here", hint=f"as root: {shlex.join(finding.fix)}"
            ) from None
        if result.returncode != 0:
            raise HostRequirementError(f"`{finding.command}` failed with exit code {result.returncode}")
