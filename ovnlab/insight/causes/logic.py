"""The logical network: what differs from the file, what is there twice, and how far ovn-northd and chassis follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ovnlab.insight.causes.finding import LIKELY, Cause, Evidence, Finding
from ovnlab.insight.file_drift import ENABLING, disabled_by_file
from ovnlab.insight.snapshot import LabSnapshot
from ovnlab.northbound.change import Change
from ovnlab.northbound.live import LiveRow
from ovnlab.northbound.schema import TABLES
from ovnlab.topology.addresses import ip_of

KEYS = {
    "Logical_Switch": "switch",
    "Logical_Router": "router",
    "Logical_Switch_Port": "vm",
    "Load_Balancer": "balancer",
}


def _find(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    del evidence
    for change in snapshot.plan.changes if snapshot.plan else ():
        yield _change(snapshot, change)
    yield from _twins(snapshot)
    yield from _disabled(snapshot)


def _change(snapshot: LabSnapshot, change: Change) -> Finding:
    """Return one row that `up` would add, change or remove: somebody changed it by hand, or the file is another one
    now.
    """
    kind = TABLES[change.table].kind
    said = {"add": "is missing", "remove": "is not in the file", "change": f"is not as the file says: {change.reason}"}
    row = next(
        (r for r in snapshot.rows if r.table == change.table and r.name == change.name and r.zone == change.zone), None
    )
    owner = row.belongs if row is not None else None
    names = {change.name, *change.name.split(), *([owner.name] if owner else [])}
    effects = []
    for vm in snapshot.topology.vms:
        if vm.name in names:
            effects += [f"vm {vm.name}", f"size vm {vm.name}", f"claim {vm.name}"]
    effects += [
        f"router {router.name}" for router in snapshot.topology.routers if _mentions(change.name, names, router.name)
    ]
    effects += [
        f"switch {switch.name}" for switch in snapshot.topology.switches if _mentions(change.name, names, switch.name)
    ]
    effects += [f"balancer {balancer.name}" for balancer in snapshot.topology.load_balancers if balancer.name in names]
    if change.verb == "add":
        effects.append(f"refers {change.name}")
    broad = change.table in (
        "ACL",
        "QoS",
        "Port_Group",
        "Address_Set",
        "DHCP_Options",
        "DNS",
        "NAT",
        "Gateway_Chassis",
        "HA_Chassis",
    )
    return Finding(
        "northbound-drift",
        f"{kind} {change.name}",
        f"{said.get(change.verb, change.verb)} (changed by hand, or the file has changed)",
        (f"ovnlab up --dry-run: {change}",),
        "ovnlab up",
        keys=frozenset({f"drift {change.table} {change.name}", *(f"refers {word}" for word in change.reason.split())}),
        drift=(str(change),),
        effects=() if broad else tuple(effects),
        may=(*effects, *(("pair *",) if broad else ())),
    )


def _mentions(text: str, names: set[str], name: str) -> bool:
    return name in names or f"{name} " in f"{text} " or f"{name}-" in text or f"-{name}" in text


def _twins(snapshot: LabSnapshot) -> Iterator[Finding]:
    """Yield ports of one switch with the same MAC or IP address."""
    having: dict[tuple[str, str, str], list[LiveRow]] = defaultdict(list)
    peers = {
        str(row.columns["options"].get("router-port", "")): row.parent or ""
        for row in snapshot.rows
        if row.table == "Logical_Switch_Port"
    }
    for row in snapshot.rows:
        if row.table == "Logical_Switch_Port" and not row.columns["type"]:
            for entry in row.columns["addresses"]:
                for word in entry.split():
                    if word not in ("unknown", "dynamic", "router"):
                        having[row.zone, row.parent or "", word.lower()].append(row)
        elif row.table == "Logical_Router_Port" and row.name in peers:
            for word in (row.columns["mac"], *(ip_of(network) for network in row.columns["networks"])):
                having[row.zone, peers[row.name], str(word).lower()].append(row)
    told: dict[tuple[str, ...], tuple[list[str], list[LiveRow], str]] = {}
    for (_, switch, word), rows in having.items():
        if len({row.uuid for row in rows}) > 1:
            key = tuple(sorted({row.uuid for row in rows}))
            told.setdefault(key, ([], rows, switch))[0].append(word)
    for words, rows, switch in told.values():
        names = list(dict.fromkeys(row.name for row in rows))
        yield Finding(
            "twin-address",
            f"ports {' and '.join(names)} of {switch}",
            f"have the same address {', '.join(words)}",
            tuple(
                f"{row.table} {row.name}: {'; '.join(row.columns.get('addresses', ())) or row.columns.get('mac', '')}"
                for row in rows
            ),
            f"ovnlab nbctl lsp-set-addresses {names[-1]} …",
            keys=frozenset(f"twin {name}" for name in names),
            effects=tuple(key for name in names for key in (f"vm {name}", f"size vm {name}")),
        )


def _disabled(snapshot: LabSnapshot) -> Iterator[Finding]:
    """Yield routers, their ports, and the switch ports that join them, that somebody disabled (ovn-nb(5), enabled)."""
    meant = disabled_by_file(snapshot.topology)
    peers = {f"{row.name}": row.parent or "" for row in snapshot.rows if row.table == "Logical_Router_Port"}
    for row in snapshot.rows:
        if row.table not in ENABLING or tuple(row.columns.get("enabled", ())) != (False,) or row.name in meant:
            continue
        router = row.name if row.table == "Logical_Router" else row.parent or ""
        if row.table == "Logical_Switch_Port":
            router = peers.get(str(row.columns["options"].get("router-port", "")), "")
            if row.columns["type"] != "router":  # of fake VMs it is told with their claims
                continue
        yield Finding(
            "disabled",
            f"{TABLES[row.table].kind} {row.name}",
            "is disabled: OVN drops all that comes to it",
            (f"{row.table} {row.uuid[:8]} enabled=false",),
            f"ovnlab nbctl {ENABLING[row.table].format(name=row.name)}",
            keys=frozenset({f"disabled {row.name}"}),
            effects=(f"router {router}", f"gateway {router}"),
            drift=(f"change {TABLES[row.table].kind} {row.name}",),
        )


CAUSE = Cause(
    name="logic",
    title="The logical network is not what the file says, or contradicts itself",
    reads="the Northbound database against the file (what `ovnlab up --dry-run` says), and its ports with each other",
    certainty="certain",
    explains="pairs of the port, switch or router that differs",
    remedy="ovnlab up",
    find=_find,
)


def _find_lag(snapshot: LabSnapshot, evidence: Evidence) -> Iterator[Finding]:
    """Find what lags behind, by nb_cfg of NB_Global, SB_Global and Chassis_Private (ovn-nb(5), ovn-sb(5))."""
    del evidence
    for name, zone in snapshot.zones.items():
        centrals = ", ".join(node.name for node in snapshot.topology.centrals(name))
        if zone.northbound and zone.southbound and zone.translated < zone.wanted:
            yield Finding(
                "northd-behind",
                f"ovn-northd on {centrals}",
                f"is behind: the Northbound database is at {zone.wanted}, its own at {zone.translated}",
                (f"NB_Global nb_cfg={zone.wanted}, SB_Global nb_cfg={zone.translated}",),
                f"ovnlab logs {centrals.split(',')[0]} ovn-northd",
                certainty=LIKELY,
                keys=frozenset({"lag northd"}),
                effects=("logic",),
                may=("pair *",),
            )
        late = {row["name"]: row["nb_cfg"] for row in zone.table("Chassis_Private") if row["nb_cfg"] < zone.translated}
        for chassis, reached in late.items():
            if snapshot.topology.node(chassis) is None or chassis not in zone.chassis:
                continue
            yield Finding(
                "chassis-behind",
                f"ovn-controller on {chassis}",
                f"is behind: it is at {reached}, the Southbound database at {zone.translated}",
                (f"Chassis_Private {chassis} nb_cfg={reached}, SB_Global nb_cfg={zone.translated}",),
                f"ovnlab logs {chassis} ovn-controller",
                certainty=LIKELY,
                keys=frozenset({f"lag {chassis}"}),
                may=(f"node {chassis}",),
            )


LAG = Cause(
    name="lag",
    title="ovn-northd or a chassis that does not keep up",
    reads="nb_cfg of NB_Global, SB_Global and Chassis_Private",
    certainty="likely: it may catch up",
    explains="pairs through the chassis; behind ovn-northd: any",
    remedy="the log of the daemon says more",
    find=_find_lag,
)
