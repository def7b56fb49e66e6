"""Databases, switch and controllers of a node: started where they do not run, configured where they differ."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.ovsdb import endpoints
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks import damage
from ovnlab.tasks.damage import Damage, Unconverted
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Node, Topology

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

READY_TIMEOUT = 60
"""Seconds that chassis, tunnels and ports may take."""

READY_TIMEOUT_EACH = 2
"""Seconds for each chassis that these may take in a large lab, where each has work with each other."""


def ready_timeout(chassis: int) -> int:
    """Return the seconds that chassis, tunnels and ports of a lab with that many chassis may take."""
    return max(READY_TIMEOUT, READY_TIMEOUT_EACH * chassis)


LEAVE_TIMEOUT = 10
"""Seconds that leaving a cluster may take; whoever stays goes on without it then."""

BFD_TIMEOUT = 5
"""Seconds that gateways may take to see one another."""

ROUTE_PROTOCOL = 201
"""The number that says which routes of a node are ovnlab's (ip-route(8), protocol)."""


def external_ids(topology: Topology, node: Node) -> dict[str, str]:
    """Return what ovn-controller reads from Open_vSwitch:external_ids (ovn-controller(8), CONFIGURATION).

    An empty value is one that must not be there.
    """
    gateway = node.role == "gateway"
    return {
        "system-id": node.name,
        "hostname": node.name,
        "ovn-remote": endpoints.for_chassis(topology, node),
        "ovn-encap-type": ",".join(node.encaps),
        "ovn-encap-ip": node.ip,
        "ovn-bridge": "br-int",
        "ovn-bridge-datapath-type": node.datapath,
        "ovn-remote-probe-interval": str(topology.control.probe_interval),
        "ovn-transport-zones": ",".join(node.transport_zones),
        "ovn-monitor-all": "true" if topology.control.monitor_all else "",
        "ovn-bridge-mappings": ",".join(f"{nic.network}:{nic.bridge}" for nic in node.nics),
        "ovn-chassis-mac-mappings": ",".join(
            f"{nic.network}:{nic.chassis_mac}" for nic in node.nics if nic.chassis_mac
        ),
        "ovn-cms-options": "enable-chassis-as-gw" if gateway else "",
        "ovn-is-interconn": "true" if gateway and len(topology.zones) > 1 else "",
        "ovnlab": topology.name,
        **dict(node.external_ids),
    }


def strange_keys(topology: Topology, node: Node, found: Mapping[str, str]) -> list[str]:
    """Return the keys for ovn-controller that somebody set by hand, beside those that the lab sets."""
    if node.machine.adopt:  # they may be its owner's
        return []
    known = external_ids(topology, node)
    return sorted(key for key in found if key.startswith("ovn-") and key not in known)


class Start(msgspec.Struct, frozen=True):
    """Options for starting a node.

    `build` is the key of what was built for it, empty where it runs packages. Of a cluster's central nodes, the one
    that `founds` makes the cluster that the others join, and the one that `converts` is the last that gets the
    software that all of them are to have. `strange` are keys for ovn-controller that have to go, `twins` interfaces
    that claim the port of a fake VM.
    """

    build: str = ""
    founds: bool = True
    converts: bool = False
    strange: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()


def node_script(topology: Topology, node: Node, how: Start) -> str:
    """Return the script that starts a node before any controller runs: databases and switch, or only its network."""
    return _switch_script(topology, node, how) if node.has_switch else _plain_script(topology, node, how.build)


def _switch_script(topology: Topology, node: Node, how: Start) -> str:
    ids = external_ids(topology, node)
    return render(
        "node/start-switch.sh.j2",
        node=node,
        build=how.build,
        lab=topology.name,
        mtu=topology.underlay.mtu,
        external_ids={key: value for key, value in ids.items() if value},
        twins=how.twins,
        unset=[*(key for key, value in ids.items() if not value), *how.strange],
        route_protocol=ROUTE_PROTOCOL,
        neighbours=_neighbours(topology, node),
        connected=connected(node),
        tls_files=(endpoints.KEY, endpoints.CERTIFICATE, endpoints.AUTHORITY),
        **_central_values(topology, node, how),
    )


def _central_values(topology: Topology, node: Node, how: Start) -> dict[str, object]:
    """Return what templates/node/lib/start-central.sh.j2 asks for."""
    protocol = endpoints.protocol(topology)
    centrals = topology.centrals(node.zone)
    ports = (endpoints.NORTHBOUND, endpoints.SOUTHBOUND)
    ic_ports = (endpoints.IC_NORTHBOUND, endpoints.IC_SOUTHBOUND)
    return {
        "cluster": node.central and len(centrals) > 1,
        "founds": how.founds,
        "converts": how.converts,
        "raft_ports": (endpoints.NORTHBOUND_RAFT, endpoints.SOUTHBOUND_RAFT),
        "raft_address": f"{protocol}:{endpoints.host(node.ip)}",
        "raft_peers": [f"{protocol}:{endpoints.host(peer.ip)}" for peer in centrals if peer.name != node.name],
        "election_timer": topology.control.election_timer,
        "probe_interval": topology.control.probe_interval,
        "listening": [endpoints.listening(topology, node, port) for port in ports],
        "transport_zones": {found.name: found.transport_zones for found in topology.chassis if found.transport_zones},
        "chassis": [
            (found.name, ",".join(found.encaps), found.ip) for found in topology.chassis if found.zone == node.zone
        ],
        "listening_ic": [endpoints.listening(topology, node, port) for port in ic_ports],
        "has_ic": has_ic(topology, node),
        "zone": node.zone,
        "tls": endpoints.TLS_OPTIONS if topology.control.tls else (),
    }


def _neighbours(topology: Topology, node: Node) -> list[tuple[str, str]]:
    """Return the address and MAC of each node on the same network that a node's daemons talk to, but for tunnels."""
    servers = {found.name for found in topology.nodes if found.central or found.role == "relay"}
    return [
        (found.ip, found.mac)
        for found in topology.nodes
        if found.name != node.name and found.segment == node.segment and found.underlay_device and found.mac
        if node.name in servers or found.name in servers
    ]


def connected(node: Node) -> list[tuple[str, str, str]]:
    """Return the network, device and address of each route that the kernel makes for a node's own addresses."""
    if node.machine.host:
        return []
    pairs = [(node.underlay_device, node.cidr)] if node.underlay_device else []
    pairs += [(nic.carrier, address) for nic in node.nics for address in nic.addresses]
    found = [(device, ipaddress.ip_interface(address)) for device, address in pairs]
    return [(str(own.network), device, str(own.ip)) for device, own in found if own.network.num_addresses > 1]


def has_ic(topology: Topology, node: Node) -> bool:
    """Return True if a node has the databases that join the zones."""
    return len(topology.zones) > 1 and node.name == topology.central.name


def _plain_script(topology: Topology, node: Node, build: str) -> str:
    devices: list[dict[str, object]] = [
        {"name": nic.device, "mac": nic.mac, "mtu": 1500, "addresses": nic.addresses, "dhcp": nic.dhcp}
        for nic in node.nics
    ]
    if node.underlay_device:
        mtu = topology.underlay.mtu
        devices.insert(0, {"name": "eth1", "mac": node.mac, "mtu": mtu, "addresses": [node.cidr], "dhcp": False})
    return render(
        "node/configure-host.sh.j2",
        node=node,
        connected=connected(node),
        build=build,
        devices=devices,
        route_protocol=ROUTE_PROTOCOL,
        listening=endpoints.listening(topology, node, endpoints.SOUTHBOUND),
        southbound=endpoints.remotes(topology, topology.centrals(node.zone), endpoints.SOUTHBOUND),
        tls=endpoints.TLS_OPTIONS if topology.control.tls else (),
    )


def controller_script(topology: Topology, node: Node) -> str:
    """Return the script that starts ovn-northd, ovn-ic and ovn-controller where the node has them."""
    found = endpoints.of_zone(topology, node.zone)
    ic = None
    if node.central and len(topology.zones) > 1:
        first = (topology.central,)
        ic = [endpoints.remotes(topology, first, p) for p in (endpoints.IC_NORTHBOUND, endpoints.IC_SOUTHBOUND)]
    return render(
        "node/start-controller.sh.j2",
        node=node,
        northbound=found.northbound_or_socket,
        southbound=found.southbound_or_socket,
        threads=topology.control.northd_threads,
        ic=ic,
        tls=endpoints.TLS_OPTIONS if topology.control.tls else (),
    )


def certificate_script(node: str, files: Mapping[str, str]) -> str:
    """Return the script that writes a node's private key and certificates."""
    return render("node/install-certificate.sh.j2", node=node, files=files)


def registered_script(found: Databases, chassis: Sequence[str], *, synced: bool = True) -> str:
    """Return the script that waits, on a central node, for chassis to register and for `--wait=hv sync`."""
    timeout = ready_timeout(len(chassis))
    return render(
        "node/wait-chassis-registered.sh.j2", databases=found, chassis=chassis, timeout=timeout, synced=synced
    )


def tunnels_script(topology: Topology, node: Node) -> str:
    """Return the script that waits until a chassis has a working tunnel port to every peer."""
    peers = [(peer.name, peer.ip) for peer in topology.peers(node)]
    return render("node/wait-tunnels.sh.j2", node=node.name, peers=peers, timeout=ready_timeout(len(peers)))


def announce_script(node: Node) -> str:
    """Return the script that announces a node's addresses to its neighbours."""
    own = [(node.underlay_device, node.mac)] if node.underlay_device else []
    devices = own if node.has_switch else [(nic.device, nic.mac) for nic in node.nics if nic.mac]
    return render("node/announce-addresses.sh.j2", node=node, devices=devices)


class TransitSwitch(msgspec.Struct, frozen=True):
    """A transit switch of the interconnection, and the lab that made it."""

    name: str
    mark: str


def transit_script(add: Sequence[str], remove: Sequence[str], lab: str) -> str:
    """Return the script that makes and removes transit switches in the interconnection's database."""
    return render("node/set-transit-switches.sh.j2", add=add, remove=remove, lab=lab)


class StartedDaemons(msgspec.Struct, frozen=True):
    """The result of starting a node: the damage of its databases, and the process ID of its ovs-vswitchd there.

    That is 0 where the node has none.
    """

    damage: tuple[Damage | Unconverted, ...]
    switch: int


def start_node(context: Context, topology: Topology, node: Node, how: Start) -> StartedDaemons:
    """Start databases and switch of a node, and configure its chassis."""
    printed = run_script(
        context,
        node_script(topology, node, how),
        where=f"{node.name}: starting the {'switch' if node.has_switch else 'machine'}",
        timeout=READY_TIMEOUT * 2,
    )
    found = re.search(r"^ovs-vswitchd (\d+)$", printed, re.MULTILINE)
    return StartedDaemons(tuple(damage.parse(printed)), int(found[1]) if found else 0)


def start_controller(context: Context, topology: Topology, node: Node) -> None:
    """Start ovn-northd, ovn-ic and ovn-controller of a node."""
    run_script(context, controller_script(topology, node), where=f"{node.name}: starting ovn-controller")


def certify(context: Context, node: str, files: Mapping[str, str]) -> None:
    """Give a node its private key and certificates."""
    run_script(context, certificate_script(node, files), where=f"{node}: writing certificates")


def make_transit(central: Context, add: Sequence[str], remove: Sequence[str], lab: str) -> None:
    """Make and remove transit switches."""
    run_script(central, transit_script(add, remove, lab), where="central: writing transit switches")


def await_registered(central: Context, found: Databases, chassis: Sequence[str], *, synced: bool = True) -> None:
    """Return when chassis are registered and, where all are `synced`, follow the Northbound database."""
    script = registered_script(found, chassis, synced=synced)
    timeout = ready_timeout(len(chassis)) * 2 + 10
    run_script(central, script, where="central: waiting for the chassis", timeout=timeout)


def await_sync(central: Context, found: Databases, timeout: int) -> None:
    """Return when all chassis follow the Northbound database. Raises CommandFailed with those that lag."""
    script = render("node/wait-chassis-registered.sh.j2", databases=found, chassis=(), timeout=timeout, synced=True)
    run_script(central, script, where="central: waiting for the chassis", timeout=timeout * 2 + 30)


def await_chassis(central: Context, found: Databases, name: str, timeout: int) -> None:
    """Return when a chassis is registered. Raises CommandFailed where it is not by then."""
    script = render(
        "node/wait-chassis-registered.sh.j2", databases=found, chassis=(name,), timeout=timeout, synced=False
    )
    run_script(central, script, where="central: waiting for the chassis", timeout=timeout * 2 + 30)


def await_learned(central: Context, found: Databases, prefixes: Sequence[tuple[str, str]]) -> None:
    """Return when a zone has routes to networks of others, and its chassis follow."""
    script = render("node/wait-routes-learned.sh.j2", databases=found, prefixes=prefixes, timeout=READY_TIMEOUT)
    run_script(central, script, where="central: waiting for ovn-ic", timeout=READY_TIMEOUT * 2 + 10)


def recompute(context: Context, node: str) -> None:
    """Let the ovn-controller of a node work out all of its flows anew."""
    run_script(context, render("node/recompute-flows.sh.j2", node=node), where=f"{node}: recomputing flows")


def await_tunnels(context: Context, topology: Topology, node: Node) -> None:
    """Return when the node has all its tunnels."""
    script = tunnels_script(topology, node)
    run_script(
        context, script, where=f"{node.name}: waiting for tunnels", timeout=ready_timeout(len(topology.chassis)) + 10
    )


def announce(context: Context, node: Node) -> None:
    """Tell the neighbours of a node where it is."""
    run_script(context, announce_script(node), where=f"{node.name}: announcing its address")


def await_bfd(context: Context) -> None:
    """Return when a chassis sees that its gateways live; after a while in any case, as they may not."""
    run_script(
        context, render("node/wait-bfd.sh.j2", timeout=BFD_TIMEOUT), where="waiting for BFD", timeout=READY_TIMEOUT
    )


def disconnect(context: Context, node: str) -> None:
    """End ovn-controller so that it connects anew; its flows and its chassis stay."""
    script = render("node/restart-controller.sh.j2", node=node)
    run_script(context, script, where=f"{node}: reconnecting", timeout=READY_TIMEOUT + 10)


def forget_chassis(central: Context, found: Databases, names: Sequence[str]) -> None:
    """Take chassis that are gone out of the Southbound database."""
    script = render("node/remove-chassis.sh.j2", databases=found, chassis=names)
    run_script(central, script, where="central: removing chassis")


def leave_clusters(context: Context, node: str) -> None:
    """Let the databases of a node leave their clusters, as far as they are in any, while it lives."""
    script = render("node/leave-clusters.sh.j2", timeout=LEAVE_TIMEOUT)
    run_script(context, script, where=f"{node}: leaving the cluster", timeout=READY_TIMEOUT)


RAFT_PORTS = {"nb": endpoints.NORTHBOUND_RAFT, "sb": endpoints.SOUTHBOUND_RAFT}
"""Where members of the cluster of a database listen for one another."""


def kick(central: Context, addresses: Sequence[str], of: Sequence[str] = tuple(RAFT_PORTS)) -> None:
    """Take servers that are gone out of the cluster of these databases, by their remotes without port."""
    script = render(
        "node/remove-cluster-members.sh.j2", addresses=addresses, ports={name: RAFT_PORTS[name] for name in of}
    )
    run_script(central, script, where="central: removing cluster members")
