"""A fork of the server that has ovnlab loaded does what a new interpreter does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.harness import FRESH, Labs

TWO = "name: two\nnodes: {central: {role: central}, worker1: }\n"

pytestmark = pytest.mark.skipif(bool(os.environ.get(FRESH)), reason=f"{FRESH} is set: nothing forks")


@pytest.fixture
def both(user_labs: Labs) -> Callable[..., tuple[int, str, str]]:
    """Return what a command line comes to, which must be the same with an interpreter of its own."""

    def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
        forked, fresh = (user_labs.run(*words, expect=None, stdin=stdin, fresh=fresh) for fresh in (False, True))
        assert forked.args == fresh.args
        assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
        return forked.returncode, forked.stdout, forked.stderr

    return run


def test_exit_codes_and_both_streams_are_those_of_a_new_interpreter(
    both: Callable[..., tuple[int, str, str]], user_labs: Labs
) -> None:
    assert both("ls")[0] == 0
    assert both("--version")[0] == 0
    assert both("no-such-command")[0] == 2
    code, out, err = both("up", user_labs.write("wrong.yaml", "nodes: {a: {role: centrl}}"), "--json")
    assert (code, "centrl" in err, out.startswith("{")) == (2, True, True)
    assert both("up", "two.yaml")[0] != 0


def test_a_file_of_the_folder_and_standard_input_are_read(
    both: Callable[..., tuple[int, str, str]], user_labs: Labs
) -> None:
    user_labs.write("two.yaml", TWO)
    assert both("validate", "two.yaml")[0] == 0
    user_labs.run("up", "two.yaml")
    long = "echo begun\n" + "# a comment\n" * 20_000 + "echo done; exit 7\n"  # more than a pipe holds
    assert both("exec", "central", "--", "sh", "-s", stdin=long)[:2] == (7, "begun\ndone\n")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_is_a_process_group_that_signals_end(user_labs: Labs, number: signal.Signals, fresh: bool) -> None:
    user_labs.run("up", user_labs.write("two.yaml", TWO))
    process = user_labs.start("wait", "--for", "port-up=nowhere", fresh=fresh)
    assert process.poll() is None
    assert os.getpgid(process.pid) == process.pid == os.getsid(process.pid)
    os.killpg(process.pid, number)
    assert process.wait(timeout=20) in ((-number, 130) if number == signal.SIGINT else (-number,))
    assert process.communicate()[0] == ""


def test_nothing_of_the_server_is_open_in_a_command(user_labs: Labs) -> None:
    user_labs.run("up", user_labs.write("two.yaml", TWO))
    process = user_labs.start("exec", "central", "--", "sh", "-c", "echo begun; exec sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    kinds = [os.readlink(path).split(":")[0] for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert "socket" not in kinds
    user_labs.run("down")
    process.communicate(timeout=20)
