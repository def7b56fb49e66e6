"""A test file as people write them, for a lab of any provider: `pytest tests/vm/anywhere.py --ovnlab LAB`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ovnlab.lab.lab import Lab
from ovnlab.testing import checks

Hosts = Callable[[str], Any]


def test_nodes_are_machines(node: Hosts) -> None:
    worker = node("worker1")
    assert worker.check_output("ovs-vsctl get Open_vSwitch . external_ids:system-id") == "worker1"
    assert worker.user().name == "root"
    assert worker.interface("eth1").exists
    assert worker.file("/var/lib/openvswitch").is_directory
    assert worker.service("ovn-controller").is_running
    assert worker.service("ovs-vswitchd").is_running
    assert not worker.service("ovn-northd").is_running
    assert node("central").service("ovn-northd").is_running
    assert worker.run("exit 3").rc == 3


def test_fake_vms_are_machines(vm: Hosts) -> None:
    assert "10.1.0.11" in vm("vm1").interface("vm1").addresses
    assert vm("vm1").addr("10.2.0.11").is_reachable
    assert vm("vm1").run("ping -c1 -W2 10.1.0.12").succeeded
    assert vm("vm1").check_output("echo %s; ls -d %s", "it's", "/") == "it's\n/"


def test_checks_hold(lab: Lab) -> None:
    checks.chassis_registered(lab, "worker2")
    checks.tunnel_up(lab, "worker1", "worker2")
    checks.port_bound(lab, "vm1", "worker1")
    checks.synced(lab)
    checks.reachable(lab, "vm1", "vm3", tcp=80)
    checks.unreachable(lab, "vm1", "vm3", tcp=23)
    header = checks.encapsulated(lab, "vm1", "vm2")
    assert (header.datapath, header.inport, header.outport) == ("red", "vm1", "vm2")


def test_checks_fail(lab: Lab) -> None:
    with pytest.raises(checks.CheckFailed):
        checks.unreachable(lab, "vm1", "vm2")
    with pytest.raises(checks.CheckFailed):
        checks.port_bound(lab, "vm1", "worker2")
