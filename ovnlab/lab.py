"""The orchestration: the one place that knows the order in which a lab comes up, changes and goes away."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import ipaddress
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from ovnlab import __version__
from ovnlab import software as artefact
from ovnlab.errors import OvnlabError, SurroundingsError, UsageError
from ovnlab.northbound import change, live
from ovnlab.northbound.rows import BY_BIND, vm_port
from ovnlab.northbound.rows import wanted as wanted_rows
from ovnlab.parallel import for_each
from ovnlab.plan import Plan, Seen, bindings, plan
from ovnlab.providers.base import Node
from ovnlab.providers.local.provider import LocalProvider
from ovnlab.state import LabFolder, Software, Stored, cache_root, labs
from ovnlab.tasks import bind as binding
from ovnlab.tasks import daemons
from ovnlab.tasks.probe import BoundVM, NodeState, probe
from ovnlab.topology import resolved
from ovnlab.topology.file import read
from ovnlab.topology.resolved import VM, Topology, generated_mac


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

    def __init__(self, name: str, reporter: Reporter, *, software: Software | None = None) -> None:
        self.name = name
        self.reporter = reporter
        self.folder = LabFolder(name)
        self.stored = self.folder.stored()
        self.software = software or (self.stored.software if self.stored else None)
        self.provider = LocalProvider(self.folder, self.software)

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

    def unknown(self, name: str) -> OvnlabError:
        """The error for a name that is neither a node nor a fake VM of the lab."""
        known = [*(node.name for node in self.topology.nodes), *(vm.name for vm in self.topology.vms)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
        return UsageError(f"lab {self.name} has no node or fake VM {name!r}", hint=hint)

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
                done, bound = self._converge(topology, source)
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

    def _converge(self, topology: Topology, source: str) -> tuple[Plan, int]:
        """All of the work, in the order in which one thing needs the other."""
        fresh = self.stored is None
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
            specs = _Specs(self, seen, network, ip, mac)
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


class _Specs:
    """What fake VMs are to be bound as, and the ports that have to be created for that."""

    def __init__(self, lab: Lab, seen: Seen, network: str | None, ip: str | None, mac: str | None) -> None:
        self.lab = lab
        self.topology = lab.topology
        self.rows = {row.name: row for row in seen.rows or () if row.table == "Logical_Switch_Port"}
        self.switches = {row.name for row in seen.rows or () if row.table == "Logical_Switch"}
        self.bound = {bound.name: bound for state in seen.nodes.values() for bound in state.vms}
        self.network, self.ip, self.mac = network, ip, mac
        self.given: set[str] = set()
        self.changes: list[change.Change] = []

    def of(self, name: str) -> VM:
        """What `name` is bound as: the file's word, else the port that is there, else a new one."""
        if not resolved.NAME.fullmatch(name) or resolved.is_reserved(name) or self.topology.node(name):
            hint = "letters, digits, '.', '_' and '-', and no node's or interface's name"
            raise UsageError(f"{name!r} cannot be the name of a fake VM", hint=hint)
        vm = self.topology.vm(name)
        if vm is not None and name in self.rows:
            if self.network or self.ip or self.mac:
                raise UsageError(f"{name} has its network, ip and mac from the topology: change them there")
            return vm
        if name in self.rows:
            return self._of_row(self.rows[name])
        if vm is not None:
            return self._put_back(vm)
        if self.network is None:
            error = self.lab.unknown(name)
            error.hint = f"{error.hint} — or --network creates a port {name}"
            raise error
        return self._new(name, self.network)

    def _put_back(self, vm: VM) -> VM:
        """A port of the file that somebody removed by hand."""
        switch = next(switch.name for switch in self.topology.switches if vm in switch.vms)
        if switch not in self.switches:
            raise OvnlabError(f"the logical switch of {vm.name} is not there", hint="`ovnlab up` brings it back")
        self.changes.append(change.add(vm_port(self.topology.name, switch, vm)))
        return vm

    def _of_row(self, row: live.LiveRow) -> VM:
        """A port that somebody else made, or `bind` did."""
        if row.columns["type"]:
            raise UsageError(f"{row.name} is a {row.columns['type']} port, not a fake VM's")
        bound = self.bound.get(row.name)
        if bound is not None and bound.vm is not None and not (self.ip or self.mac):
            return bound.vm
        words = _address_words(row)
        macs = [word for word in words if resolved.MAC.fullmatch(word)]
        chosen = generated_mac(self.topology.name, row.parent or "", row.name)
        ips = [self.ip] if self.ip else [word for word in words if _is_ip(word)]
        return self._vm(row.name, row.parent or "", self.mac or next(iter(macs), chosen), ips)

    def _new(self, name: str, network: str) -> VM:
        if network not in self.switches:
            close = difflib.get_close_matches(network, self.switches, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(sorted(self.switches)) or 'none'}"
            raise UsageError(f"there is no logical switch {network!r}", hint=hint)
        switch = self.topology.switch(network)
        ips = [self.ip] if self.ip else self._free_ips(network, switch.subnets if switch else ())
        vm = self._vm(name, network, self.mac or generated_mac(self.topology.name, network, name), ips)
        self.changes.append(change.add(vm_port(self.topology.name, network, vm, mark=BY_BIND)))
        return vm

    def _free_ips(self, network: str, subnets: Sequence[str]) -> list[str]:
        here = [row for row in self.rows.values() if row.parent == network]
        taken = {word for row in here for word in _address_words(row) if _is_ip(word)}
        taken.update(self.topology.gateways(network), self.given)
        ips = [next(resolved.free_addresses(subnet, taken), None) for subnet in subnets]
        if None in ips:
            raise UsageError(f"{network} has no free address left", hint="--ip gives one of your own")
        self.given.update(filter(None, ips))
        return [ip for ip in ips if ip]

    def _refuse_taken(self, name: str, network: str) -> None:
        """Two ports of one switch cannot have one address."""
        for row in self.rows.values():
            words = _address_words(row)
            if row.parent != network or row.name == name:
                continue
            for given in (self.mac, self.ip and self.ip.partition("/")[0]):
                if given is not None and given in words:
                    raise UsageError(f"{given} is in use by {row.name}")
        if self.ip and self.ip.partition("/")[0] in self.topology.gateways(network):
            raise UsageError(f"{self.ip} is in use by the router of {network}")

    def _vm(self, name: str, network: str, mac: str, ips: Sequence[str]) -> VM:
        self._refuse_taken(name, network)
        switch = self.topology.switch(network)
        routed = [
            n for router in self.topology.routers for p in router.ports if p.switch == network for n in p.networks
        ]
        subnets = (
            switch.subnets if switch and switch.subnets else [str(ipaddress.ip_interface(n).network) for n in routed]
        )
        addresses = tuple(_with_prefix_length(ip, subnets) for ip in ips)
        versions = {ipaddress.ip_interface(address).version for address in addresses}
        gateways = [ip for ip in self.topology.gateways(network) if ipaddress.ip_address(ip).version in versions]
        return VM(name=name, mac=mac, addresses=addresses, gateways=tuple(gateways), mtu=self.topology.vm_mtu)


def _with_prefix_length(ip: str, subnets: Sequence[str]) -> str:
    """An address with the prefix length that it brings, that its subnet has, or that of a host."""
    interface = ipaddress.ip_interface(ip)
    if "/" in ip:
        return str(interface)
    for subnet in map(ipaddress.ip_network, subnets):
        if subnet.num_addresses > 2 and interface.ip in (subnet.network_address, subnet.broadcast_address):
            raise UsageError(f"{ip} is the network or broadcast address of {subnet}")
        if interface.ip in subnet:
            return f"{ip}/{subnet.prefixlen}"
    if subnets:
        raise UsageError(f"{ip} is outside {' and '.join(subnets)}")
    return str(interface)


def _address_words(row: live.LiveRow) -> list[str]:
    """MAC and IP addresses of a port, and words such as dynamic (ovn-nb(5), Logical_Switch_Port addresses)."""
    return " ".join(row.columns["addresses"]).split()


def _is_ip(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


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
