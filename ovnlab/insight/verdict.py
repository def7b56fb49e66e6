"""The verdict on a trace: whether logic and reality agree, and if not, where they part and why."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ovnlab.errors import OvnlabError
from ovnlab.insight import replies
from ovnlab.insight.evidence import Trace
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.ofproto_trace import Header
from ovnlab.insight.physical_path import (
    SwitchTrace,
    decapsulation,
    elsewhere,
    flow_title,
    foreign,
    network_exit,
    nic_bridge,
)
from ovnlab.insight.probe_capture import Hop
from ovnlab.insight.probe_packet import bridge_mappings
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import ip_of
from ovnlab.topology.resolved import VM


@dataclass(frozen=True)
class Verdict:
    """A verdict in one sentence. `place` is where the views part, `cause` why, as far as that can be seen."""

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
    """Return what a trace comes to."""
    if told := _too_large(trace):
        return Verdict(True, told)
    agreed = _as_intended(trace)
    if not agreed:
        fault = _fault(trace)
        sentence = f"logic and reality differ, at {fault.place}: {fault.cause}"
        return Verdict(False, sentence, fault.place, fault.cause, fault.hint)
    if trace.question.unsent:
        return _unsent(trace)
    if trace.question.mistaken:
        hop = trace.question.next_hop
        place = f"{trace.question.source.name}, its neighbour {hop}"
        hint = f"ovnlab exec {trace.question.source.name} -- ip neigh flush to {hop}"
        return Verdict(
            False, f"it goes to the wrong MAC address: {trace.question.mistaken}", place, trace.question.mistaken, hint
        )
    if trace.stopped:
        sentence = f"cannot be told, because {trace.stopped}; by that it is {agreed}"
        return Verdict(False, sentence, "ovn-northd", trace.stopped, "ovnlab appctl central -t ovn-northd status")
    return _with_answer(trace, agreed)


def _too_large(trace: Trace) -> str:
    """Return who says that a packet is too large; empty where nobody does (RFC 1191, RFC 8201)."""
    packet = trace.came.packet if trace.came is not None and trace.question.size else None
    if packet is None or not any(word in packet.said for word in ("fragmentation needed", "packet too big")):
        return ""
    return f"not delivered, as it is too large: {packet.source} says so ({packet.said.partition(',')[0]})"


def _unsent(trace: Trace) -> Verdict:
    """Return the source would not send such a packet at all: by what the file says of it, or because that is not so."""
    source, why = trace.question.source.name, trace.question.unsent
    if not (lacks := _lacks_routes(trace)):
        return Verdict(True, f"nothing is sent, and no answer comes, as the file has it: {why}", source, why)
    hint = f"ovnlab exec {source} -- ip route"
    return Verdict(False, f"nothing is sent: {why}; {lacks}", source, f"{why}; {lacks}", hint)


def _lacks_routes(trace: Trace) -> str:
    """Return the addresses, gateways and routes that a source lacks; empty where it has all."""
    source, look = trace.question.source, trace.look
    vm = look.topology.vm(source.name) or (source.bound.vm if source.bound else None)
    if source.bound is not None and vm is not None:
        unlike = {key: both for key, both in source.bound.unlike(vm).items() if key in ("addresses", "gateways", "MTU")}
        said = [f"its {key} are {now or 'none'} instead of {wanted}" for key, (wanted, now) in unlike.items()]
        said += [f"it has no route to its own network {network}" for network in source.bound.unrouted()]
        if not said and _leads_to(vm, trace.question.destination.ip):
            said.append("by the file it has one")
        return "; ".join(said)
    node, state = look.topology.node(source.name), look.states.get(source.name)
    if node is None or state is None:
        return "what it should have is not known"
    missing = [route.prefix for route in node.routes if route.prefix not in state.routes]
    down = [nic.carrier for nic in node.nics if not state.device(nic.carrier).mtu]
    down += [nic.carrier for nic in node.nics if set(nic.addresses) - set(state.device(nic.carrier).addresses)]
    said = [f"its route to {prefix} is missing" for prefix in missing]
    return "; ".join([*said, *(f"its {device} is down or has not its address" for device in dict.fromkeys(down))])


def _meant_owner(trace: Trace) -> str:
    """Return the machine that has the destination's address by the file; empty where none has."""
    ip = trace.question.destination.ip
    if not ip or trace.question.destination.place is not None:
        return ""
    topology = trace.look.topology
    return next((node.name for node in topology.nodes if ip in node.addresses), "")


def _leads_to(vm: VM, ip: str) -> bool:
    """Return True if a fake VM's own networks and gateways lead to an address."""
    if not ip:
        return False
    address = ipaddress.ip_address(ip)
    networks = [ipaddress.ip_interface(word).network for word in vm.addresses]
    gateways = [ipaddress.ip_address(word) for word in vm.gateways]
    return any(address in network for network in networks) or any(g.version == address.version for g in gateways)


def _with_answer(trace: Trace, agreed: str) -> Verdict:
    """Return the verdict of a packet that went as it is meant to, with what came of its answer."""
    answer = trace.answer
    if trace.counted is not None and trace.counted.is_lossy and not (answer and answer.is_lost):
        hint = f"what limits its rate: ovnlab nbctl list QoS, ovnlab explain {trace.question.source.name}"
        return Verdict(
            False, f"the first packet is delivered, and {trace.counted}", "the rate", str(trace.counted), hint
        )
    if answer is None:
        return Verdict(True, agreed)
    if answer.is_lost:
        return _unanswered(trace, agreed)
    if answer.state == "refused":
        if _should_listen(trace):
            return Verdict(
                False, f"{trace.outcome}, and refused: {answer.said}", answer.place, answer.said, answer.hint
            )
        return Verdict(True, f"{agreed}; {answer.said}")
    if answer.state == "unknown" and (owner := _meant_owner(trace)):
        cause = f"{owner} has not the address {trace.question.destination.ip} that the file gives it"
        return Verdict(
            False, f"{trace.outcome}, but no answer: {cause}", owner, cause, f"ovnlab exec {owner} -- ip address"
        )
    if answer.state == "unknown":
        return Verdict(True, f"{agreed}; no answer: {answer.said}" if trace.outcome == "left" else agreed)
    return Verdict(True, agreed)


def _unanswered(trace: Trace, agreed: str) -> Verdict:
    """Return where the answer to a packet that arrived is lost."""
    answer = trace.answer
    assert answer is not None  # noqa: S101  asked by who calls
    if replies.rerouted(trace):
        return Verdict(True, f"{agreed}; no answer came, as it is not for whom it goes to")
    place, cause, hint = answer.place, answer.said, answer.hint
    if answer.back is not None and place and answer.back.outcome == "dropped":
        cause += reason(answer.back)
    if answer.back is not None and not place:
        fault = _fault(answer.back)
        place, cause, hint = fault.place, f"{answer.said}, at {fault.place}: {fault.cause}", fault.hint
    return Verdict(False, f"{trace.outcome}, but no answer: {cause}", place, cause, hint)


def _should_listen(trace: Trace) -> bool:
    """Return True if something should listen where a packet is refused: a server of the file, a backend."""
    got, asked = trace.arrived, trace.question
    if got is None or got.packet is None:
        return False
    vm = trace.look.topology.vm(got.name)
    if vm is not None and got.packet.destination_port in vm.serves:
        return True
    return any(
        section.title.startswith("ct_lb") and "=" in section.title for section in trace.logical.sections
    ) and bool(asked.fields.get("tcp.dst"))


def _as_intended(trace: Trace) -> str:
    """Return the sentence for a packet that goes as OVN means it to; empty where it does not."""
    wrong = [hop for hop in trace.hops if hop.seen is not None and hop.seen != hop.wanted]
    broken = [one for one in trace.physical if _is_broken(trace, one)]
    if _arrived_otherwise(trace):
        return "delivered as intended, by another way than ovn-trace tells: it takes every port as resident everywhere"
    ended = trace.outcome in ("dropped", "rejected") and any(one.missing for one in trace.physical)
    astray = any(True for leg in trace.legs for _ in _neighbour_faults(trace, leg))
    if (
        wrong
        or any(_other_header(trace, hop) for hop in trace.hops)
        or ((broken or astray) and not trace.sent)
        or ended
    ):
        return ""
    if trace.logical.asks_for_mac:
        return "" if _owner(trace) else f"dropped as intended: nobody answers for {_hop_asked_for(trace)}"
    if trace.physical and trace.outcome == "delivered" and _homeless(trace):
        return ""
    asked = "flows tell" if trace.physical else "OVN is concerned"
    how = "" if trace.sent else f", as far as {asked}: nothing was sent"
    if trace.outcome in ("dropped", "rejected"):
        decision = trace.decision
        if decision is None:
            return f"{trace.outcome} as intended{how}"
        where = f" ({decision.place})" if decision.place else ""
        return f"{trace.outcome} as intended, by {decision.title}{where}{reason(trace)}{how}"
    if trace.outcome == "answered":
        return f"answered as intended{_said_by_router(trace)}{how}"
    if trace.outcome == "left":
        return f"left the lab as intended, at {_exit_place(trace)}{how}"
    if rerouted := replies.rerouted(trace):
        return f"delivered {rerouted}{how}"
    return f"delivered as intended{how}"


def _said_by_router(trace: Trace) -> str:
    """Return what a router answered, where that is not simply a reply."""
    hop = next((hop for hop in trace.hops if hop.what == "answered" and hop.packet), None)
    if hop is None or hop.packet is None or not hop.packet.source or "reply" in hop.packet.said:
        return ""
    return f": {hop.packet.said.partition(',')[0]}, from {hop.packet.source}"


def _disabled(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield the ports of a packet's way that somebody disabled (ovn-nb(5), enabled)."""
    names = {section.inport for section in trace.logical.sections} | {s.outport for s in trace.logical.sections}
    names |= {output.port for section in trace.logical.sections for output in section.outputs}
    names |= set(re.findall(r'outport = "([^"]+)"', trace.logical.text))
    names |= {name.removeprefix("cr-") for name in names}
    kinds = {"Logical_Switch_Port": "logical switch port", "Logical_Router_Port": "router port"}
    for row in trace.look.northbound:
        if row.table in kinds and row.name in names and tuple(row.columns.get("enabled", ())) == (False,):
            yield kinds[row.table], row.name


def _exit_place(trace: Trace) -> str:
    """Return where a packet leaves the lab: a NIC, and whom it goes to next."""
    nics = [hop.place for hop in trace.hops if hop.what.startswith("to ") and hop.wanted and not hop.tunnel]
    ports = [output.port for output in trace.logical.outputs]
    known = re.findall(r"MAC binding to ([0-9a-f:]{17})", trace.logical.text)
    hop = known[-1] if known else trace.logical.rewritten(trace.question.fields).get("eth.dst", "")
    to = _holder_of(trace, hop)
    return (nics[-1] if nics else ", ".join(ports)) + (f", to {to}" if to else "")


def _holder_of(trace: Trace, mac: str) -> str:
    """Return the machine of the lab that has a MAC address."""
    for name, state in trace.look.states.items():
        for device in state.devices.values():
            if mac and device.mac == mac:
                return name
    return ""


def _hop_asked_for(trace: Trace) -> str:
    """Return the address whose MAC address a router asks for: its next hop (ovn-northd(8), lr_in_ip_routing)."""
    found = re.findall(r"\b(?:xx)?reg0 = ([0-9a-f.:]+|ip[46]\.dst);", trace.logical.text)
    last = found[-1] if found else ""
    ends = {**trace.question.fields, **trace.logical.rewritten(trace.question.fields)}
    return ends.get(last, last) or trace.question.destination.ip


def _owner(trace: Trace) -> str:
    """Return who in the lab has the address that a router asks for in vain, empty where nobody has."""
    address = _hop_asked_for(trace)
    look = trace.look
    for name, state in look.states.items():
        if any(address == ip_of(word) for d in state.devices.values() for word in d.addresses):
            return name
        for bound in state.vms:
            if address in (ip_of(word) for word in bound.addresses):
                return bound.name
    return ""


def reason(trace: Trace) -> str:
    """Return why a stage without a row drops a packet, as far as it is known; empty where the title says it all."""
    decision, source = trace.decision, trace.question.source
    if decision is None or decision.stage.name.endswith(("_acl", "_acl_eval", "_acl_action")):
        return ""
    for kind, name in _disabled(trace):
        return f": {kind} {name} is disabled"
    if decision.stage.name == "lr_in_ip_routing" and decision.row is None:
        ends = {**trace.question.fields, **trace.logical.rewritten(trace.question.fields)}
        return f": router {decision.datapath} has no route to {ends.get('ip4.dst') or ends.get('ip6.dst')}"
    if decision is None or "port_sec" not in decision.stage.name or "_in_" not in decision.stage.name:
        return ""
    known = source.port.addresses if source.port else ()
    fields = trace.question.fields
    sent = " ".join(filter(None, (fields.get("eth.src"), fields.get("ip4.src") or fields.get("ip6.src"))))
    return f": {source.name} sends from {sent}, and its port has {'; '.join(known) or 'no address'}"


def _arrived_otherwise(trace: Trace) -> bool:
    """Return True if the packet got where it is meant to, where ovn-trace could not know the way."""
    if trace.outcome != "delivered" or not trace.hops or not any(elsewhere(trace.look, leg) for leg in trace.legs):
        return False
    goal = trace.hops[-1]
    return bool(goal.seen) and any(hop.seen != hop.wanted for hop in trace.hops[:-1]) and goal.what == "received"


def _other_header(trace: Trace, hop: Hop) -> TunnelNames | None:
    """Return the header that was meant where another one was seen."""
    if hop.tunnel is None:
        return None
    expected = [leg.tunnel for leg in trace.legs if leg.tunnel]
    keys = [(one.vni, one.ingress_key, one.egress_key) for one in expected]
    if not expected or (hop.tunnel.vni, hop.tunnel.ingress_key, hop.tunnel.egress_key) in keys:
        return None
    return expected[0]


def _lacks_exit(trace: Trace, one: SwitchTrace) -> bool:
    """Return True if a packet should leave a switch, and does not."""
    if not one.followed or any(part.asks_controller for part in one.trace.passes):
        return False
    own = trace.legs.index(one.leg) if one.leg in trace.legs else len(trace.legs)
    following = [leg for leg in trace.legs[own + 1 :] if leg.origin == one.leg.chassis]
    if one.trace.exits:
        return _lacks_nic(trace, one)
    return bool(one.leg.outputs) or any(leg.tunnel is not None for leg in following)


def _lacks_nic(trace: Trace, one: SwitchTrace) -> bool:
    """Return True if a packet for a physical network leaves by other ports than its NIC."""
    return bool(_nics(trace, one)) and not {out.port for out in one.trace.exits} & set(_nics(trace, one))


def _nics(trace: Trace, one: SwitchTrace) -> list[str]:
    """Return the NICs that a packet should leave a chassis by; none where ports have only numbers."""
    node, ports = trace.look.topology.node(one.leg.chassis), trace.look.zone_of(one.leg.chassis).names.ports
    if node is None or any(out.port.isdigit() for out in one.trace.exits):
        return []
    if trace.question.destination.node == one.leg.chassis:
        return []  # it may be for the chassis itself
    names = [ports[out.port].options.get("network_name", "") for out in one.leg.outputs if out.type == "localnet"]
    return [nic.device for name in names if (nic := node.nic(name)) is not None]


def _is_broken(trace: Trace, one: SwitchTrace) -> bool:
    return bool(one.missing or one.strays or one.is_lost_on_arrival or _lacks_exit(trace, one))


# ── where they part ──────────────────────────────────────────────────────────────────────────────────────────────


def _fault(trace: Trace) -> _Fault:
    """Return the first place on the way where it is not as it should be."""
    unwanted = [hop for hop in trace.hops if hop.seen and not hop.wanted]
    if unwanted:
        return _let_through(trace, unwanted[0])
    for hop in trace.hops:
        meant = _other_header(trace, hop)
        if meant is not None:
            return _Fault(hop.place, f"the header is {hop.tunnel}, and {meant} was meant")
    for port in _homeless(trace):
        return _Fault(port, "OVN delivers it to that port, which is bound to no chassis", f"ovnlab bind {port} NODE")
    neighbours = [fault for leg in trace.legs for fault in _neighbour_faults(trace, leg)]
    for fault in (*_asking_faults(trace), *_size_faults(trace), *neighbours):
        return fault
    lost = next((hop for hop in trace.hops if hop.wanted and hop.seen is False), None)
    if lost is not None and lost.what == "sent":
        for fault in _daemon_faults(trace, trace.question.chassis):
            return fault
        hint = f"ovnlab exec {trace.question.source.name} -- ip link"
        return _Fault(lost.place, f"the packet never left {trace.question.source.name}", hint)
    return _on_the_way(trace, lost)


def _size_faults(trace: Trace) -> Iterator[_Fault]:
    """Yield a packet of some size, and devices of the underlay on its way that are smaller than that is."""
    if not trace.question.size:
        return
    for device, mtu, wanted in replies.small_mtus(trace):
        node, _, name = device.partition(":")
        hint = f"ovnlab exec {node} -- ip link set {name} mtu {wanted}"
        yield _Fault(device, f"it has MTU {mtu}, and the underlay has {wanted}: large packets are lost there", hint)


def _asking_faults(trace: Trace) -> Iterator[_Fault]:
    """Yield a router that asks in vain for the MAC address of somebody who is in the lab."""
    owner = _owner(trace) if trace.logical.asks_for_mac else ""
    if not owner:
        return
    address, look = _hop_asked_for(trace), trace.look
    names = look.zone_of(trace.legs[-1].chassis).names
    outports = re.findall(r'outport = "([^"]+)"', trace.logical.text)
    for port in [names.ports[name] for name in dict.fromkeys(outports) if name in names.ports]:
        redirect = names.ports.get(port.options.get("chassis-redirect-port", ""))
        chassis = (redirect.chassis if redirect else None) or trace.legs[-1].chassis
        peer = names.peer(port)
        for localnet in (near for near in names.ports_of(peer.datapath if peer else "") if near.type == "localnet"):
            one = network_exit(look, chassis, localnet)
            if one is not None:
                yield from _foreign_faults(trace, one)
                if _lacks_exit(trace, one):
                    yield from _exit_faults(trace, one.leg, None, one)
    yield _Fault(
        owner,
        f"a router asks for the MAC address of {address}, which {owner} has, and nobody answers",
        f"ovnlab exec {owner} -- ip neigh",
    )


def _homeless(trace: Trace) -> list[str]:
    """Return the ports that the packet is delivered to and that are bound nowhere."""
    ports = {name: port for zone in trace.look.zones.values() for name, port in zone.names.ports.items()}
    return [
        output.port
        for output in trace.logical.outputs
        if output.type == "" and output.port in ports and ports[output.port].chassis is None
    ]


def _let_through(trace: Trace, hop: Hop) -> _Fault:
    """Return a packet that should have been dropped, and was not."""
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
    """Return where a packet got lost that should have arrived: in a switch, or between two."""
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
    """Return how ovn-controller installs all of its flows anew: it believes that what it once installed is there."""
    return f"ovnlab exec {chassis} -- ovn-appctl -t ovn-controller exit --restart, then `ovnlab up`"


def _broken(trace: Trace, one: SwitchTrace | None) -> bool:
    return one is not None and _is_broken(trace, one)


def _in_switch(trace: Trace, leg: Leg, after: Leg | None, one: SwitchTrace | None, lost: Hop | None) -> _Fault:
    """Return what is wrong on a chassis that does not let a packet on."""
    for chassis in filter(None, (leg.chassis, leg.origin)):
        for fault in _identity_faults(trace, chassis):
            return fault
    for fault in (*_encap_faults(trace, leg, after), *_daemon_faults(trace, leg.chassis), *_mac_faults(trace)):
        return fault
    for fault in (*_mapping_faults(trace, leg), *_silent_faults(one), *_neighbour_faults(trace, leg)):
        return fault
    if one is not None:
        for fault in (*_foreign_faults(trace, one), *_flow_faults(trace, leg, after, one)):
            return fault
    if one is None or not one.answered:
        why = one.reason if one is not None and one.reason else "it was not asked"
        if "no tunnel port" in why:
            hint = f"ovnlab vsctl {leg.chassis} list-ports br-int"
            return _Fault(f"{leg.chassis}, its tunnels", why, hint)
        place = lost.place if lost else leg.chassis
        return _Fault(place, f"it was not seen there, and what {leg.chassis} does with it is not known: {why}")
    if after is not None:
        out = next((h for h in trace.hops if h.node == leg.chassis and h.what == f"to {after.chassis}"), None)
        if out is not None and out.seen is False and not out.problem:
            said = "its flows put it into a tunnel, and it was not seen to leave"
            return _Fault(out.place, said, f"ovnlab exec {leg.chassis} -- ip route")
        return _between(trace, leg, after)
    place = lost.place if lost else leg.chassis
    for fault in _receiver_faults(trace, lost):
        return fault
    if not one.followed:
        return _Fault(place, f"it was not seen there; what {leg.chassis} does cannot be told to its end: {one.reason}")
    return _Fault(place, f"the flows of {leg.chassis} put it out, and it was not seen at {place}")


def _silent_faults(one: SwitchTrace | None) -> Iterator[_Fault]:
    """Yield a switch that does not say what it does."""
    if one is not None and not one.answered and "does not answer" in one.reason:
        yield _Fault(f"{one.leg.chassis}, ovs-vswitchd", one.reason, f"ovnlab logs {one.leg.chassis}")


def _neighbour_faults(trace: Trace, leg: Leg) -> Iterator[_Fault]:
    """Yield a switch whose tunnel neighbours have another MAC address for a chassis than it has (ovs-vswitchd(8))."""
    names, look = trace.look.zone_of(leg.chassis).names, trace.look
    for one in trace.physical:
        for out in one.trace.exits:
            peer = names.chassis_at(out.tunnel.remote_ip) if out.tunnel else ""
            state = look.states.get(peer)
            if state is None or not out.mac or out.tunnel is None or leg.chassis not in (one.leg.chassis, peer):
                continue
            found = nic_bridge(look, peer)
            own = state.device(found[0]).mac if found else out.mac
            if own and out.mac != own:
                yield _Fault(
                    f"{one.leg.chassis}, its tunnel neighbours",
                    f"it sends what is for {peer} to {out.mac}, and {out.tunnel.remote_ip} is at {own}",
                    f"ovnlab appctl {one.leg.chassis} tnl/neigh/show",
                )


def _foreign_faults(trace: Trace, one: SwitchTrace) -> Iterator[_Fault]:
    """Yield flows on the way that OVN did not install."""
    chassis = one.leg.chassis
    for step in foreign(trace.look, one):
        bridge = "" if step.bridge == "br-int" else f"{step.bridge}, "
        hint = f"ovnlab ofctl {chassis} dump-flows {step.bridge} table={step.table}"
        yield _Fault(f"{chassis}, {bridge}table {step.table}", f"a flow that is not of OVN: {flow_title(step)}", hint)


def _flow_faults(trace: Trace, leg: Leg, after: Leg | None, one: SwitchTrace) -> Iterator[_Fault]:
    """Yield flows that are missing, or that do something else than is meant."""
    if one.is_lost_on_arrival and one.arrival is not None:
        bridge = nic_bridge(trace.look, leg.chassis)
        yield from _end_faults(trace, leg.chassis)
        for said in one.arrival.complaints:
            yield _Fault(f"{leg.chassis}, {bridge[0] if bridge else 'its NIC'}", f"the switch says: {said}")
        last = one.arrival.ending
        what = f": {flow_title(last)}" if last else ""
        where = f"{leg.chassis}, {bridge[0] if bridge else 'the bridge of its NIC'}"
        yield _Fault(where, f"what comes from {leg.origin} is not taken out of its tunnel{what}")
    for stray in one.strays:
        last = next(
            (step for step in reversed(list(one.trace.steps)) if any("tunneling to" in a for a in step.actions)), None
        )
        where = f"{leg.chassis}, table {last.table}" if last else leg.chassis
        meant = after.chassis if after else ", ".join(output.port for output in leg.outputs)
        yield _Fault(where, f"it is sent to {stray}, and {meant} was meant", _again(leg.chassis))
    if one.missing:
        uuid = one.missing[0]
        flow = trace.look.flow(uuid)
        stage = flow["external_ids"].get("stage-name", "") if flow else ""
        what = f"{stage} ({flow['match']})" if flow else uuid
        absent = _absent(trace, leg.chassis, uuid)
        said = "is not installed" if absent else "was not hit"
        yield _Fault(
            f"{leg.chassis}, {_table(trace, one, uuid)}",
            f"the OpenFlow flow of {what} {said}",
            _again(leg.chassis) if absent else "",
        )
    if _lacks_exit(trace, one):
        yield from _exit_faults(trace, leg, after, one)


def _exit_faults(trace: Trace, leg: Leg, after: Leg | None, one: SwitchTrace) -> Iterator[_Fault]:
    """Yield why a packet does not leave a switch."""
    for said in one.trace.complaints:
        last = one.trace.ending
        where = f"{leg.chassis}, {last.bridge}" if last and last.bridge != "br-int" else f"{leg.chassis}, its tunnels"
        yield _Fault(where, f"the switch says: {said}")
    for nic in _nics(trace, one):
        state = trace.look.states.get(leg.chassis)
        mapped = bridge_mappings(state.external_ids.get("ovn-bridge-mappings", "")) if state else {}
        node = trace.look.topology.node(leg.chassis)
        network = next((n.network for n in node.nics if n.device == nic), "") if node else ""
        bridge = mapped.get(network, "its bridge")
        hint = f"ovnlab vsctl {leg.chassis} list-ports {bridge}"
        yield _Fault(
            f"{leg.chassis}, {bridge}",
            f"what is for {network} does not leave by {nic}: is that a port of {bridge}?",
            hint,
        )
    yield from _probes_dropped(trace, leg, after)
    ended = one.trace.last
    where = f"{leg.chassis}, table {ended.table}" if ended else leg.chassis
    goal = f"a tunnel to {after.chassis}" if after else ", ".join(output.port for output in leg.outputs)
    yield _Fault(where, f"no OpenFlow flow puts it out to {goal}")


def _probes_dropped(trace: Trace, leg: Leg, after: Leg | None) -> Iterator[_Fault]:
    """Yield what comes from the other end of a tunnel and is dropped: BFD then takes the tunnel for one that is cut."""
    ips = [e.ip for e in trace.look.zone_of(leg.chassis).names.encaps if e.chassis == leg.chassis]
    if after is None or after.tunnel is None or not ips:
        return
    back = Leg(leg.chassis, origin=after.chassis)
    arrival = decapsulation(trace.look, back, Header(after.tunnel.encap, ips[0], after.tunnel.vni))
    if arrival is None or arrival.decapsulates:
        return
    last = arrival.ending
    bridge = f", {last.bridge}" if last else ""
    what = f": {flow_title(last)}" if last else ""
    yield _Fault(
        f"{leg.chassis}{bridge}", f"what comes from {after.chassis} is not taken out of its tunnel, BFD neither{what}"
    )


def _receiver_faults(trace: Trace, lost: Hop | None) -> Iterator[_Fault]:
    """Yield what is wrong with whoever should receive a packet."""
    if lost is None or not lost.name:
        return
    home, state = trace.look.home(lost.name), trace.look.states.get(lost.name)
    device = lost.place.partition(":")[2]
    if home is None and state is not None and device in state.devices and not state.device(device).mtu:
        yield _Fault(lost.place, "it is down", f"ovnlab exec {lost.name} -- ip link set {device} up")
    if home is None:
        return
    node, bound = home
    if bound.mtu == 0 and bound.mac:
        hint = f"ovnlab exec {bound.name} -- ip link set {bound.name} up"
        yield _Fault(f"{bound.name} on {node}", "its interface is down", hint)
    if not bound.mac and bound.vm is not None:
        yield _Fault(f"{bound.name} on {node}", "its namespace has no such interface", "ovnlab up")
    for hop in trace.hops:
        if hop.problem and hop.name == lost.name:
            yield _Fault(hop.place, hop.problem)


def _between(trace: Trace, leg: Leg, after: Leg) -> _Fault:
    """Return what is wrong between two chassis."""
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
    """Yield daemons of a chassis that do not run, and one that lags."""
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
    """Yield what keeps two chassis from a tunnel: identity, encapsulation, where it ends (ovn-controller(8))."""
    if after is None or after.tunnel is None:
        return
    yield from _identity_faults(trace, after.chassis)
    yield from _encap_type_faults(trace, leg.chassis, after.chassis)
    for chassis in (after.chassis, leg.chassis):
        yield from _end_faults(trace, chassis)


def _end_faults(trace: Trace, chassis: str) -> Iterator[_Fault]:
    """Yield a chassis whose tunnels end at an address that it does not have."""
    look = trace.look
    state = look.states.get(chassis)
    if state is not None:
        own = {ip_of(a) for device in state.devices.values() for a in device.addresses}
        for encap in look.zone_of(chassis).names.encaps:
            if encap.chassis == chassis and own and encap.ip not in own:
                yield _Fault(
                    f"{chassis}, its encap IP",
                    f"it says that its tunnels end at {encap.ip}, which is not an address of it",
                    f"ovnlab vsctl {chassis} get Open_vSwitch . external_ids:ovn-encap-ip",
                )


def _identity_faults(trace: Trace, chassis: str) -> Iterator[_Fault]:
    """Yield a node whose ovn-controller registers it under another name than it has."""
    state = trace.look.states.get(chassis)
    known = state.external_ids.get("system-id", "") if state else ""
    if state is not None and known != chassis:
        also = f", which is the chassis of {known}" if known in trace.look.states else ""
        hint = "`ovnlab up` sets it as the file has it"
        yield _Fault(
            f"{chassis}, its system-id", f"its system-id is {known or 'not set'} instead of {chassis}{also}", hint
        )


def _encap_type_faults(trace: Trace, one: str, other: str) -> Iterator[_Fault]:
    """Yield two chassis that have no type of tunnel in common."""
    encaps = trace.look.zone_of(one).names.encaps
    types = [sorted({encap.type for encap in encaps if encap.chassis == chassis}) for chassis in (one, other)]
    if all(types) and not set(types[0]) & set(types[1]):
        said = " and ".join(f"{who} takes {', '.join(kinds)}" for who, kinds in zip((one, other), types, strict=True))
        hint = f"ovnlab vsctl {other} get Open_vSwitch . external_ids:ovn-encap-type"
        yield _Fault(f"the tunnel from {one} to {other}", f"they have no encapsulation in common: {said}", hint)


def _mapping_faults(trace: Trace, leg: Leg) -> Iterator[_Fault]:
    """Yield a physical network that a chassis has no bridge for (ovn-controller(8), ovn-bridge-mappings)."""
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


def _wrong_bridge(look: LabView, chassis: str, network: str, bridge: str, where: str, hint: str) -> Iterator[_Fault]:
    node = look.topology.node(chassis)
    nic = node.nic(network) if node else None
    if nic is not None and nic.bridge and nic.bridge != bridge:
        yield _Fault(where, f"physical network {network} is mapped to {bridge}, and its NIC is in {nic.bridge}", hint)


def _mac_faults(trace: Trace) -> Iterator[_Fault]:
    """Yield a MAC binding that is not the MAC address of who has the IP address (ovn-sb(5), MAC_Binding)."""
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
    """Return True if no OpenFlow flow of a logical flow is installed on a chassis."""
    look = trace.look
    if chassis not in look.nodes or not uuid:
        return False
    script = render("node/dump-flows-by-cookie.sh.j2", cookie=f"0x{uuid}")
    try:
        return not run_script(look.nodes[chassis].context, script, where=f"{chassis}: its flows").strip()
    except OvnlabError:
        return False


def _table(trace: Trace, one: SwitchTrace | None, uuid: str) -> str:
    """Return the OpenFlow table of a logical flow, as other flows of the same pipeline on that chassis tell it."""
    flow = trace.look.flow(uuid)
    if flow is None:
        return f"flow {uuid}"
    name = flow["external_ids"].get("stage-name", "")
    for step in one.trace.steps if one else ():
        other = trace.look.flow(step.uuid)
        if other is not None and other["pipeline"] == flow["pipeline"]:
            return f"table {step.table - other['table_id'] + flow['table_id']}"
    return f"table of {name}"
