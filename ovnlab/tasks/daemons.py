"""Databases, switch and controllers of a node: started where they do not run, configured where they differ."""

from __future__ import annotations

from collections.abc import Sequence

from invoke.context import Context

from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Node, Topology

READY_TIMEOUT = 60
"""Seconds that chassis, tunnels and ports may take."""


def external_ids(topology: Topology, node: Node) -> dict[str, str]:
    """What ovn-controller reads from Open_vSwitch:external_ids (ovn-controller(8), CONFIGURATION)."""
    return {
        "system-id": node.name,
        "hostname": node.name,
        "ovn-remote": f"tcp:{topology.central.ip}:6642",
        "ovn-encap-type": node.encap,
        "ovn-encap-ip": node.ip,
        "ovn-bridge": "br-int",
        "ovn-bridge-datapath-type": "netdev",
        "ovn-remote-probe-interval": "180000",
        "ovnlab": topology.name,
    }


def switch_script(topology: Topology, node: Node) -> str:
    """Starts databases and switch, and sets what the chassis is, before any controller runs."""
    return render("node/switch.sh.j2", node=node, mtu=topology.underlay.mtu, external_ids=external_ids(topology, node))


def controller_script(node: Node) -> str:
    """Starts ovn-northd and ovn-controller where the node has them."""
    return render("node/controller.sh.j2", node=node)


def registered_script(chassis: Sequence[str]) -> str:
    """Waits, on the central node, for chassis to register and for `--wait=hv sync`."""
    return render("node/registered.sh.j2", chassis=chassis, timeout=READY_TIMEOUT)


def tunnels_script(topology: Topology, node: Node) -> str:
    """Waits until a chassis has a working tunnel port to every other."""
    peers = [peer.ip for peer in topology.chassis if peer.name != node.name]
    return render("node/tunnels.sh.j2", node=node.name, peers=peers, timeout=READY_TIMEOUT)


def announce_script(node: Node) -> str:
    """Announces a chassis' address to its peers' switches."""
    return render("node/announce.sh.j2", node=node)


def start_switch(context: Context, topology: Topology, node: Node) -> None:
    """Databases, switch and chassis configuration of a node."""
    run_script(context, switch_script(topology, node), where=f"{node.name}: starting the switch")


def start_controller(context: Context, node: Node) -> None:
    """ovn-northd and ovn-controller of a node."""
    run_script(context, controller_script(node), where=f"{node.name}: starting ovn-controller")


def await_registered(central: Context, chassis: Sequence[str]) -> None:
    """Return when chassis are registered and have caught up with the Northbound database."""
    script = registered_script(chassis)
    run_script(central, script, where="central: waiting for the chassis", timeout=READY_TIMEOUT * 2 + 10)


def await_tunnels(context: Context, topology: Topology, node: Node) -> None:
    """Return when the node has all its tunnels."""
    script = tunnels_script(topology, node)
    run_script(context, script, where=f"{node.name}: waiting for tunnels", timeout=READY_TIMEOUT + 10)


def announce(context: Context, node: Node) -> None:
    """Tell the peers of a chassis where it is."""
    run_script(context, announce_script(node), where=f"{node.name}: announcing its address")


def disconnect(context: Context, node: str) -> None:
    """End ovn-controller so that it connects anew; its flows and its chassis stay."""
    script = render("node/disconnect.sh.j2", node=node, timeout=READY_TIMEOUT)
    run_script(context, script, where=f"{node}: reconnecting", timeout=READY_TIMEOUT + 10)


def forget_chassis(central: Context, names: Sequence[str]) -> None:
    """Take chassis that are gone out of the Southbound database."""
    script = render("node/forget.sh.j2", chassis=names)
    run_script(central, script, where="central: removing chassis")
