"""The schema that OVN's own Northbound database has (RFC 7047, 3.2): its tables, their columns and types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from ovnlab.northbound.schema import TABLES, Table, holders

WRITTEN = {
    "NB_Global": {"nb_cfg", "nb_cfg_timestamp", "sb_cfg", "sb_cfg_timestamp", "hv_cfg", "hv_cfg_timestamp"},
    "Logical_Switch_Port": {"up", "dynamic_addresses"},
    "Logical_Router_Port": {"ipv6_prefix", "status"},
    "BFD": {"status"},
    "Connection": {"is_connected", "status"},
    "Logical_Switch_Port_Health_Check": {"status"},
    "Network_Function_Group": {"network_function_active"},
}
"""Columns that OVN writes itself: they are given the value of the file once."""


class ColumnType(msgspec.Struct, frozen=True):
    """The type of a column: of its key and, for a map, its value, and how many there may be (0 for any number)."""

    key: str
    value: str = ""
    at_least: int = 1
    at_most: int = 1
    references: str = ""
    is_strong: bool = False
    choices: tuple[str, ...] = ()
    lowest: int | None = None
    highest: int | None = None
    range_of_values: tuple[int | None, int | None] = (None, None)

    @property
    def is_set(self) -> bool:
        """Return True for a set, an optional value included."""
        return not self.value and (self.at_least, self.at_most) != (1, 1)

    def convert(self, given: Any) -> Any:
        """Return a value of YAML as one of the column: a scalar, a tuple or a dict; references by name, as a tuple.

        Raises ValueError that says what is expected.
        """
        if self.value:
            if not isinstance(given, dict):
                raise ValueError(f"expected a mapping of {self.key} to {self.value}")
            found: Any = {
                str(self._member(key)): _in_range(_atom(item, self.value), *self.range_of_values)
                for key, item in given.items()
            }
            count = len(found)
        elif self.is_set or self.references:
            members = list(given) if isinstance(given, list | tuple) else [given]
            found = tuple(dict.fromkeys(self._member(member) for member in members))
            count = len(found)
        else:
            return self._member(given)
        if count < self.at_least or (self.at_most and count > self.at_most):
            most = f" to {self.at_most}" if self.at_most else " or more"
            raise ValueError(f"expected {self.at_least}{most} values, found {count}")
        return found

    def _member(self, given: Any) -> Any:
        value = _atom(given, self.key)
        if self.choices and value not in self.choices:
            close = difflib.get_close_matches(str(value), self.choices, n=1)
            raise ValueError(
                f"expected one of {', '.join(self.choices)}{f'; did you mean {close[0]}?' if close else ''}"
            )
        return _in_range(value, self.lowest, self.highest)


def _in_range(value: Any, low: int | None, high: int | None) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and ((low is not None and value < low) or (high is not None and value > high)):
        raise ValueError(f"expected {f'at least {low}' if high is None else f'{low or 0} to {high}'}")
    return value


def _atom(given: Any, kind: str) -> Any:
    match kind:
        case "integer" if isinstance(given, int) and not isinstance(given, bool):
            return given
        case "boolean" if isinstance(given, bool):
            return given
        case "string" | "uuid" if isinstance(given, bool):
            return "true" if given else "false"
        case "string" | "uuid" if isinstance(given, str | int | float):
            return str(given)
    names = {"integer": "a whole number", "boolean": "true or false", "string": "text", "uuid": "the name of a row"}
    raise ValueError(f"expected {names.get(kind, kind)}")


class NorthboundSchema(msgspec.Struct, frozen=True):
    """The columns of each table, by name; `roots` are tables whose rows need no other row that refers to them."""

    version: str
    columns: Mapping[str, Mapping[str, ColumnType]]
    roots: frozenset[str]

    def tables(self) -> dict[str, Table]:
        """Return every table with all of its columns: those that ovnlab knows, and the others as the schema says."""
        known = {name: table for name, table in TABLES.items() if name in self.columns}
        names = [*known, *(name for name in self.columns if name not in known)]
        return {name: self._table(name, TABLES.get(name)) for name in names}

    def _table(self, name: str, known: Table | None) -> Table:
        columns = self.columns[name]
        base = known or Table(name, (), named="name" in columns, marked="external_ids" in columns)
        held = holders().get(name, ())
        more = [column for column in columns if column not in (*base.columns, *held)]
        maps = {column for column in more if columns[column].value}
        references = {column: columns[column].references for column in more if columns[column].references}
        index = base.index
        if not (base.named or base.index or base.single or base.marked):  # nothing else tells its rows apart
            index = tuple(column for column in sorted(columns) if not (columns[column].is_set or columns[column].value))
        return msgspec.structs.replace(
            base,
            columns=(*base.columns, *more),
            index=index,
            sets=base.sets | {column for column in more if columns[column].is_set and column not in references},
            shared=base.shared | maps,
            references={**base.references, **references},
            many=base.many | {column for column in references if columns[column].at_most != 1},
            written=frozenset(WRITTEN.get(name, ())),
        )


def parse(text: str | bytes) -> NorthboundSchema:
    """Return the schema in the JSON that `ovsdb-client get-schema` prints."""
    found = msgspec.json.decode(text)
    tables = {
        name: {column: _type(given["type"]) for column, given in table["columns"].items()}
        for name, table in found["tables"].items()
    }
    roots = frozenset(name for name, table in found["tables"].items() if table.get("isRoot"))
    return NorthboundSchema(found["version"], tables, roots)


def _type(given: Any) -> ColumnType:
    if isinstance(given, str):
        return ColumnType(given)
    key, value, most = given["key"], given.get("value", ""), given.get("max", 1)
    base: dict[str, Any] = {"type": key} if isinstance(key, str) else key
    choices = base.get("enum", ())
    if isinstance(choices, list):
        choices = choices[1] if choices[0] == "set" else choices
    return ColumnType(
        base["type"],
        value if isinstance(value, str) else value["type"],
        given.get("min", 1),
        0 if most == "unlimited" else most,
        base.get("refTable", ""),
        base.get("refType", "strong") == "strong",
        (choices,) if isinstance(choices, str) else tuple(map(str, choices)),
        base.get("minInteger"),
        base.get("maxInteger"),
        (None, None) if isinstance(value, str) else (value.get("minInteger"), value.get("maxInteger")),
    )
