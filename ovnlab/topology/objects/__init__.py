"""Kinds of Northbound objects, a module each: keys of the file, what they must agree with, and the rows they mean.

A new kind is a module with a class of `Keys`, and its name in one of the lists below: those of the part of the file
that has the keys. Its tables are in `northbound.schema`, which knows all of OVN's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovnlab.topology.findings import Finding
from ovnlab.topology.objects.base import Keys, Scope
from ovnlab.topology.objects.static_mac_bindings import StaticMacBindings
from ovnlab.topology.resolved import NorthboundRow

if TYPE_CHECKING:
    from ovnlab.topology.model import TopologyFile


class RouterKeys(
    StaticMacBindings,
):
    """Kinds whose keys are those of a router."""


def check(file: TopologyFile) -> Iterator[Finding]:
    """Yield all that keys of these kinds contradict."""
    for part, scope in _parts(file):
        for kind in _kinds(part):
            yield from kind.find_mistakes(part, scope)


def rows(file: TopologyFile) -> Iterator[NorthboundRow]:
    """Yield the rows that keys of these kinds mean, of a file without mistakes."""
    for part, scope in _parts(file):
        for kind in _kinds(part):
            yield from kind.northbound_rows(part, scope)


def _kinds(part: Keys) -> Iterator[type[Keys]]:
    """Yield the kinds whose keys a part has."""
    return (kind for kind in reversed(type(part).__mro__) if Keys in kind.__bases__ and kind.__annotations__)


def _parts(file: TopologyFile) -> Iterator[tuple[Keys, Scope]]:
    """Yield the parts of a file that may have keys of these kinds."""
    logical = file.logical
    for name, router in logical.routers.items():
        zone = router.zone or ""
        where = ("logical", "routers", name)
        yield router, Scope(file, where, "Logical_Router", name, zone, name)
