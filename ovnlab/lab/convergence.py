"""The steps of `up` on the nodes of a lab; `lab` knows their order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ovnlab import credentials
from ovnlab.lab.cluster_repair import ClusterRepair
from ovnlab.lab.plan import LabState, Plan, second_claims
from ovnlab.nodes.node import RunningNode, RunningNodes
from ovnlab.northbound import change
from ovnlab.northbound.rows import wanted
from ovnlab.ovsdb import endpoints
from ovnlab.parallel import for_each
from ovnlab.providers.base import Provider
from ovnlab.reporting import Reporter
from ovnlab.tasks import bind as binding
from ovnlab.tasks import conversion, daemons, neighbours
from ovnlab.tasks.probe import BoundVM
from ovnlab.topology.resolved import VM, Node, Topology


class Convergence(msgspec.Struct, frozen=True):
    """The steps for one topology.

    `known` are the nodes that the lab had before, `secrets` is where its keys are, `builds` are the keys of what was
    built for nodes. `disturbed` are nodes with a deliberate fault: nobody waits for them.
    """

    provider: Provider
    topology: Topology
    reporter: Reporter
    secrets: Path
    known: Sequence[Node] = ()
    builds: Mapping[str, str] = msgspec.field(default_factory=dict)
    disturbed: frozenset[str] = frozenset()

    def central(self, zone: str) -> RunningNode:
        """Return the first node with the databases of a zone that runs. Raises OvnlabError where none does."""
        running = RunningNodes(self.provider.nodes())
        centrals = self.topology.centrals(zone)
        return next((running[node.name] for node in centrals if node.name in running), None) or self.provider.node(
            centrals[0].name
        )

    def apply(self, changes: Sequence[change.Change]) -> None:
        """Make changes to Northbound databases, in one transaction for each zone."""
        for zone in dict.fromkeys(found.zone for found in changes):
            mine = [found for found in changes if found.zone == zone]
            change.apply(self.central(zone).context, endpoints.of_zone(self.topology, zone), mine)

    def check_conversions(self, seen: LabState) -> None:
        """Convert a copy of each Northbound database that gets other software, before anything is changed.

        Raises OvnlabError with the rows in the way where one cannot be converted.
        """
        running = RunningNodes(self.provider.nodes())
        names = [
            node.name
            for node in self.topology.nodes
            if node.central and node.name in seen.nodes and node.name in running
            if seen.nodes[node.name].build != self.builds.get(node.name, "")
        ]
        if not names:
            return
        self.provider.deliver({name: self.builds[name] for name in names if name in self.builds})

        def check(name: str) -> str:
            return conversion.check(running[name].context, name, self.builds.get(name, ""))

        for sentence in for_each(names, check):
            if sentence:
                self.reporter.note(sentence)

    def remove_nodes(self, names: Sequence[str]) -> list[str]:
        """Remove nodes, and what the databases know of them. The zones none of whose databases runs."""
        self.reporter.step(f"removing {', '.join(names)}")
        running = RunningNodes(self.provider.nodes())
        leaving = [node.name for node in self.known if node.central and node.name in names and node.name in running]
        for name in leaving:  # one after the other: each needs a majority of those that are left
            daemons.leave_clusters(running[name].context, name)
        self.provider.remove(names)
        return self.forget_nodes(names, self.topology.zones, left=leaving)

    def forget_nodes(self, names: Sequence[str], zones: Iterable[str], left: Collection[str] = ()) -> list[str]:
        """Have databases forget nodes; those in `left` have left their cluster. The zones where none of them runs."""
        topology, running = self.topology, self.provider.nodes()
        dead = [node for node in self.known if node.name in names and node.central and node.name not in left]
        gone = [f"{endpoints.protocol(topology)}:{endpoints.host(node.ip)}" for node in dead]
        asleep = []
        for zone in zones:
            central = next((running[node.name] for node in topology.centrals(zone) if node.name in running), None)
            if central is None:
                asleep.append(zone)
                continue
            daemons.forget_chassis(central.context, endpoints.of_zone(topology, zone), names)
            if gone and len(topology.centrals(zone)) > 1:
                daemons.kick(central.context, gone)
        return asleep

    def reconnect(self, todo: Plan, seen: LabState, started: list[Node]) -> list[Node]:
        """Return where all servers of a zone come back from the dead, its chassis connect anew; what is to be started
        then.
        """
        topology = self.topology
        running = RunningNodes(self.provider.nodes())
        for zone in topology.zones:
            servers = {node.name for node in (topology.relays(zone) or topology.centrals(zone))}
            if not servers <= set(todo.add):
                continue
            mine = [node for node in topology.nodes if node.zone == zone and node.has_switch]
            alive = [node.name for node in mine if node.name in seen.nodes and node.name in running]
            for_each(alive, lambda name: daemons.disconnect(running[name].context, name))
            started += [node for node in mine if node not in started]
        return [node for node in topology.nodes if node in started]

    def start_nodes(self, nodes: Sequence[Node], seen: LabState) -> bool:
        """Start databases and switches. Returns True if every switch knows the MACs of its tunnel peers then.

        Of a new cluster the member that founds it comes before those that join, and databases before their relays.

        Members of an old cluster need one another, and start together.
        """
        topology = self.topology
        self.reporter.step("starting databases and switches")
        running = RunningNodes(self.provider.nodes())
        known = [node.name for node in self.known]
        mending = ClusterRepair(self.provider, topology)
        damaged = mending.damaged([node for node in nodes if node.name in known], seen)
        founding = [name for name in known if name not in {member.node for member in damaged}] or known
        founders = {founder(topology, zone, seen, founding) for zone in topology.zones}
        converting = {name for zone in topology.zones if (name := self._converting(zone, nodes))}
        papers = credentials.of(self.secrets, topology) if topology.control.tls else {}
        switches = {
            name: state.daemons[neighbours.SWITCH].pid
            for name, state in seen.nodes.items()
            if neighbours.SWITCH in state.daemons
        }

        def start(node: Node) -> None:
            context = running[node.name].context
            self.reporter.node(node.name, "starting databases and switch" if node.central else "starting")
            if node.name in papers:
                daemons.certify(context, node.name, papers[node.name])
            mine = seen.nodes.get(node.name)
            strange = daemons.strange_keys(topology, node, mine.external_ids) if mine is not None else ()
            twins = second_claims(topology, seen, node.name)
            how = daemons.Start(
                self.builds.get(node.name, ""), node.name in founders, node.name in converting, tuple(strange), twins
            )
            came = daemons.start_node(context, topology, node, how)
            for found in came.damage:
                self.reporter.note(found.sentence(node.name, names))
            switches[node.name] = came.switch
            self.reporter.node(node.name, "done")

        names = {row.name for row in wanted(topology)}
        old = {*known} - {member.node for member in damaged}
        joining = [node for node in nodes if node.central and node.name not in (*founders, *old)]
        joining += [node for node in nodes if node.role == "relay"]
        for_each([node for node in nodes if node not in joining], start)
        mending.kick(damaged)
        for_each(joining, start)
        return self._introduce(nodes, switches)

    def _introduce(self, started: Sequence[Node], switches: Mapping[str, int]) -> bool:
        """Tell switches that were started the MACs of all their peers, and their peers theirs.

        `switches` are the process IDs of every ovs-vswitchd. Returns False where one of them cannot be told.
        """
        topology = self.topology
        running = RunningNodes(self.provider.nodes())
        names = {node.name for node in started}
        told = neighbours.commands(topology.chassis)

        def introduce(node: Node) -> bool:
            peers = [peer.name for peer in topology.peers(node) if node.name in names or peer.name in names]
            if not peers or node.name not in running or node.name in self.disturbed:
                return True
            if node.name not in told or not switches.get(node.name):
                return False
            switch = running[node.name].connect(neighbours.control_socket(switches[node.name]))
            return switch is not None and neighbours.introduce(switch, peers, told)

        done = [introduce(node) for node in topology.chassis]
        if any(node.name not in names for node in topology.chassis):
            # The kernels of those that were there before have what was at an address then.
            new = [node for node in started if neighbours.has_table(node)]
            for_each(new, lambda node: daemons.announce(running[node.name].context, node))
        return all(done)

    def _converting(self, zone: str, started: Sequence[Node]) -> str:
        """Return the member of a cluster that converts its databases: the last to start, once all have the same
        software.
        """
        members = self.topology.centrals(zone)
        if len(members) < 2 or len({self.builds.get(node.name, "") for node in members}) > 1:
            return ""
        return next((node.name for node in reversed(started) if node in members), "")

    def start_controllers_and_bind(self, started: Sequence[Node], todo: Plan) -> None:
        """Start controllers, write the logical network and bind, all at once: each needs only the switches.
        switches.
        """
        topology = self.topology
        running = RunningNodes(self.provider.nodes())
        for_each(todo.unbind.items(), lambda item: self.unbind(*item))
        if todo.transit:
            daemons.make_transit(running[topology.central.name].context, todo.transit, (), topology.name)
        chassis = {node.name for node in started if node.has_switch}
        jobs: list[tuple[str, str]] = [
            ("node", node.name) for node in topology.nodes if node.name in chassis | set(todo.bind)
        ]
        jobs.extend(("northbound", zone) for zone in topology.zones if any(c.zone == zone for c in todo.changes))
        if jobs:
            self.reporter.step("starting controllers, writing the logical network, binding fake VMs")

        def do(job: tuple[str, str]) -> None:
            match job:
                case ("northbound", zone):
                    self.apply([found for found in todo.changes if found.zone == zone])
                case (_, name):
                    # What a fake VM says when it begins is not flooded to all chassis as long as there are no tunnels.
                    if name in todo.bind:
                        self._bind(running[name], todo.bind[name])
                    if name in chassis:
                        self._start_controller(running[name])

        for_each(jobs, do)
        if todo.stale_transit:  # now that no router port is on them
            daemons.make_transit(running[topology.central.name].context, (), todo.stale_transit, topology.name)

    def unbind(self, name: str, vms: Sequence[VM | BoundVM]) -> None:
        """Take fake VMs off a node."""
        binding.unbind(self.provider.node(name).context, name, vms)

    def bind(self, name: str, vms: Sequence[VM]) -> None:
        """Put fake VMs on a node."""
        self._bind(self.provider.node(name), vms)

    def _bind(self, place: RunningNode, vms: Sequence[VM]) -> None:
        node = self.topology.node(place.name)
        assert node is not None  # noqa: S101  callers have looked it up
        binding.bind(place.context, self.topology.name, node, vms)

    def _start_controller(self, place: RunningNode) -> None:
        node = self.topology.node(place.name)
        assert node is not None  # noqa: S101  callers have looked it up
        self.reporter.node(node.name, "starting ovn-controller")
        daemons.start_controller(place.context, self.topology, node)
        self.reporter.node(node.name, "done")

    def await_ready(self, started: Sequence[Node], todo: Plan, *, introduced: bool) -> None:
        """Return when chassis are registered, `--wait=hv sync` is answered, tunnels in place and ports up.

        `introduced`: all switches know the MACs of their tunnel peers already, and need not be told.
        """
        topology = self.topology
        running = RunningNodes(self.provider.nodes())
        well = replace(topology, nodes=tuple(node for node in topology.nodes if node.name not in self.disturbed))
        chassis = well.chassis if any(node.chassis for node in started) or todo.remove else ()
        peers = [node for node in chassis if well.peers(node)]
        zones = topology.zones if started or todo.changes else ()
        if zones or peers:
            self.reporter.step("waiting for chassis and tunnels")

        def wait(what: object) -> None:
            if isinstance(what, Node):
                daemons.await_tunnels(running[what.name].context, well, what)
            elif isinstance(what, str):
                names = [node.name for node in started if node.chassis and node.zone == what]
                names = [name for name in names if name not in self.disturbed]
                found = endpoints.of_zone(topology, what)
                daemons.await_registered(self.central(what).context, found, names, synced=not self.disturbed)

        for_each([*zones, *peers], wait)
        plain = [node for node in well.nodes if not node.has_switch and node.nics and (peers or node in started)]
        unknown = [] if introduced else peers
        for_each([*unknown, *plain], lambda node: daemons.announce(running[node.name].context, node))
        self.await_bound(todo.bind)
        learning = [(zone, prefixes) for zone in zones if (prefixes := topology.learned(zone))]
        if learning:
            self.reporter.step("waiting for the zones to learn of each other")
            for_each(learning, self._await_learned)
            gateways = [node.name for node in well.chassis if node.role == "gateway"]
            for_each(gateways, lambda name: daemons.recompute(running[name].context, name))
            for_each([zone for zone, _ in learning], self._await_sync)
        if topology.has_takeover and (started or todo.changes):
            self.reporter.step("waiting for gateways to watch one another")
            watching = [running[node.name].context for node in well.chassis]
            for_each(watching, daemons.await_bfd)
        asking = [(node.name, found) for node in started if (found := binding.askers(node, ()))]
        for_each(asking, lambda item: binding.ask(running[item[0]].context, *item))

    def _await_sync(self, zone: str) -> None:
        daemons.await_registered(self.central(zone).context, endpoints.of_zone(self.topology, zone), ())

    def _await_learned(self, learning: tuple[str, Sequence[tuple[str, str]]]) -> None:
        zone, prefixes = learning
        found = endpoints.of_zone(self.topology, zone)
        daemons.await_learned(self.central(zone).context, found, prefixes)

    def await_bound(self, bound: Mapping[str, Sequence[VM]]) -> None:
        """Return when ports are up, flows installed, and addresses there that fake VMs ask for."""
        if not bound:
            return
        topology = self.topology
        self.reporter.step("waiting for ports to be up")
        running = RunningNodes(self.provider.nodes())
        timeout = daemons.ready_timeout(len(topology.chassis))
        for_each(
            bound.items(),
            lambda item: binding.await_flows(running[item[0]].context, item[0], item[1], timeout=timeout),
        )
        # Only now: of a fake VM that has moved, the database still says that it is up where it was.
        zones: dict[str, list[VM]] = {}
        for name, vms in bound.items():
            node = topology.node(name)
            zones.setdefault(node.zone if node else "", []).extend(vms)

        def wait(item: tuple[str, list[VM]]) -> None:
            zone, vms = item
            names = [vm.name for vm in vms]
            checked = [(vm.name, port) for vm in vms for port in vm.serves if topology.has_health_checks]
            found = endpoints.of_zone(topology, zone)
            binding.await_up(self.central(zone).context, found, names, checked=checked, timeout=timeout)

        for_each(zones.items(), wait)
        asking = [(name, found) for name, vms in bound.items() if (found := binding.askers(None, vms))]
        if asking:
            self.reporter.step("asking for addresses")
            for_each(asking, lambda item: binding.ask(running[item[0]].context, *item))


def founder(topology: Topology, zone: str, seen: LabState, known: Sequence[str] = ()) -> str:
    """Return the central node whose databases the others of its zone join: one that has some, else one that it had
    before.

    Empty where both clusters are there already.
    """
    names = [node.name for node in topology.centrals(zone)]
    states = {name: state for name, state in seen.nodes.items() if name in names}
    if {key for state in states.values() for key in state.clusters} == {"nb", "sb"}:
        return ""
    clustered = [name for name, state in states.items() if state.clusters]
    filled = [name for name, state in states.items() if "ovnnb_db" in state.daemons]
    return next(iter([*clustered, *filled, *(name for name in names if name in known), *names]))
