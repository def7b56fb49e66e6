"""Neighbours in the underlay: a switch with the userspace datapath is told the MAC of every tunnel peer.

OVS drops the first packets to a peer whose MAC it does not know, and asks for it by broadcast. With a hundred chassis
that is a storm: each request reaches all of them, and after each answer a switch works out all of its ports anew. The
commands go over one connection: a process for each pair of chassis would cost more than the storm.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping

from ovnlab import unixctl
from ovnlab.topology.resolved import Node

SWITCH = "ovs-vswitchd"
"""The daemon that is told."""


def control_socket(pid: int) -> str:
    """Return the control socket of an ovs-vswitchd on its node."""
    return f"/run/openvswitch/{SWITCH}.{pid}.ctl"


def has_table(node: Node) -> bool:
    """Return True if the node's switch has a table of neighbours of its own, for tunnels."""
    return node.has_switch and node.datapath == "netdev" and bool(node.underlay_device)


def commands(nodes: Iterable[Node]) -> dict[str, bytes]:
    """Return, by node name, the command that sets a peer's MAC address (ovs-vswitchd(8), tnl/neigh/set)."""
    return {
        node.name: unixctl.command("tnl/neigh/set", node.underlay_device, node.ip, node.mac)
        for node in nodes
        if has_table(node)
    }


def introduce(switch: socket.socket, peers: Iterable[str], told: Mapping[str, bytes]) -> bool:
    """Tell a switch, by its control socket, the MACs of peers. Returns False where it does not take them."""
    with switch, contextlib.suppress(OSError):
        unixctl.send(switch, [told[name] for name in peers if name in told])
        return True
    return False
