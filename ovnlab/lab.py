"""The orchestration: the one place that knows the order in which a lab comes up, changes and goes away."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from ovnlab import __version__
from ovnlab import software as artefact
from ovnlab.binding import Specs, unknown
from ovnlab.errors import OvnlabError, SurroundingsError, UsageError
from ovnlab.northbound import change, live
from ovnlab.northbound.rows import wanted as wanted_rows
from ovnlab.parallel import for_each
from ovnlab.plan import Plan, Seen, bindings, plan
from ovnlab.providers.base import Node, Provider
from ovnlab.providers.local.provider import LocalProvider
from ovnlab.state import LabFolder, Software, Stored, cache_root, labs
from ovnlab.tasks import bind as binding
from ovnlab.tasks import daemons
from ovnlab.tasks.probe import BoundVM, NodeState, probe
from ovnlab.topology import resolved
from ovnlab.topology.file import read
from ovnlab.topology.resolved import VM, Topology


class Reporter(Protocol):
    """Is told what is being done."""

    def step(self, text: str) -> None:
        """What the whole lab is at."""

    def node(self, name: str, doing: str) -> None:
        """What one node is at; `done` where it has finished this step."""

    def note(self, text: str) -> None:
        """Something that the person should know and that is no error."""


@dataclass(frozen=True)
class Request:
    """What `up` is asked for: a topology file and what the command line puts over it."""

    path: str
    settings: tuple[str, ...] = ()
    name: str | None = None
    provider: str | None = None

    def digest(self, content: bytes) -> str:
        """Addresses all that the topology depends on, this program included."""
        code = max(path.stat().st_mtime_ns for path in Path(resolved.__file__).parent.glob("*.py"))
        options = (str(Path(self.path).absolute()), self.settings, self.name, self.provider, __version__, code)
        parts = [repr(options).encode()]
        return hashlib.sha256(b"\0".join([*parts, content])).hexdigest()


@dataclass(frozen=True)
class Target:
    """Something that commands run in: a node, or a fake VM on one."""

    name: str
    node: Node
    vm: str | None = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""
        if self.vm is None:
            return self.node.command(argv)
        return self.node.command(["ip", "netns", "exec", self.vm, "env", *argv])


@dataclass(frozen=True)
class Outcome:
    """What `up` did, or would do, and how many fake VMs are bound then."""

    topology: Topology
    plan: Plan
    began: bool
    bound: int


class Lab:
    """A lab by its name, whether or not it is up."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self.name = name
        self.reporter = reporter
        self.folder = LabFolder(name)
        self.stored = self.folder.stored()
        self.software: Software | None = self.stored.software if self.stored else None
        self.provider: Provider = LocalProvider(self.folder, self.software)

    @property
    def topology(self) -> Topology:
        """What the lab was last brought up as. Raises OvnlabError where that is not known."""
        if self.stored is not None:
            return self.stored.topology
        if self.folder.exists():
            hint = f"`ovnlab up` of its topology goes on with it, `ovnlab down {self.name}` removes it"
            raise OvnlabError(f"what lab {self.name} was made from is lost", hint=hint)
        raise OvnlabError(f"there is no lab {self.name}", hint=_existing_labs())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Work on the lab alone."""
        with self.folder.locked(lambda owner: self.reporter.note(f"waiting for lab {self.name}: {owner} has it")):
            self.stored = self.folder.stored()
            yield

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────

    def nodes(self) -> dict[str, Node]:
        """The nodes that run."""
        return dict(self.provider.nodes())

    def node(self, name: str) -> Node:
        """A node that runs. Raises OvnlabError for a name that the lab does not have."""
        if self.topology.node(name) is None:
            raise self.unknown(name)
        return self.provider.node(name)

    def central(self) -> Node:
        """The node with the Northbound and Southbound databases."""
        name = self.topology.central.name
        if not self.provider.is_up():
            raise OvnlabError(f"lab {self.name} is down", hint="`ovnlab up` brings it back")
        return self.node(name)

    def unknown(self, name: str) -> UsageError:
        """The error for a name that is neither a node nor a fake VM of the lab."""
        return unknown(self.topology, name)

    def states(self, *, versions: bool = False) -> dict[str, NodeState]:
        """What every node that runs is like."""
        nodes = self.nodes()
        found = for_each(nodes.values(), lambda node: probe(node.context, node.name, versions=versions))
        return dict(zip(nodes, found, strict=True))

    def look(self) -> Seen:
        """The lab as it is."""
        states = self.states()
        central = next((name for name, state in states.items() if "ovnnb_db" in state.daemons), None)
        rows = live.read(self.provider.node(central).context) if central else None
        return Seen(states, rows)

    def target(self, name: str) -> Target:
        """A node, or a fake VM where it is bound."""
        if self.topology.node(name) is not None:
            return Target(name, self.node(name))
        home = self.home(name)
        if home is None:
            if self.topology.vm(name) is None:
                raise self.unknown(name)
            hint = f"ovnlab bind {name} {self.topology.chassis[-1].name}"
            raise OvnlabError("is not bound to a node", where=name, hint=hint)
        return Target(name, self.node(home[0]), vm=name)

    def home(self, vm: str) -> tuple[str, BoundVM] | None:
        """The node that a fake VM is bound to and what it is like there."""
        for name, state in self.states().items():
            for bound in state.vms:
                if bound.name == vm:
                    return name, bound
        return None

    # ── coming up ────────────────────────────────────────────────────────────────────────────────────

    def up(self, topology: Topology, *, source: str, named: bool) -> Outcome:
        """Make the lab what the topology says.

        Interrupted, it takes back what it began: the lab, or the nodes that it added.
        """
        with self.locked():
            self._refuse_other_source(source, named)
            began = not self.folder.exists()
            files = {node.name for node in topology.nodes if self.folder.node(node.name).exists()}
            self.software = self._software(topology)
            self.provider = LocalProvider(self.folder, self.software)
            running = self.provider.running()
            try:
                self.folder.create(afresh=began)
                done, bound = self._converge(topology, source, fresh=began)
                self.folder.store(Stored(source, topology, self.software, complete=True))
            except (KeyboardInterrupt, SurroundingsError):
                self._take_back(began, running, files)
                raise
        return Outcome(topology, done, began, bound)

    def _software(self, topology: Topology) -> Software:
        """The software of the lab. A running lab keeps what it runs. Raises UsageError where it is to have another."""
        if self.stored is not None and self.provider.running():
            if self.stored.topology.software != topology.software:
                raise UsageError(
                    f"lab {self.name} runs with software {self.stored.topology.software}, which a running lab keeps",
                    hint=f"`ovnlab down {self.name}` first",
                )
            return self.stored.software
        return artefact.provide(topology.software, self.reporter.note)

    def dry_run(self, topology: Topology, *, source: str, named: bool) -> Outcome:
        """What `up` would do."""
        self._refuse_other_source(source, named)
        seen = self.look()
        todo = plan(topology, seen, known=self._known())
        return Outcome(topology, todo, not seen.nodes, len(todo.bound_after(seen)))

    def _known(self) -> list[str]:
        return [node.name for node in self.stored.topology.nodes] if self.stored else []

    def _refuse_other_source(self, source: str, named: bool) -> None:
        """A lab is not turned into another one because two files happen to have the same name."""
        if self.stored is None or self.stored.source == source or named or not self.folder.exists():
            return
        raise SurroundingsError(
            f"the name of lab {self.name} is in use: it was made from {self.stored.source}",
            hint=f"give this one a name of its own with --name, or `ovnlab down {self.name}` first",
        )

    def _take_back(self, began: bool, running: frozenset[str], files: set[str]) -> None:
        """Of nodes that had files before, only the processes are this run's: their databases stay."""
        if began:
            self.reporter.step(f"taking back lab {self.name}")
            self.provider.destroy()
        elif added := sorted(self.provider.running() - running):
            self.reporter.step(f"taking back {', '.join(added)}")
            self.provider.stop([name for name in added if name in files])
            self.provider.remove([name for name in added if name not in files])

    def _converge(self, topology: Topology, source: str, *, fresh: bool) -> tuple[Plan, int]:
        """All of the work, in the order in which one thing needs the other.

        A fresh lab has no databases that could hold anything yet, whatever is known of any other.
        """
        seen = self.look()
        first = plan(topology, seen, known=self._known())
        assert self.software is not None  # noqa: S101  set before anything is begun
        self.folder.store(Stored(source, topology, self.software, complete=False))
        if first.remove:
            self._remove_nodes(topology, first.remove)
        if first.add:
            self.reporter.step(f"adding {len(first.add)} nodes" if len(first.add) > 1 else "adding a node")
            self.provider.add(topology, list(first.add))
        elif topology.nodes != self._known_nodes():
            self.provider.add(topology, [])
        unfinished = self.stored is not None and not self.stored.complete
        started = [
            node for node in topology.nodes if node.name in first.add or node.name in first.configure or unfinished
        ]
        if topology.central.name in first.add and not fresh:
            running = self.provider.nodes()
            alive = [name for name in seen.nodes if name in running]
            for_each(alive, lambda name: daemons.disconnect(running[name].context, name))
            started = list(topology.nodes)
        if started:
            self._start_switches(topology, started)
            if not fresh:
                seen = self.look()
                again = plan(topology, seen, known=self._known())
                first = replace(first, changes=again.changes, unbind=again.unbind, bind=again.bind)
        self._start_controllers_and_bind(topology, started, first)
        self._await(topology, started, first)
        return first, len(first.bound_after(seen))

    def _known_nodes(self) -> tuple[resolved.Node, ...]:
        return self.stored.topology.nodes if self.stored else ()

    def _remove_nodes(self, topology: Topology, names: Sequence[str]) -> None:
        self.reporter.step(f"removing {', '.join(names)}")
        self.provider.remove(names)
        central = topology.central.name
        if central in self.provider.running():
            daemons.forget_chassis(self.provider.node(central).context, names)

    def _start_switches(self, topology: Topology, nodes: Sequence[resolved.Node]) -> None:
        self.reporter.step("starting databases and switches")
        running = self.provider.nodes()

        def start(node: resolved.Node) -> None:
            self.reporter.node(node.name, "starting databases and switch" if node.central else "starting the switch")
            daemons.start_switch(running[node.name].context, topology, node)
            self.reporter.node(node.name, "done")

        for_each(nodes, start)

    def _start_controllers_and_bind(self, topology: Topology, started: Sequence[resolved.Node], todo: Plan) -> None:
        """Controllers, the logical network and bindings need the switches, and nothing of one another."""
        running = self.provider.nodes()
        central = running[topology.central.name]
        for_each(todo.unbind.items(), lambda item: self._unbind(*item))
        jobs: list[tuple[str, object]] = [("controller", node) for node in started]
        if todo.changes:
            jobs.append(("northbound", todo.changes))
        jobs.extend(("bind", item) for item in todo.bind.items())
        if jobs:
            self.reporter.step("starting controllers, writing the logical network, binding fake VMs")

        def do(job: tuple[str, object]) -> None:
            match job:
                case ("controller", resolved.Node() as node):
                    self.reporter.node(node.name, "starting ovn-controller")
                    daemons.start_controller(running[node.name].context, node)
                    self.reporter.node(node.name, "done")
                case ("northbound", _):
                    change.apply(central.context, todo.changes)
                case ("bind", (str(name), tuple(vms))):
                    self._bind(name, vms)

        for_each(jobs, do)

    def _unbind(self, name: str, vms: Sequence[VM | BoundVM]) -> None:
        binding.unbind(self.provider.node(name).context, name, vms)

    def _bind(self, name: str, vms: Sequence[VM]) -> None:
        binding.bind(self.provider.node(name).context, self.name, name, vms)

    def _await(self, topology: Topology, started: Sequence[resolved.Node], todo: Plan) -> None:
        """Ready: chassis registered, `--wait=hv sync` answered, tunnels in place, ports up, flows installed."""
        running = self.provider.nodes()
        central = running[topology.central.name]
        chassis = topology.chassis if any(node.chassis for node in started) or todo.remove else ()
        peers = chassis if len(chassis) > 1 else ()
        contexts = {node.name: running[node.name].context for node in peers}
        if started or todo.changes or peers:
            self.reporter.step("waiting for chassis and tunnels")

        def wait(node: resolved.Node | None) -> None:
            if node is None:
                daemons.await_registered(central.context, [node.name for node in started if node.chassis])
            else:
                daemons.await_tunnels(contexts[node.name], topology, node)

        for_each([*([None] if started or todo.changes else []), *peers], wait)
        for_each(peers, lambda node: daemons.announce(contexts[node.name], node))
        self._await_bound(central, todo.bind)

    def _await_bound(self, central: Node, bound: Mapping[str, Sequence[VM]]) -> None:
        if not bound:
            return
        self.reporter.step("waiting for ports to be up")
        for_each(
            bound.items(),
            lambda item: binding.await_flows(self.provider.node(item[0]).context, item[0], item[1]),
        )
        # Only now: of a fake VM that has moved, the database still says that it is up where it was.
        binding.await_up(central.context, [vm.name for vms in bound.values() for vm in vms])

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
                    raise self.unknown(name)
                if not node.chassis:
                    raise UsageError(f"{name} is no chassis: it runs no ovn-controller")
            central = self.central()
            seen = self.look()
            specs = Specs(self.topology, seen, network, ip, mac)
            vms = {name: specs.of(name) for name in wanted}
            change.apply(central.context, specs.changes)
            created = [added.name for added in specs.changes]
            leaving = {
                name: tuple(vm for vm in vms.values() if name in seen.located(vm.name) and wanted[vm.name] != name)
                for name in seen.nodes
            }
            for_each([item for item in leaving.items() if item[1]], lambda item: self._unbind(*item))
            homes = {name: tuple(vm for vm in vms.values() if wanted[vm.name] == name) for name in wanted.values()}
            self.reporter.step(f"binding {', '.join(wanted)}")
            try:
                for_each(homes.items(), lambda item: self._bind(*item))
            except OvnlabError:
                self._unbind_new(central, homes, created)
                raise
            self._await_bound(central, homes)
            return vms

    def _unbind_new(self, central: Node, homes: Mapping[str, Sequence[VM]], created: Sequence[str]) -> None:
        """Take back fake VMs whose ports were only created to bind them, which failed."""
        for name, vms in homes.items():
            new = [vm for vm in vms if vm.name in created]
            if new:
                self._unbind(name, new)
                change.apply(central.context, [change.forget_port(vm.name) for vm in new])

    def unbind(self, names: Sequence[str]) -> None:
        """Take fake VMs off their nodes; ports that `bind` created are removed."""
        with self.locked():
            seen = self.look()
            made = {row.name: row for row in seen.rows or () if row.by_bind}
            for name in names:
                if self.topology.vm(name) is None and not seen.located(name) and name not in made:
                    raise self.unknown(name)
            leaving = {
                node: tuple(bound for bound in state.vms if bound.name in names) for node, state in seen.nodes.items()
            }
            for_each([item for item in leaving.items() if item[1]], lambda item: self._unbind(*item))
            change.apply(
                self.central().context,
                [change.remove(made[name], "it is unbound") for name in dict.fromkeys(names) if name in made],
            )

    # ── going away ───────────────────────────────────────────────────────────────────────────────────

    def down(self) -> bool:
        """Remove the lab and every trace of it but its logs; whether anything was there."""
        if not self.folder.exists() and not self.folder.lock_file.exists():
            return False
        with self.locked():
            if not self.folder.exists():
                return False  # and the lock of an `up` that was killed before it began goes now
            self.provider.destroy()
        return True

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Every script that `up` of a new lab would run: titles and texts, in order."""
        bound = bindings(topology, Seen({}, ()), ())[1]
        rows = change.changes(topology.name, wanted_rows(topology), ())
        return [
            *self.provider.render(topology),
            *((f"{node.name}/switch.sh", daemons.switch_script(topology, node)) for node in topology.nodes),
            *((f"{node.name}/controller.sh", daemons.controller_script(node)) for node in topology.nodes),
            (f"{topology.central.name}/northbound.sh", change.transaction_script(rows)),
            *((f"{name}/bind.sh", binding.bind_script(topology.name, name, vms)) for name, vms in bound.items()),
            (
                f"{topology.central.name}/registered.sh",
                daemons.registered_script([node.name for node in topology.chassis]),
            ),
            *((f"{node.name}/tunnels.sh", daemons.tunnels_script(topology, node)) for node in topology.chassis),
            *((f"{node.name}/announce.sh", daemons.announce_script(node)) for node in topology.chassis),
        ]


def _existing_labs() -> str:
    names = [folder.name for folder in labs()]
    return f"there is {', '.join(names)}" if names else "`ovnlab up` makes one"


def find(name: str | None, reporter: Reporter) -> Lab:
    """The lab of that name; without one, the only lab there is.

    Raises UsageError where there is none or several to choose from.
    """
    if name is not None:
        lab = Lab(name, reporter)
        lab.topology  # noqa: B018  raises where there is no such lab
        return lab
    candidates = [Lab(folder.name, reporter) for folder in labs()]
    running = [lab for lab in candidates if lab.provider.is_up()] or candidates
    if not running:
        raise OvnlabError("there is no lab", hint="`ovnlab up` makes one")
    if len(running) > 1:
        names = ", ".join(lab.name for lab in running)
        raise UsageError(f"there are several labs: {names}", hint=f"say which, such as --lab {running[0].name}")
    running[0].topology  # noqa: B018  raises where what is there is not to be understood
    return running[0]


def prepare(request: Request, reporter: Reporter) -> tuple[Lab, Topology]:
    """The lab that a request is for, and its topology.

    A topology that was worked out before is taken from the cache: reading and checking a file costs more than all
    else that a command loads.
    """
    content = read(request.path)
    cached = cache_root() / "topologies" / f"{request.digest(content)}.json"
    try:
        topology = msgspec.json.decode(cached.read_bytes(), type=Topology)
    except (OSError, msgspec.DecodeError):
        topology = _loaded(request, content)
        with contextlib.suppress(OSError):  # it is no more than faster the next time
            cached.parent.mkdir(parents=True, exist_ok=True)
            scratch = cached.with_suffix(f".{os.getpid()}")
            scratch.write_bytes(msgspec.json.encode(topology))
            scratch.replace(cached)
    return Lab(topology.name, reporter), topology


def _loaded(request: Request, content: bytes) -> Topology:
    from ovnlab.topology.load import load_text  # noqa: PLC0415  brings pydantic and the YAML parser

    loaded = load_text(request.path, content, settings=request.settings, name=request.name, provider=request.provider)
    loaded.refuse_unsupported()
    return loaded.topology
