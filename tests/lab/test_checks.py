"""`ovnlab test` and `ovnlab wait`: what they say of labs that are well, and of labs that somebody broke."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from ovnlab.waiting import wait_until
from tests.lab.harness import Labs

ROUTED = """
nodes: {central: {role: central, chassis: false}, worker1: {}, worker2: {}}
logical:
  switches:
    red: {subnet: 10.1.0.0/24, ports: {vm1: {chassis: worker1}, vm2: {chassis: worker2}, vm3: {chassis: worker2}}}
    blue: {subnet: 10.2.0.0/24, ports: {vm4: {chassis: worker1}}}
  routers:
    r1: {ports: {red: {ip: 10.1.0.1/24}, blue: {ip: 10.2.0.1/24}}}
  acls:
"""

CLOSED = (
    '    - {switch: red, direction: to-lport, priority: 1000, action: drop, match: "outport == \\"vm3\\" && ip4"}\n'
)
NO_ANSWER = '    - {switch: red, direction: to-lport, priority: 1000, action: drop, match: "outport == \\"vm1\\" && icmp4.type == 0"}\n'


def up(labs: Labs, acl: str, name: str = "pairs") -> str:
    path = labs.write(f"{name}.yaml", f"name: {name}\n{ROUTED}{acl}")
    labs.run("up", path)
    return path


def pairs(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(pair["from"], pair["to"]): pair for pair in found["pairs"]}


def failures(found: dict[str, Any]) -> list[str]:
    return [finding["title"] for finding in found["findings"] if not finding["ok"]]


def test_all_of_a_lab_is_looked_at_and_every_pair_is_tried_twice(labs: Labs) -> None:
    up(labs, CLOSED)
    found = labs.json("test")
    assert found["failed"] == 0
    titles = [finding["title"] for finding in found["findings"]]
    assert {finding["kind"] for finding in found["findings"]} == {
        "daemons", "versions", "chassis", "tunnels", "ports", "synced", "vms", "mtu",
    }  # fmt: skip
    assert "ovn-controller runs on worker2" in titles
    assert "worker1 has a tunnel to worker2" in titles
    assert any(title.startswith("1442 bytes from worker1 to worker2") for title in titles)
    assert not any("central is registered" in title for title in titles)  # it is not a chassis
    tried = pairs(found)
    assert len(tried) == 12
    for (source, target), pair in tried.items():
        # To vm3 nothing gets, and what vm3 is to be answered with does not either.
        expected = ("dropped", "unreachable") if "vm3" in (source, target) else ("delivered", "reachable")
        assert (pair["intended"], pair["observed"]) == expected, pair
    assert "pairs.yaml:11:" in tried["vm1", "vm3"]["reason"]
    assert tried["vm3", "vm1"]["reason"].startswith("its answer: ")


def test_what_is_shown_is_a_matrix_and_what_is_written_is_read_by_others(user_labs: Labs, tmp_path: Path) -> None:
    up(user_labs, CLOSED)
    junit, page = user_labs.scratch / "report.xml", user_labs.scratch / "report.html"
    shown = user_labs.out("test", "--junit", str(junit), "--html", str(page))
    lines = shown.splitlines()
    assert [line.split()[1:] for line in lines if re.match(r"\d vm", line)] == [
        ["vm1", "●", "·", "●"], ["vm2", "●", "·", "●"], ["vm3", "·", "·", "·"], ["vm4", "●", "●", "·"],
    ]  # fmt: skip
    assert re.search(r"^pairs +12 of 12 +ok$", shown, re.MULTILINE)
    suites = ET.fromstring(junit.read_text())  # noqa: S314  it is ours
    assert int(suites.get("tests", 0)) == len(suites.findall("testsuite/testcase"))
    assert len(suites.findall("testsuite[@name='pairs']/testcase")) == 12
    assert suites.findall(".//failure") == []
    assert page.read_text().count('<td class="no" title="vm') == 6
    user_labs.run("ofctl", "worker2", "del-flows", "br-int")
    user_labs.run("exec", "vm2", "--", "ip", "link", "set", "vm2", "mtu", "1400")
    user_labs.run("test", "--junit", str(junit), "--html", str(page), expect=4)
    failed = ET.fromstring(junit.read_text()).findall("testsuite[@name='pairs']/testcase/failure")  # noqa: S314
    assert len(failed) == 4  # between vm2 and each of vm1 and vm4
    assert "ovnlab trace" in str(failed[0].text)
    assert page.read_text().count("✗</td>") == 4
    assert "MTU 1400" in page.read_text()


def test_a_pair_that_should_and_does_not_fails(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("vsctl", "worker2", "set", "Interface", "vm2", "external_ids:iface-id=somebody-else")
    user_labs.run("nbctl", "lsp-set-port-security", "vm1")  # something for ovn-controller to follow
    found = user_labs.json("test", expect=4)
    assert "vm2 is bound and up" in failures(found)
    user_labs.run("vsctl", "worker2", "set", "Interface", "vm2", "external_ids:iface-id=vm2")
    user_labs.run("wait", "--for", "port-up=vm2")
    user_labs.run("exec", "vm2", "--", "ip", "addr", "flush", "dev", "vm2")
    user_labs.run("exec", "vm2", "--", "ip", "addr", "add", "10.1.0.77/24", "dev", "vm2")
    user_labs.run("ofctl", "worker1", "del-flows", "br-int")
    result = user_labs.run("test", expect=4)
    assert re.search(r"vm2 on worker2 is configured .* +addresses 10.1.0.3/24.* +addresses 10.1.0.77/24", result.stdout)
    assert re.search(r"vm1 → vm4 +delivered +unreachable +ovnlab trace vm1 10.2.0.2$", result.stdout, re.MULTILINE)
    assert "checks of lab pairs did not hold" in result.stderr


def test_a_pair_that_should_not_and_does_fails(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    for node in ("worker1", "worker2"):  # what they have installed stays as it is
        user_labs.end_controller(node)
    user_labs.run("nbctl", "acl-del", "red")
    user_labs.run("nbctl", "acl-add", "red", "to-lport", "1000", 'outport == "vm2" && ip4', "drop")
    found = user_labs.json("test", expect=4)
    pair = pairs(found)["vm1", "vm2"]
    assert (pair["intended"], pair["observed"], pair["ok"]) == ("dropped", "reachable", False)
    pair = pairs(found)["vm1", "vm3"]
    assert (pair["intended"], pair["observed"], pair["ok"]) == ("delivered", "unreachable", False)
    assert "ovn-controller runs on worker1" in failures(found)
    synced = next(finding for finding in found["findings"] if finding["kind"] == "synced")
    assert {"worker1", "worker2"} <= set(synced["observed"].split())


def test_an_answer_that_is_not_let_back_is_told_as_such(user_labs: Labs) -> None:
    up(user_labs, NO_ANSWER)
    found = user_labs.json("test")
    pair = pairs(found)["vm1", "vm2"]
    assert (pair["intended"], pair["observed"]) == ("dropped", "unreachable")
    assert pair["reason"].startswith("its answer: ")
    assert pairs(found)["vm2", "vm1"]["observed"] == "reachable"


@pytest.mark.thorough
def test_packets_that_are_too_large_for_the_way_are_found(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("exec", "worker2", "--", "ip", "link", "set", "eth1", "mtu", "1400")
    found = user_labs.json("test", expect=4)
    assert [title for title in failures(found) if title.startswith("1442 bytes from worker1 to worker2")]
    assert pairs(found)["vm1", "vm2"]["ok"]


def test_a_dead_daemon_and_a_missing_tunnel_are_found(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("exec", "worker2", "--", "sh", "-c", "kill -9 $(cat /run/ovn/ovn-controller.pid)")
    tunnel = user_labs.out("vsctl", "worker2", "--bare", "--columns=name", "find", "Interface", "type=geneve").split()
    for name in tunnel:
        user_labs.run("vsctl", "worker2", "del-port", name)
    found = user_labs.json("test", expect=4)
    assert {"ovn-controller runs on worker2", "worker2 has a tunnel to worker1"} <= set(failures(found))
    assert not pairs(found)["vm1", "vm2"]["ok"]
    assert pairs(found)["vm2", "vm3"]["reason"]


@pytest.mark.thorough
def test_of_many_pairs_a_sample_is_tried_and_said(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    shown = user_labs.run("test", "--sample", "5")
    assert "a sample of 5 of 12 pairs (--seed 1)" in shown.stdout
    chosen = [sorted(pairs(user_labs.json("test", "--sample", "5", "--seed", seed))) for seed in ("1", "1", "2")]
    assert [len(one) for one in chosen] == [5, 5, 5]
    assert chosen[0] == chosen[1] != chosen[2]


def test_checks_of_the_file_are_compared_with_what_ovn_means(user_labs: Labs) -> None:
    path = up(user_labs, CLOSED)
    more = "checks: [{ping: vm2, from: vm1}, {ping: vm3, from: vm1}, {tcp: 'vm2:9', from: vm1, expect: refused}]\n"
    user_labs.run("up", user_labs.write("pairs.yaml", Path(path).read_text() + more))
    found = user_labs.json("test", expect=4)
    assert [(one["intended"], one["observed"], one["ok"]) for one in found["checks"]] == [
        ("delivered", "reachable", True), ("dropped", "unreachable", False), ("delivered", "refused", True),
    ]  # fmt: skip


def test_waiting_ends_when_it_is_there(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("unbind", "vm2")
    waiting = user_labs.start("wait", "--for", "chassis=worker2", "--for", "port-up=vm2", "--for", "hv-synced")
    user_labs.run("bind", "vm2", "worker1")
    assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == 0
    assert user_labs.json("wait", "--for", "hv-synced")["held"] == ["hv-synced"]


def test_at_the_deadline_waiting_says_what_lagged(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("appctl", "worker2", "-t", "ovn-controller", "exit")
    said = user_labs.run("wait", "--for", "chassis=worker2", "--timeout", "1", expect=1).stderr
    assert "waited 1 s for chassis to register: worker2" in said
    assert "ovn-controller runs on worker2: expected running, observed not running" in said
    assert "worker1" not in said
    user_labs.run("nbctl", "lsp-add", "red", "vm9")
    said = user_labs.run("wait", "--for", "port-up=vm9", "--timeout", "1", expect=1).stderr
    assert "vm9 is bound and up: expected bound, up, observed bound nowhere" in said
    for word, why in (
        ("port-up", "makes no sense"), ("chassis=worker9", "worker"), ("chassis=central", "not a chassis"), ("love", "nothing to wait for"),
    ):  # fmt: skip
        assert why in user_labs.run("wait", "--for", word, expect=2).stderr


@pytest.mark.thorough
def test_tenants_with_the_same_addresses_are_told_apart(user_labs: Labs) -> None:
    text = """
name: overlap
nodes: {central: {role: central}, worker1: {}, worker2: {}}
logical:
  switches:
    red:  {subnet: 10.0.0.0/24, ports: {r1: {ip: 10.0.0.11, chassis: worker1}, r2: {ip: 10.0.0.12, chassis: worker2}}}
    blue:
      subnet: 10.0.0.0/24
      ports:
        b1: {ip: 10.0.0.11, chassis: worker2}
        b2: {ip: 10.0.0.12, chassis: worker1}
        b3: {ip: 10.0.0.13, chassis: worker1}
checks:
  - {ping: b2, from: b1}
  - {ping: r2, from: r1}
  - {ping: b3, from: r1, expect: unreachable}
"""
    user_labs.run("up", user_labs.write("overlap.yaml", text))
    found = user_labs.json("test")
    assert found["failed"] == 0
    seen = {key: (pair["intended"], pair["observed"]) for key, pair in pairs(found).items()}
    for pair in (("r1", "r2"), ("r2", "r1"), ("b1", "b2"), ("b2", "b3"), ("b3", "b1")):
        assert seen[pair] == ("delivered", "reachable"), pair
    assert seen["r1", "b3"] == ("dropped", "unreachable")
    # From there that address is somebody else's, or its own.
    assert not {("b3", "r1"), ("r1", "b1"), ("r1", "b2")} & seen.keys()


@pytest.mark.thorough
def test_each_ip_version_is_tried_by_itself(user_labs: Labs) -> None:
    text = """
name: dual
nodes: {central: {role: central}, worker1: {}, worker2: {}}
logical:
  switches:
    red:
      subnet: [10.0.0.0/24, "fd00::/64"]
      ports:
        d1: {ip: [10.0.0.11, "fd00::11"], chassis: worker1}
        d2: {ip: [10.0.0.12, "fd00::12"], chassis: worker2}
    six: {subnet: ["fd01::/64"], ports: {s1: {chassis: worker2}}}
  routers:
    r1: {ports: {red: {ip: [10.0.0.1/24, "fd00::1/64"]}, six: {ip: "fd01::1/64"}}}
  acls:
    - {switch: red, direction: to-lport, priority: 1000, action: drop, match: "outport == \\"d2\\" && ip6 && icmp6.type == 128"}
checks:
  - {ping: d1, from: s1}
  - {ping: d2, from: s1, expect: unreachable}
  - {ping: "fd00::12", from: d1, expect: unreachable}
"""
    user_labs.run("up", user_labs.write("dual.yaml", text))
    found = user_labs.json("test")
    assert found["failed"] == 0
    seen = {(pair["from"], pair["address"]): (pair["intended"], pair["observed"]) for pair in found["pairs"]}
    assert seen["d1", "10.0.0.12"] == ("delivered", "reachable")
    assert seen["d1", "fd00::12"] == ("dropped", "unreachable")
    assert seen["s1", "fd00::11"] == ("delivered", "reachable")
    assert "fd00::12" in user_labs.out("trace", "d1", "fd00::12", "--logical")


@pytest.mark.thorough
def test_answers_that_cannot_be_traced_are_no_failures(user_labs: Labs) -> None:
    user_labs.run("up", "gateway")
    user_labs.run("nbctl", "acl-add", "network1", "to-lport", "1000", 'outport == "vm1" && icmp4.type == 0', "drop")
    words = ["acl-add", "network1", "to-lport", "900", 'outport == "vm1" && tcp', "drop"]
    user_labs.run("nbctl", "--wait=hv", *words)
    found = user_labs.json("test", expect=4)
    # The file says that host1 answers, which it does not: that is not a word about OVN. Of vm2 the answer is traced.
    failed = {one["target"]: one for one in found["checks"] if not one["ok"]}
    assert failed.keys() == {"10.0.0.48", "vm2"}
    assert failed["10.0.0.48"]["intended"] == "delivered"
    assert failed["vm2"]["intended"] == "dropped"
    assert pairs(found)["vm1", "vm2"]["ok"]


@pytest.mark.thorough
def test_fake_vms_that_are_gone_are_not_passed_over(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    user_labs.run("exec", "vm1", "--", "ip", "route", "flush", "all")
    user_labs.run("exec", "vm4", "--", "ip", "link", "set", "vm4", "address", "40:44:00:00:00:77")
    result = user_labs.run("test", expect=4).stdout
    assert re.search(r"vm1 on worker1 is configured as its port +.*gateways 10.1.0.1 .*gateways none", result)
    assert re.search(r"vm4 on worker1 is configured as its port +MAC \S+ +MAC 40:44:00:00:00:77", result)
    os.kill(user_labs.nodes("pairs")["worker2"], signal.SIGKILL)
    found = failures(user_labs.json("test", expect=4))
    assert {"vm2 is bound and up", "vm2 is on worker2", "vm3 is on worker2"} <= set(found)


def test_databases_that_do_not_answer_are_a_finding(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    os.kill(user_labs.nodes("pairs")["central"], signal.SIGKILL)
    junit = user_labs.scratch / "report.xml"
    shown = user_labs.run("test", "--junit", str(junit), expect=4)
    assert re.search(r"the Southbound database answers +yes +no", shown.stdout)
    assert max(map(len, shown.stdout.splitlines())) < 250
    assert ET.fromstring(junit.read_text()).findall("testsuite[@name='databases']/testcase/failure")  # noqa: S314
    user_labs.run("down")
    assert "there is no lab" in user_labs.run("test", expect=1).stderr


def test_a_report_that_cannot_be_written_is_said_before_anything_is_tried(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    for option, path in (("--junit", "/nowhere/report.xml"), ("--html", str(user_labs.scratch))):
        result = user_labs.run("test", option, path, expect=1)
        assert path in result.stderr
        assert "trying" not in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_test_leaves_nothing_in_the_lab(user_labs: Labs, how: signal.Signals) -> None:
    up(user_labs, CLOSED)
    look = ("sh", "-c", "ls -d /tmp/ovnlab-traces-* 2>/dev/null; pgrep -a ovn-trace; true")
    for seconds in (0.5, 0.6, 0.7, 0.8, 1.0):  # from before ovn-trace is there until after
        running = user_labs.start("test")
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, how)
        running.communicate(timeout=30)
    wait_until("nothing to be there", lambda: user_labs.on("central", *look) == "" or None, timeout=20)


@pytest.mark.thorough
def test_hints_name_the_lab_where_there_are_several(user_labs: Labs) -> None:
    up(user_labs, CLOSED)
    up(user_labs, CLOSED, "others")
    user_labs.run("ofctl", "-l", "pairs", "worker2", "del-flows", "br-int")
    assert re.search(
        r"ovnlab trace vm1 \S+ -l pairs$", user_labs.run("test", "-l", "pairs", expect=4).stdout, re.MULTILINE
    )


@pytest.mark.thorough
def test_of_many_failures_the_first_are_shown(user_labs: Labs) -> None:
    ports = ", ".join(f"p{number}: {{chassis: only}}" for number in range(1, 9))
    switch = f"logical: {{switches: {{s: {{subnet: 10.0.0.0/24, ports: {{{ports}}}}}}}}}\n"
    user_labs.run("up", user_labs.write("many.yaml", f"name: many\nnodes: {{only: {{role: central}}}}\n{switch}"))
    user_labs.run("ofctl", "only", "del-flows", "br-int")
    shown = user_labs.run("test", expect=4).stdout
    assert shown.count("unreachable") == 40
    assert "… and 16 more: --json, --junit FILE and --html FILE tell all" in shown
    assert user_labs.json("test", expect=4)["failed"] == 56
