"""Fake VMs on a chassis: an internal port on br-int, in a namespace that looks like a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks.daemons import READY_TIMEOUT
from ovnlab.tasks.probe import BoundVM
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import VM, Node

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

ANSWER_TIMEOUT = 30
"""Seconds that DHCP and router advertisements may take."""


class Asker(msgspec.Struct, frozen=True):
    """An interface, in a fake VM's namespace or a host's own (-), that asks for its addresses."""

    name: str
    namespace: str
    interface: str
    asks: tuple[str, ...]
    prefix6: int = 64


def askers(node: Node | None, vms: Sequence[VM]) -> list[Asker]:
    """Return what asks for addresses: fake VMs, and a host's NICs."""
    found = [Asker(vm.name, vm.name, vm.interface, vm.asks, vm.prefix6) for vm in vms if vm.asks]
    if node is not None:
        found += [Asker(f"{node.name}'s {nic.device}", "-", nic.device, ("dhcp4",)) for nic in node.nics if nic.dhcp]
    return found


def bind_script(lab: str, node: Node, vms: Sequence[VM]) -> str:
    """Return the script that makes or corrects ports and namespaces of fake VMs."""
    return render("node/bind-vms.sh.j2", lab=lab, node=node.name, datapath=node.datapath, vms=vms)


def unbind_script(node: str, vms: Sequence[VM | BoundVM]) -> str:
    """Return the script that removes fake VMs' ports and namespaces, and what runs in them."""
    return render("node/unbind-vms.sh.j2", node=node, vms=vms)


def ask_script(node: str, found: Sequence[Asker]) -> str:
    """Return the script that requests addresses as a machine does, and waits for them."""
    return render("node/request-addresses.sh.j2", node=node, askers=found, timeout=ANSWER_TIMEOUT)


def bind(context: Context, lab: str, node: Node, vms: Sequence[VM]) -> None:
    """Bind fake VMs to a node: one ovs-vsctl, one ip -batch for all namespaces, and one inside each."""
    run_script(context, bind_script(lab, node, vms), where=f"{node.name}: binding {_names(vms)}")


def unbind(context: Context, node: str, vms: Sequence[VM | BoundVM]) -> None:
    """Take fake VMs off a node."""
    run_script(context, unbind_script(node, vms), where=f"{node}: unbinding {_names(vms)}")


def ask(context: Context, node: str, found: Sequence[Asker]) -> None:
    """Return when what asks for addresses on a node has them."""
    timeout = ANSWER_TIMEOUT * (1 + len(found))
    run_script(context, ask_script(node, found), where=f"{node}: asking for addresses", timeout=timeout)


def await_flows(context: Context, node: str, vms: Sequence[VM], *, timeout: int = READY_TIMEOUT) -> None:
    """Return when the flows of fake VMs are installed on their node."""
    script = render("node/wait-flows-installed.sh.j2", node=node, vms=vms, timeout=timeout)
    run_script(context, script, where=f"{node}: waiting for flows", timeout=timeout + 10)


def await_up(
    central: Context,
    databases: Databases,
    vms: Sequence[str],
    *,
    checked: Sequence[tuple[str, int]] = (),
    timeout: int = READY_TIMEOUT,
    synced: bool = True,
) -> None:
    """Return when logical switch ports are up in the Northbound database; `synced`: and all chassis know of that.

    And when the health checks of `checked`, ports and the TCP ports they serve, do not fail any more, or in 10 s.
    """
    script = render(
        "node/wait-ports-up.sh.j2", vms=vms, checked=checked, timeout=timeout, databases=databases, synced=synced
    )
    run_script(central, script, where="central: waiting for ports", timeout=timeout * 2 + 30)


def _names(vms: Sequence[VM | BoundVM]) -> str:
    shown = ", ".join(vm.name for vm in vms[:3])
    return shown if len(vms) <= 3 else f"{shown} and {len(vms) - 3} more"
