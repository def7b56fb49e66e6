"""What a node is like: its daemons, chassis configuration, tunnels and fake VMs. One round trip."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import msgspec
from invoke.context import Context

from ovnlab.ovsdb import Row, rows
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import VM

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
    installed: bool
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


def probe(context: Context, node: str, *, versions: bool = False) -> NodeState:
    """Look at a node; `versions` asks each daemon for its own."""
    script = render("node/probe.sh.j2", versions=versions)
    return parse(run_script(context, script, where=f"{node}: looking"))


def parse(printed: str) -> NodeState:
    """The state that templates/node/probe.sh.j2 printed."""
    daemons: dict[str, Daemon] = {}
    tables: list[list[Row]] = []
    links: list[Row] = []
    namespaces: dict[str, dict[str, list[Row]]] = {}
    for line in printed.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "daemon":
            name, pid, *version = rest.split(maxsplit=2)
            daemons[name] = Daemon(name, int(pid), version[0].split()[-1] if version else "")
        elif kind == "ovs":
            tables.append(rows(rest))
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
        vms=tuple(_vm(row, namespaces, outside) for row in interfaces if "iface-id" in row["external_ids"]),
        underlay_addresses=_addresses(underlay),
        underlay_mac=underlay.get("address", ""),
        underlay_mtu=underlay.get("mtu", 0),
    )


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
        installed=ids.get("ovn-installed") == "true",
        vm=None,
    )
    return dataclasses.replace(state, vm=_bound_as(row, ids)) if "ovnlab" in ids else state


def _bound_as(row: Row, ids: dict[str, str]) -> VM:
    return VM(
        name=ids["iface-id"],
        mac=row["mac"] if isinstance(row["mac"], str) else "",
        addresses=tuple(ids.get("ovnlab-addresses", "").split()),
        gateways=tuple(ids.get("ovnlab-gateways", "").split()),
        mtu=row["mtu_request"] if isinstance(row["mtu_request"], int) else 0,
    )
