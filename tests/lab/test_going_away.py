"""`down` leaves nothing, from any state; what is interrupted is taken back or resumed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.lab.harness import TOPOLOGIES, Account, Labs, processes_that_see

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: central}, vm2: {chassis: worker1}}
"""


@pytest.fixture(params=["root", "ordinary"])
def account(request: pytest.FixtureRequest) -> Account:
    """Both of them each time: what a lab is made of, and what has to go away again, depends on who makes it."""
    found: Account = request.getfixturevalue(request.param)
    return found


def test_down_leaves_nothing_but_logs(labs: Labs) -> None:
    labs.run("up", "routed")
    inside = [name for _, name in processes_that_see(str(labs.state))]
    # What the audit looks for is there to be found: seven daemons and a process that holds each node at least.
    assert inside.count("ovs-vswitchd") == inside.count("ovn-controller") == 3
    assert labs.audit() != []
    running = labs.start("exec", "vm1", "--", "sh", "-c", "echo begun; exec sleep 1000")
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    assert labs.out("down") == "removed routed\n"
    assert running.wait(timeout=10) != 0
    running.communicate()
    assert labs.audit() == []
    assert (labs.state / "ovnlab/logs/routed/worker1/ovn/ovn-controller.log").stat().st_size > 0
    assert "ovn-controller" in labs.out("logs", "worker1", "--lab", "routed")


def test_down_of_nothing_is_a_success(labs: Labs) -> None:
    assert labs.out("down") == "nothing to remove\n"
    assert labs.out("down", "no-such-lab") == "nothing to remove\n"
    assert labs.out("down", "--all") == "nothing to remove\n"
    assert labs.audit() == []


@pytest.mark.parametrize("loss", ["lab.json", "holder.pid", "node.sh", "nodes", "holder.lock"])
def test_down_without_a_file_of_its_own(user_labs: Labs, loss: str) -> None:
    user_labs.run("up", user_labs.write("two.yaml", TWO))
    path = user_labs.state / "ovnlab/labs/two" / loss
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    user_labs.run("down", "two")
    assert user_labs.audit() == []


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 99}', "\0\0"])
def test_a_damaged_stored_state(user_labs: Labs, content: str) -> None:
    path = user_labs.write("two.yaml", TWO)
    user_labs.run("up", path)
    (user_labs.state / "ovnlab/labs/two/lab.json").write_text(content)
    assert user_labs.json("ls")["labs"][0]["state"] in ("up", "partly up")
    user_labs.run("up", path)
    assert user_labs.out("up", path) == "lab two is up: nothing to do\n"
    user_labs.run("ping", "vm1", "vm2")


def test_a_stored_state_that_is_lost_while_the_lab_is_down(user_labs: Labs) -> None:
    """What the databases hold is looked at all the same, and stays."""
    path = user_labs.write("two.yaml", TWO)
    user_labs.run("up", path)
    user_labs.run("nbctl", "ls-add", "by-hand")
    os.kill(user_labs.holder("two"), signal.SIGKILL)
    (user_labs.state / "ovnlab/labs/two/lab.json").unlink()
    user_labs.run("up", path)
    assert "by-hand" in user_labs.out("nbctl", "show")
    user_labs.run("ping", "vm1", "vm2")
    assert user_labs.out("up", path) == "lab two is up: nothing to do\n"


def test_two_labs_with_the_same_subnet_side_by_side(labs: Labs) -> None:
    labs.run("up", "routed", "--name", "east")
    labs.run("up", "routed", "--name", "west")
    labs.run("nbctl", "--lab", "east", "ls-add", "only-east")
    for lab in ("east", "west"):
        labs.run("ping", "vm1", "vm2", "--lab", lab)
        assert "192.168.50.100" in labs.out("exec", "--lab", lab, "worker1", "--", "ip", "address", "show", "eth1")
    assert "only-east" not in labs.out("nbctl", "--lab", "west", "show")
    error = labs.run("status", expect=2).stderr
    assert "there are several labs: east, west" in error
    labs.run("down", "east")
    labs.run("ping", "vm1", "vm2", "--lab", "west")
    labs.run("down")
    assert labs.audit() == []


def _killed_up(labs: Labs, seconds: float) -> None:
    """`up`, killed after a while, with all of ovnlab's own processes but none of the lab's."""
    process = labs.start("up", str(labs.scratch / "two.yaml"))
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # it was quicker, which is a moment as well
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.communicate()


def _settled(labs: Labs) -> list[str]:
    """What is left once whatever was being started when `up` died has had time to be noticed."""
    for _ in range(100):
        left = labs.audit()
        if not left:
            break
        time.sleep(0.02)
    return left


@pytest.mark.parametrize("number", [*range(2), *(pytest.param(n, marks=pytest.mark.thorough) for n in range(2, 10))])
def test_up_killed_at_a_random_moment(labs: Labs, number: int) -> None:
    """Two moments as root and two as an ordinary user, ten each with `make test-all`. `down` leaves nothing, and `up` succeeds."""
    path = labs.write("two.yaml", TWO)
    labs.run("validate", path)
    moment = random.Random(f"{labs.account.name}{number}").uniform(0.02, 0.8)  # noqa: S311  any moment will do
    _killed_up(labs, moment)
    labs.run("down", "two")
    assert _settled(labs) == [], f"left by an `up` killed after {moment:.3f} s"
    _killed_up(labs, moment)
    labs.run("up", path)
    labs.run("ping", "vm1", "vm2")
    assert labs.out("up", path) == "lab two is up: nothing to do\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_takes_back_the_lab_that_it_began(labs: Labs, number: signal.Signals) -> None:
    process = labs.start("up", labs.write("two.yaml", TWO))
    assert process.stderr is not None
    next(line for line in process.stderr if "starting databases" in line)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "taking back lab two" in said
    assert _settled(labs) == []


def test_an_interrupted_up_leaves_a_lab_that_was_there(user_labs: Labs) -> None:
    path = user_labs.write("two.yaml", TWO)
    user_labs.run("up", path)
    user_labs.write("two.yaml", TWO.replace("worker1: }", "worker1: , worker2: }"))
    process = user_labs.start("up", path)
    assert process.stderr is not None
    next(line for line in process.stderr if "starting databases" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    user_labs.run("ping", "vm1", "vm2")
    assert sorted(user_labs.nodes("two")) == ["central", "worker1"]
    user_labs.run("up", path)
    assert sorted(user_labs.nodes("two")) == ["central", "worker1", "worker2"]
    assert user_labs.out("up", path) == "lab two is up: nothing to do\n"


@pytest.mark.parametrize("loss", ["holder", "node"])
def test_an_interrupted_up_leaves_the_databases_of_what_was_down(user_labs: Labs, loss: str) -> None:
    path = user_labs.write("two.yaml", TWO)
    user_labs.run("up", path)
    user_labs.run("nbctl", "ls-add", "by-hand")
    os.kill(user_labs.holder("two") if loss == "holder" else user_labs.nodes("two")["central"], signal.SIGKILL)
    process = user_labs.start("up", path)
    assert process.stderr is not None
    next(line for line in process.stderr if "starting databases" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    user_labs.run("up", path)
    assert "by-hand" in user_labs.out("nbctl", "show")
    user_labs.run("ping", "vm1", "vm2")


def test_down_removes_what_a_node_made_unreadable(user_labs: Labs) -> None:
    user_labs.run("up", user_labs.write("two.yaml", TWO))
    user_labs.on("central", "sh", "-c", "mkdir -p /var/lib/x/y; touch /var/lib/x/y/z; chmod 0 /var/lib/x/y /var/lib/x")
    user_labs.run("down")
    assert user_labs.audit() == []


def test_a_second_up_waits_and_says_for_whom(labs: Labs) -> None:
    path = labs.write("two.yaml", TWO)
    first, second = labs.start("up", path), labs.start("up", path)
    results = [(process.communicate(timeout=60), process.returncode) for process in (first, second)]
    assert [code for _, code in results] == [0, 0]
    said = "".join(err for (_, err), _ in results)
    assert "waiting for lab two: process" in said
    assert "up" in said.split("waiting for lab two: process")[1].splitlines()[0]
    printed = sorted(out for (out, _), _ in results)
    assert sum("nothing to do" in out for out in printed) == 1


def test_the_holder_takes_everything_with_it(labs: Labs) -> None:
    labs.run("up", "routed")
    os.kill(labs.holder("routed"), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := [what for what in labs.audit() if not what.startswith("file")]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def test_nodes_are_worlds_of_their_own(labs: Labs) -> None:
    labs.run("up", "3node")
    labs.run("bind", "vm1=worker1", "vm2=worker2")
    assert labs.on("worker1", "ip", "netns", "list").split()[0] == "vm1"
    assert labs.on("worker2", "ip", "netns", "list").split()[0] == "vm2"
    for place in ("/etc/openvswitch", "/etc/ovn", "/var/lib", "/var/log", "/run", "/tmp"):
        labs.on("worker1", "touch", f"{place}/mark")
        assert "mark" not in labs.on("worker2", "ls", place)
    processes = labs.on("worker1", "sh", "-c", "cat /proc/[0-9]*/comm")
    assert processes.split().count("ovs-vswitchd") == 1
    assert "northd" not in processes
    shown = labs.on("worker1", "ip", "-o", "link")
    assert "eth0" not in shown
    inside = labs.on("worker1", "sh", "-c", "for n in net mnt pid uts ipc; do readlink /proc/self/ns/$n; done").split()
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "mnt", "pid", "uts", "ipc")]
    assert not set(inside) & set(outside)


def test_make_lab_on_a_fresh_checkout(make_lab: tuple[Account, subprocess.CompletedProcess[str]]) -> None:
    _, result = make_lab
    assert result.returncode == 0, result.stderr
    commands = [line for line in result.stdout.splitlines() if line.startswith("$ ")]
    assert commands == [
        "$ ovnlab up topologies/3node.yaml",
        "$ ovnlab bind vm1 worker1",
        "$ ovnlab bind vm2 worker2",
        "$ ovnlab ping vm1 vm2",
    ]
    assert "3 received, 0% packet loss" in result.stdout


def test_nothing_of_the_shipped_files_is_written_to(labs: Labs) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in TOPOLOGIES.iterdir()}
    labs.run("up", "single")
    assert {path.name: path.stat().st_mtime_ns for path in TOPOLOGIES.iterdir()} == before
