"""A lab is made, changed and removed by commands whose streams are closed, as those of cron jobs are."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.lab.harness import Labs


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/null 2>/dev/full"])
def test_a_lab_without_streams(labs: Labs, streams: str) -> None:
    def run(*words: str) -> None:
        done = subprocess.run(
            ["bash", "-c", f"{shlex.join(labs.command(*words))} {streams}"],
            env=labs.environment, capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    run("up", "3node")
    run("bind", "vm1=worker1", "vm2=worker2")
    run("status")
    run("ping", "vm1", "vm2")
    assert labs.json("status")["state"] == "up"
    run("down")
    assert not labs.json("ls")["labs"]
