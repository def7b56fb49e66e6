"""What a node is like: its daemons, chassis configuration, tunnels and fake VMs. One round trip."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from typing import Any

import msgspec
from invoke.context import Context

from ovnlab.ovsdb import Row, rows
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import MAC, NAME, VM

TUNNELS = ("geneve", "vxlan")


@dataclass(frozen=True)
class Daemon:
    """A daemon that runs. `version` is empty where it was not asked for."""

    name: str
    pid: int
    version: str


@dataclass(frozen=True)
class Tunnel:
    """A tunnel port of br-int; `working` once the switch has given it a number."""

    name: str
    encap: str
    remote_ip: str
    working: bool


@dataclass(frozen=True)
class BoundVM:
    """A fake VM as it is on a node.

    `addresses`, `gateways` and `mtu` are those in its namespace, empty and 0 where it is not in one. `vm` is what
    it was bound as, None where somebody else made the port.
    """

    name: str
    interface: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    vm: VM | None

    def is_as(self, vm: VM) -> bool:
        """Whether it is what `vm` says."""
        wanted = (vm.mac, vm.mtu, sorted(vm.addresses), sorted(vm.gateways))
        return (self.mac, self.mtu, sorted(self.addresses), sorted(self.gateways)) == wanted


@dataclass(frozen=True)
class NodeState:
    """A node as it is."""

    daemons: dict[str, Daemon]
    external_ids: dict[str, str]
    bridges: dict[str, Row]
    tunnels: tuple[Tunnel, ...]
    vms: tuple[BoundVM, ...]
    underlay_addresses: tuple[str, ...]
    underlay_mac: str
    underlay_mtu: int
    connections: frozenset[str]


def probe(context: Context, node: str, *, versions: bool = False) -> NodeState:
    """Look at a node; `versions` asks each daemon for its own."""
    script = render("node/probe.sh.j2", versions=versions)
    return parse(run_script(context, script, where=f"{node}: looking"))


def parse(printed: str) -> NodeState:
    """The state that templates/node/probe.sh.j2 printed."""
    daemons: dict[str, Daemon] = {}
    tables: list[list[Row]] = []
    links: list[Row] = []
    connections: list[str] = []
    namespaces: dict[str, dict[str, list[Row]]] = {}
    for line in printed.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "daemon":
            name, pid, *version = rest.split(maxsplit=2)
            daemons[name] = Daemon(name, int(pid), version[0].split()[-1] if version else "")
        elif kind == "ovs":
            tables.append(rows(rest))
        elif kind == "connection":
            connections.append(rest)
        elif kind == "links":
            links = msgspec.json.decode(rest)
        elif kind.startswith("vm-"):
            name, _, found = rest.partition(" ")
            namespaces.setdefault(name, {})[kind] = msgspec.json.decode(found or "[]")
    chassis, bridges, interfaces = tables if len(tables) == 3 else ([], [], [])
    outside = {link.get("ifname") for link in links}
    underlay = next((link for link in links if link.get("ifname") == "br-eth1"), {})
    return NodeState(
        daemons=daemons,
        external_ids=chassis[0]["external_ids"] if chassis else {},
        bridges={row["name"]: row for row in bridges},
        tunnels=tuple(_tunnel(row) for row in interfaces if row["type"] in TUNNELS),
        vms=tuple(_vm(row, namespaces, outside) for row in interfaces if _is_vm(row)),
        connections=frozenset(connections),
        underlay_addresses=_addresses(underlay),
        underlay_mac=underlay.get("address", ""),
        underlay_mtu=underlay.get("mtu", 0),
    )


def _is_vm(row: Row) -> bool:
    """A port with an iface-id that can be a fake VM's name. Others are somebody else's, and are left alone."""
    return NAME.fullmatch(row["external_ids"].get("iface-id", "")) is not None


def _tunnel(row: Row) -> Tunnel:
    working = isinstance(row["ofport"], int) and row["ofport"] > 0
    return Tunnel(row["name"], row["type"], row["options"].get("remote_ip", ""), working)


def _addresses(link: Row) -> tuple[str, ...]:
    """Addresses that somebody gave it, with prefix length; not the link-local ones."""
    found = (entry for entry in link.get("addr_info", ()) if entry.get("scope") == "global")
    return tuple(f"{entry['local']}/{entry['prefixlen']}" for entry in found)


def _vm(row: Row, namespaces: dict[str, dict[str, list[Row]]], outside: set[object]) -> BoundVM:
    ids: dict[str, str] = row["external_ids"]
    name = ids["iface-id"]
    # A port that is outside is not in its namespace, whatever an earlier switch may have left in there.
    found = {} if row["name"] in outside else namespaces.get(name, {})
    link: dict[str, Any] = next((x for x in found.get("vm-links", []) if x.get("ifname") == row["name"]), {})
    is_up = "UP" in link.get("flags", ())
    routes = [*found.get("vm-routes", []), *found.get("vm-routes6", [])]
    state = BoundVM(
        name=name,
        interface=row["name"],
        mac=link.get("address", ""),
        mtu=link.get("mtu", 0) if is_up else 0,
        addresses=_addresses(link),
        gateways=tuple(route["gateway"] for route in routes if "gateway" in route and route.get("protocol") != "ra"),
        vm=None,
    )
    return dataclasses.replace(state, vm=_bound_as(row, ids)) if "ovnlab" in ids else state


def _bound_as(row: Row, ids: dict[str, str]) -> VM | None:
    """What we wrote there; None where it is no longer what we write."""
    addresses, gateways = ids.get("ovnlab-addresses", "").split(), ids.get("ovnlab-gateways", "").split()
    try:
        for word in (*addresses, *gateways):
            ipaddress.ip_interface(word)
    except ValueError:
        return None
    if not isinstance(row["mac"], str) or not MAC.fullmatch(row["mac"]):
        return None
    return VM(
        name=ids["iface-id"],
        mac=row["mac"],
        addresses=tuple(addresses),
        gateways=tuple(gateways),
        mtu=row["mtu_request"] if isinstance(row["mtu_request"], int) else 0,
    )
