"""Logs have a bound, what ovnlab takes of the disk is shown, and `prune` removes what nothing uses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnlab.providers.local import processes
from ovnlab.waiting import wait_until
from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical: {switches: {net: {subnet: 10.0.0.0/24, ports: {vm1: {chassis: worker1}}}}}
"""

MIB = 2**20


@pytest.fixture(scope="module")
def two(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "housekeeping"):
        labs.cache = labs.state.parent / "cache"
        (labs.cache / "ovnlab").mkdir(parents=True)
        (labs.cache / "ovnlab/software").symlink_to(ordinary.home / "cache/ovnlab/software")
        labs.give(labs.cache)
        labs.run("up", labs.write("two.yaml", TWO))
        yield labs


def test_a_log_is_cut_while_its_daemon_goes_on_writing(two: Labs) -> None:
    log = two.state / "ovnlab/logs/two/worker1/ovn/ovn-controller.log"
    with log.open("ab") as file:
        for number in range(20):
            file.write(f"old {number}\n".encode() + b"x" * MIB)
        file.write(b"\nthe last line\n")
    init = next(pid for pid in processes.children(two.holder("two")) if "lab.sh" in " ".join(processes.arguments(pid)))
    os.kill(init, signal.SIGHUP)

    def is_cut() -> bool | None:
        return (log.stat().st_size < 5 * MIB and b"the last line\n" in log.read_bytes()) or None

    wait_until("a shorter log that has its end", is_cut, timeout=30)
    two.on(
        "worker1",
        "sh",
        "-c",
        "ovn-appctl -t /run/ovn/ovn-controller.*.ctl vlog/set info && ovn-appctl -t /run/ovn/ovn-controller.*.ctl inc-engine/recompute",
    )
    wait_until("another line", lambda: not log.read_bytes().endswith(b"the last line\n") or None, timeout=30)
    assert b"\0" not in log.read_bytes()


def test_status_and_doctor_say_what_is_taken(two: Labs) -> None:
    logs = two.json("status")["logs"]
    assert logs["path"] == str(two.state / "ovnlab/logs/two")
    assert logs["bytes"] > 1000
    assert f"in {logs['path']}" in two.out("status")
    disk = two.json("doctor")["disk"]
    assert disk["logs"] > 0
    assert disk["cache/software"] >= 0
    assert "disk: logs " in two.out("doctor")


def test_prune_says_first_what_it_removes(two: Labs) -> None:
    """Logs of a lab that is gone, and topologies as they were read; nothing of a lab that is there."""
    two.run("up", two.write("other.yaml", TWO.replace("name: two", "name: other")))
    two.run("down", "other")
    gone = two.state / "ovnlab/logs/other"
    assert gone.is_dir()
    said = two.out("prune")
    assert f"logs of lab other, which is gone: {gone}\n" in said
    assert "`ovnlab prune --yes` removes it" in said
    assert gone.is_dir()
    found = two.json("prune", "--yes")
    assert str(gone) in [item["path"] for item in found["leftovers"]]
    assert found["removed"] is True
    assert not gone.exists()
    assert (two.state / "ovnlab/logs/two/worker1").is_dir()
    assert two.out("prune") == "nothing to remove\n"
    two.run("up", two.write("two.yaml", TWO))


def test_prune_removes_packages_that_were_superseded(two: Labs) -> None:
    software = two.cache / "ovnlab/software" if two.cache else Path()
    used = software.resolve()
    software.unlink()
    software.mkdir()
    for path in used.iterdir():
        (software / path.name).symlink_to(path)
    old = software / "0123456789abcdef"
    old.mkdir()
    (old / "manifest.json").write_text("{}")
    two.give(software)
    assert str(old) in two.out("prune")
    two.run("prune", "--yes")
    assert not old.exists()
