"""Text for the boxes of Mermaid and DOT: the parts of a picture as lines."""

from __future__ import annotations

from ovnlab.graph.picture import (
    NetworkPicture,
    NodePicture,
    Picture,
    PortPicture,
    RouterPicture,
    RouterPortPicture,
    State,
    SwitchPicture,
)


def of_network(picture: Picture, network: NetworkPicture) -> list[str]:
    """Return a network; the tunnels are said at the underlay."""
    mtu = [f"MTU {network.mtu}"] if network.mtu else []
    mesh = [", ".join(picture.mesh)] if network is picture.underlay and picture.mesh else []
    return [network.name, *network.subnets, *mtu, *network.bridges, *mesh]


def of_node(node: NodePicture) -> list[str]:
    """Return a node without its ports."""
    state = [] if node.running else ["not running"]
    encaps = [f"chassis, {node.encaps}"] if node.colour is not None else []
    nics = [f"{nic.bridge or nic.device} on {nic.network} {' '.join(nic.addresses)}".rstrip() for nic in node.nics]
    head = [f"{node.name} ({node.role})", *state, *node.faults, node.address]
    return list(filter(None, [*head, *encaps, *node.facts, *nics]))


def of_port(port: PortPicture) -> list[str]:
    """Return a port where it is bound."""
    return [port.name, *port.addresses]


def of_bound_port(port: PortPicture) -> list[str]:
    """Return a port on its switch: also what kind it is, and where it is bound."""
    kind = f"{port.kind} of {', '.join(port.parents)}" if port.parents else port.kind
    state = "" if port.state == State.BOUND or port.kind else str(port.state)
    where = " ".join(filter(None, [state, ", ".join(port.chassis)]))
    return list(filter(None, [*of_port(port), kind, where]))


def of_switch(switch: SwitchPicture) -> list[str]:
    """Return a switch without its ports."""
    zone = f"zone {switch.zone}" if switch.zone else ""
    badges = ", ".join(badge.text for badge in switch.badges)
    names = [text for badge in switch.badges if badge.text.startswith("DNS") for text in badge.details]
    localnet = f"localnet {switch.localnet}" if switch.localnet else ""
    head = [switch.name, *switch.subnets, zone, "transit" if switch.transit else "", localnet, badges, *names]
    return list(filter(None, [*head, *(f"LB {rule.described}" for rule in switch.balancers)]))


def of_router(router: RouterPicture) -> list[str]:
    """Return a router without its ports."""
    zone = f"zone {router.zone}" if router.zone else ""
    chassis = f"gateway router on {router.chassis}" if router.chassis else "router"
    rules = [rule.described for rule in (*router.nat, *router.routes)]
    balancers = [f"LB {rule.described}" for rule in router.balancers]
    return list(filter(None, [router.name, chassis, zone, *rules, *balancers]))


def of_router_port(port: RouterPortPicture) -> list[str]:
    """Return a router's port, with its gateways in order."""
    gateways = [f"gateways {', '.join(port.gateways)}"] if port.gateways else []
    return [*port.networks, *gateways]
