"""Nodes and fake VMs seen through pytest-testinfra, as people check their machines."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from tests.lab.harness import Labs


class LabBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """Runs testinfra's commands on a node or in a fake VM."""

    NAME = "ovnlab"

    def __init__(self, labs: Labs, target: str) -> None:
        super().__init__(target)
        self.labs, self.target = labs, target

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        line = self.get_command(command, *args)
        result = self.labs.run("exec", self.target, "--", "sh", "-c", line, expect=None)
        return self.result(result.returncode, line, result.stdout, result.stderr)


def test_nodes_look_like_machines(user_labs: Labs) -> None:
    user_labs.run("up", "routed")
    worker, vm = (Host(LabBackend(user_labs, target)) for target in ("worker1", "vm1"))
    assert worker.check_output("hostname") == "worker1"
    assert worker.interface("eth1").addresses == ["192.168.50.100"]
    assert worker.file("/etc/openvswitch/conf.db").is_file
    assert worker.file("/var/log/ovn/ovn-controller.log").contains("connected")
    assert {process.comm for process in worker.process.filter(user="root")} >= {"ovs-vswitchd", "ovn-controller"}
    assert worker.addr("central").is_resolvable
    assert worker.addr("central").port(6642).is_reachable
    assert "192.168.0.11" in vm.interface("vm1").addresses
    assert vm.addr("192.168.1.11").is_reachable
    assert not vm.addr("192.168.1.250").is_reachable
