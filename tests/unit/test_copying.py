"""Copies of files, between folders of this machine: what is there, what cannot be read, and who is to blame."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovnlab.errors import OvnlabError
from ovnlab.nodes import copying


def cp(source: Path | str, target: Path | str) -> None:
    copying.copy(*copying.commands(copying.here, str(source), copying.here, str(target)))


def test_a_file_that_is_there_is_written_to_and_stays_the_same_one(tmp_path: Path) -> None:
    source, target, link = tmp_path / "new", tmp_path / "old", tmp_path / "link"
    source.write_text("new")
    target.write_text("a longer old one")
    link.symlink_to("old")
    before = target.stat()
    cp(source, link)
    assert (target.read_text(), target.stat().st_ino, target.stat().st_mode) == ("new", before.st_ino, before.st_mode)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new", "old"]


def test_a_mistake_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "file"
    target.write_text("old")
    for source in ("folder", "nothing"):
        with pytest.raises(OvnlabError):
            cp(tmp_path / source, target)
        assert target.read_text() == "old"
    with pytest.raises(OvnlabError, match="is not a directory") as found:
        cp(target, f"{tmp_path}/no/")
    assert found.value.where == "writing"


def test_who_cannot_write_is_blamed_also_of_a_large_file(tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(10_000_000)
    with pytest.raises(OvnlabError, match="No such file or directory") as found:
        cp(source, tmp_path / "no" / "copy")
    assert found.value.where == "writing"


def test_any_number_of_complaints_ends(tmp_path: Path) -> None:
    complain = "import sys; sys.stderr.write('tar: x: Permission denied\\n' * 50_000); sys.exit(2)"
    with pytest.raises(OvnlabError, match="x: Permission denied") as found:
        copying.copy([sys.executable, "-c", complain], ["sh", "-c", "cat >/dev/null"])
    assert found.value.where == "reading"


def test_a_file_that_is_written_meanwhile_is_copied(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1")
    reading, writing = copying.commands(copying.here, str(tmp_path / "log"), copying.here, str(tmp_path / "copy"))
    said = "tar: log: file changed as we read it"
    copying.copy(["sh", "-c", '"$@"; echo "$0" >&2; exit 1', said, *reading], writing)
    assert (tmp_path / "copy").read_text() == "1"


def test_what_is_read_has_no_terminal_to_write_to() -> None:
    main, side = os.openpty()
    code = "from ovnlab.nodes import copying;copying.copy(['sh', '-c', '[ ! -t 0 ]'], ['sh', '-c', 'cat >/dev/null'])"
    try:
        done = subprocess.run([sys.executable, "-c", code], stdin=side, timeout=60, check=False)
    finally:
        os.close(main)
        os.close(side)
    assert done.returncode == 0
