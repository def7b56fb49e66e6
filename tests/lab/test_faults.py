"""Faults: put on, told, left alone by `up`, and healed without a trace."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs, processes_that_see, processes_with
from tests.lab.test_scenarios import eventually


def shown(value: object) -> str:
    """Return the name of a test's parameter."""
    return " ".join(value) if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab that is broken by all, and healed."""
    for labs in labs_in(ordinary, session_folder / "faults"):
        labs.run("up", "gateway")
        yield labs


@pytest.fixture
def well(lab: Labs) -> Iterator[Labs]:
    """The lab, which must be well after the test."""
    yield lab
    lab.run("heal", "--all")
    assert lab.json("diagnose")["ok"]
    assert lab.json("up", "gateway", "--dry-run")["steps"] == []


def told(labs: Labs) -> list[dict[str, Any]]:
    """What a diagnosis says of all that is wrong."""
    found: list[dict[str, Any]] = labs.json("diagnose", expect=4)["findings"]
    return found


def round_trips(labs: Labs, *words: str) -> list[float]:
    """Return the milliseconds that answers of vm2 to vm1 take."""
    printed = labs.run("ping", "vm1", "vm2", *words, expect=None).stdout
    return [float(found) for found in re.findall(r" time=([\d.]+) ms", printed)]


def relays(labs: Labs) -> list[int]:
    """Return the relays of links that run in labs."""
    marked = {pid for pid, _ in processes_with("ovnlab-relay")}
    return [pid for pid, _ in processes_that_see(str(labs.state)) if pid in marked]


@pytest.mark.parametrize(
    ("words", "sentence", "symptom"),
    [
        pytest.param(
            ("kill", "worker1", "ovn-controller"),
            "ovn-controller on worker1 is killed",
            "daemon-down",
            marks=pytest.mark.thorough,
        ),
        (("pause", "gw2", "ovs-vswitchd"), "ovs-vswitchd on gw2 is paused", "daemon-silent"),
        (("kill", "gw1"), "node gw1 is killed", "node-down"),
        pytest.param(("stop", "gw1"), "node gw1 is stopped", "node-down", marks=pytest.mark.thorough),
        pytest.param(
            ("northd", "pause"), "ovn-northd on central is paused", "northd-paused", marks=pytest.mark.thorough
        ),
    ],
    ids=shown,
)
def test_a_fault_is_told_left_alone_and_healed(words: tuple[str, ...], sentence: str, symptom: str, well: Labs) -> None:
    fault = well.json("fault", *words)["fault"]
    assert fault["sentence"] == sentence
    assert [(one["number"], one["command"]) for one in well.json("faults")["faults"]] == [
        (fault["number"], f"ovnlab fault {' '.join(words)} --json")
    ]
    assert [sentence in one for one in well.json("status")["faults"]] == [True]
    (finding,) = told(well)
    assert (finding["cause"], finding["problem"]) == ("deliberate", f"deliberately, {sentence}")
    assert symptom in [one["cause"] for one in finding["symptoms"]]
    result = well.run("up", "gateway")
    assert "nothing to do" in result.stdout
    assert f"deliberately, {sentence}" in result.stderr
    assert len(well.json("faults")["faults"]) == 1
    well.run("heal")
    assert well.json("diagnose")["ok"]


def test_a_fault_heals_by_itself(well: Labs) -> None:
    fault = well.json("fault", "pause", "central", "ovn-northd", "--for", "1s")["fault"]
    assert fault["until"] - fault["since"] == pytest.approx(1, abs=0.01)
    eventually("the end of the fault", lambda: not well.json("faults")["faults"], seconds=60)
    eventually("the lab to be well", lambda: well.run("diagnose", expect=None).returncode == 0)  # no `heal` waited


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fault", "kill", "nobody"), "unknown node nobody"),
        (("fault", "kill", "worker1", "nothing"), "unknown daemon nothing"),
        (("fault", "kill", "worker1", "ovn-northd"), "unknown daemon ovn-northd"),
        (("fault", "kill"), "invalid arguments"),
        (("fault", "kill", "worker1", "--for", "soon"), "invalid duration"),
        (("heal", "7"), "unknown fault 7"),
    ],
    ids=shown,
)
def test_what_cannot_be_meant_breaks_nothing(words: tuple[str, ...], said: str, lab: Labs) -> None:
    assert said in lab.run(*words, expect=2).stderr
    assert lab.json("faults")["faults"] == []


def test_nothing_is_broken_twice(well: Labs) -> None:
    well.run("fault", "kill", "worker1", "ovn-controller")
    assert "already broken" in well.run("fault", "pause", "worker1", "ovn-controller", expect=2).stderr
    assert "already broken" in well.run("fault", "kill", "worker1", expect=2).stderr
    assert len(well.json("faults")["faults"]) == 1


def test_a_link_delays_in_each_direction(well: Labs) -> None:
    assert min(round_trips(well, "-c", "5")) < 25
    well.run("link", "worker1", "--delay", "25ms")
    assert 50 <= min(round_trips(well, "-c", "5")) < 75, "twice as much, and what the way takes by itself"
    well.run("link", "worker1", "--delay", "40ms", "--direction", "both")  # takes the place of the other one
    assert len(well.json("faults")["faults"]) == 1
    assert 80 <= min(round_trips(well, "-c", "5")) < 105
    result = well.run("up", "gateway")
    assert "nothing to do" in result.stdout
    assert min(round_trips(well, "-c", "3")) >= 80
    well.run("link", "worker1", "up")
    assert relays(well) == []
    assert min(round_trips(well, "-c", "5")) < 25


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [
        ("link", "vm1", "down"),
        ("link", "worker1", "down"),
        ("link", "worker1", "down", "--direction", "in"),
        ("partition", "worker1 | worker2"),
        ("partition", "worker1 | worker2", "--one-way"),
    ],
    ids=shown,
)
def test_what_is_cut_explains_the_pairs_that_fail(words: tuple[str, ...], well: Labs) -> None:
    well.run(*words)
    (finding,) = told(well)
    assert finding["cause"] == "deliberate"
    assert {("vm1", "vm2"), ("vm2", "vm1")} <= {(pair["from"], pair["to"]) for pair in finding["explains"]}
    well.run("heal", "--all")
    assert relays(well) == []
    assert well.json("diagnose")["ok"]


def test_without_bfd_the_other_gateway_takes_over(well: Labs) -> None:
    def gateway() -> str:
        uuid = well.out("sbctl", "--bare", "--columns=chassis", "find", "Port_Binding", "type=chassisredirect").strip()
        return well.out("sbctl", "get", "Chassis", uuid, "name").strip() if uuid else ""

    eventually("gw1 to be in charge", lambda: gateway() == "gw1")
    well.run("fault", "bfd", "gw1", "off")
    eventually("gw2 to take over", lambda: gateway() == "gw2")
    well.run("heal")
    assert gateway() == "gw1"


@pytest.mark.thorough
def test_a_link_comes_and_goes_until_its_time_is_over(well: Labs) -> None:
    fault = well.json("flap", "worker1", "--every", "200ms", "--for", "4s")["fault"]
    answered = len(round_trips(well, "-c", "15"))
    assert 0 < answered < 15 or not well.json("faults")["faults"]
    eventually("the end of it", lambda: not well.json("faults")["faults"])
    assert fault["until"] > 0
    assert relays(well) == []


@pytest.mark.parametrize(
    "words",
    [
        ("restart", "worker1", "ovn-controller"),
        pytest.param(("reboot", "worker2"), marks=pytest.mark.thorough),
    ],
    ids=shown,
)
def test_what_is_restarted_is_well_at_the_end(words: tuple[str, ...], well: Labs) -> None:
    before = well.json("status")["nodes"]
    well.run("fault", *words)
    assert well.json("faults")["faults"] == []
    after = well.json("status")["nodes"]
    changed = {
        (node["name"], daemon["name"])
        for node, old in zip(after, before, strict=True)
        for daemon, was in zip(node["daemons"], old["daemons"], strict=True)
        if daemon["pid"] != was["pid"]
    }
    assert ("ovn-controller" in {daemon for _, daemon in changed}) == (words[0] == "restart") or words[0] == "reboot"
    assert well.json("diagnose")["ok"]


def test_who_is_killed_while_breaking_leaves_what_heals(well: Labs) -> None:
    """The record is there before anything is broken."""
    process = well.start("link", "worker1", "--loss", "100%", fresh=True)
    record = well.state / "ovnlab/labs/gateway/faults.json"
    eventually("the record", record.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    well.run("heal", "--all")
    assert relays(well) == []
    assert well.json("faults")["faults"] == []


SCENARIOS = """
name: scenarios
nodes:
  central: {role: central}
  worker1: {}
  worker2: {}
links:
  worker2: {delay: 10ms}
logical:
  switches:
    s: {subnet: 192.168.0.0/24, ports: {vm1: {chassis: worker1}, vm2: {chassis: worker2}}}
checks:
  - {fault: northd pause, ping: vm2, from: vm1}
  - {fault: partition 'worker1 | worker2', ping: vm2, from: vm1}
  - {fault: link worker1 --delay 10ms, traffic: vm1 → vm2, lost_within: 30s}
"""


@pytest.mark.thorough  # after a partition has healed, the first answer sometimes takes more than 10 s
def test_links_and_faults_of_the_file(user_labs: Labs) -> None:
    labs = user_labs
    path = labs.write("scenarios.yaml", SCENARIOS)
    labs.run("up", path)
    assert min(round_trips(labs, "-c", "3")) > 19
    labs.run("link", "worker2", "down")  # whose relay has the same rules as before
    assert labs.run("ping", "vm1", "vm2", "-c1", expect=None).returncode == 4
    labs.run("link", "worker2", "up")
    assert min(round_trips(labs, "-c", "3")) > 19
    report = labs.scratch / "report.xml"
    found = labs.json("test", "--faults", "--junit", str(report), expect=4)["faults"]
    assert [[part["ok"] for part in one["findings"]] for one in found] == [[True], [False], [True]], found
    assert found[1]["findings"][0]["observed"] == "unreachable"
    assert 'classname="scenarios.faults"' in report.read_text()
    assert labs.json("faults")["faults"] == []
    labs.write("scenarios.yaml", SCENARIOS.replace("  worker2: {delay: 10ms}", "  worker1 worker2: {down: true}"))
    steps = labs.json("up", path)["steps"]
    assert [step.partition(":eth1")[0] for step in steps] == ["set the link worker1", "set the link worker2"]
    assert labs.run("ping", "vm1", "vm2", "-c1", expect=None).returncode == 4
    labs.write("scenarios.yaml", SCENARIOS.replace("links:\n  worker2: {delay: 10ms}\n", ""))
    labs.run("up", path)
    labs.run("ping", "vm1", "vm2", "-c1")
    assert relays(labs) == []
