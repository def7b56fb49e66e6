"""`up` makes a lab what the file says: it does what is missing, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from ovnlab.ovsdb.endpoints import Databases
from ovnlab.templating import render
from tests.lab.harness import TOPOLOGIES, Account, Labs, processes_with
from tests.lab.shared import Share
from tests.lab.test_scenarios import kill_node

ROUTED = (TOPOLOGIES / "routed.yaml").read_text()

NOTHING = "lab routed is up: nothing to do\n"


def versions(labs: Labs) -> dict[str, str]:
    """The version of every row that a topology makes, which any change to it would change."""
    tables = ("Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Logical_Router_Port")
    select = [{"op": "select", "table": table, "where": [], "columns": ["_uuid", "_version"]} for table in tables]
    asked = json.dumps(["OVN_Northbound", *select])
    answer = labs.on("central", "ovsdb-client", "transact", "unix:/run/ovn/ovnnb_db.sock", asked)
    rows = [row for result in json.loads(answer) for row in result["rows"]]
    assert rows
    return {row["_uuid"][1]: row["_version"][1] for row in rows}


def daemons(labs: Labs) -> dict[tuple[str, str], int]:
    """The process of every daemon, as its node numbers it."""
    found = labs.json("status")
    return {(node["name"], d["name"]): d["pid"] for node in found["nodes"] for d in node["daemons"]}


def reachable(labs: Labs, source: str = "vm1", destination: str = "vm2") -> bool:
    result = labs.run("ping", source, destination, "-c", "2", expect=None)
    return result.returncode == 0


@pytest.fixture
def lab(account: Account, share: Share) -> Labs:
    """A lab of `ROUTED`, which tests share: as an ordinary user, and in `make test-all` as root too."""
    return share(account, "routed", ROUTED)


@pytest.fixture
def user_lab(ordinary: Account, share: Share) -> Labs:
    """A lab of `ROUTED`, which tests share, for what does not depend on who it is."""
    return share(ordinary, "routed", ROUTED)


@pytest.fixture
def routed(lab: Labs) -> str:
    return str(lab.scratch / "routed.yaml")


def test_second_up_does_nothing(lab: Labs, routed: str) -> None:
    before = versions(lab), daemons(lab), lab.out("nbctl", "get", "NB_Global", ".", "nb_cfg")
    assert lab.out("up", routed) == NOTHING
    assert (versions(lab), daemons(lab), lab.out("nbctl", "get", "NB_Global", ".", "nb_cfg")) == before
    assert lab.json("up", routed)["steps"] == []
    lab.run("up", routed, "--dry-run", "--exit-code")


@pytest.mark.parametrize("daemon", ["ovn-controller", "ovs-vswitchd", "ovsdb-server"])
def test_a_killed_daemon_is_brought_back(user_lab: Labs, daemon: str) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    before = daemons(user_lab)
    user_lab.on("worker1", "kill", "-9", str(before["worker1", daemon]))
    assert f"{daemon} does not run" in user_lab.out("up", path, "--dry-run", "--exit-code", expect=5)
    user_lab.run("up", path)
    assert reachable(user_lab)
    after = daemons(user_lab)
    assert after["worker1", daemon] is not None
    # ovn-controller would wait for seconds before it asks for a switch that died under it.
    anew = {("worker1", daemon), *([("worker1", "ovn-controller")] if daemon == "ovs-vswitchd" else [])}
    same = {key: pid for key, pid in before.items() if key not in anew}
    assert {key: after[key] for key in same} == same, "another daemon was restarted too"
    assert user_lab.out("up", path) == NOTHING


@pytest.mark.parametrize("daemon", ["ovn-northd", "ovnsb_db", "ovnnb_db"])
def test_a_killed_central_daemon_is_brought_back(user_lab: Labs, daemon: str) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    user_lab.run("nbctl", "ls-add", "by-hand")
    user_lab.on("central", "kill", "-9", str(daemons(user_lab)["central", daemon]))
    user_lab.run("up", path)
    assert reachable(user_lab)
    assert "by-hand" in user_lab.out("nbctl", "show")
    assert user_lab.out("up", path) == NOTHING
    user_lab.run("nbctl", "ls-del", "by-hand")


def test_a_node_that_died_is_brought_back(lab: Labs, routed: str) -> None:
    nodes = lab.nodes("routed")
    assert sorted(nodes) == ["central", "worker1", "worker2"]
    os.kill(nodes["worker2"], signal.SIGKILL)
    assert "add node worker2: it is not running" in lab.out("up", routed, "--dry-run")
    assert lab.json("ls")["labs"][0]["state"] == "partly up"
    lab.run("up", routed)
    assert reachable(lab)
    after = lab.nodes("routed")
    assert (after["central"], after["worker1"]) == (nodes["central"], nodes["worker1"])
    assert lab.out("up", routed) == NOTHING


def test_a_central_that_died_keeps_its_databases(user_lab: Labs) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    user_lab.run("nbctl", "ls-add", "by-hand")
    os.kill(user_lab.nodes("routed")["central"], signal.SIGKILL)
    user_lab.run("up", path)
    assert "by-hand" in user_lab.out("nbctl", "show")
    assert reachable(user_lab)
    user_lab.run("nbctl", "ls-del", "by-hand")


def test_up_after_a_reboot_brings_everything_back(labs: Labs) -> None:
    """A reboot is the end of all processes, with the files left."""
    labs.run("up", "3node")
    labs.run("bind", "vm1=worker1", "vm2=worker2")
    labs.run("bind", "extra", "worker1", "--network", "network1")
    labs.run("nbctl", "lsp-add", "network1", "by-hand")
    os.kill(labs.holder("3node"), signal.SIGKILL)
    while processes_with(str(labs.state)):
        time.sleep(0.01)
    assert labs.json("ls")["labs"][0]["state"] == "down"
    labs.run("up", "3node")
    assert reachable(labs)
    assert reachable(labs, "extra", "vm2")
    assert "by-hand" in labs.out("nbctl", "show")
    assert labs.out("up", "3node") == "lab 3node is up: nothing to do\n"


def changed(labs: Labs, old: str, new: str) -> list[str]:
    """What `up` does after a change of the file, which a further `up` must find complete."""
    assert old in ROUTED
    path = labs.write("routed.yaml", ROUTED.replace(old, new))
    planned = labs.json("up", path, "--dry-run")["steps"]
    done: list[str] = labs.json("up", path)["steps"]
    assert planned, "nothing was planned"
    assert labs.out("up", path) == NOTHING
    return done


def test_a_further_node(lab: Labs, routed: str) -> None:
    assert changed(lab, "  worker2: {", "  worker3: {}\n  worker2: {")[0] == "add node worker3: it is missing"
    status = lab.json("status")
    peers = {node["name"]: {t["peer"] for t in node["tunnels"] if t["working"]} for node in status["nodes"]}
    assert peers["worker1"] == {"central", "worker2", "worker3"}
    assert lab.on("worker1", "getent", "hosts", "worker3").split()[1] == "worker3"
    lab.run("bind", "vm1", "worker3")
    assert reachable(lab)


def test_a_node_less(lab: Labs, routed: str) -> None:
    text = ROUTED.replace("  worker1: {ip: 192.168.50.100}\n", "").replace("chassis: worker1", "chassis: central")
    path = lab.write("routed.yaml", text)
    steps = lab.json("up", path)["steps"]
    assert "remove node worker1: the topology does not have it any more" in steps
    assert lab.out("up", path) == NOTHING
    assert reachable(lab)
    assert "worker1" not in lab.nodes("routed")
    assert [row["name"] for row in lab.rows("sbctl", "list", "Chassis")].count("worker1") == 0


@pytest.mark.thorough
def test_a_node_less_while_the_database_that_is_to_forget_it_is_dead(user_lab: Labs) -> None:
    user_lab.on("central", "kill", "-9", str(daemons(user_lab)["central", "ovnsb_db"]))
    text = ROUTED.replace("  worker1: {ip: 192.168.50.100}\n", "").replace("chassis: worker1", "chassis: central")
    user_lab.run("up", user_lab.write("routed.yaml", text))
    assert sorted(row["name"] for row in user_lab.rows("sbctl", "list", "Chassis")) == ["central", "worker2"]
    assert reachable(user_lab)


def test_a_node_less_while_the_node_with_the_databases_is_dead(user_lab: Labs) -> None:
    kill_node(user_lab, "routed", "central")
    text = ROUTED.replace("  worker1: {ip: 192.168.50.100}\n", "").replace("chassis: worker1", "chassis: central")
    path = user_lab.write("routed.yaml", text)
    user_lab.run("up", path)
    assert sorted(row["name"] for row in user_lab.rows("sbctl", "list", "Chassis")) == ["central", "worker2"]
    assert reachable(user_lab)
    assert user_lab.out("up", path) == NOTHING


@pytest.mark.thorough
def test_another_underlay_address(user_lab: Labs) -> None:
    steps = changed(user_lab, "worker1: {ip: 192.168.50.100}", "worker1: {ip: 192.168.50.77}")
    assert any("ovn-encap-ip is 192.168.50.100 instead of 192.168.50.77" in step for step in steps)
    assert "192.168.50.77/24" in user_lab.on("worker1", "ip", "address", "show", "dev", "eth1")
    assert "192.168.50.100" not in user_lab.on("worker1", "ip", "address")
    assert user_lab.on("central", "getent", "hosts", "worker1").split()[0] == "192.168.50.77"
    assert reachable(user_lab)


@pytest.mark.thorough
def test_another_central_address(user_lab: Labs) -> None:
    changed(user_lab, "ip: 192.168.50.10}", "ip: 192.168.50.11}")
    assert reachable(user_lab)
    user_lab.run("nbctl", "--wait=hv", "--timeout=10", "sync")


def test_another_encapsulation(lab: Labs, routed: str) -> None:
    changed(lab, "name: routed", "name: routed\nencap: vxlan")
    kinds = {t["encap"] for node in lab.json("status")["nodes"] for t in node["tunnels"]}
    assert kinds == {"vxlan"}
    assert reachable(lab)
    assert "mtu 1450" in lab.on("vm1", "ip", "link", "show", "vm1")


def test_another_address_of_a_port(lab: Labs, routed: str) -> None:
    changed(lab, "ip: 192.168.1.11", "ip: 192.168.1.99")
    shown = lab.on("vm2", "ip", "address")
    assert "192.168.1.99/24" in shown
    assert "192.168.1.11" not in shown
    assert "default via 192.168.1.1" in lab.on("vm2", "ip", "route")
    assert reachable(lab)


def test_a_port_on_another_chassis(lab: Labs, routed: str) -> None:
    steps = changed(lab, "ip: 192.168.1.11, chassis: worker2", "ip: 192.168.1.11, chassis: central")
    assert steps == ["unbind vm2 from worker2", "bind vm2 to central"]
    assert lab.on("worker2", "ip", "netns", "list") == ""
    assert reachable(lab)


def test_another_port_and_one_less(lab: Labs, routed: str) -> None:
    vm1 = '        vm1: {mac: "40:44:00:00:00:01", ip: 192.168.0.11, chassis: worker1}\n'
    changed(lab, vm1, "        vm3: {chassis: worker1}\n")
    assert lab.on("worker1", "ip", "netns", "list").split()[0] == "vm3"
    assert "port vm1" not in lab.out("nbctl", "show")
    assert reachable(lab, "vm3", "vm2")


@pytest.mark.thorough
def test_a_port_on_another_switch(user_lab: Labs) -> None:
    vm1 = '        vm1: {mac: "40:44:00:00:00:01", ip: 192.168.0.11, chassis: worker1}\n'
    moved = ROUTED.replace(vm1, "").replace(
        "        vm2:", "        vm1: {ip: 192.168.1.12, chassis: worker1}\n        vm2:"
    )
    moved = moved.replace("      ports:\n    network2", "    network2")
    path = user_lab.write("routed.yaml", moved)
    user_lab.run("up", path)
    assert reachable(user_lab)
    assert "ttl=64" in user_lab.out("ping", "vm1", "vm2")
    assert user_lab.out("up", path) == NOTHING


def test_a_router_less(lab: Labs, routed: str) -> None:
    path = lab.write("routed.yaml", ROUTED[: ROUTED.index("  routers:")])
    lab.run("up", path)
    assert "router" not in lab.out("nbctl", "show")
    assert lab.on("vm1", "ip", "route").split()[:3] == ["192.168.0.0/24", "dev", "vm1"]
    assert not reachable(lab)
    assert lab.out("up", path) == NOTHING


def test_what_a_person_added_stays(lab: Labs, routed: str) -> None:
    lab.run("nbctl", "ls-add", "mine", "--", "lsp-add", "mine", "my-port", "--", "lr-add", "my-router")
    lab.run("nbctl", "lsp-add", "network1", "my-other-port")
    lab.run("nbctl", "set", "Logical_Switch_Port", "vm1", "external_ids:mine=yes", "options:mtu_request=1300")
    assert lab.out("up", routed) == NOTHING
    changed(lab, "ip: 192.168.1.11", "ip: 192.168.1.99")
    shown = lab.out("nbctl", "show")
    for name in ("mine", "my-port", "my-router", "my-other-port"):
        assert name in shown
    assert lab.out("nbctl", "get", "Logical_Switch_Port", "vm1", "external_ids:mine").strip() == "yes"
    lab.run("nbctl", "ls-del", "mine", "--", "lr-del", "my-router", "--", "lsp-del", "my-other-port")
    lab.run("nbctl", "remove", "Logical_Switch_Port", "vm1", "external_ids", "mine")


def test_a_row_that_was_changed_by_hand_is_put_right_and_said(lab: Labs, routed: str) -> None:
    lab.run("nbctl", "lsp-set-addresses", "vm1", "40:44:00:00:00:09 192.168.0.99")
    lab.run("nbctl", "lsp-del", "vm2")
    steps = lab.json("up", routed)["steps"]
    was, wanted = "40:44:00:00:00:09 192.168.0.99", "40:44:00:00:00:01 192.168.0.11"
    assert f"change logical switch port vm1: addresses: {was} → {wanted}" in steps
    assert "add logical switch port vm2: it is missing" in steps
    assert reachable(lab)
    assert lab.out("up", routed) == NOTHING


def test_a_name_that_somebody_else_took_is_an_error(user_lab: Labs) -> None:
    user_lab.run("nbctl", "ls-add", "network3")
    path = user_lab.write("routed.yaml", ROUTED.replace("  routers:", "    network3: {}\n  routers:"))
    error = user_lab.run("up", path, expect=1).stderr
    assert "there is a logical switch network3 already that ovnlab did not make" in error
    assert "ovnlab nbctl ls-del network3" in error
    assert reachable(user_lab)
    user_lab.run("nbctl", "ls-del", "network3")


def test_dry_run_of_a_new_lab_changes_nothing(user_labs: Labs) -> None:
    steps: list[Any] = user_labs.json("up", "routed", "--dry-run", "--exit-code", expect=5)["steps"]
    assert "add node central: it is missing" in steps
    assert "add logical router router1: it is missing" in steps
    assert "bind vm1 to worker1" in steps
    assert user_labs.audit() == []
    assert user_labs.json("ls")["labs"] == []


def test_who_does_not_follow_is_named(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    script = render(
        "node/wait-chassis-registered.sh.j2",
        databases=Databases(""),
        chassis=["worker1", "ghost"],
        timeout=2,
        synced=True,
    )
    assert (
        "waited 2 s for chassis to register: ghost\n"
        in user_labs.run("exec", "central", "--", "sh", "-s", stdin=script, expect=1).stderr
    )
    user_labs.on("worker2", "sh", "-c", "kill -STOP $(cat /run/ovn/ovn-controller.pid)")
    script = render("node/wait-chassis-registered.sh.j2", databases=Databases(""), chassis=[], timeout=2, synced=True)
    said = user_labs.run("exec", "central", "--", "sh", "-s", stdin=script, expect=1).stderr
    assert "waited 2 s for chassis to follow the Northbound database: worker2\n" in said
    user_labs.on("worker2", "sh", "-c", "kill -CONT $(cat /run/ovn/ovn-controller.pid)")


@pytest.mark.parametrize("tool", ["nbctl", "sbctl"])
def test_a_database_that_no_longer_listens_is_put_right(user_lab: Labs, tool: str) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    user_lab.run(tool, "del-connection")
    assert "does not listen at ptcp:664" in user_lab.out("up", path)
    assert user_lab.out("up", path) == NOTHING
    user_lab.run("nbctl", "--wait=hv", "--timeout=10", "sync")


BLOCK = "cd /run/ovn; kill -9 $(cat ovn-controller.pid); rm -f ovn-controller.pid; mkdir ovn-controller.pid; touch ovn-controller.pid/x"


def test_a_daemon_that_cannot_start_says_why(user_lab: Labs) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    user_lab.on("worker1", "sh", "-c", BLOCK)
    error = user_lab.run("up", path, expect=1).stderr
    assert "worker1: starting ovn-controller: exit code" in error
    assert "from: ovn-controller --detach" in error
    assert "ovn-controller.pid: " in error


def test_other_software_for_a_running_lab_is_refused(user_lab: Labs) -> None:
    path = str(user_lab.scratch / "routed.yaml")
    error = user_lab.run("up", path, "--set", "software=system", expect=2).stderr
    assert "lab routed runs with software packages" in error
    assert user_lab.out("up", path) == NOTHING
