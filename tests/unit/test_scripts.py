"""Pieces of the scripts that run on nodes, with processes of this machine."""

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ovnlab.errors import OvnlabError
from ovnlab.nodes.context import ProcessContext, TimedOut
from ovnlab.parallel import for_each
from ovnlab.shipped import TEMPLATES
from ovnlab.templating import render
from ovnlab.waiting import wait_until


def test_a_daemon_has_ended_when_its_process_has_not_when_its_pidfile_has_gone(tmp_path: Path) -> None:
    """A server removes its pidfile first and lets go of its database last; the next would find that locked."""
    program = tmp_path / "ovsdb-server"
    shutil.copy("/bin/sleep", program)
    pidfile = tmp_path / "pid"
    with subprocess.Popen([program, "20"]) as server:
        pidfile.write_text(f"{server.pid}\n")
        script = (
            render("node/lib/functions.sh.j2")
            + f"\nrunning ovsdb-server {pidfile} && rm {pidfile} && ended ovsdb-server"
        )
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
        ProcessContext(interrupted).run("true", in_stream=False)


def test_what_a_command_prints_is_whole_and_apart() -> None:
    script = "seq 200000; printf '\\303' >&2; printf '\\244\\377' >&2; exit 3"
    ended = ProcessContext(list).run("sh -s", in_stream=io.StringIO(script))
    assert ended.stdout.split() == [str(number) for number in range(1, 200001)]
    assert (ended.stderr, ended.exited) == ("\N{LATIN SMALL LETTER A WITH DIAERESIS}\N{REPLACEMENT CHARACTER}", 3)


def test_output_is_given_as_it_comes_also_where_a_character_is_in_two_parts() -> None:
    seen = io.StringIO()
    ProcessContext(list).run("printf '\\303'; sleep 0.2; printf '\\244'", out_stream=seen)
    assert seen.getvalue() == "\N{LATIN SMALL LETTER A WITH DIAERESIS}"


def test_a_command_that_does_not_end_in_time_ends_with_all_that_it_started(tmp_path: Path) -> None:
    script = f"echo said >&2; sleep 30 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(TimedOut) as raised:
        ProcessContext(list).run(script, timeout=0.5)
    assert raised.value.stderr == "said\n"
    pid = int((tmp_path / "pid").read_text())
    wait_until("its end", lambda: not is_alive(pid), timeout=20)


def test_a_command_whose_output_is_closed_is_waited_for_no_longer_than_was_said() -> None:
    with pytest.raises(TimedOut):
        ProcessContext(list).run("exec >&- 2>&-; sleep 30", timeout=0.3)


def test_an_interrupt_ends_the_command_and_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import os, signal, threading; from ovnlab.nodes.context import ProcessContext\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        f"ProcessContext(list).run('sleep 30 & echo $! >{tmp_path}/pid; wait')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert "KeyboardInterrupt" in shown.stderr
    pid = int((tmp_path / "pid").read_text())
    wait_until("its end", lambda: not is_alive(pid), timeout=20)


def is_alive(pid: int) -> bool:
    """Return True if a process has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_results_are_in_order_whoever_is_first() -> None:
    def do(number: int) -> int:
        time.sleep(0.001 * (number % 7))
        return number

    assert for_each(range(50), do) == list(range(50))


def test_all_are_finished_before_an_error_is_raised_which_names_the_others() -> None:
    finished = []

    def do(number: int) -> None:
        if number in (1, 3):
            raise OvnlabError(f"number {number}")
        time.sleep(0.05)
        finished.append(number)

    with pytest.raises(OvnlabError, match="number 1") as raised:
        for_each(range(6), do)
    assert raised.value.detail == "and also: number 3"
    assert sorted(finished) == [0, 2, 4, 5]


def test_after_an_interrupt_nothing_more_is_begun(tmp_path: Path) -> None:
    code = (
        "import os, signal, threading, time; from ovnlab.parallel import for_each\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "def do(number):\n"
        f"    open('{tmp_path}/' + str(number), 'w').close(); time.sleep(1)\n"
        "try:\n    for_each(range(8), do, workers=2)\n"
        "except KeyboardInterrupt:\n    time.sleep(1.5); print('interrupted')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert (shown.stdout, len(list(tmp_path.iterdir()))) == ("interrupted\n", 2)
