"""The schema of a lab's Northbound database: as its server says, and cached for the software that it is of."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import CommandFailed
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound.ovsschema import NorthboundSchema, parse
from ovnlab.state import Base, cache_root
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

SCHEMA_FILE = "usr/share/ovn/ovn-nb.ovsschema"
"""The file that packages make new databases from."""


def northbound_schema(base: Base | None, build: str, centrals: Iterable[RunningNode]) -> NorthboundSchema | None:
    """Return the schema of the software with this base and build, None where no database runs yet that would say it.

    `centrals` are the nodes that may be asked.
    """
    key = f"{base.key if base else ''} {build}"
    cached = cache_root() / "schemas" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if key.strip():
        with contextlib.suppress(OSError, msgspec.DecodeError, KeyError):
            return parse(cached.read_bytes())
    text = _of_packages(base) if not build else None
    for node in () if text else centrals:
        with contextlib.suppress(CommandFailed):  # its database does not run; another's may
            text = run_script(
                node.context,
                render("node/print-northbound-schema.sh.j2"),
                where=f"{node.name}: reading the schema of the Northbound database",
            ).encode()
            break
    if text is None:
        return None
    if key.strip():
        with contextlib.suppress(OSError):  # it is no more than faster the next time
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cached, text)
    return parse(text)


def _of_packages(base: Base | None) -> bytes | None:
    """Return the schema that unpacked packages have, None where nothing is unpacked."""
    try:
        return Path(base.tree, SCHEMA_FILE).read_bytes() if base and base.tree else None
    except OSError:
        return None
