"""Nodes and fake VMs for testinfra: the same tests on namespaces, virtual machines and hosts reached by SSH."""

from __future__ import annotations

import subprocess
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host
from testinfra.modules.service import Service

from ovnlab.errors import OvnlabError
from ovnlab.lab.lab import Lab, find
from ovnlab.nodes.target import Target
from ovnlab.reporting import SilentReporter
from ovnlab.tasks.probe import running

TIMEOUT = 300
"""Seconds after which a command is given up."""

UNITS = {
    "openvswitch-switch": ("ovsdb-server", "ovs-vswitchd"),
    "ovsdb-server": ("ovsdb-server",),
    "ovs-vswitchd": ("ovs-vswitchd",),
    "ovn-host": ("ovn-controller",),
    "ovn-controller": ("ovn-controller",),
    "ovn-central": ("ovnnb_db", "ovnsb_db", "ovn-northd"),
    "ovn-northd": ("ovn-northd",),
    "ovn-ovsdb-server-nb": ("ovnnb_db",),
    "ovn-ovsdb-server-sb": ("ovnsb_db",),
    "ovn-ic": ("ovn-ic",),
}
"""The daemons of units, by the names in Debian's packages; ovnlab starts them, the same way on every kind of node."""


class OvnlabBackend(BaseBackend):  # type: ignore[misc]  # testinfra is not typed to the end
    """A testinfra backend for a node or a fake VM: `ovnlab://vm1`, or `ovnlab://vm1@LAB`."""

    NAME = "ovnlab"

    def __init__(self, hostspec: str, *args: Any, lab: Lab | None = None, **kwargs: Any) -> None:
        name, _, lab_name = hostspec.partition("@")
        super().__init__(name, *args, **kwargs)
        self.lab = lab or find(lab_name or None, SilentReporter())
        self.name = name

    @property
    def target(self) -> Target:
        """Return where it is now: a fake VM may be bound elsewhere from one command to the next."""
        return self.lab.target(self.name)

    def set_host(self, host: Host) -> None:
        """Give a node a `service` that knows the daemons that ovnlab starts, which no init system does."""
        super().set_host(host)
        if self.lab.topology.node(self.name) is None:
            return
        ours = DaemonService.get_module(host)

        def service(name: str) -> Service:
            return ours(name) if name in UNITS else Service.get_module_class(host).get_module(host)(name)

        host.service = service

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run a shell command there. Raises OvnlabError where it does not come back."""
        line = self.get_command(command, *args)
        argv = self.target.command(["sh", "-c", line])
        try:
            done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise OvnlabError(f"did not come back within {TIMEOUT} s: {line}", where=self.name) from None
        return self.result(done.returncode, self.encode(line), done.stdout, done.stderr)


class DaemonService(Service):  # type: ignore[misc]  # as above
    """A unit of OVS or OVN on a node of a lab: it runs where its daemons do."""

    @classmethod
    def get_module_class(cls, host: Host) -> type[DaemonService]:
        """Return the class itself: nothing about the host decides."""
        del host
        return cls

    @property
    def exists(self) -> bool:
        """Return True if a node can have it: it is a unit that ovnlab knows."""
        return self.name in UNITS

    @property
    def is_running(self) -> bool:
        """Return True if all of its daemons run."""
        lab, node = self._host.backend.lab, self._host.backend.name
        return self.exists and set(UNITS[self.name]) <= running(lab.node(node).context, node)

    @property
    def is_enabled(self) -> bool:
        """Return True if it comes up by itself: `up` sees to that, so what runs does."""
        return self.is_running


def host(lab: Lab, name: str) -> Host:
    """Return a node or a fake VM of a lab. Raises OvnlabError for what is not there."""
    lab.target(name)
    backend = OvnlabBackend(name, lab=lab)
    made = Host(backend)
    backend.set_host(made)
    return made
