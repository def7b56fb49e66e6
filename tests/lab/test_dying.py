"""What dies while `up` works is named at once, with the end of its log, and the next `up` brings it back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ovnlab.providers.local import processes
from ovnlab.waiting import wait_until
from tests.lab.harness import Labs, Process

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: central}, vm2: {chassis: worker1}}
"""

PATIENCE = 45
"""Seconds, less than the 60 that daemons may take: what is dead is not waited for."""


def _node(labs: Labs, name: str) -> int:
    return wait_until(f"node {name}", lambda: labs.nodes("two").get(name), timeout=60)


def _daemon(init: int, program: str) -> int:
    """The process of a daemon on a node, as soon as it is there."""

    def look() -> int | None:
        for pid in processes.children(init):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    return pid
            except OSError:  # it has ended since
                continue
        return None

    return wait_until(program, look, timeout=60)


def _killed(labs: Labs, path: str, kill: Callable[[], None]) -> tuple[Process, str]:
    """An `up` in the middle of which something is killed, and what it said. One that was quicker is tried again."""
    for _ in range(5):
        up = labs.start("up", path)
        kill()
        said = _end_of(up)
        if up.returncode != 0:
            break
        labs.run("down", "two")
    return up, said


def _end_of(up: Process) -> str:
    """What a command said until its end, which comes before it has waited in vain."""
    try:
        return up.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        os.killpg(up.pid, signal.SIGKILL)
        up.communicate()
        raise


@pytest.mark.parametrize(
    ("node", "program"), [("worker1", "ovn-controller"), ("worker1", "ovs-vswitchd"), ("central", "ovn-northd")]
)
def test_a_daemon_that_dies_during_up_is_named(user_labs: Labs, node: str, program: str) -> None:
    path = user_labs.write("two.yaml", TWO)
    up, said = _killed(user_labs, path, lambda: os.kill(_daemon(_node(user_labs, node), program), signal.SIGKILL))
    assert up.returncode == 1, said
    assert f"{node}: " in said
    assert program in said
    assert "waited 60 s" not in said.splitlines()[-1]
    assert "KeyError" not in said
    user_labs.run("up", path)
    user_labs.run("ping", "vm1", "vm2")


def test_a_daemon_that_ends_by_itself_during_up_is_named(user_labs: Labs) -> None:
    """Its pidfile goes with it."""
    path = user_labs.write("two.yaml", TWO)
    up, said = _killed(
        user_labs, path, lambda: os.kill(_daemon(_node(user_labs, "worker1"), "ovn-controller"), signal.SIGTERM)
    )
    assert up.returncode == 1, said
    assert "worker1: ovn-controller" in said
    user_labs.run("up", path)


@pytest.mark.parametrize("program", ["", "ovsdb-server", "ovn-controller"])
def test_a_node_that_dies_during_up_is_named(user_labs: Labs, program: str) -> None:
    """At once, while its switch is being started, or while its chassis is waited for."""
    path = user_labs.write("two.yaml", TWO)

    def kill() -> None:
        init = _node(user_labs, "worker1")
        if program:
            _daemon(init, program)
        os.kill(init, signal.SIGKILL)

    up, said = _killed(user_labs, path, kill)
    assert up.returncode == 1, said
    assert "worker1" in said, said
    assert "KeyError" not in said
    assert "→" in said, said
    user_labs.run("up", path)
    user_labs.run("ping", "vm1", "vm2")
