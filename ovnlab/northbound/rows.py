"""Northbound rows that a topology wants (ovn-nb(5)). Every one carries the mark external_ids:ovnlab=LAB."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from ovnlab.northbound.ownership import KEYS_KEY, is_empty, record
from ovnlab.northbound.schema import TABLES, Table
from ovnlab.topology.addresses import parse_endpoint
from ovnlab.topology.resolved import (
    VM,
    Acl,
    LoadBalancer,
    NorthboundRow,
    Qos,
    Router,
    RouterPort,
    Switch,
    SwitchPort,
    Topology,
)

Scalar: TypeAlias = str | int | bool
Value: TypeAlias = Scalar | tuple[str | int, ...] | Mapping[str, str | int]
"""A column: a scalar, a set, or a map. A reference is a set of the names of rows."""

MARK = "ovnlab"
BY_BIND = "ovnlab-bind"
"""The mark of a port that `ovnlab bind` made: it is not for `up` to remove."""

NAME_KEY = "ovnlab-name"
"""Where rows of tables without a name column have the name that they are told apart by."""


class WantedRow(msgspec.Struct, frozen=True):
    """A row by its zone, table and name; `parent` and `parent_table` say which row it belongs to.

    `more` are columns that only some rows of its kind have: those that get their defaults where it has them no more.
    A column that is empty is one that the file does not name, except those in `emptied`.
    """

    table: str
    name: str
    columns: Mapping[str, Value] = msgspec.field(default_factory=dict)
    parent: str | None = None
    parent_table: str = ""
    zone: str = ""
    mark: tuple[str, str] = ("", "")
    more: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()
    own_schema: Table | None = None

    @property
    def schema(self) -> Table:
        """Return what its table is."""
        return self.own_schema or TABLES[self.table]

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what tells it from every other row."""
        return (self.zone, self.table, self.name)

    @property
    def ids(self) -> dict[str, str]:
        """Return its mark, its name where no column has that, and which parts of it the file names."""
        table = self.schema
        if not table.marked:
            return {}
        ids = {self.mark[0]: self.mark[1]} if self.mark[0] and not table.single else {}
        if parts := record(table, self.columns, self.more):
            ids[KEYS_KEY] = parts
        if not (table.named or table.index or table.single):
            ids[NAME_KEY] = self.name
        return ids

    @property
    def values(self) -> dict[str, Value]:
        """Return all its columns, with its name and what its external_ids say of it."""
        table = self.schema
        named: dict[str, Value] = {"name": self.name} if table.named else {}
        if not table.marked:
            return {**named, **self.columns}
        given = self.columns.get("external_ids", {})
        ids = {**(given if isinstance(given, Mapping) else {}), **self.ids}
        return {**named, **self.columns, "external_ids": ids}

    def names(self, column: str) -> bool:
        """Return True if the file names a column of it."""
        return column in self.emptied or not is_empty(self.columns.get(column))


def wanted(topology: Topology) -> list[WantedRow]:
    """Return all rows that a topology wants, each behind the one that it belongs to."""
    found = {row.key: row for row in _Rows(topology).all()}
    for row in topology.rows:
        if row.key in found:
            found[row.key] = _with_columns(found[row.key], row)
        else:
            parent = row.parent or None
            mark = (MARK, topology.name)
            found[row.key] = WantedRow(row.table, row.name, row.columns, parent, row.parent_table, row.zone, mark)
    return list(found.values())


def _with_columns(row: WantedRow, more: NorthboundRow) -> WantedRow:
    """Return a row with further columns; of a map that several parts write each has its keys, a set has all."""
    columns = dict(row.columns)
    for column, value in more.columns.items():
        here = columns.get(column)
        if isinstance(value, Mapping) and isinstance(here, Mapping):
            columns[column] = {**here, **value}
        elif isinstance(value, tuple) and isinstance(here, tuple) and column in TABLES[row.table].many:
            columns[column] = (*here, *(item for item in value if item not in here))
        else:
            columns[column] = value
    added = frozenset(more.columns) - row.columns.keys()
    return msgspec.structs.replace(row, columns=columns, more=row.more | added)


def vm_port(lab: str, switch: str, vm: VM, *, zone: str, mark: str = BY_BIND) -> WantedRow:
    """Return the logical switch port of a fake VM that `ovnlab bind` makes."""
    return _switch_port(SwitchPort(vm.name, vm.mac, vm.ips), switch, zone, (mark, lab))


def switch_port(topology: Topology, switch: Switch, port: SwitchPort) -> WantedRow:
    """Return a logical switch port of the topology."""
    return _switch_port(port, switch.name, switch.zone, (MARK, topology.name))


def _switch_port(port: SwitchPort, switch: str, zone: str, mark: tuple[str, str]) -> WantedRow:
    columns: dict[str, Value] = {
        "type": port.type,
        "addresses": port.addresses,
        "options": port.options,
        "tag": (port.tag,) if port.tag else (),
        "parent_name": (port.parent,) if port.parent else (),
        "port_security": (" ".join([*port.addresses, *port.virtual_ips]),) if port.port_security else (),
        "dhcpv4_options": _optional(port.dhcpv4),
        "dhcpv6_options": _optional(port.dhcpv6),
        "ha_chassis_group": _optional(port.ha_chassis_group),
        "enabled": (),
    }
    return WantedRow("Logical_Switch_Port", port.name, columns, switch, "Logical_Switch", zone, mark)


def _optional(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


class _Rows:
    """The rows of one topology."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.mark = (MARK, topology.name)
        self.port_zones = {port.name: switch.zone for switch in topology.switches for port in switch.ports}
        # Those that join a switch to something outside are rows of their own.
        self.port_zones |= {row.name: row.zone for row in topology.rows if row.table == "Logical_Switch_Port"}
        self.zones_of_members: dict[str, list[str]] = {}
        for row in topology.rows:
            members = row.columns.get("load_balancer")
            if row.table == "Load_Balancer_Group" and isinstance(members, tuple):
                for name in members:
                    self.zones_of_members.setdefault(str(name), []).append(row.zone)
        self.group_zones = {
            group.name: list(dict.fromkeys(self.port_zones[port] for port in group.ports)) or list(topology.zones[:1])
            for group in topology.port_groups
        }

    def all(self) -> Iterator[WantedRow]:
        topology = self.topology
        for zone in topology.zones:
            yield self._row("NB_Global", ".", {"options": {}}, zone=zone)
        for balancer in topology.load_balancers:
            yield from self._balancer(balancer)
        for group in topology.ha_chassis_groups:
            yield self._row("HA_Chassis_Group", group.name, {}, zone=group.zone)
            for place, chassis in enumerate(group.chassis):
                columns: dict[str, Value] = {"chassis_name": chassis, "priority": len(group.chassis) - place}
                parent = ("HA_Chassis_Group", group.name)
                yield self._row("HA_Chassis", f"{group.name} {chassis}", columns, zone=group.zone, parent=parent)
        for switch in topology.switches:
            yield from self._switch(switch)
        for router in topology.routers:
            yield from self._router(router)
        for zone in topology.zones:
            for addresses in topology.address_sets:
                yield self._row("Address_Set", addresses.name, {"addresses": addresses.addresses}, zone=zone)
        for rule in topology.qos:
            yield self._qos(rule)
        yield from self._port_groups()
        for acl in topology.acls:
            yield from self._acl(acl)

    def _row(
        self,
        table: str,
        name: str,
        columns: Mapping[str, Value],
        *,
        zone: str,
        parent: tuple[str, str] = ("", ""),
    ) -> WantedRow:
        return WantedRow(table, name, columns, parent[1] or None, parent[0], zone, self.mark)

    # ── switches ─────────────────────────────────────────────────────────────────────────────────────

    def _switch(self, switch: Switch) -> Iterator[WantedRow]:
        if not switch.transit:  # ovn-ic makes those
            balancers = [found.name for found in self.topology.load_balancers if switch.name in found.switches]
            columns: dict[str, Value] = {
                "other_config": switch.other_config,
                "load_balancer": tuple(balancers),
                "dns_records": (switch.name,) if switch.dns else (),
            }
            yield self._row("Logical_Switch", switch.name, columns, zone=switch.zone)
        for options in switch.dhcp:
            yield self._row(
                "DHCP_Options", options.name, {"cidr": options.cidr, "options": options.options}, zone=switch.zone
            )
        if switch.dns:
            records = {host.lower(): " ".join(ips) for host, ips in switch.dns.items()}
            yield self._row("DNS", switch.name, {"records": records}, zone=switch.zone)
        if switch.physical_network:
            localnet = SwitchPort(
                f"ln-{switch.name}",
                "unknown",
                (),
                type="localnet",
                options={"network_name": switch.physical_network},
                tag=switch.vlan,
            )
            yield switch_port(self.topology, switch, localnet)
        for port in switch.ports:
            yield switch_port(self.topology, switch, port)

    # ── routers ──────────────────────────────────────────────────────────────────────────────────────

    def _router(self, router: Router) -> Iterator[WantedRow]:
        balancers = [found.name for found in self.topology.load_balancers if router.name in found.routers]
        options = {**({"chassis": router.chassis} if router.chassis else {}), **router.options}
        columns: dict[str, Value] = {"options": options, "load_balancer": tuple(balancers), "enabled": ()}
        yield self._row("Logical_Router", router.name, columns, zone=router.zone)
        for port in router.ports:
            yield from self._router_port(router, port)
        parent = ("Logical_Router", router.name)
        for route in router.routes:
            columns = {
                "ip_prefix": route.prefix,
                "nexthop": route.nexthop,
                "output_port": _optional(route.port),
                "policy": (route.policy,),
            }
            yield self._row("Logical_Router_Static_Route", route.row_name, columns, zone=router.zone, parent=parent)
        for nat in router.nat:
            name = f"{router.name} {nat.type} {nat.external} {nat.logical}"
            columns = {
                "type": nat.type,
                "external_ip": nat.external,
                "logical_ip": nat.logical,
                "logical_port": _optional(nat.port),
                "external_mac": _optional(nat.mac),
            }
            yield self._row("NAT", name, columns, zone=router.zone, parent=parent)

    def _router_port(self, router: Router, port: RouterPort) -> Iterator[WantedRow]:
        advertised = {"address_mode": port.ipv6_ra, "send_periodic": "true"} if port.ipv6_ra else {}
        columns: dict[str, Value] = {
            "mac": port.mac,
            "networks": port.networks,
            "options": port.options,
            "ipv6_ra_configs": advertised,
            "ha_chassis_group": _optional(port.ha_chassis_group),
            "enabled": (),
        }
        parent = ("Logical_Router", router.name)
        yield self._row("Logical_Router_Port", port.name, columns, zone=router.zone, parent=parent)
        for place, chassis in enumerate(port.gateway_chassis):
            columns = {"chassis_name": chassis, "priority": len(port.gateway_chassis) - place}
            own = ("Logical_Router_Port", port.name)
            yield self._row("Gateway_Chassis", f"{port.name}-{chassis}", columns, zone=router.zone, parent=own)
        switch = self.topology.switch(port.switch)
        announces = self.topology.leads_outside(port.switch) and (port.centralized or router.chassis)
        # The gateway tells the physical network where NAT addresses are now (ovn-nb(5), nat-addresses).
        addresses = {"nat-addresses": "router"} if announces else {}
        vips = " ".join(dict.fromkeys(self._vips_inside(switch))) if switch is not None else ""
        # Nobody else answers for a VIP in the switch's own subnet (ovn-nb(5), arp_proxy).
        proxy = {"arp_proxy": vips} if vips else {}
        columns = {
            "type": "router",
            "addresses": ("router",),
            "options": {"router-port": port.name, **addresses, **proxy},
        }
        yield self._row(
            "Logical_Switch_Port", port.peer, columns, zone=router.zone, parent=("Logical_Switch", port.switch)
        )

    def _vips_inside(self, switch: Switch) -> Iterator[str]:
        """Yield the VIPs on a switch that are IPv4 addresses of its own subnets."""
        networks = [ipaddress.ip_network(subnet) for subnet in switch.subnets]
        groups = self._further("Logical_Switch", switch.name, "load_balancer_group")
        grouped = {name for group in groups for name in self._further("Load_Balancer_Group", group, "load_balancer")}
        for balancer in self.topology.load_balancers:
            if switch.name not in balancer.switches and balancer.name not in grouped:
                continue
            for vip in (balancer.vip, *self._further("Load_Balancer", balancer.name, "vips")):
                address = parse_endpoint(vip).address
                if address.version == 4 and any(address in net for net in networks):
                    yield str(address)

    def _further(self, table: str, name: str, column: str) -> Iterator[str]:
        """Yield the keys or members of a column that another part of the file says of a row."""
        for row in self.topology.rows:
            value = row.columns.get(column) if (row.table, row.name) == (table, name) else None
            yield from map(str, value) if isinstance(value, tuple | dict) else ()

    # ── rules and load balancers ─────────────────────────────────────────────────────────────────────

    def _port_groups(self) -> Iterator[WantedRow]:
        """Yield a group in each zone that one of its ports is in, at least in one."""
        for group in self.topology.port_groups:
            for zone in self.group_zones[group.name]:
                ports = tuple(port for port in group.ports if self.port_zones[port] == zone)
                yield self._row("Port_Group", group.name, {"ports": ports}, zone=zone)

    def _acl(self, acl: Acl) -> Iterator[WantedRow]:
        columns: dict[str, Value] = {
            "direction": acl.direction,
            "priority": acl.priority,
            "match": acl.match,
            "action": acl.action,
            "log": acl.log,
            "name": _optional(acl.name),
            "severity": _optional(acl.severity),
        }
        name = f"{'@' if acl.on_group else ''}{acl.owner} {acl.direction} {acl.priority} {acl.match}"
        parent = ("Port_Group" if acl.on_group else "Logical_Switch", acl.owner)
        zones = self.group_zones[acl.owner] if acl.on_group else [self.topology.zone_of(acl.owner)]
        for zone in zones:
            yield self._row("ACL", name, columns, zone=zone, parent=parent)

    def _qos(self, rule: Qos) -> WantedRow:
        columns: dict[str, Value] = {
            "direction": rule.direction,
            "priority": rule.priority,
            "match": rule.match,
            "action": rule.action,
            "bandwidth": rule.bandwidth,
        }
        name = f"{rule.switch} {rule.direction} {rule.priority} {rule.match}"
        zone = self.topology.zone_of(rule.switch)
        return self._row("QoS", name, columns, zone=zone, parent=("Logical_Switch", rule.switch))

    def _balancer(self, balancer: LoadBalancer) -> Iterator[WantedRow]:
        check = balancer.health_check
        columns: dict[str, Value] = {
            "vips": {balancer.vip: ",".join(balancer.backends)},
            "protocol": (balancer.protocol,) if parse_endpoint(balancer.vip).port else (),
            "options": balancer.options,
            "ip_port_mappings": check.mappings if check else {},
        }
        places: Iterable[str] = (*balancer.switches, *balancer.routers)
        own = [*map(self.topology.zone_of, places), *self.zones_of_members.get(balancer.name, ())]
        zones = dict.fromkeys(own) or self.topology.zones[:1]
        for zone in zones:
            yield self._row("Load_Balancer", balancer.name, columns, zone=zone)
            if check:
                yield self._row(
                    "Load_Balancer_Health_Check",
                    f"{balancer.name} {balancer.vip}",
                    {"vip": balancer.vip, "options": check.options},
                    zone=zone,
                    parent=("Load_Balancer", balancer.name),
                )
