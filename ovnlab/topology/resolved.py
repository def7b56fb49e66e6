"""A topology in which everything is decided: every name, MAC, address and role.

What every later stage reads. Nothing in it is optional because somebody left it out; an empty tuple or
None means that the lab has no such thing. msgspec structs, because reading them back from the lab's
stored state must cost next to nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from ovnlab.topology.addresses import bracketed, ip_of, split_name

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of nodes, fake VMs, switches and routers."""

LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Names of labs."""

DEFAULT_URI = "qemu:///system"
"""The libvirt connection that nodes are defined on where nothing is said."""

RESERVED = frozenset(
    {"lo", "all", "default", "eth0", "eth1", "br-eth1", "br-int", "ovs-netdev", "ovs-system", "underlay"}
)
"""Names that nodes and fake VMs cannot have, because an interface or the kernel's settings have them already."""

TUNNEL_PORT = re.compile(r"ovn-.*-\d+|patch-.*|eth\d+")
"""Names of ports that ovn-controller makes on br-int, and of NICs."""


def is_reserved(name: str) -> bool:
    """Return True if something that every node has is called so."""
    return name in RESERVED or TUNNEL_PORT.fullmatch(name) is not None


IFNAMSIZ = 15
"""Longest name of a Linux network interface, in bytes (netdevice(7))."""

GENEVE_OVERHEAD = 58
VXLAN_OVERHEAD = 50
"""Bytes that the encapsulation adds over an IPv4 underlay: Ethernet 14 + IPv4 20 + UDP 8 + header 8, and 8
for OVN's Geneve option (ovn-architecture(7), Tunnel Encapsulations). IPv6 has a header of 40."""

IPV6_OVERHEAD = 20


LARGEST_VM_MTU = 1500
"""The userspace datapath takes no more from a port once that is in another namespace: it cannot see its MTU there,
and reads packets of Ethernet's usual size."""


class Underlay(msgspec.Struct, frozen=True):
    """The network between the nodes: its subnet and its MTU in bytes."""

    subnet: str
    mtu: int


class Control(msgspec.Struct, frozen=True):
    """The connections of databases and chassis; times in milliseconds."""

    tls: bool = False
    monitor_all: bool = False
    northd_threads: int = 1
    probe_interval: int = 180_000
    election_timer: int = 1000


class Route(msgspec.Struct, frozen=True):
    """A route of a node; several next hops share the traffic."""

    prefix: str
    nexthops: tuple[str, ...]


class Nic(msgspec.Struct, frozen=True):
    """A node's NIC on a physical network.

    A chassis has it in `bridge`, which carries its addresses; a host has no bridge. `chassis_mac` is what the
    chassis sends with instead of routers' MACs, empty where it does not. `mac` is empty where the NIC is that of a
    machine that is there already: it keeps its own.
    """

    network: str
    device: str
    mac: str
    addresses: tuple[str, ...] = ()
    bridge: str = ""
    chassis_mac: str = ""
    dhcp: bool = False

    @property
    def carrier(self) -> str:
        """Return the device that has its addresses."""
        return self.bridge or self.device


class Origin(msgspec.Struct, frozen=True):
    """The source of OVS or OVN.

    `kind` is packages, system, git, tarball, path or distro; `place` a URL or an absolute path, `ref` a branch, tag or
    commit of git (empty for its default branch), `sha256` a tarball's checksum.
    """

    kind: str
    place: str = ""
    ref: str = ""
    sha256: str = ""

    @property
    def is_source(self) -> bool:
        """Return True if it has to be built."""
        return self.kind not in ("packages", "system")

    def __str__(self) -> str:
        words = {"distro": "the distribution's source"}
        place = f"{self.place} {self.ref}".strip()
        return place or words.get(self.kind, self.kind)


class Software(msgspec.Struct, frozen=True):
    """The software of a node. `library` is the OVS that OVN is compiled against, None for the one that it pins.

    `build_on` is the node that it is compiled on, empty for this machine.
    """

    ovs: Origin = Origin("packages")
    ovn: Origin = Origin("packages")
    library: Origin | None = None
    profile: str = "fast"
    cflags: str = ""
    build_on: str = ""

    @property
    def is_built(self) -> bool:
        """Return True if any of it is built from source."""
        return self.ovs.is_source or self.ovn.is_source

    def __str__(self) -> str:
        if self.ovs == self.ovn:
            return str(self.ovs)
        return f"OVS of {self.ovs}, OVN of {self.ovn}"


class Libvirt(msgspec.Struct, frozen=True):
    """The settings that all libvirt nodes share."""

    pool: str = "default"
    network: str = "nat"
    subnet: str = ""
    bridge: str = ""
    accelerate: str = "auto"


class Machine(msgspec.Struct, frozen=True):
    """The virtual hardware of a node, or how an existing machine is reached by SSH.

    `memory`, `disk` and the further `disks` are in MiB, `kernel` and `initrd` files to boot instead of what
    the image has, `cpu` and `type` libvirt's words for the processor and the machine, `xml` goes into the domain as it
    is. `address` and `mac` are those of the NIC that ovnlab reaches it by.

    `host` is where a machine that is there already is reached, `known_hosts` the file with its host key, `jump` another
    that the way goes over, `sudo` says that `user` becomes root with it, `adopt` that its OVS may have bridges already.
    One that has a `password` has no `key`, but gets the lab's; one with `agent` also keys of your ssh-agent.
    """

    cpus: int = 1
    memory: int = 512
    disk: int = 0
    disks: tuple[int, ...] = ()
    image: str = ""
    sha256: str = ""
    kernel: str = ""
    initrd: str = ""
    cpu: str = ""
    type: str = ""
    xml: str = ""
    uri: str = ""
    address: str = ""
    mac: str = ""
    host: str = ""
    user: str = "root"
    port: int = 22
    key: str = ""
    agent: bool = False
    password: bool = False
    known_hosts: str = ""
    jump: str = ""
    sudo: bool = False
    adopt: bool = False


class Node(msgspec.Struct, frozen=True):
    """A machine of the lab.

    `mac` is that of its underlay address, `segment` the network that its eth1 is on, `encaps` the
    encapsulations that it takes, `datapath` OVS's type of its bridges: netdev, or system for the kernel's. A host
    has an underlay address only where the file gives it one.
    """

    name: str
    role: str
    chassis: bool
    ip: str
    prefix_length: int
    mac: str
    encaps: tuple[str, ...]
    segment: str = "underlay"
    zone: str = ""
    nics: tuple[Nic, ...] = ()
    routes: tuple[Route, ...] = ()
    software: Software = Software()
    datapath: str = "netdev"
    machine: Machine = Machine()
    transport_zones: tuple[str, ...] = ()
    bfd: bool = False
    external_ids: tuple[tuple[str, str], ...] = ()

    @property
    def central(self) -> bool:
        """Return True if it has the Northbound and Southbound databases."""
        return self.role == "central"

    @property
    def has_switch(self) -> bool:
        """Return True if it runs Open vSwitch."""
        return self.role not in ("host", "relay")

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """Return what cannot be changed of a running node: its zone, and whether it is a central or a plain machine."""
        return (self.zone, self.central, self.has_switch)

    @property
    def hardware(self) -> tuple[object, ...]:
        """Return what cannot be changed of its machine: a change makes another machine of it."""
        found = self.machine
        if found.host:
            # What is written down when it is taken must be what is put back: its NICs, and whom a key of ours lets in.
            own_nics = tuple((n.network, n.device, n.bridge, () if n.bridge else n.addresses) for n in self.nics)
            return (found.host, found.port, own_nics, found.password and found.user)
        if not found.image:  # namespaces: nothing that could not be changed
            return ()
        nics = tuple((nic.network, nic.mac) for nic in self.nics)
        own = (found.cpus, found.memory, found.disk, found.disks, found.image, found.kernel, found.initrd)
        return (*own, found.sha256, found.cpu, found.type, found.xml, found.uri, found.address, self.segment, nics)

    @property
    def underlay_device(self) -> str:
        """Return the device that has its underlay address, empty where it has none or that is not ours to set."""
        if not self.ip or self.machine.host:
            return ""
        return "br-eth1" if self.has_switch and self.datapath == "netdev" else "eth1"

    @property
    def integration_mac(self) -> str:
        """Return the MAC of br-int, locally administered."""
        return f"0a{self.mac[2:]}"

    @property
    def cidr(self) -> str:
        """Return the underlay address with its prefix length, empty where it has none."""
        return f"{self.ip}/{self.prefix_length}" if self.ip else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return all its addresses, without prefix length."""
        own = [self.ip] if self.ip else []
        return (*own, *(ip_of(address) for nic in self.nics for address in nic.addresses))

    @property
    def forwards(self) -> bool:
        """Return True if it is a router between its networks."""
        return self.role == "host" and len(self.nics) > 1

    def nic(self, network: str) -> Nic | None:
        """Return its NIC on a physical network, None where it is not on it."""
        return next((nic for nic in self.nics if nic.network == network), None)


class Vlan(msgspec.Struct, frozen=True):
    """A VLAN device inside a fake VM: the child port of that name."""

    name: str
    tag: int
    interface: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()


class VM(msgspec.Struct, frozen=True):
    """A fake VM: how a logical switch port's end in a namespace is configured.

    `addresses` carry a prefix length; `gateways` has at most one address of each family; `chassis` is
    the node that the file binds it to, None where that is left to `ovnlab bind`. What it `asks` for itself
    (dhcp4, dhcp6, slaac) is not in `addresses`; the `answers` are what it should be told. `virtual_ips` are those of
    virtual ports that it is a parent of, which it may have.
    """

    name: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int
    chassis: str | None = None
    asks: tuple[str, ...] = ()
    vlans: tuple[Vlan, ...] = ()
    serves: tuple[int, ...] = ()
    ignores_advertisements: bool = False
    prefix6: int = 64
    answers: tuple[str, ...] = ()
    virtual_ips: tuple[str, ...] = ()

    @property
    def interface(self) -> str:
        """Return the name of its interface: its own, shortened where the kernel does not take it."""
        return interface_name(self.name)

    @property
    def port(self) -> str:
        """Return the port of br-int that is bound: its interface, or the patch to the bridge that tags its VLANs."""
        return interface_name(f"trunk-{self.name}") if self.vlans else self.interface

    @property
    def trunk(self) -> str:
        """Return the bridge that tags its VLANs, where it has any."""
        return trunk_bridge(self.name)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Return the devices in its namespace."""
        return (self.interface, *(vlan.interface for vlan in self.vlans))

    @property
    def more(self) -> str:
        """Return all of it that its main interface does not show, in a line."""
        vlans = (" ".join([v.name, str(v.tag), v.mac, *v.addresses, *v.gateways]) for v in self.vlans)
        asks = [" ".join([*self.asks, *self.answers])] if self.asks else []
        deaf = ["ignores advertisements"] if self.ignores_advertisements else []
        return "; ".join(
            [*asks, *deaf, *(f"serves {port}" for port in self.serves), *(f"vlan {vlan}" for vlan in vlans)]
        )

    @property
    def ips(self) -> tuple[str, ...]:
        """Return its addresses without prefix lengths."""
        return tuple(ip_of(address) for address in self.addresses)


class DhcpOptions(msgspec.Struct, frozen=True):
    """The answers of OVN's DHCP in one subnet."""

    name: str
    cidr: str
    options: dict[str, str]


class SwitchPort(msgspec.Struct, frozen=True):
    """A logical switch port, those of routers and localnet excepted (ovn-nb(5), Logical_Switch_Port)."""

    name: str
    mac: str
    ips: tuple[str, ...]
    type: str = ""
    options: dict[str, str] = {}
    parent: str = ""
    tag: int = 0
    port_security: bool = False
    virtual_ips: tuple[str, ...] = ()
    dhcpv4: str = ""
    dhcpv6: str = ""
    ha_chassis_group: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """MAC and IPs as OVN writes them."""
        return (" ".join([self.mac, *self.ips]),)


class Switch(msgspec.Struct, frozen=True):
    """A logical switch and what is on it. A transit switch is in all zones, and made by ovn-ic."""

    name: str
    subnets: tuple[str, ...]
    vms: tuple[VM, ...]
    ports: tuple[SwitchPort, ...] = ()
    zone: str = ""
    transit: bool = False
    physical_network: str = ""
    vlan: int = 0
    dhcp: tuple[DhcpOptions, ...] = ()
    dns: dict[str, tuple[str, ...]] = {}
    other_config: dict[str, str] = {}


class RouterPort(msgspec.Struct, frozen=True):
    """A logical router port `name` and the switch port `peer` that it is joined to."""

    name: str
    peer: str
    switch: str
    mac: str
    networks: tuple[str, ...]
    gateway_chassis: tuple[str, ...] = ()
    ha_chassis_group: str = ""
    ipv6_ra: str = ""
    options: dict[str, str] = {}

    @property
    def centralized(self) -> bool:
        """Return True if it is a distributed gateway port."""
        return bool(self.gateway_chassis or self.ha_chassis_group)


class StaticRoute(msgspec.Struct, frozen=True):
    """A static route of a logical router, one next hop of it.

    `table` is its route table, `row_name` its row's name, `place` where the file has its prefix.
    """

    prefix: str
    nexthop: str
    port: str = ""
    policy: str = "dst-ip"
    row_name: str = ""
    table: str = ""
    place: str = ""


class Nat(msgspec.Struct, frozen=True):
    """A NAT rule; a distributed one has a port and a MAC. `place` is where the file has its external address."""

    type: str
    external: str
    logical: str
    port: str = ""
    mac: str = ""
    place: str = ""


class Router(msgspec.Struct, frozen=True):
    """A logical router; on `chassis` alone where it is a gateway router."""

    name: str
    ports: tuple[RouterPort, ...]
    zone: str = ""
    chassis: str = ""
    routes: tuple[StaticRoute, ...] = ()
    nat: tuple[Nat, ...] = ()
    options: dict[str, str] = {}

    @property
    def has_gateway(self) -> bool:
        """Return True if there is a place where its NAT and load balancers work."""
        return bool(self.chassis) or any(port.centralized for port in self.ports)


class Acl(msgspec.Struct, frozen=True):
    """An access rule of the switch or port group `owner`; `place` is where the file has its match."""

    owner: str
    on_group: bool
    direction: str
    priority: int
    match: str
    action: str
    name: str = ""
    log: bool = False
    severity: str = ""
    place: str = ""


class Qos(msgspec.Struct, frozen=True):
    """A rule that limits (kbit/s, kbit) or marks what matches; `place` is where the file has its match."""

    switch: str
    direction: str
    priority: int
    match: str
    bandwidth: dict[str, int]
    action: dict[str, int]
    place: str = ""


class PortGroup(msgspec.Struct, frozen=True):
    """Ports that ACLs speak of as one."""

    name: str
    ports: tuple[str, ...]


class AddressSet(msgspec.Struct, frozen=True):
    """Addresses that matches speak of as one."""

    name: str
    addresses: tuple[str, ...]


class HaChassisGroup(msgspec.Struct, frozen=True):
    """Gateways, the preferred first."""

    name: str
    zone: str
    chassis: tuple[str, ...]


class HealthCheck(msgspec.Struct, frozen=True):
    """The probes of backends: options of OVN, and for each backend's address its port and the probes' source."""

    options: dict[str, str]
    mappings: dict[str, str]


class LoadBalancer(msgspec.Struct, frozen=True):
    """A load balancer of one VIP; `place` is where the file has that."""

    name: str
    vip: str
    backends: tuple[str, ...]
    protocol: str
    switches: tuple[str, ...]
    routers: tuple[str, ...]
    health_check: HealthCheck | None = None
    options: dict[str, str] = {}
    place: str = ""


Column: TypeAlias = str | int | bool | tuple[str | int | bool, ...] | dict[str, str | int]
"""A column of a database row: a scalar, a set, or a map. A reference is a set of the names of rows."""


class NorthboundRow(msgspec.Struct, frozen=True):
    """A row of the Northbound database, or further columns of one that another part makes (see `topology.objects`).

    `parent` and `parent_table` say which row it belongs to. A picture says `shown` of it, a word and a text, at the
    switch or router `owner`. `needs` is what it asks for that not all releases of OVN have, and the first that has it.
    """

    table: str
    name: str
    columns: dict[str, Column]
    parent: str = ""
    parent_table: str = ""
    zone: str = ""
    owner: str = ""
    shown: tuple[str, str] = ("", "")
    needs: tuple[str, str] = ("", "")

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what tells it from every other row."""
        return (self.zone, self.table, self.name)


class SchemaRow(msgspec.Struct, frozen=True):
    """A row of the Northbound database in the words of its schema, as the file has it (see `northbound.hatch`).

    `places` say where the file has a column of it, and under an empty name where it has the row.
    """

    table: str
    name: str
    columns: dict[str, Any]
    places: dict[str, str] = {}


class Check(msgspec.Struct, frozen=True):
    """A check of the running lab: a `ping` or a `tcp` connection from a node or fake VM."""

    kind: str
    source: str
    target: str
    port: int
    expect: str


FAULTS = (
    "kill", "stop", "pause", "restart", "reboot", "leader", "northd", "bfd", "link", "partition", "flap",
)  # fmt: skip
"""The kinds of faults that a check can name."""


class FaultCheck(msgspec.Struct, frozen=True):
    """A fault, and what must come of it while it is on.

    `traffic` are source and destination, empty where nobody sends; `lost_within` is in seconds, -1 where nothing is
    said of it. `check` is tried while the fault is on.
    """

    fault: tuple[str, ...]
    traffic: tuple[str, ...] = ()
    lost_within: float = -1.0
    gateway: str = ""
    leader: str = ""
    check: Check | None = None


class LinkRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule for frames of a link in one direction, seen from its node: `in`, `out` or `both`.

    Times are seconds, probabilities 0 to 1, `rate` is bits per second. Only frames of `peers` are concerned where there
    are any, by their MACs; with `bfd` only BFD in tunnels; with `every` only frames of each second period of so many
    seconds, counted from `began`.
    """

    node: str
    device: str
    direction: str = "both"
    down: bool = False
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate: float = 0.0
    peers: tuple[str, ...] = ()
    bfd: bool = False
    every: float = 0.0
    began: float = 0.0


class Topology(msgspec.Struct, frozen=True):
    """A whole lab."""

    name: str
    provider: str
    underlay: Underlay
    nodes: tuple[Node, ...]
    switches: tuple[Switch, ...]
    routers: tuple[Router, ...]
    control: Control = Control()
    acls: tuple[Acl, ...] = ()
    qos: tuple[Qos, ...] = ()
    port_groups: tuple[PortGroup, ...] = ()
    address_sets: tuple[AddressSet, ...] = ()
    ha_chassis_groups: tuple[HaChassisGroup, ...] = ()
    load_balancers: tuple[LoadBalancer, ...] = ()
    rows: tuple[NorthboundRow, ...] = ()
    schema_rows: tuple[SchemaRow, ...] = ()
    physical_networks: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    fault_checks: tuple[FaultCheck, ...] = ()
    links: tuple[LinkRule, ...] = ()
    libvirt: Libvirt = Libvirt()

    @property
    def base(self) -> str:
        """Return what nodes have beside what is built for them: packages, or system for what is installed."""
        kinds = {origin.kind for node in self.nodes for origin in (node.software.ovs, node.software.ovn)}
        return "system" if "system" in kinds else "packages"

    @property
    def zones(self) -> tuple[str, ...]:
        """Return the availability zones, each with databases of its own; one without a name in most labs."""
        return tuple(dict.fromkeys(node.zone for node in self.nodes if node.central))

    @property
    def transit_switches(self) -> tuple[Switch, ...]:
        """Return the switches that join the zones."""
        return tuple(switch for switch in self.switches if switch.transit)

    @property
    def central(self) -> Node:
        """Return the first node with databases; it has those of the interconnection too."""
        return next(node for node in self.nodes if node.central)

    def centrals(self, zone: str) -> tuple[Node, ...]:
        """Return the nodes with the databases of a zone: several are a cluster."""
        return tuple(node for node in self.nodes if node.central and node.zone == zone)

    def relays(self, zone: str) -> tuple[Node, ...]:
        """Return the relays of a zone's Southbound database."""
        return tuple(node for node in self.nodes if node.role == "relay" and node.zone == zone)

    @property
    def chassis(self) -> tuple[Node, ...]:
        """Return the nodes with an ovn-controller."""
        return tuple(node for node in self.nodes if node.chassis)

    def peers(self, node: Node) -> tuple[Node, ...]:
        """Return the chassis that a chassis has tunnels to: all of its zone, and between gateways those of others.

        Of its zone only those that share a transport zone with it, or have none as it has.
        """
        mine = set(node.transport_zones)
        return tuple(
            peer
            for peer in self.chassis
            if peer.name != node.name
            and node.chassis
            and (peer.zone == node.zone or peer.role == node.role == "gateway")
            and (mine.intersection(peer.transport_zones) if mine else not peer.transport_zones)
        )

    def learned(self, zone: str) -> tuple[tuple[str, str], ...]:
        """Return the networks of other zones that a zone learns by the transit switches that both have routers on.

        Each as a network, and as the router's address with prefix length, which some releases write.
        """
        transit = {switch.name for switch in self.transit_switches}
        joined = {
            port.switch
            for router in self.routers
            if router.zone == zone
            for port in router.ports
            if port.switch in transit
        }
        others = [
            router
            for router in self.routers
            if router.zone != zone and any(port.switch in joined for port in router.ports)
        ]
        networks = [
            n for router in others for port in router.ports if port.switch not in transit for n in port.networks
        ]
        return tuple(dict.fromkeys((str(ipaddress.ip_interface(n).network), n) for n in networks))

    @property
    def has_takeover(self) -> bool:
        """Return True if anywhere one gateway can take over from another."""
        groups = [group.chassis for group in self.ha_chassis_groups]
        groups += [port.gateway_chassis for router in self.routers for port in router.ports]
        return any(len(group) > 1 for group in groups)

    @property
    def has_health_checks(self) -> bool:
        """Return True if a load balancer asks its backends how they are."""
        return any(balancer.health_check for balancer in self.load_balancers)

    @property
    def vms(self) -> tuple[VM, ...]:
        """Return the fake VMs of all switches."""
        return tuple(vm for switch in self.switches for vm in switch.vms)

    @property
    def vm_mtu(self) -> int:
        """Return what the encapsulation leaves of the underlay's MTU, and OVS takes of a fake VM, in bytes."""
        return vm_mtu(self.underlay, self.nodes)

    def node(self, name: str) -> Node | None:
        """Return the node of that name, None where there is none."""
        return next((node for node in self.nodes if node.name == name), None)

    def vm(self, name: str) -> VM | None:
        """Return the fake VM of that name, None where there is none."""
        return next((vm for vm in self.vms if vm.name == name), None)

    def vlan(self, name: str) -> tuple[VM, Vlan] | None:
        """Return the VLAN device of a child port, and the fake VM that it is in; None where there is none."""
        return next(((vm, vlan) for vm in self.vms for vlan in vm.vlans if vlan.name == name), None)

    def port(self, name: str) -> SwitchPort | None:
        """Return the logical switch port of that name, None where there is none."""
        return next((port for switch in self.switches for port in switch.ports if port.name == name), None)

    def leads_outside(self, switch: str) -> bool:
        """Return True if a switch is joined to something that is not OVN's."""
        own = self.switch(switch)
        return bool(own and own.physical_network) or any(
            row.table == "Logical_Switch_Port" and row.parent == switch for row in self.rows
        )

    def backend(self, text: str, version: int) -> str:
        """Return a backend of a load balancer with its address, where the file has the name of a fake VM."""
        name, number = split_name(text)
        port = self.port(name)
        ip = next((ip for ip in port.ips if ipaddress.ip_address(ip).version == version), "") if port else ""
        return (f"{bracketed(ip)}:{number}" if number else ip) if ip else text

    def switch(self, name: str) -> Switch | None:
        """Return the logical switch of that name, None where there is none."""
        return next((switch for switch in self.switches if switch.name == name), None)

    def zone_of(self, switch_or_router: str) -> str:
        """Return the zone of a switch or router."""
        zones = {item.name: item.zone for item in self.switches} | {item.name: item.zone for item in self.routers}
        return zones[switch_or_router]

    def gateways(self, switch: str) -> tuple[str, ...]:
        """Return the first router address of each family on a switch: the default routes of its fake VMs."""
        ports = (port for router in self.routers for port in router.ports if port.switch == switch)
        addresses = [ipaddress.ip_interface(network).ip for port in ports for network in port.networks]
        return tuple(str(first) for first in (_first(addresses, 4), _first(addresses, 6)) if first)


def _first(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address], version: int
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return next((address for address in addresses if address.version == version), None)


def vm_mtu(underlay: Underlay, nodes: Iterable[Node]) -> int:
    """Return the MTU of fake VMs, in bytes, over an underlay."""
    encaps = {encap for node in nodes if node.chassis for encap in node.encaps}
    version6 = ipaddress.ip_network(underlay.subnet).version == 6
    return min(underlay.mtu - overhead(encaps) - (IPV6_OVERHEAD if version6 else 0), LARGEST_VM_MTU)


def overhead(encaps: Iterable[str]) -> int:
    """Return the most bytes that any of these encapsulations adds to a packet."""
    return GENEVE_OVERHEAD if "geneve" in set(encaps) else VXLAN_OVERHEAD


def interface_name(name: str) -> str:
    """Return `name` where the kernel takes it as an interface's, otherwise its start and a hash of it.

    >>> interface_name("vm1")
    'vm1'
    >>> len(interface_name("a-virtual-machine-with-a-long-name"))
    15
    """
    if len(name) <= IFNAMSIZ:
        return name
    return f"{name[:8]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def trunk_bridge(vm: str) -> str:
    """Return the bridge that tags the VLANs of a fake VM: its name leaves room for that of its patch port."""
    return f"tb-{vm if len(vm) <= 9 else hashlib.sha256(vm.encode()).hexdigest()[:9]}"


def generated_mac(*identity: str, prefix: str = "0a:00") -> str:
    """Return a locally administered MAC that stays the same for the same identity.

    `prefix` is its first two octets, or three; the rest is hashed from the identity.
    """
    digest = hashlib.sha256("\0".join(identity).encode()).digest()
    octets = prefix.split(":")
    return ":".join([*octets, *(f"{byte:02x}" for byte in digest[: 6 - len(octets)])])


def free_addresses(subnet: str, taken: Iterable[str]) -> Iterator[str]:
    """Yield the addresses of a subnet that can be given out, in order.

    The first is left out, for a router; so are those in `taken`.
    """
    network = ipaddress.ip_network(subnet)
    used = {ipaddress.ip_address(ip) for ip in taken}
    # As numbers: the subnet may be the last address that there is, or the first.
    first = int(network.network_address) + (2 if network.num_addresses > 4 else 1)
    last = int(network.broadcast_address) - (1 if network.version == 4 else 0)
    for number in range(first, last + 1):
        address = type(network.network_address)(number)
        if address not in used:
            yield str(address)


def usable_gateways(gateways: Iterable[str], ips: Iterable[str]) -> tuple[str, ...]:
    """Return the gateways of the address families that a fake VM has."""
    versions = {ipaddress.ip_address(ip).version for ip in ips}
    return tuple(gateway for gateway in gateways if ipaddress.ip_address(gateway).version in versions)
