"""Endpoints of a lab's databases, for the daemons and tools that connect to them."""

from __future__ import annotations

import msgspec

from ovnlab.topology.resolved import Node, Topology

NORTHBOUND, SOUTHBOUND, NORTHBOUND_RAFT, SOUTHBOUND_RAFT = 6641, 6642, 6643, 6644
IC_NORTHBOUND, IC_SOUTHBOUND = 6645, 6646
"""The ports that ovn-ctl(8) gives them."""

KEY, CERTIFICATE, AUTHORITY = "/etc/ovn/ovnlab-key.pem", "/etc/ovn/ovnlab-cert.pem", "/etc/ovn/ovnlab-ca.pem"
"""Where a node has its private key, its certificate, and that of the lab's CA."""

TLS_OPTIONS = (f"--private-key={KEY}", f"--certificate={CERTIFICATE}", f"--ca-cert={AUTHORITY}")


class Databases(msgspec.Struct, frozen=True):
    """The Northbound and Southbound databases of one zone, as its central nodes reach them.

    A database on the node itself by its socket, a cluster by all of its members: a change goes to the leader.
    """

    zone: str
    northbound: str = ""
    southbound: str = ""
    tls: bool = False

    @property
    def northbound_or_socket(self) -> str:
        """Return the Northbound database, for a daemon on a central node."""
        return self.northbound or "unix:/run/ovn/ovnnb_db.sock"

    @property
    def southbound_or_socket(self) -> str:
        """Return the Southbound database, for a daemon on a central node."""
        return self.southbound or "unix:/run/ovn/ovnsb_db.sock"

    @property
    def environment(self) -> dict[str, str]:
        """Return what tells ovn-nbctl(8) and ovn-sbctl(8) where they are."""
        remotes = {"OVN_NB_DB": self.northbound, "OVN_SB_DB": self.southbound}
        found = {key: value for key, value in remotes.items() if value}
        if found and self.tls:
            options = " ".join(TLS_OPTIONS)
            found.update(OVN_NBCTL_OPTIONS=options, OVN_SBCTL_OPTIONS=options)
        return found


def of_zone(topology: Topology, zone: str) -> Databases:
    """Return how the central nodes of a zone reach its databases."""
    if len(topology.centrals(zone)) == 1:
        return Databases(zone)
    return from_afar(topology, zone)


def from_afar(topology: Topology, zone: str) -> Databases:
    """Return how any node reaches the databases of a zone."""
    centrals = topology.centrals(zone)
    return Databases(
        zone,
        northbound=remotes(topology, centrals, NORTHBOUND),
        southbound=remotes(topology, centrals, SOUTHBOUND),
        tls=topology.control.tls,
    )


def for_chassis(topology: Topology, node: Node) -> str:
    """Return the Southbound remotes of a chassis: its zone's relays where there are any, otherwise the databases."""
    servers = topology.relays(node.zone) or topology.centrals(node.zone)
    return remotes(topology, servers, SOUTHBOUND)


def remotes(topology: Topology, nodes: tuple[Node, ...], port: int) -> str:
    """Return one port of several nodes as a list of OVSDB remotes (ovsdb(7), Connection Methods)."""
    return ",".join(f"{protocol(topology)}:{host(node.ip)}:{port}" for node in nodes)


def protocol(topology: Topology) -> str:
    """Return ssl or tcp, the connection method."""
    return "ssl" if topology.control.tls else "tcp"


def host(ip: str) -> str:
    """Return an address as remotes have it: IPv6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip


def listening(topology: Topology, node: Node, port: int) -> str:
    """Return where a database listens: on every address of its node, of the family of the underlay."""
    return f"p{protocol(topology)}:{port}:{'[::]' if ':' in node.ip else '0.0.0.0'}"  # noqa: S104  a node's own network
