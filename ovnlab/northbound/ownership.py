"""Ownership within rows: the columns and keys that the file names are ovnlab's, the rest is a person's.

A row remembers in its external_ids which of the parts that can be left out the file named when it was written, so that
they are taken away again when the file names them no longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ovnlab.northbound.schema import Table

KEYS_KEY = "ovnlab-keys"
"""The key of external_ids that holds the record."""


_SPLIT = re.compile("[:=]")


def written(value: object) -> str:
    """Return the text that stands for a value of a column that OVN writes."""
    return repr(value)


def is_empty(value: object) -> bool:
    """Return True for a value that names nothing: an empty set, map or string, or false."""
    return value is None or value is False or value in ((), {}, "", [])


def record(table: Table, columns: Mapping[str, object], more: frozenset[str] = frozenset()) -> str:
    """Return the record of what columns of a row are set, and which keys of maps or which references.

    Columns that every row of the table has are left out: they are never taken away. Those in `more` are not such.
    """
    return " ".join(sorted(_parts(table, columns, more)))


def _parts(table: Table, columns: Mapping[str, object], more: frozenset[str]) -> Iterator[str]:
    for column, value in columns.items():
        if column in table.fixed or is_empty(value):
            continue
        if column in table.written:
            yield f"{column}={_quoted(written(value))}"
        elif isinstance(value, Mapping) or (column in table.references and column in table.many):
            yield from (f"{column}:{_quoted(str(key))}" for key in value)  # type: ignore[attr-defined]
        elif isinstance(value, tuple | bool) or column in table.optional | more:
            yield column


def recorded(text: str) -> dict[str, tuple[str, ...]]:
    """Return the columns of a record, with the keys or references of each; none for a column that is ours as a whole.

    Of a column that OVN writes it is the value that the file named.

    >>> recorded("options:mtu options:a%20b tag")
    {'options': ('mtu', 'a b'), 'tag': ()}
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        column, key = _SPLIT.split(word, maxsplit=1) if _SPLIT.search(word) else (word, "")
        found[column] = (*found.get(column, ()), *([_plain(key)] if key else []))
    return found


def _quoted(key: str) -> str:
    """Return a key as one word without white space."""
    return "".join(_hex(letter) if letter.isspace() or letter == "%" else letter for letter in key)


def _hex(letter: str) -> str:
    return "".join(f"%{byte:02x}" for byte in letter.encode())


def _plain(word: str) -> str:
    """Return the key that a word stands for; a person may have written anything."""
    plain = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), word.encode())
    return plain.decode(errors="replace")
