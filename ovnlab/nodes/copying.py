"""Copies files and directories from, to and between nodes: tar(1) on one side reads what tar on the other writes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence

from ovnlab.errors import OvnlabError

Wrap = Callable[[Sequence[str]], list[str]]
"""Returns the command that runs a command where the files are."""

UNPACK = (
    "set -eu\n"
    "export LC_ALL=C\n"
    'if [ -d "$1" ]; then exec tar -C "$1" --no-same-owner -xf -; fi\n'
    'case $1 in */) echo "$1 is not a directory" >&2; exit 1 ;; esac\n'
    'if [ -e "$1" ] || [ -L "$1" ]; then there=yes; else there=; fi\n'
    'if [ "$there" ]; then folder=$(mktemp -d); else\n'
    '    folder=$(mktemp -d "$(dirname -- "$1")/.ovnlab-cp-XXXXXX")\n'
    "fi\n"
    "trap 'rm -rf \"$folder\"' EXIT\n"
    'tar -C "$folder" --no-same-owner -xf -\n'
    'if [ -f "$folder/$2" ] && [ ! -L "$folder/$2" ] && [ "$there" ]; then\n'
    '    cat "$folder/$2" >"$1"\n'
    "else\n"
    '    mv -fT -- "$folder/$2" "$1"\n'
    "fi\n"
)
"""Unpacks into a directory that is there, or as what does not exist yet. A file or device that is there is written to,
as cp(1) does: it stays the same one.
"""

CHANGED = ("file changed as we read it", "file removed before we read it")
"""What tar says of files that are written meanwhile, such as logs and databases: they are copied all the same."""

UNREAD = ("Broken pipe", "Wrote only")
"""What tar says where nobody reads what it writes."""


def here(argv: Sequence[str]) -> list[str]:
    """Return the command that runs a command on this machine."""
    return list(argv)


def commands(source: Wrap, source_path: str, target: Wrap, target_path: str) -> tuple[list[str], list[str]]:
    """Return two commands, of which the second reads what the first writes."""
    reading = ["env", "LC_ALL=C", "tar", "-C", folder_of(source_path), "-cf", "-", "--", base_of(source_path)]
    writing = ["sh", "-c", UNPACK, "sh", target_path, base_of(source_path)]
    return source(reading), target(writing)


def folder_of(path: str) -> str:
    """Return the directory that a file or directory is in."""
    return path.rstrip("/").rpartition("/")[0] or ("/" if path.startswith("/") else ".")


def base_of(path: str) -> str:
    """Return the name of a file or directory in its own directory."""
    return path.rstrip("/").rpartition("/")[2]


def copy(reading: Sequence[str], writing: Sequence[str]) -> None:
    """Run both commands. Raises OvnlabError with what the one that failed says."""
    with (
        tempfile.TemporaryFile() as complaints,  # of any number of files: a pipe of them would fill up
        # Without a terminal as its input: ssh would give it one to write to, which changes line ends.
        subprocess.Popen(reading, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints) as reader,
        subprocess.Popen(writing, stdin=reader.stdout, stderr=subprocess.PIPE) as writer,
    ):
        assert reader.stdout is not None  # noqa: S101  it is a pipe
        reader.stdout.close()
        told = _lines(writer.communicate()[1])
        reader.wait()
        complaints.seek(0)
        said = _lines(complaints.read(2**16))
    has_changed = reader.returncode == 1 and bool(said) and all(line.endswith(CHANGED) for line in said)
    was_unread = not said or any(word in said[0] for word in UNREAD)
    if writer.returncode and (not reader.returncode or has_changed or was_unread):
        raise OvnlabError(told[0] if told else f"exit code {writer.returncode}", where="writing")
    if reader.returncode and not has_changed:
        raise OvnlabError(said[0] if said else f"exit code {reader.returncode}", where="reading")


def _lines(said: bytes) -> list[str]:
    return [line.removeprefix("tar: ") for line in said.decode(errors="replace").strip().splitlines()]
