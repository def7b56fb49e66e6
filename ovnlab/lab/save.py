"""The live lab as a topology file: what its file says, what is bound, and what a person made by hand.

The author's text stays, with comments and order. What a person made is added as ports, routes, NAT rules and ACLs where
these keys mean exactly the same row, and otherwise as `logical.rows`. What no file can say is told.
"""

from __future__ import annotations

import copy
import functools
import io
import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from ovnlab.errors import OvnlabError, TopologyError, UsageError
from ovnlab.lab.lab import Lab, Request
from ovnlab.lab.schemas import northbound_schema
from ovnlab.northbound import live
from ovnlab.northbound.hatch import with_schema_rows
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.ovsschema import WRITTEN, ColumnType, NorthboundSchema
from ovnlab.northbound.rows import MARK, WantedRow, wanted
from ovnlab.northbound.schema import TABLES, holders
from ovnlab.ovsdb.client import listed
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.tasks.probe import NodeState
from ovnlab.topology.addresses import ip_of, is_ip, is_mac
from ovnlab.topology.file_bytes import read
from ovnlab.topology.load import Loaded, apply_settings, load_text
from ovnlab.topology.resolved import NAME, Topology
from ovnlab.topology.source import Source, parse

OF_THE_LAB = ("Connection", "SSL")
"""Tables that say how the databases are reached: `up` of a lab writes them for itself."""

CHOSEN = (
    *("mac_prefix", "max_tunid", "northd_internal_version", "svc_monitor_mac"),
    *("northd_probe_interval", "ic-route-adv", "ic-route-learn"),
)
"""Options of NB_Global that ovn-northd chooses, and those that `up` sets on nodes with databases."""

ROUNDS = 6
"""How often addresses are written into the file until all others are chosen as they are."""

FEW = 20
"""Changes of the file that are tried one by one where they are not valid together."""


class SavedTopology(msgspec.Struct, frozen=True):
    """The text of a topology file, and what is left out of it."""

    text: str
    left_out: tuple[str, ...]


def save(lab: Lab) -> SavedTopology:
    """Return a lab that is up as a topology file.

    Raises OvnlabError where its file is gone, UsageError where the lab is not yet what its file says.
    """
    stored = lab.stored
    if stored is None or not stored.source:
        raise OvnlabError(f"the file that lab {lab.name} was made from is not known")
    lab.require_up()
    try:
        file = _File(Request.again(stored), lab.name)
        loaded = file.load()
    except TopologyError as error:
        hint = f"{lab.folder.up_command()} once that is put right"
        raise OvnlabError(
            f"the file of lab {lab.name}: {error.mistakes[0].message}", where=error.path, hint=hint
        ) from None
    if _names(loaded.topology) != _names(stored.topology):
        hint = f"{lab.folder.up_command()} first"
        raise UsageError(f"lab {lab.name} is not what its file says now", where=stored.source, hint=hint)
    return _Saving(lab, file).saved()


def _names(topology: Topology) -> tuple[object, ...]:
    """Return what a file makes, without addresses."""
    rows = {(row.table, row.name): row.columns for row in topology.schema_rows}
    return {node.name for node in topology.nodes}, {row.key for row in wanted(topology)}, rows


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────


class _File:
    """The data of a topology file, which can be changed and written again."""

    def __init__(self, request: Request, lab: str) -> None:
        content = read(request.path)
        self.path = request.path
        self._loaded: tuple[str, Loaded] | None = None
        source = parse(request.path, content)
        if source.mistakes:
            raise TopologyError(request.path, source.mistakes)
        round_trip = _round_trip(content.decode("utf-8-sig"))
        self.has_comments = round_trip is not None
        self.data: CommentedMap = _unshared(source.data) if round_trip is None else round_trip
        apply_settings(Source(request.path, self.data, {}, {}), request.settings)
        if request.provider is not None:
            self.data["provider"] = request.provider
        if "name" in self.data:
            self.data["name"] = lab
        else:
            self.data.insert(0, "name", lab)

    def text(self) -> str:
        """Return it as YAML."""
        return _dumped(self.data)

    def load(self, name: str | None = None) -> Loaded:
        """Return what it means, as a lab of this name. Raises TopologyError with its mistakes."""
        text = self.text()
        if self._loaded is None or name is not None or self._loaded[0] != text:
            loaded = load_text(self.path, text.encode(), name=name)
            if name is not None:
                return loaded
            self._loaded = (text, loaded)
        return self._loaded[1]

    def part(self, *keys: str) -> CommentedMap:
        """Return a mapping, made where it is not there."""
        here = self.data
        for key in keys:
            found = here.get(key)
            if isinstance(found, str | list):
                found = here[key] = CommentedMap(dict.fromkeys([found] if isinstance(found, str) else found))
            elif not isinstance(found, dict):
                found = here[key] = CommentedMap()
            here = found
        return here

    def find(self, *keys: str) -> Any:
        """Return a value, None where it is not there."""
        here: Any = self.data
        for key in keys:
            here = here.get(key) if isinstance(here, dict) else None
        return here

    def items(self, *keys: str) -> CommentedSeq:
        """Return a list, made where it is not there."""
        parent = self.part(*keys[:-1])
        found = parent.get(keys[-1])
        if isinstance(found, CommentedSeq):
            return found
        made = parent[keys[-1]] = CommentedSeq(listed(found) if found is not None else [])
        return made

    def put(self, keys: Sequence[str], values: Mapping[str, object]) -> None:
        """Give a mapping further values, in one line where it is a new one."""
        parent = self.part(*keys[:-1])
        if not isinstance(parent.get(keys[-1]), dict):
            parent[keys[-1]] = _flow({})
        parent[keys[-1]].update({key: _yaml_value(value) for key, value in values.items()})

    def attempt(self, change: Callable[[], None]) -> bool:
        """Make a change; where the file has mistakes then, take it back and return False."""
        before = copy.deepcopy(self.data)
        try:
            change()
            self.load()
        except OvnlabError:  # there may be no address left, too
            self.data = before
            return False
        return True

    def attempt_all(self, changes: Sequence[Callable[[], None]]) -> None:
        """Make changes, all together where that is valid, otherwise those that are."""

        def make_all() -> None:
            for change in changes:
                change()

        if changes and not self.attempt(make_all) and len(changes) <= FEW:
            for change in changes:
                self.attempt(change)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _dumped(data: CommentedMap) -> str:
    stream = io.StringIO()
    _yaml().dump(data, stream)
    return stream.getvalue()


def _round_trip(text: str) -> CommentedMap | None:
    """Return the data of a text with its comments, None where it cannot be changed and written so.

    What has aliases would be changed in several places at once.
    """
    if any(isinstance(event, AliasEvent) for event in _yaml().parse(text)):
        return None
    data: CommentedMap = _yaml().load(text)
    plain = YAML(typ="safe", pure=True)
    return data if plain.load(_dumped(data)) == plain.load(text) else None


def _unshared(value: Any) -> Any:
    """Return plain data as such that can be written, no part of it in two places."""
    if isinstance(value, dict):
        return CommentedMap({key: _unshared(item) for key, item in value.items()})
    if isinstance(value, list):
        return CommentedSeq([_unshared(item) for item in value])
    return value


def _flow(values: Mapping[str, object]) -> CommentedMap:
    """Return a mapping that is written in one line."""
    found = CommentedMap({key: _yaml_value(value) for key, value in values.items()})
    found.fa.set_flow_style()
    return found


def _yaml_value(value: object) -> object:
    """Return a value as it is written: a MAC address in quotes, for readers to whom 40:44 is a number."""
    if isinstance(value, str) and is_mac(value):
        return DoubleQuotedScalarString(value)
    return [_yaml_value(item) for item in value] if isinstance(value, tuple | list) else value


# ── the difference ───────────────────────────────────────────────────────────────────────────────────────


class _Comparison:
    """The rows of the database that a file makes, and how they differ.

    `pairs` are the rows of the file by the UUIDs of those in the database, `extra` rows that it does not make,
    `missing` those that the database does not have.
    """

    def __init__(self, schema: NorthboundSchema, made: Sequence[WantedRow], rows: Sequence[LiveRow]) -> None:
        self.schema = schema
        self.held = holders()
        self.names = {row.uuid: row.name for row in rows}
        self.pairs: dict[str, WantedRow] = {}
        left = {row.key: row for row in made if row.table in schema.columns}
        for row in sorted(rows, key=lambda row: row.mark is None):
            here = left.get(row.key)
            if row.name and here is not None and here.parent == row.parent:
                self._pair(row, left.pop(row.key))
        alike = {self._content(row, self.wanted_value): row for row in left.values() if _is_unnamed(row)}
        for row in rows:
            if row.uuid not in self.pairs and _is_unnamed(row):
                same = alike.pop(self._content(row, self.live_value), None)
                if same is not None:
                    self._pair(row, left.pop(same.key))
        self.extra = [row for row in rows if row.uuid not in self.pairs and row.table not in OF_THE_LAB]
        self.missing = list(left.values())

    def _pair(self, row: LiveRow, made: WantedRow) -> None:
        self.pairs[row.uuid] = made
        self.names[row.uuid] = made.name

    def _content(self, row: Any, value: Callable[[Any, str], object]) -> str:
        found = {column: value(row, column) for column in self.columns(row)}
        return repr((row.zone, row.table, row.parent, {key: item for key, item in found.items() if _is_set(item)}))

    def columns(self, row: WantedRow | LiveRow) -> list[str]:
        """Return the columns of a row that are compared: neither those that OVN writes nor those that hold rows."""
        written = WRITTEN.get(row.table, set()) - {"tag", "ipv6_prefix"}
        own = {"connections", "ssl", *(("name",) if row.zone else ())} if row.table == "NB_Global" else set()
        left_out = {*written, *own, *self.held.get(row.table, ()), *(("name",) if row.schema.named else ())}
        return [column for column in self.schema.columns[row.table] if column not in left_out]

    def live_value(self, row: LiveRow, column: str) -> object:
        """Return a column of a row of the database, references by name."""
        type_, value = self.schema.columns[row.table][column], row.columns.get(column, ())
        if type_.references:
            value = tuple(self.names.get(uuid, uuid) for uuid in value)
        if (row.table, column) == ("Logical_Switch_Port", "tag") and row.columns.get("tag_request"):
            return ()  # ovn-northd's choice
        if (row.table, column) == ("Logical_Router_Port", "ipv6_prefix") and row.columns["options"].get("prefix"):
            return ()  # what was delegated
        return _canonical(type_, value, row.table, column)

    def wanted_value(self, row: WantedRow, column: str) -> object:
        """Return a column of a row that the file makes."""
        return _canonical(self.schema.columns[row.table][column], row.columns.get(column, ()), row.table, column)

    def differing(self, row: LiveRow) -> Iterator[tuple[str, Any, Any]]:
        """Yield the columns that a row of the file has otherwise in the database, with its value there and here."""
        made = self.pairs[row.uuid]
        for column in self.columns(row):
            there, here = self.live_value(row, column), self.wanted_value(made, column)
            if there != here:
                yield column, there, here


def _is_unnamed(row: WantedRow | LiveRow) -> bool:
    table = row.schema
    return not (table.named or table.index or table.single)


def _is_set(value: object) -> bool:
    return value not in ((), "", False, 0) and value != {}


def _canonical(type_: ColumnType, value: Any, table: str, column: str) -> Any:
    """Return a value as a tuple, a mapping or a scalar, whoever read it, without what is ovnlab's and OVN's own."""
    if type_.value:
        found = dict(sorted(value.items())) if isinstance(value, Mapping) else {}
        if column == "external_ids":
            return {key: item for key, item in found.items() if not str(key).startswith(MARK)}
        if (table, column) == ("NB_Global", "options"):
            return {key: item for key, item in found.items() if key not in CHOSEN}
        return found
    if type_.is_set or type_.references:
        members = value if isinstance(value, tuple) else listed(value)
        return tuple(sorted((member for member in members if member != ""), key=str))
    return {"integer": 0, "boolean": False}.get(type_.key, "") if value in ((), [], None, "") else value


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────


class _Saving:
    """The work of saving one lab."""

    def __init__(self, lab: Lab, file: _File) -> None:
        self.lab, self.file = lab, file
        self.states = lab.states()
        self.schema = self._schema()
        rows = [
            row
            for zone in lab.topology.zones
            for row in live.read(lab.central(zone).context, Databases(zone), self.schema.tables())
        ]
        transit = {row.uuid for row in rows if _is_transit(row)}
        self.rows = [_without_tunnel_key(row, transit) for row in rows if not _is_of_interconnection(row)]
        self.bound = {
            bound.name: (node, bound)
            for node, state in self.states.items()
            for bound in state.vms
            if bound.vm is not None
        }
        self.left_out: list[str] = []
        if not file.has_comments:
            self.left_out.append("comments of a file with aliases")

    def _schema(self) -> NorthboundSchema:
        centrals = [self.lab.central(zone) for zone in self.lab.topology.zones]
        build = self.states.get(centrals[0].name, _NO_STATE).build
        found = northbound_schema(self.lab.base, build, centrals)
        if found is None:
            raise OvnlabError("no database runs that has the schema", hint=f"{self.lab.folder.up_command()} mends that")
        return found

    def saved(self) -> SavedTopology:
        """Return the file."""
        self._drop_what_is_gone()
        self._add_switches_and_ports()
        self._bind()
        self._add_rules()
        self._keep_addresses()
        self._keep_mac_prefix()
        try:
            self._add_rows()
            after = self._compare(self.file.load().topology)
        except TopologyError as error:
            problem = error.mistakes[0].message
            raise OvnlabError(f"lab {self.lab.name} cannot be said in a file: {problem}") from None
        self._tell_what_differs(after)
        return SavedTopology(self.file.text(), tuple(dict.fromkeys(self.left_out)))

    def _compare(self, topology: Topology) -> _Comparison:
        return _Comparison(self.schema, with_schema_rows(topology, wanted(topology), self.schema), self.rows)

    # ── what was removed by hand ─────────────────────────────────────────────────────────────────────

    def _drop_what_is_gone(self) -> None:
        loaded = self.file.load()
        gone = self._compare(loaded.topology).missing
        self.file.attempt_all([change for row in gone if (change := self._removal(loaded, row)) is not None])
        self.file.attempt_all(list(self._balancer_removals()))

    def _balancer_removals(self) -> Iterator[Callable[[], None]]:
        """Yield what takes a switch or router out of load balancers that somebody took off it."""
        compared = self._compare(self.file.load().topology)
        for row in self.rows:
            key = {"Logical_Switch": "switches", "Logical_Router": "routers"}.get(row.table)
            if key is None or row.uuid not in compared.pairs:
                continue
            for column, there, here in compared.differing(row):
                for name in set(here).difference(there) if column == "load_balancer" else ():
                    yield functools.partial(self._take_off, name, key, row.name)

    def _take_off(self, balancer: str, key: str, owner: str) -> None:
        items = self.file.items("logical", "load_balancers", balancer, key)
        if owner in items:
            items.remove(owner)

    def _removal(self, loaded: Loaded, row: WantedRow) -> Callable[[], None] | None:
        """Return what takes out of the file what makes a row, None where there is nothing of its own."""
        network, parent = loaded.model.logical, row.parent or ""
        match row.table:
            case "Logical_Switch":
                return lambda: self._pop(row.name, "switches")
            case "Logical_Router":
                return lambda: self._pop(row.name, "routers")
            case "Logical_Switch_Port":
                return lambda: self._pop(row.name, "switches", parent, "ports")
            case "Logical_Router_Port":
                return lambda: self._pop(row.name.removeprefix(f"{parent}-"), "routers", parent, "ports")
            case "Load_Balancer":
                return lambda: self._pop(row.name, "load_balancers")
            case "Port_Group":
                return lambda: self._pop(row.name, "port_groups")
            case "Address_Set":
                return lambda: self._pop(row.name, "address_sets")
            case "ACL":
                return self._item_removal([acl.row_name == row.name for acl in network.acls], "acls")
            case "QoS":
                names = [f"{rule.switch} {rule.direction} {rule.priority} {rule.match}" for rule in network.qos]
                return self._item_removal([name == row.name for name in names], "qos")
            case "NAT" if parent in network.routers:
                found = [nat.row_name(parent) == row.name for nat in network.routers[parent].nat]
                return self._item_removal(found, "routers", parent, "nat")
            case "Logical_Router_Static_Route" if parent in network.routers:
                routes = network.routers[parent].routes
                found = [row.name in [route.row_name(parent, hop) for hop in route.nexthop] for route in routes]
                return self._item_removal(found, "routers", parent, "routes")
        if row.name in (self.file.find("logical", "rows", row.table) or ()):
            return lambda: self._pop_row(row.table, row.name)
        return None

    def _pop(self, name: str, *keys: str) -> None:
        part = self.file.find("logical", *keys)
        if isinstance(part, dict):
            part.pop(name, None)

    def _pop_row(self, table: str, name: str) -> None:
        """Take a row out of `logical.rows`, and out of the columns that refer to it."""
        self._pop(name, "rows", table)
        for other, rows in self.file.find("logical", "rows").items():
            for columns in filter(None, (rows or {}).values()):
                for column in [key for key in columns if self.schema.columns[other][key].references == table]:
                    kept = [item for item in listed(columns[column]) if item != name]
                    if kept:
                        columns[column] = kept
                    else:
                        del columns[column]

    def _item_removal(self, found: Sequence[bool], *keys: str) -> Callable[[], None] | None:
        if True not in found:
            return None
        items = self.file.items("logical", *keys)
        item = items[found.index(True)]

        def remove() -> None:
            here = self.file.items("logical", *keys)
            place = next((number for number, other in enumerate(here) if other == item), None)
            if place is not None:
                del here[place]

        return remove

    # ── what was made by hand, as keys of the file ───────────────────────────────────────────────────

    def _add_switches_and_ports(self) -> None:
        extra = self._compare(self.file.load().topology).extra
        switches = [row for row in extra if row.table == "Logical_Switch" and NAME.fullmatch(row.name)]
        self.file.attempt_all([functools.partial(self._add_switch, row) for row in switches])
        ports = [row for row in extra if row.table == "Logical_Switch_Port" and self._is_plain(row)]
        self.file.attempt_all([functools.partial(self._add_port, row) for row in ports])

    def _add_switch(self, row: LiveRow) -> None:
        ports = {port.name for port in self.rows if port.belongs is not None and port.belongs.uuid == row.uuid}
        bound = [bound for name, (_, bound) in self.bound.items() if name in ports]
        interfaces = [ipaddress.ip_interface(word) for found in bound for word in (found.vm or found).addresses]
        subnets = {found.version: str(found.network) for found in interfaces if found.network.num_addresses > 1}
        zone = {"zone": row.zone} if row.zone else {}
        self.file.put(("logical", "switches", row.name), {**zone, **_one_or_more("subnet", list(subnets.values()))})

    def _is_plain(self, row: LiveRow) -> bool:
        """Return True for a port that keys of the file can name: one with a MAC and IPs, or a fake VM's."""
        is_one = not (row.columns["type"] or row.columns["parent_name"]) and NAME.fullmatch(row.name) is not None
        has_addresses = _mac_and_ips(row) is not None or row.name in self.bound
        return is_one and has_addresses and self._has("switches", row.parent or "")

    def _add_port(self, row: LiveRow) -> None:
        vm = self.bound[row.name][1].vm if row.name in self.bound else None
        of_vm = (vm.mac, [ip_of(word) for word in vm.addresses]) if vm is not None else ("", [])
        mac, ips = _mac_and_ips(row) or of_vm
        keys = ("logical", "switches", row.parent or "", "ports", row.name)
        self.file.put(keys, {"mac": mac, **_one_or_more("ip", ips)})

    def _bind(self) -> None:
        """Write the chassis of each fake VM, and none where it is bound to none."""
        topology = self.file.load().topology
        switches = {vm.name: switch.name for switch in topology.switches for vm in switch.vms}
        for vm in topology.vms:
            keys = ("logical", "switches", switches[vm.name], "ports", vm.name)
            node = self.bound[vm.name][0] if vm.name in self.bound else None
            if node is not None and node != vm.chassis:
                self.file.put(keys, {"chassis": node})
            elif node is None and vm.chassis in self.states:
                self.file.part(*keys).pop("chassis", None)
        for name, (node, _) in self.bound.items():
            if name not in switches:
                self.left_out.append(f"fake VM {name} is bound to {node}, and its port cannot be said as a fake VM's")

    def _add_rules(self) -> None:
        """Add routes, NAT rules and ACLs; those that would make another row are taken out again."""
        extra = self._compare(self.file.load().topology).extra
        rules = {row.uuid: rule for row in extra if (rule := self._rule(row)) is not None}
        self.file.attempt_all([functools.partial(self._add_rule, *rule) for rule in rules.values()])
        exact = self._compare(self.file.load().topology).pairs if rules else {}
        for uuid, (keys, values) in rules.items():
            items = self.file.find(*keys)
            if uuid in exact or not isinstance(items, list) or values not in items:
                continue
            items.remove(values)
            if not items:
                self.file.part(*keys[:-1]).pop(keys[-1])

    def _add_rule(self, keys: tuple[str, ...], values: Mapping[str, object]) -> None:
        self.file.items(*keys).append(_flow(values))

    def _rule(self, row: LiveRow) -> tuple[tuple[str, ...], dict[str, object]] | None:
        """Return where a route, NAT rule or ACL is in the file, and what it says; None for one that needs more."""
        columns, parent = row.columns, row.parent or ""
        values: dict[str, object]
        match row.table:
            case "Logical_Router_Static_Route" if self._has("routers", parent) and columns["policy"]:
                values = {"prefix": columns["ip_prefix"], "nexthop": columns["nexthop"], "policy": columns["policy"][0]}
                if columns["output_port"]:
                    values["port"] = columns["output_port"][0].removeprefix(f"{parent}-")
                return ("logical", "routers", parent, "routes"), values
            case "NAT" if self._has("routers", parent) and not columns["logical_port"]:
                values = {"type": columns["type"], "external": columns["external_ip"], "logical": columns["logical_ip"]}
                if columns["options"].get("stateless") == "true":
                    values["stateless"] = True
                return ("logical", "routers", parent, "nat"), values
            case "ACL" if row.belongs is not None:
                on_switch = row.belongs.table == "Logical_Switch"
                if not self._has("switches" if on_switch else "port_groups", parent):
                    return None
                values = {"switch" if on_switch else "port_group": parent}
                values.update({name: columns[name] for name in ("direction", "priority", "match", "action")})
                values.update({name: columns[name][0] for name in ("name", "severity") if columns[name]})
                return ("logical", "acls"), {**values, **({"log": True} if columns["log"] else {})}
        return None

    def _has(self, kind: str, name: str) -> bool:
        return self.file.find("logical", kind, name) is not None or name in (self.file.find("logical", kind) or ())

    # ── addresses ────────────────────────────────────────────────────────────────────────────────────

    def _keep_addresses(self) -> None:
        """Write the addresses that were chosen for the lab and that its file does not give, or not always."""
        for _ in range(ROUNDS):
            loaded = self.file.load()
            paired = {made.key: uuid for uuid, made in self._compare(loaded.topology).pairs.items()}
            rows = {row.uuid: row for row in self.rows}
            here = {key: rows[uuid] for key, uuid in paired.items()}
            before = self.file.text()
            self._keep_ports(loaded, here)
            self._keep_routers(loaded, here)
            for node in loaded.topology.nodes:
                was = self.lab.topology.node(node.name)
                if was is not None and was.ip != node.ip:
                    self.file.put(("nodes", node.name), {"ip": was.ip})
            if self.file.text() == before:
                return

    def _keep_mac_prefix(self) -> None:
        """Write the prefix of the MAC addresses that OVN gives to ports itself, where there are such."""
        given = [word for row in self.rows if row.table == "Logical_Switch_Port" for word in row.columns["addresses"]]
        chosen = next((row.columns["options"].get("mac_prefix") for row in self.rows if row.table == "NB_Global"), None)
        if chosen and any("dynamic" in word.split() for word in given):
            self.file.put(("logical", "nb_global"), {"mac_prefix": chosen})

    def _keep_ports(self, loaded: Loaded, here: Mapping[tuple[str, str, str], LiveRow]) -> None:
        for switch in loaded.topology.switches:
            for port in switch.ports:
                given = loaded.model.logical.switches[switch.name].ports.get(port.name)
                row = here.get((switch.zone, "Logical_Switch_Port", port.name))
                found = _mac_and_ips(row) if row is not None else None
                if given is None or found is None or given.addresses:
                    continue
                mac, ips = found
                values: dict[str, object] = {"mac": mac} if given.mac != mac and not given.host else {}
                if ips and list(port.ips) != ips:
                    values.update(_one_or_more("ip", ips))
                if values:
                    self.file.put(("logical", "switches", switch.name, "ports", port.name), values)

    def _keep_routers(self, loaded: Loaded, here: Mapping[tuple[str, str, str], LiveRow]) -> None:
        for router in loaded.topology.routers:
            given = loaded.model.logical.routers[router.name]
            for port in router.ports:
                row = here.get((router.zone, "Logical_Router_Port", port.name))
                if row is not None and given.ports[port.switch].mac != row.columns["mac"]:
                    keys = ("logical", "routers", router.name, "ports", port.switch)
                    self.file.put(keys, {"mac": row.columns["mac"]})
            for number, nat in enumerate(given.nat):
                row = here.get((router.zone, "NAT", nat.row_name(router.name)))
                if row is not None and nat.port and row.columns["external_mac"] and not nat.mac:
                    item = self.file.items("logical", "routers", router.name, "nat")[number]
                    item["mac"] = _yaml_value(row.columns["external_mac"][0])

    # ── everything else, in the words of the schema ──────────────────────────────────────────────────

    def _add_rows(self) -> None:
        own = self.file.load()
        name = "another" if self.lab.name != "another" else "other"
        again = self._compare(self.file.load(name).topology)  # with what depends on the name of the lab
        mine = self._compare(own.topology)
        keys = self._keys(own.topology)
        self._name_extra(again, keys)
        for row in self.rows:
            if row.uuid in again.pairs:
                of_host = self._is_of_host(own, row)
                self._add_columns(row, mine if of_host else again, keys)
        for row in again.extra:
            if row.uuid in keys.sayable:
                self._add_row(row, again, keys)

    def _is_of_host(self, loaded: Loaded, row: LiveRow) -> bool:
        """Return True for a port with the MAC address of a host's NIC, which is another one in another lab."""
        switch = loaded.model.logical.switches.get(row.parent or "")
        port = switch.ports.get(row.name) if switch and row.table == "Logical_Switch_Port" else None
        return port is not None and port.host is not None

    def _keys(self, topology: Topology) -> _Keys:
        """Return the keys that the rows of the file have in `logical.rows` where these are not their names."""
        tables, found = self.schema.tables(), _Keys({}, set(), set())
        for row in topology.schema_rows:
            index = tables[row.table].index if row.table in tables else ()
            if index:
                words = [str(row.columns.get(column, "")) for column in index]
                found.by_name[row.table, " ".join(words)] = row.name
        return found

    def _name_extra(self, comparison: _Comparison, keys: _Keys) -> None:
        """Give each row that the file does not make a name there, and tell those that cannot be in it."""
        order = list(self.schema.tables())
        taken = keys.known
        taken.update((made.table, made.name) for made in (*comparison.pairs.values(), *comparison.missing))
        for row in sorted(comparison.extra, key=lambda row: order.index(row.table)):
            parent = comparison.names.get(row.belongs.uuid, "") if row.belongs else ""
            name = row.name
            if _is_unnamed(row) and (not name or (row.table, name) in taken):
                base, number = parent or row.table.lower(), 1
                while (row.table, name := f"{base}-{number}") in taken:
                    number += 1
            problem = ""
            if not name:
                problem = "it has no name"
            elif (row.table, name) in taken:
                problem = "there are several of that name"
            elif row.belongs is None and row.zone != self.lab.topology.zones[0]:
                problem = f"it is in zone {row.zone}"
            elif row.belongs is not None and not (
                row.belongs.uuid in comparison.pairs or row.belongs.uuid in keys.sayable
            ):
                problem = "what it belongs to is left out"
            if problem:
                self.left_out.append(f"{_kind(row)} {name or row.uuid}: {problem}")
                comparison.names[row.uuid] = ""
                continue
            taken.add((row.table, name))
            comparison.names[row.uuid] = name
            keys.sayable.add(row.uuid)

    def _add_columns(self, row: LiveRow, comparison: _Comparison, keys: _Keys) -> None:
        """Add the columns and keys of a row of the file that it does not name, or otherwise."""
        made = comparison.pairs[row.uuid]
        place = ("logical", "rows", row.table, keys.of(row.table, made.name))
        for column, there, here in comparison.differing(row):
            type_ = self.schema.columns[row.table][column]
            given = self.file.find(*place, column)
            is_partial, value = isinstance(there, dict) or column in row.schema.many, there
            if isinstance(there, dict):
                kept = {key: item for key, item in given.items() if key in there} if isinstance(given, dict) else {}
                value = {**kept, **{key: item for key, item in there.items() if here.get(key) != item}}
            elif is_partial:
                names = keys.all_of(type_.references, there)
                kept_names = [name for name in ([] if given is None else listed(given)) if name in names]
                value = [*kept_names, *keys.all_of(type_.references, [name for name in there if name not in here])]
            elif type_.references:
                value = keys.all_of(type_.references, there)
            if value or given is not None or not is_partial:
                self.file.put(place, {column: _written(type_, value)})

    def _add_row(self, row: LiveRow, comparison: _Comparison, keys: _Keys) -> None:
        """Add a row that a person made, and its name to what it belongs to."""
        name = comparison.names[row.uuid]
        values = {}
        for column in comparison.columns(row):
            type_, value = self.schema.columns[row.table][column], comparison.live_value(row, column)
            if type_.references and isinstance(value, tuple):
                value = tuple(keys.all_of(type_.references, value))
            if _is_set(value):
                values[column] = _written(type_, value)
        self.file.put(("logical", "rows", row.table, name), values)
        if row.belongs is not None:
            holder = keys.of(row.belongs.table, comparison.names[row.belongs.uuid])
            place = ("logical", "rows", row.belongs.table, holder)
            before = self.file.find(*place, row.belongs.column)
            self.file.put(place, {row.belongs.column: [*([] if before is None else listed(before)), name]})

    def _tell_what_differs(self, after: _Comparison) -> None:
        """Note in what a lab of the file would be another one."""
        mentioned, extra = " ".join(self.left_out), {row.uuid for row in after.extra}
        for row in self.rows:
            if row.uuid in after.pairs:
                for column, there, here in after.differing(row):
                    what = f"{_kind(row)} {after.names[row.uuid]}: {column}"
                    self.left_out.append(f"{what} is {_shown(there)}, and the file makes it {_shown(here)}")
            elif row.uuid in extra and (row.name or row.uuid) not in mentioned:
                self.left_out.append(f"{_kind(row)} {row.name or row.uuid}: the file cannot say it")
        for made in after.missing:
            self.left_out.append(f"{_kind(made)} {made.name}: the database does not have it, and the file makes it")


class _Keys(msgspec.Struct):
    """The keys of rows in `logical.rows`.

    `by_name` has those that are not their names, `known` all rows of the file, `sayable` the UUIDs of further rows that
    can be added there.
    """

    by_name: dict[tuple[str, str], str]
    sayable: set[str]
    known: set[tuple[str, str]]

    def of(self, table: str, name: str) -> str:
        """Return the key of a row of a table by its name in the database."""
        return self.by_name.get((table, name), name)

    def all_of(self, table: str, names: Sequence[str]) -> list[str]:
        """Return the keys of the rows that the file has."""
        return [self.of(table, name) for name in names if (table, name) in self.known]


def _mac_and_ips(row: LiveRow) -> tuple[str, list[str]] | None:
    """Return the addresses of a port that has one MAC and its IPs, None for any other."""
    addresses: Sequence[str] = row.columns["addresses"]
    words = addresses[0].split() if len(addresses) == 1 else []
    if words and is_mac(words[0]) and all(map(is_ip, words[1:])):
        return words[0], words[1:]
    return None


def _one_or_more(key: str, values: Sequence[str]) -> dict[str, object]:
    """Return a key with a value alone, with a list of several, or none."""
    return {} if not values else {key: values[0] if len(values) == 1 else list(values)}


def _written(type_: ColumnType, value: Any) -> Any:
    """Return a value of a column as the file has it: one that there is at most one of without a list."""
    if isinstance(value, tuple | list):
        return value[0] if len(value) == 1 and type_.at_most == 1 else list(value)
    return value


def _is_of_interconnection(row: LiveRow) -> bool:
    """Return True for a row that ovn-ic makes (ovn-ic(8))."""
    return (
        (row.table == "Logical_Switch_Port" and row.columns["type"] == "remote")
        or _is_transit(row)
        or any(str(key).startswith("ic-") for key in row.columns["external_ids"])
    )


def _is_transit(row: LiveRow) -> bool:
    """Return True for a transit switch (ovn-nb(5), Logical_Switch)."""
    return row.table == "Logical_Switch" and "interconn-ts" in row.columns["other_config"]


def _without_tunnel_key(row: LiveRow, transit: Collection[str]) -> LiveRow:
    """Return a row without the tunnel key that ovn-ic gives to a port of a transit switch."""
    if row.table != "Logical_Switch_Port" or row.belongs is None or row.belongs.uuid not in transit:
        return row
    options = {key: value for key, value in row.columns["options"].items() if key != "requested-tnl-key"}
    return msgspec.structs.replace(row, columns={**row.columns, "options": options})


def _kind(row: WantedRow | LiveRow) -> str:
    return TABLES[row.table].kind if row.table in TABLES else row.table


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "not set"
    return ", ".join(map(str, value)) or "not set" if isinstance(value, tuple) else str(value) or "not set"


_NO_STATE = NodeState({}, {}, {}, (), (), {}, {})
