"""Folders of ovnlab, and the stored state of labs: for finding labs, never for believing them.

$XDG_STATE_HOME/ovnlab/labs/NAME/       a lab: lab.json, and what its nodes write
$XDG_STATE_HOME/ovnlab/labs/NAME.lock   who is working on it
$XDG_STATE_HOME/ovnlab/logs/NAME/       its logs, which outlive it
$XDG_STATE_HOME/ovnlab/announced/HASH   effects of a topology that this user was told of
$XDG_CACHE_HOME/ovnlab/                 what can be made again
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import HostRequirementError, OvnlabError, UsageError
from ovnlab.topology.resolved import LAB_NAME, Topology
from ovnlab.waiting import wait_until

SCHEMA_VERSION = 3
LOCK_TIMEOUT = 600.0
NEEDED_BYTES = 64 * 1024 * 1024
"""What must be free for a lab to begin: its databases, and logs to say why when something fails."""


class Base(msgspec.Struct, frozen=True):
    """The OVS and OVN of nodes that nothing is built for: a tree that is laid over /usr, or None for what is installed.

    `key` addresses its content; `versions` are of its packages.
    """

    kind: str
    tree: str | None
    key: str
    versions: dict[str, str]


class Stored(msgspec.Struct, frozen=True):
    """The record of a lab between two commands.

    `source` is the file that it was made from; `complete` is False while `up` works, and after an `up` that failed.
    `options` are the words of `up` that put something over the file.
    """

    source: str
    topology: Topology
    base: Base
    complete: bool
    schema_version: int = SCHEMA_VERSION
    options: tuple[str, ...] = ()


def state_root() -> Path:
    """Return the folder of this user's labs."""
    return _base_folder("XDG_STATE_HOME", "~/.local/state") / "ovnlab"


def cache_root() -> Path:
    """Return the folder of what can be made again."""
    return _base_folder("XDG_CACHE_HOME", "~/.cache") / "ovnlab"


def _base_folder(variable: str, default: str) -> Path:
    """Return a base folder of this user (XDG Base Directory Specification).

    Two lines of ovnlab's own: platformdirs takes 20 ms to import, which every command would spend.
    """
    given = os.environ.get(variable, "")
    return Path(given if given.strip() else os.path.expanduser(default))  # noqa: PTH111  works where there is no home


_BARE_UP = re.compile(r"ovnlab up(?=$|[`;,:.)]|, | --dry-run)")
"""`ovnlab up` without a file in a hint."""


def typed_path(path: str) -> str:
    """Return a path as a person types it in a shell: in the home directory, with `~`."""
    home = os.environ.get("HOME", "").rstrip("/")
    if home and path.startswith(f"{home}/"):
        return f"~/{shlex.quote(path.removeprefix(f'{home}/'))}"
    return shlex.quote(path)


class LabFolder:
    """The files of one lab."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        if not LAB_NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be the name of a lab", hint="lower-case letters, digits and '-'")
        self.name = name
        self.root = root or state_root()
        self.path = self.root / "labs" / name
        self.logs = self.root / "logs" / name
        self.lock_file = self.root / "labs" / f"{name}.lock"

    def exists(self) -> bool:
        """Return True if anything of the lab is there."""
        return self.path.exists()

    def node(self, name: str) -> Path:
        """Return what a node writes, its logs excepted."""
        return self.path / "nodes" / name

    def node_logs(self, name: str) -> Path:
        """Return the folder of a node's /var/log."""
        return self.logs / name

    def logs_size(self) -> int:
        """Return the bytes that the lab's logs hold."""
        found = 0
        for folder, _, files in os.walk(self.logs):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    found += Path(folder, name).stat().st_size
        return found

    def stored(self) -> Stored | None:
        """Return the stored state, None where there is none or it is of no use."""
        try:
            stored = msgspec.json.decode((self.path / "lab.json").read_bytes(), type=Stored)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, msgspec.DecodeError):
            return None
        return stored if stored.schema_version == SCHEMA_VERSION else None

    def up_command(self) -> str:
        """Return the command that brings the lab back, in quotes for a hint: also where there are other labs."""
        return f"`{self.up_words()}`"

    def up_words(self) -> str:
        """Return the command that brings the lab back, as a person types it in a shell."""
        stored = self.stored()
        if stored is None or not stored.source:
            return "ovnlab up"
        return " ".join(["ovnlab up", typed_path(stored.source), *map(shlex.quote, stored.options)])

    def with_file(self, hint: str) -> str:
        """Return a hint in which `ovnlab up` names the lab's file, also where there are other labs."""
        if not _BARE_UP.search(hint):
            return hint
        command = self.up_words()
        return _BARE_UP.sub(lambda _: command, hint)

    def is_locked(self) -> bool:
        """Return True if somebody works on the lab now. Who looks does not get into the way of others (proc(5))."""
        try:
            inode = f":{self.lock_file.stat().st_ino}"
            return any(line.split()[5].endswith(inode) for line in Path("/proc/locks").read_text().splitlines())
        except (OSError, IndexError):
            return False

    def store(self, stored: Stored) -> None:
        """Write the stored state, all of it or nothing."""
        clear_folder(self.path / "lab.json")
        write_whole(self.path / "lab.json", msgspec.json.format(msgspec.json.encode(stored)))

    def create(self, *, afresh: bool) -> None:
        """Make the lab's folders, private to the user; `afresh` without the logs of an earlier lab.

        Raises HostRequirementError where the state folder is not the user's, or full.
        """
        if afresh and self.logs.exists():
            import shutil  # noqa: PLC0415  brings compression, and few commands remove anything

            shutil.rmtree(self.logs, ignore_errors=True)
        for path in (self.path, self.path / "nodes", self.logs):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                path.unlink()  # where a folder is to be
        for path in (self.root, self.root / "labs", self.path, self.path / "nodes", self.logs):
            _private_folder(path)
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        if free < NEEDED_BYTES:
            raise HostRequirementError(
                f"only {free // 2**20} MiB are free where labs are kept, {NEEDED_BYTES // 2**20} are needed",
                where=str(self.root),
                hint="make room there, or set XDG_STATE_HOME to a folder with more",
            )

    def remove(self) -> None:
        """Remove everything of the lab but its logs and its lock."""
        if self.path.is_dir() and not self.path.is_symlink():
            remove_tree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, on_wait: Callable[[str], None], *, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
        """Hold the lab's lock; `on_wait` is told who has it meanwhile.

        Raises Timeout after `timeout` seconds.
        """
        _private_folder(self.root)
        _private_folder(self.root / "labs")
        descriptor = self._try_lock()
        if descriptor is None:
            owner = self._lock_owner()
            on_wait(owner)
            descriptor = wait_until(f"the lock of lab {self.name}, held by {owner}", self._try_lock, timeout=timeout)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {' '.join(['ovnlab', *sys.argv[1:]])}".encode(errors="replace"), 0)
            yield
        finally:
            if not self.path.exists():
                self.lock_file.unlink(missing_ok=True)
            os.close(descriptor)

    def _try_lock(self) -> int | None:
        """Return a descriptor that holds the lock. The file may be removed by who held it: then it is another one."""
        clear_folder(self.lock_file)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == self.lock_file.stat().st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def _lock_owner(self) -> str:
        try:
            pid, _, command = self.lock_file.read_text(errors="replace").partition(" ")
        except OSError:
            return "another ovnlab"
        return f"process {pid} ({command})" if pid else "another ovnlab"


def labs() -> list[LabFolder]:
    """Return the labs of this user that anything is there of, by name."""
    folder = state_root() / "labs"
    try:
        names = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    except FileNotFoundError:
        return []
    return [LabFolder(name) for name in names if LAB_NAME.fullmatch(name)]


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, also what a node made unreadable. Raises HostRequirementError where that fails."""
    try:
        for folder, names, _ in os.walk(path):  # top down: what was closed is open before it is walked into
            for name in names:
                inner = Path(folder, name)
                if not inner.is_symlink() and not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
                    inner.chmod(0o700)
        import shutil  # noqa: PLC0415  brings compression, and few commands remove anything

        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(error, path) from None


def announced(key: str) -> bool:
    """Return True if this was called before with that key. The user's own record of it is a file."""
    path = state_root() / "announced" / key
    if path.exists():
        return True
    for folder in (state_root(), path.parent):
        _private_folder(folder)
    write_whole(path, "")
    return False


def clear_folder(path: Path) -> None:
    """Remove a folder that somebody has put where a file of ovnlab's is to be."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)


def locks() -> list[str]:
    """Return the names of labs that somebody works on, or was working on when it was killed."""
    return sorted(path.stem for path in (state_root() / "labs").glob("*.lock"))


def _private_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        raise storage_error(error, path) from None
    if owner != os.geteuid() or not os.access(path, os.W_OK | os.X_OK):
        raise HostRequirementError(
            f"belongs to user {owner}, and you are user {os.geteuid()}",
            where=str(path),
            hint=f"sudo chown -R {os.geteuid()} {path}, or set XDG_STATE_HOME to a folder of your own",
        )


def storage_error(error: OSError, path: Path) -> OvnlabError:
    """Return what an error of the file system means to a person."""
    where = str(error.filename or path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostRequirementError("the disk is full", where=where, hint="make room there")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"make it writable for user {os.geteuid()}, or set XDG_STATE_HOME and XDG_CACHE_HOME"
        return HostRequirementError(f"cannot be written: {error.strerror}", where=where, hint=hint)
    return HostRequirementError(f"cannot be used: {error.strerror}", where=where)
