"""The inside of fake VMs, against what OVN was told of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.northbound.live import LiveRow
from ovnlab.tasks.probe import BoundVM
from ovnlab.topology.addresses import ip_of
from ovnlab.topology.resolved import VM, interface_name

REFUSING = ("blackhole", "unreachable", "prohibit")


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    ports = {row.name: row for row in snapshot.rows if row.table == "Logical_Switch_Port"}
    for seen in snapshot.nodes.values():
        for bound in seen.state.vms:
            wanted = snapshot.topology.vm(bound.name) or bound.vm
            if wanted is None or not _is_read(seen, bound) or _is_foreign(seen, bound):
                continue
            yield from _inside(snapshot, seen, bound, wanted, ports.get(bound.name))


def _is_read(seen: NodeSnapshot, bound: BoundVM) -> bool:
    return f"vm.{bound.name}" not in seen.answers or seen.answer(f"vm.{bound.name}").ok


def _is_foreign(seen: NodeSnapshot, bound: BoundVM) -> bool:
    """Return True if somebody else made the port, which need not have a namespace."""
    return "ovnlab" not in seen.interfaces.get(bound.port, {}).get("external_ids", {})


def _drift(seen: NodeSnapshot, name: str) -> tuple[str, ...]:
    return (f"bind {name} to {seen.name}", f"unbind {name} from {seen.name}")


def _inside(
    snapshot: LabSnapshot, seen: NodeSnapshot, bound: BoundVM, wanted: VM, port: LiveRow | None
) -> Iterator[Finding]:
    name, device = bound.name, interface_name(bound.name)
    keys, drift = frozenset({f"inside {name}"}), _drift(seen, name)
    all_of_it = (f"vm {name}", f"size vm {name}")
    unlike = bound.unlike(wanted)
    if not bound.mac and bound.vm is not None:
        yield Finding(
            "vm-no-interface",
            f"fake VM {name}",
            "has no interface in its namespace",
            (f"{seen.name}: ip -n {name} link: no {device}",),
            "ovnlab up",
            keys=keys,
            effects=all_of_it,
            drift=drift,
        )
        return
    if "MTU" in unlike and not bound.mtu:
        yield Finding(
            "vm-down",
            f"interface {device} of fake VM {name}",
            "is down",
            (f"{seen.name}: ip -n {name} link: {device} is not UP",),
            f"ovnlab exec {name} -- ip link set {device} up",
            keys=keys,
            effects=all_of_it,
            drift=drift,
        )
        return
    if "MAC" in unlike:
        yield _other_mac(bound, wanted, port, keys, all_of_it, drift)
    if "addresses" in unlike:
        yield from _other_addresses(seen, bound, wanted, port, keys, drift)
    if "MTU" in unlike and bound.mtu:
        yield Finding(
            "vm-mtu",
            f"interface {device} of fake VM {name}",
            f"has MTU {bound.mtu} instead of {wanted.mtu}",
            (f"ip -n {name} link: {device} mtu {bound.mtu}",),
            f"ovnlab exec {name} -- ip link set {device} mtu {wanted.mtu}",
            keys=keys,
            effects=(f"size vm {name}",),
            drift=drift,
        )
    if "gateways" in unlike:
        meant, found = unlike["gateways"]
        problem = (
            f"is {found} instead of {meant}"
            if found and meant
            else f"is missing (via {meant})"
            if meant
            else f"is {found}, and none is meant"
        )
        yield Finding(
            "vm-gateway",
            f"default route of fake VM {name}",
            problem,
            (f"{seen.name}: ip -n {name} route: default {f'via {found}' if found else 'none'}",),
            f"ovnlab exec {name} -- ip route replace default via {meant.split()[0]}" if meant else "ovnlab up",
            keys=keys | {f"gateway of {name}"},
            effects=(f"routed {name}",),
            drift=drift,
        )
    if "what it asks for" in unlike:
        yield Finding(
            "vm-no-lease",
            f"fake VM {name}",
            "got no address from OVN's DHCP or router advertisements",
            (f"{seen.name}: ip -n {name} address: none of what it asks for ({', '.join(wanted.asks)})",),
            "ovnlab up",
            keys=frozenset({*keys, f"vm {name}"}),
            effects=all_of_it,
            drift=drift,
        )
    for vlan in wanted.vlans:
        if vlan.interface in unlike:
            meant, found = unlike[vlan.interface]
            yield Finding(
                "vm-vlan",
                f"interface {vlan.interface} of fake VM {name}",
                f"is {found} instead of {meant}",
                (f"{seen.name}: ip -n {name} address",),
                "ovnlab up",
                keys=keys,
                effects=(f"vm {vlan.name}", f"size vm {vlan.name}"),
                drift=drift,
            )
    if not {"addresses", "MAC"} & unlike.keys():
        for network in bound.unrouted():
            yield Finding(
                "vm-unrouted",
                f"routes of fake VM {name}",
                f"have none to its own network {network}",
                (f"{seen.name}: ip -n {name} route",),
                f"ovnlab exec {name} -- ip route replace {network} dev {device}",
                keys=keys,
                effects=all_of_it,
                drift=drift,
            )
    yield from _settings(snapshot, seen, bound, device, keys)


def _other_mac(
    bound: BoundVM,
    wanted: VM,
    port: LiveRow | None,
    keys: frozenset[str],
    effects: tuple[str, ...],
    drift: tuple[str, ...],
) -> Finding:
    name = bound.name
    problem = f"is {bound.mac} instead of {wanted.mac}"
    evidence = [f"ip -n {name} link: {bound.mac}"]
    if port is not None:
        evidence.append(f"Logical_Switch_Port {name} addresses: {'; '.join(port.columns['addresses'])}")
        if secured := port.columns["port_security"]:
            problem += ": port security drops what it sends"
            evidence.append(f"Logical_Switch_Port {name} port_security: {'; '.join(secured)}")
    return Finding(
        "vm-mac",
        f"MAC of fake VM {name}",
        problem,
        tuple(evidence),
        f"ovnlab exec {name} -- ip link set {interface_name(name)} address {wanted.mac}",
        keys=keys,
        effects=effects,
        drift=drift,
    )


def _other_addresses(
    seen: NodeSnapshot, bound: BoundVM, wanted: VM, port: LiveRow | None, keys: frozenset[str], drift: tuple[str, ...]
) -> Iterator[Finding]:
    name = bound.name
    meant, found = set(wanted.addresses), set(bound.addresses)
    missing = meant - found
    if not missing and _allowed(found - meant, port):
        return
    told = ", ".join(sorted(bound.addresses)) or "none"
    bare = {ip_of(word) for word in found}
    lengths = [word for word in missing if ip_of(word) in bare]
    if lengths:
        problem = f"are {told} instead of {', '.join(sorted(meant))}: it takes other addresses as on its link"
    elif missing:
        problem = f"are {told} instead of {', '.join(sorted(meant))}"
    else:
        problem = f"are {told}; {', '.join(sorted(found - meant))} is not of its port"
    if port is not None and port.columns["port_security"] and found - meant:
        problem += " (port security drops what it sends from there)"
    yield Finding(
        "vm-address",
        f"addresses of fake VM {name}",
        problem,
        (f"{seen.name}: ip -n {name} address: {told}",),
        "ovnlab up",
        keys=keys,
        effects=(f"vm {name}", f"size vm {name}", f"gateway of {name}") if missing else (),
        drift=drift,
    )


def _allowed(extra: set[str], port: LiveRow | None) -> bool:
    """Return True if the database lets a port use addresses beyond the file's, or allows unknown ones."""
    words = " ".join(port.columns["addresses"]).split() if port is not None else []
    return "unknown" in words or {ip_of(word) for word in extra} <= set(words)


def _settings(
    snapshot: LabSnapshot, seen: NodeSnapshot, bound: BoundVM, device: str, keys: frozenset[str]
) -> Iterator[Finding]:
    inside = seen.inside(bound.name)
    if inside is None:
        return
    name = bound.name
    if inside.ignores_echo:
        yield Finding(
            "vm-ignores-echo",
            f"fake VM {name}",
            "ignores pings",
            (f"{seen.name}: {name}: net.ipv4.icmp_echo_ignore_all=1",),
            f"ovnlab exec {name} -- sysctl -w net.ipv4.icmp_echo_ignore_all=0",
            keys=keys,
            effects=(f"ping to {name}",),
        )
    for route in inside.routes:
        if route.get("type") in REFUSING and "table" not in route:
            yield Finding(
                "vm-route-refuses",
                f"routes of fake VM {name}",
                f"have a {route['type']} route to {route['dst']}",
                (f"{seen.name}: ip -n {name} route: {route['type']} {route['dst']}",),
                f"ovnlab exec {name} -- ip route del {route['type']} {route['dst']}",
                keys=keys,
                effects=(f"vm {name}",),
            )
        elif _is_odd(bound, route):
            yield Finding(
                "vm-route-odd",
                f"routes of fake VM {name}",
                f"have one to {route['dst']} by {route.get('gateway') or route.get('dev')}, which ovnlab did not make",
                (f"{seen.name}: ip -n {name} route",),
                f"ovnlab exec {name} -- ip route del {route['dst']}",
                certainty=LIKELY,
                keys=keys,
                may=(f"vm {name}",),
            )
    macs = {
        ip: mac
        for zone in snapshot.zones.values()
        for port in zone.names.ports.values()
        for ip in port.ips
        if (mac := port.mac_of(ip))
    }
    for neighbour in inside.neighbours:
        ip, mac = str(neighbour.get("dst", "")), str(neighbour.get("lladdr", ""))
        if "PERMANENT" in neighbour.get("state", ()) and mac and ip in macs and mac.lower() != macs[ip].lower():
            yield Finding(
                "vm-neighbour",
                f"neighbour {ip} in fake VM {name}",
                f"is set to MAC {mac}, and OVN has {macs[ip]}",
                (f"{seen.name}: ip -n {name} neigh: {ip} lladdr {mac} PERMANENT",),
                f"ovnlab exec {name} -- ip neigh del {ip} dev {device}",
                keys=keys,
                effects=(f"vm {name}",),
            )


def _is_odd(bound: BoundVM, route: dict[str, object]) -> bool:
    """Return True if a route of the main table is more special than those that a lab makes."""
    if (
        "table" in route
        or route.get("dst") == "default"
        or route.get("protocol") in ("kernel", "ra")
        or "type" in route
    ):
        return False
    try:
        network = ipaddress.ip_network(str(route.get("dst")), strict=False)
    except ValueError:
        return False
    own = {ipaddress.ip_interface(word).network for word in bound.addresses} | {
        ipaddress.ip_interface(word).network for dev in bound.devices.values() for word in dev.addresses
    }
    single = network.num_addresses == 1 and str(network.network_address) in bound.gateways
    return network not in own and not network.is_multicast and not single


CAUSE = Cause(
    name="vms",
    title="A fake VM is not configured as its port",
    reads="ip address, route and neigh in each namespace, its settings, and the port's row in the Northbound database",
    certainty="certain; a route that nobody of the lab made: likely",
    explains="every pair of the fake VM; a default route: those of other networks; an MTU: those with large packets",
    remedy="the ip command that puts it back, or ovnlab up",
    find=_find,
)
