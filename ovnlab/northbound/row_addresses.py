"""Addresses in rows of the Northbound database (ovn-nb(5)): of ports, routers, NAT rules and load balancers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ovnlab.northbound.live import LiveRow
from ovnlab.topology.addresses import ip_of, is_ip, is_mac, parse_endpoint
from ovnlab.topology.inuse import InUse, PortAddresses
from ovnlab.topology.resolved import Topology


def port_words(row: LiveRow) -> list[str]:
    """Return MAC and IP addresses of a logical switch port, and words such as dynamic."""
    return " ".join([*row.columns["addresses"], *row.columns.get("dynamic_addresses", ())]).split()


def ips(row: LiveRow) -> Iterator[str]:
    """Yield the IP addresses that a row keeps others from having."""
    match row.table:
        case "Logical_Switch_Port":
            yield from (word for word in port_words(row) if is_ip(word))
        case "Logical_Router_Port":
            yield from (ip_of(word) for word in row.columns["networks"] if is_ip(ip_of(word)))
        case "NAT":
            yield from (word for word in (row.columns["external_ip"],) if is_ip(word))
        case "Load_Balancer":
            yield from vips(row.columns["vips"])


def vips(column: Mapping[str, str]) -> Iterator[str]:
    """Yield the addresses of VIPs; those of templates are not known here."""
    for vip in column:
        try:
            yield parse_endpoint(vip).ip
        except ValueError:
            continue


def on_switches(rows: Sequence[LiveRow]) -> Iterator[tuple[str, LiveRow]]:
    """Yield the logical switch ports and router ports with the switch that each is on."""
    router_ports = {row.name: row for row in rows if row.table == "Logical_Router_Port"}
    for row in rows:
        if row.table == "Logical_Switch_Port":
            yield row.parent or "", row
            peer = router_ports.get(row.columns["options"].get("router-port", ""))
            if peer is not None and row.columns["type"] == "router":
                yield row.parent or "", peer


def in_use(before: InUse, topology: Topology, rows: Sequence[LiveRow] | None) -> InUse:
    """Return what a lab has: what it was last brought up with, and what the databases say now, which goes first.

    `rows` is None where the databases cannot be read.
    """
    if rows is None:
        return before
    lab = topology.name
    named = {(switch.name, port.name) for switch in topology.switches for port in switch.ports}
    overridden = {  # what OVN takes them to have is not what they have
        name
        for table, name, columns in (
            *((row.table, row.name, row.columns.keys()) for row in topology.rows),
            *((row.table, row.name, row.columns.keys()) for row in topology.schema_rows),
        )
        if table == "Logical_Switch_Port" and "addresses" in columns
    }
    ports = dict(before.ports)
    others: dict[str, set[str]] = {}
    for switch, row in on_switches(rows):
        is_adopted = row.by_bind and (switch, row.name) in named
        if row.mark == lab or is_adopted:
            is_own = row.table == "Logical_Switch_Port" and row.name not in overridden
            if is_own and (found := _addresses(row)) is not None:
                ports[switch, row.name] = found
        else:
            others.setdefault(switch, set()).update(ips(row))
    macs = {row.name: row.columns["mac"] for row in rows if row.table == "Logical_Router_Port" and row.mark == lab}
    shared = [row for row in rows if row.table == "Load_Balancer" or (row.table == "NAT" and row.mark != lab)]
    return InUse(
        before.nodes,
        before.machines,
        before.nics,
        ports,
        {**before.router_macs, **macs},
        {switch: frozenset(found) for switch, found in others.items()},
        frozenset(ip for row in shared for ip in ips(row)),
    )


def _addresses(row: LiveRow) -> PortAddresses | None:
    """Return the addresses of a port, None if it has none that could be kept."""
    words = port_words(row)
    macs = [word for word in words if is_mac(word)]
    return PortAddresses(macs[0], tuple(word for word in words if is_ip(word))) if macs else None
