"""The pytest plugin as people use it: projects of their own, in processes of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.harness import ROOT, Account, Labs

EXAMPLE = ROOT / "examples/tenants"


def run_pytest(labs: Labs, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, as the user that the labs are of."""
    base = labs.scratch / "pytest"
    command = [
        *labs.account.prefix,
        labs.account.python,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--basetemp={base}",
    ]
    return subprocess.run(
        [*command, *words], env={**labs.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def project(labs: Labs, test: str) -> Path:
    folder = labs.scratch / "project"
    (folder / "tests").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-ra'\n")
    (folder / "tests/test_it.py").write_text(f"import pytest\nfrom ovnlab.testing import checks\n{test}")
    return folder


def summary(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout.splitlines()[-1] if result.stdout else result.stderr


@pytest.fixture
def tester(root_labs: Labs) -> Labs:
    """The command line of whoever runs these tests, whose Python has pytest."""
    return root_labs


PING = """
@pytest.mark.topology("3node")
def test_ping(lab, vm, node):
    lab.bind({"vm1": "worker1", "vm2": "worker2"})
    assert vm("vm1").run("ping -c1 192.168.0.12").succeeded
    assert vm("vm1").interface("vm1").addresses[0] == "192.168.0.11"
    assert node("worker1").check_output("hostname") == "worker1"
    assert "network1" in node("central").check_output("ovn-nbctl show")
    assert node("worker1").service("ovn-controller").is_running
    assert node("worker1").service("openvswitch-switch").is_running
    assert node("central").service("ovn-northd").is_running
    assert not node("worker1").service("ovn-northd").is_running
    node("worker1").check_output("ovn-appctl -t ovn-controller exit && while pgrep -x ovn-controller; do sleep 0.01; done")
    assert not node("worker1").service("ovn-controller").is_running
"""


def test_a_lab_a_node_and_a_fake_vm_are_fixtures(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, PING), "-q")
    assert "1 passed" in summary(result), result.stdout
    assert tester.json("ls")["labs"] == []


SCOPES = """
names = {"function": set(), "module": set(), "session": set()}

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("scope", [
    pytest.param(scope, marks=pytest.mark.topology("topologies/one.yaml", scope=scope))
    for scope in ("function", "module", "session")
])
def test_scope(lab, scope, number):
    names[scope].add(lab.name)
    assert lab.nodes()

def test_how_many():
    assert [len(names[scope]) for scope in ("function", "module", "session")] == [2, 1, 1]

@pytest.mark.topology("topologies/one.yaml", settings=["underlay.mtu=1400"])
def test_settings(lab):
    assert lab.topology.underlay.mtu == 1400
"""

ONE = "name: one\nnodes: {only: {role: central}}\n"


def test_a_lab_lives_as_long_as_its_scope(tester: Labs) -> None:
    folder = project(tester, SCOPES)
    (folder / "topologies").mkdir()
    (folder / "topologies/one.yaml").write_text(ONE)
    result = run_pytest(tester, folder, "-q")
    assert "8 passed" in summary(result), result.stdout
    assert tester.json("ls")["labs"] == []


FAILS = """
@pytest.mark.topology("3node")
def test_apart(lab, node):
    lab.bind({"vm1": "worker1", "vm2": "worker2"})
    node("worker2").check_output("sh -c 'kill -9 $(cat /run/ovn/ovn-controller.pid)'")
    checks.unreachable(lab, "vm1", "vm2")

@pytest.mark.topology("3node")
def test_well(lab):
    pass
"""


def test_a_test_that_fails_tells_all_about_its_lab(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, FAILS))
    assert "1 failed, 1 passed" in summary(result), result.stdout
    assert "vm2 from vm1: expected unreachable, observed reachable (ovnlab trace vm1 vm2)" in result.stdout
    assert "def _held" not in result.stdout  # a test's own line is shown, not ours
    said = re.search(
        r"- ovnlab status -+\n(.*?)- ovnlab logs -+\n(.*?)- ovnlab bundle -+\n(\S+)", result.stdout, re.DOTALL
    )
    assert said
    assert "! ovn-controller runs on worker2: expected running, observed not running" in said[1]
    assert "vm1  network1" in said[1]
    assert tester.out("explain", "vm1", "--bundle", said[3]).startswith("vm1")
    assert tester.json("ls")["labs"] == []


def test_the_lab_of_a_failed_test_is_kept_where_that_is_asked_for(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, FAILS), "--ovnlab-keep", "-n", "2")
    kept = re.search(r"^ovnlab status -l (\S+); ovnlab shell -l \1 NODE; ovnlab down \1$", result.stdout, re.MULTILINE)
    assert kept, result.stdout
    assert [lab["name"] for lab in tester.json("ls")["labs"]] == [kept[1]]
    assert tester.run("ping", "vm1", "vm2", "-c1", "-l", kept[1])
    assert tester.out("down", kept[1]) == f"removed {kept[1]}\n"


WARNS = """
@pytest.mark.topology("3node")
def test_strictly(lab, vm):
    lab.bind({"vm1": "worker1", "vm2": "worker2"})
    checks.reachable(lab, "vm1", "vm2")
    checks.holds(lab)
"""


def test_warnings_may_be_errors(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, WARNS), "-q", "-W", "error")
    assert "1 passed" in summary(result), result.stdout


def test_what_ci_cancels_leaves_no_lab(tester: Labs) -> None:
    folder = project(tester, "import time\n" + WARNS + "    print('up', flush=True)\n    time.sleep(100)\n")
    command = [*tester.account.prefix, tester.account.python, "-m", "pytest", "-s", "-p", "no:cacheprovider"]
    running = subprocess.Popen(
        [*command, f"--basetemp={tester.scratch}/pytest"], env=tester.environment, cwd=folder,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    while "up" not in running.stdout.readline():
        assert running.poll() is None
    running.terminate()
    running.communicate(timeout=60)
    assert tester.json("ls")["labs"] == []


MANY = """
import time

@pytest.mark.topology("3node")
@pytest.mark.parametrize("number", range(4))
def test_alone(lab, number):
    lab.bind({"vm1": "worker1", "vm2": "worker2"})
    checks.reachable(lab, "vm1", "vm2")
    lab.unbind(["vm2"])
    time.sleep(0.5)
    assert [port.chassis for port in checks.status(lab).ports] == ["worker1", None]
"""


def test_labs_of_parallel_tests_do_not_disturb_one_another(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, MANY), "-n", "2")
    assert "4 passed" in summary(result), result.stdout
    assert tester.json("ls")["labs"] == []


USES = """
def test_it(lab):
    print("in", lab.name)
    assert lab.topology.node("worker1")
"""


def test_the_command_line_names_the_topology_or_the_lab(tester: Labs) -> None:
    folder = project(tester, USES)
    result = run_pytest(tester, folder)
    assert "1 error" in summary(result)
    assert "tests/test_it.py::test_it uses a lab: mark it with @pytest.mark.topology(FILE)" in result.stdout
    assert "1 passed" in summary(run_pytest(tester, folder, "--ovnlab", "routed"))
    assert tester.json("ls")["labs"] == []
    tester.run("up", "3node", "--name", "mine")
    result = run_pytest(tester, folder, "-s", "--ovnlab", "mine")
    assert "in mine" in result.stdout
    assert "1 passed" in summary(result)
    assert [lab["name"] for lab in tester.json("ls")["labs"]] == ["mine"]
    hosts = project_hosts(folder)
    result = run_pytest(tester, hosts, "-q", "--hosts=ovnlab://worker1@mine,ovnlab://central")
    assert "2 passed" in summary(result), result.stdout


def project_hosts(folder: Path) -> Path:
    """Tests as people have them for testinfra already, without anything of ovnlab's in them."""
    path = folder / "hosts"
    path.mkdir()
    text = "def test_switch(host):\n    assert host.service('ovs-vswitchd').is_running\n    assert host.interface('eth1').exists\n"
    (path / "test_host.py").write_text(text)
    return path


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ('"nowhere.yaml"', "nowhere.yaml"),
        ('"3nodes"', "did you mean 3node?"),
        ('"bad.yaml"', "bad.yaml:1:"),
        ('"3node", scope="class"', "scope=function | module | session"),
    ],
)
def test_what_cannot_come_up_is_said_without_a_traceback(tester: Labs, mark: str, said: str) -> None:
    folder = project(tester, f"@pytest.mark.topology({mark})\ndef test_it(lab):\n    pass\n")
    (folder / "bad.yaml").write_text("nodes: {a b: {}}\n")
    result = run_pytest(tester, folder)
    assert "1 error" in summary(result)
    assert said in result.stdout
    assert "Traceback" not in result.stdout
    assert "/ovnlab/" not in result.stdout.replace(str(tester.scratch), "")


CHECKS = """
import pytest

pytestmark = pytest.mark.topology("gateway", scope="module")

def test_what_holds(lab):
    checks.daemon_runs(lab, "worker1", "ovn-controller")
    checks.chassis_registered(lab, "gw1")
    checks.tunnel_up(lab, "worker1", "gw1")
    checks.port_bound(lab, "vm1")
    checks.port_bound(lab, "vm1", "worker1")
    checks.synced(lab)
    checks.reachable(lab, "vm1", "vm2")
    checks.reachable(lab, "vm1", "host1")
    checks.unreachable(lab, "vm1", "192.168.0.77")
    checks.refused(lab, "vm1", "vm2", tcp=9)
    checks.as_intended(lab, "vm1", "vm2")
    checks.north_south(lab, "vm1", "host1", gateway="gw1")
    checks.holds(lab)
    seen = checks.encapsulated(lab, "vm1", "vm2")
    assert (seen.inport, seen.outport) == ("vm1", "vm2")
    checks.encapsulated(lab, "vm1", "vm2", vni=seen.vni, ingress_key=seen.ingress_key, egress_key=seen.egress_key)

@pytest.mark.parametrize("check", [
    lambda lab: checks.daemon_runs(lab, "worker1", "ovn-northd"),
    lambda lab: checks.port_bound(lab, "vm1", "worker2"),
    lambda lab: checks.port_bound(lab, "vm9"),
    lambda lab: checks.reachable(lab, "vm1", "192.168.0.77"),
    lambda lab: checks.unreachable(lab, "vm1", "vm2"),
    lambda lab: checks.unreachable(lab, "vm1", "vm2", tcp=9),
    lambda lab: checks.refused(lab, "vm1", "192.168.0.77", tcp=9),
    lambda lab: checks.encapsulated(lab, "vm1", "vm2", vni=4242),
    lambda lab: checks.encapsulated(lab, "vm1", "192.168.0.1"),
    lambda lab: checks.north_south(lab, "vm1", "host1", gateway="gw2"),
])
def test_what_does_not(lab, check):
    with pytest.raises(checks.CheckFailed, match="expected .*observed"):
        check(lab)

def test_what_is_broken(lab, node):
    node("worker2").check_output("ovn-appctl -t ovn-controller exit && while pgrep -x ovn-controller; do sleep 0.01; done")
    for check in (
        lambda: checks.daemon_runs(lab, "worker2", "ovn-controller"),
        lambda: checks.chassis_registered(lab, "worker2"),
        lambda: checks.tunnel_up(lab, "worker1", "worker2"),
        lambda: checks.holds(lab),
        lambda: checks.as_intended(lab, "vm1", "vm2"),
    ):
        with pytest.raises(checks.CheckFailed):
            check()
"""


def test_ready_made_checks_hold_and_fail(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, CHECKS), "-q")
    assert "12 passed" in summary(result), result.stdout


def test_the_tests_that_the_documentation_shows_pass(tester: Labs) -> None:
    first, shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.DOTALL)
    folder = project(tester, "")
    (folder / "tests/test_it.py").write_text(shown)
    result = run_pytest(tester, folder, "-q")
    assert "3 passed" in summary(result), result.stdout
    (folder / "tests/test_it.py").write_text(f"import pytest\nfrom ovnlab.testing import checks\n{first}")
    (folder / "topologies").symlink_to(ROOT / "topologies")
    result = run_pytest(tester, folder, "-q")
    assert "1 passed" in summary(result), result.stdout


@pytest.fixture(scope="session")
def with_pytest(ordinary: Account) -> Account:
    """The ordinary user, whose ovnlab has its extra for tests."""
    clone = Path(ordinary.python).parents[2]
    command = [
        ordinary.python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--editable",
        ".[test]",
    ]
    environment = ordinary.environment(ordinary.home / "state")
    subprocess.run([*ordinary.prefix, *command], cwd=clone, env=environment, check=True, timeout=280)
    return ordinary


@pytest.mark.thorough
def test_the_example_passes_and_finds_a_defect(with_pytest: Account, user_labs: Labs) -> None:
    folder = user_labs.scratch / "tenants"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    result = run_pytest(user_labs, folder, "-n", "2", "--junit-xml", str(user_labs.scratch / "report.xml"))
    assert "5 passed" in summary(result), result.stdout
    program = folder / "tenants.py"
    program.write_text(
        program.read_text().replace('"1000", f"ip4 && ip4.src != {subnet}", "drop"', '"1", "ip6", "drop"')
    )
    result = run_pytest(user_labs, folder, "-k", "apart or peers")
    assert "1 failed, 1 passed" in summary(result), result.stdout
    assert "blue1 from red1: expected unreachable, observed reachable" in result.stdout
    assert user_labs.json("ls")["labs"] == []


FAULT = """
@pytest.mark.topology("3node", settings=["logical.switches.network1.ports.vm1.chassis=worker1"])
def test_fault(lab, node):
    with lab.fault("kill", "worker1", "ovn-controller") as fault:
        assert fault.sentence == "ovn-controller on worker1 is killed"
        assert not node("worker1").process.filter(comm="ovn-controller")
    assert node("worker1").process.filter(comm="ovn-controller")
"""


def test_a_fault_is_healed_at_the_end_of_its_block(tester: Labs) -> None:
    result = run_pytest(tester, project(tester, FAULT))
    assert result.returncode == 0, result.stdout
