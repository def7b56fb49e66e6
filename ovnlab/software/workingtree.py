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

from ovnlab.errors import OvnlabError
from ovnlab.state import cache_root
from ovnlab.waiting import now_ns

MADE = frozenset(
    {".git", ".deps", ".libs", ".dirstamp", "autom4te.cache", "config.log", "config.status", "stamp-h1", "libtool",
     "__pycache__"}
)  # fmt: skip
"""What configuring and compiling leaves in a tree, where git does not say it; and so all that is made of a NAME.in."""

MADE_SUFFIXES = (".o", ".lo", ".la", ".a", ".pyc")

RACY_NS = 2_000_000_000
"""A file that was changed this short before it was read may have been changed again since, in the same tick."""


class _File(msgspec.Struct, frozen=True, array_like=True):
    """A file when it was last read: its size, when it was changed, its mode or link, and what it contains."""

    size: int
    changed_ns: int
    kind: str
    digest: str


class _Index(msgspec.Struct, frozen=True):
    """All files of a tree, by their paths in it, and when it was read."""

    read_ns: int
    files: dict[str, _File]


def digest(tree: Path) -> str:
    """What addresses the content of a tree: names, contents, and which files can be run."""
    return _digest(_current(tree))


def _digest(index: _Index) -> str:
    found = hashlib.sha256()
    for name, file in sorted(index.files.items()):
        found.update(f"{name}\0{file.kind}\0{file.digest}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def follow(tree: Path, into: Path) -> str:
    """Make a copy of a tree what the tree is, and return what addresses its content. What else is in the copy stays.

    A file whose content is another is new in the copy, whatever its own date: make goes by dates.
    """
    index = _current(tree)
    copied = into.with_name(f"{into.name}.index")
    before = _read(copied).files
    first = not into.exists()
    into.mkdir(parents=True, exist_ok=True)
    copied.unlink(missing_ok=True)  # killed in the middle, nothing is known of the copy
    for name in before.keys() - index.files.keys():
        (into / name).unlink(missing_ok=True)
    for name, file in index.files.items():
        old = before.get(name)
        if old is None or (old.kind, old.digest) != (file.kind, file.digest):
            _copy(tree / name, into / name, dated=first)
    _write(copied, index)
    return _digest(index)


def forget_made_since(into: Path, moment_ns: int) -> None:
    """Remove what was made in a copy since a moment and is not of the tree: a killed compiler leaves halves."""
    own = _read(into.with_name(f"{into.name}.index")).files
    for folder, _, names in os.walk(into):
        for name in names:
            path = Path(folder, name)
            if str(path.relative_to(into)) not in own and path.lstat().st_mtime_ns >= moment_ns:
                path.unlink()


def _copy(source: Path, target: Path, *, dated: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    try:
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif dated:
            shutil.copy2(source, target)
        else:
            shutil.copy(source, target)
        if not target.is_symlink():
            target.chmod(target.stat().st_mode | stat.S_IWUSR)
    except FileNotFoundError:
        raise OvnlabError("was there a moment ago: the tree changes while it is read", where=str(source)) from None


def _current(tree: Path) -> _Index:
    """The files of a tree as they are now; those that look as they did when they were last read are not read again."""
    kept = cache_root() / "building/indexes" / hashlib.sha256(os.fsencode(tree)).hexdigest()[:16]
    before = _read(kept)
    now = now_ns()
    files = {}
    for name in _names(tree):
        path = os.path.join(tree, name)  # noqa: PTH118  a thousand Path objects would be noticed
        try:
            found = os.lstat(path)
        except FileNotFoundError:  # git still knows it
            continue
        kind = "link" if stat.S_ISLNK(found.st_mode) else "run" if found.st_mode & stat.S_IXUSR else ""
        old = before.files.get(name)
        same = old is not None and (old.size, old.changed_ns, old.kind) == (found.st_size, found.st_mtime_ns, kind)
        if old is None or not same or found.st_mtime_ns > before.read_ns - RACY_NS:
            content = os.fsencode(Path(path).readlink()) if kind == "link" else Path(path).read_bytes()
            old = _File(found.st_size, found.st_mtime_ns, kind, hashlib.sha256(content).hexdigest())
        files[name] = old
    index = _Index(now, files)
    if index.files != before.files:
        _write(kept, index)
    return index


def _names(tree: Path) -> Iterator[str]:
    """The paths of a tree's own files: git says which those are where it knows the tree."""
    if (tree / ".git").exists():
        asked = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        try:
            found = subprocess.run(asked, cwd=tree, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            pass
        else:
            listed = dict.fromkeys(filter(None, found.decode(errors="surrogateescape").split("\0")))
            yield from (name for name in listed if not os.path.isdir(os.path.join(tree, name)))  # noqa: PTH112, PTH118
            return
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name not in MADE)
        inner = folder[len(str(tree)) + 1 :]
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:  # noqa: PTH114, PTH118
            made = name in MADE or name.endswith(MADE_SUFFIXES) or f"{name}.in" in names
            if not made:
                yield os.path.join(inner, name)  # noqa: PTH118


def _read(path: Path) -> _Index:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return _Index(0, {})


def _write(path: Path, index: _Index) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_bytes(msgspec.json.encode(index))
    scratch.replace(path)
