"""Bridges, the NICs in them, mappings of physical networks, and what is set on ports."""

from __future__ import annotations

from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.causes.nodes import everything_on
from ovnlab.insight.probe_packet import bridge_mappings
from ovnlab.insight.snapshot import LabSnapshot, NodeSnapshot
from ovnlab.ovsdb.client import listed
from ovnlab.topology.resolved import Node

REFUSING = ("NO_FWD", "NO_RECV", "NO_FLOOD", "NO_PACKET_IN")
"""Configuration bits of OpenFlow ports that lose packets (ovs-ofctl(8), mod-port)."""
UNDO = {"NO_FWD": "forward", "NO_RECV": "receive", "NO_FLOOD": "flood", "NO_PACKET_IN": "packet-in", "PORT_DOWN": "up"}


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for node in snapshot.topology.nodes:
        seen = snapshot.nodes.get(node.name)
        if seen is None or not node.has_switch or not seen.switch:
            continue
        yield from _nics(node, seen)
        yield from _mappings(node, seen)
        yield from _integration(node, seen)
        yield from _ports(node, seen)


def _nics(node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    """Yield NICs that are not in the bridge that they belong to."""
    wanted = [("eth1", "br-eth1", everything_on(node.name))] if node.datapath == "netdev" else []
    wanted += [
        (nic.device, nic.bridge, (f"physical {node.name} {nic.network}", f"active {node.name}"))
        for nic in node.nics
        if nic.bridge
    ]
    for device, bridge, effects in wanted:
        keys = frozenset({f"nic {node.name} {device}", f"bridge {node.name} {bridge}"})
        if bridge not in seen.bridges:
            yield Finding(
                "bridge-missing",
                f"bridge {bridge} of {node.name}",
                "is not there",
                (f"{node.name}: ovs-vsctl list-br: {', '.join(seen.bridges)}",),
                "ovnlab up",
                keys=keys,
                effects=effects,
                drift=(f"configure {node.name}: there is no bridge {bridge}",),
            )
        elif (found := seen.bridge_of(device)) != bridge:
            where = f"is in bridge {found}" if found else "is in no bridge"
            others = [name for name in seen.bridges[bridge] if name != bridge]
            yield Finding(
                "nic-bridge",
                f"{device} of {node.name}",
                f"{where}, and belongs into {bridge}",
                (f"{node.name}: ovs-vsctl list-ports {bridge}: {', '.join(others) or 'none'}",),
                "ovnlab up",
                keys=keys,
                effects=effects,
                drift=(f"configure {node.name}: {device} is in",),
            )


def _mappings(node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    """Yield physical networks that ovn-bridge-mappings does not map as the file says (ovn-controller(8))."""
    said = seen.ids.get("ovn-bridge-mappings", "")
    mapped = bridge_mappings(said)
    line = f"configure {node.name}: ovn-bridge-mappings is"
    for nic in node.nics:
        if not nic.bridge or mapped.get(nic.network) == nic.bridge:
            continue
        bridge = mapped.get(nic.network)
        problem = (
            f"maps {nic.network} to {bridge} instead of {nic.bridge}"
            if bridge
            else f"does not map {nic.network} to {nic.bridge}"
        )
        yield Finding(
            "bridge-mapping",
            f"ovn-bridge-mappings of {node.name}",
            problem,
            (f"{node.name}: external_ids:ovn-bridge-mappings={said or 'not set'}",),
            "ovnlab up",
            keys=frozenset({f"mapping {node.name}"}),
            drift=(line,),
            effects=(f"physical {node.name} {nic.network}", f"active {node.name}", "gateway *"),
        )


def _integration(node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    """Yield what ovn-controller needs of br-int."""
    name = node.name
    wanted = seen.ids.get("ovn-bridge", "br-int")
    if node.chassis and wanted != "br-int":
        yield Finding(
            "ovn-bridge",
            f"ovn-bridge of {name}",
            f"is {wanted} instead of br-int: ovn-controller works on another bridge",
            (f"{name}: external_ids:ovn-bridge={wanted}",),
            "ovnlab up",
            keys=frozenset({f"bridge {name} br-int"}),
            effects=everything_on(name),
            drift=(f"configure {name}: ovn-bridge is {wanted} instead of br-int",),
        )
    for bridge in seen.switch.get("Bridge", ()):
        which = f"bridge {bridge['name']} of {name}"
        keys, effects = frozenset({f"bridge {name} {bridge['name']}"}), everything_on(name)
        protocols = listed(bridge["protocols"])
        if bridge["name"] == "br-int" and protocols and "OpenFlow15" not in protocols:
            yield Finding(
                "protocols",
                which,
                f"takes {', '.join(protocols)} only, and ovn-controller speaks OpenFlow15",
                (f"{name}: Bridge br-int protocols={protocols}",),
                f"ovnlab vsctl {name} clear Bridge br-int protocols",
                keys=keys,
                effects=effects,
            )
        if listed(bridge["controller"]) and (bridge["name"] == "br-int" or bridge["name"] in _ours(node)):
            yield Finding(
                "controller",
                which,
                "has a controller of its own, which may change its flows",
                (f"{name}: ovs-vsctl get-controller {bridge['name']}",),
                f"ovnlab vsctl {name} del-controller {bridge['name']}",
                certainty=LIKELY,
                keys=keys,
                may=effects,
            )
        if bridge["datapath_type"] not in (node.datapath, "") and bridge["name"] in (*_ours(node), "br-int"):
            yield Finding(
                "datapath-type",
                which,
                f"has datapath type {bridge['datapath_type']} instead of {node.datapath}",
                (f"{name}: Bridge {bridge['name']} datapath_type={bridge['datapath_type']}",),
                "ovnlab up",
                keys=keys,
                effects=effects,
            )


def _ours(node: Node) -> tuple[str, ...]:
    own = ("br-eth1",) if node.datapath == "netdev" else ()
    return (*own, *(nic.bridge for nic in node.nics if nic.bridge))


def _ports(node: Node, seen: NodeSnapshot) -> Iterator[Finding]:
    name = node.name
    networks = {nic.bridge: nic.network for nic in node.nics if nic.bridge}
    for bridge, ports in seen.port_states.items():
        for port, bits in ports.items():
            effects = _of_port(seen, name, bridge, port, networks)
            refusing = [bit for bit in REFUSING if bit in bits]
            is_nic = port == "eth1" or port in {nic.device for nic in node.nics}
            if (
                "PORT_DOWN" in bits
                and (is_nic or port.startswith(("ovn-", "patch-")))
                and "UP" in seen.links.get(port, {}).get("flags", ["UP"])
            ):
                refusing.append("PORT_DOWN")
            if refusing:
                words = " ".join(UNDO[bit] for bit in refusing[:1])
                yield Finding(
                    "port-flags",
                    f"port {port} of {bridge} on {name}",
                    f"is set to {', '.join(refusing)}: it loses packets",
                    (f"{name}: ovs-ofctl dump-ports-desc {bridge}: {port} config {' '.join(sorted(bits))}",),
                    f"ovnlab ofctl {name} mod-port {bridge} {port} {words}",
                    keys=frozenset({f"port {name} {port}"}),
                    effects=effects,
                )
    for port, row in seen.ports().items():
        bridge = seen.bridge_of(port)
        tag, trunks = listed(row["tag"]), listed(row["trunks"])
        if bridge.startswith("tb-") or not (tag or trunks):
            continue
        said = ", ".join(
            f"{key} {', '.join(map(str, value))}" for key, value in (("tag", tag), ("trunks", trunks)) if value
        )
        yield Finding(
            "port-vlan",
            f"port {port} of {bridge} on {name}",
            f"has {said}: it does not carry other VLANs",
            (f"{name}: Port {port} {said}",),
            f"ovnlab vsctl {name} remove Port {port} {'tag' if tag else 'trunks'} {(tag or trunks)[0]}",
            keys=frozenset({f"port {name} {port}"}),
            effects=_of_port(seen, name, bridge, port, networks),
        )


def _of_port(seen: NodeSnapshot, name: str, bridge: str, port: str, networks: dict[str, str]) -> tuple[str, ...]:
    """Return what is lost where a port loses packets."""
    if bridge == "br-eth1":
        return everything_on(name)
    if bridge in networks:
        return (f"physical {name} {networks[bridge]}",)
    row = seen.interfaces.get(port, {})
    if vm := row.get("external_ids", {}).get("iface-id"):
        return (f"vm {vm}", f"size vm {vm}")
    if remote := row.get("options", {}).get("remote_ip"):
        return (f"tunnel-to {name} {remote}",)
    return everything_on(name)


CAUSE = Cause(
    name="bridges",
    title="A bridge, a NIC in it, or a mapping is not as it was made",
    reads="Bridge, Port and Interface of each node, ovn-bridge-mappings, the configuration of OpenFlow ports",
    certainty="certain; a controller of its own: likely",
    explains="br-eth1: every pair through the node; a provider bridge: pairs by that physical network on that chassis",
    remedy="ovnlab up; ovs-vsctl or ovs-ofctl mod-port for what it does not know",
    find=_find,
)
