"""The orchestration: the one place that knows the order in which a lab comes up, changes and goes away."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ovnlab import __version__, credentials, deliberate
from ovnlab.atomic_write import write_whole
from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError, TopologyError, UsageError
from ovnlab.lab import builds
from ovnlab.lab.binding import Specs
from ovnlab.lab.convergence import Convergence, founder
from ovnlab.lab.death_watch import DeathWatch, relied_on
from ovnlab.lab.fast_probe import ask, ask_once
from ovnlab.lab.plan import LabState, Plan, binding_again, bindings, plan
from ovnlab.nodes.node import RunningNode
from ovnlab.nodes.target import Target
from ovnlab.northbound import change, interconnection, live, matches, row_addresses
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.rows import wanted as wanted_rows
from ovnlab.northbound.schema import TABLES
from ovnlab.ovsdb import endpoints
from ovnlab.ovsdb.client import Tables
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.parallel import for_each
from ovnlab.providers.base import (
    SUSPENDED,
    ForgetsHosts,
    HasConsoles,
    Keeps,
    Provider,
    ShapesLinks,
    Suspends,
    TakesSnapshots,
)
from ovnlab.providers.choice import keeper_of, provider_of, supporting
from ovnlab.providers.spec import CONSOLES, SUSPENDING
from ovnlab.reporting import Reporter
from ovnlab.state import Base, LabFolder, Stored, cache_root, labs
from ovnlab.tasks import bind as binding
from ovnlab.tasks import daemons
from ovnlab.tasks.daemons import TransitSwitch
from ovnlab.tasks.probe import PORTS, QUESTION, NodeState, fake_vms, probe, versions_script
from ovnlab.tasks.probe import parse as parse_probe
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology import inuse, resolved
from ovnlab.topology.addresses import ip_of
from ovnlab.topology.advice import advice
from ovnlab.topology.file_bytes import read
from ovnlab.topology.inuse import InUse
from ovnlab.topology.resolved import VM, Topology, interface_name
from ovnlab.topology.unknown_name import unknown_name

if TYPE_CHECKING:
    from ovnlab.northbound.ovsschema import NorthboundSchema
    from ovnlab.software.build_host import BuildHost
    from ovnlab.traffic.traffic import Traffic


BROUGHT_LOG = re.compile(r"^ovnlab: log ((?:openvswitch|ovn)/[A-Za-z0-9_][A-Za-z0-9_.-]*\.log)\n", re.MULTILINE)
"""What stands before a log that a machine prints: a file of one of two folders, whatever it says."""

VERSIONS = "versions.json"
"""The file of the lab's folder with what daemons have said of themselves; a process does not change its version."""

MOST_OF_A_LOG = 200_000
"""Bytes of a log that are brought from a machine."""


class Request(msgspec.Struct, frozen=True):
    """A request for `up`: a topology file and the settings of the command line over it."""

    path: str
    settings: tuple[str, ...] = ()
    name: str | None = None
    provider: str | None = None

    def options(self) -> tuple[str, ...]:
        """Return the words of `up` that put something over the file."""
        named = (("--provider", self.provider), ("--name", self.name), *(("--set", value) for value in self.settings))
        return tuple(word for option, value in named if value is not None for word in (option, value))

    @classmethod
    def again(cls, stored: Stored) -> Request:
        """Return what `up` was asked for when the lab was made so."""
        pairs = list(zip(stored.options[::2], stored.options[1::2], strict=True))
        one = dict(pairs)
        settings = tuple(value for option, value in pairs if option == "--set")
        return cls(stored.source, settings, one.get("--name"), one.get("--provider"))

    def digest(self, content: bytes) -> str:
        """Return a hash of all that the topology depends on, this program included."""
        code = max(path.stat().st_mtime_ns for path in Path(resolved.__file__).parent.glob("*.py"))
        # Relative paths and those of `~` are resolved in what is kept.
        try:
            folder = os.getcwd()  # noqa: PTH109  Path.cwd() is no faster and no clearer
        except FileNotFoundError:  # it was removed: whoever needs it will say so
            folder = ""
        around = (folder, os.environ.get("HOME"))
        options = (str(Path(self.path).absolute()), self.settings, self.name, self.provider, __version__, code, around)
        parts = [repr(options).encode()]
        return hashlib.sha256(b"\0".join([*parts, content])).hexdigest()


class Outcome(msgspec.Struct, frozen=True):
    """The result of `up`, or of its dry run, and how many fake VMs are bound then."""

    topology: Topology
    plan: Plan
    began: bool
    bound: int


class Removal(msgspec.Struct, frozen=True):
    """The result of `down`: whether a lab was removed, or only what was kept of it for the next `up`."""

    removed: bool
    forgot: bool


class Lab:
    """A lab by its name, whether or not it is up.

    `resolve` returns what a file makes of it, with the addresses that are in use.
    """

    def __init__(self, name: str, reporter: Reporter, resolve: Callable[[InUse], Topology] | None = None) -> None:
        self.name = name
        self.resolve = resolve
        self.reporter = reporter
        self.folder = LabFolder(name)
        self.stored = self.folder.stored()
        self.base: Base | None = self.stored.base if self.stored else None
        self.builds: dict[str, str] = {}
        self._is_as_before = True
        self.prune = False
        self.options: tuple[str, ...] = self.stored.options if self.stored else ()
        self.provider: Provider = self._provider(self.stored.topology if self.stored else None)

    @property
    def topology(self) -> Topology:
        """Return what the lab was last brought up as. Raises OvnlabError where that is not known."""
        if self.stored is not None:
            return self.stored.topology
        if self.folder.exists():
            hint = f"`ovnlab up` of its topology goes on with it, `ovnlab down {self.name}` removes it"
            raise OvnlabError(f"what lab {self.name} was made from is lost", hint=hint)
        raise UsageError(f"unknown lab {self.name}", hint=_existing_labs())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Work on the lab alone."""
        with self.folder.locked(lambda owner: self.reporter.note(f"waiting for lab {self.name}: {owner} has it")):
            self.stored = self.folder.stored()
            self.provider = self._provider(self.stored.topology if self.stored else None)
            yield

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────

    def nodes(self) -> dict[str, RunningNode]:
        """Return the nodes that run."""
        return dict(self.provider.nodes())

    def node(self, name: str) -> RunningNode:
        """Return a node that runs. Raises OvnlabError for a name that the lab does not have."""
        if self.topology.node(name) is None:
            raise self.unknown_name(name)
        self.require_up()
        try:
            return self.provider.node(name)
        except OvnlabError as error:
            for fault in deliberate.active(self.folder):
                if fault.ends_nodes and name in fault.nodes:  # which `up` leaves alone
                    error.hint = f"deliberately: `ovnlab heal {fault.number}` brings it back"
            raise

    def require_up(self) -> None:
        """Raise OvnlabError where the lab is down. One whose machines are on, and do not answer, is not."""
        if not self.provider.is_up() and not self.provider.active():
            raise OvnlabError(f"lab {self.name} is down", hint=f"{self.folder.up_command()} brings it back")

    def central(self, zone: str | None = None) -> RunningNode:
        """Return a node with the Northbound and Southbound databases of a zone, of the first where none is named.

        Raises UsageError for a zone that the lab does not have, OvnlabError where no such node runs.
        """
        zones = self.topology.zones
        if zone is not None and zone not in zones:
            raise UsageError(
                f"lab {self.name} has no zone {zone!r}", hint=f"it has {', '.join(filter(None, zones)) or 'none'}"
            )
        self.require_up()
        return self._convergence(self.topology).central(zones[0] if zone is None else zone)

    def environment(self, node: str) -> dict[str, str]:
        """Return what tells ovn-nbctl and ovn-sbctl on a node where the databases of its zone are."""
        found = self.topology.node(node)
        if found is None:
            return {}
        if found.central:
            return endpoints.of_zone(self.topology, found.zone).environment
        zone = found.zone if found.zone in self.topology.zones else self.topology.zones[0]
        return endpoints.from_afar(self.topology, zone).environment if found.ip else {}

    def unknown_name(self, name: str) -> UsageError:
        """Return the error for a name that is neither a node nor a fake VM of the lab."""
        return unknown_name(self.topology, name)

    def states(self, nodes: Mapping[str, RunningNode] | None = None) -> dict[str, NodeState]:
        """Return what nodes are like: these, or all that run."""
        nodes = self.nodes() if nodes is None else nodes
        found = for_each(nodes.values(), lambda node: probe(node.context, node.name))
        return dict(zip(nodes, found, strict=True))

    def daemons_script(self, node: str, versions: Mapping[str, str]) -> str:
        """Return the script that looks at the daemons of a node; `versions` that are known are not asked for."""
        prefix = f"{node} "
        known = [process.removeprefix(prefix) for process in versions if process.startswith(prefix)]
        return versions_script(known)

    def daemons(self, node: str, printed: str, versions: Mapping[str, str], tables: Tables | None = None) -> NodeState:
        """Return what runs on a node, with versions, of what that script printed; `tables` is what its own database
        says.
        """
        prefix = f"{node} "
        state = parse_probe(printed, tables)
        daemons = {
            name: replace(daemon, version=daemon.version or versions.get(prefix + daemon.process, ""))
            for name, daemon in state.daemons.items()
        }
        return replace(state, daemons=daemons)

    def versions(self) -> dict[str, str]:
        """Return the versions of processes that were asked once: a node and its process, and what that is."""
        try:
            return msgspec.json.decode((self.folder.path / VERSIONS).read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError):
            return {}

    def remember(self, states: Mapping[str, NodeState], before: Mapping[str, str]) -> bool:
        """Remember the versions of processes that run; whether they are others than before."""
        found = {
            f"{name} {daemon.process}": daemon.version
            for name, state in states.items()
            for daemon in state.daemons.values()
            if daemon.version
        }
        if found != before and self.folder.exists():
            with contextlib.suppress(OSError):
                write_whole(self.folder.path / VERSIONS, msgspec.json.encode(found))
        return found != before

    def look(self, topology: Topology) -> LabState:
        """Return the lab as it is, where the topology says that its databases are."""
        nodes = self.nodes()
        states: dict[str, NodeState] = {}
        rows: list[Sequence[LiveRow]] = []
        transit: list[TransitSwitch] = []
        unread: dict[str, OvnlabError] = {}
        schema = self._schema(topology, nodes)
        tables = schema.tables() if schema else TABLES

        def look_at(node: RunningNode) -> None:
            try:
                states[node.name] = probe(node.context, node.name, ask_once(node, QUESTION))
            except OvnlabError:
                if node.name in self.provider.running():  # otherwise it has ended just now
                    raise

        def read_rows(zone: str) -> None:
            for node in topology.centrals(zone):
                if node.name in nodes:
                    try:
                        rows.append(live.read(nodes[node.name].context, Databases(zone), tables))
                    except CommandFailed as error:  # its database does not run; another's may
                        unread[zone] = error
                    else:
                        unread.pop(zone, None)
                        return

        def read_transit(node: RunningNode) -> None:
            with contextlib.suppress(CommandFailed):  # its database does not run yet
                transit.extend(interconnection.read(node.context))

        questions: list[Callable[[], None]] = [functools.partial(look_at, node) for node in nodes.values()]
        questions += [functools.partial(read_rows, zone) for zone in topology.zones]
        if len(topology.zones) > 1 and topology.central.name in nodes:
            questions.append(functools.partial(read_transit, nodes[topology.central.name]))
        for_each(questions, lambda ask: ask())
        # In the order of the nodes, whoever answered first.
        ordered = {name: states[name] for name in nodes if name in states}
        return LabState(
            ordered,
            [row for found in rows for row in found] if rows else None,
            transit,
            tuple(unread.values()),
            schema,
        )

    def _schema(self, topology: Topology, nodes: Mapping[str, RunningNode]) -> NorthboundSchema | None:
        """Return the schema of the Northbound database if the file has, or had, rows in its words."""
        before = self.stored.topology.schema_rows if self.stored else ()
        if not (topology.schema_rows or before):
            return None
        from ovnlab.lab.schemas import northbound_schema  # noqa: PLC0415  few files have such rows

        centrals = [node.name for zone in topology.zones for node in topology.centrals(zone)]
        build: str | None = next((self.builds[name] for name in centrals if name in self.builds), "")
        if not build and builds.wanted(topology).keys() & set(centrals):  # it is not known which
            build = None
        return northbound_schema(self.base, build, [nodes[name] for name in centrals if name in nodes])

    def target(self, name: str) -> Target:
        """Return a node, or a fake VM where it is bound."""
        if self.topology.node(name) is not None:
            return Target(name, self.node(name), environment=self.environment(name))
        vlan = self.topology.vlan(name)
        if vlan is not None:
            return replace(self.target(vlan[0].name), name=name, interface=vlan[1].interface)
        homes, _ = self.vm_hosts(self.nodes().values())
        home = homes.get(name)
        if home is None:
            if self.topology.vm(name) is None:
                raise self.unknown_name(name)
            self.require_up()
            meant = self.topology.vm(name)
            hint = f"ovnlab bind {name} {(meant and meant.chassis) or self.topology.chassis[-1].name}"
            raise OvnlabError("is not bound to a node", where=name, hint=hint)
        return Target(name, home, vm=name, interface=interface_name(name))

    def run(self, target: str, *command: str) -> str:
        """Run a command on a node or in a fake VM, and return what it prints on stdout.

        Raises CommandFailed for another exit code than 0, with what the command prints on stderr.
        """
        argv = self.target(target).command(command)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace", check=False
        )
        if done.returncode:
            detail = done.stderr.strip()
            message = f"exit code {done.returncode} from: {' '.join(command)}"
            raise CommandFailed(message, where=target, exited=done.returncode, detail=detail)
        return done.stdout

    def endpoints(self, names: Collection[str]) -> dict[str, Target]:
        """Return those of the names that are a node that runs or a fake VM that is bound, with the address of each."""
        nodes = self.nodes()
        homes, states = self.vm_hosts(nodes.values())
        vlans = {name: found for name in names if (found := self.topology.vlan(name)) is not None}
        vms = {name: vlans[name][0].name if name in vlans else name for name in names if name not in nodes}
        there = {name: nodes[name] for name in names if name in nodes}
        there |= {name: homes[vm] for name, vm in vms.items() if vm in homes}
        states |= self.states({node.name: node for node in there.values() if node.name not in states})
        places = {}
        for name, node in there.items():
            state = states[node.name]
            vm = next((bound for bound in state.vms if bound.name == vms.get(name)), None)
            if name in nodes:
                wanted = self.topology.node(name)
                carriers = [nic.carrier for nic in wanted.nics] if wanted else []
                own = list(wanted.addresses) if wanted else []
                own += [ip_of(address) for carrier in carriers for address in state.device(carrier).addresses]
                places[name] = Target(name, node, address=next(iter(own), ""), addresses=tuple(own))
            elif name in vlans:
                carrier, vlan = vlans[name]
                words = tuple(map(ip_of, vlan.addresses))
                places[name] = Target(
                    name, node, carrier.name, vlan.interface, next(iter(words), ""), is_vlan=True, addresses=words
                )
            elif vm is not None:  # it may have gone since
                words = tuple(map(ip_of, vm.addresses))
                places[name] = Target(name, node, name, interface_name(name), next(iter(words), ""), addresses=words)
        return places

    def traffic(self, source: str, *destinations: str, protocol: str = "icmp", required: bool = True) -> Traffic:
        """Return traffic from a fake VM or node to others, which goes on while it is entered.

            with lab.traffic("vm1", "host1") as seen:
                ...
            assert seen.longest_gap < 3

        `protocol` is icmp, udp or tcp. If answers are `required`, none before anything happens raises Timeout.
        """
        from ovnlab.traffic.traffic import Traffic  # noqa: PLC0415  for what measures
        from ovnlab.traffic.words import parse_pairs  # noqa: PLC0415

        return Traffic(self, parse_pairs([",".join([source, *destinations])]), protocol=protocol, required=required)

    def vm_hosts(self, nodes: Collection[RunningNode]) -> tuple[dict[str, RunningNode], dict[str, NodeState]]:
        """Return the one of these nodes that each fake VM is bound to; and what the nodes are like that had to be
        looked at.

        Those are the ones whose database cannot be asked by its socket.
        """

        def bound_to(node: RunningNode) -> tuple[list[str], NodeState | None]:
            tables = ask(node, PORTS)
            if tables is not None:
                return fake_vms(tables), None
            state = probe(node.context, node.name)
            return [vm.name for vm in state.vms], state

        found = list(zip(nodes, for_each(nodes, bound_to), strict=True))
        homes = {vm: node for node, (vms, _) in found for vm in vms}
        return homes, {node.name: state for node, (_, state) in found if state is not None}

    @property
    def suspending(self) -> Suspends:
        """Return the provider of a lab that can be suspended. Raises UsageError for one that cannot."""
        if isinstance(self.provider, Suspends):
            return self.provider
        raise self._lacks(SUSPENDING)

    @property
    def is_suspended(self) -> bool:
        """Return True if nodes of the lab are suspended."""
        provider = self.provider
        return (
            isinstance(provider, Suspends) and SUSPENDED in provider.stopped_reasons(provider.defined_nodes()).values()
        )

    @property
    def machine_snapshots(self) -> TakesSnapshots | None:
        """Return the provider of a lab whose nodes can be kept with memory and disks, None for one that cannot."""
        return self.provider if isinstance(self.provider, TakesSnapshots) else None

    @property
    def consoles(self) -> HasConsoles:
        """Return the provider of a lab whose nodes have serial consoles. Raises UsageError for one that has none."""
        if isinstance(self.provider, HasConsoles):
            return self.provider
        raise self._lacks(CONSOLES)

    def _lacks(self, what: str) -> UsageError:
        provider = self.topology.provider
        hint = f"--provider {' or '.join(supporting(what))} has them"
        return UsageError(f"{what}: not supported by provider {provider} of lab {self.name}", hint=hint)

    def bring_logs(self) -> None:
        """Bring the logs of machines here, where those of local nodes are anyway."""
        if self.topology.provider == "local":
            return

        def bring(node: RunningNode) -> None:
            script = render("node/read-logs.sh.j2", most=MOST_OF_A_LOG)
            printed = run_script(node.context, script, where=f"{node.name}: reading its logs")
            _, *parts = BROUGHT_LOG.split(printed)
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                path = self.folder.node_logs(node.name) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.removesuffix("\n"), errors="replace")

        for_each(self.nodes().values(), bring)

    # ── coming up ────────────────────────────────────────────────────────────────────────────────────

    def up(
        self, topology: Topology, *, source: str, named: bool, options: tuple[str, ...] = (), prune: bool = False
    ) -> Outcome:
        """Make the lab what the topology says; `options` are the words of `up` that put something over its file.

        With `prune`, fake VMs that the file does not name go.

        Interrupted, it takes back what it began: the lab, or the nodes that it added.
        """
        for sentence in advice(topology):
            self.reporter.note(sentence)
        with self.naming_what_stays(begun=False), self.locked():
            self._refuse_other_source(source, named)
            self.options, self.prune = options, prune
            self._note_faults()
            outcome = self._apply(topology, source, {})
            self._forget_mended()
            return outcome

    def mend(self) -> None:
        """Make the lab again what it was last brought up as. The caller holds the lock."""
        kept = {name: state.build for name, state in self.states().items()}
        self._apply(self.topology, self.stored.source if self.stored else "", kept)

    def become(self, stored: Stored) -> None:
        """Make the lab what it was when this was stored of it. The caller holds the lock."""
        kept = {name: state.build for name, state in self.states().items()}
        self.options = stored.options
        self._apply(stored.topology, stored.source, kept)

    def _note_faults(self) -> None:
        """Say what is broken on purpose and stays so. The record of a lab that begins anew is removed."""
        faults = self._faults()
        for fault in faults:
            if fault.is_left_alone:
                self.reporter.note(f"deliberately, {fault.title}: left alone")
        if not faults and self.folder.exists() and not self.provider.is_up():
            deliberate.store(self.folder, ())

    def _forget_mended(self) -> None:
        """Remove those faults from the record that `up` has mended, as it does of a workshop."""
        faults = deliberate.stored(self.folder)
        left = [fault for fault in faults if fault.is_left_alone]
        if len(left) < len(faults):
            deliberate.store(self.folder, left)

    def set_software(self, name: str, software: resolved.Software, build: str) -> Outcome:
        """Make a node run other software, by the key of its build. The others go on with what they run."""
        with self.locked():
            kept = {other: state.build for other, state in self.states().items()}
            nodes = (
                msgspec.structs.replace(node, software=software) if node.name == name else node
                for node in self.topology.nodes
            )
            topology = msgspec.structs.replace(self.topology, nodes=tuple(nodes))
            return self._apply(topology, self.stored.source if self.stored else "", {**kept, name: build})

    @contextlib.contextmanager
    def naming_what_stays(self, *, begun: bool = True) -> Iterator[None]:
        """Note what stays of a change that the body of a `with` began and did not finish."""
        self._is_as_before = not begun
        try:
            yield
        except (KeyboardInterrupt, OvnlabError, OSError) as error:
            was_refused = begun and isinstance(error, UsageError)
            if self.folder.exists() and not self._is_as_before and not was_refused:
                goes_on = f"{self.folder.up_command()} goes on with it, `ovnlab down {self.name}` removes it"
                self.reporter.note(f"lab {self.name} stays as far as it came: {goes_on}")
            raise

    def _apply(self, topology: Topology, source: str, kept: Mapping[str, str]) -> Outcome:
        """Make the lab what the topology says; nodes in `kept` go on with the builds that they have."""
        topology = self._keeping(topology, None)
        began = not self.folder.exists()
        never_up = not (self.stored is not None and self.stored.complete) and not self.is_kept
        self._refuse_other_provider(topology)
        self.base = self._base(topology)
        if any(row.needs[0] for row in topology.rows):
            from ovnlab.northbound.releases import refuse_newer  # noqa: PLC0415  for few topologies

            refuse_newer(topology, self.base.versions)
        with builds.claimed(topology, self.reporter):
            self.provider = self._provider(topology)
            active, made = self.provider.active(), self.provider.defined_nodes()
            self._is_as_before = False
            try:
                self._make_builders(topology, source)
                self.builds = builds.keys_of_nodes(topology, self.reporter, kept, self.build_host)
            except (KeyboardInterrupt, HostRequirementError, TopologyError):
                if self.folder.exists():
                    self._take_back(began, active, made)
                raise
            try:
                self.folder.create(afresh=began)
                is_new = began or self._is_half_back()
                back = self._bring_back(topology, source) if is_new else None
                topology, done, bound = self._converge(topology, source, fresh=began and back is None)
                self.folder.store(self._stored(source, topology, complete=True))
            except (KeyboardInterrupt, HostRequirementError, TopologyError):
                self._take_back(began, active, made)
                raise
            except OvnlabError as error:
                if began:
                    self._remove_if_empty()
                self._is_as_before = not began and isinstance(error, UsageError)
                raise
            if back is None and (is_new or never_up):
                self._keep(topology)
        return Outcome(topology, back or done, began, bound)

    def _bring_back(self, topology: Topology, source: str) -> Plan | None:
        """Begin the lab as it was when it first was up, if that is kept: what a plan would have done otherwise."""
        if not self._can_be_kept(topology):
            return None
        assert self.base is not None  # noqa: S101  set before anything is begun
        self.folder.store(self._stored(source, topology, complete=False))
        if not (isinstance(self.provider, Keeps) and self.provider.bring_back(topology, self.builds)):
            return None
        self.stored = self._stored(source, topology, complete=True)
        return plan(topology, LabState({}, ()), known=(), builds=self.builds)

    def _keep(self, topology: Topology) -> None:
        """Keep the lab as it is for the next `up` after `down`."""
        if isinstance(self.provider, Keeps) and self._can_be_kept(topology):
            self.reporter.step("keeping it for the next time")
            try:
                self.provider.keep(topology, self.builds)
            except OvnlabError as error:
                self.reporter.note(f"the next `up` begins anew, because this one cannot be kept: {error}")

    def _can_be_kept(self, topology: Topology) -> bool:
        """Return True if memory can be kept: that of virtual machines, none of which is there before what it runs is
        built.
        """
        on_nodes = any(software.build_on for software in builds.wanted(topology).values())
        return isinstance(self.provider, Keeps) and not on_nodes

    def _is_half_back(self) -> bool:
        return isinstance(self.provider, Keeps) and self.provider.is_half_back

    def _make_builders(self, topology: Topology, source: str) -> None:
        """Make the nodes that software is built on, which come before all others."""
        wanted = {software.build_on for software in builds.wanted(topology).values() if software.build_on}
        missing = sorted(wanted - self.provider.running())
        if missing:
            if not self.folder.exists():
                self.folder.create(afresh=True)
                self.folder.store(self._stored(source, topology, complete=False))
            self.reporter.step(f"adding {', '.join(missing)} to build on")
            self.provider.add(topology, missing)

    def _stored(self, source: str, topology: Topology, *, complete: bool) -> Stored:
        """Return what is to be remembered of the lab from now on."""
        base = self.base or Base(topology.base, None, "", {})
        return Stored(source, topology, base, complete=complete, options=self.options)

    def build_host(self, name: str) -> BuildHost:
        """Return a node as a place to build on. Raises OvnlabError where it does not run."""
        from ovnlab.providers.remote_build_host import RemoteBuildHost  # noqa: PLC0415
        from ovnlab.providers.ssh_machine import SshMachine  # noqa: PLC0415  local nodes have none

        node = self.provider.node(name)
        if not isinstance(node, SshMachine):
            raise UsageError("is on this machine, which builds by itself", where=name, hint="leave build_on out")
        return RemoteBuildHost(node)

    def _provider(self, topology: Topology | None) -> Provider:
        return provider_of(self.folder, topology, self.base, self.reporter)

    def _base(self, topology: Topology) -> Base:
        """Return what all nodes have. A running lab keeps it. Raises UsageError where it is to have another."""
        if topology.provider != "local":
            return Base(topology.base, None, "", {})
        if self.stored is not None and self.provider.running():
            before = self.stored.topology.base
            if before != topology.base:
                raise UsageError(
                    f"lab {self.name} runs with software {before} beside what is built, which a running lab keeps",
                    hint=f"`ovnlab down {self.name}` first",
                )
            return self.stored.base
        from ovnlab.software import packages  # noqa: PLC0415  for labs that begin

        return packages.provide(topology.base, self.reporter.note)

    def dry_run(self, topology: Topology, *, source: str, named: bool, prune: bool = False) -> Outcome:
        """Return what `up` would do."""
        self._refuse_other_source(source, named)
        self._refuse_other_provider(topology)
        topology = self._keeping(topology, None)
        self.provider = self._provider(topology)
        for fault in self._faults():
            if fault.is_left_alone:
                self.reporter.note(f"deliberately, {fault.title}: left alone")
        self.builds, missing = builds.planned(topology, self.reporter, self.build_host)
        seen = self.look(topology)
        topology = self._keeping(topology, seen.rows)
        if topology.schema_rows and seen.schema is None:
            self.reporter.note("logical.rows is not checked: no database runs yet that has the schema")
        self._refuse_moving_clusters(topology)
        if seen.rows is None and self.stored is not None and self.stored.complete:
            self.reporter.note("the databases do not run: what is in them is not known, and may be all there")
        if all("ovnnb_db" in state.daemons for name, state in seen.nodes.items() if _is_central(topology, name)):
            seen.require_rows()
        todo = self._planned(topology, seen, prune=prune)
        todo = replace(todo, build=missing)
        self._check_matches(topology, source, todo)
        return Outcome(topology, todo, not seen.nodes, len(todo.bound_after(seen)))

    def _refuse_other_source(self, source: str, named: bool) -> None:
        """Raise UsageError for another file of the same name: a lab is not turned into another one."""
        if self.stored is None or self.stored.source == source or named or not self.folder.exists():
            return
        raise HostRequirementError(
            f"the name of lab {self.name} is in use: it was made from {self.stored.source}",
            hint=f"give this one a name of its own with --name, or `ovnlab down {self.name}` first",
        )

    def _refuse_other_provider(self, topology: Topology) -> None:
        before = self.stored.topology.provider if self.stored and self.folder.exists() else topology.provider
        if before != topology.provider:
            raise UsageError(
                f"lab {self.name} is on provider {before}, and cannot move to {topology.provider}",
                hint=f"`ovnlab down {self.name}` first, or give this one a name of its own with --name",
            )

    def _take_back(self, began: bool, active: frozenset[str], made: frozenset[str]) -> None:
        """Undo a failed start. Nodes that were made before are only stopped: their databases stay."""
        if began:
            self.reporter.step(f"taking back lab {self.name}")
            self.provider.destroy()
            return
        self.provider.stop([])  # nothing more is made from now on
        added, started = sorted(self.provider.defined_nodes() - made), sorted((self.provider.active() & made) - active)
        if added or started:
            self.reporter.step(f"taking back {', '.join([*added, *started])}")
            self.provider.stop(started)
            self.provider.remove(added)
        self._is_as_before = True

    def _remove_if_empty(self) -> None:
        """Remove a lab that has just begun and holds no node: a next `up` finds nothing to go on with."""
        with contextlib.suppress(OvnlabError, OSError):  # why it holds none is what is told
            if not self.provider.defined_nodes():
                self.provider.destroy()

    def _converge(self, topology: Topology, source: str, *, fresh: bool) -> tuple[Topology, Plan, int]:
        """Do all of the work, in the order in which one thing needs the other, and return what the lab is then.

        A fresh lab has no databases that could hold anything yet, whatever is known of any other.
        """
        assert self.base is not None  # noqa: S101  set before anything is begun
        if fresh:  # so that `down` knows what kind of lab this is, whatever happens next
            self.folder.store(self._stored(source, topology, complete=False))
        self._refuse_moving_clusters(topology)
        seen = self.look(topology)
        topology = self._keeping(topology, seen.rows)
        faults = self._faults()
        left = deliberate.left_alone(faults)
        first = self._planned(topology, seen, prune=self.prune)
        asked = self._check_matches(topology, source, first)
        work = self._convergence(topology, faults)
        if not fresh:
            work.check_conversions(seen)
        unaware: list[str] = []
        if first.remove:
            self._wake_databases(work, topology, seen, leaving=first.remove)
            unaware = work.remove_nodes(list(first.remove))
        # Not before: what is to be removed must be known to an `up` that comes after one that failed here.
        self.folder.store(self._stored(source, topology, complete=False))
        if first.add:
            self.reporter.step(f"adding {len(first.add)} nodes" if len(first.add) > 1 else "adding a node")
            self.provider.add(topology, list(first.add))
        unfinished = self.stored is not None and not self.stored.complete
        if not first.add and (first.configure or first.links or unfinished or topology.nodes != self._known_nodes()):
            self.provider.add(topology, [])
        started = [
            node for node in topology.nodes if node.name in first.add or node.name in first.configure or unfinished
        ]
        if not fresh:
            started = work.reconnect(first, seen, started)
        started = [node for node in started if node.name not in left]
        watch = DeathWatch(self.provider, topology, [node.name for node in topology.nodes if node.name not in left])
        introduced = True
        if started:
            self.provider.deliver(self.builds)
            with watch.during(watch.look):
                introduced = work.start_nodes(started, seen)
            if unaware:  # databases of a node that was dead come back knowing what they knew
                work.forget_nodes(list(first.remove), unaware)
            if not fresh or (topology.schema_rows and seen.schema is None):
                before, seen = seen, self.look(topology)
                seen.require_rows()
                topology = self._keeping(topology, seen.rows)
                work = self._convergence(topology, faults)
                again = plan(
                    topology, seen, known=self._known_nodes(), builds=self.builds, faults=faults, prune=self.prune
                )
                first = replace(
                    first,
                    transit=again.transit,
                    stale_transit=again.stale_transit,
                    changes=again.changes,
                    unbind=again.unbind,
                    bind=binding_again(first, again, before, seen),
                )
        if not asked:
            self._check_matches(topology, source, first)
        with watch.during(watch.look):
            work.start_controllers_and_bind(started, first)
        with watch.during(watch.look_at_all):
            work.await_ready(started, first, introduced=introduced)
        return topology, first, len(first.bound_after(seen))

    def _keeping(self, topology: Topology, rows: Sequence[LiveRow] | None) -> Topology:
        """Return the topology with the addresses that the lab has, where the file gives nothing else."""
        if self.resolve is None or self.stored is None:
            return topology
        found = row_addresses.in_use(inuse.of_topology(self.stored.topology), topology, rows)
        return topology if found.agrees(topology) else self.resolve(found)

    def _wake_databases(self, work: Convergence, topology: Topology, seen: LabState, leaving: Collection[str]) -> None:
        """Start databases that do not run: what is leaving must be forgotten by them, or is never."""
        known = {node.name for node in self._known_nodes() if node.central} - set(leaving)
        asleep = [
            node
            for node in topology.nodes
            if node.central and node.name in known & seen.nodes.keys()
            if "ovnsb_db" not in seen.nodes[node.name].daemons
        ]
        if asleep:
            self.provider.deliver(self.builds)
            work.start_nodes(asleep, seen)

    def _check_matches(self, topology: Topology, source: str, todo: Plan) -> bool:
        """Let OVN itself parse the matches that are to be written; False where there is no node yet to ask on."""
        running = self.provider.nodes()
        centrals = [node.name for zone in topology.zones for node in topology.centrals(zone) if node.name in running]
        if not centrals:
            return False
        matches.check(running[centrals[0]].context, topology, source, todo.changes)
        return True

    def _refuse_moving_clusters(self, topology: Topology) -> None:
        """Raise an error where members of a cluster would get other addresses: their databases hold the old ones."""
        if self.stored is None or not self.folder.exists():
            return
        before = self.stored.topology
        for node in topology.nodes:
            old = before.node(node.name)
            if old is None or not (old.central and node.central) or old.kind != node.kind:
                continue
            both = len(before.centrals(old.zone)) > 1 and len(topology.centrals(node.zone)) > 1
            if both and (old.ip, before.control.tls) != (node.ip, topology.control.tls):
                raise UsageError(
                    f"{node.name} is a member of a cluster, and cannot have another address or turn TLS on or off",
                    hint=f"`ovnlab down {self.name}` first",
                )

    def _planned(self, topology: Topology, seen: LabState, *, prune: bool) -> Plan:
        """Return what is missing between a topology and the lab, links included."""
        known, faults = self._known_nodes(), self._faults()
        found = plan(topology, seen, known=known, builds=self.builds, faults=faults, prune=prune)
        return replace(found, links=self._changed_links(topology))

    def _changed_links(self, topology: Topology) -> tuple[str, ...]:
        """Return the links that are otherwise than a topology says, each as `NODE:NIC`."""
        running = self.provider.is_up()
        before = deliberate.links(self.stored.topology, ()) if self.stored is not None and running else {}
        now = deliberate.links(topology, ())
        changed = {place for place in {*before, *now} if before.get(place) != now.get(place)}
        if isinstance(self.provider, ShapesLinks) and running:
            changed |= self.provider.misshapen(topology)
        return tuple(f"{node}:{device}" for node, device in sorted(changed))

    def _faults(self) -> tuple[deliberate.Fault, ...]:
        """Return what is broken on purpose; a lab that begins anew has no faults, whatever was recorded before."""
        return deliberate.active(self.folder) if self.provider.is_up() else ()

    def _convergence(self, topology: Topology, faults: Sequence[deliberate.Fault] = ()) -> Convergence:
        secrets = self.folder.path / "tls"
        disturbed = deliberate.disturbed(faults)
        known = self._known_nodes()
        return Convergence(self.provider, topology, self.reporter, secrets, known, self.builds, disturbed)

    def _known_nodes(self) -> tuple[resolved.Node, ...]:
        return self.stored.topology.nodes if self.stored else ()

    # ── binding ──────────────────────────────────────────────────────────────────────────────────────

    def bind(
        self,
        wanted: Mapping[str, str],
        *,
        network: str | None = None,
        ip: str | None = None,
        mac: str | None = None,
    ) -> dict[str, VM]:
        """Bind fake VMs to nodes, by name; one bound elsewhere moves. Returns what they are now.

        A port that the file does not know is created on `network`. Returns when the ports are up and
        their flows are installed.
        """
        with self.locked():
            topology = self.topology
            for name in dict.fromkeys(wanted.values()):
                node = topology.node(name)
                if node is None:
                    raise self.unknown_name(name)
                if not node.chassis:
                    raise UsageError(f"{name} is not a chassis: it runs no ovn-controller")
            self.central()  # raises where the lab is down
            seen = self.look(topology)
            seen.require_rows()
            specs = Specs(self.topology, seen, network, ip, mac)
            vms = {name: specs.of(name) for name in wanted}
            self._refuse_other_zone(specs, wanted)
            work = self._convergence(topology)
            work.apply(specs.changes)
            created = [added.name for added in specs.changes]
            leaving = {
                name: tuple(bound for bound in state.vms if wanted.get(bound.name, name) != name)
                for name, state in seen.nodes.items()
            }
            for_each([item for item in leaving.items() if item[1]], lambda item: work.unbind(*item))
            homes = {name: tuple(vm for vm in vms.values() if wanted[vm.name] == name) for name in wanted.values()}
            self.reporter.step(f"binding {', '.join(wanted)}")
            try:
                for_each(homes.items(), lambda item: work.bind(*item))
            except OvnlabError:
                self._unbind_new(work, homes, created)
                raise
            watch = DeathWatch(self.provider, topology, dict.fromkeys([*homes, *relied_on(topology, seen)]))
            with watch.during(watch.look_at_all):
                work.await_bound(homes)
            return vms

    def _refuse_other_zone(self, specs: Specs, wanted: Mapping[str, str]) -> None:
        """Raise UsageError for a port whose databases belong to another zone than the node."""
        for vm, name in wanted.items():
            node = self.topology.node(name)
            zone = specs.zone_of(vm)
            if node is not None and zone != node.zone:
                raise UsageError(f"{vm} is in zone {zone}, and {name} in zone {node.zone}")

    def _unbind_new(self, work: Convergence, homes: Mapping[str, Sequence[VM]], created: Sequence[str]) -> None:
        """Take back fake VMs whose ports were only created to bind them, which failed."""
        for name, vms in homes.items():
            new = [vm for vm in vms if vm.name in created]
            if new:
                node = self.topology.node(name)
                work.unbind(name, new)
                work.apply([change.forget_port(vm.name, node.zone if node else "") for vm in new])

    def unbind(self, names: Sequence[str]) -> None:
        """Take fake VMs off their nodes; ports that `bind` created are removed."""
        with self.locked():
            self.central()  # raises where the lab is down
            seen = self.look(self.topology)
            seen.require_rows()
            made = {row.name: row for row in seen.rows or () if row.by_bind}
            for name in names:
                if self.topology.vm(name) is None and not seen.located(name) and name not in made:
                    raise self.unknown_name(name)
            leaving = {
                node: tuple(bound for bound in state.vms if bound.name in names) for node, state in seen.nodes.items()
            }
            work = self._convergence(self.topology)
            for_each([item for item in leaving.items() if item[1]], lambda item: work.unbind(*item))
            work.apply([change.remove(made[name], "it is unbound") for name in dict.fromkeys(names) if name in made])

    # ── going away ───────────────────────────────────────────────────────────────────────────────────

    def down(self, *, forget: bool = False, forget_hosts: bool = False) -> Removal:
        """Remove the lab and every trace of it but its logs.

        What is kept of it for the next `up` goes as well with `forget`. With `forget_hosts`, hosts that do not answer
        stay as they are, and a note says what stays there.
        """
        forget = forget and self.is_kept
        if not self.folder.exists() and not self.folder.lock_file.exists() and not forget:
            return Removal(removed=False, forgot=False)
        with self._naming_what_is_left(), self.locked():
            if forget:
                self._discard()
            there = self.folder.exists()  # otherwise the lock of an `up` that was killed before it began goes now
            if there:
                with contextlib.suppress(OvnlabError, OSError):  # what does not answer goes all the same
                    self.bring_logs()
                if forget_hosts and isinstance(self.provider, ForgetsHosts):
                    for sentence in self.provider.forget_hosts():
                        self.reporter.note(sentence)
                else:
                    self.provider.destroy()
        return Removal(removed=there, forgot=forget)

    @contextlib.contextmanager
    def _naming_what_is_left(self) -> Iterator[None]:
        """Note the command that removes the rest of a lab if the body does not finish."""
        try:
            yield
        except (KeyboardInterrupt, OvnlabError, OSError):
            if self.folder.exists():
                command = f"`ovnlab down {self.name}{' --forget' if self.is_kept else ''}`"
                self.reporter.note(f"lab {self.name} is not all removed: {command} removes what is left")
            raise

    @property
    def is_kept(self) -> bool:
        """Return True if something of the lab is kept for the next `up`, there or not."""
        return keeper_of(self.folder) is not None

    def _discard(self) -> None:
        """Forget what is kept. The lab may be gone, and with it the provider that keeps something of it."""
        keeper = keeper_of(self.folder)
        if keeper is not None:
            provider = keeper.make(self.folder, None, None, self.reporter)
            if isinstance(provider, Keeps):
                provider.discard()

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return every script that `up` of a new lab would run: titles and texts, in order."""
        bound = bindings(topology, LabState({}, ()), ())[1]
        rows = change.changes(topology.name, wanted_rows(topology), ())
        switches = [node for node in topology.nodes if node.has_switch]
        founders = {founder(topology, zone, LabState({}, ())) for zone in topology.zones}
        found = {zone: endpoints.of_zone(topology, zone) for zone in topology.zones}
        asking = {node.name: binding.askers(node, bound.get(node.name, ())) for node in topology.nodes}
        placeholders = dict.fromkeys(builds.wanted(topology), builds.PLACEHOLDER)
        papers = {node.name: credentials.PLACEHOLDERS for node in topology.nodes if topology.control.tls}
        scripts = [
            *(
                (f"{name}/install-certificate.sh", daemons.certificate_script(name, files))
                for name, files in papers.items()
            ),
            *(
                (
                    f"{node.name}/{'start-switch' if node.has_switch else 'configure-host'}.sh",
                    daemons.node_script(
                        topology, node, daemons.Start(placeholders.get(node.name, ""), node.name in founders)
                    ),
                )
                for node in topology.nodes
            ),
            *((f"{node.name}/start-controller.sh", daemons.controller_script(topology, node)) for node in switches),
        ]
        if topology.transit_switches:
            names = [switch.name for switch in topology.transit_switches]
            scripts.append(
                (f"{topology.central.name}/set-transit-switches.sh", daemons.transit_script(names, (), topology.name))
            )
        for zone in topology.zones:
            mine = [item for item in rows if item.zone == zone]
            central = topology.centrals(zone)[0].name
            if mine:
                scripts.append((f"{central}/apply-transaction.sh", change.transaction_script(mine, found[zone])))
        scripts.extend(
            (f"{node.name}/bind-vms.sh", binding.bind_script(topology.name, node, bound[node.name]))
            for node in topology.nodes
            if node.name in bound
        )
        for zone in topology.zones:
            names = [node.name for node in topology.chassis if node.zone == zone]
            script = daemons.registered_script(found[zone], names)
            scripts.append((f"{topology.centrals(zone)[0].name}/wait-chassis-registered.sh", script))
        scripts += [
            *((f"{node.name}/wait-tunnels.sh", daemons.tunnels_script(topology, node)) for node in topology.chassis),
            *((f"{node.name}/announce-addresses.sh", daemons.announce_script(node)) for node in topology.chassis),
            *(
                (f"{name}/request-addresses.sh", binding.ask_script(name, items))
                for name, items in asking.items()
                if items
            ),
        ]
        return [*builds.scripts(topology), *self._provider(topology).render(topology), *scripts]


def _is_central(topology: Topology, name: str) -> bool:
    node = topology.node(name)
    return node is not None and node.central


def _existing_labs() -> str:
    names = [folder.name for folder in labs()]
    return f"available: {', '.join(names)}" if names else "`ovnlab up` makes one"


def find(name: str | None, reporter: Reporter) -> Lab:
    """Return the lab of that name; without one, the only lab there is.

    Raises UsageError where there is none or several to choose from.
    """
    if name is not None:
        lab = Lab(name, reporter)
        lab.topology  # noqa: B018  raises where there is no such lab
        return lab
    candidates = [Lab(folder.name, reporter) for folder in labs()]
    running = candidates if len(candidates) == 1 else [lab for lab in candidates if lab.provider.is_up()] or candidates
    if not running:
        raise OvnlabError("there is no lab", hint="`ovnlab up` makes one")
    if len(running) > 1:
        names = ", ".join(lab.name for lab in running)
        raise UsageError(f"there are several labs: {names}", hint=f"say which, such as --lab {running[0].name}")
    running[0].topology  # noqa: B018  raises where what is there is not to be understood
    return running[0]


def find_only(name: str | None, reporter: Reporter) -> Lab:
    """Return the lab of that name; without one, the only lab there is, whether or not it runs.

    This is for commands that undo or remove something: of several labs none is taken because it happens to run.
    """
    names = [folder.name for folder in labs()]
    if name is None and len(names) > 1:
        raise UsageError(f"there are several labs: {', '.join(names)}", hint=f"say which, such as --lab {names[0]}")
    return find(name, reporter)


def find_suspended(name: str | None, reporter: Reporter) -> Lab:
    """Return the lab of that name; without one, the only lab that is suspended, or else the only lab there is."""
    there = [Lab(folder.name, reporter) for folder in labs()] if name is None else []
    suspended = [lab.name for lab in there if lab.is_suspended]
    if len(suspended) > 1:
        hint = f"say which, such as --lab {suspended[0]}"
        raise UsageError(f"several labs are suspended: {', '.join(suspended)}", hint=hint)
    return find_only(suspended[0] if suspended else name, reporter)


def prepare(request: Request, reporter: Reporter) -> tuple[Lab, Topology]:
    """Return the lab that a request is for, and its topology.

    A topology that was worked out before is taken from the cache: reading and checking a file costs more than all
    else that a command loads.
    """
    content = read(request.path)

    def resolve(in_use: InUse) -> Topology:
        return _resolved(request, content, in_use)

    topology = resolve(InUse())
    return Lab(topology.name, reporter, resolve), topology


def _resolved(request: Request, content: bytes, in_use: InUse) -> Topology:
    """Return what a file makes of a lab that has addresses already."""
    key = hashlib.sha256(request.digest(content).encode() + in_use.digest()).hexdigest()
    cached = cache_root() / "topologies" / f"{key}.json"
    try:
        return msgspec.json.decode(cached.read_bytes(), type=Topology)
    except (OSError, msgspec.DecodeError):
        topology = _loaded(request, content, in_use)
        with contextlib.suppress(OSError):  # it is no more than faster the next time
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_whole(cached, msgspec.json.encode(topology))
        return topology


def _loaded(request: Request, content: bytes, in_use: InUse) -> Topology:
    from ovnlab.topology.load import load_text  # noqa: PLC0415  brings pydantic and the YAML parser

    loaded = load_text(
        request.path,
        content,
        settings=request.settings,
        name=request.name,
        provider=request.provider,
        in_use=in_use,
    )
    loaded.refuse_unsupported()
    return loaded.topology
