"""A database that a crash has damaged is put aside and made again; `up` says so, and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs, processes_with

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: central}, vm2: {chassis: worker1}}
"""

FILES = {
    "conf.db": ("central/etc/openvswitch/conf.db", "local OVS"),
    "ovnnb_db.db": ("central/lib/ovn/ovnnb_db.db", "Northbound"),
    "ovnsb_db.db": ("central/lib/ovn/ovnsb_db.db", "Southbound"),
}


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwritten(path: Path) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + b"\xff" * 40 + data[middle + 40 :])


def _torn(path: Path) -> None:
    """The last write came to the disk in part."""
    path.write_bytes(path.read_bytes()[:-30])


@pytest.fixture(scope="module")
def two(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "damage"):
        labs.run("up", labs.write("two.yaml", TWO))
        yield labs


def stop(labs: Labs, lab: str) -> Path:
    """End a lab as a power cut does; the folder of its nodes."""
    os.kill(labs.holder(lab), signal.SIGKILL)
    while processes_with(f"{labs.state}/ovnlab/labs/{lab}/"):
        time.sleep(0.01)
    return labs.state / "ovnlab/labs" / lab / "nodes"


EACH_TIME = [("conf.db", _empty), ("ovnnb_db.db", _cut), ("ovnsb_db.db", _overwritten)]
CASES = [(name, damage) for name in FILES for damage in (_empty, _cut, _overwritten)]


@pytest.mark.parametrize(
    ("name", "damage"),
    [*EACH_TIME, *(pytest.param(*case, marks=pytest.mark.thorough) for case in CASES if case not in EACH_TIME)],
)
def test_a_damaged_database_is_put_aside(two: Labs, name: str, damage: Callable[[Path], None]) -> None:
    path = two.write("two.yaml", TWO)
    two.run("up", path)
    where, title = FILES[name]
    file = stop(two, "two") / where
    damage(file)
    said = two.run("up", path).stderr
    assert f"central: the {title} database was damaged" in said
    assert list(file.parent.glob(f"{name}.damaged-*"))
    two.run("ping", "vm1", "vm2")
    assert two.out("up", path) == "lab two is up: nothing to do\n"
    for aside in file.parent.glob(f"{name}.damaged-*"):
        aside.unlink()


def test_of_a_northbound_database_what_can_be_read_is_recovered(two: Labs) -> None:
    """And what cannot is named, where the topology does not have it."""
    path = two.write("two.yaml", TWO)
    two.run("up", path)
    two.run("nbctl", "ls-add", "early")
    two.run("nbctl", "ls-add", "late")
    file = stop(two, "two") / FILES["ovnnb_db.db"][0]
    _torn(file)
    said = two.run("up", path).stderr
    assert "what could be read of it was recovered" in said
    assert "may be lost: late\n" in said
    shown = two.out("nbctl", "show")
    assert "early" in shown
    assert "late" not in shown
    two.run("ping", "vm1", "vm2")


def test_a_northbound_database_without_its_schema_is_recovered(two: Labs) -> None:
    path = two.write("two.yaml", TWO)
    two.run("up", path)
    two.run("nbctl", "--may-exist", "ls-add", "early")
    file = stop(two, "two") / FILES["ovnnb_db.db"][0]
    file.write_bytes(b"\xff" * 40 + file.read_bytes()[40:])
    assert "what could be read of it was recovered" in two.run("up", path).stderr
    assert "early" in two.out("nbctl", "show")
    two.run("ping", "vm1", "vm2")


def test_a_sound_database_stays_as_it_is(two: Labs) -> None:
    path = two.write("two.yaml", TWO)
    two.run("up", path)
    stop(two, "two")
    assert "damaged" not in two.run("up", path).stderr


@pytest.mark.parametrize("name", ["ovnnb_db.db", pytest.param("ovnsb_db.db", marks=pytest.mark.thorough)])
def test_a_damaged_member_joins_its_cluster_anew(user_labs: Labs, name: str) -> None:
    user_labs.run("up", "raft")
    user_labs.run("nbctl", "ls-add", "by-hand")
    nodes = stop(user_labs, "raft")
    _overwritten(nodes / "central1/lib/ovn" / name)
    assert "central1: " in user_labs.run("up", "raft").stderr
    clusters = user_labs.json("status")["clusters"]
    assert sorted(member["role"] for member in clusters) == ["follower"] * 4 + ["leader"] * 2
    status = user_labs.on("central2", "ovs-appctl", "-t", f"/run/ovn/{name[:-3]}.ctl", "cluster/status",
                          "OVN_Northbound" if "nb" in name else "OVN_Southbound")  # fmt: skip
    servers = status.partition("Servers:")[2].strip().splitlines()
    assert len([line for line in servers if " at " in line]) == 3, status
    assert "by-hand" in user_labs.out("nbctl", "show")
    assert user_labs.json("up", "raft")["steps"] == []


def test_a_cluster_of_which_too_little_is_left_says_what_to_do(user_labs: Labs) -> None:
    user_labs.run("up", "raft")
    nodes = stop(user_labs, "raft")
    for central in ("central1", "central2"):
        _empty(nodes / central / "lib/ovn/ovnnb_db.db")
    said = user_labs.run("up", "raft", expect=1).stderr
    assert "the Northbound database is damaged on central1, central2, and central3 is not a majority" in said
    assert "`ovnlab down`" in said
    user_labs.run("down")
    user_labs.run("up", "raft")
