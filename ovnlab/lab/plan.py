"""The plan from a lab as it is to its topology. Pure: looks at nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ovnlab.deliberate import Fault, left_alone
from ovnlab.errors import OvnlabError
from ovnlab.northbound.change import Change, changes, remove, without_schema_rows
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.rows import wanted
from ovnlab.ovsdb.endpoints import CERTIFICATE, NORTHBOUND, SOUTHBOUND, listening, of_zone, remotes
from ovnlab.tasks.daemons import TransitSwitch, connected, external_ids, has_ic, strange_keys
from ovnlab.tasks.probe import BoundVM, NodeState
from ovnlab.topology.addresses import ip_of
from ovnlab.topology.resolved import VM, Node, Topology

if TYPE_CHECKING:
    from ovnlab.northbound.ovsschema import NorthboundSchema


class LabState(msgspec.Struct, frozen=True):
    """A lab as it is: the nodes that run, what each is like, and the logical network.

    `rows` is None where no Northbound database can be asked, `schema` where that is not needed or known.
    """

    nodes: Mapping[str, NodeState]
    rows: Sequence[LiveRow] | None
    transit: Sequence[TransitSwitch] = ()
    unread: Sequence[OvnlabError] = ()
    schema: NorthboundSchema | None = None

    def require_rows(self) -> None:
        """Raise what went wrong where a Northbound database could not be read: that is not the same as empty."""
        for error in self.unread:
            raise error

    def bound(self) -> set[str]:
        """Return the names of the fake VMs that are bound somewhere."""
        return {bound.name for state in self.nodes.values() for bound in state.vms}

    def located(self, vm: str) -> list[str]:
        """Return the nodes that have a port of that name, however it got there."""
        return [name for name, state in self.nodes.items() if any(bound.name == vm for bound in state.vms)]


class Plan(msgspec.Struct, frozen=True):
    """The work of `up`, grouped by what it is done to. Empty where the lab is as the topology says.

    `build` is what has to be built first.
    """

    build: tuple[str, ...] = ()
    add: Mapping[str, str] = msgspec.field(default_factory=dict)
    remove: Mapping[str, str] = msgspec.field(default_factory=dict)
    configure: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    links: tuple[str, ...] = ()
    transit: tuple[str, ...] = ()
    stale_transit: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    unbind: Mapping[str, tuple[BoundVM, ...]] = msgspec.field(default_factory=dict)
    bind: Mapping[str, tuple[VM, ...]] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        network = (self.build, self.links, self.transit, self.stale_transit, self.changes)
        return any((self.add, self.remove, self.configure, *network, self.unbind, self.bind))

    def bound_after(self, seen: LabState) -> set[str]:
        """Return the names of the fake VMs that are bound once it is done."""
        gone = {vm.name for vms in self.unbind.values() for vm in vms}
        return (seen.bound() - gone) | {vm.name for vms in self.bind.values() for vm in vms}

    def steps(self) -> list[str]:
        """Return a line for each thing to do, with its reason."""
        return list(self._steps())

    def _steps(self) -> Iterator[str]:
        for what in self.build:
            yield f"build {what}"
        for name, reason in self.remove.items():
            yield f"remove node {name}: {reason}"
        for name, reason in self.add.items():
            yield f"add node {name}: {reason}"
        for name, reasons in self.configure.items():
            yield f"configure {name}: {'; '.join(reasons)}"
        for link in self.links:
            yield f"set the link {link}: it is another one than the topology says"
        for name in self.transit:
            yield f"add transit switch {name}: it is missing"
        for name in self.stale_transit:
            yield f"remove transit switch {name}: the topology does not have it any more"
        for change in self.changes:
            yield str(change)
        for name, leaving in self.unbind.items():
            for bound in leaving:
                yield f"unbind {bound.name} from {name}"
        for name, vms in self.bind.items():
            for vm in vms:
                yield f"bind {vm.name} to {name}"


def plan(
    topology: Topology,
    seen: LabState,
    *,
    known: Sequence[Node] = (),
    builds: Mapping[str, str] | None = None,
    faults: Sequence[Fault] = (),
    prune: bool = False,
) -> Plan:
    """Return what makes a lab what the topology says; `known` are nodes that it had before, running or not.

    `builds` are the keys of what was built for nodes, by their names; those without run packages. With `prune` fake VMs
    that the file does not name go.

    A node that becomes another kind of machine, or gets another machine, is removed and made anew. Nodes that are ended
    by `faults`, or daemons of which are, stay as they are.
    """
    left = left_alone(faults)
    names = [node.name for node in topology.nodes]
    before = {node.name: node for node in known}
    anew = {n.name: why for n in topology.nodes if n.name in before and (why := _becomes(before[n.name], n))}
    gone = [name for name in [*seen.nodes, *before] if name not in names or name in anew]
    rows = seen.rows or ()
    unbind, bind = bindings(topology, seen, rows, prune=prune)
    found = _changes(topology, seen)
    pruned = _pruned(topology, rows, found) if prune else ()
    transit = [switch.name for switch in topology.transit_switches]
    staying = [node for node in topology.nodes if node.name in seen.nodes and node.name not in {*anew, *left}]
    builds = builds or {}
    differing = {node.name: tuple(_differences(topology, node, seen, builds.get(node.name, ""))) for node in staying}
    missing = [name for name in names if (name not in seen.nodes and name not in left) or name in anew]
    unread = seen.rows is None and any(node.central and node.name in left for node in topology.nodes)
    return Plan(
        add={name: _why_added(name, before, anew) for name in missing},
        remove={name: f"it becomes {anew[name]}" if name in anew else GONE for name in gone},
        configure={name: reasons for name, reasons in differing.items() if reasons},
        transit=tuple(name for name in transit if name not in {found.name for found in seen.transit}),
        stale_transit=tuple(
            found.name for found in seen.transit if found.mark == topology.name and found.name not in transit
        ),
        changes=() if unread else (*pruned, *found),
        unbind={name: vms for name, vms in unbind.items() if name not in left},
        bind={name: vms for name, vms in bind.items() if name not in left},
    )


GONE = "the topology does not have it any more"


def _becomes(before: Node, now: Node) -> str:
    """Return what a node is made anew as, empty where it need not be."""
    if before.kind != now.kind:
        return f"a {now.role}"
    return "another machine" if before.hardware != now.hardware else ""


def _why_added(name: str, before: Collection[str], anew: Mapping[str, str]) -> str:
    return f"as {anew[name]}" if name in anew else "it is not running" if name in before else "it is missing"


def daemons(topology: Topology, node: Node) -> list[str]:
    """Return the daemons that a node runs, by the names of their pidfiles."""
    if not node.has_switch:
        return ["ovnsb_relay"] if node.role == "relay" else []
    central = ["ovnnb_db", "ovnsb_db", "ovn-northd"] if node.central else []
    ic_databases = ["ovn_ic_nb_db", "ovn_ic_sb_db"] if has_ic(topology, node) else []
    ic = ["ovn-ic"] if node.central and len(topology.zones) > 1 else []
    controller = ["ovn-controller"] if node.chassis else []
    return [*central, *ic_databases, *ic, "ovsdb-server", "ovs-vswitchd", *controller]


def _differences(topology: Topology, node: Node, seen: LabState, build: str) -> Iterator[str]:
    """Yield how a node differs from the topology."""
    state = seen.nodes[node.name]
    yield from _wrong_software(topology, node, state, build)
    if not node.chassis and "ovn-controller" in state.daemons:
        yield "ovn-controller runs, and it is not a chassis"
    if "ovsdb-server" in state.daemons:
        yield from _wrong_switch(topology, node, seen)
    yield from _wrong_databases(topology, node, state)
    yield from _wrong_arguments(topology, node, state)
    if "ovs-vswitchd" in state.daemons or not node.has_switch:
        yield from _wrong_devices(topology, node, state)
        yield from _wrong_links(topology, node, state)
        yield from _missing_tunnels(topology, node, seen)
    if node.bfd != state.speaks_bfd:
        yield f"it {'does not answer' if node.bfd else 'answers'} BFD"
    wanted = {route.prefix: frozenset(route.nexthops) for route in node.routes}
    for prefix in {*wanted, *state.routes}:
        if wanted.get(prefix) != state.routes.get(prefix):
            via, meant = state.routes.get(prefix), wanted.get(prefix)
            yield f"the route to {prefix} goes {_via(via)} instead of {_via(meant)}"


def _wrong_switch(topology: Topology, node: Node, seen: LabState) -> Iterator[str]:
    """Yield the differences of the switch's own database: keys for ovn-controller, bridges, their NICs, claims."""
    state = seen.nodes[node.name]
    for key, value in external_ids(topology, node).items():
        if state.external_ids.get(key, "") != value:
            yield f"{key} is {state.external_ids.get(key, 'not set')} instead of {value or 'not set'}"
    for key in strange_keys(topology, node, state.external_ids):
        yield f"{key} is {state.external_ids[key]} instead of not set"
    own = ("br-int", "br-eth1") if node.datapath == "netdev" else ("br-int",)
    for bridge in (*own, *(nic.bridge for nic in node.nics)):
        if bridge not in state.bridges:
            yield f"there is no bridge {bridge}"
    for nic, bridge in _nics(node):
        if bridge in state.bridges and state.ports.get(nic) != bridge:
            yield f"{nic} is in {state.ports.get(nic, 'no bridge')} instead of {bridge}"
    for interface in second_claims(topology, seen, node.name):
        yield f"{interface} has the iface-id of a fake VM that another interface is"
    for bridge in _extra_bridges(topology, node, state):
        yield f"there is a bridge {bridge}, of no physical network that it is on"


def _wrong_software(topology: Topology, node: Node, state: NodeState, build: str) -> Iterator[str]:
    """Yield daemons that do not run, or not what they should."""
    if state.build != build:
        yield f"its software is {_build(state.build)} instead of {_build(build)}"
    for daemon in daemons(topology, node):
        if daemon not in state.daemons:
            yield f"{daemon} does not run"
        elif state.daemons[daemon].outdated and state.build == build:
            yield f"{daemon} is of other software"


def _build(key: str) -> str:
    return f"build {key}" if key else "that of the packages"


def _nics(node: Node) -> list[tuple[str, str]]:
    """Return the NICs of a node that belong into a bridge, and that."""
    own = [("eth1", "br-eth1")] if node.datapath == "netdev" else []
    return [*own, *((nic.device, nic.bridge) for nic in node.nics if nic.bridge)]


def second_claims(topology: Topology, seen: LabState, node: str) -> tuple[str, ...]:
    """Return the interfaces of a node that claim a port which the file binds, and which are not the fake VM itself."""
    if node not in seen.nodes:
        return ()
    everywhere = [(name, bound) for name, state in seen.nodes.items() for bound in state.vms]
    found = []
    for bound in seen.nodes[node].vms:
        vm = topology.vm(bound.name)
        others = [(name, other) for name, other in everywhere if other.name == bound.name and other is not bound]
        if (
            vm is not None
            and vm.chassis
            and others
            and (node, bound.port) != (vm.chassis, vm.port)
            and bound.vm is None
        ):
            found.append(bound.port)
    return tuple(found)


def _extra_bridges(topology: Topology, node: Node, state: NodeState) -> list[str]:
    wanted = {nic.bridge for nic in node.nics}
    ours = (name for name, row in state.bridges.items() if row["external_ids"].get("ovnlab") == topology.name)
    return [name for name in ours if name not in wanted]


def _via(hops: frozenset[str] | None) -> str:
    return f"via {', '.join(sorted(hops))}" if hops else "nowhere"


def _wrong_devices(topology: Topology, node: Node, state: NodeState) -> Iterator[str]:
    """Yield devices with another address, MAC or MTU than they should have."""
    wanted = [(nic.carrier, nic.mac, None if nic.dhcp else nic.addresses, 0) for nic in node.nics]
    if node.underlay_device:
        wanted.insert(0, (node.underlay_device, node.mac, (node.cidr,), topology.underlay.mtu))
    for asking in sorted(state.asking - {nic.device for nic in node.nics if nic.dhcp}):
        yield f"{asking} still asks for its address"
    for name, mac, addresses, mtu in wanted:
        device = state.device(name)
        if addresses is not None and sorted(device.addresses) != sorted(addresses):
            found = ", ".join(device.addresses) or "no address"
            yield f"{name} has {found} instead of {', '.join(addresses) or 'none'}"
        if addresses is None and not device.addresses:
            yield f"{name} has no address, and asks for one"
        elif addresses is None and not (told := _told(topology, mac)) <= {ip_of(a) for a in device.addresses}:
            yield f"{name} has {', '.join(device.addresses)}, and OVN would tell it {', '.join(sorted(told))}"
        if mac and device.mac != mac:
            yield f"{name} has MAC {device.mac or 'none'} instead of {mac}"
        if mtu and device.mtu != mtu:
            yield f"{name} {f'has MTU {device.mtu} instead of {mtu}' if device.mtu else 'is down'}"


def _wrong_links(topology: Topology, node: Node, state: NodeState) -> Iterator[str]:
    """Yield NICs in bridges that are down or have another MTU, and kernel routes that somebody removed."""
    if node.underlay_device == "br-eth1" and "eth1" in state.devices:
        mtu = state.device("eth1").mtu
        if mtu != topology.underlay.mtu:
            yield f"eth1 {f'has MTU {mtu} instead of {topology.underlay.mtu}' if mtu else 'is down'}"
    for network, name, address in connected(node):
        own = {ip_of(word) for word in state.device(name).addresses} if state.device(name).mtu else set()
        if address in own and (network, name) not in state.connected:
            yield f"there is no route to {network} by {name}"
    for nic in node.nics:
        if nic.bridge and nic.device in state.devices and not state.device(nic.device).mtu:
            yield f"{nic.device} is down"


def _told(topology: Topology, mac: str) -> set[str]:
    """Return the IPv4 addresses that OVN's DHCP tells a machine by its external port."""
    ports = [port for switch in topology.switches for port in switch.ports if port.type == "external"]
    return {ip for port in ports if port.mac == mac and port.dhcpv4 for ip in port.ips if ":" not in ip}


def _wrong_databases(topology: Topology, node: Node, state: NodeState) -> Iterator[str]:
    """Yield databases that run and that the chassis cannot reach, or that are in no cluster though they should."""
    cluster = len(topology.centrals(node.zone)) > 1
    for daemon, port in (("ovnnb_db", NORTHBOUND), ("ovnsb_db", SOUTHBOUND)):
        if not node.central or daemon not in state.daemons:
            continue
        connection = listening(topology, node, port)
        if connection not in state.connections:
            yield f"{daemon} does not listen at {connection}"
        elif state.connections[connection] != topology.control.probe_interval:
            yield f"{daemon} probes connections every {state.connections[connection]} ms"
        if cluster != (daemon[3:5] in state.clusters):
            yield f"{daemon} is {'no member' if cluster else 'a member'} of a cluster"


def _wrong_arguments(topology: Topology, node: Node, state: NodeState) -> Iterator[str]:
    """Yield servers that were started for other databases, or without the certificates that they should have."""
    found = of_zone(topology, node.zone) if node.zone in topology.zones else None
    told = {
        "ovn-northd": (found.northbound_or_socket, found.southbound_or_socket) if found else (),
        "ovnsb_relay": (remotes(topology, topology.centrals(node.zone), SOUTHBOUND),),
    }
    for name in daemons(topology, node):
        daemon = state.daemons.get(name)
        if daemon is None or not daemon.arguments:
            continue
        said = " ".join(daemon.arguments)
        if not all(word in said for word in told.get(name, ())):
            yield f"{name} was started for other databases"
        threads = [word.partition("=")[2] for word in daemon.arguments if word.startswith("--n-threads=")] or ["1"]
        if name == "ovn-northd" and threads != [str(topology.control.northd_threads)]:
            yield f"ovn-northd was started with {threads[0]} threads instead of {topology.control.northd_threads}"
        if (CERTIFICATE in said) != topology.control.tls:
            yield f"{name} was started with{'' if CERTIFICATE in said else 'out'} the lab's certificates"


def _missing_tunnels(topology: Topology, node: Node, seen: LabState) -> Iterator[str]:
    """Yield the peers that a chassis has no tunnel to, though both run."""
    working = {tunnel.remote_ip for tunnel in seen.nodes[node.name].tunnels if tunnel.working}
    for peer in topology.peers(node):
        known = seen.nodes.get(peer.name)
        there = known is not None and known.external_ids.get("ovn-encap-ip") == peer.ip
        if there and peer.ip not in working:
            yield f"there is no tunnel to {peer.name}"


def bindings(
    topology: Topology, seen: LabState, rows: Sequence[LiveRow], *, prune: bool = False
) -> tuple[dict[str, tuple[BoundVM, ...]], dict[str, tuple[VM, ...]]]:
    """Return which fake VMs leave which node, and which are bound, anew or again, to which.

    A fake VM that the file does not name stays, unless its port is the file's and goes, or with `prune`.
    """
    going = _going(topology, rows)
    unbind: dict[str, list[BoundVM]] = {}
    bind: dict[str, list[VM]] = {}
    staying = {name: state for name, state in seen.nodes.items() if topology.node(name)}
    seen = LabState(staying, rows)
    homes = {vm.name: vm.chassis or next(iter(seen.located(vm.name)), None) for vm in topology.vms}
    for vm in topology.vms:
        home = homes[vm.name]
        if home is not None and not _is_bound_as(vm, seen.nodes.get(home)):
            bind.setdefault(home, []).append(vm)
            if (there := _made_otherwise(vm, seen.nodes.get(home))) is not None:
                unbind.setdefault(home, []).append(there)
    for name, state in seen.nodes.items():
        for bound in state.vms:
            if bound.vm is None:
                continue
            is_named = bound.name in homes
            if homes[bound.name] != name if is_named else prune or bound.name in going:
                unbind.setdefault(name, []).append(bound)
            elif not is_named and not bound.mtu:  # its node was gone meanwhile
                bind.setdefault(name, []).append(bound.vm)
    return _frozen(unbind), _frozen(bind)


def binding_again(first: Plan, again: Plan, before: LabState, now: LabState) -> dict[str, tuple[VM, ...]]:
    """Return what the second of two plans binds, and what was bound before and a switch's new database lacks."""
    there = now.bound() | {vm.name for todo in (first.unbind, again.bind) for vms in todo.values() for vm in vms}
    bind = {name: list(vms) for name, vms in again.bind.items()}
    for name, state in before.nodes.items():
        lost = [found.vm for found in state.vms if found.vm is not None and found.name not in there]
        if lost and name in now.nodes:
            bind.setdefault(name, []).extend(lost)
    return _frozen(bind)


def _changes(topology: Topology, seen: LabState) -> list[Change]:
    """Return what the Northbound database lacks. Where no schema is known, rows in its words are as they should be."""
    rows = seen.rows or ()
    if seen.schema is not None:
        from ovnlab.northbound.hatch import with_schema_rows  # noqa: PLC0415  few files have such rows

        return changes(topology.name, with_schema_rows(topology, wanted(topology), seen.schema), rows)
    return without_schema_rows(topology, changes(topology.name, wanted(topology), rows))


def _going(topology: Topology, rows: Sequence[LiveRow]) -> set[str]:
    """Return the logical switch ports of the lab that the file does not name, and those on a switch that goes."""
    switches = {switch.name for switch in topology.switches}
    foreign = {row.name for row in rows if row.table == "Logical_Switch" and row.mark is None}
    return {
        row.name
        for row in rows
        if row.table == "Logical_Switch_Port"
        and (row.mark == topology.name or (row.by_bind and row.parent not in switches | foreign))
    }


def _pruned(topology: Topology, rows: Sequence[LiveRow], planned: Sequence[Change]) -> Iterator[Change]:
    """Yield what removes the ports that `ovnlab bind` made and the file does not name."""
    named = {port.name for switch in topology.switches for port in switch.ports}
    named.update(change.name for change in planned if change.table == "Logical_Switch_Port")
    yield from (remove(row, "the topology does not name it") for row in rows if row.by_bind and row.name not in named)


def _made_otherwise(vm: VM, state: NodeState | None) -> BoundVM | None:
    """Return what is bound there as a fake VM with other VLAN devices or servers, which must go first."""
    for bound in state.vms if state is not None else ():
        if bound.name == vm.name and bound.more != vm.more:
            return bound
    return None


def _is_bound_as(vm: VM, state: NodeState | None) -> bool:
    return state is not None and any(bound.name == vm.name and bound.is_as(vm) for bound in state.vms)


Item = TypeVar("Item")


def _frozen(bindings: Mapping[str, list[Item]]) -> dict[str, tuple[Item, ...]]:
    return {name: tuple(vms) for name, vms in bindings.items()}
