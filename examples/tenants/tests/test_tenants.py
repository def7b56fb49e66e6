"""Reachability of the tenants of tenants.py, with real packets on a multi-node OVN."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
from tenants import Tenants

from ovnlab import Lab
from ovnlab.testing import checks

pytestmark = pytest.mark.topology("topologies/two-workers.yaml")

Hosts = Callable[[str], Any]


@pytest.fixture
def tenants(lab: Lab, node: Hosts) -> Tenants:
    """Two tenants, each with a fake VM on each worker."""
    cloud = Tenants(lambda argv: node("central").check_output(shlex.join(argv)))
    cloud.add("red", "10.1.0.0/24", ["red1", "red2"])
    cloud.add("blue", "10.2.0.0/24", ["blue1", "blue2"])
    lab.bind({"red1": "worker1", "red2": "worker2", "blue1": "worker1", "blue2": "worker2"})
    return cloud


def test_a_tenant_reaches_itself_through_geneve(lab: Lab, tenants: Tenants) -> None:
    checks.reachable(lab, "red1", "red2")
    header = checks.encapsulated(lab, "red1", "red2")
    assert (header.datapath, header.inport, header.outport) == ("red", "red1", "red2")


def test_tenants_are_kept_apart(lab: Lab, tenants: Tenants) -> None:
    checks.unreachable(lab, "red1", "blue1")
    checks.unreachable(lab, "red1", "blue2")


def test_peers_reach_each_other(lab: Lab, tenants: Tenants) -> None:
    tenants.peer("red", "blue")
    checks.synced(lab)
    checks.reachable(lab, "red1", "blue2")
    checks.reachable(lab, "blue1", "red2")


def test_removing_a_tenant_leaves_nothing(lab: Lab, tenants: Tenants, node: Hosts) -> None:
    tenants.remove("blue")
    assert "blue" not in node("central").check_output("ovn-nbctl show")
    lab.unbind(["blue1", "blue2"])
    checks.holds(lab)


def test_fake_vms_are_machines_to_testinfra(lab: Lab, tenants: Tenants, vm: Hosts, node: Hosts) -> None:
    assert "10.1.0.2" in vm("red1").interface("red1").addresses
    assert vm("red1").addr("10.1.0.3").is_reachable
    assert node("worker1").service("ovn-controller").is_running
