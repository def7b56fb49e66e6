"""Faults without a lab: what is accepted, what a relay does to frames, what a plan leaves alone."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ovnlab.deliberate import Fault, LinkState, links, store, stored
from ovnlab.errors import TopologyError, UsageError
from ovnlab.faults.control import heal_due, parse
from ovnlab.faults.kinds import KINDS
from ovnlab.lab.lab import Lab
from ovnlab.lab.plan import LabState, plan
from ovnlab.state import LabFolder
from ovnlab.templating import render
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import FAULTS, LinkRule, Topology

NODES = "nodes: {c: {role: central}, w1: , w2: }\n"


def topology(text: str) -> Topology:
    return load_text("lab.yaml", text.encode()).topology


def test_a_check_can_name_every_kind_but_those_of_the_workshop() -> None:
    assert [kind.name for kind in KINDS if not kind.name.startswith("workshop-")] == list(FAULTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checks: [{fault: explode w1}]", "'explode'"),
        ("checks: [{fault: kill w9}]", "'w9'"),
        ("checks: [{fault: kill w1, traffic: w1}]", "expected two names"),
        ("checks: [{fault: kill w1, traffic: w1 → w9}]", "'w9'"),
        ("checks: [{fault: kill w1, traffic: w1 → w2, lost_within: soon}]", "invalid lost_within 'soon'"),
        ("checks: [{fault: kill w1, lost_within: 3s}]", "needs `traffic`"),
        ("checks: [{ping: w1, from: w2, traffic: w1 → w2}]", "needs `fault`"),
        ("checks: [{ping: w1}]", "needs `from`"),
        ("links: {w9: {down: true}}", "'w9'"),
        ("links: {w1: {delay: 20}}", "delay"),
        ("links: {w1: {delay: soon}}", "invalid delay 'soon'"),
        ("links: {w1: {loss: 200%}}", "invalid loss '200%'"),
        ("links: {'w1:eth7': {down: true}}", "unknown NIC 'eth7'"),
        ("links: {w1: {down: true, delay: 1ms}}", "a link that is down has no delay"),
        ("links: {w1 w2 c: {down: true}}", "invalid link"),
        ("links: {w1 w2: {delay: 1ms, direction: in}}", "direction"),
        ("provider: libvirt\nlinks: {w1: {down: true}}", "not supported by provider libvirt"),
    ],
)
def test_a_mistake_in_links_and_fault_checks_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(TopologyError, match=re.escape(said)) as caught:
        topology(NODES + text + "\n")
    assert re.match(r"lab\.yaml:\d+:\d+: ", str(caught.value))


def test_a_link_between_two_nodes_is_a_rule_at_each_end() -> None:
    found = topology(NODES + "links: {w1 w2: {delay: 5ms}, c: {down: true}}\n")
    macs = {node.name: node.mac for node in found.nodes}
    assert links(found, ()) == {
        ("w1", "eth1"): LinkState(inward=(LinkRule("w1", "eth1", "in", delay=0.005, peers=(macs["w2"],)),)),
        ("w2", "eth1"): LinkState(inward=(LinkRule("w2", "eth1", "in", delay=0.005, peers=(macs["w1"],)),)),
        ("c", "eth1"): LinkState(down=True),
    }


def test_what_is_asked_of_a_fault_is_read_as_on_the_command_line() -> None:
    kind, request = parse(["link", "w1", "--delay", "25ms", "--loss=1%"])
    assert (kind.name, request.words) == ("link", ("w1",))
    assert request.settings == {"delay": "25ms", "loss": "1%"}
    assert parse(["partition", "a | b", "--one-way"])[1].settings == {"one-way": "yes"}
    for words in (["explode"], [], ["kill", "w1", "--delay", "1ms"]):
        with pytest.raises(UsageError, match="unknown"):
            parse(words)


def test_a_plan_leaves_alone_what_a_fault_has_ended() -> None:
    found = topology(NODES)
    fault = Fault(1, "kill", "w1", "node w1 is killed", ("w1",), ends_nodes=True)
    state = LabState({}, ())
    assert list(plan(found, state).add) == ["c", "w1", "w2"]
    assert list(plan(found, state, faults=[fault]).add) == ["c", "w2"]


def test_a_timer_does_not_end_another_fault_that_has_its_number(tmp_path: Path) -> None:
    folder = LabFolder("x", tmp_path)
    folder.path.mkdir(parents=True)
    down = SimpleNamespace(is_up=lambda: False)
    lab = cast("Lab", SimpleNamespace(folder=folder, provider=down, locked=contextlib.nullcontext))
    store(folder, [Fault(1, "link", "w2:eth1", "the link w2:eth1 is down", ("w2",))])
    assert heal_due(lab, 1, 1000.5) == []
    assert [fault.number for fault in stored(folder)] == [1]
    store(folder, [Fault(1, "link", "w1:eth1", "the link w1:eth1 is down", ("w1",), until=1000.5)])
    assert [fault.target for fault in heal_due(lab, 1, 1000.5)] == ["w1:eth1"]
    assert stored(folder) == ()


@pytest.fixture(scope="module")
def relay() -> dict[str, Any]:
    """The names of a relay's program, which is not run."""
    source = render("local/relay.py.j2").partition("rules = json.loads")[0]
    names: dict[str, Any] = {}
    exec(compile(source, "relay.py", "exec"), names)  # noqa: S102  ours
    return names


def moments(relay: dict[str, Any], count: int = 2000, **values: object) -> list[list[float]]:
    """Return when each of many frames of 1,000 bytes goes on that come at once at second 1."""
    rule = relay["Rule"](True, values)
    return [list(rule.moments(bytes(1000), 1.0)) for _ in range(count)]


def test_a_relay_delays_loses_and_repeats_as_asked(relay: dict[str, Any]) -> None:
    assert moments(relay, 1, delay=0.025) == [[1.025]]
    lost = sum(not found for found in moments(relay, loss=0.1))
    assert 120 < lost < 290
    assert 120 < sum(len(found) == 2 for found in moments(relay, duplicate=0.1)) < 290
    jittered = [found[0] for found in moments(relay, delay=0.025, jitter=0.005)]
    assert min(jittered) >= 1.02
    assert max(jittered) <= 1.03
    assert jittered == sorted(jittered)
    overtaking = [found[0] for found in moments(relay, delay=0.025, reorder=0.1)]
    assert 120 < overtaking.count(1.0) < 290


def test_a_relay_sends_no_faster_than_its_rate_and_has_a_queue_with_an_end(relay: dict[str, Any]) -> None:
    passed = [found[0] for found in moments(relay, 100, rate=1_000_000) if found]
    assert passed[:3] == pytest.approx([1.008, 1.016, 1.024])
    assert 20 < len(passed) < 30


def test_a_relay_knows_bfd_in_a_tunnel_and_its_peers(relay: dict[str, Any]) -> None:
    ip = bytes([0x45]) + bytes(8) + bytes([17]) + bytes(10)
    udp = bytes.fromhex("c00017c1") + bytes(4)
    outer = bytes.fromhex("0a00000000010a00000000020800") + ip + udp
    option = bytes([1]) + bytes(7) + bytes(4)
    bfd, other = bytes.fromhex("002320000001"), bytes.fromhex("0a0000000009")
    for inner, wanted in ((bfd, True), (other, False)):
        assert relay["is_bfd"](outer + bytes(8) + inner + bytes(60)) is wanted
        assert relay["is_bfd"](outer + option + inner + bytes(60)) is wanted
        six = outer[:12] + bytes.fromhex("86dd60000000000011ff") + bytes(32) + udp
        assert relay["is_bfd"](six + option + inner + bytes(60)) is wanted
    for short in range(len(outer) + 9):
        assert not relay["is_bfd"]((outer + bytes(9))[:short])
    rule = relay["Rule"](True, {"peers": ["0a:00:00:00:00:02"], "loss": 1.0})
    assert rule.concerns(outer)
    assert not relay["Rule"](False, {"peers": ["0a:00:00:00:00:02"]}).concerns(outer)
