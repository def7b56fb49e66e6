"""`down` ends with nothing left whatever somebody did to the lab's files, and `up` goes on."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ovnlab.cli.progress import NoProgress
from ovnlab.providers.ssh_provider import SshProvider
from ovnlab.state import Base, LabFolder, Stored
from ovnlab.topology.load import load
from tests.lab.harness import Labs

ONE = """
name: one
nodes: {central: {role: central}}
logical: {switches: {net: {subnet: 10.0.0.0/24, ports: {vm1: {chassis: central}}}}}
"""

FOLDERS = ["lab.json", "versions.json", "holder.pid", "holder.lock"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_where_a_file_is_to_be(user_labs: Labs, name: str) -> None:
    path = user_labs.write("one.yaml", ONE)
    user_labs.run("up", path)
    place = user_labs.state / "ovnlab/labs/one" / name
    if place.exists():
        place.unlink()
    place.mkdir()
    (place / "file").touch()
    user_labs.give(place)
    user_labs.run("up", path)
    assert user_labs.out("up", path) == "lab one is up: nothing to do\n"
    if not place.is_dir():
        place.unlink(missing_ok=True)
        place.mkdir()
        user_labs.give(place)
    user_labs.run("down", "one")
    assert user_labs.audit() == []


def test_a_file_where_the_folder_of_the_lab_is_to_be(user_labs: Labs) -> None:
    path = user_labs.write("one.yaml", ONE)
    user_labs.run("up", path)
    user_labs.run("down")
    place = user_labs.state / "ovnlab/labs/one"
    place.touch()
    assert user_labs.out("down", "one") == "removed one\n"
    assert not place.exists()
    place.touch()
    user_labs.give(place)
    user_labs.run("up", path)
    user_labs.run("down")
    assert user_labs.audit() == []


def test_a_lock_that_is_a_folder(user_labs: Labs) -> None:
    path = user_labs.write("one.yaml", ONE)
    user_labs.run("up", path)
    lock = user_labs.state / "ovnlab/labs/one.lock"
    lock.unlink()
    lock.mkdir()
    user_labs.give(lock)
    user_labs.run("down", "one")
    assert user_labs.audit() == []
    shutil.rmtree(user_labs.state / "ovnlab/logs")
    user_labs.run("up", path)


def test_a_lab_whose_host_is_gone_for_good(user_labs: Labs) -> None:
    """One that was taken, and where nobody answers any more."""
    key = user_labs.scratch / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    user_labs.write("known_hosts", f"[127.0.0.1]:1 {public}\n")
    node = "c1: {role: central, ip: 192.168.50.2, host: 127.0.0.1, port: 1, key: ./key, known_hosts: ./known_hosts}"
    path = user_labs.write("far.yaml", f"name: far\nprovider: ssh\nnodes:\n  {node}\n")
    topology = load(path).topology
    folder = LabFolder("far", user_labs.state / "ovnlab")
    folder.create(afresh=True)
    folder.store(Stored(path, topology, Base("packages", None, "", {}), complete=True))
    SshProvider(folder, topology, NoProgress())._note(topology.nodes[0], taken=True)
    for place in (user_labs.state, key):
        user_labs.give(place)
    error = user_labs.run("down", "far", expect=1).stderr
    assert "cannot be reached by SSH" in error
    assert "`ovnlab down far --forget-hosts`" in error
    assert folder.exists()
    result = user_labs.run("down", "far", "--forget-hosts")
    assert result.stdout == "removed far\n"
    assert "c1 (root@127.0.0.1:1) did not answer" in result.stderr
    assert "its daemons and br-int stay there, as /var/lib/ovnlab there says" in result.stderr
    assert user_labs.audit() == []
