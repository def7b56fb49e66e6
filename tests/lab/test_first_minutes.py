"""What a new user types in the first minutes, and what everybody types all day: `up` of what is meant, a shell, hints."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_scenarios import eventually

MINE = """\
name: mine
nodes: {ovn: {role: central, chassis: true}}
logical:
  switches:
    n: {subnet: 10.2.0.0/24, ports: {vm1: {chassis: ovn}, vm2: {chassis: ovn}}}
"""


@pytest.fixture(scope="module")
def mine(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """A lab of the file ovnlab.yaml in the current folder."""
    for labs in labs_in(ordinary, session_folder / "minutes"):
        labs.write("ovnlab.yaml", MINE)
        yield labs


def test_up_without_a_file_takes_the_one_in_this_folder_and_says_so(mine: Labs) -> None:
    dry = mine.run("up", "--dry-run")
    assert "ovnlab: this is lab mine, of ovnlab.yaml\n" in dry.stderr
    assert "lab mine, 1 node" in mine.out("validate")
    done = mine.run("up")
    assert "ovnlab: this is lab mine, of ovnlab.yaml\n" in done.stderr
    assert done.stdout.startswith("lab mine is up: ")
    again = mine.run("up")
    assert f"this is lab mine, of {mine.scratch}/ovnlab.yaml\n" in again.stderr, "the only lab, of its own file"
    assert again.stdout == "lab mine is up: nothing to do\n"
    mine.run("status", "--exit-code")


def test_topology_yaml_is_taken_where_there_is_no_other(mine: Labs) -> None:
    (mine.scratch / "ovnlab.yaml").rename(mine.scratch / "topology.yaml")
    try:
        assert mine.out("validate").startswith("topology.yaml: lab mine, 1 node")
    finally:
        (mine.scratch / "topology.yaml").rename(mine.scratch / "ovnlab.yaml")


def test_hints_print_the_file(mine: Labs) -> None:
    """Where something is missing, what one types next is `up` of that lab's file."""
    mine.run("up")
    mine.end_controller("ovn")
    try:
        command = f"ovnlab up {mine.scratch}/ovnlab.yaml"
        assert mine.run("status", "--exit-code", expect=4).stdout
        assert command in mine.run("test", expect=4).stdout
        assert command in mine.run("diagnose", "--no-send", expect=4).stdout
        home = mine.scratch
        mine.extra_environment["HOME"] = str(home)
        assert "ovnlab up ~/ovnlab.yaml" in mine.run("diagnose", "--no-send", expect=4).stdout
    finally:
        mine.extra_environment.clear()
        mine.run("up")


def test_a_shell_leaves_the_terminal_as_it_was_when_its_lab_goes_away(mine: Labs) -> None:
    mine.run("up")
    main, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    command = mine.command("shell", "vm1")
    environment = {**mine.environment, "TERM": "xterm"}
    with subprocess.Popen(
        ["setsid", "-wc", *command], env=environment, stdin=terminal, stdout=terminal, stderr=terminal, cwd=mine.scratch
    ) as process:
        shown = b""
        while b"vm1" not in shown:
            shown += os.read(main, 4096)
        assert termios.tcgetattr(terminal)[3] != before[3], "bash edits lines by itself"
        mine.run("down")
        assert process.wait(timeout=60) == 1
        assert termios.tcgetattr(terminal) == before
        os.set_blocking(main, False)
        while chunk := _read(main):
            shown += chunk
    assert b"ovn of lab mine has ended" in shown
    os.close(main)
    os.close(terminal)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except (BlockingIOError, OSError):
        return b""


def test_of_a_lab_that_is_down_every_command_says_the_same(mine: Labs) -> None:
    mine.run("up")
    os.kill(mine.holder("mine"), signal.SIGKILL)
    eventually("the lab to be down", lambda: mine.json("ls")["labs"][0]["state"] == "down")
    for words in (
        ("ping", "vm1", "vm2"), ("exec", "vm1", "--", "true"), ("shell", "vm1"), ("exec", "ovn", "--", "true"),
        ("nbctl", "show"), ("vsctl", "ovn", "show"), ("trace", "vm1", "vm2"), ("bind", "vm1", "ovn"), ("test",),
        ("unbind", "vm1"), ("flows", "ovn"), ("explain", "vm1"), ("capture", "vm1"), ("diagnose",), ("wait", "--for", "hv-synced"),
    ):  # fmt: skip
        error = mine.run(*words, expect=1).stderr
        assert error == f"ovnlab: lab mine is down\n  → `ovnlab up {mine.scratch}/ovnlab.yaml` brings it back\n", words
