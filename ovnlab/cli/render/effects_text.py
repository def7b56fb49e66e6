"""Announcement of what a topology runs or reads beyond the lab, at this user's first `up` of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ovnlab.reporting import Reporter
from ovnlab.state import announced
from ovnlab.topology.resolved import Topology


def announce(topology: Topology, path: str, reporter: Reporter) -> None:
    """Note each effect of a file, unless the same were noted of it before. Nobody is asked."""
    from ovnlab.topology.effects import effects  # noqa: PLC0415

    file = Path(path).absolute()
    found = list(effects(topology, file.parent))
    if not found:
        return
    key = hashlib.sha256("\0".join([str(file), *found]).encode(errors="surrogateescape")).hexdigest()
    if announced(key):
        return
    reporter.note(f"{path} reaches beyond the lab:")
    for text in found:
        reporter.note(f"  {text}")
