"""Explanation of an object other than a fake VM: a router, switch, node, load balancer, router port or address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovnlab.insight.decisions import place_of
from ovnlab.insight.lab_view import LabView, ZoneView
from ovnlab.insight.names import LogicalPort
from ovnlab.insight.probe_packet import bridge_mappings
from ovnlab.northbound.live import LiveRow
from ovnlab.ovsdb.client import Row
from ovnlab.topology.addresses import host_of, ip_of, is_ip

Fact = tuple[str, str]


@dataclass(frozen=True)
class AppliedRule:
    """A row that has to do with the object: what it is, what it says, and its line in the topology's file."""

    kind: str
    text: str
    uuid: str
    place: str = ""


@dataclass(frozen=True)
class Explanation:
    """An object, each fact with what it is called. `kind` is what it is, `state` up, down, or what there is of it."""

    name: str
    facts: tuple[Fact, ...]
    rules: tuple[AppliedRule, ...]
    up: bool
    problems: tuple[str, ...]
    kind: str = "logical switch port"


def explain_object(look: LabView, name: str) -> Explanation | None:
    """Return all about the node, router, switch, load balancer, router port or address of that name; None for others.

    Where several have it, the others are named in a fact.
    """
    found = [one for kind in _KINDS if (one := kind(look, name)) is not None]
    if not found:
        return None
    first, *others = found
    also = (("also", f"there is a {one.kind} {one.name}: ask with the name of a port of it") for one in others)
    return Explanation(first.name, (*first.facts, *also), first.rules, first.up, first.problems, first.kind)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


def rule(look: LabView, row: LiveRow) -> AppliedRule:
    """Return a row as a rule, in words, with its line."""
    kind, text = _said(row)
    if row.is_learned:
        text += " (learned by ovn-ic)"
    elif row.mark is None:
        text += " (made by hand)"
    return AppliedRule(kind, text, row.uuid, place_of(look.topology, row))


def _said(row: LiveRow) -> tuple[str, str]:
    columns = row.columns
    match row.table:
        case "ACL":
            name = f" {columns['name'][0]}" if columns["name"] else ""
            return f"ACL{name}", f"{columns['direction']} {columns['priority']} {columns['match']} {columns['action']}"
        case "QoS":
            return "QoS", f"{columns['direction']} {columns['priority']} {columns['match']}: {_limits(columns)}"
        case "NAT":
            where = f", by the chassis of {columns['logical_port'][0]}" if columns["logical_port"] else ""
            text = f"{columns['type']} {columns['external_ip']} ↔ {columns['logical_ip']} on {row.parent}{where}"
            return "NAT", text
        case "Logical_Router_Static_Route":
            by = f" by {columns['output_port'][0]}" if columns["output_port"] else ""
            of = " of the source" if "src-ip" in columns["policy"] else ""
            return "route", f"{columns['ip_prefix']}{of} via {columns['nexthop']}{by}"
        case "Logical_Router_Policy":
            hops = columns.get("nexthops") or columns.get("nexthop") or ()
            hops = (hops,) if isinstance(hops, str) else hops
            to = f" to {', '.join(map(str, hops))}" if hops else ""
            return "policy", f"{columns['priority']} {columns['match']} {columns['action']}{to}"
        case "Load_Balancer":
            vips = "; ".join(f"{vip} → {behind or 'nobody'}" for vip, behind in columns["vips"].items())
            return "load balancer", f"{row.name}: {vips}"
    return row.table, row.name


def _limits(columns: Mapping[str, Any]) -> str:
    band, action = columns["bandwidth"], columns["action"]
    said = [f"at most {band['rate']} kbit/s"] if "rate" in band else []
    said += [f"bursts of {band['burst']} kbit"] if "burst" in band else []
    said += [f"marked DSCP {action['dscp']}"] if "dscp" in action else []
    return ", ".join(said) or "nothing"


_TABLES = ("ACL", "QoS", "Logical_Router_Policy", "Logical_Router_Static_Route", "NAT", "Load_Balancer")
"""Rules, in the order in which they are shown."""


def in_order(rows: Iterable[LiveRow]) -> list[LiveRow]:
    """Return rules as they are looked at: by table and direction, the higher priority or the longer prefix first."""

    def key(row: LiveRow) -> tuple[int, str, int, str]:
        columns = row.columns
        weight = columns.get("priority", 0)
        if row.table == "Logical_Router_Static_Route":
            try:
                weight = ipaddress.ip_network(columns["ip_prefix"], strict=False).prefixlen
            except ValueError:
                weight = 0
        return (_TABLES.index(row.table), str(columns.get("direction", "")), -int(weight), row.uuid)

    return sorted((row for row in rows if row.table in _TABLES), key=key)


def _rules(look: LabView, rows: Iterable[LiveRow]) -> tuple[AppliedRule, ...]:
    return tuple(rule(look, row) for row in in_order(rows))


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(look: LabView, table: str, name: str) -> LiveRow | None:
    return next((row for row in look.northbound if row.table == table and row.name == name), None)


def _made(row: LiveRow) -> str:
    made = f"of lab {row.mark}" if row.mark else "by hand"
    return f"{row.table} {row.uuid}, made {made}"


def _zone(look: LabView, datapath: str) -> ZoneView | None:
    return next((zone for zone in look.zones.values() if datapath in zone.names.datapaths), None)


def _is_disabled(row: LiveRow) -> bool:
    return tuple(row.columns.get("enabled", ())) == (False,)


def _options(row: LiveRow, column: str = "options") -> Iterator[Fact]:
    if row.columns.get(column):
        yield column.replace("_", " "), ", ".join(f"{k}={v}" for k, v in sorted(row.columns[column].items()))


def _balancers(look: LabView, row: LiveRow) -> list[LiveRow]:
    """Return the load balancers of a switch or router, and those of its groups."""
    groups = [item for item in look.northbound if item.uuid in row.columns.get("load_balancer_group", ())]
    uuids = {uuid for one in (row, *groups) for uuid in one.columns.get("load_balancer", ())}
    return [item for item in look.northbound if item.uuid in uuids]


def _router(look: LabView, name: str) -> Explanation | None:
    row = _row(look, "Logical_Router", name)
    if row is None:
        return None
    zone = _zone(look, name)
    own = [item for item in look.northbound if item.parent == name and item.belongs and item.belongs.uuid == row.uuid]
    facts = [("northbound", _made(row)), *_options(row), *_key(zone, name)]
    problems = ["it is disabled: it drops everything"] if _is_disabled(row) else []
    for port in (item for item in own if item.table == "Logical_Router_Port"):
        described = _router_port(look, port.name)
        facts.append(("port", f"{port.name}: {_addresses(port)} {_towards(look, port.name)}{_active(look, port)}"))
        problems += [f"port {port.name}: {said}" for said in (described.problems if described else ())]
    rules = _rules(look, [*own, *_balancers(look, row)])
    return Explanation(name, tuple(facts), rules, not problems, tuple(problems), "logical router")


def _key(zone: ZoneView | None, datapath: str) -> Iterator[Fact]:
    found = zone.names.datapaths.get(datapath) if zone is not None else None
    yield "tunnel key", str(found.key) if found else "none: ovn-northd has made no datapath of it"


def _addresses(row: LiveRow) -> str:
    return " ".join([row.columns["mac"], *row.columns["networks"]])


def _peer(look: LabView, router_port: str) -> LiveRow | None:
    """Return the port of a switch that a router port is joined to."""
    return next(
        (
            row
            for row in look.northbound
            if row.table == "Logical_Switch_Port" and row.columns["options"].get("router-port") == router_port
        ),
        None,
    )


def _towards(look: LabView, router_port: str) -> str:
    peer = _peer(look, router_port)
    if peer is None and (other := _other_router(look, router_port)) is not None:
        return f"to router {other.parent} ({other.name})"
    return f"to switch {peer.parent} ({peer.name})" if peer else "to nothing"


def _other_router(look: LabView, router_port: str) -> LiveRow | None:
    """Return the router port that one is joined to without a switch between them (ovn-nb(5), peer)."""
    row = _row(look, "Logical_Router_Port", router_port)
    peers = row.columns["peer"] if row is not None else ()
    return _row(look, "Logical_Router_Port", peers[0]) if peers else None


def _redirect(look: LabView, router_port: str) -> LogicalPort | None:
    name = f"cr-{router_port}"
    return next((zone.names.ports[name] for zone in look.zones.values() if name in zone.names.ports), None)


def _active(look: LabView, row: LiveRow) -> str:
    redirect = _redirect(look, row.name)
    if redirect is None:
        return ""
    return f", gateway on {redirect.chassis or 'no chassis'} (of {', '.join(candidates(look, row)) or 'none'})"


def candidates(look: LabView, row: LiveRow) -> list[str]:
    """Return the chassis that may have a gateway port, the preferred first."""
    found: list[tuple[int, str]] = []
    for item in look.northbound:
        if item.belongs is None or item.table not in ("Gateway_Chassis", "HA_Chassis"):
            continue
        if item.belongs.uuid == row.uuid or item.belongs.uuid in row.columns.get("ha_chassis_group", ()):
            found.append((-item.columns["priority"], item.columns["chassis_name"]))
    return [name for _, name in sorted(found)]


def _router_port(look: LabView, name: str) -> Explanation | None:
    name = name.removeprefix("cr-")
    row = _row(look, "Logical_Router_Port", name)
    if row is None:
        return None
    redirect, peer = _redirect(look, name), _peer(look, name)
    facts = [
        ("northbound", _made(row)),
        ("router", str(row.parent)),
        ("addresses", _addresses(row)),
        ("joined", _towards(look, name)),
        *_options(row),
    ]
    problems = ["it is disabled: it drops everything"] if _is_disabled(row) else []
    if peer is None:
        if _other_router(look, name) is None:
            problems.append(f"no switch port has router-port={name}: it leads nowhere")
    elif _is_disabled(peer):
        problems.append(f"its port {peer.name} of switch {peer.parent} is disabled")
    if redirect is not None:
        wanted = candidates(look, row)
        facts += [("gateway", f"on {redirect.chassis or 'no chassis'}"), ("candidates", ", ".join(wanted) or "none")]
        if redirect.chassis is None:
            problems.append(f"no chassis has it: {', '.join(wanted) or 'none'} may")
        elif wanted and redirect.chassis != wanted[0]:
            problems.append(f"it is on {redirect.chassis}, and {wanted[0]} is preferred")
        for network in _networks(look, peer):
            mapped = _mapping(look, redirect.chassis or "").get(network)
            facts.append(("physical network", f"{network}, by bridge {mapped or 'none'}"))
            if redirect.chassis and redirect.chassis in look.states and mapped is None:
                problems.append(f"{redirect.chassis} is not on physical network {network}")
    kind = "gateway port" if redirect is not None else "logical router port"
    rows = [item for item in look.northbound if item.table == "NAT" and item.parent == row.parent]
    rules = _rules(look, rows if redirect is not None else ())
    return Explanation(name, tuple(facts), rules, not problems, tuple(problems), kind)


def _networks(look: LabView, peer: LiveRow | None) -> list[str]:
    """Return the physical networks of the switch that a router port is on."""
    if peer is None:
        return []
    rows = [row for row in look.northbound if row.table == "Logical_Switch_Port" and row.parent == peer.parent]
    return [row.columns["options"].get("network_name", "?") for row in rows if row.columns["type"] == "localnet"]


def _mapping(look: LabView, chassis: str) -> Mapping[str, str]:
    state = look.states.get(chassis)
    return bridge_mappings(state.external_ids.get("ovn-bridge-mappings", "")) if state is not None else {}


def _switch(look: LabView, name: str) -> Explanation | None:
    row = _row(look, "Logical_Switch", name)
    if row is None:
        return None
    zone = _zone(look, name)
    ports = [item for item in look.northbound if item.table == "Logical_Switch_Port" and item.parent == name]
    facts = [("northbound", _made(row)), *_options(row, "other_config"), *_key(zone, name)]
    spec = look.topology.switch(name)
    if spec is not None and spec.subnets:
        facts.append(("subnets", ", ".join(spec.subnets)))
    problems = []
    for port in ports:
        kind, options = port.columns["type"], port.columns["options"]
        bound = zone.names.ports.get(port.name) if zone is not None else None
        if kind == "localnet":
            tag = f", VLAN {port.columns['tag'][0]}" if port.columns["tag"] else ""
            facts.append(("physical network", f"{options.get('network_name', 'none')}{tag} ({port.name})"))
        elif kind == "router":
            facts.append(("router", f"{options.get('router-port', 'none')} ({port.name})"))
            if _row(look, "Logical_Router_Port", options.get("router-port", "")) is None:
                problems.append(f"port {port.name} is for router port {options.get('router-port')}, which is not there")
        else:
            addresses = "; ".join(port.columns["addresses"]) or "no address"
            where = bound.chassis if bound is not None and bound.chassis else "no chassis"
            facts.append(("port", f"{port.name} ({kind + ', ' if kind else ''}{addresses}) on {where}"))
        if _is_disabled(port):
            problems.append(f"port {port.name} is disabled: it drops everything")
    uuids = {port.uuid for port in ports}
    groups = {
        item.uuid: item.name
        for item in look.northbound
        if item.table == "Port_Group" and uuids & set(item.columns["ports"])
    }
    facts += [("port group", group) for group in groups.values()]
    holders = {row.uuid, *groups}
    own = [item for item in look.northbound if item.belongs is not None and item.belongs.uuid in holders]
    rules = _rules(look, [*own, *_balancers(look, row)])
    return Explanation(name, tuple(facts), rules, not problems, tuple(problems), "logical switch")


def _node(look: LabView, name: str) -> Explanation | None:
    node = look.topology.node(name)
    if node is None:
        return None
    state = look.states.get(name)
    facts = [("role", node.role), ("address", ", ".join(node.addresses) or "none")]
    problems = [] if state is not None else ["it does not run, or does not answer"]
    if state is not None:
        daemons = [f"{daemon.name} {daemon.version}".strip() for daemon in state.daemons.values()]
        facts.append(("daemons", ", ".join(daemons) or "none"))
        keys = ("ovn-remote", "ovn-encap-type", "ovn-encap-ip", "ovn-bridge-mappings")
        facts += [(key, state.external_ids[key]) for key in keys if key in state.external_ids]
        tunnels = [f"{t.remote_ip} {'up' if t.working else 'down'}" for t in state.tunnels]
        facts.append(("tunnels", ", ".join(tunnels) or "none"))
        facts += [("fake VM", f"{bound.name}: {', '.join(bound.addresses) or 'no address'}") for bound in state.vms]
        problems += [f"its tunnel to {t.remote_ip} is down" for t in state.tunnels if not t.working]
    if node.chassis:
        more, wrong = _chassis(look.zone_of(name), name)
        facts, problems = facts + more, problems + wrong
    return Explanation(name, tuple(facts), (), not problems, tuple(problems), "node")


def _chassis(zone: ZoneView, name: str) -> tuple[list[Fact], list[str]]:
    """Return what the Southbound database has of a chassis."""
    encaps = [f"{encap.type} {encap.ip}" for encap in zone.names.encaps if encap.chassis == name]
    facts = [("chassis", f"registered, {', '.join(encaps)}" if encaps else "not registered")]
    problems = [] if encaps else ["it is not among the chassis of the Southbound database"]
    bound = [port for port in zone.names.ports.values() if port.chassis == name]
    gateways = [port.name.removeprefix("cr-") for port in bound if port.type == "chassisredirect"]
    facts += [("ports", ", ".join(port.name for port in bound if not port.type) or "none")]
    facts += [("gateway of", ", ".join(gateways))] if gateways else []
    wanted = max((row["nb_cfg"] for row in zone.tables.get("SB_Global", ())), default=0)
    for row in zone.tables.get("Chassis_Private", ()):
        if row["name"] == name:
            facts.append(("configuration", f"{row['nb_cfg']} of {wanted}"))
            if row["nb_cfg"] < wanted:
                problems.append(f"its ovn-controller is behind, at {row['nb_cfg']} of {wanted}")
    return facts, problems


def _balancer(look: LabView, name: str) -> Explanation | None:
    row = _row(look, "Load_Balancer", name)
    if row is None:
        return None
    on = [item.name for item in look.northbound if row.uuid in item.columns.get("load_balancer", ())]
    facts = [("northbound", _made(row)), ("protocol", ", ".join(row.columns["protocol"]) or "any"), *_options(row)]
    facts.append(("on", ", ".join(on) or "nothing"))
    problems = [] if on else ["no switch or router has it"]
    owners = _owners(look)
    monitors = [item for zone in look.zones.values() for item in zone.tables.get("Service_Monitor", ())]
    for vip, behind in row.columns["vips"].items():
        backends = [word.strip() for word in behind.split(",") if word.strip()]
        facts.append(("VIP", f"{vip}, {len(backends)} backends"))
        if not backends:
            problems.append(f"{vip} has no backend: connections are rejected or dropped")
        for backend in backends:
            health = _health(monitors, backend)
            owner = owners.get(host_of(backend), "nobody that is known")
            facts.append(("backend", f"{backend} ({owner}){', ' + health if health else ''}"))
            if health == "offline":
                problems.append(f"backend {backend} is offline by OVN's health check: it gets no connections")
            if host_of(backend) not in owners:
                problems.append(f"backend {backend} is not the address of a port")
    return Explanation(name, tuple(facts), _rules(look, [row]), not problems, tuple(problems), "load balancer")


def _owners(look: LabView) -> dict[str, str]:
    """Return the logical ports by their addresses, and the machines of the lab by theirs."""
    found = {ip: node.name for node in look.topology.nodes for ip in node.addresses}
    found |= {ip_of(word): node.name for node in look.topology.nodes for nic in node.nics for word in nic.addresses}
    for zone in look.zones.values():
        found |= {ip: port.name for port in zone.names.ports.values() if not port.type for ip in port.ips}
    found |= {
        ip_of(word): bound.name for state in look.states.values() for bound in state.vms for word in bound.addresses
    }
    return found


def _health(monitors: Sequence[Row], backend: str) -> str:
    """Return what OVN's health check says of a backend; empty where there is none."""
    for row in monitors:
        if row["ip"] == host_of(backend) and backend.endswith(f":{row['port']}"):
            return row["status"] if isinstance(row["status"], str) and row["status"] else "not checked yet"
    return ""


def _address(look: LabView, name: str) -> Explanation | None:
    """Return what is known of an address that NAT or a load balancer has."""
    if not is_ip(name):
        return None
    address = str(ipaddress.ip_address(name))
    nats = [
        row
        for row in look.northbound
        if row.table == "NAT" and address in (row.columns["external_ip"], row.columns["logical_ip"])
    ]
    balancers = [
        row
        for row in look.northbound
        if row.table == "Load_Balancer" and address in {host_of(vip) for vip in row.columns["vips"]}
    ]
    owner = _owners(look).get(address)
    if not nats and not balancers and owner is None:
        return None
    facts = [("address of", owner)] if owner else []
    problems = []
    for row in nats:
        where, wrong = _translator(look, row)
        facts.append(("NAT", f"{row.columns['type']} on router {row.parent}, done {where}"))
        problems += wrong
    facts += [("load balancer", row.name) for row in balancers]
    outside = [row for row in nats if row.columns["external_ip"] == address and row.columns["type"] != "snat"]
    if len(outside) > 1:
        problems.append(f"{len(outside)} NAT rules have it as external address")
    kind = "NAT address" if nats else "virtual IP" if balancers else "address"
    return Explanation(name, tuple(facts), _rules(look, [*nats, *balancers]), not problems, tuple(problems), kind)


def _translator(look: LabView, row: LiveRow) -> tuple[str, list[str]]:
    """Return where a NAT rule is done, and what is wrong with that (ovn-nb(5), NAT)."""
    router = str(row.parent)
    ports = [item for item in look.northbound if item.table == "Logical_Router_Port" and item.parent == router]
    redirects = {port.name: found for port in ports if (found := _redirect(look, port.name)) is not None}
    distributed = row.columns["logical_port"] and row.columns["external_mac"]
    if distributed:
        name = row.columns["logical_port"][0]
        port = next((zone.names.ports[name] for zone in look.zones.values() if name in zone.names.ports), None)
        if port is None or port.chassis is None:
            return f"by the chassis of {name}, which is bound nowhere", [f"{name} is bound to no chassis"]
        networks = {network for item in ports for network in _networks(look, _peer(look, item.name))}
        lacking = networks - set(_mapping(look, port.chassis)) if port.chassis in look.states else set()
        wrong = [f"{port.chassis}, where {name} is, is not on physical network {', '.join(sorted(lacking))}"]
        return f"by {port.chassis}, the chassis of {name}", wrong if lacking and redirects else []
    if redirects:
        places = [f"{redirect.chassis or 'no chassis'} ({name})" for name, redirect in redirects.items()]
        unbound = [f"gateway port {name} is on no chassis" for name, one in redirects.items() if one.chassis is None]
        return f"by {', '.join(places)}", unbound
    own = _row(look, "Logical_Router", router)
    chassis = own.columns["options"].get("chassis", "") if own is not None else ""
    return (f"by {chassis}", []) if chassis else ("nowhere", [f"router {router} has no gateway: NAT is not done"])


_KINDS = (_node, _router, _switch, _balancer, _router_port, _address)
