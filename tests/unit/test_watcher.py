"""What databases tell of who is in charge, as their servers send it: in pieces, and several messages at once."""

from __future__ import annotations

import json
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ovnlab.ovsdb.queries import SOUTHBOUND
from ovnlab.traffic import watcher
from ovnlab.traffic.watcher import BINDINGS, LEADERS, WatchedDatabase, Watcher, gateways, sources
from ovnlab.waiting import wait_until

GW1, GW2 = ["uuid", "11111111-0000-0000-0000-000000000000"], ["uuid", "22222222-0000-0000-0000-000000000000"]


def binding(chassis: Any) -> dict[str, Any]:
    return {"logical_port": "cr-router1-public", "type": "chassisredirect", "chassis": chassis}


FIRST = {
    "Chassis": {GW1[1]: {"new": {"name": "gw1"}}, GW2[1]: {"new": {"name": "gw2"}}},
    "Port_Binding": {
        "a": {"new": binding(GW1)},
        "b": {"new": {"logical_port": "vm1", "type": "", "chassis": GW1}},
    },
}


def update(chassis: Any) -> bytes:
    changed = {"Port_Binding": {"a": {"old": {"chassis": GW1}, "new": binding(chassis)}}}
    return json.dumps({"method": "update", "params": [None, changed], "id": None}).encode()


def test_changes_are_told_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    node: Any = SimpleNamespace(name="central", connect=lambda _path: here)
    source = WatchedDatabase(node, SOUTHBOUND, "OVN_Southbound", BINDINGS, gateways)
    monkeypatch.setattr(watcher, "sources", lambda *_: [source])
    asked: list[Any] = []

    def serve() -> None:
        asked.append(json.loads(there.recv(65536)))
        answer = json.dumps({"id": 1, "error": None, "result": FIRST}).encode()
        there.sendall(answer[:100])
        there.sendall(answer[100:] + json.dumps({"method": "echo", "params": [], "id": "echo"}).encode())

    server = threading.Thread(target=serve)
    server.start()
    with there, Watcher(None, lambda: {"central": node}) as seen:  # type: ignore[arg-type]  # as above
        server.join()
        assert asked[0]["params"][2]["Port_Binding"] == {"columns": ["logical_port", "type", "chassis"]}
        assert seen.facts == {("gateway", "router1-public"): "gw1"}
        assert seen.is_settled
        assert json.loads(there.recv(65536))["id"] == "echo"
        there.sendall(update(GW2) + update(["set", []]))
        wait_until("two changes", lambda: True if len(seen.changes) == 2 else None, timeout=10)
        assert not seen.is_settled, "nobody is in charge"
        there.sendall(update(GW1)[:10])
        there.sendall(update(GW1)[10:])
        wait_until("three changes", lambda: True if len(seen.changes) == 3 else None, timeout=10)
        assert seen.facts == {("gateway", "router1-public"): "gw1"}
    assert [change.text for change in seen.changes] == [
        "gateway of router1-public: gw1 → gw2",
        "gateway of router1-public: gw2 → none",
        "gateway of router1-public: none → gw1",
    ]
    assert all(change.when for change in seen.changes)


def test_a_leader_that_comes_back_is_told() -> None:
    nodes: list[Any] = [SimpleNamespace(name=name, ip=name, has_switch=False, central=True, zone="") for name in "ab"]
    topology: Any = SimpleNamespace(nodes=nodes, centrals=lambda _zone: nodes)
    found = [one for one in sources(topology, {node.name: node for node in nodes}) if one.columns is LEADERS]
    of_a, of_b = (next(one for one in found if one.node.name == name) for name in "ab")
    seen = Watcher(None, dict)  # type: ignore[arg-type]

    def tell(source: WatchedDatabase, *, leads: bool) -> None:
        row = {"name": "OVN_Southbound", "model": "clustered", "leader": leads}
        seen._take(source, {"id": 1, "result": {"Database": {"x": {"new": row}}}}, 1)

    for source, leads in ((of_a, True), (of_b, False), (of_a, False), (of_b, True), (of_b, False), (of_a, True)):
        tell(source, leads=leads)
    assert [change.after for change in seen.changes] == ["b", "a"]
    assert seen.facts == {("leader", "OVN_Southbound"): "a"}


def test_a_member_that_lags_takes_nothing_back() -> None:
    """Of two members of a cluster, one tells a change later than the other."""
    nodes: list[Any] = [SimpleNamespace(name=name) for name in "ab"]
    sources = [WatchedDatabase(node, SOUTHBOUND, "OVN_Southbound", BINDINGS, gateways) for node in nodes]
    seen = Watcher(None, dict)  # type: ignore[arg-type]
    for source in sources:
        seen._take(source, {"id": 1, "result": FIRST}, 1)
    seen._take(sources[0], json.loads(update(GW2)), 2)
    seen._take(sources[1], json.loads(update(GW2)), 5)
    assert [(change.after, change.when) for change in seen.changes] == [("gw2", 2)]
