"""Defaults of the logical network of a file (see `complete`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator

import msgspec

from ovnlab.topology import model, objects
from ovnlab.topology.addresses import bracketed, eui64, ip_of, parse_endpoint, with_length
from ovnlab.topology.inuse import InUse, Pool, kept_mac
from ovnlab.topology.objects.port_types import OUTSIDE
from ovnlab.topology.resolved import (
    VM,
    Acl,
    AddressSet,
    DhcpOptions,
    HaChassisGroup,
    HealthCheck,
    LoadBalancer,
    Nat,
    PortGroup,
    Qos,
    Router,
    RouterPort,
    SchemaRow,
    StaticRoute,
    Switch,
    SwitchPort,
    Topology,
    Vlan,
    generated_mac,
    interface_name,
    usable_gateways,
)
from ovnlab.topology.source import Where


def complete(topology: Topology, file: model.TopologyFile, place: Callable[[Where], str], in_use: InUse) -> Topology:
    """Return a topology of nodes with the logical network of a file that holds together."""
    network = file.logical
    topology = msgspec.structs.replace(
        topology,
        routers=tuple(_router(topology.name, name, router, in_use, place) for name, router in network.routers.items()),
        acls=tuple(_acl(acl, place(("logical", "acls", i, "match"))) for i, acl in enumerate(network.acls)),
        qos=tuple(_qos(rule, place(("logical", "qos", i, "match"))) for i, rule in enumerate(network.qos)),
        port_groups=tuple(PortGroup(name, tuple(group.ports)) for name, group in network.port_groups.items()),
        address_sets=tuple(AddressSet(name, tuple(found)) for name, found in network.address_sets.items()),
        ha_chassis_groups=tuple(
            HaChassisGroup(name, file.nodes[members[0]].zone or "" if members else "", tuple(members))
            for name, members in network.ha_chassis_groups.items()
        ),
    )
    ports = {
        name: _with_virtual_ips(tuple(_ports(topology, network, name, in_use)))
        for name, switch in network.switches.items()
    }
    vlans = _vlans(topology, network, ports)
    topology = msgspec.structs.replace(
        topology,
        switches=tuple(
            _switch(topology, name, switch, ports[name], vlans) for name, switch in network.switches.items()
        ),
    )
    balancers = tuple(
        msgspec.structs.replace(
            _balancer(topology, file, name, found), place=place(("logical", "load_balancers", name, "vip"))
        )
        for name, found in network.load_balancers.items()
    )
    return msgspec.structs.replace(
        topology,
        load_balancers=balancers,
        rows=tuple(objects.rows(file, topology)),
        schema_rows=tuple(_schema_rows(network, place)),
    )


def _schema_rows(network: model.Logical, place: Callable[[Where], str]) -> Iterator[SchemaRow]:
    for table, rows in network.rows.items():
        for name, columns in rows.items():
            where = ("logical", "rows", table, name)
            places = {column: place((*where, column)) for column in columns}
            yield SchemaRow(table, name, dict(columns), {"": place(where), **places})


def given_addresses(network: model.Logical) -> set[str]:
    """Return all addresses that the file gives to something logical."""
    found = {ip for switch in network.switches.values() for port in switch.ports.values() for ip in port.ip}
    for router in network.routers.values():
        found.update(ip_of(ip) for port in router.ports.values() for ip in port.ip)
        found.update(nat.external for nat in router.nat)
        found.update(hop for route in router.routes for hop in route.nexthop)
    return {ip for ip in found if ip not in ("dhcp", "slaac")}


def _vips(network: model.Logical) -> Iterator[str]:
    """Yield the addresses of load balancers and forwarding groups."""
    for balancer in network.load_balancers.values():
        yield from (parse_endpoint(vip).ip for vip in (balancer.vip, *balancer.vips))
    for switch in network.switches.values():
        yield from (group.vip for group in switch.forwarding_groups.values())


# ── routers ──────────────────────────────────────────────────────────────────────────────────────────────


def _router(lab: str, name: str, router: model.Router, in_use: InUse, place: Callable[[Where], str]) -> Router:
    where = ("logical", "routers", name)
    return Router(
        name=name,
        ports=tuple(_router_port(lab, name, switch, port, in_use) for switch, port in router.ports.items()),
        zone=router.zone or "",
        chassis=router.chassis or "",
        routes=tuple(
            StaticRoute(
                prefix=route.prefix,
                nexthop=hop,
                port=f"{name}-{route.port}" if route.port else "",
                policy=route.policy,
                row_name=route.row_name(name, hop),
                table=route.route_table or "",
                place=place((*where, "routes", number, "prefix")),
            )
            for number, route in enumerate(router.routes)
            for hop in route.nexthop
        ),
        nat=tuple(
            msgspec.structs.replace(_nat(lab, name, nat), place=place((*where, "nat", number, "external")))
            for number, nat in enumerate(router.nat)
        ),
        options=dict(router.options),
    )


def _router_port(lab: str, router: str, switch: str, port: model.RouterPort, in_use: InUse) -> RouterPort:
    kept = kept_mac(in_use.router_macs.get(f"{router}-{switch}", ""), ())
    redirect = {"redirect-type": port.redirect_type} if port.redirect_type else {}
    return RouterPort(
        name=f"{router}-{switch}",
        peer=f"{switch}-{router}",
        switch=switch,
        mac=port.mac or kept or generated_mac(lab, router, switch),
        networks=tuple(port.ip),
        gateway_chassis=tuple(port.gateway_chassis),
        ha_chassis_group=port.ha_chassis_group or "",
        ipv6_ra=port.ipv6_ra or "",
        options={**redirect, **port.options},
    )


def _nat(lab: str, router: str, nat: model.Nat) -> Nat:
    mac = nat.mac or generated_mac(lab, router, nat.external) if nat.port else ""
    return Nat(type=nat.type, external=nat.external, logical=nat.logical, port=nat.port or "", mac=mac or "")


# ── switches ─────────────────────────────────────────────────────────────────────────────────────────────


def _switch(
    topology: Topology, name: str, switch: model.Switch, ports: tuple[SwitchPort, ...], vlans: dict[str, list[Vlan]]
) -> Switch:
    return Switch(
        name=name,
        subnets=tuple(switch.subnet),
        vms=tuple(
            _vm(topology, name, switch, port, vlans.get(port.name, ()))
            for port in ports
            if not port.type and not port.parent
        ),
        ports=ports,
        zone=switch.zone or "",
        transit=switch.transit,
        physical_network=switch.physical_network or "",
        vlan=switch.vlan or 0,
        dhcp=tuple(_dhcp(topology, name, switch, subnet) for subnet in switch.subnet) if switch.dhcp else (),
        dns={host: tuple(ips) for host, ips in switch.dns.items()},
        other_config=dict(switch.other_config),
    )


def _ports(topology: Topology, network: model.Logical, switch_name: str, in_use: InUse) -> Iterator[SwitchPort]:
    switch = network.switches[switch_name]
    taken = {ip for port in switch.ports.values() for ip in port.ip if ip not in ("dhcp", "slaac")}
    for router in topology.routers:
        for router_port in router.ports:
            if router_port.switch == switch_name:
                taken.update(ip_of(network) for network in router_port.networks)
        taken.update(nat.external for nat in router.nat)
    taken.update(address for node in topology.nodes for address in node.addresses)
    taken.update(_vips(network))
    taken |= in_use.others.get(switch_name, frozenset())
    had = {name: found for name in switch.ports if (found := in_use.ports.get((switch_name, name))) is not None}
    chosen_ips = {name: had[name].ips for name in had if {"dhcp", "slaac"} >= set(switch.ports[name].ip)}
    pools = {subnet: Pool(subnet, taken, chosen_ips, in_use.taken) for subnet in switch.subnet}
    macs = {port.mac for port in switch.ports.values() if port.mac}
    for name, wanted in switch.ports.items():
        if wanted.type in OUTSIDE:
            continue
        kept = kept_mac(had[name].mac, macs) if name in had else ""
        chosen = kept or generated_mac(topology.name, switch_name, name)
        mac = wanted.mac or _mac_of_host(topology, switch, wanted) or chosen
        ips = tuple(_ips(name, wanted, mac, pools))
        yield SwitchPort(
            name=name,
            mac=mac,
            ips=ips,
            type=wanted.type or "",
            options=_port_options(wanted, ips),
            parent=wanted.parent or "",
            tag=wanted.vlan or 0,
            port_security=wanted.port_security,
            dhcpv4=_dhcp_name(switch_name, switch, ips, 4),
            dhcpv6=_dhcp_name(switch_name, switch, ips, 6),
            ha_chassis_group=wanted.ha_chassis_group or "",
        )


def _with_virtual_ips(ports: tuple[SwitchPort, ...]) -> tuple[SwitchPort, ...]:
    """Return ports, each with the addresses of the virtual ports that it is a parent of."""
    parents: dict[str, list[str]] = {}
    for port in ports:
        if port.type != "virtual":
            continue
        for parent in filter(None, port.options.get("virtual-parents", "").split(",")):
            parents.setdefault(parent, []).append(port.options["virtual-ip"])
    return tuple(msgspec.structs.replace(port, virtual_ips=tuple(parents.get(port.name, ()))) for port in ports)


def _mac_of_host(topology: Topology, switch: model.Switch, port: model.Port) -> str | None:
    node = topology.node(port.host) if port.host else None
    nic = node.nic(switch.physical_network or "") if node else None
    return nic.mac if nic else None


def _ips(name: str, port: model.Port, mac: str, pools: dict[str, Pool]) -> Iterator[str]:
    """Yield what the file gives, and for each subnet that nothing is given of, one of it; of SLAAC the one that comes
    of it.

    Where the file gives addresses, it means those and no others.
    """
    given = [ip for ip in port.ip if ip not in ("dhcp", "slaac")]
    yield from given
    families = {ipaddress.ip_address(ip).version for ip in given}
    for subnet, pool in pools.items():
        version = ipaddress.ip_network(subnet).version
        if version in families or (given and not {"dhcp", "slaac"} & set(port.ip)):
            continue
        if "slaac" in port.ip and version == 6:
            yield eui64(subnet, mac)
        elif not port.ip or "dhcp" in port.ip or (port.ip == ["slaac"] and version == 4):
            yield pool.give(name)


def _port_options(port: model.Port, ips: tuple[str, ...]) -> dict[str, str]:
    virtual = {"virtual-ip": ips[0], "virtual-parents": ",".join(port.parents)} if port.type == "virtual" else {}
    return {**virtual, **port.options}


def _asks(switch: model.Switch, port: model.Port, ips: Iterable[str]) -> tuple[str, ...]:
    """Return what a fake VM asks for: its addresses where OVN's DHCP is on and the file gives none."""
    versions = {ipaddress.ip_address(ip).version for ip in ips if ip not in port.ip}
    dhcp = "dhcp" in port.ip or (bool(switch.dhcp) and not port.ip)
    found = []
    if dhcp and 4 in versions:
        found.append("dhcp4")
    if 6 in versions and ("slaac" in port.ip or dhcp):
        found.append("slaac" if "slaac" in port.ip else "dhcp6")
    return tuple(found)


def _vm(topology: Topology, switch_name: str, switch: model.Switch, port: SwitchPort, vlans: Iterable[Vlan]) -> VM:
    wanted = switch.ports[port.name]
    asks = _asks(switch, wanted, port.ips)
    addresses = tuple(_static(switch, port, asks))
    return VM(
        name=port.name,
        mac=port.mac,
        addresses=addresses,
        gateways=_gateways(topology, switch_name, addresses),
        mtu=wanted.mtu or topology.vm_mtu,
        chassis=wanted.chassis,
        asks=asks,
        vlans=tuple(vlans),
        serves=tuple(wanted.serve),
        answers=tuple(ip for ip in (*port.ips, *topology.gateways(switch_name)) if asks and ip not in wanted.ip),
        virtual_ips=port.virtual_ips,
        prefix6=next((net.prefixlen for net in map(ipaddress.ip_network, switch.subnet) if net.version == 6), 64),
        ignores_advertisements=_is_advertised(topology, switch_name) and not {"slaac", "dhcp6"} & set(asks),
    )


def _is_advertised(topology: Topology, switch: str) -> bool:
    """Return True if a router tells the machines on a switch of IPv6 prefixes."""
    return any(port.ipv6_ra for router in topology.routers for port in router.ports if port.switch == switch)


def _gateways(topology: Topology, switch: str, addresses: Iterable[str]) -> tuple[str, ...]:
    return usable_gateways(topology.gateways(switch), [ip_of(address) for address in addresses])


def _static(switch: model.Switch, port: SwitchPort, asks: Iterable[str]) -> Iterator[str]:
    """Yield the addresses that nobody has to ask for, with prefix length."""
    asked = {4 if kind == "dhcp4" else 6 for kind in asks}
    for ip in port.ips:
        if ipaddress.ip_address(ip).version not in asked or ip in switch.ports[port.name].ip:
            yield with_length(ip, switch.subnet)


def _vlans(
    topology: Topology, network: model.Logical, ports: dict[str, tuple[SwitchPort, ...]]
) -> dict[str, list[Vlan]]:
    """Return the VLAN devices of each fake VM that has child ports."""
    found: dict[str, list[Vlan]] = {}
    for switch_name, switch in network.switches.items():
        for port in ports[switch_name]:
            if not port.parent:
                continue
            addresses = tuple(_static(switch, port, ()))
            found.setdefault(port.parent, []).append(
                Vlan(
                    name=port.name,
                    tag=port.tag,
                    interface=interface_name(f"{port.parent}.{port.tag}"),
                    mac=port.mac,
                    addresses=addresses,
                    gateways=_gateways(topology, switch_name, addresses),
                )
            )
    return found


# ── DHCP ─────────────────────────────────────────────────────────────────────────────────────────────────


def _dhcp_name(switch_name: str, switch: model.Switch, ips: Iterable[str], version: int) -> str:
    """Return the DHCP options for the first address of a family, empty where OVN does not answer for it."""
    if not switch.dhcp:
        return ""
    addresses = [ipaddress.ip_address(ip) for ip in ips]
    for subnet in switch.subnet:
        network = ipaddress.ip_network(subnet)
        if network.version == version and any(address in network for address in addresses):
            return f"{switch_name} {subnet}"
    return ""


def _dhcp(topology: Topology, name: str, switch: model.Switch, subnet: str) -> DhcpOptions:
    """Return what OVN answers, as the router where there is one (ovn-nb(5), DHCP_Options)."""
    wanted = switch.dhcp if isinstance(switch.dhcp, model.Dhcp) else model.Dhcp()
    network = ipaddress.ip_network(subnet)
    ports = [port for router in topology.routers for port in router.ports if port.switch == name]
    mac = ports[0].mac if ports else generated_mac(topology.name, name, "dhcp")
    options = {"server_id": mac}
    if network.version == 4:
        router = next((ip for ip in topology.gateways(name) if ipaddress.ip_address(ip) in network), None)
        options = {
            "server_id": router or str(network.network_address + 1),
            "server_mac": mac,
            "lease_time": str(wanted.lease_time),
            "mtu": str(topology.vm_mtu),
            **({"router": router} if router else {}),
            **({"domain_name": f'"{wanted.domain_name}"'} if wanted.domain_name else {}),
            **wanted.options,
        }
    if wanted.dns_server and ipaddress.ip_address(wanted.dns_server).version == network.version:
        options["dns_server"] = wanted.dns_server
    return DhcpOptions(name=f"{name} {subnet}", cidr=subnet, options=options)


# ── rules and load balancers ─────────────────────────────────────────────────────────────────────────────


def _acl(acl: model.Acl, place: str) -> Acl:
    return Acl(
        owner=acl.switch or acl.port_group or "",
        on_group=acl.port_group is not None,
        direction=acl.direction,
        priority=acl.priority,
        match=acl.match,
        action=acl.action,
        name=acl.name or "",
        log=acl.log,
        severity=acl.severity or "",
        place=place,
    )


def _qos(rule: model.Qos, place: str) -> Qos:
    bandwidth = {"rate": rule.rate, "burst": rule.burst}
    return Qos(
        switch=rule.switch,
        direction=rule.direction,
        priority=rule.priority,
        match=rule.match,
        bandwidth={key: value for key, value in bandwidth.items() if value is not None},
        action={"dscp": rule.dscp} if rule.dscp is not None else {},
        place=place,
    )


def _balancer(topology: Topology, file: model.TopologyFile, name: str, balancer: model.LoadBalancer) -> LoadBalancer:
    return LoadBalancer(
        name=name,
        vip=balancer.vip,
        backends=tuple(
            topology.backend(found, parse_endpoint(balancer.vip).address.version) for found in balancer.backends
        ),
        protocol=balancer.protocol,
        switches=tuple(balancer.switches),
        routers=tuple(balancer.routers),
        health_check=_health_check(topology, file, balancer) if balancer.health_check else None,
        options=dict(balancer.options),
    )


def _health_check(topology: Topology, file: model.TopologyFile, balancer: model.LoadBalancer) -> HealthCheck:
    wanted = balancer.health_check or model.HealthCheck()
    mappings = {}
    for backend in balancer.backends:
        version = parse_endpoint(balancer.vip).address.version
        address = parse_endpoint(topology.backend(backend, version)).ip
        owner = next((port for switch in topology.switches for port in switch.ports if address in port.ips), None)
        if owner is not None:
            source = wanted.source or _spare_address(topology, file, address)
            mappings[bracketed(address)] = f"{owner.name}:{bracketed(source)}"
    options = {
        "interval": str(wanted.interval),
        "timeout": str(wanted.timeout),
        "success_count": str(wanted.success_count),
        "failure_count": str(wanted.failure_count),
    }
    return HealthCheck(options, mappings)


def _spare_address(topology: Topology, file: model.TopologyFile, beside: str) -> str:
    """Return the last address, that nothing has, of the subnet that another one is in."""
    address = ipaddress.ip_address(beside)
    subnets = [net for switch in topology.switches for net in map(ipaddress.ip_network, switch.subnets)]
    network = next(net for net in subnets if address in net)
    taken = {ip for switch in topology.switches for port in switch.ports for ip in port.ips}
    taken |= given_addresses(file.logical)
    taken.update(_vips(file.logical))
    spare = network.broadcast_address - (1 if network.version == 4 else 0)
    while str(spare) in taken:
        spare -= 1
    return str(spare)
