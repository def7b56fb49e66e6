"""A daemon or a whole node that is killed, and stays dead."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.errors import UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.targets import daemons_of, node_of, require_running, signal, words
from ovnlab.lab.lab import Lab


def describe(lab: Lab, request: FaultRequest, kind: str = "kill", done: str = "killed", how: str = "KILL") -> Fault:
    """Return the fault that ends a daemon, or all of a node."""
    name, *daemon = words(request, 1, 2, f"{kind} NODE [DAEMON]")
    node = node_of(lab, name)
    settings = {"how": how}
    if daemon:
        targets = daemons_of(lab, node, daemon[0])
        require_running(lab, targets)
        effects = tuple(f"daemon {name} {one}" for _, one in targets)
        sentence = f"{daemon[0]} on {name} is {done}"
        return Fault(0, kind, name, sentence, (name,), targets, settings=settings, effects=effects)
    if node.machine.adopt or lab.topology.provider == "ssh":
        raise UsageError(
            "ending a node is not supported: its machine is not ovnlab's to switch off",
            where=name,
            hint=f"ovnlab fault {kind} {name} DAEMON",
        )
    return Fault(
        0, kind, name, f"node {name} is {done}", (name,), settings=settings, effects=(f"node {name}",), ends_nodes=True
    )


def begin(lab: Lab, fault: Fault) -> None:
    """End what the fault is about."""
    how = fault.settings["how"]
    if not fault.ends_nodes:
        signal(lab, fault.daemons, how)
        return
    if how == "exit":
        for name in fault.nodes:
            node = lab.topology.node(name)
            if node is not None:
                signal(lab, tuple(reversed(daemons_of(lab, node, None))), how)
    lab.provider.stop(fault.nodes)


KIND = Kind(
    name="kill",
    arguments="NODE [DAEMON]",
    summary="Kill a daemon (SIGKILL), or switch a node off.",
    describe=describe,
    begin=begin,
    converges=True,
)
