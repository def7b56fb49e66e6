"""Ports that `ovnlab bind` binds: of the file, made by hand, or new ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.lab.plan import LabState
from ovnlab.northbound import change, live
from ovnlab.northbound.row_addresses import ips as addresses_of
from ovnlab.northbound.row_addresses import on_switches, port_words
from ovnlab.northbound.rows import switch_port, vm_port
from ovnlab.topology import resolved
from ovnlab.topology.addresses import ip_of, is_ip, is_mac
from ovnlab.topology.resolved import VM, Topology, generated_mac
from ovnlab.topology.unknown_name import unknown_name


class Specs:
    """The specifications of fake VMs to bind, and the ports that have to be created for them."""

    def __init__(
        self, topology: Topology, seen: LabState, network: str | None, ip: str | None, mac: str | None
    ) -> None:
        self.topology = topology
        self.rows = {row.name: row for row in seen.rows or () if row.table == "Logical_Switch_Port"}
        self.switches = {row.name: row.zone for row in seen.rows or () if row.table == "Logical_Switch"}
        self.seen_rows = seen.rows or ()
        self.bound = {bound.name: bound for state in seen.nodes.values() for bound in state.vms}
        self.network, self.ip, self.mac = network, ip, mac
        self.given: set[str] = set()
        self.changes: list[change.Change] = []

    def zone_of(self, vm: str) -> str:
        """Return the zone whose databases have, or get, the port of a fake VM."""
        if vm in self.rows:
            return self.rows[vm].zone
        return next((added.zone for added in self.changes if added.name == vm), "")

    def of(self, name: str) -> VM:
        """Return what `name` is bound as: the file's word, else the port that is there, else a new one."""
        if not resolved.NAME.fullmatch(name) or resolved.is_reserved(name) or self.topology.node(name):
            hint = "letters, digits, '.', '_' and '-', and no node's or interface's name"
            raise UsageError(f"{name!r} cannot be the name of a fake VM", hint=hint)
        vm = self.topology.vm(name)
        if vm is not None and name in self.rows:
            if self.network or self.ip or self.mac:
                raise UsageError(f"{name} has its network, ip and mac from the topology: change them there")
            return vm
        if name in self.rows:
            return self._of_row(self.rows[name])
        if vm is not None:
            return self._put_back(vm)
        if self.network is None:
            error = unknown_name(self.topology, name)
            error.hint = f"{error.hint} — or --network creates a port {name}"
            raise error
        return self._new(name, self.network)

    def _put_back(self, vm: VM) -> VM:
        """Return a port of the file that somebody removed by hand."""
        switch = next(switch for switch in self.topology.switches if vm in switch.vms)
        if switch.name not in self.switches:
            raise OvnlabError(f"the logical switch of {vm.name} is not there", hint="`ovnlab up` brings it back")
        port = next(port for port in switch.ports if port.name == vm.name)
        self.changes.append(change.add(switch_port(self.topology, switch, port), self.seen_rows))
        return vm

    def _of_row(self, row: live.LiveRow) -> VM:
        """Return a port that somebody else made, or `bind` did."""
        if row.columns["type"]:
            raise UsageError(f"{row.name} is a {row.columns['type']} port, not a fake VM's")
        if row.columns["parent_name"]:
            raise UsageError(f"{row.name} is a VLAN device of {row.columns['parent_name'][0]}: bind that")
        bound = self.bound.get(row.name)
        if bound is not None and bound.vm is not None and not (self.ip or self.mac):
            return bound.vm
        words = port_words(row)
        macs = [word for word in words if is_mac(word)]
        chosen = generated_mac(self.topology.name, row.parent or "", row.name)
        ips = [self.ip] if self.ip else [word for word in words if is_ip(word)]
        return self._vm(row.name, row.parent or "", self.mac or next(iter(macs), chosen), ips)

    def _new(self, name: str, network: str) -> VM:
        if network not in self.switches:
            import difflib  # noqa: PLC0415  for names that are mistyped

            close = difflib.get_close_matches(network, self.switches, n=1)
            hint = f"did you mean {close[0]}?" if close else f"available: {', '.join(sorted(self.switches)) or 'none'}"
            raise UsageError(f"unknown logical switch {network!r}", hint=hint)
        switch = self.topology.switch(network)
        ips = [self.ip] if self.ip else self._free_ips(network, switch.subnets if switch else ())
        vm = self._vm(name, network, self.mac or generated_mac(self.topology.name, network, name), ips)
        row = vm_port(self.topology.name, network, vm, zone=self.switches[network])
        self.changes.append(change.add(row, self.seen_rows))
        return vm

    def _free_ips(self, network: str, subnets: Sequence[str]) -> list[str]:
        here = [row for switch, row in on_switches(self.seen_rows) if switch == network]
        shared = [row for row in self.seen_rows if row.table in ("NAT", "Load_Balancer")]
        taken = {ip for row in (*here, *shared) for ip in addresses_of(row)}
        taken.update(self.topology.gateways(network), self.given)
        taken.update(address for node in self.topology.nodes for address in node.addresses)
        ips = [next(resolved.free_addresses(subnet, taken), None) for subnet in subnets]
        if None in ips:
            raise UsageError(f"{network} has no free address left", hint="--ip gives one of your own")
        self.given.update(filter(None, ips))
        return [ip for ip in ips if ip]

    def _routed(self, network: str) -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
        """Return the addresses that routers have on a switch, whoever made them (ovn-nb(5), Logical_Router_Port)."""
        router_ports = {row.name: row for row in self.seen_rows if row.table == "Logical_Router_Port"}
        return [
            ipaddress.ip_interface(word)
            for row in self.rows.values()
            if row.parent == network and row.columns["type"] == "router"
            if (port := router_ports.get(row.columns["options"].get("router-port", ""))) is not None
            for word in port.columns["networks"]
        ]

    def _refuse_taken(self, name: str, network: str) -> None:
        """Raise UsageError for an address that another port of the switch has."""
        for row in self.rows.values():
            words = port_words(row)
            if row.parent != network or row.name == name:
                continue
            for given in (self.mac, self.ip and ip_of(self.ip)):
                if given is not None and given in words:
                    raise UsageError(f"{given} is in use by {row.name}")
        if self.ip and ip_of(self.ip) in self.topology.gateways(network):
            raise UsageError(f"{self.ip} is in use by the router of {network}")

    def _vm(self, name: str, network: str, mac: str, ips: Sequence[str]) -> VM:
        self._refuse_taken(name, network)
        switch = self.topology.switch(network)
        routed = self._routed(network)
        subnets = switch.subnets if switch and switch.subnets else [str(interface.network) for interface in routed]
        addresses = tuple(_with_prefix_length(ip, subnets) for ip in ips)
        gateways = resolved.usable_gateways(
            self.topology.gateways(network) or _first_of_each(routed), [ip_of(word) for word in addresses]
        )
        return VM(name=name, mac=mac, addresses=addresses, gateways=gateways, mtu=self.topology.vm_mtu)


def _first_of_each(
    interfaces: Sequence[ipaddress.IPv4Interface | ipaddress.IPv6Interface],
) -> tuple[str, ...]:
    """Return the first address of each IP version."""
    return tuple({interface.version: str(interface.ip) for interface in reversed(interfaces)}.values())


def _with_prefix_length(ip: str, subnets: Sequence[str]) -> str:
    """Return an address with the prefix length that it brings, that its subnet has, or that of a host."""
    interface = ipaddress.ip_interface(ip)
    if "/" in ip:
        return str(interface)
    for subnet in map(ipaddress.ip_network, subnets):
        if subnet.num_addresses > 2 and interface.ip in (subnet.network_address, subnet.broadcast_address):
            raise UsageError(f"{ip} is the network or broadcast address of {subnet}")
        if interface.ip in subnet:
            return f"{ip}/{subnet.prefixlen}"
    if subnets:
        raise UsageError(f"{ip} is outside {' and '.join(subnets)}")
    return str(interface)
