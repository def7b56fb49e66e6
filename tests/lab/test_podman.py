"""`ovnlab podman-shim`: what OVN's multinode tests do to the nodes of ovn-fake-multinode, done to those of a lab."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.harness import Labs

SCRIPTS = "/usr/share/ovn/scripts/ovn-ctl", "/usr/share/openvswitch/scripts/ovs-ctl"


class Podman:
    def __init__(self, labs: Labs) -> None:
        self.labs = labs

    def exec(self, *words: str, expect: int = 0) -> str:
        return self.labs.run("podman-shim", "exec", *words, expect=expect).stdout


@pytest.fixture
def podman(labs: Labs) -> Iterator[Podman]:
    labs.run("up", "ovn-multinode")
    yield Podman(labs)


def start_databases_anew(podman: Podman) -> None:
    ovn_ctl, _ = SCRIPTS
    podman.exec("ovn-central-az1", ovn_ctl, "stop_northd")
    podman.exec("ovn-central-az1", "sh", "-c", "rm -f /etc/ovn/*.db")
    podman.exec("ovn-central-az1", ovn_ctl, "start_northd")
    for tool, port in (("ovn-nbctl", 6641), ("ovn-sbctl", 6642)):
        podman.exec("ovn-central-az1", tool, "set-connection", f"ptcp:{port}")


def start_chassis_anew(podman: Podman, node: str, ip: str) -> None:
    ovn_ctl, ovs_ctl = SCRIPTS
    podman.exec(node, ovs_ctl, "stop")
    podman.exec(node, ovn_ctl, "stop_controller")
    podman.exec(node, "sh", "-c", "rm -f /etc/openvswitch/*.db")
    podman.exec(node, ovs_ctl, "start", f"--system-id={node}")
    podman.exec(node, ovn_ctl, "start_controller")
    for key, value in {
        "ovn-encap-ip": ip,
        "ovn-encap-type": "geneve",
        "ovn-remote": "tcp:170.168.0.2:6642",
        "ovn-bridge-datapath-type": "system",
    }.items():
        podman.exec(node, "ovs-vsctl", "set", "open", ".", f"external-ids:{key}={value}")
    podman.exec(node, "ovs-vsctl", "--if-exists", "del-br", "br-ex")
    podman.exec(node, "ovs-vsctl", "add-br", "br-ex")
    podman.exec(node, "ovs-vsctl", "add-port", "br-ex", "eth2")


def add_port(podman: Podman, node: str, name: str, mac: str, address: str) -> None:
    podman.exec(node, "ip", "netns", "add", name)
    interface = ["set", "interface", name, "type=internal", f"external_ids:iface-id={name}"]
    podman.exec(node, "ovs-vsctl", "add-port", "br-int", name, "--", *interface)
    podman.exec(node, "ip", "link", "set", name, "netns", name)
    for words in (
        ("link", "set", name, "address", mac),
        ("link", "set", name, "up"),
        ("addr", "add", address, "dev", name),
    ):
        podman.exec(node, "ip", "netns", "exec", name, "ip", *words)


@pytest.mark.thorough
def test_everything_is_started_anew_under_a_lab_and_loses_no_packet(podman: Podman) -> None:
    podman.exec("ovn-central-az1", "ovn-nbctl", "ls-add", "of-an-earlier-test")
    start_databases_anew(podman)
    assert podman.exec("ovn-central-az1", "ovn-nbctl", "ls-list") == ""
    for number in (1, 2):
        start_chassis_anew(podman, f"ovn-chassis-{number}", f"170.168.0.{6 + number}")
    words = ["ls-add", "sw0"]
    for number in (1, 2):
        words += ["--", "lsp-add", "sw0", f"p{number}"]
        words += ["--", "lsp-set-addresses", f"p{number}", f"50:54:00:00:00:0{number} 10.0.0.{number}"]
    podman.exec("ovn-central-az1", "ovn-nbctl", *words)
    for number in (1, 2):
        add_port(podman, f"ovn-chassis-{number}", f"p{number}", f"50:54:00:00:00:0{number}", f"10.0.0.{number}/24")
    podman.exec("ovn-central-az1", "ovn-nbctl", "--timeout=30", "--wait=hv", "sync")
    ping = ["ip", "netns", "exec", "p1", "ping", "-q", "-c3", "-i0.3", "-w2", "10.0.0.2"]
    assert "3 received, 0% packet loss" in podman.exec("ovn-chassis-1", *ping)
    switch = podman.exec("ovn-chassis-1", "ovs-vsctl", "show")
    assert switch.count("datapath_type: netdev") == 3
    # And it is a lab still: `up` makes of it what the file says.
    assert podman.labs.json("up", "ovn-multinode")["steps"] != []
    assert podman.labs.json("up", "ovn-multinode")["steps"] == []
    assert podman.labs.json("status")["state"] == "up"


def test_an_installed_podman_enters_nodes_that_are_prepared_for_the_tests(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    folder = user_labs.scratch / "shim"
    user_labs.run("podman-shim", "--install", str(folder))

    def podman(*words: str) -> str:
        command = [*user_labs.account.prefix, str(folder / "podman"), *words]
        done = subprocess.run(
            command, env=user_labs.environment, cwd=user_labs.scratch, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    user_labs.run("nbctl", "ls-add", "sw0", "--", "lsp-add", "sw0", "p1", "--", "lsp-add", "sw0", "p2")
    for number in (1, 2):
        mac = f"50:54:00:00:00:0{number}"
        user_labs.run("nbctl", "lsp-set-addresses", f"p{number}", f"{mac} 10.1.0.{number}")
        words = (f"p{number}", f"p{number}", mac, "1400", f"10.1.0.{number}", "24", "10.1.0.254", f"1000::{number}/64")
        podman("exec", f"worker{number}", "/data/create_fake_vm.sh", *words)
    user_labs.run("nbctl", "--timeout=30", "--wait=hv", "sync")
    ping = ("exec", "worker1", "ip", "netns", "exec", "p1", "ping", "-q", "-c", "3", "-i", "0.3", "-w", "30")
    assert "3 received" in podman(*ping, "10.1.0.2")
    assert "3 received" in podman(*ping, "1000::2")
    # What the suite takes for granted of a container.
    assert podman("exec", "worker1", "sh", "-c", r"echo -e 'a\tb'") == "a\tb\n"
    assert "genev_sys" in podman("exec", "worker1", "ip", "link", "show")
    assert podman("exec", "worker1", "sh", "-c", "echo $OVN_NB_DB$OVN_SB_DB") == "\n"
    podman("exec", "worker1", "ip", "netns", "add", "forwards")
    assert podman("exec", "worker1", "ip", "netns", "exec", "forwards", "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
    podman("exec", "worker1", "ip", "route", "change", "192.168.50.0/24", "mtu", "1200", "dev", "eth1")
    assert "dev br-eth1 scope link" in (shown := podman("exec", "worker1", "ip", "route")), shown
    assert "mtu 1200" in shown
    podman("cp", "worker1:/etc/openvswitch/.", "copied")
    assert (user_labs.scratch / "copied/conf.db").exists()
    seen = podman("exec", "worker2", "timeout", "20", "sh", "-c",
                  "tcpdump -c 1 -neei genev_sys_6081 icmp >/tmp/seen 2>/tmp/said & until grep -q listening /tmp/said;"
                  " do sleep 0.1; done; ip netns exec p2 ping -q -c 3 -i 0.3 10.1.0.1 >&2; wait; cat /tmp/seen")  # fmt: skip
    assert "10.1.0.2 > 10.1.0.1: ICMP echo request" in seen or "10.1.0.1 > 10.1.0.2: ICMP echo reply" in seen
    user_labs.run("up", "3node")
    assert user_labs.json("up", "3node")["steps"] == []


def test_upstream_needs_a_source_tree_of_ovn(user_labs: Labs) -> None:
    said = user_labs.run("upstream", "--ovn", str(user_labs.scratch), expect=2).stderr
    assert "no source tree of OVN with multinode tests" in said
    said = user_labs.run("upstream", "--ovn", str(user_labs.scratch), "--provider", "libvirt", expect=2).stderr
    assert "upstream is not supported by provider libvirt" in said
    assert user_labs.json("ls")["labs"] == []


def test_ovs_ctl_of_a_node_starts_stops_and_tells(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    user_labs.run("bind", "vm1=worker1", "vm2=worker2")
    ovs_ctl = SCRIPTS[1]
    assert "ovs-vswitchd is running with pid" in user_labs.on("worker1", ovs_ctl, "status")
    user_labs.on("worker1", ovs_ctl, "restart")
    # The devices of fake VMs went with the userspace datapath, and `up` gives them new ones; the underlay is there.
    assert user_labs.json("up", "3node")["steps"] != []
    user_labs.run("ping", "vm1", "vm2", "-c", "3")
    user_labs.on("worker1", ovs_ctl, "stop")
    assert "ovs-vswitchd is not running" in user_labs.on("worker1", ovs_ctl, "status", expect=1)
    assert (
        "not 'enable-protocol'" in user_labs.run("exec", "worker1", "--", ovs_ctl, "enable-protocol", expect=1).stderr
    )


def test_a_node_is_entered_as_a_container_is(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    podman = Podman(user_labs)
    user_labs.extra_environment["LEAKED"] = "yes"
    environment = podman.exec("-i", "-e", "OWN=1", "-w", "/tmp", "worker1", "sh", "-c", "pwd; env")
    assert environment.splitlines()[0] == "/tmp"
    assert "OWN=1" in environment
    assert "LEAKED" not in environment
    assert "XDG_STATE_HOME" not in environment
    # A descriptor that is left open would keep whoever reads this command's output waiting.
    descriptors = subprocess.run(
        user_labs.command("podman-shim", "exec", "worker1", "ls", "/proc/self/fd"),
        env=user_labs.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        pass_fds=[os.dup(2)], cwd=user_labs.scratch,
    )  # fmt: skip
    assert descriptors.stdout.split() == ["0", "1", "2", "3"]  # the last one is ls's own, of the folder
    assert "LEAKED=yes" in podman.exec("-e", "LEAKED", "-e", "NEVER_SET", "worker1", "env")
    podman.exec("worker1", "ovs-vsctl", "add-br", "own", "--", "set", "bridge", "own", "datapath-type=system")
    podman.exec("worker1", "ovs-vsctl", "add-br", "fake", "own", "10")
    assert podman.exec("--", "worker1", "ovs-vsctl", "get", "bridge", "own", "datapath_type") == "netdev\n"
    podman.exec("-d", "worker1", "sleep", "1000")
    assert "sleep" in podman.exec("worker1", "ps", "-eo", "comm")
    podman.exec("worker1", "sh", "-c", "exit 7", expect=7)
    assert podman.labs.out("podman-shim", "inspect", "-f", "{{.State.Pid}} {{ .Name }}", "worker1") == (
        f"{user_labs.nodes('3node')['worker1']} worker1\n"
    )


def test_files_are_copied_in_and_out(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    shim = ("podman-shim", "cp")
    script = user_labs.scratch / "a file"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    user_labs.run(*shim, str(script), "worker1:/tmp/")
    user_labs.run(*shim, str(script), "worker1:/tmp/other")
    assert user_labs.on("worker1", "/tmp/a file") == user_labs.on("worker1", "/tmp/other") == "ran\n"
    user_labs.run("exec", "worker1", "--", "sh", "-c", "mkdir -p /tmp/folder/in; echo 1 >/tmp/folder/in/side")
    user_labs.run(*shim, "worker1:/tmp/folder", str(user_labs.scratch / "back"))
    assert (user_labs.scratch / "back/in/side").read_text() == "1\n"
    assert user_labs.run(*shim, "worker1:/nowhere", str(user_labs.scratch / "x"), expect=1).stderr
    assert not (user_labs.scratch / "x").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "image"), "podman run is not here"),
        (("exec", "worker9", "true"), "unknown node or fake VM 'worker9'"),
        (("exec", "worker1"), "podman exec NODE COMMAND"),
        (("exec", "--ghost", "worker1", "true"), "--ghost is not understood"),
        (("inspect", "-f", "{{.Ghost}}", "worker1"), "does not know {{.Ghost}}"),
        (("inspect", "worker1"), "inspect -f FORMAT"),
        (("cp", "/etc/.", "worker1:/tmp/x"), "name the folder itself"),
        (("cp", "a", "b"), "podman cp FILE NODE:PATH"),
    ],
)
def test_what_podman_would_do_and_this_does_not_is_said(user_labs: Labs, words: tuple[str, ...], said: str) -> None:
    user_labs.run("up", "3node")
    assert re.search(re.escape(said), user_labs.run("podman-shim", *words, expect=2).stderr)
