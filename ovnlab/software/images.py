"""Disk images for nodes that are VMs: Debian with OVS and OVN, a kernel, and an initrd that boots fast.

They are made by mmdebstrap from this machine's own package mirror, and kept by the hash of their content.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ovnlab import scratch
from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError, UsageError
from ovnlab.software import packages
from ovnlab.state import cache_root, remove_tree, storage_error
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.waiting import now_ns

if TYPE_CHECKING:
    from ovnlab.software.artefacts import Artefact

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

SUITE = "bookworm"
"""The Debian that images are of, where nothing is said."""

SIZE_MIB = 4096
"""The size of their disks; what is not written takes no room."""

NEEDED_BYTES = 2 * 2**30
"""What must be free while an image is made."""

TIMEOUT = 1800.0
"""Seconds that making an image may take."""

PROGRAMS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"}
"""What makes images, and Debian's packages of it."""

CONTENT = (
    *packages.PACKAGES,
    "bash-static",
    "busybox-static",
    "ca-certificates",
    "kmod",
    "openssh-server",
    "procps",
    "python3-minimal",
    "sudo",
    "systemd-sysv",
    "udev",
)
"""What is in an image beside the kernel."""

KERNEL_ARGUMENTS = (
    "rw console=ttyS0 net.ifnames=0 quiet mitigations=off nopti cryptomgr.notests nokaslr systemd.show_status=false "
    "audit=0 lsm=capability init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off preempt=none"
)
"""What the kernel is told beside where its root is: quick where nothing has to be kept apart."""

BOX_PROGRAMS = {"grub-mkimage": "grub-common", "sfdisk": "fdisk"}
BOOT_SECTOR = Path("/usr/lib/grub/i386-pc/boot.img")
"""What a box takes beside that."""

VAGRANT_KEY = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct"
    "1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4"
    "pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcW"
    "yLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key"
)
"""Vagrant's well-known key, which boxes let in and which is replaced in a machine as soon as it runs."""

KERNELS = {"x86_64": "linux-image-cloud-amd64", "aarch64": "linux-image-cloud-arm64"}

MASKED = (
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty-static.service",
    "getty@tty1.service",
    "ifupdown-pre.service",
    "kmod-static-nodes.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "networking.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-fsck-root.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
)
"""Units that take time when a node boots, and that no node needs."""

Report = Callable[[str], None]


class Image(msgspec.Struct, frozen=True):
    """An image: `key` is a hash of its disk, `made` seconds since 1970, `packages` their versions by name.

    `builds` are the keys of what it has that was built from source.
    """

    name: str
    key: str
    suite: str
    made: int
    packages: dict[str, str]
    builds: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Return the folder of its files."""
        return images_root() / self.key

    @property
    def disk(self) -> Path:
        """Return the path of the qcow2 disk."""
        return self.path / "disk.qcow2"

    @property
    def kernel(self) -> Path:
        """Return the kernel to boot it with."""
        return self.path / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Return the initrd of the kernel."""
        return self.path / "initrd.img"

    @property
    def box(self) -> Path:
        """Return the image as a Vagrant box, where one was made."""
        return self.path / "disk.box"

    @property
    def size(self) -> int:
        """Return the size of the image in bytes."""
        return sum(path.stat().st_size for path in self.path.iterdir())


def images_root() -> Path:
    """Return the folder of images."""
    return cache_root() / "images"


def find(name: str) -> Image | None:
    """Return the image of that name, None where there is none."""
    try:
        return msgspec.json.decode((images_root() / "names" / name / "image.json").read_bytes(), type=Image)
    except (OSError, msgspec.DecodeError):
        return None


def identity(path: Path) -> str:
    """Return a hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fetch(url: str, sha256: str, report: Report) -> Path:
    """Return an image by its URL, which is downloaded once. Raises OvnlabError where it is not what was meant."""
    path = images_root() / "fetched" / sha256

    def examine(scratch: Path) -> None:
        with scratch.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise OvnlabError(
                f"its SHA-256 sum is {found}, not {sha256}", where=url, hint="it is not the file that was meant"
            )

    if not path.exists():
        from ovnlab.software.downloads import download  # noqa: PLC0415  brings http.client and ssl

        report(f"downloading {url}")
        download(url, path, examine)
    return path


def all_there() -> list[Image]:
    """Return all images, by name."""
    try:
        names = sorted(path.name for path in (images_root() / "names").iterdir())
    except FileNotFoundError:
        return []
    return [image for name in names if (image := find(name)) is not None]


def remove(name: str) -> None:
    """Remove an image. Raises UsageError where there is none of that name."""
    link = images_root() / "names" / name
    if not link.is_symlink():
        raise UsageError(f"unknown image {name}", hint="`ovnlab image ls` lists them")
    key = link.readlink().name
    link.unlink()
    if all(image.key != key for image in all_there()):
        remove_tree(images_root() / key)


def build(
    name: str, report: Report, *, suite: str = SUITE, box: bool = False, builds: Sequence[Artefact] = ()
) -> Image:
    """Make an image, and a Vagrant box of the same; one that has that name is that of the new one then.

    Nodes that run one of `builds` find it there.

    Raises UsageError for a name that cannot be one, HostRequirementError where this machine lacks what it takes, and
    CommandFailed with the end of what was printed.
    """
    require(name, box=box)
    root = images_root()
    try:
        (root / "names").mkdir(parents=True, exist_ok=True)
        with packages.exclusive(root / "lock", report, "another ovnlab that makes an image"):
            return _made(root, name, suite, builds, box=box)
    except OSError as error:
        raise storage_error(error, root) from None


def require(name: str, *, box: bool) -> None:
    """Raise UsageError or HostRequirementError, as `build`, if an image of that name cannot be made here."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of an image", hint="lower-case letters, digits, '_' and '-'")
    machine = os.uname().machine
    if box and machine != "x86_64":
        raise UsageError(f"boxes can be made of x86_64 only, and this is {machine}")
    needed = PROGRAMS | (BOX_PROGRAMS if box else {})
    path = os.pathsep.join(packages.SEARCHED)
    lacking = [package for program, package in needed.items() if shutil.which(program, path=path) is None]
    if box and not BOOT_SECTOR.exists():
        lacking.append("grub-pc-bin")
    if lacking:
        raise HostRequirementError(
            f"images are made with {', '.join(needed)}, and not all of them are here",
            hint=f"sudo apt-get install {' '.join(lacking)}",
        )
    if os.geteuid() != 0:
        raise HostRequirementError("images have files of many users, which takes root", hint="sudo ovnlab image build")


def _made(root: Path, name: str, suite: str, builds: Sequence[Artefact], *, box: bool) -> Image:
    with scratch.folder("making-", root) as folder, scratch.folder("ovnlab-image-", _roomy(root)) as temporary:
        temporary.chmod(0o755)  # apt's own user reads there
        for title, text in scripts(name, suite, folder, temporary, builds, box=box):
            (folder / title).write_text(text)
        from ovnlab.nodes.context import ProcessContext  # noqa: PLC0415  for who makes an image

        context = ProcessContext(list)
        try:
            run_script(context, (folder / "build.sh").read_text(), where=f"image {name}", timeout=TIMEOUT)
        except CommandFailed as error:
            error.hint = error.hint or "what went wrong stands above; `ovnlab image build` begins anew"
            raise
        lines = (folder / "packages").read_text().splitlines()
        versions = dict(line.split() for line in lines)
        key = identity(folder / "disk.qcow2")
        image = Image(name, key, suite, now_ns() // 10**9, versions, tuple(found.key for found in builds))
        made = folder / "made"
        made.mkdir()
        for title in ("disk.qcow2", "vmlinuz", "initrd.img", *(("disk.box",) if box else ())):
            (folder / title).rename(made / title)
        (made / "image.json").write_bytes(msgspec.json.format(msgspec.json.encode(image)))
        made.rename(root / key)
    before = find(name)
    link = root / "names" / f"{name}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / key)
    link.replace(root / "names" / name)
    if before is not None and all(other.key != before.key for other in all_there()):
        remove_tree(before.path)
    return image


def _roomy(root: Path) -> Path:
    """Return where the tree is laid out: in memory where there is room, which is three times as fast."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of ours in it, by a name that nobody knows before
    place = memory if memory.is_dir() and shutil.disk_usage(memory).free > NEEDED_BYTES else root
    if shutil.disk_usage(place).free < NEEDED_BYTES or shutil.disk_usage(root).free < NEEDED_BYTES:
        raise HostRequirementError(
            f"{NEEDED_BYTES // 2**20} MiB must be free to make an image",
            where=str(root),
            hint="make room there, or set XDG_CACHE_HOME to a folder with more",
        )
    return place


def scripts(
    name: str, suite: str, folder: Path, temporary: Path, builds: Sequence[Artefact] = (), *, box: bool = False
) -> list[tuple[str, str]]:
    """Return what makes an image: titles and texts."""
    machine = os.uname().machine
    if machine not in KERNELS:
        raise OvnlabError(f"no kernel is known for images of {machine}", hint="give nodes an `image:` of your own")
    values = {
        "name": name,
        "suite": suite,
        "folder": folder,
        "temporary": temporary,
        "packages": (KERNELS[machine], *CONTENT, *(("ifupdown",) if box else ())),
        "box": box,
        "vagrant_key": VAGRANT_KEY,
        "command_line": KERNEL_ARGUMENTS,
        "boot_sector": BOOT_SECTOR,
        "masked": MASKED,
        "builds": builds,
        "size_mib": SIZE_MIB,
    }
    found = {kind: list(sources(suite, kind)) for kind in ("list", "sources")}
    mirrors = [(f"mirror.{kind}", "\n".join(entries)) for kind, entries in found.items() if entries]
    values["mirrors"] = [folder / title for title, _ in mirrors]
    titles = ("build.sh", "customize.sh", "init.sh")
    return [*mirrors, *((title, render(f"image/{title}.j2", **values)) for title in titles)]


def sources(suite: str, kind: str, machine: Path = Path("/etc/apt")) -> Iterator[str]:
    """Yield the entries of this machine's apt that are of a Debian's main component, those of *.list or of *.sources
    files.

    Where there are none of that Debian, mmdebstrap uses Debian's own mirror. See sources.list(5).
    """
    for path in [machine / "sources.list", *sorted((machine / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix != f".{kind}":
            continue
        text = path.read_text(errors="replace")
        if kind == "list":
            lines = (line.strip() for line in text.splitlines())
            yield from (line for line in lines if line.startswith("deb ") and _is_of(suite, line.split()))
        else:
            stanzas = (
                "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
                for stanza in re.split(r"\n\s*\n", text)
            )
            yield from (stanza.strip() + "\n" for stanza in stanzas if _is_of(suite, stanza.split()))


def _is_of(suite: str, words: Sequence[str]) -> bool:
    suites = {suite, f"{suite}-updates", f"{suite}-security"}
    return "main" in words and bool(suites & set(words))
