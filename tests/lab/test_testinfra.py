"""Nodes and fake VMs seen through pytest-testinfra, as people check their machines; in labs that the plugin brings up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnlab.lab.lab import Lab
from ovnlab.testing import checks
from tests.conftest import ROOTS_HOME
from tests.lab.harness import interfaces

Hosts = Callable[[str], Any]

pytestmark = pytest.mark.topology("routed", scope="module")


@pytest.fixture(autouse=True, scope="module")
def own_folders(session_folder: Path) -> Iterator[None]:
    """State of its own, and this machine's network as it was."""
    network = interfaces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(session_folder / "plugin-state"))
        patch.setenv("XDG_CACHE_HOME", f"{os.environ[ROOTS_HOME]}/cache")
        yield
    assert interfaces() == network


def test_nodes_look_like_machines(lab: Lab, node: Hosts, vm: Hosts) -> None:
    worker = node("worker1")
    assert worker.check_output("hostname") == "worker1"
    assert worker.interface("eth1").addresses == ["192.168.50.100"]
    assert worker.file("/etc/openvswitch/conf.db").is_file
    assert worker.file("/var/log/ovn/ovn-controller.log").contains("connected")
    assert {process.comm for process in worker.process.filter(user="root")} >= {"ovs-vswitchd", "ovn-controller"}
    assert worker.addr("central").is_resolvable
    assert worker.addr("central").port(6642).is_reachable


def test_fake_vms_look_like_machines(vm: Hosts) -> None:
    assert "192.168.0.11" in vm("vm1").interface("vm1").addresses
    assert vm("vm1").addr("192.168.1.11").is_reachable
    assert not vm("vm1").addr("192.168.1.250").is_reachable


def test_what_is_routed_crosses_the_tunnel_once(lab: Lab) -> None:
    checks.holds(lab)
    header = checks.encapsulated(lab, "vm1", "vm2")
    assert (header.inport, header.outport) != ("vm1", "vm2")  # the second switch's, behind the router
    assert header.outport == "vm2"
