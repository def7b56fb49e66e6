"""Whether logic and reality agree about a packet, and if not, where they part and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ovnlab.errors import OvnlabError
from ovnlab.insight.lookup import Look
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.observing import Hop
from ovnlab.insight.path import Leg
from ovnlab.insight.question import bridge_mappings
from ovnlab.insight.trace import Physical, Trace, elsewhere
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import ip_of


@dataclass(frozen=True)
class Verdict:
    """One sentence. Where they differ, `place` is where they part, and `cause` why, as far as that can be seen."""

    agrees: bool
    sentence: str
    place: str = ""
    cause: str = ""
    hint: str = ""


@dataclass(frozen=True)
class _Fault:
    place: str
    cause: str
    hint: str = ""


def verdict(trace: Trace) -> Verdict:
    """What a trace comes to."""
    agreed = _as_intended(trace)
    if agreed:
        return Verdict(True, agreed)
    fault = _fault(trace)
    return Verdict(
        False, f"logic and reality differ, at {fault.place}: {fault.cause}", fault.place, fault.cause, fault.hint
    )


def _as_intended(trace: Trace) -> str:
    """The sentence for a packet that goes as OVN means it to; empty where it does not."""
    wrong = [hop for hop in trace.hops if hop.seen is not None and hop.seen != hop.wanted]
    broken = [one for one in trace.physical if one.missing or _lacks_exit(trace, one)]
    if _arrived_otherwise(trace):
        return "delivered as intended, by another way than ovn-trace tells: it takes every port as resident everywhere"
    ended = trace.outcome in ("dropped", "rejected") and any(one.missing for one in trace.physical)
    if wrong or any(_other_header(trace, hop) for hop in trace.hops) or (broken and not trace.sent) or ended:
        return ""
    if trace.logical.asks_for_mac:
        return f"dropped as intended: nobody answers for {trace.question.destination.ip}"
    if trace.physical and trace.outcome == "delivered" and _homeless(trace):
        return ""
    asked = "flows tell" if trace.physical else "OVN is concerned"
    how = "" if trace.sent else f", as far as {asked}: nothing was sent"
    if trace.outcome in ("dropped", "rejected"):
        decision = trace.decision
        if decision is None:
            return f"{trace.outcome} as intended{how}"
        where = f" ({decision.place})" if decision.place else ""
        return f"{trace.outcome} as intended, by {decision.title}{where}{how}"
    if trace.outcome == "answered":
        return f"answered as intended{how}"
    return f"delivered as intended{how}"


def _arrived_otherwise(trace: Trace) -> bool:
    """Whether the packet got where it is meant to, where ovn-trace could not know the way."""
    if trace.outcome != "delivered" or not trace.hops or not any(elsewhere(trace.look, leg) for leg in trace.legs):
        return False
    goal = trace.hops[-1]
    return bool(goal.seen) and any(hop.seen != hop.wanted for hop in trace.hops[:-1]) and goal.what == "received"


def _other_header(trace: Trace, hop: Hop) -> TunnelNames | None:
    """The header that was meant where another one was seen."""
    if hop.tunnel is None:
        return None
    expected = [leg.tunnel for leg in trace.legs if leg.tunnel]
    keys = [(one.vni, one.ingress_key, one.egress_key) for one in expected]
    if not expected or (hop.tunnel.vni, hop.tunnel.ingress_key, hop.tunnel.egress_key) in keys:
        return None
    return expected[0]


def _lacks_exit(trace: Trace, one: Physical) -> bool:
    """Whether a packet should leave a switch, and does not."""
    if not one.followed or one.trace.exits or any(part.asks_controller for part in one.trace.passes):
        return False
    following = trace.legs.index(one.leg) + 1
    return bool(one.leg.outputs) or (following < len(trace.legs) and trace.legs[following].tunnel is not None)


# ── where they part ──────────────────────────────────────────────────────────────────────────────────────────────


def _fault(trace: Trace) -> _Fault:
    """The first place on the way where it is not as it should be."""
    unwanted = [hop for hop in trace.hops if hop.seen and not hop.wanted]
    if unwanted:
        return _let_through(trace, unwanted[0])
    for hop in trace.hops:
        meant = _other_header(trace, hop)
        if meant is not None:
            return _Fault(hop.place, f"the header is {hop.tunnel}, and {meant} was meant")
    for port in _homeless(trace):
        return _Fault(port, "OVN delivers it to that port, which is bound to no chassis", f"ovnlab bind {port} NODE")
    lost = next((hop for hop in trace.hops if hop.wanted and hop.seen is False), None)
    if lost is not None and lost.what == "sent":
        for fault in _daemon_faults(trace, trace.question.chassis):
            return fault
        hint = f"ovnlab exec {trace.question.source.name} -- ip link"
        return _Fault(lost.place, f"the packet never left {trace.question.source.name}", hint)
    return _on_the_way(trace, lost)


def _homeless(trace: Trace) -> list[str]:
    """The ports that the packet is delivered to and that are bound nowhere."""
    ports = {name: port for zone in trace.look.zones.values() for name, port in zone.names.ports.items()}
    return [
        output.port
        for output in trace.logical.outputs
        if output.type == "" and output.port in ports and ports[output.port].chassis is None
    ]


def _let_through(trace: Trace, hop: Hop) -> _Fault:
    """A packet that should have been dropped, and was not."""
    decision = trace.decision
    if decision is None:
        return _Fault(hop.place, "it arrived, and should not have")
    chassis = decision.chassis
    one = next((one for one in trace.physical if one.leg.chassis == chassis), None)
    absent = _absent(trace, chassis, decision.stage.uuid)
    for fault in _daemon_faults(trace, chassis):
        return fault
    what = f"{decision.title} drops it" + (f" ({decision.place})" if decision.place else "")
    if absent:
        return _Fault(
            f"{chassis}, {_table(trace, one, decision.stage.uuid)}",
            f"{what}, and its OpenFlow flow is not installed: it arrived at {hop.place}",
            _again(chassis),
        )
    return _Fault(chassis, f"{what}, and it arrived at {hop.place} all the same")


def _on_the_way(trace: Trace, lost: Hop | None) -> _Fault:
    """Where a packet got lost that should have arrived: in a switch, or between two."""
    realised = {one.leg.chassis: one for one in trace.physical}
    for number, leg in enumerate(trace.legs):
        one = realised.get(leg.chassis)
        after = trace.legs[number + 1] if number + 1 < len(trace.legs) else None
        out = next((h for h in trace.hops if after and h.node == leg.chassis and h.what == f"to {after.chassis}"), None)
        into = next((h for h in trace.hops if after and h.node == after.chassis and h.what.startswith("from ")), None)
        passed = bool(out and out.seen) or (after is not None and bool(into and into.seen))
        if passed and into is not None and into.seen is False and after is not None:
            return _between(trace, leg, after)
        if passed or (lost is None and not _broken(trace, one)):
            continue
        return _in_switch(trace, leg, after, one, lost)
    place = lost.place if lost else trace.question.source.name
    return _Fault(place, "it was not seen there, and nothing tells why")


def _again(chassis: str) -> str:
    """How ovn-controller installs all of its flows anew: it believes that what it once installed is there."""
    return f"ovnlab exec {chassis} -- ovn-appctl -t ovn-controller exit --restart, then `ovnlab up`"


def _broken(trace: Trace, one: Physical | None) -> bool:
    return one is not None and bool(one.missing or _lacks_exit(trace, one))


def _in_switch(trace: Trace, leg: Leg, after: Leg | None, one: Physical | None, lost: Hop | None) -> _Fault:
    """What is wrong on a chassis that does not let a packet on."""
    for fault in (*_encap_faults(trace, leg, after), *_daemon_faults(trace, leg.chassis), *_mac_faults(trace)):
        return fault
    for fault in _mapping_faults(trace, leg):
        return fault
    if one is not None and one.missing:
        uuid = one.missing[0]
        flow = trace.look.flow(uuid)
        stage = flow["external_ids"].get("stage-name", "") if flow else ""
        what = f"{stage} ({flow['match']})" if flow else uuid
        absent = _absent(trace, leg.chassis, uuid)
        said = "is not installed" if absent else "was not hit"
        return _Fault(
            f"{leg.chassis}, {_table(trace, one, uuid)}",
            f"the OpenFlow flow of {what} {said}",
            _again(leg.chassis) if absent else "",
        )
    if one is not None and _lacks_exit(trace, one):
        last = one.trace.last
        where = f"{leg.chassis}, table {last.table}" if last else leg.chassis
        for said in one.trace.complaints:
            return _Fault(f"{leg.chassis}, its tunnels", f"the switch says: {said}")
        goal = f"a tunnel to {after.chassis}" if after else ", ".join(output.port for output in leg.outputs)
        return _Fault(where, f"no OpenFlow flow puts it out to {goal}")
    if after is not None:
        out = next((h for h in trace.hops if h.node == leg.chassis and h.what == f"to {after.chassis}"), None)
        if out is not None and out.seen is False and not out.problem:
            said = "its flows put it into a tunnel, and it was not seen to leave"
            return _Fault(out.place, said, f"ovnlab exec {leg.chassis} -- ip route")
        return _between(trace, leg, after)
    place = lost.place if lost else leg.chassis
    return _Fault(place, f"{leg.chassis} puts it out, and it was not seen at {place}")


def _between(trace: Trace, leg: Leg, after: Leg) -> _Fault:
    """What is wrong between two chassis."""
    for hop in trace.hops:
        if hop.problem and hop.node in (leg.chassis, after.chassis):
            return _Fault(hop.place, hop.problem, f"ovnlab exec {hop.node} -- ip link")
    for fault in (*_encap_faults(trace, leg, after), *_daemon_faults(trace, after.chassis)):
        return fault
    return _Fault(
        f"the underlay between {leg.chassis} and {after.chassis}",
        f"{leg.chassis} sends it in a tunnel, and it does not come to {after.chassis}",
        f"ovnlab ping {leg.chassis} {after.chassis}",
    )


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _daemon_faults(trace: Trace, chassis: str) -> Iterator[_Fault]:
    """Daemons of a chassis that do not run, and one that lags."""
    look = trace.look
    if chassis not in look.states:
        yield _Fault(chassis, "it does not run, or does not answer", "`ovnlab up` starts what is missing")
        return
    for daemon in ("ovs-vswitchd", "ovn-controller"):
        if daemon not in look.states[chassis].daemons:
            yield _Fault(
                f"{chassis}, {daemon}",
                f"{daemon} does not run there: its flows are what they were when it ended",
                "`ovnlab up` starts what is missing",
            )
    tables = look.zone_of(chassis).tables
    wanted = next((row["nb_cfg"] for row in tables.get("SB_Global", ())), 0)
    for row in tables.get("Chassis_Private", ()):
        if row["name"] == chassis and row["nb_cfg"] < wanted:
            lag = f"ovn-controller is at configuration {row['nb_cfg']}, and the Southbound database at {wanted}"
            yield _Fault(f"{chassis}, ovn-controller", lag, f"ovnlab logs {chassis}")


def _encap_faults(trace: Trace, leg: Leg, after: Leg | None) -> Iterator[_Fault]:
    """A chassis that says that its tunnels end where it has no address (ovn-controller(8), ovn-encap-ip)."""
    look = trace.look
    if after is None or after.tunnel is None:
        return
    for chassis in (after.chassis, leg.chassis):
        state = look.states.get(chassis)
        own = {ip_of(a) for device in state.devices.values() for a in device.addresses} if state else set()
        for encap in look.zone_of(chassis).names.encaps:
            if encap.chassis == chassis and own and encap.ip not in own:
                yield _Fault(
                    f"{chassis}, its encap IP",
                    f"it says that its tunnels end at {encap.ip}, which is no address of it",
                    f"ovnlab vsctl {chassis} get Open_vSwitch . external_ids:ovn-encap-ip",
                )


def _mapping_faults(trace: Trace, leg: Leg) -> Iterator[_Fault]:
    """A physical network that a chassis has no bridge for (ovn-controller(8), ovn-bridge-mappings)."""
    look = trace.look
    state = look.states.get(leg.chassis)
    if state is None:
        return
    mapped = bridge_mappings(state.external_ids.get("ovn-bridge-mappings", ""))
    for output in leg.outputs:
        port = look.zone_of(leg.chassis).names.ports.get(output.port)
        if output.type != "localnet" or port is None:
            continue
        network = port.options.get("network_name", "")
        bridge = mapped.get(network)
        where = f"{leg.chassis}, its bridge mappings"
        hint = f"ovnlab vsctl {leg.chassis} get Open_vSwitch . external_ids:ovn-bridge-mappings"
        if bridge is None:
            said = ", ".join(f"{key}:{value}" for key, value in mapped.items()) or "nothing"
            yield _Fault(where, f"physical network {network} has no bridge there: it maps {said}", hint)
        elif bridge not in state.bridges:
            yield _Fault(where, f"physical network {network} is mapped to {bridge}, which is not there", hint)
        else:
            yield from _wrong_bridge(look, leg.chassis, network, bridge, where, hint)


def _wrong_bridge(look: Look, chassis: str, network: str, bridge: str, where: str, hint: str) -> Iterator[_Fault]:
    node = look.topology.node(chassis)
    nic = node.nic(network) if node else None
    if nic is not None and nic.bridge and nic.bridge != bridge:
        yield _Fault(where, f"physical network {network} is mapped to {bridge}, and its NIC is in {nic.bridge}", hint)


def _mac_faults(trace: Trace) -> Iterator[_Fault]:
    """A MAC binding that is not the MAC address of who has the IP address (ovn-sb(5), MAC_Binding)."""
    look = trace.look
    if not any(word in trace.logical.text for word in ("get_arp", "get_nd")):
        return
    owners = {}
    for name, state in look.states.items():
        for bound in state.vms:
            owners.update({ip_of(address): (bound.name, bound.mac) for address in bound.addresses})
        node = look.topology.node(name)
        if node is not None and not node.chassis:
            for nic in node.nics:
                device = state.device(nic.carrier)
                owners.update({ip_of(address): (name, device.mac) for address in device.addresses})
    for row in (row for zone in look.zones.values() for row in zone.tables.get("MAC_Binding", ())):
        owner = owners.get(row["ip"])
        if owner is not None and owner[1] and row["mac"].lower() != owner[1] and row["mac"] in trace.logical.text:
            yield _Fault(
                f"the MAC binding of {row['ip']} on {row['logical_port']}",
                f"it says {row['mac']}, and {owner[0]} has {owner[1]}",
                f"ovnlab sbctl destroy MAC_Binding {row['_uuid']}",
            )


def _absent(trace: Trace, chassis: str, uuid: str) -> bool:
    """Whether no OpenFlow flow of a logical flow is installed on a chassis."""
    look = trace.look
    if chassis not in look.nodes or not uuid:
        return False
    script = render("node/cookie.sh.j2", cookie=f"0x{uuid}")
    try:
        return not run_script(look.nodes[chassis].context, script, where=f"{chassis}: its flows").strip()
    except OvnlabError:
        return False


def _table(trace: Trace, one: Physical | None, uuid: str) -> str:
    """The OpenFlow table of a logical flow, as other flows of the same pipeline on that chassis tell it."""
    flow = trace.look.flow(uuid)
    if flow is None:
        return f"flow {uuid}"
    name = flow["external_ids"].get("stage-name", "")
    for step in one.trace.steps if one else ():
        other = trace.look.flow(step.uuid)
        if other is not None and other["pipeline"] == flow["pipeline"]:
            return f"table {step.table - other['table_id'] + flow['table_id']}"
    return f"table of {name}"
