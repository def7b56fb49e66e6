"""Pieces of the scripts that run on nodes, with processes of this machine."""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovnlab.shipped import TEMPLATES
from ovnlab.templating import render
from ovnlab.wrapped import WrappedContext


def test_a_daemon_has_ended_when_its_process_has_not_when_its_pidfile_has_gone(tmp_path: Path) -> None:
    """A server removes its pidfile first and lets go of its database last; the next would find that locked."""
    program = tmp_path / "ovsdb-server"
    shutil.copy("/bin/sleep", program)
    pidfile = tmp_path / "pid"
    with subprocess.Popen([program, "20"]) as server:
        pidfile.write_text(f"{server.pid}\n")
        script = render("node/lib.sh.j2") + f"\nrunning ovsdb-server {pidfile} && rm {pidfile} && ended ovsdb-server"
        with subprocess.Popen(["sh", "-c", script]) as waiting:
            time.sleep(0.3)
            assert not pidfile.exists()
            assert waiting.poll() is None, "it went on while the server was running"
            server.kill()
            # Nobody has asked for its exit code yet: it is a zombie, which holds nothing any more.
            assert waiting.wait(timeout=5) == 0


def test_what_is_removed_on_a_node_is_named_where_it_is_removed() -> None:
    """Functions of these scripts share their variables: a folder in one may be another by the time that it goes."""
    for path in (TEMPLATES / "node").glob("*.j2"):
        removed = re.findall(r"rm -rf? (\S+)", path.read_text())
        assert all(name.startswith(("/", '"$folder"')) for name in removed), f"{path.name}: {removed}"


def test_an_interrupt_is_one_before_there_is_a_process_too() -> None:
    """It is what makes `up` take back what it began: an error about a missing process would not be."""

    def interrupted(words: Sequence[str]) -> Sequence[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WrappedContext(interrupted).run("true", in_stream=False)
