"""Traffic of our own: what it says of an outage is what a capture says, and who took over is named."""

from __future__ import annotations

import itertools
import json
import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest

from ovnlab.waiting import wait_until
from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_plugin import project, run_pytest, summary

CUT = "ip link set eth1 down; sleep {seconds}; ip link set eth1 up"
"""Makes an outage of a known length on a node's underlay."""

ENOUGH = 300
"""Packets after which traffic goes on: a third of a second's on a machine that is idle."""

VSWITCHD = "$(cat /run/openvswitch/ovs-vswitchd.pid)"


@pytest.fixture(scope="module")
def gateway(ordinary: Account, session_folder: Any) -> Iterator[Labs]:
    """One lab for all that breaks it."""
    for labs in labs_in(ordinary, session_folder / "traffic"):
        labs.run("up", "gateway")
        yield labs


@pytest.fixture
def whole(gateway: Labs) -> Iterator[Labs]:
    """The lab, and made whole after the test."""
    yield gateway
    gateway.run("up", "gateway")
    assert agents(gateway) == []


def agents(labs: Labs) -> list[str]:
    """The agents that run on worker1 or in its fake VMs."""
    shown = labs.on("worker1", "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'")
    return [line for line in shown.splitlines() if line.startswith("{") and '"role"' in line]


def received(labs: Labs) -> int:
    """The packets that vm1 has received."""
    rows = [line.split() for line in labs.on("vm1", "cat", "/proc/net/dev").splitlines() if "vm1:" in line]
    return int(rows[0][2])


def measured(labs: Labs, *words: str, during: str = "", on: str = "worker2", expect: int = 0) -> dict[str, Any]:
    """What traffic from vm1 says while a script runs on a node, which is begun once traffic goes on."""
    before = received(labs) if during else 0
    process = labs.start("traffic", *words, "--json")
    if during:
        wait_until("traffic", lambda: True if received(labs) > before + ENOUGH else None, timeout=60)
        labs.on(on, "sh", "-c", during)
    stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr, stderr
    assert process.returncode == expect, stderr
    found: dict[str, Any] = json.loads(stdout)
    return found


@pytest.mark.parametrize("protocol", [pytest.param("icmp", marks=pytest.mark.thorough), "udp", "tcp"])
def test_nothing_is_lost_where_nothing_happens(gateway: Labs, protocol: str) -> None:
    options = [] if protocol == "icmp" else [f"--{protocol}"]
    found = measured(gateway, "vm1,vm2", "vm1,host1", "--for", "1s", *options)
    assert found["protocol"] == protocol
    assert [change for change in found["changes"] if change["kind"] == "gateway"] == []
    for pair in found["pairs"]:
        assert pair["sent"] > 100, "about a thousand a second on a machine that is idle"
        assert pair["lost"] <= pair["sent"] // 50, "a switch that is not given the processor drops some"
        assert (pair["duplicates"], pair["reordered"], pair["died"], pair["problems"]) == (0, 0, [], [])
        assert pair["connections"] == (4 if protocol == "tcp" else 0)
        assert (pair["lost_there"] is not None) == (protocol == "udp")


def test_a_gap_is_what_a_capture_says(whole: Labs) -> None:
    labs = whole
    capture = labs.start(
        "exec",
        "vm1",
        "--",
        "sh",
        "-c",
        "exec timeout 200 tcpdump -i vm1 -n -tt --immediate-mode 'icmp[0]=0' 2>/dev/null",
    )
    pair = measured(labs, "vm1", "vm2", "--for", "6s", during=CUT.format(seconds=0.7))["pairs"][0]
    labs.on("worker1", "sh", "-c", "pkill -x tcpdump")
    stdout, _ = capture.communicate(timeout=60)
    times = [float(line.split()[0]) for line in stdout.splitlines() if "echo reply" in line]
    seen = max(later - earlier for earlier, later in itertools.pairwise(times))
    told = pair["longest_gap_ms"] / 1000
    assert seen > 0.6
    assert abs(told - seen) < max(0.2 * seen, 0.005), (told, seen)
    assert 0 < pair["lost"] < pair["sent"]
    assert pair["gaps"][0]["over"]


@pytest.mark.thorough
def test_a_switch_that_stands_still_is_a_gap(whole: Labs) -> None:
    """What comes late is not lost, and a switch that goes on at once delivers what it has."""
    script = f"kill -STOP {VSWITCHD}; sleep 0.5; kill -CONT {VSWITCHD}"
    pair = measured(whole, "vm1", "vm2", "--udp", "--for", "5s", during=script)["pairs"][0]
    assert 400 < pair["longest_gap_ms"] < 2500
    assert pair["lost_there"] <= pair["lost"]


def test_the_gateway_that_takes_over_is_named(whole: Labs) -> None:
    labs = whole
    redirect = labs.rows("sbctl", "--columns=chassis", "find", "Port_Binding", "type=chassisredirect")[0]["chassis"][1]
    before = labs.out("sbctl", "get", "Chassis", redirect, "name").strip()
    after = "gw2" if before == "gw1" else "gw1"
    script = f"kill -9 {VSWITCHD} $(cat /run/ovn/ovn-controller.pid)"
    found = measured(labs, "vm1,host1", "--for", "8s", "--svg", "loss.svg", during=script, on=before)
    (pair,) = found["pairs"]
    assert 500 < pair["longest_gap_ms"] < 7500, "three probes of BFD that are missed, and a route that is learnt"
    took_over = [change for change in found["changes"] if change["kind"] == "gateway"]
    assert [(one["name"], one["before"], one["after"]) for one in took_over] == [("router1-public", before, after)]
    gap = pair["gaps"][0]
    assert gap["at_ms"] < took_over[0]["at_ms"] < gap["at_ms"] + gap["ms"] + 500
    sessions = [one for one in found["changes"] if one["kind"] == "bfd" and one["after"] == "down"]
    assert f"worker1 → {before}" in {one["name"] for one in sessions}
    picture = ET.fromstring((labs.scratch / "loss.svg").read_text())  # noqa: S314  ours
    said = " ".join(text for text in picture.itertext() if text.strip())
    assert f"gateway of router1-public: {before} → {after}" in said
    assert "vm1 → host1" in said


def test_up_measures_the_outage_that_it_is_and_the_one_that_it_ends(whole: Labs) -> None:
    labs = whole
    labs.on("worker2", "sh", "-c", f"kill -9 {VSWITCHD}")
    found = labs.json("up", "gateway", "--traffic", "vm1,vm2")["traffic"]
    (pair,) = found["pairs"]
    assert [mark["text"] for mark in found["marks"]] == ["up"]
    assert pair["lost"] > 0
    assert pair["gaps"][0]["over"]
    shown = labs.out("up", "gateway", "--traffic", "vm1,vm2", "--tcp")
    assert "0 of 4" in shown
    assert "vm1 → vm2 (TCP)" in shown


def test_a_fault_measures_the_outage_that_it_makes(whole: Labs) -> None:
    found = whole.json("fault", "kill", "worker2", "ovs-vswitchd", "--traffic", "vm1,vm2", "--for", "1s")
    (pair,) = found["traffic"]["pairs"]
    assert found["fault"]["nodes"] == ["worker2"]
    assert found["traffic"]["marks"][0]["text"] == "kill worker2 ovs-vswitchd"
    assert pair["gaps"][0]["mark"] == "kill worker2 ovs-vswitchd"
    assert pair["gaps"][0]["over"]
    assert pair["longest_gap_ms"] > 900
    wait_until("the end of the fault", lambda: True if not whole.json("faults")["faults"] else None, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("vm1", "192.168.0.99"), set(), marks=pytest.mark.thorough),
        (("host1", "192.168.0.11"), {"Network is unreachable"}),
    ],
)
def test_a_pair_that_is_not_answered(gateway: Labs, words: tuple[str, str], said: set[str]) -> None:
    """Nobody has that address; there is no route."""
    (pair,) = measured(gateway, *words, "--for", "500ms", expect=4)["pairs"]
    assert pair["lost"] == pair["sent"] > 50
    assert not pair["gaps"][0]["over"]
    assert said <= set(pair["errors"])


@pytest.mark.parametrize("protocol", ["tcp", pytest.param("udp", marks=pytest.mark.thorough)])
def test_what_goes_through_is_measured(gateway: Labs, protocol: str) -> None:
    found = gateway.json("perf", "vm1", "vm2", f"--{protocol}", "--for", "1s", "--streams", "2")
    assert (found["protocol"], found["streams"], found["address"]) == (protocol, 2, "192.168.0.12")
    assert found["bits_per_second"] > 500_000
    assert found["received_packets"] > 20
    assert (found["lost_percent"] is None) == (protocol == "tcp")
    for latency in (found["latency_idle"], found["latency_loaded"]):
        percentiles = list(latency["percentiles"].values())
        assert 0 < percentiles[0] <= percentiles[1] <= percentiles[2] <= latency["longest"]
    used = {one["node"]: one["cpu_percent"] for one in found["switches"]}
    assert min(used["worker1"], used["worker2"]) > 0, used
    assert used["worker1"] > used["gw2"], "which is on the way, and which is not"


def test_what_makes_no_sense_changes_nothing(gateway: Labs) -> None:
    for words, expect, said in (
        (("traffic", "vm1"), 2, "invalid traffic 'vm1'"),
        (("traffic", "vm1,vm9"), 2, "unknown node or fake VM 'vm9'"),
        (("traffic", "vm1,vm1"), 2, "send to itself"),
        (("traffic", "vm1,vm2", "--for", "soon"), 2, "invalid duration 'soon'"),
        (("traffic", "vm1,vm2", "--udp", "--tcp"), 2, "exclude each other"),
        (("traffic", "vm1,10.0.0.46", "--udp"), 2, "nobody of the lab receives UDP"),
        (("traffic", "vm1,vm2", "--svg", "/nowhere/x.svg"), 1, "/nowhere/x.svg"),
        (("perf", "vm1", "vm1"), 2, "send to itself"),
        (("perf", "vm1", "10.0.0.46"), 2, "name a fake VM or a node"),
        (("perf", "vm1", "vm2", "--udp", "--size", "70000"), 2, "invalid size 70000"),
        (("up", "single", "--traffic", "vm1,vm2"), 1, "lab single is down"),
        (("up", "gateway", "--tcp"), 2, "go with --traffic"),
        (("up", "gateway", "--dry-run", "--traffic", "vm1,vm2"), 2, "no outage to measure"),
    ):
        assert said in gateway.run(*words, expect=expect).stderr, words
    assert agents(gateway) == []


def test_agents_end_with_ovnlab_however_that_ends(gateway: Labs) -> None:
    process = gateway.start("traffic", "vm1,vm2", "--for", "60s", "--udp")
    wait_until("the agents", lambda: agents(gateway) or None, timeout=60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    wait_until("their end", lambda: True if not agents(gateway) else None, timeout=30)


@pytest.mark.thorough
def test_the_leader_that_takes_over_is_named(user_labs: Labs) -> None:
    user_labs.run("up", "raft")
    found = user_labs.json("fault", "leader", "sb", "--traffic", "vm1,vm2", "--tcp")
    (killed,) = found["fault"]["nodes"]
    leaders = [change for change in found["traffic"]["changes"] if change["kind"] == "leader"]
    assert [(one["name"], one["before"]) for one in leaders] == [("OVN_Southbound", killed)]
    assert leaders[0]["after"] != killed
    assert found["traffic"]["longest_gap_ms"] < 1000, "what forwards packets needs no database"
    assert found["traffic"]["pairs"][0]["died"] == []
    left = [one for one in user_labs.json("status")["clusters"] if one["database"] == "Southbound"]
    assert {one["leader"] for one in left if one["node"] != killed} == {leaders[0]["after"]}
    assert "leader of OVN_Southbound" not in user_labs.out("heal", "--traffic", "vm1,vm2")


TEST = """
@pytest.mark.topology("gateway")
def test_outage(lab, node):
    with lab.traffic("vm1", "vm2", "host1") as seen:
        node("worker2").run("ip link set eth1 down; sleep 0.4; ip link set eth1 up")
    assert 0.3 < seen.longest_gap < 5
    assert 0 < seen.lost < seen.sent
    assert not seen.gaps(seen.pair("vm1", "host1")) or seen.longest_gap_of(seen.pair("vm1", "host1")) < seen.longest_gap
"""


@pytest.mark.thorough
def test_a_test_of_a_persons_own_measures_an_outage(root_labs: Labs) -> None:
    result = run_pytest(root_labs, project(root_labs, TEST), "-q")
    assert "1 passed" in summary(result), result.stdout
