"""The tables of the Northbound database that ovnlab writes (ovn-nb(5)): their columns, and what belongs to what."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A table: what a row of it is called, the columns that are compared, and where its rows belong.

    `named` tables are told apart by their name column, rows of others by external_ids:ovnlab-name. `sets` are
    columns whose value is a set whatever its size; in `shared` maps only keys of ours are compared, other maps are
    ours alone. `references` are columns that point to rows of a table: one row, or several where in `many`.
    `belongs` are the columns of other tables that hold its rows; rows of a table that belongs nowhere stand alone.
    """

    kind: str
    columns: tuple[str, ...]
    named: bool = False
    sets: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset({"external_ids"})
    references: Mapping[str, str] = msgspec.field(default_factory=dict)
    many: frozenset[str] = frozenset()
    belongs: tuple[tuple[str, str], ...] = ()


TABLES: dict[str, Table] = {
    "Logical_Switch": Table(
        "logical switch",
        ("name", "other_config", "load_balancer", "dns_records", "external_ids"),
        named=True,
        shared=frozenset({"external_ids", "other_config"}),
        references={"load_balancer": "Load_Balancer", "dns_records": "DNS"},
        many=frozenset({"load_balancer", "dns_records"}),
    ),
    "Logical_Switch_Port": Table(
        "logical switch port",
        (
            "name",
            "type",
            "addresses",
            "options",
            "up",
            "tag",
            "parent_name",
            "port_security",
            "dhcpv4_options",
            "dhcpv6_options",
            "ha_chassis_group",
            "enabled",
            "external_ids",
        ),
        named=True,
        sets=frozenset({"enabled", "addresses", "tag", "parent_name", "port_security"}),
        shared=frozenset({"external_ids", "options"}),
        references={
            "dhcpv4_options": "DHCP_Options",
            "dhcpv6_options": "DHCP_Options",
            "ha_chassis_group": "HA_Chassis_Group",
        },
        belongs=(("Logical_Switch", "ports"),),
    ),
    "Logical_Router": Table(
        "logical router",
        ("name", "options", "load_balancer", "enabled", "external_ids"),
        named=True,
        sets=frozenset({"enabled"}),
        shared=frozenset({"external_ids", "options"}),
        references={"load_balancer": "Load_Balancer"},
        many=frozenset({"load_balancer"}),
    ),
    "Logical_Router_Port": Table(
        "logical router port",
        ("name", "mac", "networks", "options", "ipv6_ra_configs", "ha_chassis_group", "enabled", "external_ids"),
        named=True,
        sets=frozenset({"networks", "enabled"}),
        shared=frozenset({"external_ids", "options"}),
        references={"ha_chassis_group": "HA_Chassis_Group"},
        belongs=(("Logical_Router", "ports"),),
    ),
    "Gateway_Chassis": Table(
        "gateway chassis",
        ("name", "chassis_name", "priority", "external_ids"),
        named=True,
        belongs=(("Logical_Router_Port", "gateway_chassis"),),
    ),
    "HA_Chassis_Group": Table("HA chassis group", ("name", "external_ids"), named=True),
    "HA_Chassis": Table(
        "HA chassis",
        ("chassis_name", "priority", "external_ids"),
        belongs=(("HA_Chassis_Group", "ha_chassis"),),
    ),
    "Logical_Router_Static_Route": Table(
        "static route",
        ("ip_prefix", "nexthop", "output_port", "policy", "external_ids"),
        sets=frozenset({"output_port", "policy"}),
        belongs=(("Logical_Router", "static_routes"),),
    ),
    "NAT": Table(
        "NAT rule",
        ("type", "external_ip", "logical_ip", "logical_port", "external_mac", "external_ids"),
        sets=frozenset({"logical_port", "external_mac"}),
        belongs=(("Logical_Router", "nat"),),
    ),
    "Port_Group": Table(
        "port group",
        ("name", "ports", "external_ids"),
        named=True,
        references={"ports": "Logical_Switch_Port"},
        many=frozenset({"ports"}),
    ),
    "Address_Set": Table(
        "address set", ("name", "addresses", "external_ids"), named=True, sets=frozenset({"addresses"})
    ),
    "ACL": Table(
        "ACL",
        ("direction", "priority", "match", "action", "log", "name", "severity", "external_ids"),
        sets=frozenset({"name", "severity"}),
        belongs=(("Logical_Switch", "acls"), ("Port_Group", "acls")),
    ),
    "QoS": Table(
        "QoS rule",
        ("direction", "priority", "match", "action", "bandwidth", "external_ids"),
        belongs=(("Logical_Switch", "qos_rules"),),
    ),
    "DHCP_Options": Table("DHCP options", ("cidr", "options", "external_ids")),
    "DNS": Table("DNS records", ("records", "external_ids")),
    "Load_Balancer": Table(
        "load balancer",
        ("name", "vips", "protocol", "options", "ip_port_mappings", "external_ids"),
        named=True,
        sets=frozenset({"protocol"}),
        shared=frozenset({"external_ids", "options"}),
    ),
    "Load_Balancer_Health_Check": Table(
        "health check",
        ("vip", "options", "external_ids"),
        belongs=(("Load_Balancer", "health_check"),),
    ),
}
"""In an order in which each table stands behind those that its rows belong to."""


def holders() -> dict[str, tuple[str, ...]]:
    """For each table the columns of it that hold rows of others."""
    found: dict[str, tuple[str, ...]] = {}
    for table in TABLES.values():
        for holder, column in table.belongs:
            if column not in found.get(holder, ()):
                found[holder] = (*found.get(holder, ()), column)
    return found


def read_columns() -> dict[str, tuple[str, ...]]:
    """What is read of each table."""
    held = holders()
    return {
        name: tuple(dict.fromkeys(("_uuid", *table.columns, *held.get(name, ())))) for name, table in TABLES.items()
    }
