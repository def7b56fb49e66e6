"""Rows in the words of the Northbound schema: every table and column of it can be said, is owned, and is taken away."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnlab.northbound.ovsschema import ColumnType, NorthboundSchema, parse
from tests.lab.harness import Account, Labs
from tests.lab.shared import Share

TEXT = """
nodes: {central: {role: central}}
logical:
  switches:
    net: {subnet: 10.1.0.0/24, ports: {a: {}, b: {}}}
  routers:
    r: {ports: {net: {ip: 10.1.0.1/24}}}
"""

NOTHING = "lab rows is up: nothing to do\n"


@pytest.fixture
def lab(ordinary: Account, share: Share) -> Labs:
    return share(ordinary, "rows", TEXT)


def with_rows(labs: Labs, rows: object) -> str:
    return labs.write("rows.yaml", f"{TEXT}  rows: {json.dumps(rows)}\n")


def schema_of(labs: Labs) -> NorthboundSchema:
    printed = labs.on("central", "ovsdb-client", "get-schema", "unix:/run/ovn/ovnnb_db.sock", "OVN_Northbound")
    return parse(printed)


SAMPLES = {
    ("Connection", "target"): "ptcp:16641:127.0.0.1",
    ("Logical_Switch", "acls"): ["yACL"],  # an ACL belongs to one switch or port group
    ("Logical_Router_Port", "mac"): "0a:00:00:00:00:77",
    ("Logical_Router_Port", "networks"): ["10.77.0.1/24"],
    ("Logical_Router_Static_Route", "ip_prefix"): "10.78.0.0/24",
    ("Load_Balancer", "vips"): {"10.79.0.1:80": "10.79.0.2:80"},
    ("NAT", "external_ip"): "10.80.0.1",
    ("NAT", "logical_ip"): "10.80.0.2",
}
"""Values of columns that the tools refuse to read otherwise."""


def sample(table: str, column: str, type_: ColumnType) -> object:
    if (table, column) in SAMPLES:
        return SAMPLES[table, column]
    if type_.references:
        return [f"x{type_.references}"] if type_.is_set else f"x{type_.references}"
    kinds: dict[str, object] = {"integer": type_.lowest or 1, "boolean": True}
    value = type_.choices[-1] if type_.choices else kinds.get(type_.key, "x")
    return (
        {type_.choices[-1] if type_.choices else "x": kinds.get(type_.value, "x")}
        if type_.value
        else [value]
        if type_.at_most != 1
        else value
    )


def test_every_column_of_every_table_is_reachable(lab: Labs) -> None:
    schema = schema_of(lab)
    tables = schema.tables()
    rows: dict[str, dict[str, dict[str, object]]] = {}
    for table, columns in schema.columns.items():
        name = "." if tables[table].single else f"x{table}"
        rows[table] = {
            name: {
                column: sample(table, column, type_)
                for column, type_ in columns.items()
                if not (column == "name" and tables[table].named)
            }
        }
    rows["ACL"]["yACL"] = rows["ACL"]["xACL"]
    path = with_rows(lab, rows)
    lab.run("up", path)
    unreachable = []
    for table, columns in schema.columns.items():
        given = next(iter(rows[table].values()))
        found = lab.rows("nbctl", "list", table)
        for column in columns:
            if column in tables[table].written or column == "name":
                continue  # OVN has given it a value of its own meanwhile
            if not any(holds(row[column], given[column], columns[column]) for row in found):
                unreachable.append((table, column, given[column], [row[column] for row in found]))
    assert unreachable == []
    assert sum(map(len, schema.columns.values())) > 150
    assert lab.out("up", path) == NOTHING
    lab.run("nbctl", "--wait=sb", "sync")
    assert lab.out("up", path) == NOTHING
    lab.run("up", lab.write("rows.yaml", TEXT))
    left = [table for table in rows for row in lab.rows("nbctl", "list", table) if "x" in json.dumps(row).split('"')]
    assert left == []
    assert lab.out("up", lab.write("rows.yaml", TEXT)) == NOTHING


def holds(found: Any, given: object, type_: ColumnType) -> bool:
    """Whether a column has what was given, of a reference any row."""
    kind, members = found if isinstance(found, list) else ("", [found])
    if type_.references:
        return kind in ("uuid", "set") and bool(members)
    if kind == "map":
        return isinstance(given, dict) and all([key, value] in members for key, value in given.items())
    wanted = given if isinstance(given, list) else [given]
    return set(map(str, wanted)) <= set(map(str, members))


ROWS = {
    "Logical_Router": {"r": {"policies": ["mine"]}},
    "Logical_Router_Policy": {"mine": {"priority": 7, "match": "ip4", "action": "drop"}},
    "Logical_Switch_Port": {"a": {"options": {"mcast_flood": True}, "enabled": False}},
    "Copp": {"gentle": {"meters": {"arp": "slow"}}},
    "Meter": {"slow": {"unit": "pktps", "bands": ["one"]}},
    "Meter_Band": {"one": {"action": "drop", "rate": 5}},
}


def test_rows_are_owned_put_right_and_taken_away(lab: Labs) -> None:
    path = with_rows(lab, ROWS)
    assert sorted(lab.json("up", path)["steps"]) == [
        "add Copp gentle: it is missing".replace("Copp", "control plane protection"),
        "add meter band one: it is missing",
        "add meter slow: it is missing",
        "add router policy mine: it is missing",
        "change logical switch port a: options:mcast_flood: not set → true; enabled: not set → false",
    ]
    assert "drop" in lab.out("nbctl", "lr-policy-list", "r")
    assert lab.out("up", path) == NOTHING
    lab.run("nbctl", "set", "Meter_Band", *uuids(lab, "Meter_Band"), "rate=9", "external_ids:mine=yes")
    assert lab.json("up", path)["steps"] == ["change meter band one: rate: 9 → 5"]
    fewer = {**ROWS, "Logical_Switch_Port": {"a": {"options": {}}}}
    assert lab.json("up", with_rows(lab, fewer))["steps"] == [
        "change logical switch port a: options:mcast_flood: true → not set; enabled: false → not set"
    ]
    lab.run("up", lab.write("rows.yaml", TEXT))
    assert [lab.rows("nbctl", "list", table) for table in ("Copp", "Meter", "Meter_Band", "Logical_Router_Policy")] == [
        [],
        [],
        [],
        [],
    ]


def uuids(labs: Labs, table: str) -> list[str]:
    return [row["_uuid"][1] for row in labs.rows("nbctl", "--columns=_uuid", "list", table)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"Metre": {"x": {}}}, "unknown table Metre (did you mean Meter?)"),
        ({"Meter": {"x": {"unite": "pktps"}}}, "unknown column unite of Meter (did you mean unit?)"),
        ({"Meter": {"x": {"unit": "pktp", "bands": []}}}, "invalid unit: expected one of kbps, pktps"),
        ({"Meter_Band": {"x": {"rate": "fast"}}}, "invalid rate: expected a whole number"),
        ({"Meter_Band": {"x": {"rate": 0}}}, "invalid rate: expected 1 to 4294967295"),
        ({"Meter": {"x": {"unit": "pktps", "bands": ["y"]}}}, "unknown Meter_Band y"),
        ({"Logical_Router_Policy": {"x": {"match": "ip4"}}}, "belongs to nothing"),
        ({"Logical_Switch": {"net": {"copp": "nobody"}}}, "unknown Copp nobody"),
        ({"Logical_Switch": {"net": {"other_config": ["x"]}}}, "invalid other_config: expected a mapping"),
        ({"Meter": {"x": {"name": "y", "unit": "pktps"}}}, "invalid column name: the row is named by its key"),
        ({"Meter": {"x": {"unit": "pktps", "external_ids": {"ovnlab": "y"}}}}, "keys that begin with ovnlab"),
    ],
)
def test_what_the_schema_does_not_have_is_told_with_its_place(lab: Labs, rows: object, said: str) -> None:
    path = with_rows(lab, rows)
    told = lab.run("up", path, expect=2).stderr
    assert f"{path}:8:" in told
    assert said in told
    assert lab.out("up", lab.write("rows.yaml", TEXT)) == NOTHING
