"""Names for numbers: what the tunnel keys of the Southbound database stand for (ovn-sb(5))."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ovnlab.insight.encapsulation import TunnelHeader
from ovnlab.ovsdb.client import Row, listed
from ovnlab.topology.addresses import ip_of, is_mac

COLUMNS = {
    "Chassis": ("_uuid", "name", "encaps"),
    "Encap": ("_uuid", "type", "ip"),
    "Datapath_Binding": ("_uuid", "tunnel_key", "external_ids"),
    "Port_Binding": (
        "_uuid", "logical_port", "type", "datapath", "tunnel_key", "chassis", "mac", "options", "parent_port", "tag",
    ),
    "Multicast_Group": ("_uuid", "datapath", "name", "tunnel_key"),
}  # fmt: skip
"""What is read of each table for the names in it."""


@dataclass(frozen=True)
class Datapath:
    """A logical switch or router as a datapath binding."""

    uuid: str
    name: str
    key: int
    kind: str


@dataclass(frozen=True)
class LogicalPort:
    """A port binding. `chassis` is where it is bound, `addresses` are MAC and IP addresses as one string each."""

    uuid: str
    name: str
    key: int
    datapath: str
    type: str = ""
    chassis: str | None = None
    addresses: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    tag: int = 0

    @property
    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of the port."""
        return tuple(word for address in self.addresses for word in address.split()[:1] if is_mac(word))

    @property
    def ips(self) -> tuple[str, ...]:
        """Return the IP addresses of the port without prefix length."""
        words = (word for address in self.addresses for word in address.split()[1:])
        return tuple(ip_of(word) for word in words)

    def mac_of(self, ip: str) -> str | None:
        """Return the MAC address that it has an IP address with."""
        for address in self.addresses:
            first, *rest = address.split()
            if is_mac(first) and ip in (ip_of(word) for word in rest):
                return first
        return None


@dataclass(frozen=True)
class Encap:
    """A tunnel endpoint of a chassis."""

    chassis: str
    type: str
    ip: str


class Names:
    """The names of one zone's datapaths, ports, multicast groups and chassis."""

    def __init__(self, tables: Mapping[str, Sequence[Row]]) -> None:
        chassis = {row["_uuid"]: str(row["name"]) for row in tables.get("Chassis", ())}
        found = [_datapath(row) for row in tables.get("Datapath_Binding", ())]
        self.datapaths = {datapath.name: datapath for datapath in found}
        by_uuid = {datapath.uuid: datapath.name for datapath in found}
        self._by_key = {datapath.key: datapath for datapath in found}
        self.ports = {
            port.name: port for row in tables.get("Port_Binding", ()) for port in [_port(row, by_uuid, chassis)]
        }
        self._ports = {(port.datapath, port.key): port.name for port in self.ports.values()}
        self._groups = {
            (by_uuid.get(row["datapath"], ""), row["tunnel_key"]): str(row["name"])
            for row in tables.get("Multicast_Group", ())
        }
        ends = {row["_uuid"]: row for row in tables.get("Encap", ())}
        self.encaps = tuple(
            Encap(chassis[row["_uuid"]], ends[uuid]["type"], ends[uuid]["ip"])
            for row in tables.get("Chassis", ())
            for uuid in listed(row["encaps"])
            if uuid in ends
        )

    def datapath(self, key: int) -> Datapath | None:
        """Return the logical datapath with that tunnel key."""
        return self._by_key.get(key)

    def port(self, datapath: str, key: int | None) -> str:
        """Return the name of the logical port or multicast group with that tunnel key; empty where there is none."""
        if key is None:
            return ""
        return self._ports.get((datapath, key)) or self._groups.get((datapath, key), "")

    def group(self, datapath: str, name: str) -> int | None:
        """Return the tunnel key of a multicast group; None where there is none of that name."""
        return next((key for (where, key), found in self._groups.items() if (where, found) == (datapath, name)), None)

    def chassis_at(self, ip: str) -> str:
        """Return the chassis whose tunnels end at an address; empty where there is none."""
        return next((encap.chassis for encap in self.encaps if encap.ip == ip), "")

    def ports_of(self, datapath: str) -> Iterable[LogicalPort]:
        """Return the ports of a datapath."""
        return (port for port in self.ports.values() if port.datapath == datapath)

    def peer(self, port: LogicalPort) -> LogicalPort | None:
        """Return the other end of a patch port, or of a router's port."""
        return self.ports.get(port.options.get("peer", ""))

    def named(self, tunnel: TunnelHeader, source: str = "", destination: str = "") -> TunnelNames:
        """Return what a tunnel's header stands for."""
        datapath = self.datapath(tunnel.datapath_key)
        name = datapath.name if datapath else ""
        return TunnelNames(
            src_chassis=self.chassis_at(source),
            dst_chassis=self.chassis_at(destination),
            encap=tunnel.encap,
            vni=tunnel.vni,
            ingress_key=tunnel.ingress_key,
            egress_key=tunnel.egress_key,
            datapath=name,
            inport=self.port(name, tunnel.ingress_key),
            outport=self.port(name, tunnel.egress_key),
        )


@dataclass(frozen=True)
class TunnelNames:
    """A tunnel's header with the names of its numbers, empty where nobody knows them."""

    src_chassis: str
    dst_chassis: str
    encap: str
    vni: int
    ingress_key: int | None
    egress_key: int | None
    datapath: str
    inport: str
    outport: str

    def __str__(self) -> str:
        keys = [f"vni {_with(self.vni, self.datapath)}"]
        if self.ingress_key is not None:
            keys.append(f"inport {_with(self.ingress_key, self.inport)}")
        if self.egress_key is not None:
            keys.append(f"outport {_with(self.egress_key, self.outport)}")
        return f"{'Geneve' if self.encap == 'geneve' else 'VXLAN'} {', '.join(keys)}"


def _with(number: int, name: str) -> str:
    return f"{number} ({name})" if name else str(number)


def name_of(row: Row) -> str:
    """Return the name of a datapath binding's logical switch or router (ovn-sb(5), Datapath_Binding)."""
    ids = row["external_ids"]
    return str(ids.get("name") or ids.get("logical-switch") or ids.get("logical-router") or row["_uuid"])


def _datapath(row: Row) -> Datapath:
    kind = "switch" if "logical-switch" in row["external_ids"] else "router"
    return Datapath(row["_uuid"], name_of(row), row["tunnel_key"], kind)


def _port(row: Row, datapaths: Mapping[str, str], chassis: Mapping[str, str]) -> LogicalPort:
    return LogicalPort(
        uuid=row["_uuid"],
        name=row["logical_port"],
        key=row["tunnel_key"],
        datapath=datapaths.get(row["datapath"], ""),
        type=row["type"],
        chassis=chassis.get(row["chassis"]) if isinstance(row["chassis"], str) else None,
        addresses=tuple(listed(row["mac"])),
        options=row["options"],
        parent=str(next(iter(listed(row["parent_port"])), "")),
        tag=int(next(iter(listed(row["tag"])), 0)),
    )
