"""Which lab a command without a name means: never one that no hint was about, and of several none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

ONE = "nodes: {central: {role: central}}\n"


@pytest.fixture(scope="module")
def labs(root: Account, session_folder: Path) -> Iterator[Labs]:
    """The command line, with a cache of its own for what is kept, and one lab that is up."""
    folder = session_folder / "which"
    for found in labs_in(root, folder):
        found.run("up", found.write("one.yaml", f"name: one\n{ONE}"), "--name", "mine", "--set", "underlay.mtu=1400")
        yield found


@pytest.fixture
def keep(labs: Labs) -> Iterator[object]:
    """Keep labs as `up` of virtual machines does, but without volumes. What the tests leave is forgotten."""

    def make(*names: str) -> None:
        code = (
            "import sys; from ovnlab.state import LabFolder; from ovnlab.providers.libvirt.saved_labs import Saved, SavedLab\n"
            "for name in sys.argv[1:]: SavedLab(LabFolder(name)).write(Saved('key', {'central': 'qemu'}, {}, {}))"
        )
        command = [*labs.account.prefix, labs.account.python, "-c", code, *names]
        subprocess.run(command, env=labs.environment, check=True)

    yield make
    for name in ("gone", "other"):
        labs.run("down", name, "--forget")


def states(labs: Labs) -> dict[str, str]:
    return {lab["name"]: lab["state"] for lab in labs.json("ls")["labs"]}


def test_down_forget_is_about_what_is_kept(labs: Labs, keep: object) -> None:
    keep("gone")  # type: ignore[operator]
    assert states(labs) == {"gone": "kept", "mine": "up"}
    assert "gone" in labs.out("ls")
    done = labs.json("down", "--forget")
    assert (done["removed"], done["forgotten"]) == ([], ["gone"])
    assert states(labs) == {"mine": "up"}
    error = labs.run("down", "--forget", expect=2).stderr
    assert "no lab is kept for the next `up`" in error
    assert "ovnlab down mine removes mine" in error
    assert states(labs) == {"mine": "up"}


def test_down_forget_with_a_name(labs: Labs, keep: object) -> None:
    keep("gone")  # type: ignore[operator]
    assert labs.out("down", "gone") == (
        "nothing to remove; kept for the next `up`: gone (`ovnlab down gone --forget` removes it)\n"
    )
    assert labs.out("down", "gone", "--forget") == "forgot what was kept of gone\n"
    assert labs.out("down", "gone", "--forget") == "nothing to remove\n"


def test_of_several_that_are_kept_none_is_taken(labs: Labs, keep: object) -> None:
    keep("gone", "other")  # type: ignore[operator]
    error = labs.run("down", "--forget", expect=2).stderr
    assert "several labs are kept for the next `up`: gone, other" in error
    assert "ovnlab down gone --forget" in error
    assert states(labs) == {"gone": "kept", "mine": "up", "other": "kept"}
    assert labs.json("down", "gone", "other", "--forget")["forgotten"] == ["gone", "other"]


def test_hints_name_the_lab_with_all_it_was_made_with(labs: Labs) -> None:
    os.kill(labs.holder("mine"), signal.SIGKILL)
    while states(labs) != {"mine": "down"}:
        time.sleep(0.05)
    error = labs.run("exec", "central", "--", "true", expect=1).stderr
    command = f"ovnlab up {labs.scratch}/one.yaml --name mine --set underlay.mtu=1400"
    assert f"`{command}` brings it back" in error
    labs.run(*command.split()[1:])
    assert labs.out("up") == "lab mine is up: nothing to do\n", "without a file it is the only lab, as it was made"


def test_up_without_a_name_takes_none_of_several(labs: Labs) -> None:
    folder = labs.state / "ovnlab/labs"
    (folder / "second").mkdir()
    stored = msgspec.json.decode((folder / "mine/lab.json").read_bytes())
    (folder / "second/lab.json").write_bytes(msgspec.json.encode({**stored, "source": "/else.yaml", "options": []}))
    try:
        error = labs.run("up", expect=2).stderr
        assert "there are several labs: mine, second" in error
        assert (
            f"`ovnlab up {labs.scratch}/one.yaml --name mine --set underlay.mtu=1400` or `ovnlab up /else.yaml`"
            in error
        )
        assert labs.out("up", "--lab", "mine") == "lab mine is up: nothing to do\n"
        assert labs.out("--lab", "mine", "up") == "lab mine is up: nothing to do\n"
        assert "unknown lab other" in labs.run("up", "-l", "other", expect=2).stderr
        assert "--name other names the lab of a file" in labs.run("up", "3node", "-l", "other", expect=2).stderr
        for command in (("snapshot", "restore", "x"), ("snapshot", "rm", "x"), ("resume",), ("down",)):
            assert "there are several labs: mine, second" in labs.run(*command, expect=2).stderr
    finally:
        (folder / "second/lab.json").unlink()
        (folder / "second").rmdir()
