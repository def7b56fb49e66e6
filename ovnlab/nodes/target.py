"""Targets of commands: nodes, and fake VMs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ovnlab.nodes.node import RunningNode


class Target(msgspec.Struct, frozen=True):
    """A target of commands: a node, or a fake VM on one."""

    name: str
    node: RunningNode
    vm: str | None = None
    interface: str = ""
    address: str = ""
    is_vlan: bool = False
    addresses: tuple[str, ...] = ()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` there."""
        if self.vm is None:
            return self.node.command(["env", *(f"{key}={value}" for key, value in self.environment.items()), *argv])
        return self.node.command(["ip", "netns", "exec", self.vm, "env", *argv])
