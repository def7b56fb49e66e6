"""`ovnlab logs` shows what nodes have written, and does nothing else with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_logs_are_shown_and_not_sent_nor_followed_elsewhere(tmp_path: Path) -> None:
    logs = tmp_path / "ovnlab/logs/lab/w1"
    logs.mkdir(parents=True)
    (logs / "a.log").write_bytes(b"one \x1b]0;title\x07\ntwo \xff\n")
    (tmp_path / "secret").write_text("secret\n")
    (logs / "b.log").symlink_to(tmp_path / "secret")
    command = [sys.executable, "-m", "ovnlab", "logs", "--lab", "lab"]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == [f"==> {logs}/a.log <==", "one \\x1b]0;title\\x07", "two \\xff"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, check=True)
    assert "secret" not in done.stdout
