"""The tables of the Northbound database that ovnlab writes (ovn-nb(5)): their columns, and what belongs to what."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A table: what a row of it is called, the columns that are compared, and where its rows belong.

    `named` tables are told apart by their name column, those with an `index` by its columns, others by
    external_ids:ovnlab-name. `sets` are columns whose value is a set whatever its size, `shared` are maps. `references`
    are columns that point to rows of a table: one row, or several where in `many`. `belongs` are the columns of other
    tables that hold its rows; rows of a table that belongs nowhere stand alone. Rows of a table that is not `marked`
    have no external_ids: NB_Global has their marks. Of a `single` table there is always one row, which is everybody's.
    `fixed` are sets that every row of ours has, `optional` strings that a row may be without, `written` columns that
    OVN writes, which are given a value once.
    """

    kind: str
    columns: tuple[str, ...]
    named: bool = False
    index: tuple[str, ...] = ()
    marked: bool = True
    single: bool = False
    sets: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset({"external_ids"})
    references: Mapping[str, str] = msgspec.field(default_factory=dict)
    many: frozenset[str] = frozenset()
    belongs: tuple[tuple[str, str], ...] = ()
    fixed: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()


TABLES: dict[str, Table] = {
    "NB_Global": Table(
        "Northbound options", ("options", "external_ids"), single=True, shared=frozenset({"external_ids", "options"})
    ),
    "Logical_Switch": Table(
        "logical switch",
        ("name", "other_config", "load_balancer", "load_balancer_group", "dns_records", "copp", "external_ids"),
        named=True,
        shared=frozenset({"external_ids", "other_config"}),
        references={
            "load_balancer": "Load_Balancer",
            "load_balancer_group": "Load_Balancer_Group",
            "dns_records": "DNS",
            "copp": "Copp",
        },
        many=frozenset({"load_balancer", "load_balancer_group", "dns_records"}),
    ),
    "Logical_Switch_Port": Table(
        "logical switch port",
        (
            "name",
            "type",
            "addresses",
            "options",
            "up",
            "tag_request",
            "tag",
            "parent_name",
            "port_security",
            "mirror_rules",
            "dhcpv4_options",
            "dhcpv6_options",
            "ha_chassis_group",
            "enabled",
            "external_ids",
        ),
        named=True,
        sets=frozenset({"enabled", "addresses", "tag_request", "tag", "parent_name", "port_security"}),
        shared=frozenset({"external_ids", "options"}),
        references={
            "dhcpv4_options": "DHCP_Options",
            "dhcpv6_options": "DHCP_Options",
            "ha_chassis_group": "HA_Chassis_Group",
            "mirror_rules": "Mirror",
        },
        many=frozenset({"mirror_rules"}),
        belongs=(("Logical_Switch", "ports"),),
        fixed=frozenset({"addresses"}),
        optional=frozenset({"type"}),
    ),
    "Forwarding_Group": Table(
        "forwarding group",
        ("name", "vip", "vmac", "liveness", "child_port", "external_ids"),
        named=True,
        sets=frozenset({"child_port"}),
        belongs=(("Logical_Switch", "forwarding_groups"),),
    ),
    "Logical_Router": Table(
        "logical router",
        ("name", "options", "load_balancer", "load_balancer_group", "copp", "enabled", "external_ids"),
        named=True,
        sets=frozenset({"enabled"}),
        shared=frozenset({"external_ids", "options"}),
        references={"load_balancer": "Load_Balancer", "load_balancer_group": "Load_Balancer_Group", "copp": "Copp"},
        many=frozenset({"load_balancer", "load_balancer_group"}),
    ),
    "Logical_Router_Port": Table(
        "logical router port",
        (
            "name",
            "mac",
            "networks",
            "peer",
            "options",
            "ipv6_ra_configs",
            "ipv6_prefix",
            "ha_chassis_group",
            "enabled",
            "external_ids",
        ),
        named=True,
        sets=frozenset({"networks", "peer", "ipv6_prefix", "enabled"}),
        shared=frozenset({"external_ids", "options"}),
        references={"ha_chassis_group": "HA_Chassis_Group"},
        belongs=(("Logical_Router", "ports"),),
        fixed=frozenset({"networks"}),
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
        ("route_table", "ip_prefix", "nexthop", "output_port", "policy", "bfd", "options", "external_ids"),
        sets=frozenset({"output_port", "policy"}),
        shared=frozenset({"external_ids", "options"}),
        references={"bfd": "BFD"},
        belongs=(("Logical_Router", "static_routes"),),
    ),
    "Logical_Router_Policy": Table(
        "router policy",
        ("priority", "match", "action", "nexthop", "nexthops", "options", "external_ids"),
        sets=frozenset({"nexthop", "nexthops"}),
        shared=frozenset({"external_ids", "options"}),
        belongs=(("Logical_Router", "policies"),),
    ),
    "BFD": Table(
        "BFD session",
        ("logical_port", "dst_ip", "min_tx", "min_rx", "detect_mult", "external_ids"),
        index=("logical_port", "dst_ip"),
        sets=frozenset({"min_tx", "min_rx", "detect_mult"}),
    ),
    "Static_MAC_Binding": Table(
        "static MAC binding",
        ("logical_port", "ip", "mac", "override_dynamic_mac"),
        index=("logical_port", "ip"),
        marked=False,
    ),
    "NAT": Table(
        "NAT rule",
        (
            "type",
            "external_ip",
            "external_port_range",
            "logical_ip",
            "logical_port",
            "external_mac",
            "allowed_ext_ips",
            "exempted_ext_ips",
            "gateway_port",
            "options",
            "external_ids",
        ),
        sets=frozenset({"logical_port", "external_mac"}),
        shared=frozenset({"external_ids", "options"}),
        references={
            "allowed_ext_ips": "Address_Set",
            "exempted_ext_ips": "Address_Set",
            "gateway_port": "Logical_Router_Port",
        },
        belongs=(("Logical_Router", "nat"),),
    ),
    "Port_Group": Table(
        "port group",
        ("name", "ports", "external_ids"),
        named=True,
        references={"ports": "Logical_Switch_Port"},
        many=frozenset({"ports"}),
        fixed=frozenset({"ports"}),
    ),
    "Address_Set": Table(
        "address set",
        ("name", "addresses", "external_ids"),
        named=True,
        sets=frozenset({"addresses"}),
        fixed=frozenset({"addresses"}),
    ),
    "ACL": Table(
        "ACL",
        (
            "direction",
            "priority",
            "match",
            "action",
            "log",
            "name",
            "severity",
            "meter",
            "label",
            "options",
            "external_ids",
        ),
        sets=frozenset({"name", "severity", "meter"}),
        shared=frozenset({"external_ids", "options"}),
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
        ("name", "vips", "protocol", "selection_fields", "options", "ip_port_mappings", "external_ids"),
        named=True,
        sets=frozenset({"protocol", "selection_fields"}),
        shared=frozenset({"external_ids", "options"}),
    ),
    "Load_Balancer_Health_Check": Table(
        "health check",
        ("vip", "options", "external_ids"),
        belongs=(("Load_Balancer", "health_check"),),
    ),
    "Load_Balancer_Group": Table(
        "load balancer group",
        ("name", "load_balancer"),
        named=True,
        marked=False,
        references={"load_balancer": "Load_Balancer"},
        many=frozenset({"load_balancer"}),
        fixed=frozenset({"load_balancer"}),  # there is no place for a record of the file's
    ),
    "Chassis_Template_Var": Table(
        "chassis template variables", ("chassis", "variables", "external_ids"), index=("chassis",)
    ),
    "Meter": Table("meter", ("name", "unit", "fair", "external_ids"), named=True, sets=frozenset({"fair"})),
    "Meter_Band": Table("meter band", ("action", "rate", "burst_size", "external_ids"), belongs=(("Meter", "bands"),)),
    "Copp": Table("control plane protection", ("name", "meters", "external_ids"), named=True),
    "Mirror": Table("mirror", ("name", "filter", "sink", "type", "index", "external_ids"), named=True),
}
"""In an order in which each table stands behind those that its rows belong to."""


def holders(tables: Mapping[str, Table] = TABLES) -> dict[str, tuple[str, ...]]:
    """Return, for each table, the columns of it that hold rows of others."""
    found: dict[str, tuple[str, ...]] = {}
    for table in tables.values():
        for holder, column in table.belongs:
            if column not in found.get(holder, ()):
                found[holder] = (*found.get(holder, ()), column)
    return found


def read_columns(tables: Mapping[str, Table] = TABLES) -> dict[str, tuple[str, ...]]:
    """Return what is read of each table."""
    held = holders(tables)
    return {
        name: tuple(dict.fromkeys(("_uuid", *table.columns, *held.get(name, ())))) for name, table in tables.items()
    }
