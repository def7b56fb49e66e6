"""A tree that somebody works on: what it contains, and a copy of it to build in that follows it.

Only what has changed is read again and copied again, so that make compiles only what has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import OvnlabError
from ovnlab.software.toolchain import without_git
from ovnlab.state import cache_root
from ovnlab.waiting import now_ns

MADE = frozenset(
    {".git", ".deps", ".libs", ".dirstamp", "autom4te.cache", "config.log", "config.status", "stamp-h1", "libtool",
     "__pycache__"}
)  # fmt: skip
"""What configuring and compiling leaves in a tree, where git does not say it; and so all that is made of a NAME.in."""

MADE_SUFFIXES = (".o", ".lo", ".la", ".a", ".pyc")

PROGRAM = b"\x7fELF"
"""How programs begin that a compiler has made."""

RACY_NS = 2_000_000_000
"""A file that was changed this short before it was read may have been changed again since, in the same tick."""


class Changed(OvnlabError):
    """A tree was changed while it was read."""


class _File(msgspec.Struct, frozen=True, array_like=True):
    """A file when it was last read: its size and number, when it was changed, what it is, and what it contains.

    `kind` is link, run (it can be run), made (it is not of the tree), or nothing of these.
    """

    size: int
    number: int
    changed_ns: int
    kind: str
    digest: str


class _Index(msgspec.Struct, frozen=True):
    """The files of a tree by path, and when the tree was read."""

    read_ns: int
    files: dict[str, _File]


UNKNOWN = _File(0, 0, 0, "", "")


def digest(tree: Path) -> str:
    """Return what addresses the content of a tree: names, contents, and which files can be run."""
    return _digest(_current(tree))


def _digest(index: _Index) -> str:
    found = hashlib.sha256()
    for name, file in sorted(index.files.items()):
        found.update(f"{name}\0{file.kind}\0{file.digest}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def follow(tree: Path, into: Path) -> str:
    """Make a copy of a tree what the tree is, and return what addresses its content. What else is in the copy stays.

    A file whose content is another is new in the copy, whatever its own date: make goes by dates. Raises Changed where
    the tree is changed meanwhile.
    """
    index = _current(tree)
    copied = into.with_name(f"{into.name}.index")
    before = _read(copied).files
    first = not into.exists()
    into.mkdir(parents=True, exist_ok=True)
    differing = [name for name, file in index.files.items() if not _is_same(before.get(name), file)]
    gone = before.keys() - index.files.keys()
    if differing or gone:
        # Killed in the middle, the next one knows what may be there, and that it is not known what it contains.
        _write(copied, _Index(0, {**before, **dict.fromkeys([*differing, *gone], UNKNOWN)}))
    for name in gone:
        (into / name).unlink(missing_ok=True)
    for name in differing:
        _copy(tree / name, into / name, index.files[name], dated=first)
    if differing or gone:
        _write(copied, index)
    return _digest(index)


def _is_same(before: _File | None, now: _File) -> bool:
    return before is not None and (before.kind, before.digest) == (now.kind, now.digest)


def forget_made_since(into: Path, moment_ns: int) -> None:
    """Remove what was made in a copy since a moment and is not of the tree: a killed compiler leaves halves."""
    own = _read(into.with_name(f"{into.name}.index")).files
    for folder, _, names in os.walk(into):
        for name in names:
            path = Path(folder, name)
            if str(path.relative_to(into)) not in own and path.lstat().st_mtime_ns >= moment_ns:
                path.unlink()


def _copy(source: Path, target: Path, file: _File, *, dated: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    content = _content(source, file.kind)
    if content is None or hashlib.sha256(content).hexdigest() != file.digest:
        raise Changed("changes while it is read", where=str(source))
    if file.kind == "link":
        target.symlink_to(os.fsdecode(content))
        return
    target.write_bytes(content)
    target.chmod(0o755 if file.kind == "run" else 0o644)
    if dated:
        found = source.stat()
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _content(path: Path, kind: str) -> bytes | None:
    """Return what is in a file, or where a link leads; None where it is gone."""
    try:
        if kind != "link":
            return path.read_bytes()
        target = path.readlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=str(path)) from None
    # One that leads out of the tree would lead elsewhere from the copy.
    return os.fsencode(target if _is_inside(path) else path.parent / target)


def _is_inside(link: Path) -> bool:
    """Return True if a link leads to somewhere below the first folder above it that is the top of a tree."""
    target = os.path.normpath(link.parent / link.readlink())
    top = next((str(folder) for folder in link.parents if (folder / "configure.ac").exists()), str(link.parent))
    return not link.readlink().is_absolute() and target.startswith(f"{top}/")


def _current(tree: Path) -> _Index:
    """Return the files of a tree as they are now; those that look as they did when they were last read are not read
    again.
    """
    kept = cache_root() / "building/indexes" / hashlib.sha256(os.fsencode(tree)).hexdigest()[:16]
    before = _read(kept)
    now = now_ns()
    known = _listed_by_git(tree)
    files = {}
    for name in _names(tree) if known is None else known:
        old = before.files.get(name)
        found = _file(tree / name, old, before.read_ns, is_known=known is not None)
        if found is not None:
            files[name] = found
    index = _Index(now, files)
    if index.files != before.files:
        _write(kept, index)
    return _Index(now, {name: file for name, file in files.items() if file.kind != "made"})


def _file(path: Path, old: _File | None, read_ns: int, *, is_known: bool) -> _File | None:
    """Return a file as it is; None for what is none, such as a pipe.

    What is known to be of the tree is not what was made.
    """
    try:
        found = os.lstat(path)
        kind = "link" if stat.S_ISLNK(found.st_mode) else "run" if found.st_mode & stat.S_IXUSR else ""
        if kind == "link" and not _is_inside(path) and path.is_file():
            found, kind = path.stat(), ""  # the file that it means, which may change
    except (FileNotFoundError, NotADirectoryError):  # git still knows it
        return None
    except OSError as error:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        return None
    looks = (found.st_size, found.st_ino, found.st_ctime_ns)
    was = (old.size, old.number, old.changed_ns) if old else None
    if old is not None and looks == was and old.kind in (kind, "made") and found.st_ctime_ns < read_ns - RACY_NS:
        return old
    content = _content(path, kind)
    if content is None:
        return None
    if not is_known and kind == "run" and content.startswith(PROGRAM):
        kind = "made"
    return _File(*looks, kind, hashlib.sha256(content).hexdigest())


def _listed_by_git(tree: Path) -> list[str] | None:
    """Return the files of a tree that git knows: tracked ones, and others that it does not ignore."""
    if not (tree / ".git").exists():
        return None
    trusted = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]  # a repository may name a program of its own
    asked = ["git", *trusted, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(asked, cwd=tree, capture_output=True, check=True, env=without_git(os.environ)).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return list(dict.fromkeys(os.fsdecode(name) for name in found.split(b"\0") if name))


def _names(tree: Path) -> Iterator[str]:
    """Yield the paths of a tree's files, without those that compiling leaves."""

    def fail(error: OSError) -> None:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None

    for folder, folders, names in os.walk(tree, onerror=fail):
        folders[:] = sorted(name for name in folders if name not in MADE)
        inner = folder[len(str(tree)) + 1 :]
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118  speed
        for name in [*names, *linked]:
            made = name in MADE or name.endswith(MADE_SUFFIXES) or f"{name}.in" in names
            if not made:
                yield os.path.join(inner, name)  # noqa: PTH118


def _read(path: Path) -> _Index:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return _Index(0, {})
    return _Index(found.read_ns, {os.fsdecode(bytes.fromhex(name)): file for name, file in found.files.items()})


def _write(path: Path, index: _Index) -> None:
    """Write the index, names in hex: a file name need not be text."""
    named = {os.fsencode(name).hex(): file for name, file in index.files.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(_Index(index.read_ns, named)))
