"""The command line: what it prints, as what, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs


@pytest.fixture(scope="module")
def running(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """A routed lab that these tests only look at."""
    for labs in labs_in(ordinary, session_folder / "commands"):
        labs.run("up", "routed")
        yield labs


def test_exec_passes_arguments_output_and_exit_code(running: Labs) -> None:
    hostile = "a b'c\"d$HOME;`id`\\n*"
    assert running.on("worker1", "printf", "%s", hostile) == hostile
    assert running.on("vm1", "printf", "%s", hostile) == hostile
    assert running.run("exec", "worker1", "--", "sh", "-c", "exit 42", expect=42).stdout == ""
    assert running.run("exec", "vm1", "--", "sh", "-c", "exit 43", expect=43).stdout == ""
    running.run("exec", "worker1", "no-such-program", expect=127)
    running.run("exec", "vm1", "no-such-program", expect=127)
    assert running.on("worker1", "ls", "-d", "/") == "/\n"
    fed = running.run("exec", "worker1", "--", "cat", stdin="through\n")
    assert fed.stdout == "through\n"


def test_exec_does_not_pass_the_environment_on(running: Labs) -> None:
    running.extra_environment["SECRET"] = "x"
    assert "SECRET" not in running.on("worker1", "env")
    assert "SECRET" not in running.on("vm1", "env")
    running.extra_environment.clear()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nbctl", "lsp-list", "network1"], "(vm1)"),
        (["sbctl", "--bare", "--columns=name", "list", "Chassis"], "worker2"),
        (["vsctl", "worker1", "get", "Open_vSwitch", ".", "external_ids:system-id"], "worker1"),
        (["ofctl", "worker1", "dump-ports-desc", "br-int"], "vm1"),
        (["appctl", "worker1", "dpif/show"], "br-int"),
        (["appctl", "worker1", "-t", "ovn-controller", "connection-status"], "connected"),
        (["logs", "worker1", "ovn-controller"], "ovn-controller.log"),
        (["status"], "all 6 running"),
        (["ls"], "routed"),
    ],
)
def test_tools_are_at_the_right_place(running: Labs, words: list[str], said: str) -> None:
    assert said in running.out(*words)


JSON = [
    ["up", "routed"], ["up", "routed", "--dry-run"], ["ls"], ["status"], ["validate", "routed"], ["schema"],
    ["render", "routed"], ["doctor"], ["ping", "vm1", "vm2", "-c", "1"], ["logs"],
]  # fmt: skip


@pytest.mark.parametrize("words", JSON, ids=lambda words: "-".join(words))
def test_json_is_one_object_with_a_schema_version(running: Labs, words: list[str]) -> None:
    found = json.loads(running.out(*words, "--json"))
    assert found["schema_version"] == 1
    assert len(found) > 1


def test_json_of_what_runs_elsewhere(running: Labs) -> None:
    assert running.json("bind", "vm1", "worker1")["bound"][0]["addresses"] == ["192.168.0.11/24"]
    for words in (["exec", "--json", "worker1", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],):
        found = json.loads(running.run(*words, expect=3).stdout)
        assert (found["exit_code"], found["stdout"], found["stderr"]) == (3, "out\n", "err\n")
    for words in (["nbctl", "--json", "show"], ["vsctl", "--json", "worker1", "show"]):
        assert json.loads(running.out(*words))["exit_code"] == 0


def test_status_tells_what_the_daemons_say(running: Labs) -> None:
    status = running.json("status")
    assert status["state"] == "up"
    central = status["nodes"][0]
    assert [daemon["name"] for daemon in central["daemons"]] == [
        "ovnnb_db", "ovnsb_db", "ovn-northd", "ovsdb-server", "ovs-vswitchd", "ovn-controller",
    ]  # fmt: skip
    shown = running.on("central", "ovs-vswitchd", "--version").splitlines()[0].split()[-1]
    versions = {daemon["name"]: daemon["version"] for daemon in central["daemons"]}
    assert versions["ovs-vswitchd"] == shown
    assert versions["ovn-northd"] == running.on("central", "ovn-northd", "--version").splitlines()[0].split()[-1]
    port = next(port for port in status["ports"] if port["name"] == "vm2")
    assert (port["switch"], port["chassis"], port["up"]) == ("network2", "worker2", True)
    assert port["tunnel_key"] == int(running.out("sbctl", "get", "Port_Binding", "vm2", "tunnel_key"))


def test_status_needs_none_of_the_tools_where_a_socket_answers(labs: Labs) -> None:
    labs.run("up", "routed")
    whole = labs.json("status")
    for node in ("central", "worker1", "worker2"):
        for tool in ("ovs-vsctl", "ovn-nbctl", "ovn-sbctl"):
            labs.on(node, "sh", "-c", f"mount --bind /bin/false $(command -v {tool})")
    assert labs.json("status") == whole
    assert len(whole["ports"]) == 2
    # One that says nothing is passed over, and what the others know is told.
    pid = labs.on("central", "cat", "/run/ovn/ovnnb_db.pid").strip()
    labs.on("central", "kill", "-STOP", pid)
    without = labs.json("status")
    labs.on("central", "kill", "-CONT", pid)
    assert without["state"] == "degraded"
    stopped = without["nodes"][0]["daemons"][0]
    assert (stopped["name"], stopped["answers"]) == ("ovnnb_db", False)
    stopped["answers"] = True
    assert (without["nodes"], without["ports"]) == (whole["nodes"], [])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["exec", "worker9", "--", "true"], 2, "unknown node or fake VM 'worker9'"),
        (["exec", "wroker1", "--", "true"], 2, "did you mean worker1?"),
        (["vsctl", "vm1", "show"], 2, "unknown node or fake VM 'vm1'"),
        (["ping", "vm1", "192.168.0.250", "-c", "1"], 4, "did not answer"),
        (["ping", "vm1", "nobody"], 2, "unknown node or fake VM 'nobody'"),
        (["status", "--lab", "nowhere"], 2, "unknown lab nowhere"),
        (["status", "--lab", "../x"], 2, "cannot be the name of a lab"),
        (["down", "../x"], 2, "cannot be the name of a lab"),
        (["up", "no/such.yaml"], 2, "no/such.yaml: there is no such file"),
        (["up", "routed", "--set", "x"], 2, "must be KEY=VALUE"),
        (["up", "routed", "--exit-code"], 2, "--exit-code goes with --dry-run"),
        (["up", "routed", "--provider", "libvirt"], 2, "lab routed is on provider local, and cannot move to libvirt"),
        (["render", "routed", "--only", "("], 2, "invalid regular expression"),
        (["logs", "worker1", "no-such-daemon"], 1, "there are logs of"),
        (["logs", "../.."], 1, "there are no such logs"),
        (["nonsense"], 2, "ovnlab: unknown command 'nonsense'\n  → ovnlab --help lists them\n"),
        (["statu"], 2, "ovnlab: unknown command 'statu'\n  → did you mean status?\n"),
        (["status", "--nonsense"], 2, "ovnlab: unknown option --nonsense\n  → ovnlab status --help\n"),
        (["status", "--al"], 2, "did you mean --all?"),
        (["ping", "vm1"], 2, "ovnlab: missing argument 'DST'\n  → ovnlab ping --help\n"),
        (["ping", "vm1", "vm2", "-c", "many"], 2, "→ ovnlab ping --help\n"),
        (["image", "bild"], 2, "did you mean build?"),
        (["destroy"], 2, "ovnlab: unknown command 'destroy'\n  → ovnlab down\n"),
        (["ps"], 2, "→ ovnlab ls\n"),
        (["plan"], 2, "→ ovnlab up --dry-run\n"),
        (["attach", "vm1"], 2, "→ ovnlab shell\n"),
    ],
)
def test_errors_say_what_and_what_to_do(running: Labs, words: list[str], code: int, said: str) -> None:
    result = running.run(*words, expect=code)
    assert said in result.stderr
    if words[0] not in ("exec", "vsctl"):
        as_json = running.run(*words, "--json", expect=code)
        assert json.loads(as_json.stdout).get("error", {"exit_code": code})["exit_code"] == code


def test_rendered_scripts_are_what_is_run(running: Labs) -> None:
    """They are complete and idempotent: run by hand on the nodes, they change nothing of the lab."""
    scripts = running.json("render", "routed")["scripts"]
    titles = [script["title"] for script in scripts]
    assert titles[0] == "local/holder.sh"
    assert {
        "central/start-switch.sh",
        "worker1/start-switch.sh",
        "worker1/bind-vms.sh",
        "central/apply-transaction.sh",
    } <= set(titles)
    for script in scripts:
        node, _, step = script["title"].partition("/")
        if step in (
            "start-switch.sh",
            "start-controller.sh",
            "bind-vms.sh",
            "wait-tunnels.sh",
            "announce-addresses.sh",
            "wait-chassis-registered.sh",
        ):
            running.run("exec", node, "--", "sh", "-s", stdin=script["text"])
    assert running.out("up", "routed") == "lab routed is up: nothing to do\n"
    running.run("ping", "vm1", "vm2")
    for script in scripts:
        subprocess.run(["sh", "-n"], input=script["text"], text=True, check=True)


def test_completion_knows_labs_nodes_and_vms(running: Labs) -> None:
    def complete(line: str) -> set[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_OVNLAB_COMPLETE": "bash_complete"}
        environment = {**running.environment, **words}
        script = str(Path(running.account.python).with_name("ovnlab"))
        command = [*running.account.prefix, script]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
        return {line.partition(",")[2] for line in shown.splitlines()}

    assert complete("ovnlab exec w") == {"worker1", "worker2"}
    assert complete("ovnlab bind v") == {"vm1", "vm2"}
    assert complete("ovnlab bind vm1=w") == {"vm1=worker1", "vm1=worker2"}
    assert complete("ovnlab bind vm1 ") == {"central", "worker1", "worker2"}, "only nodes fit"
    assert complete("ovnlab logs worker1 ovn-") == {"ovn-controller"}
    assert complete("ovnlab restart worker1 ovs") == {"ovs-vswitchd", "ovsdb-server"} & complete(
        "ovnlab logs worker1 ovs"
    )
    assert complete("ovnlab cp wor") >= {"worker1:", "worker2:"}
    assert complete("ovnlab exec --role c") == {"central"}
    assert complete("ovnlab up --provider l") == {"local", "libvirt"}
    assert complete("ovnlab wait --for port-up=v") == {"port-up=vm1", "port-up=vm2"}
    assert complete("ovnlab graph --view ") == {"physical", "logical", "both"}
    assert complete("ovnlab help nodes.ro") == {
        "nodes.role",
        "nodes.routes",
        "nodes.routes.prefix",
        "nodes.routes.nexthop",
    }
    assert complete("ovnlab down r") == {"routed"}
    assert "single" in complete("ovnlab up s")
    assert "status" in complete("ovnlab st")


def test_a_lab_is_named_anywhere_before_what_another_program_is_told(running: Labs) -> None:
    for words in (
        ("-l", "routed", "exec", "vm1", "--", "echo", "-l", "x"),
        ("exec", "-l", "routed", "vm1", "--", "echo", "-l", "x"),
        ("exec", "vm1", "-l", "routed", "--", "echo", "-l", "x"),
        ("exec", "vm1", "echo", "-l", "x"),
        ("exec", "vm1", "--", "sh", "-c", 'echo "$@"', "sh", "-l", "x"),
    ):
        assert running.out(*words) == "-l x\n", words
    assert running.out("exec", "vm1", "--", "echo", "a", "--", "-l") == "a -- -l\n"
    running.run("nbctl", "-l", "routed", "ls-add", "more", "--", "ls-del", "more")
    for elsewhere in (("-l", "nosuch", "status"), ("exec", "vm1", "-l", "nosuch", "--", "true")):
        assert "unknown lab nosuch" in running.run(*elsewhere, expect=None).stderr


def test_the_environment_names_a_lab(running: Labs) -> None:
    running.extra_environment["OVNLAB_LAB"] = "nosuch"
    try:
        assert "unknown lab nosuch" in running.run("status", expect=2).stderr
        assert running.json("status", "--lab", "routed")["lab"] == "routed"
        assert running.json("-l", "routed", "status")["lab"] == "routed"
        assert running.json("down", "also-nosuch")["removed"] == []
    finally:
        running.extra_environment.clear()


def test_a_terminal_sees_progress_and_a_pipe_plain_lines(user_labs: Labs) -> None:
    piped = user_labs.run("up", "single").stderr
    assert piped.splitlines()[0] == "ovnlab: adding a node"
    assert "\x1b" not in piped
    user_labs.run("down")
    shown = user_labs.on_a_terminal("up", "single")
    assert "\x1b[" in shown
    assert re.search(r"starting databases and switches.*\d\.\d s", shown, re.DOTALL)
    assert "lab single is up: 1 node" in shown
    coloured = user_labs.on_a_terminal("status")
    assert "\x1b[32m" in coloured
    user_labs.extra_environment["NO_COLOR"] = "1"
    assert "\x1b[32m" not in user_labs.on_a_terminal("status", colour=False)


def test_version_is_told(user_labs: Labs) -> None:
    assert re.fullmatch(r"ovnlab \d+\.\d+\.\d+\n", user_labs.out("--version"))


def test_down_lab_is_told_to_be_down(user_labs: Labs) -> None:
    user_labs.run("up", "single")
    import signal  # noqa: PLC0415

    os.kill(user_labs.holder("single"), signal.SIGKILL)
    assert "lab single is down" in user_labs.run("exec", "ovn", "--", "true", expect=1).stderr
    assert "lab single is down" in user_labs.run("nbctl", "show", expect=1).stderr
    assert "lab single is down" in user_labs.run("bind", "vm1", "ovn", expect=1).stderr
    assert user_labs.json("status")["state"] == "down"


def test_ping_with_a_lost_packet_is_a_failure(running: Labs) -> None:
    """Between the first and the last of them, the port of the one that answers is down for a while."""
    script = "sleep 0.8; ip -n vm2 link set vm2 down; sleep 1; ip -n vm2 link set vm2 up; ip -n vm2 route add default via 192.168.1.1"
    breaking = running.start("exec", "worker2", "--", "sh", "-c", script)
    result = running.run("ping", "vm1", "vm2", "-c", "14", expect=4)
    assert not re.search(r"\b(0|100)% packet loss", result.stdout), "all or nothing was lost"
    assert "did not answer every ping" in result.stderr
    breaking.communicate(timeout=20)
