"""Commands on a machine over a connection that ssh keeps."""

from __future__ import annotations

from typing import Any

from ovnlab.errors import OvnlabError
from ovnlab.nodes.context import Ended, ProcessContext
from ovnlab.providers.ssh_machine import SshMachine
from ovnlab.providers.ssh_target import SSH_FAILED
from ovnlab.tasks.script import tail


class MultiplexedContext(ProcessContext):
    """A context that runs commands as root over a kept connection, without another login."""

    def __init__(self, machine: SshMachine) -> None:
        super().__init__(lambda argv: machine.command(argv, terminal=False))
        self.machine = machine

    def run(self, command: str, *, quick: bool = False, **options: Any) -> Ended:
        """Run a shell command as root. Raises OvnlabError where the connection breaks.

        A script may be run in a `quick` way: root's own shell reads it, instead of starting another to do so.
        """
        if quick:
            result = ProcessContext(lambda _: self.machine.quick_command()).run(command, **options)
        else:
            result = super().run(command, **options)
        if result.exited == SSH_FAILED:
            reach = self.machine.reach
            where = f"{self.machine.name} ({reach.user}@{reach.known_name})"
            raise OvnlabError("the connection broke", where=where, detail=tail(result.stderr))
        return result
