"""Explanation of one object, above all a logical port: its configuration, its binding, and why it is down."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ovnlab.insight.explain_objects import AppliedRule, Explanation, explain_object, in_order, rule
from ovnlab.insight.lab_view import LabView, ZoneView
from ovnlab.insight.names import LogicalPort
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row, listed, rows
from ovnlab.tasks.probe import BoundVM
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import host_of, ip_of, is_ip, is_mac
from ovnlab.topology.unknown_name import unknown_name

INTERFACE = ("name", "type", "ofport", "error", "mac_in_use", "mtu", "external_ids", "statistics")
"""What is read of interfaces of the switch (ovs-vswitchd.conf.db(5), Interface)."""


def explain(look: LabView, name: str) -> Explanation:
    """Return all about a logical switch port, or another object. Raises UsageError for a name that none has."""
    row = next((row for row in look.northbound if row.table == "Logical_Switch_Port" and row.name == name), None)
    zone = next((zone for zone in look.zones.values() if name in zone.names.ports), None)
    is_vm = row is not None and row.columns["type"] in ("", "external", "virtual")
    if not is_vm and look.topology.vm(name) is None and (other := explain_object(look, name)) is not None:
        return other
    if row is None and zone is None and look.topology.vm(name) is None:
        raise unknown_name(look.topology, name)
    port = zone.names.ports[name] if zone else None
    home = look.home(name) or (look.home(port.parent) if port is not None and port.parent else None)
    interface = _interface(look, *home) if home else None
    if row is None and port is not None and port.type:
        facts = [("northbound", f"no logical switch port: a port of type {port.type}")]
        return Explanation(name, (*facts, *(_southbound(zone, port) if zone else ())), (), True, ())
    facts = [
        *_northbound(look, row),
        *(_southbound(zone, port) if zone and port else ()),
        *(_bound(home[0], home[1], interface) if home else [("bound", "on no node")]),
    ]
    up = bool(row and row.columns.get("up") is True)
    return Explanation(
        name,
        tuple(facts),
        tuple(_rules(look, row, home[1] if home else None)),
        up,
        tuple(_problems(look, row, port, home, interface)),
    )


# ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _northbound(look: LabView, row: LiveRow | None) -> Iterator[tuple[str, str]]:
    if row is None:
        yield "northbound", "no logical switch port: somebody removed it"
        return
    columns = row.columns
    made = f"of lab {row.mark}" if row.mark else "by `ovnlab bind`" if row.by_bind else "by somebody else"
    yield "northbound", f"Logical_Switch_Port {row.uuid} on {row.parent}, made {made}"
    yield "addresses", "; ".join(columns["addresses"]) or "none"
    for column, title in (("port_security", "port security"), ("type", "type"), ("options", "options")):
        value = columns[column]
        if value:
            shown = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
            yield title, "; ".join(shown) if isinstance(shown, (list, tuple)) else str(shown)
    if columns["parent_name"]:
        yield "parent", f"{columns['parent_name'][0]}, VLAN {(columns['tag'] or ('?',))[0]}"
    if columns["enabled"] and columns["enabled"][0] is False:
        yield "enabled", "no"
    yield "up", "yes" if columns["up"] is True else "no"
    for version in ("dhcpv4_options", "dhcpv6_options"):
        for uuid in columns[version]:
            found = next((item for item in look.northbound if item.uuid == uuid), None)
            if found is not None:
                options = ", ".join(f"{k}={v}" for k, v in sorted(found.columns["options"].items()))
                yield "DHCP" if version == "dhcpv4_options" else "DHCPv6", f"{found.columns['cidr']}: {options}"


def _southbound(zone: ZoneView, port: LogicalPort) -> Iterator[tuple[str, str]]:
    datapath = zone.names.datapaths.get(port.datapath)
    yield "port binding", port.uuid
    yield "datapath", f"{port.datapath}, tunnel key {datapath.key if datapath else '?'}"
    yield "tunnel key", str(port.key)
    yield "chassis", port.chassis or "none"


def _bound(node: str, bound: BoundVM, interface: Row | None) -> Iterator[tuple[str, str]]:
    yield "bound", f"on {node}, port {bound.port} of br-int"
    if interface is not None:
        yield "ofport", str(interface["ofport"])
        installed = interface["external_ids"].get("ovn-installed")
        yield "flows", "installed" if installed == "true" else "not installed"
        counts = interface["statistics"]
        if counts:
            yield (
                "packets",
                f"{counts.get('rx_packets', 0)} from it, {counts.get('tx_packets', 0)} to it, "
                f"{counts.get('rx_dropped', 0) + counts.get('tx_dropped', 0)} dropped",
            )
    yield "namespace", bound.name if bound.addresses or bound.mac else f"{bound.name}, without addresses"
    yield "MAC", bound.mac or "none"
    yield "IP", ", ".join(bound.addresses) or "none"
    if bound.gateways:
        yield "gateway", ", ".join(bound.gateways)
    yield "MTU", str(bound.mtu or "down")


def interfaces(look: LabView, node: str) -> Sequence[Row]:
    """Return the interfaces of a node's switch."""
    if node in look.nodes:
        script = render("node/list-interfaces.sh.j2", columns=INTERFACE)
        return rows(run_script(look.nodes[node].context, script, where=f"{node}: its interfaces"))
    return look.interfaces.get(node, ())


def _interface(look: LabView, node: str, bound: BoundVM) -> Row | None:
    return next((row for row in interfaces(look, node) if row["name"] == bound.port), None)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rules(look: LabView, row: LiveRow | None, bound: BoundVM | None) -> Iterator[AppliedRule]:
    if row is None:
        return
    ips = [word for address in row.columns["addresses"] for word in address.split()[1:]]
    ips += [ip_of(word) for word in (bound.addresses if bound else ())]
    ips = list(dict.fromkeys(ip_of(ip) for ip in ips))
    groups = {item.name for item in look.northbound if item.table == "Port_Group" and row.uuid in item.columns["ports"]}
    found = []
    for item in look.northbound:
        columns = item.columns
        if item.table in ("ACL", "QoS"):
            applies = _is_held(item, row, groups) and _may_match(columns["match"], row, groups)
        elif item.table == "NAT":
            applies = _translates(columns, row.name, ips)
        else:
            applies = item.table == "Load_Balancer" and any(
                host_of(backend.strip()) in ips for behind in columns["vips"].values() for backend in behind.split(",")
            )
        if applies:
            found.append(item)
    yield from (rule(look, item) for item in in_order(found))
    for item in look.northbound:
        if item.table == "DNS":
            for domain, addresses in item.columns["records"].items():
                if set(addresses.split()) & set(ips):
                    yield AppliedRule("DNS", f"{domain} → {addresses}", item.uuid)


def _is_held(rule: LiveRow, port: LiveRow, groups: set[str]) -> bool:
    """Return True if a rule is of the port's switch, or of a port group that it is in."""
    if rule.belongs is None:
        return False
    held = rule.belongs
    return held.name in groups if held.table == "Port_Group" else held.name == port.parent


def _may_match(match: str, port: LiveRow, groups: set[str]) -> bool:
    """Return True if a match is about the port or about any: one that names only other ports is not."""
    named = re.findall(r'(?:inport|outport) == (?:"([^"]*)"|@(\S+?)[\s)]|@(\S+)$)', match)
    if not named:
        return True
    return any(port.name == exact or {first, last} & groups for exact, first, last in named)


def _translates(columns: Mapping[str, Any], port: str, ips: Sequence[str]) -> bool:
    """Return True if a NAT rule is about a port or one of its addresses."""
    if port in columns["logical_port"]:
        return True
    try:
        inside = ipaddress.ip_network(columns["logical_ip"], strict=False)
    except ValueError:  # OVSDB takes any text
        return False
    return any(ipaddress.ip_address(ip) in inside for ip in ips if is_ip(ip))


# ── why it is down ───────────────────────────────────────────────────────────────────────────────────────────────


def _problems(
    look: LabView,
    row: LiveRow | None,
    port: LogicalPort | None,
    home: tuple[str, BoundVM] | None,
    interface: Row | None,
) -> Iterator[str]:
    if row is None:
        yield "its logical switch port is gone: `ovnlab up` makes it again"
        return
    if row.columns["enabled"] and row.columns["enabled"][0] is False:
        yield "it is disabled: its port drops everything"
    if port is None:
        yield "the Southbound database has no port binding of it: does ovn-northd run?"
        return
    if row.columns["type"]:
        return
    if home is None:
        if not row.columns["parent_name"]:
            yield f"no node has a port with iface-id={row.name}: ovnlab bind {row.name} NODE"
        return
    node, bound = home
    yield from _claim(look, row, port, node)
    yield from _switch_port(interface)
    yield from _inside(row, bound)


def _claim(look: LabView, row: LiveRow, port: LogicalPort, node: str) -> Iterator[str]:
    """Yield why the chassis does not claim it."""
    wanted = row.columns["options"].get("requested-chassis", "")
    if wanted and node not in wanted.split(","):
        yield f"it asks for chassis {wanted}, and is bound on {node}"
    daemons = look.states[node].daemons if node in look.states else {}
    for daemon in ("ovs-vswitchd", "ovn-controller"):
        if daemon not in daemons:
            yield f"{daemon} of {node} does not run"
    if port.chassis is None and "ovn-controller" in daemons and not wanted:
        yield f"ovn-controller of {node} has not claimed it: `ovnlab logs {node}` may say why"
    elif port.chassis not in (None, node):
        yield f"chassis {port.chassis} has claimed it, and it is bound on {node}"


def _switch_port(interface: Row | None) -> Iterator[str]:
    if interface is None:
        return
    if errors := [str(error) for error in listed(interface["error"])]:
        yield f"the switch says of its port: {errors[0]}"
    elif not isinstance(interface["ofport"], int) or interface["ofport"] < 1:
        yield "the switch has given its port no number"


def _inside(row: LiveRow, bound: BoundVM) -> Iterator[str]:
    """Yield what is in the namespace against what OVN was told."""
    if not bound.mac and bound.vm is not None:
        yield "its namespace has no such interface: `ovnlab up` mends it"
        return
    if bound.mtu == 0 and bound.vm is not None:
        yield f"its interface is down: ovnlab exec {bound.name} -- ip link set {bound.name} up"
    words = " ".join(row.columns["addresses"]).split()
    macs = [word for word in words if is_mac(word)]
    if macs and bound.mac and bound.mac not in macs:
        yield f"its interface has MAC {bound.mac}, and OVN knows {', '.join(macs)}"
    known = {word for word in words if is_ip(word)}
    own = {ip_of(address) for address in bound.addresses}
    if known and own and not known & own:
        yield f"its interface has {', '.join(sorted(own))}, and OVN knows {', '.join(sorted(known))}"
    if known and not own and bound.vm is not None:
        yield "its interface has no address"
