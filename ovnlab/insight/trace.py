"""One packet, three times: what OVN means to do with it, what the switches do with it, and what is seen of it.

The first is ovn-trace's word, the second ofproto/trace's on each chassis of the way, the third one real packet that is
sent and captured where it has to pass. Where they do not agree, the first place is told where they part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ovnlab.errors import OvnlabError
from ovnlab.insight import logical, openflow, probing
from ovnlab.insight.logical import CONNECTIONS, LogicalTrace, Section, Stage
from ovnlab.insight.lookup import Look, Zone, look
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.observing import ARRIVAL_TIMEOUT, Hop, Watch, is_answer, observe, watches
from ovnlab.insight.openflow import PhysicalTrace
from ovnlab.insight.packets import packet
from ovnlab.insight.path import Leg, legs
from ovnlab.insight.question import Question, Wish, question
from ovnlab.northbound.live import LiveRow
from ovnlab.topology.resolved import Acl, Topology
from ovnlab.waiting import CLOCK

_RESIDENT = re.compile(r'is_chassis_resident\("([^"]+)"\)')

MOST_BACKENDS = 8
"""Backends of a load balancer that are listened at; another may be chosen, which is then told as not seen."""


@dataclass(frozen=True)
class Physical:
    """What the switch of a chassis does, beside what OVN means to be done there.

    `missing` are the logical flows that should have matched there and did not, in order; `followed` is false where
    ofproto/trace could not tell to the end, and `reason` says why.
    """

    leg: Leg
    trace: PhysicalTrace
    missing: tuple[str, ...] = ()
    followed: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """The stage that ended a packet's way: the logical flow, the Northbound row that it is of, its line in the file."""

    chassis: str
    datapath: str
    pipeline: str
    stage: Stage
    row: LiveRow | None = None
    place: str = ""

    @property
    def title(self) -> str:
        """What decided, in words."""
        if self.row is None:
            return f"{self.stage.name} of {self.datapath}"
        kind = self.row.table.replace("_", " ").lower() if self.row.table != "ACL" else "ACL"
        name = self.row.columns.get("name") or ()
        named = f" {next(iter(name))}" if name and not isinstance(name, str) else f" {name}" if name else ""
        return f"{kind}{named} {self.row.uuid[:8]}"


@dataclass(frozen=True)
class Trace:
    """All of it. `outcome` is delivered, answered (it came back, as an answer), or dropped; `agrees` the verdict."""

    question: Question
    logical: LogicalTrace
    legs: tuple[Leg, ...]
    physical: tuple[Physical, ...]
    hops: tuple[Hop, ...]
    outcome: str
    decision: Decision | None
    sent: bool
    notes: tuple[str, ...]
    look: Look = field(repr=False)

    @property
    def expected(self) -> TunnelNames | None:
        """The header of the first tunnel that it has to take."""
        return next((leg.tunnel for leg in self.legs if leg.tunnel), None)

    @property
    def observed(self) -> TunnelNames | None:
        """The header of the first tunnel that it was seen in."""
        return next((hop.tunnel for hop in self.hops if hop.tunnel), None)


def trace(
    seen: Look, wish: Wish, *, send: bool = True, from_chassis: bool = False, logical_only: bool = False
) -> Trace:
    """Trace one packet; `logical_only` asks no switch, and sends nothing.

    Raises what `question` raises, and UsageError for what ovn-trace rejects.
    """
    asked = question(seen, wish)
    if not logical_only and not asked.chassis:
        hint = f"ovnlab bind {asked.source.name} NODE, or --logical for what OVN would do"
        raise OvnlabError("is not bound to a node: nothing can be sent from it", where=asked.source.name, hint=hint)
    notes = list(_northd(seen, asked))
    meant = _meant(asked)
    frame = None if logical_only else probing.frame(asked)
    if meant.asks_for_mac and send and frame is not None:
        # It asks for the MAC address, and learns it from the answer: what is traced is the way that comes after that.
        seen, meant, learnt = _after_learning(seen, asked, meant, frame, from_chassis=from_chassis)
        notes.append(learnt)
    if frame is None and not logical_only:
        notes.append("no packet can be made of that expression: nothing is sent, and the switches are not asked")
    plans = [_planned(seen, asked, one) for one in _alternatives(seen, asked, meant)]
    chosen = plans[0]
    hops = tuple(watch.hop for watch in chosen.watches)
    if send and frame is not None:
        everywhere = tuple(dict.fromkeys(watch for one in plans for watch in one.watches))
        observed = observe(seen, asked, frame, everywhere, from_chassis=from_chassis)
        chosen = next((one for one in plans if one.goal in observed and observed[one.goal].seen), chosen)
        hops = tuple(observed[watch] for watch in chosen.watches if watch in observed)
    way = chosen.legs
    done = _realised(seen, asked, way, frame) if frame is not None else ()
    notes += [f"not understood of ovn-trace: {line}" for line in meant.unread]
    notes += [f"{one.leg.chassis}: {one.reason}" for one in done if one.reason]
    notes += [f"not understood of ofproto/trace: {line}" for one in done for line in one.trace.not_understood]
    outcome, decision = _outcome(seen, asked, chosen.meant, way)
    sent = send and frame is not None
    return Trace(asked, chosen.meant, way, done, hops, outcome, decision, sent, tuple(notes), seen)


@dataclass(frozen=True)
class _Planned:
    """One way that OVN may mean a packet to take, and where it is to be seen on it."""

    meant: LogicalTrace
    legs: tuple[Leg, ...]
    watches: tuple[Watch, ...]

    @property
    def goal(self) -> Watch | None:
        """Where it ends."""
        return next((watch for watch in reversed(self.watches) if watch.hop.wanted), None)


def _planned(seen: Look, asked: Question, meant: LogicalTrace) -> _Planned:
    way = legs(meant.sent, asked.zone.names, asked.chassis)
    for _ in list(seen.zones)[1:]:  # each may hand it on to one where it was not yet
        beyond = _beyond(seen, asked, meant, way)
        if beyond is None:
            break
        meant, way = beyond
    else:
        if len(way) > 1 and any(output.type == "remote" for section in way[-1].sections for output in section.outputs):
            way = way[:-1]  # an answer that goes back to a zone where the packet has been
    return _Planned(meant, way, tuple(watches(seen, asked, way, meant)))


def _beyond(
    seen: Look, asked: Question, meant: LogicalTrace, way: Sequence[Leg]
) -> tuple[LogicalTrace, tuple[Leg, ...]] | None:
    """What becomes of a packet that goes to a port of a transit switch in another zone; None where it does not.

    The next zone's ovn-trace is asked, from the transit switch on (ovn-architecture(7), OVN Deployments
    Interconnection): what is left to do of that switch stands in the other zone's database.
    """
    last = meant.sections[-1] if meant.sections else None
    remote = next((output.port for output in last.outputs if output.type == "remote"), None) if last else None
    if last is None or remote is None:
        return None
    zone = next((zone for zone in seen.zones.values() if _is_own(zone, remote)), None)
    if zone is None or zone.names.ports[remote].datapath != last.datapath:
        return None
    fields = {**asked.fields, **meant.rewritten(asked.fields), "inport": f'"{last.inport}"'}
    there = _meant(replace(asked, zone=zone, datapath=last.datapath, fields=fields))
    following = [section for section in there.sent if not _is_ingress(section, last.datapath)]
    rest = legs(following, zone.names, way[-1].chassis)
    joined = replace(way[-1], sections=(*way[-1].sections[:-1], *rest[0].sections))
    whole = LogicalTrace(meant.flow, (*meant.sections[:-1], *following), (*meant.unread, *there.unread))
    return whole, (*way[:-1], joined, *rest[1:])


def _is_ingress(section: Section, datapath: str) -> bool:
    return section.datapath == datapath and section.pipeline == "ingress"


def _is_own(zone: Zone, port: str) -> bool:
    """Whether a port of a transit switch is one of the zone itself."""
    found = zone.names.ports.get(port)
    return found is not None and found.type != "remote"


def _alternatives(seen: Look, asked: Question, meant: LogicalTrace) -> list[LogicalTrace]:
    """What OVN may do with a packet: one thing, or of a load balancer's backends whichever it chooses."""
    if not any(section.title.startswith("ct_lb") for section in meant.sections):
        return [meant]
    port = asked.fields.get("tcp.dst") or asked.fields.get("udp.dst")
    ip = asked.destination.ip
    vips = {f"{ip}:{port}", f"[{ip}]:{port}", ip}
    backends = [
        backend.strip()
        for row in seen.northbound
        if row.table == "Load_Balancer" and (asked.protocol in (row.columns["protocol"] or ("tcp",)))
        for vip, behind in row.columns["vips"].items()
        if vip in vips
        for backend in behind.split(",")
    ]
    return [_meant(asked, "--lb-dst", backend) for backend in backends[:MOST_BACKENDS]] or [meant]


def _northd(seen: Look, asked: Question) -> Iterator[str]:
    """What is to be known where nobody makes logical flows of the Northbound database."""
    centrals = [seen.states[node.name] for node in seen.topology.centrals(asked.zone.name) if node.name in seen.states]
    if seen.nodes and not any("ovn-northd" in state.daemons for state in centrals):
        yield "ovn-northd does not run: what OVN means here is what it meant when that ended"


def _meant(asked: Question, *options: str) -> LogicalTrace:
    words = [word for _ in range(CONNECTIONS) for word in ("--ct", "new")]
    return logical.run(
        asked.zone.context, asked.zone.databases, asked.datapath, asked.microflow, options=[*words, *options]
    )


def _after_learning(
    seen: Look, asked: Question, meant: LogicalTrace, frame: bytes, *, from_chassis: bool
) -> tuple[Look, LogicalTrace, str]:
    """Send one packet so that the router learns the next hop's MAC address, and trace again once it has."""
    probing.send(asked, frame, from_chassis=from_chassis)
    deadline = CLOCK.monotonic() + ARRIVAL_TIMEOUT
    while meant.asks_for_mac and CLOCK.monotonic() < deadline:
        CLOCK.sleep(0.05)
        meant = _meant(asked)
    if meant.asks_for_mac:
        return (
            seen,
            meant,
            "nobody answered for the next hop's address: the router asks for its MAC, and goes on asking",
        )
    again = look(seen.lab) if seen.lab else seen
    return again, meant, "the router learnt the next hop's MAC address from a packet that was sent first"


# ── what the switches do ─────────────────────────────────────────────────────────────────────────────────────────


def _realised(seen: Look, asked: Question, way: Sequence[Leg], frame: bytes) -> tuple[Physical, ...]:
    """ofproto/trace on each chassis of the way, each with what the one before sends it."""
    found: list[Physical] = []
    tagged = asked.source.port.tag if asked.source.port and asked.source.port.parent else 0
    flow, current = f"in_port={asked.in_port}" + (f",dl_vlan={tagged}" if tagged else ""), frame
    for number, leg in enumerate(way):
        if number and leg.tunnel is None and leg.localnet is None:
            continue  # one of several that flood from an earlier one
        if leg.chassis not in seen.nodes:
            break
        try:
            context = seen.nodes[leg.chassis].context
            traced = openflow.run(context, leg.chassis, f"{flow},{packet(current).flow}")
        except OvnlabError as error:
            found.append(Physical(leg, PhysicalTrace(leg.chassis, ()), followed=False, reason=str(error.message)))
            break
        expected = _resident(seen, leg)
        missing = tuple(uuid for uuid in expected if uuid not in traced.uuids) if traced.is_followed else ()
        found.append(Physical(leg, traced, missing, traced.is_followed, traced.reason))
        following = way[number + 1] if number + 1 < len(way) else None
        if following is None or following.origin != leg.chassis:
            break
        if following.localnet is not None:
            current = probing.changed(current, next((one.changed for one in traced.exits), {}))
            tag = f",dl_vlan={following.localnet.tag}" if following.localnet.tag else ""
            flow = f"in_port=patch-br-int-to-{following.localnet.name}{tag}"
            continue
        if following.tunnel is None:
            break
        exits = [one for one in traced.exits if one.tunnel is not None]
        names = seen.zone_of(leg.chassis).names
        remotes = {encap.ip for encap in names.encaps if encap.chassis == following.chassis}
        chosen = next((one for one in exits if one.tunnel and one.tunnel.remote_ip in remotes), None)
        if chosen is None or chosen.tunnel is None:
            break
        current = probing.changed(current, chosen.changed)
        arrival = _arrival(seen, leg.chassis, following.chassis, chosen.tunnel)
        if not arrival:
            break
        flow = arrival
    return tuple(found)


def elsewhere(seen: Look, leg: Leg) -> list[Stage]:
    """Stages that hold only where another port is resident: ovn-trace takes each as resident everywhere."""
    return [
        stage
        for section in leg.sections
        for stage in section.stages
        for port in _RESIDENT.findall(stage.match)
        if (found := seen.zone_of(leg.chassis).names.ports.get(port)) is not None and found.chassis != leg.chassis
    ]


def _resident(seen: Look, leg: Leg) -> list[str]:
    """The logical flows that a switch has to match on a chassis."""
    others = {stage.uuid for stage in elsewhere(seen, leg)}
    return [uuid for uuid in leg.uuids if uuid not in others]


def _arrival(seen: Look, source: str, destination: str, header: openflow.Header) -> str:
    """A flow of what arrives in a tunnel: the port that it comes in by, and the header's keys."""
    state = seen.states.get(destination)
    sender = {encap.ip for encap in seen.zone_of(source).names.encaps if encap.chassis == source}
    port = next(
        (t for t in (state.tunnels if state else ()) if t.remote_ip in sender and t.encap == header.encap), None
    )
    if port is None:
        return ""
    six = ":" in header.remote_ip
    words = [
        f"in_port={port.name}",
        f"tun_id={header.vni:#x}",
        f"{'tun_ipv6_src' if six else 'tun_src'}={port.remote_ip}",
        f"{'tun_ipv6_dst' if six else 'tun_dst'}={header.remote_ip}",
    ]
    if header.ingress_key is not None and header.egress_key is not None:
        words.append(f"tun_metadata0={header.ingress_key << 16 | header.egress_key:#x}")
    return ",".join(words)


# ── what it comes to ─────────────────────────────────────────────────────────────────────────────────────────────


def _outcome(seen: Look, asked: Question, meant: LogicalTrace, way: Sequence[Leg]) -> tuple[str, Decision | None]:
    """What OVN means to come of the packet, and what decided where it is dropped."""
    outputs = {output.port for output in meant.outputs}
    if meant.refusal is not None:
        return "rejected", _decision(seen, way, *meant.refusal)
    if is_answer(asked, meant):
        return "answered", None
    if outputs:
        return "delivered", None
    where = meant.drop
    return "dropped", _decision(seen, way, *where) if where else None


def _decision(seen: Look, way: Sequence[Leg], section: Section, stage: Stage) -> Decision:
    chassis = next((leg.chassis for leg in way if section in leg.sections), "")
    row = row_of(seen, stage.uuid)
    pipeline = section.pipeline or ("ingress" if "_in_" in stage.name else "egress")
    return Decision(chassis, section.datapath, pipeline, stage, row, place_of(seen.topology, row))


def decider(seen: Look, section: Section, stage: Stage) -> str:
    """What decided, in words, with its line in the file where it has one."""
    found = _decision(seen, (), section, stage)
    return f"{found.title} ({found.place})" if found.place else found.title


def row_of(seen: Look, uuid: str) -> LiveRow | None:
    """The Northbound row that a logical flow is of (ovn-sb(5), Logical_Flow external_ids:stage-hint)."""
    flow = seen.flow(uuid)
    return seen.northbound_row(flow["external_ids"].get("stage-hint", "")) if flow else None


def place_of(topology: Topology, row: LiveRow | None) -> str:
    """The line of the topology's file that a row is of; empty where it is of none."""
    if row is None or row.table != "ACL":
        return ""
    return next((acl.place for acl in topology.acls if _is_acl(acl, row)), "")


def _is_acl(acl: Acl, row: LiveRow) -> bool:
    columns = row.columns
    return (acl.direction, acl.priority, acl.match, acl.action) == (
        columns["direction"], columns["priority"], columns["match"], columns["action"],
    )  # fmt: skip
