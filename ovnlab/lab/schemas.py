"""The schema of a lab's Northbound database: that of the software which it runs, or as its server says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from ovnlab.errors import CommandFailed
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound.ovsschema import NorthboundSchema, parse
from ovnlab.state import Base
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

SCHEMA_FILE = "share/ovn/ovn-nb.ovsschema"
"""The file that packages and builds make new databases from, in their folders."""


def northbound_schema(base: Base | None, build: str | None, centrals: Iterable[RunningNode]) -> NorthboundSchema | None:
    """Return the schema of the software with this base and build, None where no database runs yet that would say it.

    `build` is empty where nothing is built, and None where it is whatever runs. `centrals` are the nodes that may be
    asked; one that runs another build does not know.
    """
    text = _of_software(base, build) if build is not None else None
    for node in () if text else centrals:
        with contextlib.suppress(CommandFailed):  # its database does not run, or is another's; another node may know
            text = run_script(
                node.context,
                render("node/print-northbound-schema.sh.j2", build=build or "", certain=build is not None),
                where=f"{node.name}: reading the schema of the Northbound database",
            ).encode()
            break
    return parse(text) if text else None


def _of_software(base: Base | None, build: str) -> bytes | None:
    """Return the schema that a build or unpacked packages have, None where they are not here."""
    if build:
        from ovnlab.software.artefacts import builds_root  # noqa: PLC0415  where something is built

        folder = builds_root() / build
        if not folder.is_dir():
            return None
        with contextlib.suppress(OSError):  # OVN is not part of it
            return (folder / SCHEMA_FILE).read_bytes()
    try:
        return Path(base.tree, "usr", SCHEMA_FILE).read_bytes() if base and base.tree else None
    except OSError:
        return None
