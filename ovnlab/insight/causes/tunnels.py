"""Tunnel ports between chassis, and BFD over them."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import Cause, Evidence, Finding
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.client import Row, listed
from ovnlab.tasks.probe import TUNNELS


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.chassis:
        seen = snapshot.nodes.get(node.name)
        if seen is None or not seen.switch:
            continue
        ports = {row["options"].get("remote_ip", ""): row for row in seen.interfaces.values() if row["type"] in TUNNELS}
        peers = {peer.name: peer.ip for peer in snapshot.topology.peers(node)}
        for peer, ip in peers.items():
            yield from _tunnel(seen, peer, ip, ports.get(ip))
        yield from _bfd(seen, {name: ports[ip] for name, ip in peers.items() if ip in ports})


def _tunnel(seen: NodeSnapshot, peer: str, ip: str, port: Row | None) -> Iterator[Finding]:
    name = seen.name
    keys = frozenset({f"tunnel {name} {peer}"})
    effects = (f"tunnel {name} {peer}", f"size tunnel {name} {peer}", f"bfd {name} {peer}", f"bfd {peer} {name}")
    drift = (f"configure {name}: there is no tunnel to {peer}",)
    if port is None:
        evidence = [f"{name}: no tunnel Interface has remote_ip {ip}"]
        log = [
            line.rpartition("|")[2]
            for line in seen.log("ovn-controller")
            if "tunnel" in line.lower() or "encap" in line.lower()
        ]
        yield Finding(
            "tunnel-missing",
            f"tunnel from {name} to {peer}",
            "there is no port for it",
            (*evidence, *log[-2:]),
            f"ovnlab logs {name} ovn-controller",
            keys=keys,
            effects=effects,
            drift=drift,
        )
        return
    errors = [str(error) for error in listed(port["error"])]
    if errors or not isinstance(port["ofport"], int) or port["ofport"] < 1:
        yield Finding(
            "tunnel-port",
            f"tunnel from {name} to {peer}",
            f"the switch does not work with port {port['name']}",
            (f"{name}: Interface {port['name']} error: {errors[0] if errors else 'none'}, ofport {port['ofport']}",),
            f"ovnlab vsctl {name} show",
            keys=keys,
            effects=effects,
            drift=drift,
        )


def _bfd(seen: NodeSnapshot, ports: dict[str, Row]) -> Iterator[Finding]:
    """Yield tunnels whose BFD session is not up (ovs-vswitchd.conf.db(5), Interface bfd_status)."""
    watched = {peer: row for peer, row in ports.items() if row["bfd"].get("enable") == "true"}
    down = {peer: row["bfd_status"] for peer, row in watched.items() if row["bfd_status"].get("state") != "up"}
    name = seen.name
    if not down:
        return
    told = tuple(
        f"{name}: Interface {watched[peer]['name']} bfd_status: state={status.get('state', 'none')}, "
        f"remote_state={status.get('remote_state', 'none')}, {status.get('diagnostic', 'no diagnostic')}"
        for peer, status in list(down.items())[:3]
    )
    which = "all its gateways and watchers" if len(down) == len(watched) > 1 else ", ".join(down)
    keys = frozenset(f"bfd {name} {peer}" for peer in down)
    yield Finding(
        "bfd-down",
        f"BFD of {name}",
        f"is down to {which}: packets in that tunnel, or their answers, are lost",
        told,
        f"ovnlab vsctl {name} --columns=name,bfd_status find Interface bfd:enable=true",
        keys=keys,
        effects=tuple(f"active {peer}" for peer in (name, *down)),
        may=tuple(key for peer in down for key in (f"tunnel {name} {peer}", f"tunnel {peer} {name}")),
    )


CAUSE = Cause(
    name="tunnels",
    title="A tunnel that is missing, that the switch does not work with, or whose BFD is down",
    reads="Interface rows of br-int: remote_ip, ofport, error, bfd, bfd_status; the log of ovn-controller",
    certainty="certain",
    explains="pairs between the two chassis, in that direction",
    remedy="what its own cause says; ovnlab up",
    find=_find,
)
