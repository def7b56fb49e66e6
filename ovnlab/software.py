"""Software as an artefact: a tree with OVS and OVN in it, made once, kept by its content, laid over /usr.

`packages` downloads and unpacks the distribution's packages; nothing is installed, and apt's own state is
left alone. `system` is what the machine has. Further origins are further functions here that return a
Software with a tree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ovnlab.errors import SurroundingsError
from ovnlab.state import Software, cache_root, storage_error

PACKAGES = (
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "ovn-ic",
    "ovn-ic-db",
    "iproute2",
    "iputils-ping",
    "tcpdump",
    "ethtool",
    "isc-dhcp-client",
)
"""OVS, OVN, and the tools that nodes need or that people expect on one."""

PROGRAMS = (
    "ovsdb-server",
    "ovs-vswitchd",
    "ovs-vsctl",
    "ovn-northd",
    "ovn-controller",
    "ovn-nbctl",
    "ovn-sbctl",
)
"""What a lab cannot do without."""

OLDEST = {"ovs-vswitchd": (2, 13), "ovn-controller": (21, 3)}
"""The first that mark an interface as ovn-installed, which binding waits for."""

NEEDED_BYTES = 200 * 1024 * 1024
"""What must be free in the cache: package lists, archives and the tree. apt may hang where the disk gets full."""

STEP_TIMEOUT = 300
"""Seconds that reading package lists, downloading, or unpacking may take."""

SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

Report = Callable[[str], None]


class _Manifest(msgspec.Struct, frozen=True):
    """What is in a tree: package versions, and the size of every file, to notice damage."""

    versions: dict[str, str]
    sizes: dict[str, int]


def provide(kind: str, report: Report) -> Software:
    """The software of that kind, made where it is not there yet.

    Raises SurroundingsError where it is not to be had.
    """
    return installed() if kind == "system" else _packages(report)


def cached() -> Software | None:
    """The packages that were downloaded before, None where there are none or they are damaged."""
    return _intact(_reference())


def _reference() -> Path:
    """The link to these packages of this distribution and architecture."""
    asked = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    return cache_root() / "software" / f"packages-{_distribution()}-{platform.machine()}-{asked}"


def _packages(report: Report) -> Software:
    reference = _reference()
    folder = reference.parent
    found = _intact(reference)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _building(folder / "lock", report):
            return _intact(reference) or _make(folder, reference, report)
    except OSError as error:
        raise storage_error(error, folder) from None


def _make(folder: Path, reference: Path, report: Report) -> Software:
    for left in folder.glob("making-*"):  # of one that was killed: nobody else has the lock
        shutil.rmtree(left, ignore_errors=True)
    if reference.exists():
        report(f"the software in {reference.resolve()} is damaged and is made again")
    try:
        return _unpacked(folder, reference, report)
    except SurroundingsError as error:
        with contextlib.suppress(SurroundingsError):
            system = installed()
            report(f"packages cannot be had ({error.message}): using the OVS and OVN that are installed")
            return system
        raise


def _intact(reference: Path) -> Software | None:
    """The tree behind a reference if every file has the size that it was made with."""
    try:
        tree = reference.resolve(strict=True)
        manifest = msgspec.json.decode((tree / "manifest.json").read_bytes(), type=_Manifest)
        if manifest.sizes != _sizes(tree):
            return None
    except (OSError, msgspec.DecodeError):
        return None
    return Software("packages", str(tree), tree.name, manifest.versions)


def _sizes(tree: Path) -> dict[str, int]:
    """The size of every file in a tree, links not followed."""
    sizes = {}
    for folder, _, names in os.walk(tree / "usr"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  a thousand Path objects would be noticed
            sizes[path[len(str(tree)) + 1 :]] = os.lstat(path).st_size
    return sizes


@contextlib.contextmanager
def _building(lock: Path, report: Report) -> Iterator[None]:
    """Only one process makes software; the others wait and use what it made."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another ovnlab that is downloading OVS and OVN")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpacked(folder: Path, reference: Path, report: Report) -> Software:
    """Download packages and unpack them into a tree that is put in place all at once."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise SurroundingsError(
                f"there is no {program} to download OVS and OVN with",
                hint="install OVS and OVN, and say `software: system`",
            )
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as scratch_name:
        scratch = Path(scratch_name)
        archives = _download(scratch, report)
        report("unpacking OVS and OVN (nothing is installed)")
        tree = scratch / "tree"
        for archive in archives:
            _run(["dpkg-deb", "--extract", str(archive), str(tree)], "unpacking failed")
        _merge_usr(tree)
        versions = dict(sorted(map(_name_and_version, archives)))
        manifest = _Manifest(versions, _sizes(tree))
        (tree / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        place = folder / _key(versions)
        if place.exists():  # damaged: what still has it mounted keeps what it has
            place.rename(scratch / "damaged")
        tree.rename(place)
    new = reference.with_name(f"{reference.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(place.name)
    new.replace(reference)
    return Software("packages", str(place), place.name, versions)


def _download(scratch: Path, report: Report) -> list[Path]:
    """The archives of PACKAGES and of all that they need and this machine has not."""
    free = shutil.disk_usage(scratch).free
    if free < NEEDED_BYTES:
        raise SurroundingsError(
            f"only {free // 2**20} MiB are free where packages are kept, {NEEDED_BYTES // 2**20} are needed",
            where=str(cache_root()),
            hint="make room there, or set XDG_CACHE_HOME to a folder with more",
        )
    for part in ("state/lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    apt = ["apt-get", "-qq", *(f"-o{option}" for option in _apt_options(scratch))]
    report("reading the distribution's package lists")
    _run([*apt, "update"], "the package lists could not be downloaded")
    report("downloading OVS and OVN")
    _run(
        [*apt, "--yes", "--download-only", "--reinstall", "--no-install-recommends", "install", *PACKAGES],
        "the packages of OVS and OVN could not be downloaded",
    )
    return sorted((scratch / "cache/archives").glob("*.deb"))


def _apt_options(scratch: Path) -> list[str]:
    """A state and cache of our own, so that apt needs no root and changes nothing of the machine's."""
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    return [
        f"Dir::State={scratch}/state",
        f"Dir::State::lists={scratch}/state/lists",
        f"Dir::Cache={scratch}/cache",
        "Dir::State::status=/var/lib/dpkg/status",
        "Debug::NoLocking=1",
        f"APT::Sandbox::User={user}",
        "Acquire::Languages=none",
        "Acquire::http::Timeout=20",
        "Acquire::Retries=1",
        "APT::Get::AllowUnauthenticated=false",
    ]


def _run(argv: Sequence[str], failed: str) -> None:
    """Run a step. What apt leaves in its folder for temporary files when it fails goes with that folder."""
    with tempfile.TemporaryDirectory(prefix="ovnlab-apt-") as temporary:
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": temporary}
        try:
            result = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=environment,
                timeout=STEP_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            hint = "see whether the package mirror answers: apt-get update"
            raise SurroundingsError(f"{failed} within {STEP_TIMEOUT} s", where=argv[0], hint=hint) from None
    if result.returncode == 0:
        return
    if "No space left on device" in result.stderr:
        raise SurroundingsError("the disk is full", where=argv[0], hint="make room, or set XDG_CACHE_HOME")
    raise SurroundingsError(
        failed,
        detail="\n".join(result.stderr.strip().splitlines()[-6:]),
        hint="connect this machine to its package mirror once, or install OVS and OVN and say `software: system`",
    )


def _merge_usr(tree: Path) -> None:
    """What packages put into /bin, /sbin and /lib goes below /usr, and the links that installing would make."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (tree / name).is_dir():
            shutil.copytree(tree / name, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
    for path in tree.iterdir():
        if path.name != "usr":
            shutil.rmtree(path)
    # Debian chooses between two builds of the switch with update-alternatives.
    switch, link = tree / "usr/lib/openvswitch-switch/ovs-vswitchd", tree / "usr/sbin/ovs-vswitchd"
    if switch.exists() and not link.exists():
        link.symlink_to("../lib/openvswitch-switch/ovs-vswitchd")


def _name_and_version(archive: Path) -> tuple[str, str]:
    """Of the file name that apt gives an archive: NAME_VERSION_ARCHITECTURE.deb, with %3a for a colon."""
    name, version, _ = archive.name.split("_")
    return name, version.replace("%3a", ":")


def _key(versions: dict[str, str]) -> str:
    """What addresses a tree: its packages and versions, the distribution and the architecture."""
    parts = [
        _distribution(),
        platform.machine(),
        *(f"{name}={version}" for name, version in versions.items()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _distribution() -> str:
    """Such as debian-12."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "linux"
    return f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"


def installed() -> Software:
    """What this machine has. Raises SurroundingsError where it is not there or too old."""
    path = os.pathsep.join(SEARCHED)
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        raise SurroundingsError(
            f"OVS and OVN are not installed ({', '.join(missing)} not found)",
            hint=f"apt-get install {' '.join(PACKAGES[:3])}, or say `software: packages`",
        )
    versions = {program: _version(program, path) for program in OLDEST}
    for program, oldest in OLDEST.items():
        numbers = tuple(int(part) for part in versions[program].split(".")[:2] if part.isdigit())
        if numbers < oldest:
            raise SurroundingsError(
                f"{program} {versions[program]} is too old: at least {'.'.join(map(str, oldest))} is needed",
                hint="install a newer one, or say `software: packages`",
            )
    return Software("system", None, "system", versions)


def _version(program: str, path: str) -> str:
    """Of the first line of `PROGRAM --version`, its last word."""
    found = shutil.which(program, path=path) or program
    result = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    return lines[0].split()[-1] if lines and lines[0].split() else "0"
