"""The model of topology files: the types behind the YAML, its JSON schema and docs/topology.md.

This is the grammar, all of it, whether or not this version of ovnlab can do it: what it cannot is refused
in `unsupported`. What has to agree between parts of the file is in `check`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ovnlab.topology.grammar import (
    LIST_OF_NAMES,
    Backend,
    ColumnValue,
    CompilerFlags,
    DeviceXml,
    Encap,
    Endpoint,
    GitRef,
    GitUrl,
    Host,
    Interface,
    InterfaceName,
    Ip,
    IpOrAsked,
    IpOrDhcp,
    IpOrNetwork,
    Jump,
    LabName,
    LibvirtUri,
    Mac,
    MachineMemory,
    Match,
    MayBeEmpty,
    Memory,
    Name,
    Network,
    OneOrMore,
    OneOrNone,
    OptionKey,
    Options,
    Or,
    Part,
    Path,
    PlainText,
    SetMember,
    SetName,
    Sha256,
    TcpPort,
    Text,
    User,
    Vip,
    names_or_mapping,
    true_is_default,
)
from ovnlab.topology.objects import (
    AclKeys,
    BalancerKeys,
    LogicalKeys,
    NatKeys,
    PortKeys,
    RouteKeys,
    RouterKeys,
    RouterPortKeys,
    SwitchKeys,
)


class Origin(Part):
    """The source of a component: exactly one of git, tarball, path and distro."""

    git: GitUrl | None = None
    """URL of a git repository."""
    ref: GitRef | None = None
    """Branch, tag or commit of `git`; if omitted, its default branch. A branch is asked for again by
    each `up`, a tag or commit only once."""
    tarball: Path | None = None
    """A file or a URL. One from a URL without `sha256` is kept and not asked for again."""
    sha256: Sha256 | None = None
    """The checksum of `tarball`."""
    path: Path | None = None
    """A working tree, uncommitted changes included. Nothing is written to it. Relative to the file's folder, on
    the command line to the current one."""
    distro: bool = False
    """The distribution's source package: openvswitch-source for OVS, for others what `apt-get source` brings. It is
    brought once and kept until `ovnlab build --prune`."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(map(bool, (self.git, self.tarball, self.path, self.distro))) != 1:
            raise PydanticCustomError("origin", "needs exactly one of git, tarball, path and distro: true")
        if self.ref and not self.git:
            raise PydanticCustomError("origin", "ref goes with git")
        if self.sha256 and not self.tarball:
            raise PydanticCustomError("origin", "sha256 goes with tarball")
        return self


def _word_or_mapping(value: object) -> str:
    return "mapping" if isinstance(value, dict | BaseModel) else "word"


OriginOrWord = Annotated[
    Annotated[Literal["packages", "system"], Tag("word")] | Annotated[Origin, Tag("mapping")],
    Discriminator(_word_or_mapping),
]


class Build(Part):
    """OVS and OVN from chosen origins."""

    ovs: OriginOrWord = "packages"
    """The OVS that runs: packages, system (what is installed), or an origin that it is built from. In a node's own
    software, the lab's by default."""
    ovn: OriginOrWord = "packages"
    """The OVN that runs, in the same way. A node that names one of its own has no `ovn_library` of the lab's."""
    ovn_library: Origin | None = None
    """The OVS that OVN is compiled against; the one that it pins by default."""
    profile: Literal["fast", "perf", "debug"] = "fast"
    """How it is compiled: fast is -O1 and quick to build, perf is -O2, debug is -O0 -g and not stripped. A node that
    names one has no `cflags` of the lab's."""
    cflags: CompilerFlags | None = None
    """Compiler flags instead of a profile's. With -g among them, nothing is stripped."""
    build_on: Name | None = None
    """The node to build on instead of this machine, where nodes are machines."""


Software = Annotated[
    Annotated[Literal["packages", "system"], Tag("word")] | Annotated[Build, Tag("mapping")],
    Discriminator(_word_or_mapping),
]


class Underlay(Part):
    """The network between the nodes."""

    subnet: Network = "192.168.50.0/24"
    """Nodes without an ip get one from here, in order; its first address is left free."""
    mtu: Annotated[int, Field(ge=1280, le=65000)] = 1500
    """In bytes. Fake VMs get what the encapsulation leaves of it."""


class Control(Part):
    """The connections between databases and chassis."""

    monitor_all: bool = False
    """Whether each chassis reads all of the Southbound database (ovn-monitor-all)."""
    northd_threads: Annotated[int, Field(ge=1, le=256)] = 1
    """The threads of ovn-northd that build logical flows (ovn-northd(8), --n-threads)."""
    probe_interval: Annotated[int, Field(ge=0, le=3_600_000)] | None = None
    """Milliseconds of silence after which a connection is probed; 0 never does. 180000 by default,
    10000 where another server can take over."""
    election_timer: Annotated[int, Field(ge=1000, le=600_000)] = 1000
    """Milliseconds without a leader after which a RAFT cluster elects one."""


class PhysicalNetwork(Part):
    """A provider network: a further NIC, and on chassis a bridge and a bridge mapping."""

    subnet: Annotated[list[Network], *OneOrMore] = []
    """Hosts on it without an address get one from here."""
    bridge: InterfaceName | None = None
    """The bridge that carries it on each chassis; br- and its name by default."""
    chassis_macs: bool = False
    """Whether each chassis sends on it with a MAC address of its own instead of the routers'
    (ovn-chassis-mac-mappings)."""


class NodeRoute(Part):
    """A route of a node itself."""

    prefix: Network
    """What it leads to."""
    nexthop: Annotated[list[Ip], Field(min_length=1), *OneOrMore]
    """The router that it goes through; several share the traffic (ECMP)."""


class Machine(Part):
    """The virtual hardware of a node, or how an existing machine is reached."""

    cpus: Annotated[int, Field(ge=1, le=256)] | None = None
    """Processors; 1 by default."""
    memory: MachineMemory | None = None
    """Memory, at least 128M; 512M by default."""
    disk: Memory | None = None
    """The size of its disk; that of its image by default."""
    disks: Annotated[list[Memory], *OneOrMore] = []
    """The sizes of further disks, which are empty."""
    image: Path | None = None
    """Disk image or box: a file, a URL, or the name of one of `ovnlab image build`; `debian` where nothing is
    said."""
    sha256: Sha256 | None = None
    """The checksum of an image that is a URL."""
    kernel: Path | None = None
    """A kernel to boot instead of what the image has."""
    initrd: Path | None = None
    """The initrd of `kernel`."""
    cpu: Text | None = None
    """libvirt's cpu mode or model, such as host-passthrough."""
    machine: Text | None = None
    """libvirt's machine type, such as q35."""
    xml: DeviceXml | None = None
    """Further elements of its libvirt domain's devices."""
    uri: LibvirtUri | None = None
    """The libvirt connection that it is defined on; qemu:///system by default. Nodes on several
    hypervisors need a bridge that joins them, as libvirt: {bridge: …}."""
    host: Host | None = None
    """Where it is reached by SSH."""
    user: User | None = None
    """Who logs in by SSH."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of its SSH server."""
    key: Path | None = None
    """The private key for SSH."""
    agent: bool | None = None
    """Whether your ssh-agent is asked for keys as well."""
    password: bool = False
    """Whether a machine that is there already is entered with a password instead of `key`, which is asked for, or
    taken from OVNLAB_SSH_PASSWORD, until the lab's own key lets ovnlab in: while it is in the lab."""
    known_hosts: Path | None = None
    """The file with its host key; ~/.ssh/known_hosts by default."""
    jump: Jump | None = None
    """The machine that the way to it goes over, as USER@HOST:PORT."""
    nics: dict[Name, InterfaceName] = {}
    """The NICs of a machine that is there already, by the physical network that each is on."""
    adopt: bool = False
    """Whether a host may be taken whose OVS has bridges already, or that runs OVN."""
    sudo: bool | None = None
    """Whether `user` becomes root by sudo; by default for every user but root."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.key and self.password:
            raise PydanticCustomError("machine", "is entered with either a key or a password")
        return self


class Node(Machine):
    """A machine of the lab."""

    role: Literal["central", "worker", "gateway", "relay", "host"] = "worker"
    """central has the databases and ovn-northd, gateway is a chassis with enable-chassis-as-gw, relay is a
    relay of the Southbound database that the chassis connect to, host has no OVN."""
    zone: Name | None = None
    """The availability zone that it is in, where the lab has several."""
    ip: Ip | None = None
    """Its address on the underlay."""
    underlay: Name | None = None
    """A physical network that is its underlay, instead of the one that all others share."""
    routes: Annotated[list[NodeRoute], *OneOrMore] = []
    """Its own routes. A host on several networks forwards between them."""
    encap: Encap | None = None
    """An encapsulation other than the lab's."""
    transport_zones: Annotated[list[Name], *OneOrMore] = []
    """Zones that chassis have tunnels within (ovn-transport-zones): only chassis that share one, or have none, do."""
    chassis: bool = True
    """Whether a central runs an ovn-controller as well."""
    bfd: bool = False
    """Whether a host answers BFD: it is the next hop of a route with `bfd`."""
    external_ids: dict[OptionKey, PlainText] = {}
    """Further external_ids of Open_vSwitch (ovn-controller(8), CONFIGURATION), or others than the lab's."""
    physical: Annotated[
        dict[Name, Annotated[list[IpOrDhcp], *OneOrNone]], BeforeValidator(names_or_mapping), Or(LIST_OF_NAMES)
    ] = {}
    """The physical networks that it is on, and its address on each; dhcp asks for one."""
    software: Software | None = None
    """OVS and OVN of its own; what is left out is as the lab has it."""


class Libvirt(Part):
    """Settings that all libvirt nodes share."""

    pool: Text = "default"
    """The storage pool for images and disks. Where there is no `default`, it is made."""
    network: Literal["nat", "route", "isolated"] = "nat"
    """How the network that nodes are reached by is joined to others; isolated is not at all."""
    subnet: Network | None = None
    """Its subnet; by default one of 10.64.0.0/10 that depends on the lab's name."""
    bridge: InterfaceName | None = None
    """A bridge of the hypervisor instead of that network. It needs `subnet`, which nodes get addresses of. Where nodes
    are on several hypervisors, it is a bridge of that name on each, on one Ethernet, and carries the underlay too."""
    accelerate: Literal["auto", "kvm", "qemu"] = "auto"
    """auto is KVM where it works, which is tried; qemu is software emulation."""


class Port(PortKeys):
    """A logical switch port, and the fake VM of the same name where it has neither type nor parent."""

    type: Literal["external", "virtual", "localnet", "l2gateway", "vtep"] | None = None
    """external is for a machine that is not a chassis' VM (see host), virtual for an address that its parents
    share; localnet joins the switch to a physical network on all chassis that have it, l2gateway on one, vtep to
    a hardware switch by its `options`."""
    mac: Mac | None = None
    """Its MAC address; by default chosen automatically and kept."""
    ip: Annotated[list[IpOrAsked], *OneOrMore] = []
    """Its addresses; by default one of each subnet of the switch; dhcp asks OVN for them, slaac
    makes an IPv6 address of what a router advertises."""
    chassis: Name | None = None
    """The node that `up` binds it to."""
    mtu: Annotated[int, Field(ge=68, le=65000)] | None = None
    """In bytes; by default what the encapsulation leaves."""
    serve: Annotated[list[TcpPort], *OneOrMore] = []
    """TCP ports on which the fake VM answers HTTP with its name."""
    port_security: bool = False
    """Whether it may only send from its own addresses."""
    parent: Name | None = None
    """The fake VM that has this port as a VLAN device."""
    vlan: Annotated[int, Field(ge=1, le=4094)] | None = None
    """The VLAN tag of a port with a parent."""
    parents: Annotated[list[Name], *OneOrMore] = []
    """The ports that may have the address of a virtual port."""
    host: Name | None = None
    """The host that an external port is for: the port has the MAC address of its NIC."""
    ha_chassis_group: Name | None = None
    """The chassis that speak for an external port."""
    options: Options = {}
    """Further options of the Logical_Switch_Port (ovn-nb(5))."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if (self.parent is None) != (self.vlan is None) and self.type not in ("localnet", "l2gateway"):
            raise PydanticCustomError("port", "parent and vlan go together")
        if self.parents and self.type != "virtual":
            raise PydanticCustomError("port", "parents goes with type: virtual")
        if self.type == "virtual" and not self.parents:
            raise PydanticCustomError("port", "type: virtual needs parents")
        if (self.host or self.ha_chassis_group) and self.type != "external":
            raise PydanticCustomError("port", "host and ha_chassis_group go with type: external")
        if self.type == "external" and not self.ha_chassis_group:
            raise PydanticCustomError("port", "type: external needs a ha_chassis_group")
        if self.type == "external" and not (self.host or self.mac):
            raise PydanticCustomError("port", "type: external needs a host, or a mac")
        if self.type is not None and (self.parent or self.serve or (self.chassis and self.type != "l2gateway")):
            raise PydanticCustomError("port", f"chassis, serve and parent are for fake VMs, not for type: {self.type}")
        if self.parent and (self.chassis or self.serve):
            raise PydanticCustomError("port", "a port with a parent is bound, and served, by its parent")
        return self


class Dhcp(Part):
    """The answers of OVN's DHCP to fake VMs, beside address, router and MTU."""

    lease_time: Annotated[int, Field(ge=1)] = 3600
    """Seconds that a lease lasts."""
    dns_server: Ip | None = None
    """A name server."""
    domain_name: Text | None = None
    """A domain."""
    options: Options = {}
    """Further DHCPv4 options (ovn-nb(5), DHCP_Options)."""


DhcpOrFlag = Annotated[
    Annotated[bool, Tag("word")] | Annotated[Dhcp, Tag("mapping")],
    Discriminator(_word_or_mapping),
]


class Switch(SwitchKeys):
    """A logical switch."""

    zone: Name | None = None
    """The availability zone that has it, where the lab has several."""
    transit: bool = False
    """Whether it joins all availability zones."""
    subnet: Annotated[list[Network], *OneOrMore] = []
    """Ports without an ip get one from here, in order; its first address is left for a router."""
    dhcp: DhcpOrFlag = False
    """OVN's own DHCP, and fake VMs ask it."""
    dns: dict[Text, Annotated[list[Ip], *OneOrMore]] = {}
    """Names that OVN resolves for its ports, and their addresses."""
    ports: dict[Name, Annotated[Port, *MayBeEmpty]] = {}
    """Its ports by name: the fake VMs."""
    physical_network: Name | None = None
    """The physical network that a localnet port joins it to."""
    vlan: Annotated[int, Field(ge=1, le=4094)] | None = None
    """The VLAN tag of that localnet port."""
    other_config: Options = {}
    """Further configuration of the Logical_Switch (ovn-nb(5))."""


class RouterPort(RouterPortKeys):
    """A logical router port, on the switch that it is named for."""

    ip: Annotated[list[Interface], Field(min_length=1), *OneOrMore]
    """Its addresses with prefix length."""
    mac: Mac | None = None
    """Its MAC address; by default chosen automatically and kept."""
    gateway_chassis: Annotated[list[Name], *OneOrMore] = []
    """Gateways for it, the preferred first."""
    ha_chassis_group: Name | None = None
    """A group of gateways for it, instead of gateway_chassis."""
    redirect_type: Literal["overlay", "bridged"] | None = None
    """How packets get to its gateway: through tunnels, or over the physical network."""
    ipv6_ra: Literal["slaac", "dhcpv6_stateful", "dhcpv6_stateless"] | None = None
    """The address mode that it advertises to IPv6 hosts."""
    options: Options = {}
    """Further options of the Logical_Router_Port (ovn-nb(5))."""

    @model_validator(mode="after")
    def _one_gateway(self) -> Self:
        if self.gateway_chassis and self.ha_chassis_group:
            raise PydanticCustomError("gateway", "has either gateway_chassis or ha_chassis_group")
        if self.redirect_type and not (self.gateway_chassis or self.ha_chassis_group):
            raise PydanticCustomError("gateway", "redirect_type needs gateway_chassis or ha_chassis_group")
        return self


class Route(RouteKeys):
    """A static route."""

    prefix: Network
    """What it leads to."""
    nexthop: Annotated[list[Ip], Field(min_length=1), *OneOrMore]
    """The router that it goes through; several share the traffic (ECMP)."""
    port: Name | None = None
    """The switch whose router port it leaves by."""
    policy: Literal["dst-ip", "src-ip"] = "dst-ip"
    """What of a packet is compared with the prefix."""

    def row_name(self, router: str, hop: str) -> str:
        """Return the name of the row of one of its next hops."""
        table = f" in {self.route_table}" if self.route_table else ""
        source = " by source" if self.policy == "src-ip" else ""
        return f"{router} {self.prefix} via {hop}{source}{table}"


class Nat(NatKeys):
    """A NAT rule of a router."""

    type: Literal["snat", "dnat", "dnat_and_snat"]
    """As in OVN's NAT table."""
    external: Ip
    """The address outside."""
    logical: IpOrNetwork
    """The address or network inside."""
    port: Name | None = None
    """The port whose chassis does it (distributed NAT)."""
    mac: Mac | None = None
    """The MAC address of `external` where it is distributed; by default chosen automatically and kept."""

    def row_name(self, router: str) -> str:
        """Return the name of its row."""
        return f"{router} {self.type} {self.external} {self.logical}"


class Router(RouterKeys):
    """A logical router."""

    zone: Name | None = None
    """The availability zone that has it, where the lab has several."""
    chassis: Name | None = None
    """The gateway that all of it is on: a gateway router."""
    ports: dict[Name, RouterPort] = {}
    """Its ports by the name of the switch that each is on."""
    routes: Annotated[list[Route], *OneOrMore] = []
    """Its static routes."""
    nat: Annotated[list[Nat], *OneOrMore] = []
    """Its NAT rules."""
    options: Options = {}
    """Further options of the Logical_Router (ovn-nb(5))."""


class Acl(AclKeys):
    """An access rule of a switch or of a port group."""

    switch: Name | None = None
    """The switch that it is on."""
    port_group: SetName | None = None
    """The port group that it is on, instead of a switch."""
    direction: Literal["from-lport", "to-lport"]
    """Seen from the port."""
    priority: Annotated[int, Field(ge=0, le=32767)]
    """Higher comes first."""
    match: Match
    """An OVN match expression."""
    action: Literal["allow", "allow-related", "allow-stateless", "drop", "reject"]
    """What happens to what matches."""
    name: Text | None = None
    """What logs call it."""
    log: bool = False
    """Whether ovn-controller logs what matches."""
    severity: Literal["alert", "warning", "notice", "info", "debug"] | None = None
    """How serious the log takes it."""

    @property
    def row_name(self) -> str:
        """Return the name of its row."""
        owner = self.switch or f"@{self.port_group}"
        return f"{owner} {self.direction} {self.priority} {self.match}"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.switch is None) == (self.port_group is None):
            raise PydanticCustomError("acl", "needs exactly one of switch and port_group")
        if self.name is not None and len(self.name) > 63:
            raise PydanticCustomError("acl", "the name of an ACL has at most 63 characters")
        return self


class Qos(Part):
    """A rule that limits or marks what matches, on a switch."""

    switch: Name
    """The switch that it is on."""
    direction: Literal["from-lport", "to-lport"]
    """Seen from the port."""
    priority: Annotated[int, Field(ge=0, le=32767)]
    """Higher comes first."""
    match: Match
    """An OVN match expression."""
    rate: Annotated[int, Field(ge=1, le=4_294_967_295)] | None = None
    """In kbit/s."""
    burst: Annotated[int, Field(ge=1, le=4_294_967_295)] | None = None
    """In kbit, beside a rate."""
    dscp: Annotated[int, Field(ge=0, le=63)] | None = None
    """The mark that packets get."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.rate is None and self.dscp is None:
            raise PydanticCustomError("qos", "needs a rate or a dscp")
        if self.burst is not None and self.rate is None:
            raise PydanticCustomError("qos", "burst goes with rate")
        return self


class PortGroup(Part):
    """Ports that ACLs speak of as one, as @NAME in a match."""

    ports: Annotated[list[Name], *OneOrMore] = []
    """Its ports."""


class HealthCheck(Part):
    """Health checks of a load balancer's backends."""

    source: Ip | None = None
    """The address that probes come from; a free one of the backends' switch by default."""
    interval: Annotated[int, Field(ge=1)] = 1
    """Seconds between two probes."""
    timeout: Annotated[int, Field(ge=1)] = 1
    """Seconds that an answer may take."""
    success_count: Annotated[int, Field(ge=1)] = 1
    """Answers after which a backend is up."""
    failure_count: Annotated[int, Field(ge=1)] = 2
    """Probes without answer after which it is down."""


class LoadBalancer(BalancerKeys):
    """A load balancer and where it is applied."""

    vip: Vip
    """The address and port that clients use."""
    backends: Annotated[list[Backend], *OneOrMore]
    """Where they end up: addresses, or fake VMs by name."""
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    """What is balanced."""
    switches: Annotated[list[Name], *OneOrMore] = []
    """Switches that have it."""
    routers: Annotated[list[Name], *OneOrMore] = []
    """Routers that have it."""
    health_check: Annotated[HealthCheck | None, BeforeValidator(true_is_default), Or({"type": "boolean"})] = None
    """true, or how it finds out which of its backends live."""
    options: Options = {}
    """Further options of the Load_Balancer (ovn-nb(5))."""


class Logical(LogicalKeys):
    """The logical network."""

    switches: dict[Name, Annotated[Switch, *MayBeEmpty]] = {}
    """Logical switches by name."""
    routers: dict[Name, Annotated[Router, *MayBeEmpty]] = {}
    """Logical routers by name."""
    acls: Annotated[list[Acl], *OneOrMore] = []
    """Access rules."""
    port_groups: dict[SetName, Annotated[PortGroup, *MayBeEmpty]] = {}
    """Port groups by name."""
    address_sets: dict[SetName, Annotated[list[SetMember], *OneOrMore]] = {}
    """Sets of addresses by name, as $NAME in a match."""
    ha_chassis_groups: dict[Name, Annotated[list[Name], *OneOrMore]] = {}
    """Groups of gateways by name, the preferred first."""
    qos: Annotated[list[Qos], *OneOrMore] = []
    """Rules that limit or mark traffic."""
    load_balancers: dict[Name, LoadBalancer] = {}
    """Load balancers by name."""
    rows: dict[Text, dict[Text, Annotated[dict[Text, ColumnValue], *MayBeEmpty]]] = {}
    """Rows of the Northbound database by table and name, with columns as its schema has them (ovn-nb(5)): for what has
    no key of its own. References are names of rows."""


class Link(Part):
    """The properties of a node's link, or of the underlay between two nodes."""

    down: bool = False
    """Nothing passes."""
    delay: Text | None = None
    """How much later packets come in each direction, such as `25ms`."""
    jitter: Text | None = None
    """By how much the delay varies, up or down."""
    loss: Text | None = None
    """How many packets are lost, such as `2%`."""
    duplicate: Text | None = None
    """How many packets come twice."""
    reorder: Text | None = None
    """How many packets overtake others, or are overtaken."""
    rate: Text | None = None
    """How many bits per second pass, such as `10mbit`."""
    direction: Literal["in", "out", "both"] = "both"
    """Of a link of one node, which direction is meant, seen from the node."""


class Outcome(Part):
    """The takeover that must have happened while a fault is on."""

    gateway: Name | None = None
    """The gateway chassis that must have every port that one chassis has, such as gateway ports of routers."""
    leader: Literal["nb", "sb"] | None = None
    """The clustered database that another member must lead than before the fault."""


class Check(Part):
    """A condition of the running lab: exactly one of ping and tcp, or a fault and what comes of it."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    ping: Text | None = None
    """A fake VM, a node or an address that is pinged."""
    tcp: Endpoint | None = None
    """NAME:PORT or ADDRESS:PORT that is connected to."""
    source: Annotated[Name | None, Field(alias="from")] = None
    """The fake VM or node that tries it."""
    expect: Literal["reachable", "unreachable", "refused"] = "reachable"
    """What must come of it."""
    fault: Text | None = None
    """What `ovnlab test --faults` breaks and heals, as after `ovnlab fault`: `kill gw1`; also `link`, `partition` and
    `flap` with what follows those commands. The ping or tcp, if any, is tried while it is on."""
    traffic: Text | None = None
    """Who sends a packet each millisecond to whom meanwhile, such as `vm1 → host1` or `vm1, host1`."""
    lost_within: Text | None = None
    """How long no packet of the traffic may be answered at most, such as `3s`."""
    then: Outcome | None = None
    """What must be in charge while the fault is on."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = (self.ping is not None) + (self.tcp is not None)
        if kinds != 1 and (self.fault is None or kinds):
            raise PydanticCustomError("check", "needs exactly one of ping and tcp")
        if kinds and self.source is None:
            raise PydanticCustomError("check", "needs `from`: the fake VM or node that tries it")
        if self.fault is None and (self.traffic or self.lost_within or self.then):
            raise PydanticCustomError("check", "needs `fault` where it has traffic, lost_within or then")
        if self.lost_within is not None and self.traffic is None:
            raise PydanticCustomError("check", "needs `traffic` where it has lost_within")
        return self


class TopologyFile(Part):
    """A topology file."""

    name: LabName | None = None
    """The lab's name; the file's stem by default."""
    provider: Literal["local", "libvirt", "vagrant", "ssh"] = "local"
    """What the nodes are."""
    datapath: Literal["auto", "kernel", "netdev"] = "auto"
    """OVS's datapath; auto is the kernel's where there is one."""
    encap: Encap = "geneve"
    """The encapsulation between chassis."""
    tls: bool = False
    """ssl: everywhere, with a CA of the lab's own."""
    software: Software = "packages"
    """How OVS and OVN get onto the nodes."""
    control: Annotated[Control, *MayBeEmpty] = Control()
    """How databases and chassis talk to each other."""
    underlay: Annotated[Underlay, *MayBeEmpty] = Underlay()
    """The network between the nodes."""
    physical_networks: dict[Name, Annotated[PhysicalNetwork, *MayBeEmpty]] = {}
    """Provider networks by name."""
    machines: Annotated[Machine, *MayBeEmpty] = Machine()
    """What holds for all nodes that do not say otherwise."""
    libvirt: Annotated[Libvirt, *MayBeEmpty] = Libvirt()
    """What all nodes share where they are libvirt's."""
    nodes: Annotated[dict[Name, Annotated[Node, *MayBeEmpty]], BeforeValidator(names_or_mapping), Or(LIST_OF_NAMES)]
    """The machines: a list of names, or a mapping."""
    logical: Annotated[Logical, *MayBeEmpty] = Logical()
    """The logical network."""
    links: dict[Text, Link] = {}
    """Links that are down, slow or lossy, by `NODE`, `NODE:NIC`, or two nodes (`worker1 worker2`)."""
    checks: Annotated[list[Check], *OneOrMore] = []
    """What `ovnlab test` tries."""
