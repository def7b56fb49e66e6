"""The state of a node: its daemons, chassis configuration, tunnels and fake VMs. One round trip."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ovnlab.ovsdb.client import Row, Tables, listed, rows
from ovnlab.ovsdb.queries import SWITCH, TableQuery
from ovnlab.tasks.daemons import ROUTE_PROTOCOL
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import ip_of, is_mac
from ovnlab.topology.resolved import NAME, VM, interface_name, trunk_bridge

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

TUNNELS = ("geneve", "vxlan")

QUESTION = TableQuery(
    SWITCH,
    {
        "Open_vSwitch": ("external_ids",),
        "Bridge": ("name", "other_config", "datapath_type", "external_ids", "ports"),
        "Interface": ("name", "type", "ofport", "options", "external_ids", "mac", "mtu_request"),
        "Port": ("_uuid", "name"),
    },
)
"""What a node's own database says of it."""

DAEMONS = (
    "node/lib/quick-probe.sh.j2",
    "node/lib/running.sh.j2",
    "node/lib/print-daemons.sh.j2",
    "node/lib/print-cluster-members.sh.j2",
)
"""The templates of what looks at a node's daemons."""

PORTS = TableQuery(SWITCH, {"Interface": ("external_ids",)})
"""Which fake VMs are bound to it."""


class Daemon(msgspec.Struct, frozen=True):
    """A daemon that runs. `version` is empty where it was not asked for, `arguments` those of OVN's servers.

    `process` tells it from all that ever had its process ID: that and when it began.
    `outdated`: it is of another file than the one that the node would start now; `built`: it is of the node's build.
    `stopped`: a signal or a debugger has stopped the process, which answers nobody.
    """

    name: str
    pid: int
    version: str
    process: str = ""
    arguments: tuple[str, ...] = ()
    outdated: bool = False
    built: bool = False
    stopped: bool = False


class TunnelPort(msgspec.Struct, frozen=True):
    """A tunnel port of br-int; `working` once the switch has given it a number."""

    name: str
    encap: str
    remote_ip: str
    working: bool


class Device(msgspec.Struct, frozen=True):
    """A network device: its MAC, its MTU in bytes (0 where it is down), and its addresses with prefix length."""

    mac: str = ""
    mtu: int = 0
    addresses: tuple[str, ...] = ()


class KernelRoute(msgspec.Struct, frozen=True):
    """A route in a namespace: to which network, by which gateway (empty where it is on the link), by which device."""

    network: str
    gateway: str
    device: str


class BoundVM(msgspec.Struct, frozen=True):
    """A fake VM as it is on a node.

    `addresses`, `gateways` and `mtu` are those in its namespace, empty and 0 where it is not in one, `devices` all
    that is in there. `more` is what it was bound with beside them. `vm` is what it was bound as, None where somebody
    else made the port.
    """

    name: str
    port: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    vm: VM | None
    more: str = ""
    devices: Mapping[str, Device] = msgspec.field(default_factory=dict)
    serves: bool = False
    routes: tuple[KernelRoute, ...] = ()

    @property
    def trunk(self) -> str:
        """Return the bridge that tags its VLANs, where it has any."""
        return trunk_bridge(self.name)

    def is_as(self, vm: VM) -> bool:
        """Return True if it is what `vm` says."""
        return not self.unlike(vm)

    def unlike(self, vm: VM) -> dict[str, tuple[str, str]]:
        """Yield how it differs from `vm`: the property, its wanted and its actual value.

        What it asks for is not for us to say, only that there is something.
        """
        asked = {4 if kind == "dhcp4" else 6 for kind in vm.asks}
        virtual = set(vm.virtual_ips) - {ip_of(address) for address in vm.addresses}
        mine = [address for address in self.addresses if ip_of(address) not in virtual]
        own = [address for address in mine if _version(address) not in asked]
        gateways = [gateway for gateway in self.gateways if _version(gateway) not in asked]
        missing = asked - {_version(address) for address in self.addresses}
        compared = {
            "MAC": (vm.mac, self.mac),
            "MTU": (str(vm.mtu), str(self.mtu) if self.mtu or not vm.mtu else "none, it is down"),
            "addresses": (" ".join(sorted(vm.addresses)), " ".join(sorted(own))),
            "what it asks for": ("some", "nothing" if missing else "some"),
            "gateways": (" ".join(sorted(vm.gateways)), " ".join(sorted(gateways))),
            "further configuration": (vm.more, self.more),
            "servers": ("running" if vm.serves else "", "running" if self.serves else ""),
        }
        for vlan in vm.vlans:
            device = self.devices.get(vlan.interface, Device())
            found = f"{device.mac} {' '.join(sorted(device.addresses))}" if device.mtu else "down"
            compared[vlan.interface] = (f"{vlan.mac} {' '.join(sorted(vlan.addresses))}", found)
        return {what: (wanted, is_now) for what, (wanted, is_now) in compared.items() if wanted != is_now}

    def unrouted(self) -> tuple[str, ...]:
        """Return the networks of its own addresses that it has no route to."""
        wanted = {str(ipaddress.ip_interface(word).network) for word in self.addresses if "/" in word}
        alone = {network for network in wanted if ipaddress.ip_network(network).num_addresses == 1}
        return tuple(sorted(wanted - alone - {route.network for route in self.routes}))


def _version(address: str) -> int:
    return ipaddress.ip_interface(address).version


class ClusterMember(msgspec.Struct, frozen=True):
    """A database server's view of its RAFT cluster (ovs-appctl cluster/status)."""

    role: str
    term: int
    leader: str
    server: str
    last_entry: int


class NodeState(msgspec.Struct, frozen=True):
    """A node as it is. `build` is the key of the OVS and OVN that it runs, empty where those are of packages.

    `ports` are the bridges of ports by their names, `connected` networks and devices of the kernel's own routes.
    """

    daemons: dict[str, Daemon]
    external_ids: dict[str, str]
    bridges: dict[str, Row]
    tunnels: tuple[TunnelPort, ...]
    vms: tuple[BoundVM, ...]
    devices: Mapping[str, Device]
    connections: Mapping[str, int | None]
    clusters: Mapping[str, ClusterMember] = msgspec.field(default_factory=dict)
    routes: Mapping[str, frozenset[str]] = msgspec.field(default_factory=dict)
    asking: frozenset[str] = frozenset()
    speaks_bfd: bool = False
    build: str = ""
    ports: Mapping[str, str] = msgspec.field(default_factory=dict)
    connected: frozenset[tuple[str, str]] = frozenset()

    def device(self, name: str) -> Device:
        """Return a device; one without anything where it is not there."""
        return self.devices.get(name, Device())


def probe(context: Context, node: str, tables: Tables | None = None) -> NodeState:
    """Look at a node; `tables` are what its own database answers to QUESTION, where that was asked already."""
    question = QUESTION if tables is None else None
    script = render("node/probe-node.sh.j2", question=question, route_protocol=ROUTE_PROTOCOL)
    return parse(run_script(context, script, where=f"{node}: looking"), tables)


def running(context: Context, node: str) -> frozenset[str]:
    """Return the names of the daemons that run on a node: all that costs little to ask."""
    return frozenset(parse(run_script(context, _daemons_script("all"), where=f"{node}: looking")).daemons)


def versions_script(known: Collection[str] = ()) -> str:
    """Return the script that looks at what runs on a node; daemons not `known` are asked for their version."""
    return _daemons_script(f" {' '.join(sorted(known))} ")


def _daemons_script(known: str) -> str:
    return f"known={shlex.quote(known)}\n" + "".join(map(render, DAEMONS))


def parse(printed: str, tables: Tables | None = None) -> NodeState:
    """Return the state that node/probe-node.sh or the scripts of DAEMONS printed; `tables` answer QUESTION already."""
    daemons: dict[str, Daemon] = {}
    answers = list((tables or {}).values())
    links: list[Row] = []
    connections: dict[str, int | None] = {}
    namespaces: dict[str, dict[str, list[Row]]] = {}
    clusters: dict[str, dict[str, str]] = {}
    routes: list[Row] = []
    connected: list[Row] = []
    named: dict[str, set[str]] = {kind: set() for kind in ("serves", "asking", "outdated", "built", "stopped")}
    build = ""
    for line in printed.split("\n"):  # not at what ends a line for Python only, which values may have
        kind, _, rest = line.partition(" ")
        if kind == "daemon":
            name, process, *version = rest.split(maxsplit=2)
            pid = int(process.partition("-")[0])
            daemons[name] = Daemon(name, pid, version[0].split()[-1] if version else "", process)
        elif kind == "arguments":
            name, *arguments = rest.split()
            daemons[name] = replace(daemons[name], arguments=tuple(arguments))
        elif kind == "build":
            build = rest.rpartition("/")[2]
        elif kind == "ovs":
            answers.append(rows(rest))
        elif kind == "connection":
            target, _, interval = rest.partition(",")
            connections[target.strip('"')] = int(interval) if interval.isdigit() else None
        elif kind == "cluster":
            database, _, fact = rest.partition(" ")
            key, _, said = fact.partition(":")
            clusters.setdefault(database, {}).setdefault(key, said.strip())
        elif kind == "routes":
            routes = msgspec.json.decode(rest or "[]")
        elif kind == "connected":
            connected = msgspec.json.decode(rest or "[]")
        elif kind in named:
            named[kind].add(rest)
        elif kind == "links":
            links = msgspec.json.decode(rest)
        elif kind.startswith("vm-"):
            name, _, found = rest.partition(" ")
            namespaces.setdefault(name, {})[kind] = msgspec.json.decode(found or "[]")
    chassis, bridges, interfaces, ports = answers if len(answers) == len(QUESTION.columns) else ([], [], [], [])
    names = {row["_uuid"]: row["name"] for row in ports}
    outside = {link.get("ifname") for link in links}
    return NodeState(
        daemons={
            name: replace(
                daemon,
                outdated=name in named["outdated"],
                built=name in named["built"],
                stopped=name in named["stopped"],
            )
            for name, daemon in daemons.items()
        },
        external_ids=chassis[0]["external_ids"] if chassis else {},
        bridges={row["name"]: row for row in bridges},
        tunnels=tuple(_tunnel(row) for row in interfaces if row["type"] in TUNNELS),
        speaks_bfd="-" in named["serves"],
        vms=tuple(_vm(row, namespaces, outside, named["serves"]) for row in interfaces if _is_vm(row)),
        devices=_devices(links),
        connections=connections,
        asking=frozenset(named["asking"]),
        build=build,
        clusters={database: _member(facts) for database, facts in clusters.items()},
        routes={_destination(route): _hops(route) for route in routes},
        ports={names[uuid]: row["name"] for row in bridges for uuid in listed(row["ports"]) if uuid in names},
        connected=frozenset(
            (str(route["dst"]), str(route["dev"]))
            for route in connected
            if "dev" in route and "table" not in route and "type" not in route
        ),
    )


def _member(facts: dict[str, str]) -> ClusterMember:
    """Parse the lines `Key: value` that cluster/status prints; Log is `[FIRST, BEYOND THE LAST]`."""
    beyond = facts.get("Log", "[0, 1]").strip("[]").split(",")[-1].strip()
    return ClusterMember(
        role=facts.get("Role", ""),
        term=int(facts.get("Term", "0")),
        leader=facts.get("Leader", ""),
        server=facts.get("Server ID", "").partition(" ")[0],
        last_entry=int(beyond) - 1 if beyond.isdigit() else 0,
    )


def _destination(route: Row) -> str:
    """Return the prefix of a route, with the length that ip(8) leaves out."""
    hops = [*route.get("nexthops", [route])]
    gateway = str(hops[0].get("gateway") or hops[0].get("via", {}).get("host", ""))
    if route["dst"] == "default":
        return "::/0" if ":" in gateway else "0.0.0.0/0"
    return str(ipaddress.ip_network(route["dst"]))


def _hops(route: Row) -> frozenset[str]:
    hops = route.get("nexthops", [route])
    return frozenset(hop["gateway"] if "gateway" in hop else hop.get("via", {}).get("host", "") for hop in hops)


def _devices(links: list[Row]) -> dict[str, Device]:
    return {
        str(link["ifname"]): Device(
            mac=link.get("address", ""),
            mtu=link.get("mtu", 0) if "UP" in link.get("flags", ()) else 0,
            addresses=_addresses(link),
        )
        for link in links
        if "ifname" in link
    }


def fake_vms(tables: Tables) -> list[str]:
    """Return the names of the fake VMs that are bound to a node, in the answer to PORTS."""
    return [str(row["external_ids"]["iface-id"]) for row in tables["Interface"] if _is_vm(row)]


def _is_vm(row: Row) -> bool:
    """Return a port with an iface-id that can be a fake VM's name. Others are somebody else's, and are left alone."""
    return NAME.fullmatch(row["external_ids"].get("iface-id", "")) is not None


def _tunnel(row: Row) -> TunnelPort:
    working = isinstance(row["ofport"], int) and row["ofport"] > 0
    return TunnelPort(row["name"], row["type"], row["options"].get("remote_ip", ""), working)


def _network(route: Row) -> str:
    """Return where a route leads to, as a prefix: `ip` says `default`, or leaves the length of a single address out."""
    if route["dst"] != "default":
        return str(route["dst"])
    return "::/0" if ":" in route.get("gateway", "") else "0.0.0.0/0"


def _addresses(link: Row) -> tuple[str, ...]:
    """Return addresses that somebody gave it, with prefix length; not the link-local ones."""
    found = (entry for entry in link.get("addr_info", ()) if entry.get("scope") == "global")
    return tuple(f"{entry['local']}/{entry['prefixlen']}" for entry in found)


def _vm(row: Row, namespaces: dict[str, dict[str, list[Row]]], outside: set[object], serving: set[str]) -> BoundVM:
    ids: dict[str, str] = row["external_ids"]
    name = ids["iface-id"]
    interface = interface_name(name) if row["type"] == "patch" else row["name"]
    # A port that is outside is not in its namespace, whatever an earlier switch may have left in there.
    found = {} if interface in outside else namespaces.get(name, {})
    devices = _devices(found.get("vm-links", []))
    own = devices.get(interface, Device())
    routes = [*found.get("vm-routes", []), *found.get("vm-routes6", [])]
    state = BoundVM(
        name=name,
        port=row["name"],
        mac=own.mac,
        mtu=own.mtu,
        addresses=own.addresses,
        gateways=tuple(
            route["gateway"]
            for route in routes
            if "gateway" in route
            and route.get("dst") == "default"
            and route.get("protocol") != "ra"
            and route.get("dev") == interface
        ),
        vm=None,
        more=ids.get("ovnlab-more", ""),
        devices=devices,
        serves=name in serving,
        routes=tuple(
            KernelRoute(_network(route), route.get("gateway", ""), route["dev"]) for route in routes if "dev" in route
        ),
    )
    return replace(state, vm=_bound_as(row, ids)) if "ovnlab" in ids else state


def _bound_as(row: Row, ids: dict[str, str]) -> VM | None:
    """Return what we wrote there; None where it is no longer what we write."""
    addresses, gateways = ids.get("ovnlab-addresses", "").split(), ids.get("ovnlab-gateways", "").split()
    try:
        for word in (*addresses, *gateways):
            ipaddress.ip_interface(word)
    except ValueError:
        return None
    if not isinstance(row["mac"], str) or not is_mac(row["mac"]):
        return None
    return VM(
        name=ids["iface-id"],
        mac=row["mac"],
        addresses=tuple(addresses),
        gateways=tuple(gateways),
        mtu=row["mtu_request"] if isinstance(row["mtu_request"], int) else 0,
    )
