"""Ports that are bound nowhere, twice, or elsewhere than their interface is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.names import LogicalPort
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row, listed


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    interfaces: dict[str, list[tuple[NodeSnapshot, Row]]] = defaultdict(list)
    for seen in snapshot.nodes.values():
        for row in seen.interfaces.values():
            if name := row["external_ids"].get("iface-id"):
                interfaces[name].append((seen, row))
    for name, found in interfaces.items():
        yield from _twice(snapshot, name, found)
        for seen, row in found:
            yield from _interface(seen, name, row)
    ports = {row.name: row for row in snapshot.rows if row.table == "Logical_Switch_Port"}
    bindings = {
        name: port for zone in snapshot.zones.values() for name, port in zone.names.ports.items() if not port.type
    }
    for name, port in ports.items():
        if not port.columns["type"]:
            yield from _port(snapshot, name, port, bindings.get(name), interfaces.get(name, []))


def _effects(name: str) -> tuple[str, ...]:
    return (f"vm {name}", f"size vm {name}", f"inside {name}", f"claim {name}")


def _twice(snapshot: LabSnapshot, name: str, found: list[tuple[NodeSnapshot, Row]]) -> Iterator[Finding]:
    if len(found) < 2:
        return
    told = tuple(f"{seen.name}: Interface {row['name']} external_ids:iface-id={name}" for seen, row in found)
    vm = snapshot.topology.vm(name)
    home = vm.chassis if vm is not None and vm.chassis else ""
    second = next(
        ((seen, row) for seen, row in found if seen.name != home or row["name"] != (vm.port if vm else name)), found[-1]
    )
    yield Finding(
        "iface-id-twice",
        f"port {name}",
        f"is claimed by {len(found)} interfaces with its iface-id",
        told,
        f"ovnlab vsctl {second[0].name} remove Interface {second[1]['name']} external_ids iface-id",
        keys=frozenset({f"claim {name}"}),
        effects=(*_effects(name), *(f"claims {seen.name}" for seen, _ in found)),
        drift=(
            *(f"unbind {name} from {seen.name}" for seen, _ in found),
            *(f"configure {seen.name}: {row['name']} has the iface-id" for seen, row in found),
        ),
    )


def _interface(seen: NodeSnapshot, name: str, row: Row) -> Iterator[Finding]:
    errors = [str(error) for error in listed(row["error"])]
    number = row["ofport"]
    where = f"interface {row['name']} of {seen.name}"
    drift = (f"bind {name} to {seen.name}", f"unbind {name} from {seen.name}")
    if errors:
        yield Finding(
            "interface-error",
            where,
            f"the switch cannot open it: {errors[0]}",
            (f"{seen.name}: Interface {row['name']} type={row['type'] or 'system'} error={errors[0]!r}",),
            "ovnlab up",
            keys=frozenset({f"interface {name}", f"inside {name}"}),
            effects=_effects(name),
            drift=drift,
        )
    elif not isinstance(number, int) or number < 1:
        yield Finding(
            "interface-no-number",
            where,
            "the switch has given it no OpenFlow number",
            (f"{seen.name}: Interface {row['name']} ofport={number or 'none'}",),
            "ovnlab up",
            keys=frozenset({f"claims {seen.name}", f"interface {name}"}),
            effects=_effects(name),
            drift=drift,
        )


def _port(
    snapshot: LabSnapshot, name: str, row: LiveRow, port: LogicalPort | None, found: list[tuple[NodeSnapshot, Row]]
) -> Iterator[Finding]:
    enabled = row.columns["enabled"]
    if enabled and enabled[0] is False:
        yield Finding(
            "port-disabled",
            f"logical switch port {name}",
            "is disabled: OVN drops all that it sends and gets",
            (f"Logical_Switch_Port {row.uuid[:8]} enabled=false",),
            f"ovnlab nbctl lsp-set-enabled {name} enabled",
            keys=frozenset({f"claim {name}"}),
            effects=_effects(name),
            drift=(f"change logical switch port {name}",),
        )
    zone = snapshot.zones.get(row.zone)
    if zone is None or not zone.southbound:
        return
    if port is None:
        yield Finding(
            "no-port-binding",
            f"port {name}",
            "has no Port_Binding: ovn-northd has not translated it",
            (f"Logical_Switch_Port {row.uuid[:8]}; no Port_Binding with logical_port={name}",),
            f"ovnlab logs {snapshot.topology.central.name} ovn-northd",
            keys=frozenset({f"claim {name}", "logic"}),
            effects=_effects(name),
        )
        return
    vm = snapshot.topology.vm(name)
    wanted = str(row.columns["options"].get("requested-chassis", ""))
    homes = [seen.name for seen, _ in found]
    if not found:
        if (
            vm is not None
            and vm.chassis
            and not port.parent
            and vm.chassis in snapshot.nodes
            and snapshot.nodes[vm.chassis].switch
        ):
            yield Finding(
                "port-unbound",
                f"port {name}",
                f"is bound nowhere: no interface of {vm.chassis} has its iface-id",
                (f"{vm.chassis}: no Interface with external_ids:iface-id={name}",),
                "ovnlab up",
                keys=frozenset({f"claim {name}"}),
                effects=_effects(name),
                drift=(f"bind {name} to {vm.chassis}", f"unbind {name}"),
            )
        return
    if wanted and port.chassis not in homes and not set(wanted.split(",")) & set(homes):
        yield Finding(
            "requested-chassis",
            f"port {name}",
            f"asks for chassis {wanted}, and its interface is on {', '.join(homes)}",
            (f"Logical_Switch_Port {name} options:requested-chassis={wanted}",),
            f"ovnlab nbctl remove Logical_Switch_Port {name} options requested-chassis",
            keys=frozenset({f"claim {name}"}),
            effects=_effects(name),
            drift=(f"change logical switch port {name}",),
        )
    elif port.chassis is None:
        keys = frozenset({f"claim {name}", *(f"claims {home}" for home in homes)})
        yield Finding(
            "port-unclaimed",
            f"port {name}",
            f"is not claimed: its interface is on {', '.join(homes)}, and its Port_Binding has no chassis",
            (f"Port_Binding {port.uuid[:8]} chassis=[]",),
            f"ovnlab logs {homes[0]} ovn-controller",
            keys=keys,
            effects=_effects(name)[:2],
        )
    elif port.chassis not in homes:
        keys = frozenset({f"claim {name}", *(f"claims {home}" for home in homes)})
        yield Finding(
            "port-elsewhere",
            f"port {name}",
            f"is claimed by chassis {port.chassis}, and its interface is on {', '.join(homes)}",
            (f"Port_Binding {port.uuid[:8]} chassis={port.chassis}",),
            f"ovnlab explain {name}",
            keys=keys,
            effects=_effects(name)[:2],
        )


CAUSE = Cause(
    name="claims",
    title="A port that is bound nowhere, twice, or elsewhere",
    reads="iface-id, ofport and error of the interfaces of all nodes; Port_Binding; Logical_Switch_Port",
    certainty="certain",
    explains="every pair of the port",
    remedy="ovnlab up; ovs-vsctl remove of the second iface-id",
    find=_find,
)
