"""Nodes that Vagrant makes: a real `vagrant up` of a box that is made on the spot, on a real libvirt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.harness import Account, Labs
from tests.vm.conftest import of_labs, virsh

ONE = (
    "name: one\nprovider: vagrant\nnodes: {central: {role: central}}\n"
    "logical: {switches: {s: {subnet: 10.1.0.0/24, ports: {a: {chassis: central}, b: {chassis: central}}}}}\n"
)


def test_a_machine_is_made_once_and_lets_nobody_else_in(machines: Labs, hypervisor: Account) -> None:
    path = machines.write("one.yaml", ONE)
    machines.run("up", path)
    assert "ovnlab-one-central" in virsh(hypervisor, "list", "--name")
    machines.run("ping", "a", "b")
    assert "system@ovs-system" in machines.on("central", "ovs-appctl", "dpctl/show")
    assert machines.json("up", path)["steps"] == []
    config = machines.out("ssh-config").strip()
    assert machines.out("ssh", "central", "hostname") == "central\n"
    # Not with the key that every box has.
    everybodys = f"{hypervisor.home}/.vagrant.d/insecure_private_key"
    text = Path(config).read_text().replace(str(Path(config).parent / "key"), everybodys)
    (machines.scratch / "config").write_text(text.replace("ControlMaster auto", "ControlMaster no"))
    words = [*hypervisor.prefix, "ssh", "-F", str(machines.scratch / "config"), "-S", "none", "central", "true"]
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "Permission denied" in refused.stderr


@pytest.mark.thorough
def test_a_machine_that_was_switched_off_is_the_same_also_if_it_lets_root_in_no_more(
    machines: Labs, hypervisor: Account
) -> None:
    path = machines.write("one.yaml", ONE)
    machines.run("up", path)
    config = machines.out("ssh-config").strip()
    assert "User root" in Path(config).read_text()
    machines.on("central", "sh", "-c", "echo PermitRootLogin no >/etc/ssh/sshd_config.d/first.conf; sync")
    virsh(hypervisor, "destroy", "ovnlab-one-central")
    status = machines.json("status")
    assert (status["state"], status["nodes"][0]["state"]) == ("down", "shut off")
    assert machines.json("up", path)["steps"][0] == "add node central: it is not running"
    assert "User vagrant" in Path(config).read_text()
    assert machines.on("central", "cat", "/etc/ssh/sshd_config.d/first.conf", "/root/.ssh/authorized_keys")


def test_an_interrupted_up_leaves_nothing(machines: Labs, hypervisor: Account) -> None:
    path = machines.write("one.yaml", ONE)
    process = machines.start("up", path)
    while not any("ovnlab-one-central" in name for name in virsh(hypervisor, "list", "--name")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGINT)  # ovnlab itself; nsenter ends with its exit code
    assert process.wait(timeout=120) == 130
    process.communicate()
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]


@pytest.mark.thorough
def test_a_machine_that_cannot_become_what_it_shall_be_is_made_anew(machines: Labs) -> None:
    path = machines.write("one.yaml", ONE)
    machines.run("up", path)
    machines.on("central", "touch", "/root/kept")
    machines.run("up", path, "--set", "nodes.central.memory=640M")
    assert int(machines.on("central", "sh", "-c", "free -m | awk '/Mem/ { print $2 }'")) > 520
    machines.run("exec", "central", "--", "test", "-e", "/root/kept", expect=1)


@pytest.mark.thorough
def test_a_lab_goes_away_whose_files_are_lost(machines: Labs, hypervisor: Account) -> None:
    path = machines.write("one.yaml", ONE)
    machines.run("up", path)
    folder = machines.state / "ovnlab/labs/one"
    for name in ("lab.json", "vagrant/Vagrantfile"):
        (folder / name).unlink()
    machines.run("down", "one")
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]


def test_a_person_can_use_the_vagrantfile_alone(machines: Labs, hypervisor: Account) -> None:
    path = machines.write(
        "rich.yaml",
        """
name: rich
provider: vagrant
underlay: {mtu: 9000}
machines: {memory: 768M, image: debian/bookworm64}
libvirt: {network: isolated, subnet: 10.99.0.0/24, accelerate: kvm}
physical_networks: {external: {}}
nodes:
  central: {role: central, cpus: 2, cpu: host-model, disk: 8G}
  gw1: {role: gateway, physical: [external], disks: [1G, 512M], machine: q35}
""",
    )
    (script,) = machines.json("render", path, "--only", "Vagrantfile")["scripts"]
    (machines.scratch / "Vagrantfile").write_text(script["text"])
    environment = {**machines.environment, "VAGRANT_CHECKPOINT_DISABLE": "1"}

    def vagrant(*words: str) -> str:
        command = [*hypervisor.prefix, "env", f"--chdir={machines.scratch}", "vagrant", *words]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "validated successfully" in vagrant("validate")
    assert vagrant("status", "--machine-readable").count("not_created") >= 2


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere", "unknown box nowhere\n  → ovnlab image build nowhere --box"),
        ("./missing.box", "missing.box: cannot be read: No such file or directory"),
        ("./broken.box", "The box failed to unpackage properly"),
    ],
)
def test_what_cannot_work_is_said(machines: Labs, image: str, said: str) -> None:
    (machines.scratch / "broken.box").write_text("no box\n")
    path = machines.write("one.yaml", f"{ONE}machines: {{image: {image}}}\n")
    assert said in machines.run("up", path, expect=1).stderr
    assert json.loads(machines.out("ls", "--json"))["labs"] == [], "nothing was made, and so there is no lab"
