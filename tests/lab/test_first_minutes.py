"""What a new user types in the first minutes, and what everybody types all day: `up` of what is meant, a shell, hints."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import termios
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs, Process
from tests.lab.test_scenarios import eventually

MINE = """\
name: mine
nodes: {ovn: {role: central, chassis: true}}
logical:
  switches:
    n: {subnet: 10.2.0.0/24, ports: {vm1: {chassis: ovn, serve: 80}, vm2: {chassis: ovn}}}
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


def test_a_ping_that_is_interrupted_says_how_it_went(mine: Labs) -> None:
    mine.run("up")
    for count in ("0", "1000"):
        process = mine.start("ping", "vm1", "vm2", "-c", count, fresh=True)
        assert process.stdout is not None
        while "icmp_seq=3" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert " packets transmitted, " in rest
        assert process.returncode == 0


def test_a_filter_with_a_mistake_is_told_once(mine: Labs) -> None:
    mine.run("up")
    error = mine.run("capture", "--filter", "icmp and and", expect=2).stderr
    assert error.startswith("ovnlab: invalid filter 'icmp and and': ")
    assert len(error.splitlines()) == 2


def test_logs_leave_out_what_is_harmless(mine: Labs) -> None:
    mine.run("up")
    told = mine.out("logs", "ovn", "ovs-vswitchd", "-n", "1000")
    assert "setting MAC failed" not in told
    assert "left out: --all shows them" in told
    assert "setting MAC failed" in mine.out("logs", "ovn", "ovs-vswitchd", "-n", "1000", "--all")
    warned = [line for line in mine.out("logs", "--warn", "-n", "50").splitlines() if line.startswith("20")]
    assert all("|WARN|" in line or "|ERR|" in line for line in warned)


def test_rows_break_between_words_on_a_narrow_terminal(mine: Labs) -> None:
    mine.run("up")
    for words in (("status",), ("topologies",), ("explain", "vm1")):
        for columns in (60, 80, 140):
            shown = terminal(mine, columns, 40, *words)
            lines = [line for line in shown.splitlines() if not line.startswith("logs: ")]
            assert all(len(line) <= columns for line in lines), (words, columns, shown)


def test_flows_that_are_followed_fit_the_terminal(mine: Labs) -> None:
    mine.run("up")
    pinging = mine.start("ping", "vm1", "vm2", "-c", "0", fresh=True)
    try:
        shown = terminal(mine, 80, 24, "flows", "ovn", "--follow", until="more are hit less")
    finally:
        os.killpg(pinging.pid, signal.SIGINT)
        pinging.communicate(timeout=60)
    screen = shown.rpartition("\x1b[H")[2].partition("\x1b[J")[0]
    assert 10 < len(screen.splitlines()) < 24
    assert all(len(line) <= 80 for line in screen.replace("\x1b[K", "").splitlines())


def test_a_daemon_is_restarted_stopped_and_started(mine: Labs) -> None:
    mine.run("up")
    before = pids(mine)
    assert mine.out("restart", "ovn", "ovn-controller") == "restarted ovn-controller on ovn\n"
    after = pids(mine)
    assert {name for name in before if before[name] != after[name]} == {"ovn-controller"}
    mine.run("ping", "vm1", "vm2", "-c", "1")
    assert mine.out("stop", "ovn", "ovn-northd") == "stopped ovn-northd on ovn\n"
    assert pids(mine)["ovn-northd"] is None
    assert "ovn-northd" in mine.out("up", "--dry-run"), "this is no fault: `up` starts it"
    assert mine.out("start", "ovn", "ovn-northd") == "started ovn-northd on ovn\n"
    assert pids(mine)["ovn-northd"] is not None
    assert "unknown daemon ovn-nothing" in mine.run("restart", "ovn", "ovn-nothing", expect=2).stderr
    mine.on("ovn", "touch", "/tmp/of-the-node-before")
    mine.run("restart", "ovn")
    assert "of-the-node-before" not in mine.on("ovn", "ls", "/tmp")
    mine.run("ping", "vm1", "vm2", "-c", "1")
    mine.run("fault", "stop", "ovn", "ovn-northd")
    assert "`ovnlab heal 1` ends it" in mine.run("start", "ovn", "ovn-northd", expect=2).stderr
    mine.run("heal")


def test_a_command_runs_on_several_nodes_with_the_name_of_each_before_its_lines(mine: Labs) -> None:
    mine.run("up")
    assert mine.out("exec", "--all", "--", "echo", "-l", "x") == "ovn  -l x\n"
    assert mine.out("exec", "--role", "central", "--", "hostname") == "ovn  ovn\n"
    result = mine.run("exec", "--all", "--", "sh", "-c", "echo a; exit 3", expect=3)
    assert (result.stdout, result.stderr) == ("ovn  a\n", "ovnlab: failed on ovn (3)\n")
    as_json = json.loads(mine.out("exec", "--all", "--json", "--", "echo", "a"))
    assert as_json["nodes"] == {"ovn": {"exit_code": 0, "output": ["a"]}}
    assert "available: central" in mine.run("exec", "--role", "gateway", "--", "true", expect=2).stderr
    assert "are instead of ovn" in mine.run("exec", "--all", "ovn", "--", "true", expect=2).stderr


def test_files_are_copied_both_ways(mine: Labs) -> None:
    mine.run("up")
    folder = mine.scratch / "files"
    folder.mkdir(mode=0o777)
    (folder / "one").write_text("1")
    mine.run("cp", "files", "ovn:/tmp/copied")
    assert mine.on("ovn", "cat", "/tmp/copied/one") == "1"
    mine.on("vm1", "sh", "-c", "echo 2 >/tmp/copied/two")
    mine.run("cp", "ovn:/tmp/copied", "ovn:/tmp/again")
    mine.run("cp", "vm1:/tmp/again", "back")
    assert sorted(path.name for path in (mine.scratch / "back").iterdir()) == ["one", "two"]
    assert (mine.scratch / "back/two").read_text() == "2\n"
    assert "ovn:/no/such" in mine.run("cp", "ovn:/no/such", ".", expect=1).stderr
    assert "must be NODE:PATH" in mine.run("cp", "files", "elsewhere", expect=2).stderr
    assert "unknown node or fake VM 'nowhere'" in mine.run("cp", "files", "nowhere:/tmp", expect=2).stderr


def test_a_service_of_a_fake_vm_is_open_on_the_loopback(mine: Labs) -> None:
    mine.run("up")
    process = mine.start("port-forward", "vm1:80", fresh=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        for _ in range(2):
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  on the loopback
                assert answer.status == 200
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_lab_is_what_it_was_when_it_was_saved(mine: Labs) -> None:
    mine.run("up")
    mine.run("bind", "vm8", "ovn", "--network", "n")
    assert mine.out("snapshot", "save", "before").startswith("saved before")
    assert "has a snapshot before already" in mine.run("snapshot", "save", "before", expect=2).stderr
    assert mine.out("snapshot", "diff", "before") == "nothing has changed since before\n"
    ports = bound(mine)
    mine.run("bind", "vm7", "ovn", "--network", "n")
    mine.run("unbind", "vm2", "vm8")
    mine.run("nbctl", "lsp-set-enabled", "vm1", "disabled")
    mine.run("nbctl", "ls-add", "more")
    assert mine.out("snapshot", "diff", "before").splitlines() == [
        "logical switch port vm8: removed",
        "logical switch more: added",
        "logical switch port vm7: added",
        "logical switch n: ports: vm1, vm2, vm8 → vm1, vm2, vm7",
        "logical switch port vm1: enabled: none → False",
        "fake VM vm2: ovn → unbound",
        "fake VM vm7: unbound → ovn",
        "fake VM vm8: ovn → unbound",
    ]
    assert mine.out("snapshot", "restore", "before") == "lab mine is what it was at before\n"
    assert bound(mine) == ports
    assert mine.json("snapshot", "diff", "before")["changes"] == []
    for vm in ("vm2", "vm8"):
        mine.run("ping", "vm1", vm, "-c", "1")
    assert [one["name"] for one in mine.json("snapshot", "ls")["snapshots"]] == ["before"]
    mine.run("snapshot", "rm", "before")
    assert "has no snapshot before" in mine.run("snapshot", "restore", "before", expect=2).stderr
    mine.run("unbind", "vm8")


def test_the_lab_follows_its_file_while_it_is_watched(mine: Labs) -> None:
    mine.run("up")
    process = mine.start("up", "ovnlab.yaml", "--watch", fresh=True)
    try:
        assert process.stdout is not None
        until(process, "watching ovnlab.yaml")
        mine.write(
            "ovnlab.yaml",
            MINE.replace("vm2: {chassis: ovn}", "vm2: {chassis: ovn}, vm3: {ip: 10.2.0.33, chassis: ovn}"),
        )
        until(process, "lab mine: ")
        mine.run("ping", "vm3", "vm1", "-c", "1")
        mine.write("ovnlab.yaml", MINE.replace("nodes", "nods"))
        assert process.stderr is not None
        while "the lab stays as it is" not in process.stderr.readline():
            assert process.poll() is None
        mine.run("ping", "vm3", "vm1", "-c", "1")
        mine.write("ovnlab.yaml", MINE.replace("name: mine", "name: other"))
        while "the file is of lab other now, and not of mine" not in process.stderr.readline():
            assert process.poll() is None
        assert [lab["name"] for lab in mine.json("ls")["labs"]] == ["mine"]
        mine.write("ovnlab.yaml", MINE)
        until(process, "vm3")
    finally:
        mine.write("ovnlab.yaml", MINE)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert mine.out("up") == "lab mine is up: nothing to do\n"


def test_a_file_is_edited_checked_and_brought_up(mine: Labs) -> None:
    mine.run("up")
    mine.extra_environment["EDITOR"] = "sed -i s/vm2:/vm9:/"
    assert "vm9" in mine.out("edit")
    assert {port["name"] for port in mine.json("status")["ports"]} == {"vm1", "vm9"}
    mine.extra_environment["EDITOR"] = "sed -i s/nodes:/nods:/"
    assert "unknown key 'nods'" in mine.run("edit", expect=2).stderr
    mine.extra_environment["EDITOR"] = "sed -i -e s/nods:/nodes:/ -e 's/name: mine/name: other/'"
    assert "is of lab other now, and not of mine" in mine.run("edit", expect=2).stderr
    mine.extra_environment["EDITOR"] = "'"
    assert 'invalid editor "\'"' in mine.run("edit", expect=2).stderr
    assert {port["name"] for port in mine.json("status")["ports"]} == {"vm1", "vm9"}, "a mistake changes nothing"
    mine.extra_environment.clear()
    mine.write("ovnlab.yaml", MINE)
    mine.run("up")


@pytest.mark.parametrize(
    "words", [(), ("--nodes", "5", "--switch", "a", "--switch", "b"), ("--like", "gateway"), ("--nodes", "1")]
)
def test_init_writes_a_file_that_holds(mine: Labs, words: tuple[str, ...]) -> None:
    mine.run("init", "begun", *words, "-o", "begun.yaml")
    try:
        assert (mine.scratch / "begun.yaml").read_text().startswith("# yaml-language-server: $schema=file:///")
        assert mine.out("validate", "begun.yaml").startswith("begun.yaml: lab begun, ")
        assert "is there already" in mine.run("init", "-o", "begun.yaml", expect=2).stderr
    finally:
        (mine.scratch / "begun.yaml").unlink()


def pids(labs: Labs) -> dict[str, int | None]:
    (node,) = labs.json("status")["nodes"]
    return {daemon["name"]: daemon["pid"] if daemon["running"] else None for daemon in node["daemons"]}


def bound(labs: Labs) -> list[tuple[Any, ...]]:
    found = labs.json("status")["ports"]
    return [(port["name"], port["addresses"], port["up"], port["chassis"]) for port in found]


def until(process: Process, text: str) -> None:
    assert process.stdout is not None
    while text not in process.stdout.readline():
        assert process.poll() is None


def terminal(labs: Labs, columns: int, lines: int, *words: str, until: str = "") -> str:
    """What a command shows on a terminal of that size, until it ends or that text is shown."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (lines, columns))
    process = subprocess.Popen(
        ["setsid", "-wc", *labs.command(*words)], env={**labs.environment, "TERM": "xterm"}, cwd=labs.scratch,
        stdin=side, stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    shown = b""
    with process, contextlib.suppress(OSError):  # how a terminal says that nobody has it open any more
        while chunk := os.read(main, 65536):
            shown += chunk
            if until and until.encode() in shown and shown.endswith(b"\x1b[J"):
                os.write(main, b"\x03")
    os.close(main)
    return shown.decode().replace("\r\n", "\n")


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
