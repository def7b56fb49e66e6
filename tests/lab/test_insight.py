"""Flows with names, ports explained, and labs in a file: `ovnlab flows`, `explain`, `bundle`."""

from __future__ import annotations

import json
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "insight"):
        labs.run("up", "gateway")
        labs.run("up", "acl")
        yield labs


def flows(labs: Labs, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = labs.json("flows", *words)["flows"]
    return found


# ── flows ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flows_have_the_names_of_both_databases(lab: Labs) -> None:
    found = flows(lab, "worker1", "--lab", "gateway")
    logical = {
        row["_uuid"][1][:8]: dict(row["external_ids"][1])["stage-name"]
        for row in rows(lab, "--lab", "gateway", "--columns=_uuid,external_ids", "list", "Logical_Flow")
    }
    of_logical = [flow for flow in found if f"{int(flow['cookie'], 16):08x}" in logical]
    assert len(of_logical) > 100
    for flow in of_logical:
        assert logical[f"{int(flow['cookie'], 16):08x}"] in flow["table_name"].split(", ")
    (network1,) = (
        row["tunnel_key"]
        for row in rows(lab, "--lab", "gateway", "find", "Datapath_Binding", "external_ids:name=network1")
    )
    lookup = [flow for flow in found if flow["match"] == f"metadata={network1:#x},dl_dst=40:44:00:00:00:02"]
    assert [flow["match_named"] for flow in lookup] == ["datapath=network1,dl_dst=40:44:00:00:00:02"]
    assert lookup[0]["actions_named"].startswith("outport=vm2, → ")
    assert lookup[0]["northbound"]["name"] == "vm2"
    # The tables that no logical flow is in are known by what they do.
    by_name = {flow["table_name"]: flow["table"] for flow in found}
    assert by_name["physical to logical"] == 0
    out = next(flow for flow in found if flow["match_named"] == "outport=vm2,datapath=network1")
    assert out["table_name"] == "output to other chassis"
    assert f"tunnel vni={network1} (network1), tunnel outport=vm2" in out["actions_named"]
    deliver = flows(lab, "worker1", "--lab", "gateway", "--table", "logical to physical")
    assert ("outport=vm1,datapath=network1", "output:vm1") in [
        (flow["match_named"], flow["actions_named"]) for flow in deliver
    ]


def rows(labs: Labs, *words: str) -> list[dict[str, Any]]:
    table = json.loads(labs.out("sbctl", *words[:2], "--format=json", "--data=json", *words[2:]))
    return [dict(zip(table["headings"], row, strict=True)) for row in table["data"]]


def test_active_flows_are_those_that_a_ping_hits(lab: Labs) -> None:
    ping = lab.start("ping", "--lab", "gateway", "vm1", "vm2", "-c", "40")
    try:
        time.sleep(1)
        active = flows(lab, "worker2", "--lab", "gateway", "--active", "--port", "vm2")
        out = next(flow for flow in active if flow["table_name"] == "logical to physical")
        assert out["actions_named"] == "output:vm2"
        assert 1 <= out["rate"] <= 15, "the ping sends five packets a second"
        follow = lab.start("flows", "worker2", "--lab", "gateway", "--port", "vm2", "--follow", "--json")
        time.sleep(3.5)
        follow.send_signal(signal.SIGINT)
        lines = follow.communicate(timeout=20)[0].splitlines()
        assert len(lines) >= 2
        assert any(flow["actions_named"] == "output:vm2" for flow in json.loads(lines[-1])["flows"])
    finally:
        ping.terminate()
        ping.communicate()
    every = flows(lab, "worker2", "--lab", "gateway", "--port", "vm2")
    assert len(every) > len(active)
    assert not any("40:44:00:00:00:01" in flow["match"] for flow in every)


def test_flows_name_the_acl_and_its_line(lab: Labs) -> None:
    dropping = next(
        flow
        for flow in flows(lab, "worker1", "--lab", "acl", "--table", "ls_out_acl")
        if flow["actions"] == "drop" and flow["northbound"] and "reg0=0x200/0x200" in flow["match"]
        and "web1" in flow["match_named"]
    )  # fmt: skip
    assert dropping["northbound"]["table"] == "ACL"
    line = int(dropping["northbound"]["place"].split(":")[1])
    assert "action: drop" in (TOPOLOGIES / "acl.yaml").read_text().splitlines()[line - 1]


def test_flows_mistakes(lab: Labs) -> None:
    assert "unknown table 'acl'" in lab.run("flows", "--lab", "acl", "worker1", "--table", "acl", expect=2).stderr
    assert "unknown logical port 'vm9'" in lab.run("flows", "--lab", "acl", "worker1", "--port", "vm9", expect=2).stderr
    assert "is not a chassis" in lab.run("flows", "--lab", "gateway", "host1", expect=2).stderr


# ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────────


def explained(labs: Labs, name: str, where: str) -> dict[str, Any]:
    return labs.json("explain", name, "--lab", where)


def test_all_about_a_port(lab: Labs) -> None:
    found = explained(lab, "vm2", "gateway")
    facts = found["facts"]
    assert found["up"]
    assert found["problems"] == []
    assert facts["chassis"] == "worker2"
    assert facts["tunnel key"] == str(tunnel_key_in(lab, "gateway", "vm2"))
    assert (facts["MAC"], facts["IP"], facts["MTU"]) == ("40:44:00:00:00:02", "192.168.0.12/24", "1442")
    assert facts["flows"] == "installed"
    ofport = lab.out("vsctl", "--lab", "gateway", "worker2", "get", "Interface", "vm2", "ofport").strip()
    assert facts["ofport"] == ofport
    assert {rule["text"].split(" on ")[0] for rule in found["rules"]} == {
        "snat 10.0.0.45 ↔ 192.168.0.0/24",
        "dnat_and_snat 10.0.0.12 ↔ 192.168.0.12",
    }
    web, stranger = explained(lab, "web1", "acl"), explained(lab, "stranger", "acl")
    assert len([rule for rule in web["rules"] if rule["kind"].startswith("ACL")]) == 4
    assert stranger["rules"] == [], "no rule is about it"
    assert web["facts"]["port security"].startswith("0a:00")


def tunnel_key_in(labs: Labs, where: str, port: str) -> int:
    found = rows(labs, "--lab", where, "--columns=tunnel_key", "find", "Port_Binding", f"logical_port={port}")
    return int(found[0]["tunnel_key"])


def test_why_a_port_is_down(user_labs: Labs) -> None:
    user_labs.run("up", "3node")

    def problems(name: str = "vm1") -> str:
        return "\n".join(user_labs.json("explain", name)["problems"])

    assert "ovnlab bind vm1 NODE" in problems()
    user_labs.run("bind", "vm1", "worker1")
    assert problems() == ""
    user_labs.on("vm1", "ip", "link", "set", "vm1", "down")
    assert "interface is down" in problems()
    user_labs.on("vm1", "ip", "link", "set", "vm1", "up")
    user_labs.on("vm1", "ip", "link", "set", "vm1", "address", "40:44:00:00:00:99")
    assert "has MAC 40:44:00:00:00:99, and OVN knows 40:44:00:00:00:01" in problems()
    user_labs.on("vm1", "ip", "link", "set", "vm1", "address", "40:44:00:00:00:01")
    user_labs.run("nbctl", "lsp-set-enabled", "vm1", "disabled")
    assert "disabled" in problems()
    user_labs.run("nbctl", "lsp-set-enabled", "vm1", "enabled")
    user_labs.end_controller("worker1")
    assert "ovn-controller of worker1 does not run" in problems()
    user_labs.run("nbctl", "lsp-del", "vm2")
    assert "is gone" in problems("vm2")
    assert "unknown node or fake VM 'vm9'" in user_labs.run("explain", "vm9", expect=2).stderr


# ── bundle ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bundle_is_read_without_the_lab(user_labs: Labs) -> None:
    user_labs.run("up", "routed")
    capture = user_labs.scratch / "x.pcapng"
    tcpdump = user_labs.start("capture", "worker1", "-w", str(capture), "-c", "1")
    time.sleep(1.5)
    live = user_labs.json("trace", "vm1", "vm2")
    tcpdump.communicate(timeout=30)
    explained_live = user_labs.json("explain", "vm1")
    path = user_labs.scratch / "routed.tar.gz"
    assert f"wrote {path}" in user_labs.out("bundle", "-o", str(path))
    user_labs.run("down", "--all")
    traced = user_labs.json("trace", "vm1", "vm2", "--logical", "--bundle", str(path))
    assert [part["title"] for part in traced["logical"]] == [part["title"] for part in live["logical"]]
    assert traced["tunnel"] == {"expected": live["tunnel"]["expected"], "observed": None}
    assert (traced["sent"], traced["physical"]) == (False, [])
    offline = user_labs.json("explain", "vm1", "--bundle", str(path))
    changing = {"packets"}
    assert {k: v for k, v in offline["facts"].items() if k not in changing} == {
        k: v for k, v in explained_live["facts"].items() if k not in changing
    }
    (packet,) = user_labs.json("decode", str(capture), "--bundle", str(path))["packets"]
    assert packet["tunnel"]["datapath"] in ("network1", "network2")
    assert user_labs.json("trace", "vm1", "worker1", "--bundle", str(path))["outcome"] == "dropped", (
        "it has no such route"
    )
    picture = user_labs.out("graph", "--bundle", str(path), "--format", "dot")
    assert "worker1" in picture
    assert "vm1" in picture


def test_a_bundle_has_what_is_asked_for_and_no_secret(user_labs: Labs) -> None:
    user_labs.run("up", "tls")
    user_labs.run(
        "vsctl", "worker2", "add-port", "br-int", "own", "--", "set", "Interface", "own", "options:psk=swordfish"
    )
    path = user_labs.scratch / "tls.tar.gz"
    user_labs.run("bundle", "-o", str(path))
    with tarfile.open(path) as archive:
        names = archive.getnames()
        texts = {name: file.read() for name in names if (file := archive.extractfile(name)) is not None}
    for name in (
        "tls/topology.yaml", "tls/status.json", "tls/nodes/central/ovnnb_db.db", "tls/nodes/central/ovnsb_db.db",
        "tls/nodes/worker1/conf.db", "tls/nodes/worker1/br-int-flows.txt", "tls/nodes/worker1/versions.txt",
        "tls/nodes/worker1/logs/ovn-controller.log", "tls/nodes/central/logs/ovn-northd.log",
    ):  # fmt: skip
        assert texts[name], name
    assert b"ovn-controller 2" in texts["tls/nodes/worker1/versions.txt"]
    assert not [name for name, text in texts.items() if b"PRIVATE KEY" in text]
    assert not [name for name in names if name.endswith(".pem")]
    assert not [name for name, text in texts.items() if b"swordfish" in text]
    assert "tls/nodes/worker2/left-out.txt" in names


def test_clustered_databases_come_as_standalone_ones_as_well(user_labs: Labs) -> None:
    user_labs.run("up", "raft")
    path = user_labs.scratch / "raft.tar.gz"
    user_labs.run("bundle", "-o", str(path))
    with tarfile.open(path) as archive:
        heads = {name: file.read(16) for name in archive.getnames() if (file := archive.extractfile(name)) is not None}
    assert heads["raft/nodes/central1/ovnsb_db-clustered.db"].startswith(b"OVSDB CLUSTER")
    assert heads["raft/nodes/central1/ovnsb_db.db"].startswith(b"OVSDB JSON")
    assert user_labs.json("trace", "vm1", "vm2", "--logical", "--bundle", str(path))["outcome"] == "delivered"


def test_what_does_not_answer_is_named_and_the_rest_is_there(user_labs: Labs) -> None:
    user_labs.run("up", "3node")
    user_labs.on("central", "sh", "-c", "kill -9 $(cat /run/ovn/ovnsb_db.pid)")
    path = user_labs.scratch / "x.tar.gz"
    user_labs.run("bundle", "-o", str(path))
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert "3node/nodes/worker2/conf.db" in names
    said = user_labs.run("explain", "vm1", "--bundle", str(path), expect=1).stderr
    assert "did not answer when it was made" in said


def test_what_is_no_bundle_is_refused(user_labs: Labs) -> None:
    path = user_labs.scratch / "x.tar.gz"
    for content in (b"", b"hello"):
        path.write_bytes(content)
        assert "bundle" in user_labs.run("explain", "vm1", "--bundle", str(path), expect=1).stderr
    subprocess.run(["tar", "-czf", path, "-C", "/", "etc/hostname"], check=True, capture_output=True)
    assert "is not a bundle" in user_labs.run("explain", "vm1", "--bundle", str(path), expect=1).stderr
    assert "No such file" in user_labs.run("explain", "vm1", "--bundle", "/nowhere", expect=1).stderr


def test_a_page_of_a_trace_needs_nothing_else(lab: Labs) -> None:
    page = lab.scratch / "trace.html"
    lab.run("trace", "--lab", "acl", "stranger", "web2", "--tcp", "80", "--html", str(page))
    text = page.read_text()
    assert "<title>stranger → web2: dropped as intended" in text
    assert "ls_out_acl" in text
    assert "http" not in text.replace("http-equiv", ""), "nothing is fetched"
