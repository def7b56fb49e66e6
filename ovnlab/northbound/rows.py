"""Northbound rows that a topology wants (ovn-nb(5)). Every one carries the mark external_ids:ovnlab=LAB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ovnlab.topology.resolved import VM, Router, RouterPort, Topology

Value: TypeAlias = str | tuple[str, ...] | Mapping[str, str]
"""A column: a scalar, a set of strings, or a map."""

MARK = "ovnlab"
BY_BIND = "ovnlab-bind"
"""The mark of a port that `ovnlab bind` made: it is not for `up` to remove."""


@dataclass(frozen=True)
class WantedRow:
    """A row by its table and name; `parent` is the name of the switch or router that it belongs to."""

    table: str
    name: str
    columns: Mapping[str, Value] = field(default_factory=dict)
    parent: str | None = None


def wanted(topology: Topology) -> list[WantedRow]:
    """All rows that a topology wants, each behind those that it refers to."""
    return list(_wanted(topology))


def _wanted(topology: Topology) -> Iterator[WantedRow]:
    lab = topology.name
    for switch in topology.switches:
        yield WantedRow("Logical_Switch", switch.name, {"external_ids": {MARK: lab}})
        for vm in switch.vms:
            yield vm_port(lab, switch.name, vm)
    for router in topology.routers:
        yield from _router(lab, router)


def vm_port(lab: str, switch: str, vm: VM, *, mark: str = MARK) -> WantedRow:
    """The logical switch port of a fake VM."""
    columns: dict[str, Value] = {"addresses": (" ".join([vm.mac, *vm.ips]),), "external_ids": {mark: lab}}
    return WantedRow("Logical_Switch_Port", vm.name, columns, parent=switch)


def _router(lab: str, router: Router) -> Iterator[WantedRow]:
    yield WantedRow("Logical_Router", router.name, {"external_ids": {MARK: lab}})
    for port in router.ports:
        yield _router_port(lab, router.name, port)
        yield WantedRow(
            "Logical_Switch_Port",
            port.peer,
            {
                "type": "router",
                "addresses": ("router",),
                "options": {"router-port": port.name},
                "external_ids": {MARK: lab},
            },
            parent=port.switch,
        )


def _router_port(lab: str, router: str, port: RouterPort) -> WantedRow:
    columns: Mapping[str, Value] = {"mac": port.mac, "networks": port.networks, "external_ids": {MARK: lab}}
    return WantedRow("Logical_Router_Port", port.name, columns, parent=router)
