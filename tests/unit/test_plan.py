"""What `up` plans, and the transaction that it makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ovnlab.errors import OvnlabError, Timeout
from ovnlab.lab.plan import LabState, plan
from ovnlab.northbound.change import changes, transaction_script
from ovnlab.northbound.live import QUESTION, LiveRow, Parent, rows_in
from ovnlab.northbound.ownership import KEYS_KEY
from ovnlab.northbound.row_addresses import in_use
from ovnlab.northbound.rows import BY_BIND, MARK, WantedRow, wanted
from ovnlab.northbound.schema import TABLES
from ovnlab.ovsdb.client import listed, rows, value
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks.daemons import TransitSwitch
from ovnlab.tasks.script import failure
from ovnlab.templating import render
from ovnlab.topology.inuse import of_topology
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import Topology
from ovnlab.waiting import wait_until

TOPOLOGY = load_text(
    "lab.yaml",
    b"nodes: {c: {role: central}}\n"
    b"logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {mac: '0a:00:00:00:00:01', ip: 10.0.0.2}}}},"
    b" routers: {r: {ports: {s: {ip: 10.0.0.1/24, mac: '0a:00:00:00:00:02'}}}}}\n",
).topology


DEFAULTS: dict[str, Any] = {
    "other_config": {}, "load_balancer": (), "dns_records": (), "options": {}, "up": False, "tag": (),
    "parent_name": (), "port_security": (), "dhcpv4_options": (), "dhcpv6_options": (), "ha_chassis_group": (),
    "ipv6_ra_configs": {}, "type": "", "addresses": (), "external_ids": {},
}  # fmt: skip


def uuid(table: str, name: str) -> str:
    return f"uuid-of-{table}-{name}"


def as_live(row: WantedRow) -> LiveRow:
    """A wanted row as the database would have it."""
    values: dict[str, Any] = {**DEFAULTS, **row.values}
    for column, table in TABLES[row.table].references.items():
        values[column] = tuple(uuid(table, name) for name in values.get(column, ()))
    columns = {
        key: tuple(sorted(item)) if isinstance(item, tuple) else dict(item) if isinstance(item, dict) else item
        for key, item in values.items()
        if key in TABLES[row.table].columns
    }
    if not TABLES[row.table].marked:
        columns["external_ids"] = dict([row.mark])
    column = {"Logical_Switch_Port": "ports", "Logical_Router_Port": "ports"}.get(row.table, "")
    belongs = Parent(row.parent_table, row.parent, uuid(row.parent_table, row.parent), column) if row.parent else None
    return LiveRow(row.table, uuid(row.table, row.name), row.name, columns, belongs, row.zone)


LIVE = [as_live(row) for row in wanted(TOPOLOGY)]


def row(table: str, name: str, mark: tuple[str, str] = ("", ""), parent: str | None = None) -> LiveRow:
    parent_table = "Logical_Switch" if parent else ""
    return as_live(WantedRow(table, name, {}, parent, parent_table, "", mark))


def words(live: list[LiveRow], lab: Topology = TOPOLOGY) -> list[tuple[str, ...]]:
    return [command for change in changes("lab", wanted(lab), live) for command in change.commands]


def test_nothing_changes_where_all_is_as_wanted() -> None:
    assert words(LIVE) == []


def test_a_new_network_is_one_transaction_in_the_words_of_ovn_nbctl() -> None:
    assert [command[:3] for command in words([])] == [
        ("--id=@s", "create", "Logical_Switch"),
        ("--id=@v", "create", "Logical_Switch_Port"),
        ("--id=@r", "create", "Logical_Router"),
        ("--id=@r_s", "create", "Logical_Router_Port"),
        ("--id=@s_r", "create", "Logical_Switch_Port"),
    ]
    switch, port, router, *_ = words([])
    assert "ports=@v,@s_r" in switch
    assert "ports=@r_s" in router
    assert 'addresses=["0a:00:00:00:00:01 10.0.0.2"]' in port
    script = transaction_script(changes("lab", wanted(TOPOLOGY), []), Databases(""))
    assert script.count("ovn-nbctl") == 1
    assert "'addresses=[\"0a:00:00:00:00:01 10.0.0.2\"]'" in script


def test_only_what_differs_is_set_and_other_keys_of_a_map_stay() -> None:
    port = next(row for row in LIVE if row.name == "v")
    ids = {MARK: "lab", "mine": "yes"}
    changed = replace(port, columns={**port.columns, "addresses": ("x",), "external_ids": ids})
    commands = words([row if row is not port else changed for row in LIVE])
    assert commands == [("set", "Logical_Switch_Port", port.uuid, 'addresses=["0a:00:00:00:00:01 10.0.0.2"]')]


def test_a_new_row_is_added_to_the_one_that_it_belongs_to() -> None:
    live = [row for row in LIVE if row.name != "v"]
    create, add_port = words(live)
    assert create[:3] == ("--id=@v", "create", "Logical_Switch_Port")
    assert add_port == ("add", "Logical_Switch", uuid("Logical_Switch", "s"), "ports", "@v")


def test_what_is_marked_and_not_wanted_goes_and_what_is_not_marked_stays() -> None:
    ours = row("Logical_Switch", "old", (MARK, "lab"))
    others = row("Logical_Switch", "foreign")
    other_lab = row("Logical_Switch", "neighbour", (MARK, "other"))
    by_bind = row("Logical_Switch_Port", "b", (BY_BIND, "lab"), "s")
    assert words([*LIVE, ours, others, other_lab, by_bind]) == [("destroy", "Logical_Switch", ours.uuid)]


def test_rows_without_external_ids_get_what_the_file_says_no_longer() -> None:
    columns: dict[str, str | bool] = {"logical_port": "r-s", "ip": "10.0.0.9", "mac": "0a:00:00:00:00:09"}
    columns["override_dynamic_mac"] = False
    binding = WantedRow("Static_MAC_Binding", "r-s 10.0.0.9", columns, mark=(MARK, "lab"))
    live = as_live(replace(binding, columns={**columns, "override_dynamic_mac": True}))
    (change,) = changes("lab", [binding], [live])
    assert change.commands == (("set", "Static_MAC_Binding", live.uuid, "override_dynamic_mac=false"),)
    balancers = [WantedRow("Load_Balancer", name, mark=(MARK, "lab")) for name in ("one", "two")]
    group = WantedRow("Load_Balancer_Group", "g", {"load_balancer": ("one",)}, mark=(MARK, "lab"))
    live = as_live(replace(group, columns={"load_balancer": ("one", "two")}))
    (change,) = changes("lab", [*balancers, group], [*map(as_live, balancers), live])
    two = uuid("Load_Balancer", "two")
    assert change.commands == (("remove", "Load_Balancer_Group", live.uuid, "load_balancer", two),)


def test_external_ids_that_the_file_empties_keep_the_marks() -> None:
    meter = WantedRow("Meter", "m", {"external_ids": {}}, mark=(MARK, "lab"), emptied=frozenset({"external_ids"}))
    live = as_live(meter)
    assert changes("lab", [meter], [live]) == []
    live = replace(live, columns={**live.columns, "external_ids": {MARK: "lab", "mine": "yes"}})
    (change,) = changes("lab", [meter], [live])
    assert change.commands == (("remove", "Meter", live.uuid, "external_ids", '"mine"'),)


def test_a_port_keeps_its_addresses_whatever_ovn_takes_it_to_have() -> None:
    topology = load_text(
        "lab.yaml",
        b"nodes: {c: {role: central}}\n"
        b"logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {addresses: '0a:00:00:00:00:99 10.0.0.99'}}}}}\n",
    ).topology
    live = [as_live(row) for row in wanted(topology)]
    assert in_use(of_topology(topology), topology, live).agrees(topology)


def test_what_stands_twice_in_a_set_is_once_in_the_database() -> None:
    policy = WantedRow("Logical_Router_Policy", "p", {"nexthops": ("10.0.0.9", "10.0.0.9")}, mark=(MARK, "lab"))
    (change,) = changes("lab", [policy], [])
    assert 'nexthops=["10.0.0.9"]' in change.commands[0]
    live = as_live(replace(policy, columns={"nexthops": ("10.0.0.9",)}))
    assert changes("lab", [policy], [live]) == []


def test_a_name_in_a_command_to_type_is_quoted() -> None:
    ours = row("Logical_Switch", "old", (MARK, "lab"))
    theirs = row("Logical_Switch_Port", "$(reboot)", parent="old")
    with pytest.raises(OvnlabError) as refused:
        words([*LIVE, ours, theirs])
    assert refused.value.hint == "remove that first: ovnlab nbctl lsp-del '$(reboot)'"


def test_a_port_goes_along_with_its_switch() -> None:
    ours = row("Logical_Switch", "old", (MARK, "lab"))
    port = row("Logical_Switch_Port", "theirs", (MARK, "lab"), "old")
    by_bind = row("Logical_Switch_Port", "b", (BY_BIND, "lab"), "old")
    found = changes("lab", wanted(TOPOLOGY), [*LIVE, ours, port, by_bind])
    assert [(change.verb, change.name) for change in found] == [
        ("remove", "theirs"),
        ("remove", "b"),
        ("remove", "old"),
    ]
    assert [command for change in found for command in change.commands] == [("destroy", "Logical_Switch", ours.uuid)]


def test_a_port_that_bind_made_is_adopted_by_the_file() -> None:
    port = next(row for row in LIVE if row.name == "v")
    made = replace(port, columns={**port.columns, "external_ids": {BY_BIND: "lab"}})
    commands = words([row if row is not port else made for row in LIVE])
    assert commands == [
        ("set", "Logical_Switch_Port", port.uuid, 'external_ids:"ovnlab"="lab"'),
        ("remove", "Logical_Switch_Port", port.uuid, "external_ids", BY_BIND),
    ]


def test_a_port_of_somebody_else_is_not_taken_along_with_its_switch() -> None:
    ours = row("Logical_Switch", "old", (MARK, "lab"))
    theirs = row("Logical_Switch_Port", "theirs", parent="old")
    with pytest.raises(OvnlabError, match="there is a logical switch port theirs on it that ovnlab did not make"):
        words([*LIVE, ours, theirs])


def test_a_name_that_somebody_else_took_is_an_error() -> None:
    theirs = row("Logical_Switch_Port", "v", parent="elsewhere")
    with pytest.raises(OvnlabError, match="there is a logical switch port v already"):
        words([theirs])


def test_a_key_of_a_shared_map_that_we_set_is_taken_away_again_and_others_stay() -> None:
    switch = next(row for row in LIVE if row.table == "Logical_Switch")
    ids = {MARK: "lab", KEYS_KEY: "other_config:mcast_snoop"}
    config = {"mcast_snoop": "true", "mine": "yes"}
    before = replace(switch, columns={**switch.columns, "external_ids": ids, "other_config": config})
    commands = words([row if row is not switch else before for row in LIVE])
    assert sorted(commands) == [
        ("remove", "Logical_Switch", switch.uuid, "external_ids", f'"{KEYS_KEY}"'),
        ("remove", "Logical_Switch", switch.uuid, "other_config", '"mcast_snoop"'),
    ]


def everything() -> Topology:
    path = Path(__file__).parent / "everything.yaml"
    return load_text(str(path), path.read_bytes()).topology


def test_of_every_kind_of_row_there_is_one_and_as_they_are_nothing_changes() -> None:
    topology = everything()
    rows = wanted(topology)
    assert {row.table for row in rows} == set(TABLES)
    assert len({row.key for row in rows}) == len(rows)
    live = [_parented(as_live_of(row)) for row in rows]
    assert changes(topology.name, rows, live) == []
    assert all(change.verb == "remove" for change in changes(topology.name, [], live))


def as_live_of(row: WantedRow) -> LiveRow:
    found = as_live(row)
    missing = {column: () for column in TABLES[row.table].columns if column not in found.columns and column != "name"}
    return replace(found, columns={**found.columns, **missing})


def _parented(row: LiveRow) -> LiveRow:
    if row.belongs is None:
        return row
    column = next(column for table, column in TABLES[row.table].belongs if table == row.belongs.table)
    return replace(row, belongs=replace(row.belongs, column=column))


def test_rows_are_read_with_their_parents() -> None:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in QUESTION.columns}
    tables["Logical_Switch"] = [{"_uuid": ["uuid", "u1"], "name": "s", "ports": ["uuid", "u2"]}]
    tables["Logical_Switch_Port"] = [
        {"_uuid": ["uuid", "u2"], "name": "v", "addresses": "0a:00:00:00:00:01", "tag": 5},
    ]
    tables["Logical_Switch"][0]["external_ids"] = ["map", [["ovnlab", "lab"]]]
    printed = "\n".join(
        json.dumps(
            {
                "headings": list(QUESTION.columns[name]),
                "data": [
                    [
                        row.get(column, ["map" if column == "external_ids" else "set", []])
                        for column in QUESTION.columns[name]
                    ]
                    for row in rows
                ],
            }
        )
        for name, rows in tables.items()
    )
    switch, port = rows_in(QUESTION.parse(printed))
    assert (switch.mark, port.mark) == ("lab", None)
    assert (port.parent, port.columns["addresses"], port.columns["tag"]) == ("s", ("0a:00:00:00:00:01",), (5,))


def test_the_wire_format_of_ovsdb() -> None:
    assert value(["set", [["uuid", "a"], 1]]) == ["a", 1]
    assert value(["map", [["k", ["set", []]]]]) == {"k": []}
    assert listed("one") == ["one"]
    assert rows('{"headings":["a"],"data":[[["set",[]]]]}') == [{"a": []}]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=4))
def test_every_value_is_one_word_of_a_script(values: list[str]) -> None:
    """No value gets out of its quotes: sh itself says what it reads."""
    import shlex  # noqa: PLC0415

    script = render("node/apply-transaction.sh.j2", commands=[["set", *values]], databases=Databases(""))
    line = script.split("ovn-nbctl --timeout=60 \\\n", 1)[1]
    assert shlex.split(line) == ["set", *values]


class _Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_ends_with_what_is_seen_or_says_what_was_awaited() -> None:
    clock = _Clock()
    seen = wait_until("the third second", lambda: clock.now if clock.now >= 3 else None, timeout=10, clock=clock)
    assert 3 <= seen < 3.2
    with pytest.raises(Timeout, match="waited 2 s for nothing") as caught:
        wait_until("nothing", lambda: None, timeout=2, explain=lambda: "the log's tail", clock=clock)
    assert caught.value.detail == "the log's tail"


def test_a_failed_script_says_which_command_it_was() -> None:
    error = failure("worker1: binding", 3, "some noise\novnlab: exit code 3 from: ip link set dev x up\n")
    assert str(error) == "worker1: binding: exit code 3 from: ip link set dev x up"
    assert error.detail == "some noise"
    assert error.exit_code == 1
    full = failure("worker1", 1, "ovsdb-tool: write failed (No space left on device)\n")
    assert (full.exit_code, full.message) == (3, "the disk is full")


MACHINES = b"provider: libvirt\nnodes: {c: {role: central, memory: %s}}\n"


def test_a_node_with_other_hardware_is_made_anew() -> None:
    before, now = (load_text("lab.yaml", MACHINES % size).topology for size in (b"512M", b"1G"))
    assert plan(now, LabState({}, ()), known=before.nodes).remove == {"c": "it becomes another machine"}
    assert plan(before, LabState({}, ()), known=before.nodes).remove == {}


def test_only_transit_switches_of_this_lab_are_removed() -> None:
    seen = LabState({}, (), transit=(TransitSwitch("ours", TOPOLOGY.name), TransitSwitch("theirs", "another")))
    assert plan(TOPOLOGY, seen).stale_transit == ("ours",)
