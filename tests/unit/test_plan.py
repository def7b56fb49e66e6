"""What `up` plans, and the transaction that it makes of it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnlab.errors import OvnlabError, Timeout
from ovnlab.northbound.change import changes, transaction_script
from ovnlab.northbound.live import LiveRow, parse
from ovnlab.northbound.rows import BY_BIND, MARK, WantedRow, wanted
from ovnlab.ovsdb import listed, rows, value
from ovnlab.tasks.script import failure
from ovnlab.templating import render
from ovnlab.topology.load import load_text
from ovnlab.waiting import wait_until

TOPOLOGY = load_text(
    "lab.yaml",
    b"nodes: {c: {role: central}}\n"
    b"logical: {switches: {s: {subnet: 10.0.0.0/24, ports: {v: {mac: '0a:00:00:00:00:01', ip: 10.0.0.2}}}},"
    b" routers: {r: {ports: {s: {ip: 10.0.0.1/24, mac: '0a:00:00:00:00:02'}}}}}\n",
).topology


def as_live(row: WantedRow) -> LiveRow:
    columns = {
        key: tuple(sorted(item)) if isinstance(item, tuple) else dict(item) if isinstance(item, dict) else item
        for key, item in row.columns.items()
    }
    defaults = {"type": "", "addresses": (), "options": {}, "up": False, "external_ids": {}}
    return LiveRow(row.table, f"uuid-of-{row.table}-{row.name}", row.name, {**defaults, **columns}, row.parent)


LIVE = [as_live(row) for row in wanted(TOPOLOGY)]


def words(live: list[LiveRow]) -> list[tuple[str, ...]]:
    return [command for change in changes("lab", wanted(TOPOLOGY), live) for command in change.commands]


def test_nothing_changes_where_all_is_as_wanted() -> None:
    assert words(LIVE) == []


def test_a_new_network_is_one_transaction_in_the_words_of_ovn_nbctl() -> None:
    assert [command[0] for command in words([])] == [
        "ls-add", "set", "lsp-add", "set", "lr-add", "set", "lrp-add", "set", "lsp-add", "set",
    ]  # fmt: skip
    assert ("lsp-add", "s", "v") in words([])
    assert ("lrp-add", "r", "r-s", "0a:00:00:00:00:02", "10.0.0.1/24") in words([])
    script = transaction_script(changes("lab", wanted(TOPOLOGY), []))
    assert script.count("ovn-nbctl") == 1
    assert "'addresses=[\"0a:00:00:00:00:01 10.0.0.2\"]'" in script


def test_only_what_differs_is_set_and_other_keys_of_a_map_stay() -> None:
    port = next(row for row in LIVE if row.name == "v")
    ids = {MARK: "lab", "mine": "yes"}
    changed = dataclasses.replace(port, columns={**port.columns, "addresses": ("x",), "external_ids": ids})
    commands = words([row if row is not port else changed for row in LIVE])
    assert commands == [("set", "Logical_Switch_Port", port.uuid, 'addresses=["0a:00:00:00:00:01 10.0.0.2"]')]


def test_what_is_marked_and_not_wanted_goes_and_what_is_not_marked_stays() -> None:
    ours = as_live(WantedRow("Logical_Switch", "old", {"external_ids": {MARK: "lab"}}))
    others = as_live(WantedRow("Logical_Switch", "foreign", {"external_ids": {}}))
    other_lab = as_live(WantedRow("Logical_Switch", "neighbour", {"external_ids": {MARK: "other"}}))
    by_bind = as_live(WantedRow("Logical_Switch_Port", "b", {"external_ids": {BY_BIND: "lab"}}, parent="s"))
    assert words([*LIVE, ours, others, other_lab, by_bind]) == [("ls-del", ours.uuid)]


def test_a_port_that_bind_made_is_adopted_by_the_file() -> None:
    port = next(row for row in LIVE if row.name == "v")
    made = dataclasses.replace(port, columns={**port.columns, "external_ids": {BY_BIND: "lab"}})
    commands = words([row if row is not port else made for row in LIVE])
    assert commands == [
        ("set", "Logical_Switch_Port", port.uuid, 'external_ids:ovnlab="lab"'),
        ("remove", "Logical_Switch_Port", port.uuid, "external_ids", BY_BIND),
    ]


def test_a_port_of_somebody_else_is_not_taken_along_with_its_switch() -> None:
    ours = as_live(WantedRow("Logical_Switch", "old", {"external_ids": {MARK: "lab"}}))
    theirs = as_live(WantedRow("Logical_Switch_Port", "theirs", {}, parent="old"))
    with pytest.raises(OvnlabError, match="there is a logical switch port theirs on it that ovnlab did not make"):
        words([*LIVE, ours, theirs])


def test_a_name_that_somebody_else_took_is_an_error() -> None:
    theirs = as_live(WantedRow("Logical_Switch_Port", "v", {}, parent="elsewhere"))
    with pytest.raises(OvnlabError, match="there is a logical switch port v already"):
        words([theirs])


def test_rows_are_read_with_their_parents() -> None:
    printed = "\n".join(
        [
            '{"data":[[["uuid","u1"],"s",["uuid","u2"],["map",[["ovnlab","lab"]]]]],"headings":["_uuid","name","ports","external_ids"]}',
            '{"data":[[["uuid","u2"],"v","","0a:00:00:00:00:01",["map",[]],true,["map",[]]]],"headings":["_uuid","name","type","addresses","options","up","external_ids"]}',
            '{"data":[],"headings":["_uuid","name","ports","external_ids"]}',
            '{"data":[],"headings":["_uuid","name","mac","networks","external_ids"]}',
        ]
    )
    switch, port = parse(printed)
    assert (switch.mark, port.mark) == ("lab", None)
    assert (port.parent, port.columns["addresses"]) == ("s", ("0a:00:00:00:00:01",))


def test_the_wire_format_of_ovsdb() -> None:
    assert value(["set", [["uuid", "a"], 1]]) == ["a", 1]
    assert value(["map", [["k", ["set", []]]]]) == {"k": []}
    assert listed("one") == ["one"]
    assert rows('{"headings":["a"],"data":[[["set",[]]]]}') == [{"a": []}]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=4))
def test_every_value_is_one_word_of_a_script(values: list[str]) -> None:
    """No value gets out of its quotes: sh itself says what it reads."""
    import shlex  # noqa: PLC0415

    script = render("node/transaction.sh.j2", commands=[["set", *values]])
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
