"""Fake VMs on a chassis: an internal port on br-int, in a namespace that looks like a machine."""

from __future__ import annotations

from collections.abc import Sequence

from invoke.context import Context

from ovnlab.tasks.daemons import READY_TIMEOUT
from ovnlab.tasks.probe import BoundVM
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import VM


def bind_script(lab: str, node: str, vms: Sequence[VM]) -> str:
    """Makes ports and namespaces of fake VMs, or corrects them."""
    return render("node/bind.sh.j2", lab=lab, node=node, vms=vms)


def unbind_script(node: str, vms: Sequence[VM | BoundVM]) -> str:
    """Removes ports and namespaces of fake VMs, and what runs in them."""
    return render("node/unbind.sh.j2", node=node, vms=vms)


def bind(context: Context, lab: str, node: str, vms: Sequence[VM]) -> None:
    """Bind fake VMs to a node: one ovs-vsctl, one ip -batch for all namespaces, and one inside each."""
    run_script(context, bind_script(lab, node, vms), where=f"{node}: binding {_names(vms)}")


def unbind(context: Context, node: str, vms: Sequence[VM | BoundVM]) -> None:
    """Take fake VMs off a node."""
    run_script(context, unbind_script(node, vms), where=f"{node}: unbinding {_names(vms)}")


def await_flows(context: Context, node: str, vms: Sequence[VM]) -> None:
    """Return when the flows of fake VMs are installed on their node."""
    script = render("node/bound.sh.j2", node=node, vms=vms, timeout=READY_TIMEOUT)
    run_script(context, script, where=f"{node}: waiting for flows", timeout=READY_TIMEOUT + 10)


def await_up(central: Context, vms: Sequence[str]) -> None:
    """Return when logical switch ports are up in the Northbound database."""
    script = render("node/up.sh.j2", vms=vms, timeout=READY_TIMEOUT)
    run_script(central, script, where="central: waiting for ports", timeout=READY_TIMEOUT + 10)


def _names(vms: Sequence[VM | BoundVM]) -> str:
    shown = ", ".join(vm.name for vm in vms[:3])
    return shown if len(vms) <= 3 else f"{shown} and {len(vms) - 3} more"
