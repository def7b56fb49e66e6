"""The leader of a RAFT cluster that is killed: the others elect another one."""

from __future__ import annotations

from ovnlab.deliberate import Fault
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.faults.kind import FaultRequest, Kind
from ovnlab.faults.kinds import kill
from ovnlab.faults.targets import words
from ovnlab.lab.lab import Lab

DATABASES = {"nb": "ovnnb_db", "sb": "ovnsb_db"}


def leader_of(lab: Lab, database: str) -> str:
    """Return the node with the leader of a cluster, of the first zone that has one; empty where there is none now."""
    names = [node.name for node in lab.topology.nodes if node.central]
    running = lab.nodes()
    states = lab.states({name: running[name] for name in names if name in running})
    found = (name for name, state in states.items() if database in state.clusters)
    return next((name for name in found if states[name].clusters[database].role == "leader"), "")


def _describe(lab: Lab, request: FaultRequest) -> Fault:
    (database,) = words(request, 1, 1, "leader nb|sb")
    if database not in DATABASES:
        raise UsageError(f"unknown database {database}", hint="available: nb, sb")
    if all(len(lab.topology.centrals(zone)) == 1 for zone in lab.topology.zones):
        hint = (
            "several nodes with `role: central` make a cluster; ovnlab fault kill NODE ovnnb_db kills a single server"
        )
        raise UsageError("there is no cluster: one server has the databases", hint=hint)
    name = leader_of(lab, database)
    if not name:
        raise OvnlabError("nobody leads the cluster just now", where=database, hint="`ovnlab status` shows its members")
    daemon = DATABASES[database]
    return Fault(
        0,
        "leader",
        database,
        f"{daemon} on {name}, which led the cluster, is killed",
        (name,),
        ((name, daemon),),
        settings={"how": "KILL"},
        effects=(f"daemon {name} {daemon}",),
    )


KIND = Kind(
    name="leader",
    arguments="nb|sb",
    summary="Kill the server that leads a RAFT cluster.",
    describe=_describe,
    begin=kill.begin,
    converges=True,
)
