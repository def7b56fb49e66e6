"""The contents of a picture of a lab as data, independent of the format that it is drawn in.

Nothing here knows of coordinates, colours or languages; `portray` makes it of a topology.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

VIEWS = ("physical", "logical", "both")
"""What of a picture can be drawn."""

MOST_CHASSIS_WITH_TUNNELS = 6
"""With more chassis than this only broken tunnels are drawn: 30 chassis have 435 of them."""

UNDERLAY = "underlay"
"""The name of the network between the nodes (`resolved.Node.segment`)."""


class State(StrEnum):
    """The state of a port's binding."""

    BOUND = "bound"
    UNBOUND = "unbound"
    DOWN = "down"
    """Bound, and not up."""
    MISSING = "missing"
    """In the topology, not in the Northbound database."""


@dataclass(frozen=True)
class NetworkPicture:
    """The underlay, or a physical network; `bridges` are those that carry it on chassis."""

    name: str
    subnets: tuple[str, ...]
    bridges: tuple[str, ...] = ()
    mtu: int = 0

    @property
    def is_underlay(self) -> bool:
        """Return True if it is the network that nodes share."""
        return self.name == UNDERLAY


@dataclass(frozen=True)
class NicPicture:
    """A node on a physical network: through a bridge on chassis. `underlay`: its tunnels go out there."""

    network: str
    device: str
    bridge: str
    addresses: tuple[str, ...]
    underlay: bool = False


@dataclass(frozen=True)
class PortPicture:
    """A logical switch port: a fake VM's, or of a `kind` (VLAN, virtual, external) of its own.

    `chassis` is where it is bound, or who may speak for it, the preferred first; `parents` are the fake VMs that it
    is in or shared by.
    """

    name: str
    switch: str
    mac: str
    addresses: tuple[str, ...]
    state: State
    chassis: tuple[str, ...] = ()
    kind: str = ""
    parents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Return the first of its addresses, and how many more there are."""
        more = f" +{len(self.addresses) - 1}" if len(self.addresses) > 1 else ""
        return f"{self.addresses[0]}{more}" if self.addresses else ""

    @property
    def described(self) -> str:
        """Return all that is known of it, in lines."""
        where = f"{self.state} {', '.join(self.chassis)}".rstrip() if not self.kind else ", ".join(self.chassis)
        what = f"{self.kind} of {', '.join(self.parents)}" if self.parents else self.kind
        lines = (f"{self.name} on {self.switch}", what, f"{self.mac} {' '.join(self.addresses)}".strip(), where)
        return "\n".join(filter(None, (*lines, *self.notes)))


@dataclass(frozen=True)
class NodePicture:
    """A machine. `colour` numbers the chassis, None where it is none; `vms` are the ports that are bound here.

    `address` is empty where it has none on the underlay; `facts` say what it is there for, `faults` what is wrong
    with it.
    """

    name: str
    role: str
    zone: str
    address: str
    on_underlay: bool
    colour: int | None
    running: bool = True
    encaps: str = ""
    facts: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    nics: tuple[NicPicture, ...] = ()
    vms: tuple[PortPicture, ...] = ()


@dataclass(frozen=True)
class TunnelPicture:
    """A tunnel between two chassis; it works where both ends say so, or where nobody was asked."""

    ends: tuple[str, str]
    encap: str
    working: bool = True


@dataclass(frozen=True)
class RulePicture:
    """A line of a router's or switch's configuration: what it is, and what it says."""

    kind: str
    text: str
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """Return all of it in a line."""
        notes = f" ({', '.join(self.notes)})" if self.notes else ""
        return f"{self.kind} {self.text}{notes}"


@dataclass(frozen=True)
class RouterPortPicture:
    """A router's port on a switch; `gateways` in order where it is centralised."""

    switch: str
    networks: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RouterPicture:
    """A logical router; on `chassis` alone where it is a gateway router."""

    name: str
    zone: str
    chassis: str
    ports: tuple[RouterPortPicture, ...]
    nat: tuple[RulePicture, ...] = ()
    routes: tuple[RulePicture, ...] = ()
    balancers: tuple[RulePicture, ...] = ()


@dataclass(frozen=True)
class Badge:
    """A property of a switch in a word or two, and its details."""

    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class SwitchPicture:
    """A logical switch; `localnet` is the physical network that it is joined to, with the VLAN."""

    name: str
    zone: str
    subnets: tuple[str, ...]
    transit: bool = False
    network: str = ""
    vlan: int = 0
    ports: tuple[PortPicture, ...] = ()
    badges: tuple[Badge, ...] = ()
    balancers: tuple[RulePicture, ...] = ()

    @property
    def localnet(self) -> str:
        """Return the physical network and VLAN of the switch, empty where it has none."""
        return f"{self.network}, VLAN {self.vlan}" if self.vlan else self.network


@dataclass(frozen=True)
class Picture:
    """A lab. `tunnels` are all there are, `mesh` says so in words; `state` is empty where it is a file's."""

    name: str
    state: str
    underlay: NetworkPicture
    networks: tuple[NetworkPicture, ...]
    nodes: tuple[NodePicture, ...]
    unbound: tuple[PortPicture, ...]
    tunnels: tuple[TunnelPicture, ...]
    mesh: tuple[str, ...]
    zones: tuple[str, ...]
    zone_facts: tuple[tuple[str, str], ...]
    switches: tuple[SwitchPicture, ...]
    routers: tuple[RouterPicture, ...]

    @property
    def drawn_tunnels(self) -> tuple[TunnelPicture, ...]:
        """Return all of them between few chassis, between many only what is broken between nodes that run."""
        if len(self.colours) <= MOST_CHASSIS_WITH_TUNNELS:
            return self.tunnels
        running = {node.name for node in self.nodes if node.running}
        return tuple(tunnel for tunnel in self.tunnels if not tunnel.working and running.issuperset(tunnel.ends))

    @property
    def colours(self) -> dict[str, int]:
        """Return the chassis by name, and the number of the colour of each."""
        return {node.name: node.colour for node in self.nodes if node.colour is not None}

    @property
    def summary(self) -> str:
        """Return how much there is of everything."""
        vms = sum(len(node.vms) for node in self.nodes) + len(self.unbound)
        counts = [
            (len(self.nodes), "node", "nodes"),
            (len(self.switches), "switch", "switches"),
            (len(self.routers), "router", "routers"),
            (vms, "fake VM", "fake VMs"),
        ]
        return " · ".join(f"{number} {one if number == 1 else several}" for number, one, several in counts if number)
