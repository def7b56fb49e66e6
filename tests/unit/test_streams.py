"""Standard streams that are closed or full, and folders that are gone: the work is done, and what is wrong is named."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ovnlab.cli import streams

OVNLAB = f"{sys.executable} -m ovnlab"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which `ovnlab` is ovnlab."""
    script = f'ovnlab() {{ {OVNLAB} "$@"; }}\n{command}'
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["ls", "ls --json", "validate 3node", "--version", "--help"])
def test_a_closed_stream_is_no_reason_to_fail(closed: str, command: str, tmp_path: Path) -> None:
    done = shell(f"ovnlab {command} {closed}", XDG_STATE_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&- 2" not in closed and closed != ">&-")


def test_a_closed_stream_does_not_get_what_is_written_elsewhere(tmp_path: Path) -> None:
    """The first file that is opened would have its number, and what is printed would go there."""
    done = shell(f"ovnlab render 3node -o {tmp_path}/scripts >&- 2>&-")
    assert done.returncode == 0
    assert all("wrote" not in path.read_text() for path in (tmp_path / "scripts").rglob("*.sh"))


@pytest.mark.parametrize("command", ["ls", "ls --json", "validate 3node", "--version", "--help", "topologies"])
def test_a_full_output_is_named_for_what_it_is(command: str) -> None:
    done = shell(f"ovnlab {command} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "ovnlab: standard output: cannot be written: No space left on device\n"


def test_errors_that_cannot_be_said_change_no_exit_code(tmp_path: Path) -> None:
    assert shell(f"ovnlab render 3node -o {tmp_path}/x 2>/dev/full").returncode == 0
    assert shell("ovnlab decode /dev/zero 2>/dev/full").returncode == 1
    for command in ("validate nowhere", "nonsense", "--nonsense", "up nowhere.yaml --json"):
        assert shell(f"ovnlab {command} 2>/dev/full").returncode == 2


@pytest.mark.parametrize("command", ["topologies", "--version", "--help", "render routed"])
def test_nobody_who_reads_is_no_error_of_ours(command: str) -> None:
    done = shell(f"ovnlab {command} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout.strip() in ("0", "141"), done.stderr) == (True, "")


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    gone = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone;"
    assert shell(f"{gone} ovnlab validate {Path.cwd()}/topologies/3node.yaml").returncode == 0
    done = shell(f"{gone} ovnlab validate 3node --set software.ovs.path=x --set software.ovn=packages")
    assert done.returncode == 3
    assert "the current folder was removed" in done.stderr
    assert "state" not in done.stderr


def test_where_an_error_came_from(tmp_path: Path) -> None:
    state, cache = tmp_path / "state", tmp_path / "cache"

    def said(number: int, path: str | None = None) -> str:
        found = streams.described(OSError(number, os.strerror(number), path), state=state, cache=cache)
        return f"{found} → {found.hint}"

    assert "XDG_STATE_HOME" in said(errno.EACCES, f"{state}/labs")
    assert "XDG_STATE_HOME" not in said(errno.EACCES, "/elsewhere/file")
    assert said(errno.ENOSPC, "/elsewhere/file").startswith("/elsewhere/file: the disk is full")
    assert said(errno.EMFILE).startswith("the system refuses more: Too many open files")
    assert str(state) not in said(errno.ECONNRESET)
    assert "the disk is full" in said(errno.ENOSPC)


def test_warnings_that_are_errors_are_none() -> None:
    for command in ("--version", "--help", "ls", "validate 3node", "topologies --json", "nonsense"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "ovnlab", *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (2 if command == "nonsense" else 0)
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr


def test_streams_are_written_in_one_place() -> None:
    """What is written elsewhere fails where a stream is closed, and sends control characters."""
    package = Path(streams.__file__).parents[1]
    written = re.compile(r"sys\.std(out|err)\.(write|flush)|^\s*print\(")
    found = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(written.search(line) for line in path.read_text().splitlines())
    ]
    assert set(found) <= {"__main__.py", "cli/streams.py"}
