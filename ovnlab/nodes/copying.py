"""Copies files and directories from, to and between nodes: tar(1) on one side reads what tar on the other writes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

from ovnlab.errors import OvnlabError

Wrap = Callable[[Sequence[str]], list[str]]
"""Returns the command that runs a command where the files are."""

UNPACK = (
    "set -eu\n"
    'if [ -d "$1" ]; then exec tar -C "$1" --no-same-owner -xf -; fi\n'
    'case $1 in */) echo "$1 is not a directory" >&2; exit 1 ;; esac\n'
    'folder=$(mktemp -d "$(dirname -- "$1")/.ovnlab-cp-XXXXXX")\n'
    "trap 'rm -rf \"$folder\"' EXIT\n"
    'tar -C "$folder" --no-same-owner -xf -\n'
    'mv -fT -- "$folder/$2" "$1"\n'
)
"""Unpacks into a directory that is there, or as what does not exist yet."""


def here(argv: Sequence[str]) -> list[str]:
    """Return the command that runs a command on this machine."""
    return list(argv)


def commands(source: Wrap, source_path: str, target: Wrap, target_path: str) -> tuple[list[str], list[str]]:
    """Return two commands, of which the second reads what the first writes."""
    reading = ["tar", "-C", folder_of(source_path), "-cf", "-", "--", base_of(source_path)]
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
        subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False) as reader,
        subprocess.Popen(writing, stdin=reader.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as writer,
    ):
        assert reader.stdout is not None  # noqa: S101  it is a pipe
        reader.stdout.close()
        said_by_writer = writer.communicate()[1]
        said_by_reader = reader.stderr.read() if reader.stderr else b""
    for process, said in ((reader, said_by_reader), (writer, said_by_writer)):
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            message = lines[0].removeprefix("tar: ") if lines else f"exit code {process.returncode}"
            raise OvnlabError(message, where="reading" if process is reader else "writing")
