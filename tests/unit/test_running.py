"""What the scripts of a node take for a daemon that runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ovnlab.templating import render


def runs(program: str, pidfile: Path) -> bool:
    script = f'{render("node/lib/running.sh.j2")}\nrunning "$1" "$2"'
    return subprocess.run(["sh", "-euc", script, "sh", program, str(pidfile)], check=False).returncode == 0


def test_a_process_runs_until_it_is_killed_whether_or_not_its_parent_has_noticed(tmp_path: Path) -> None:
    pidfile = tmp_path / "sleep.pid"
    assert not runs("sleep", pidfile)
    with subprocess.Popen(["sleep", "1000"]) as process:
        pidfile.write_text(f"{process.pid}\n")
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            pass
        assert runs("sleep", pidfile)
        assert not runs("ovs-vswitchd", pidfile)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "a process that has ended keeps its name"
        assert not runs("sleep", pidfile)
    assert not runs("sleep", pidfile)
