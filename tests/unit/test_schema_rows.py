"""Rows in the words of the Northbound schema: which availability zone they are in, and what they belong to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ovnlab.errors import TopologyError
from ovnlab.northbound.change import changes
from ovnlab.northbound.hatch import with_schema_rows
from ovnlab.northbound.ovsschema import parse
from ovnlab.northbound.ownership import record, recorded
from ovnlab.northbound.rows import WantedRow, wanted
from ovnlab.northbound.schema import TABLES as KNOWN
from ovnlab.topology.load import load_text


def references(table: str, kind: str, most: int | str = 1) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table, "refType": kind}, "min": 0, "max": most}}


NAMED = {"name": {"type": "string"}, "external_ids": {"type": {"key": "string", "value": "string", "min": 0}}}

TABLES = {
    "Logical_Router": {
        "columns": {
            **NAMED,
            "copp": references("Copp", "weak"),
            "policies": references("Logical_Router_Policy", "strong", "unlimited"),
            "ports": references("Logical_Router_Port", "strong", "unlimited"),
        },
        "isRoot": True,
    },
    "Logical_Router_Port": {"columns": NAMED},
    "Logical_Router_Policy": {"columns": {"external_ids": NAMED["external_ids"], "match": {"type": "string"}}},
    "Copp": {"columns": NAMED, "isRoot": True},
    "NAT": {"columns": {"gateway_port": references("Logical_Router_Port", "weak"), **NAMED}, "isRoot": True},
}

SCHEMA = parse(json.dumps({"version": "7.0.0", "tables": TABLES}))

ZONES = """\
nodes: {c1: {role: central, zone: z1}, c2: {role: central, zone: z2}}
logical:
  routers: {r1: {zone: z1}, r2: {zone: z2}}
  rows:
"""


def rows(*lines: str) -> list[WantedRow]:
    text = ZONES + "".join(f"    {line}\n" for line in lines)
    topology = load_text("lab.yaml", text.encode()).topology
    return with_schema_rows(topology, wanted(topology), SCHEMA)


def test_a_row_is_in_the_zone_of_what_refers_to_it() -> None:
    found = rows("Copp: {gentle: {}}", "Logical_Router: {r2: {copp: gentle}}")
    assert [row.zone for row in found if row.table == "Copp"] == ["z2"]
    assert changes("lab", found, [])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["Copp: {gentle: {}}", "Logical_Router: {r1: {copp: gentle}, r2: {copp: gentle}}"],
            "6: unknown Copp gentle: there is none in availability zone z2, where r2 is",
        ),
        (
            ["Logical_Router_Policy: {p: {match: ip4}}", "Logical_Router: {r1: {policies: p}, r2: {policies: p}}"],
            "6: Logical_Router_Policy p belongs to Logical_Router r1 already",
        ),
        (
            ["Logical_Router_Port: {p: {}}", "NAT: {n: {gateway_port: p}}"],
            "5: Logical_Router_Port p belongs to nothing, and OVSDB would remove it",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(TopologyError) as refused:
        rows(*lines)
    assert [f"{mistake.line}: {mistake.message}" for mistake in refused.value.mistakes] == [message]


def test_a_record_has_any_key_and_may_have_been_written_by_anybody() -> None:
    key = "50% of\u2003all: é=1"
    assert recorded(record(KNOWN["Logical_Switch"], {"other_config": {key: "x"}})) == {"other_config": (key,)}
    assert recorded("options:a%zz options:% tag") == {"options": ("a%zz", "%"), "tag": ()}
