"""The distribution's packages as a tree that is laid over /usr, and what this machine has installed.

They are downloaded and unpacked once, and kept by their content; nothing is installed, and apt's own state is left
alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ovnlab.errors import HostRequirementError
from ovnlab.scratch import folder as scratch_folder
from ovnlab.state import Base, cache_root, storage_error

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
    "iputils-arping",
    "traceroute",
    "netcat-openbsd",
    "iperf3",
    "socat",
)
"""OVS, OVN, and the tools that nodes need or that people expect on one."""

BUILD_PACKAGES = (
    "gcc",
    "libc6-dev",
    "make",
    "autoconf",
    "automake",
    "libtool",
    "python3",
    "libssl-dev",
    "pkg-config",
    "git",
    "ca-certificates",
)
"""What builds OVS and OVN from any source."""

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


class Selection(msgspec.Struct, frozen=True):
    """Packages that make a tree: its name, what it is called in messages, and what to do where it cannot be had."""

    name: str
    what: str
    packages: tuple[str, ...]
    otherwise: str

    @property
    def reference(self) -> Path:
        """Return the link to these packages of this distribution and architecture."""
        asked = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()[:8]
        return cache_root() / "software" / f"{self.name}-{distribution()}-{platform.machine()}-{asked}"


RUNNING = Selection("packages", "OVS and OVN", PACKAGES, "install OVS and OVN and say `software: system`")
BUILDING = Selection("tools", "a compiler", BUILD_PACKAGES, "install one: `ovnlab doctor --fix`")


class _Manifest(msgspec.Struct, frozen=True):
    """The contents of a tree: package versions, and the size of every file, to notice damage."""

    versions: dict[str, str]
    sizes: dict[str, int]


def provide(kind: str, report: Report) -> Base:
    """Return the software of that kind, made where it is not there yet.

    Raises HostRequirementError where it is not to be had.
    """
    if kind == "system":
        return installed()
    try:
        return tree(RUNNING, report)
    except HostRequirementError as error:
        with contextlib.suppress(HostRequirementError):
            system = installed()
            report(f"packages cannot be had ({error.message}): using the OVS and OVN that are installed")
            return system
        raise


def cached(selection: Selection = RUNNING) -> Base | None:
    """Return the packages that were downloaded before, None where there are none or they are damaged."""
    return _intact(selection.reference)


def tree(selection: Selection, report: Report) -> Base:
    """Return the tree of a selection, downloaded and unpacked where it is not there yet.

    Raises HostRequirementError where it is not to be had.
    """
    folder = selection.reference.parent
    found = cached(selection)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / "lock", report, f"another ovnlab that is downloading {selection.what}"):
            return cached(selection) or _make(folder, selection, report)
    except OSError as error:
        raise storage_error(error, folder) from None


def _make(folder: Path, selection: Selection, report: Report) -> Base:
    for left in folder.glob("making-*"):  # of one that was killed: nobody else has the lock
        shutil.rmtree(left, ignore_errors=True)
    if selection.reference.exists():
        report(f"the software in {selection.reference.resolve()} is damaged and is made again")
    return _unpacked(folder, selection, report)


def _intact(reference: Path) -> Base | None:
    """Return the tree behind a reference if every file has the size that it was made with."""
    try:
        tree = reference.resolve(strict=True)
        manifest = msgspec.json.decode((tree / "manifest.json").read_bytes(), type=_Manifest)
        if manifest.sizes != _sizes(tree):
            return None
    except (OSError, msgspec.DecodeError):
        return None
    return Base("packages", str(tree), tree.name, manifest.versions)


def _sizes(tree: Path) -> dict[str, int]:
    """Return the size of every file in a tree, links not followed."""
    sizes = {}
    for folder, _, names in os.walk(tree / "usr"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  a thousand Path objects would be noticed
            sizes[path[len(str(tree)) + 1 :]] = os.lstat(path).st_size
    return sizes


@contextlib.contextmanager
def exclusive(lock: Path, report: Report, other: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock so that one process makes software; others wait for `other`, and use what it made."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    lock.parent.mkdir(parents=True, exist_ok=True)
    # To be read is enough: it may be of another user who works in the same folder.
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for {other}")
            fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _unpacked(folder: Path, selection: Selection, report: Report) -> Base:
    """Download packages and unpack them into a tree that is put in place all at once."""
    require_apt(selection)
    with scratch_folder("making-", folder) as scratch:
        _require_room(scratch)
        archives = download(scratch, selection, report)
        report(f"unpacking {selection.what} (nothing is installed)")
        tree = scratch / "tree"
        for archive in archives:
            run(["dpkg-deb", "--extract", str(archive), str(tree)], "unpacking failed", selection)
        _merge_usr(tree)
        versions = dict(sorted(map(_name_and_version, archives)))
        manifest = _Manifest(versions, _sizes(tree))
        (tree / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        place = folder / _key(versions)
        if place.exists():  # damaged: what still has it mounted keeps what it has
            place.rename(scratch / "damaged")
        tree.rename(place)
    new = selection.reference.with_name(f"{selection.reference.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(place.name)
    new.replace(selection.reference)
    return Base("packages", str(place), place.name, versions)


def require_apt(selection: Selection) -> None:
    """Raise HostRequirementError where this machine has no tools to download packages with."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise HostRequirementError(
                f"there is no {program} to download {selection.what} with", hint=selection.otherwise
            )


def _require_room(scratch: Path) -> None:
    free = shutil.disk_usage(scratch).free
    if free < NEEDED_BYTES:
        raise HostRequirementError(
            f"only {free // 2**20} MiB are free where packages are kept, {NEEDED_BYTES // 2**20} are needed",
            where=str(cache_root()),
            hint="make room there, or set XDG_CACHE_HOME to a folder with more",
        )


def download(scratch: Path, selection: Selection, report: Report) -> list[Path]:
    """Return the archives of packages, and of all that they need and this machine has not, below `scratch`.

    Raises HostRequirementError where they cannot be had.
    """
    for part in ("state/lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    apt = ["apt-get", "-qq", *(f"-o{option}" for option in _apt_options(scratch))]
    report("reading the distribution's package lists")
    run([*apt, "update"], "the package lists could not be downloaded", selection)
    report(f"downloading {selection.what}")
    install = ["--yes", "--download-only", "--reinstall", "--no-install-recommends", "install", *selection.packages]
    run([*apt, *install], f"the packages of {selection.what} could not be downloaded", selection)
    return sorted((scratch / "cache/archives").glob("*.deb"))


def _apt_options(scratch: Path) -> list[str]:
    """Return a state and cache of our own, so that apt needs no root and changes nothing of the machine's."""
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


def run(argv: Sequence[str], failed: str, selection: Selection, *, folder: Path | None = None) -> None:
    """Run a step. What apt leaves in its folder for temporary files when it fails goes with that folder."""
    with scratch_folder("apt-") as temporary:
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(temporary)}
        try:
            result = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=environment,
                cwd=folder,
                timeout=STEP_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            hint = "see whether the package mirror answers: apt-get update"
            raise HostRequirementError(f"{failed} within {STEP_TIMEOUT} s", where=argv[0], hint=hint) from None
    if result.returncode == 0:
        return
    if "No space left on device" in result.stderr:
        raise HostRequirementError("the disk is full", where=argv[0], hint="make room, or set XDG_CACHE_HOME")
    raise HostRequirementError(
        failed,
        detail="\n".join(result.stderr.strip().splitlines()[-6:]),
        hint=f"connect this machine to its package mirror once, or {selection.otherwise}",
    )


def _merge_usr(tree: Path) -> None:
    """Move /bin, /sbin and /lib of packages below /usr, and make the links that installing would make."""
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
    for program, meant in ALTERNATIVES.items():
        path = tree / "usr/bin" / program
        if (path.parent / meant).exists() and not path.exists():
            path.symlink_to(meant)
    # And so it does with these.
    for name in ("automake", "aclocal"):
        for versioned in (tree / "usr/bin").glob(f"{name}-*"):
            (tree / "usr/bin" / name).symlink_to(versioned.name)


ALTERNATIVES = {"nc": "nc.openbsd", "netcat": "nc.openbsd", "traceroute": "traceroute.db"}
"""Programs of which Debian has several, and the one that packages bring."""


def _name_and_version(archive: Path) -> tuple[str, str]:
    """Parse the file name that apt gives an archive: NAME_VERSION_ARCHITECTURE.deb, with %3a for a colon."""
    name, version, _ = archive.name.split("_")
    return name, version.replace("%3a", ":")


def _key(versions: dict[str, str]) -> str:
    """Return what addresses a tree: its packages and versions, the distribution and the architecture."""
    parts = [
        distribution(),
        platform.machine(),
        *(f"{name}={version}" for name, version in versions.items()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def distribution() -> str:
    """Return the distribution's name, such as debian-12."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "linux"
    return f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"


def installed() -> Base:
    """Return what this machine has. Raises HostRequirementError where it is not there or too old."""
    path = os.pathsep.join(SEARCHED)
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        raise HostRequirementError(
            f"OVS and OVN are not installed ({', '.join(missing)} not found)",
            hint=f"apt-get install {' '.join(PACKAGES[:3])}, or say `software: packages`",
        )
    versions = {program: _version(program, path) for program in OLDEST}
    for program, oldest in OLDEST.items():
        numbers = tuple(int(part) for part in versions[program].split(".")[:2] if part.isdigit())
        if numbers < oldest:
            raise HostRequirementError(
                f"{program} {versions[program]} is too old: at least {'.'.join(map(str, oldest))} is needed",
                hint="install a newer one, or say `software: packages`",
            )
    return Base("system", None, "system", versions)


def _version(program: str, path: str) -> str:
    """Return the last word of the first line of `PROGRAM --version`."""
    found = shutil.which(program, path=path) or program
    result = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    return lines[0].split()[-1] if lines and lines[0].split() else "0"


def download_source(folder: Path, selection: Selection, report: Report) -> Path:
    """Return the one source package of a selection with the distribution's changes applied, as a tarball in `folder`.

    The package sources that apt is given are a copy of the machine's, with their source packages. Raises
    HostRequirementError where it cannot be had.
    """
    if shutil.which("dpkg-source") is None:
        hint = f"apt-get install dpkg-dev, or {selection.otherwise}"
        raise HostRequirementError(f"there is no dpkg-source to unpack {selection.what} with", hint=hint)
    name = selection.packages[0]
    with scratch_folder("downloading-", folder) as scratch:
        for part in ("state/lists/partial", "cache/archives/partial", "sources", "source"):
            (scratch / part).mkdir(parents=True)
        _with_source_packages(Path("/etc/apt"), scratch / "sources")
        options = [*_apt_options(scratch), "Dir::Etc::SourceList=/dev/null", f"Dir::Etc::SourceParts={scratch}/sources"]
        apt = ["apt-get", "-qq", *(f"-o{option}" for option in options)]
        report("reading the distribution's lists of source packages")
        run([*apt, "update"], "the lists of source packages could not be downloaded", selection)
        report(f"downloading {selection.what}")
        failed = f"{selection.what} could not be downloaded from the distribution"
        run([*apt, "--download-only", "source", name], failed, selection, folder=scratch / "source")
        described = next((scratch / "source").glob("*.dsc"))
        run(["dpkg-source", "--extract", str(described), str(scratch / "tree")], "unpacking failed", selection)
        packed = folder / f"{described.stem}.tar"
        run(["tar", "-C", str(scratch), "-cf", str(scratch / "packed"), "tree"], "packing failed", selection)
        return (scratch / "packed").rename(packed)


def _with_source_packages(machine: Path, into: Path) -> None:
    """Copy apt's list of package sources so that each has source packages too (sources.list(5))."""
    for path in [machine / "sources.list", *sorted((machine / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            source = [line.replace("deb", "deb-src", 1) for line in lines if line.split()[:1] == ["deb"]]
            (into / path.name).write_text("\n".join([*lines, *source, ""]))
        elif path.suffix == ".sources" and path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            both = ["Types: deb deb-src" if line.startswith("Types:") else line for line in lines]
            (into / path.name).write_text("\n".join([*both, ""]))
