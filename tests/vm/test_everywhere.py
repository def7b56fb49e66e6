"""One file, and what people do with it, on every kind of node. A test that holds on some only says why."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import ROOT
from tests.vm.conftest import HOSTS, NODES, UNDERLAY, Everywhere, Hosts, scripts, vm_labs

ANYWHERE = Path(__file__).with_name("anywhere.py")


def connections_of(folder: str) -> str:
    """The processes of ssh that use what is in a folder, those that are just ending excepted."""
    deadline = time.monotonic() + 5
    while True:
        found = subprocess.run(["pgrep", "-af", f"^ssh.*{folder}"], capture_output=True, text=True, check=False).stdout
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _on(*each_time: str) -> pytest.MarkDecorator:
    kinds = [
        kind if kind in each_time else pytest.param(kind, marks=pytest.mark.thorough)
        for kind in ("local", "libvirt", "vagrant", "ssh")
    ]
    return pytest.mark.parametrize("everywhere", kinds, indirect=True, scope="module")


# Once on virtual machines is what there is time for each time, and for what is about machines. Vagrant's and those that
# are there already have tests of their own; all of it on all of them is for `make test-all`.
MACHINES = _on("local", "libvirt")
ANY = _on("local")


@pytest.fixture(scope="module")
def everywhere(request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Everywhere]:
    kind: str = request.param
    if kind == "ssh":
        hosts: Hosts = request.getfixturevalue("hosts")
        hosts.have(*UNDERLAY)
        own = {
            name: f", host: {hosts.addresses[host]}, ip: {UNDERLAY[host]}"
            for name, host in zip(NODES, UNDERLAY, strict=True)
        }
        found = Everywhere(kind, hosts.labs, f"{{key: {hosts.keys}/key, known_hosts: {hosts.keys}/known_hosts}}", own)
        found.up()
        yield found
        hosts.labs.run("down", "everywhere")
        assert not connections_of("labs/everywhere/ssh")
        assert {hosts.on(host, "ls -A /var/lib/ovnlab 2>&1; pgrep -c '^ov' || :") for host in UNDERLAY} == {
            "ls: cannot access '/var/lib/ovnlab': No such file or directory\n0\n"
        }
        hosts.have(*HOSTS)
        return
    if kind == "libvirt":
        found = request.getfixturevalue("virtual")
        found.up()
        yield found
        found.labs.run("down", "everywhere")
        assert not connections_of(f"{found.labs.state}")
        return
    folder = session_folder / kind  # the path of a socket may not be long
    if kind == "local":
        made = labs_in(request.getfixturevalue("root"), folder)
    else:
        made = vm_labs(request.getfixturevalue("hypervisor"), folder, request.getfixturevalue("cache"))
    for labs in made:
        found = Everywhere(kind, labs, "{}", {})
        found.up()
        yield found
        labs.run("down", "everywhere")
        assert not connections_of(f"{folder}/state")


@MACHINES
def test_nodes_are_chassis_with_tunnels_between_them(everywhere: Everywhere) -> None:
    status = everywhere.labs.json("status", "--lab", "everywhere")
    assert (status["state"], status["provider"]) == ("up", everywhere.provider)
    assert [(node["name"], node["registered"], node["encap"]) for node in status["nodes"]] == [
        (name, True, "geneve") for name in NODES
    ]
    for node in status["nodes"]:
        assert {tunnel["peer"] for tunnel in node["tunnels"] if tunnel["working"]} == NODES.keys() - {node["name"]}
    kind = "netdev" if everywhere.provider == "local" else "system"
    assert everywhere.on("worker1", "ovs-vsctl", "get", "Bridge", "br-int", "datapath_type").strip() == kind


@MACHINES
def test_nodes_are_looked_at_once(everywhere: Everywhere) -> None:
    everywhere.labs.run("status", "--lab", "everywhere")  # by a login of its own, if there is no connection yet
    assert scripts(everywhere.labs, "everywhere") == 3


@ANY
def test_fake_vms_reach_one_another(everywhere: Everywhere) -> None:
    assert everywhere.checks() == (4, 0)
    # A switch of its own, and the ACL of another does not apply to it.
    everywhere.labs.run("ping", "--lab", "everywhere", "vm2", "vm3")


@ANY
def test_one_test_file_holds_on_every_kind_of_node(everywhere: Everywhere) -> None:
    labs = everywhere.labs
    words = ["-p", "no:cacheprovider", f"--basetemp={labs.scratch}/pytest", "--ovnlab", "everywhere"]
    done = subprocess.run(
        [*labs.account.prefix, labs.account.python, "-m", "pytest", *words, str(ANYWHERE)],
        env=labs.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert re.search(r"^=+ 4 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr


@MACHINES
def test_what_is_between_nodes_is_geneve_with_the_keys_of_the_southbound_database(everywhere: Everywhere) -> None:
    labs = everywhere.labs
    words = ("exec", "--lab", "everywhere", "worker2", "--", "tcpdump", "--immediate-mode", "-c1", "-nni", "eth1")
    capture = labs.start(*words, "udp port 6081 and src host " + everywhere.on("worker1", "hostname", "-I").split()[-1])
    assert capture.stderr is not None
    while "listening on" not in capture.stderr.readline():
        assert capture.poll() is None
    labs.run("ping", "--lab", "everywhere", "vm1", "vm2")
    said = capture.communicate(timeout=60)[0]
    (key,) = re.findall(
        r"\d+", labs.out("sbctl", "--lab", "everywhere", "--bare", "--columns=tunnel_key", "find",
                         "Datapath_Binding", "external_ids:name=red"),
    )  # fmt: skip
    assert f"vni {int(key):#x}" in said, said


@MACHINES
def test_a_packet_is_traced_and_captured(everywhere: Everywhere) -> None:
    labs = everywhere.labs
    found = labs.json("trace", "--lab", "everywhere", "vm1", "vm2")
    assert found["verdict"] == "delivered as intended", found
    assert [hop["seen"] for hop in found["hops"]] == [True] * 4
    assert found["tunnel"]["observed"] == found["tunnel"]["expected"]
    leaving, arriving = found["physical"]
    assert leaving["exits"][0]["tunnel"]["vni"] == found["tunnel"]["expected"]["vni"]
    assert (leaving["missing"], arriving["missing"]) == ([], [])
    capture = labs.start(
        "capture", "--lab", "everywhere", "--inner", "worker2", "--filter", "icmp", "-c", "2", "--json"
    )
    time.sleep(8 if everywhere.provider != "local" else 2)  # it says nothing of its own when it is not on a terminal
    labs.run("ping", "--lab", "everywhere", "vm1", "vm2")
    lines = [json.loads(line) for line in capture.communicate(timeout=60)[0].splitlines()]
    assert [line["text"].partition(": ")[2].split(",")[0] for line in lines] == ["ICMP echo request", "ICMP echo reply"]
    place = "worker2:tunnels" if everywhere.provider == "local" else "worker2:genev_sys_6081"
    assert {line["place"] for line in lines} == {place}
    assert labs.json("explain", "--lab", "everywhere", "vm1")["problems"] == []


@MACHINES
def test_a_kernels_tunnel_has_a_device(everywhere: Everywhere) -> None:
    if everywhere.provider == "local":
        pytest.skip("local nodes share this machine's kernel and leave it alone: their datapath is in userspace")
    labs = everywhere.labs
    words = ("exec", "--lab", "everywhere", "worker2", "--", "tcpdump", "--immediate-mode", "-c2", "-nni")
    capture = labs.start(*words, "genev_sys_6081", "icmp")
    assert capture.stderr is not None
    while "listening on" not in capture.stderr.readline():
        assert capture.poll() is None
    labs.run("ping", "--lab", "everywhere", "vm1", "vm2")
    assert "10.1.0.11 > 10.1.0.12: ICMP echo request" in capture.communicate(timeout=60)[0]


@MACHINES
def test_a_second_up_has_nothing_to_do(everywhere: Everywhere) -> None:
    before = everywhere.pids()
    assert everywhere.up() == []
    assert everywhere.pids() == before


@ANY
def test_what_changes_in_the_file_changes_in_the_lab_and_nothing_else(everywhere: Everywhere) -> None:
    before = everywhere.pids()
    steps = everywhere.up(", vm4: {chassis: worker1, ip: 10.2.0.12}")
    assert any("vm4" in step for step in steps)
    assert not [step for step in steps if "add node" in step or "configure" in step or "bind vm1" in step]
    everywhere.labs.run("ping", "--lab", "everywhere", "vm4", "vm2")
    everywhere.up()
    assert "vm4" not in everywhere.labs.out("nbctl", "--lab", "everywhere", "lsp-list", "blue")
    assert everywhere.pids() == before


@ANY
def test_a_daemon_that_was_killed_is_brought_back(everywhere: Everywhere) -> None:
    before = everywhere.pids()
    everywhere.on("worker1", "sh", "-c", "kill -9 $(cat /run/ovn/ovn-controller.pid)")
    steps = everywhere.up()
    assert any("worker1" in step and "ovn-controller" in step for step in steps)
    after = everywhere.pids()
    assert {what for what in before if before[what] != after[what]} == {("worker1", "ovn-controller")}
    everywhere.labs.run("ping", "--lab", "everywhere", "vm1", "vm2")


@ANY
def test_a_fake_vm_moves(everywhere: Everywhere) -> None:
    everywhere.labs.run("bind", "--lab", "everywhere", "vm1", "worker2")
    rows = everywhere.labs.json("status", "--lab", "everywhere")["ports"]
    assert {row["name"]: row["chassis"] for row in rows}["vm1"] == "worker2"
    everywhere.labs.run("ping", "--lab", "everywhere", "vm1", "vm3")
    everywhere.labs.run("bind", "--lab", "everywhere", "vm1", "worker1")
    everywhere.labs.run("ping", "--lab", "everywhere", "vm1", "vm2")


@MACHINES
def test_logs_names_and_what_is_rendered(everywhere: Everywhere) -> None:
    labs = everywhere.labs
    assert "claiming" in labs.out("logs", "--lab", "everywhere", "-n", "1000", "worker1", "ovn-controller").lower()
    assert everywhere.on("worker1", "getent", "hosts", "worker2").split()[1] == "worker2"
    titles = [script["title"] for script in labs.json("render", everywhere.write())["scripts"]]
    assert "worker1/start-switch.sh" in titles
    assert ("Vagrantfile" in titles) is (everywhere.provider == "vagrant")


@MACHINES
def test_ssh_and_ansible_know_the_nodes(everywhere: Everywhere) -> None:
    labs = everywhere.labs
    if everywhere.provider == "local":
        assert "without SSH servers" in labs.run("ssh-config", "--lab", "everywhere", expect=2).stderr
        return
    config = labs.out("ssh-config", "--lab", "everywhere").strip()
    words = [*labs.account.prefix, "ssh", "-F", config, "worker1", "hostname"]
    hostname = HOSTS[1] if everywhere.provider == "ssh" else "worker1"
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == f"{hostname}\n"
    # Every command before this one logged in once at most: ssh keeps the connection, and later commands use it.
    words = [*labs.account.prefix, "ssh", "-F", config, "-O", "check", "worker1"]
    assert "Master running" in subprocess.run(words, capture_output=True, text=True, check=True).stderr
    # Nor does one ask a server whether it is there: that would be two lines more in its log. A node that was busy for
    # two seconds is asked so, and a node that takes its turn with others may be: of three times once is enough.
    log = ("journalctl", "--quiet", "--identifier=sshd", "--output=cat")  # OVS logs there too, in the same unit
    lines = [everywhere.on("worker1", *log)]
    for _ in range(3):
        labs.run("status", "--lab", "everywhere")
        lines.append(everywhere.on("worker1", *log))
    assert lines[0]
    assert any(after == before for before, after in itertools.pairwise(lines)), lines[-1]
    assert labs.json("inventory", "--lab", "everywhere")["groups"]["central"] == ["central"]
    assert Path(config).stat().st_mode & 0o777 == 0o600
