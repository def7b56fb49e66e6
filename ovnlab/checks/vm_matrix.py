"""Every pair of fake VMs: what OVN means to come of a ping, and what comes of a real one."""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ovnlab.checks.check_result import CheckResult, failed, held
from ovnlab.checks.reachability import ReachabilityTest, outcomes
from ovnlab.insight.expected_reachability import Intent, intents
from ovnlab.insight.lab_view import LabView
from ovnlab.insight.probe_packet import End, TraceRequest, distance, endpoint
from ovnlab.nodes.target import Target
from ovnlab.tasks.probe import BoundVM
from ovnlab.topology.resolved import interface_name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class VMInterface:
    """An interface of a fake VM that packets can leave by: its own, or that of a VLAN in it.

    `networks` are those of its addresses, `beside` those of the other interfaces in the same namespace; `end` is where
    its logical port is.
    """

    target: Target
    addresses: tuple[Address, ...]
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    end: End
    beside: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of its logical switch port."""
        return self.target.name

    @property
    def device(self) -> str:
        """Return what packets are told to leave by, where there is a choice."""
        return self.target.interface if self.beside else ""


@dataclass(frozen=True)
class VMPair:
    """A ping from one place to an address of another."""

    source: VMInterface
    target: VMInterface
    address: Address

    @property
    def wish(self) -> TraceRequest:
        """Return the packet, for ovn-trace."""
        return TraceRequest(self.source.name, self.target.name, ip=str(self.address))

    @property
    def title(self) -> str:
        """Return the pair, for people."""
        several = len({address.version for address in self.target.addresses}) > 1
        return f"{self.source.name} → {self.target.name}" + (f" (IPv{self.address.version})" if several else "")


@dataclass(frozen=True)
class PairResult:
    """A pair as it is meant and as it is."""

    pair: VMPair
    intent: Intent
    observed: str

    @property
    def ok(self) -> bool:
        """Return True if the two agree."""
        return self.intent.agrees_with(self.observed)

    @property
    def finding(self) -> CheckResult:
        """Return this as a check result."""
        title = self.pair.title
        reason = f" ({self.intent.reason})" if self.intent.reason else ""
        if self.ok:
            return held("pairs", title, f"{self.observed}, {self.intent.outcome}")
        hint = f"ovnlab trace {self.pair.source.name} {self.pair.address}"
        return failed("pairs", title, f"{self.intent.outcome}{reason}", self.observed, hint)


def places(seen: LabView) -> list[VMInterface]:
    """Return the interfaces with an address of all fake VMs that are bound, by name."""
    found = [place for node, state in seen.states.items() for bound in state.vms for place in _of(seen, node, bound)]
    return sorted(found, key=lambda place: place.name)


def _of(seen: LabView, node: str, bound: BoundVM) -> list[VMInterface]:
    words = {bound.name: (interface_name(bound.name), bound.addresses)}
    vm = seen.topology.vm(bound.name)
    for vlan in vm.vlans if vm else ():
        words[vlan.name] = (vlan.interface, vlan.addresses)
    interfaces = {
        name: (device, [ipaddress.ip_interface(word) for word in addresses])
        for name, (device, addresses) in words.items()
        if addresses and node in seen.nodes
    }
    return [
        VMInterface(
            Target(name, seen.nodes[node], bound.name, device, str(own[0].ip), is_vlan=name != bound.name),
            tuple(interface.ip for interface in own),
            tuple(interface.network for interface in own),
            endpoint(seen, name),
            tuple(other.network for key, (_, others) in interfaces.items() if key != name for other in others),
        )
        for name, (device, own) in interfaces.items()
    ]


def pairs(seen: LabView, found: Sequence[VMInterface]) -> list[VMPair]:
    """Return every place with an address of every other, one of each IP version.

    Left out are those whose answer another interface of the same fake VM would take, as what comes of them is the
    kernel's choice and no word about OVN; and those whose target has an address that somebody nearer has as well.
    """
    having: dict[Address, list[VMInterface]] = {}
    for place in found:
        for address in place.addresses:
            having.setdefault(address, []).append(place)
    return [
        VMPair(source, target, address)
        for source in found
        for target in found
        if source.target.vm != target.target.vm
        for address in _one_of_each(target.addresses)
        if any(own.version == address.version for own in source.addresses)
        if not any(own in network for own in source.addresses for network in target.beside)
        if len(having[address]) == 1 or _is_meant(seen, source, target, having[address])
    ]


def _is_meant(seen: LabView, source: VMInterface, target: VMInterface, having: Sequence[VMInterface]) -> bool:
    """Return True if an address that several have means this one where it is pinged from there: no other is as near."""
    if source in having:
        return False
    elsewhere = dataclasses.replace(seen, nodes={})
    far = {place.name: distance(elsewhere, source.end, place.end) for place in having}
    return all(far[target.name] < far[place.name] for place in having if place is not target)


def _one_of_each(addresses: Sequence[Address]) -> list[Address]:
    return list({address.version: address for address in reversed(addresses)}.values())


def sampled(found: Sequence[VMPair], most: int, seed: int) -> list[VMPair]:
    """Return at most `most` pairs in their order, always the same ones for a seed."""
    if len(found) <= most:
        return list(found)
    chosen = random.Random(seed).sample(range(len(found)), most)  # noqa: S311  nothing secret depends on it
    return [found[number] for number in sorted(chosen)]


def compared(seen: LabView, found: Sequence[VMPair]) -> list[PairResult]:
    """Return what is meant to come of each, and what does. What should be answered and is not is asked once more,
    patiently.

    A router learns MAC addresses from packets: what could not be told before they were sent is asked again after.
    """
    elsewhere = dataclasses.replace(seen, nodes={})  # what is bound where is known: no node is asked for its routes
    meant = intents(elsewhere, [pair.wish for pair in found])
    observed = outcomes([_try(pair) for pair in found], [one.is_hopeful for one in meant])
    unknown = [number for number, intent in enumerate(meant) if intent.outcome == "unknown"]
    for number, intent in zip(unknown, intents(elsewhere, [found[n].wish for n in unknown]), strict=True):
        meant[number] = intent
    return [PairResult(*one) for one in zip(found, meant, observed, strict=True)]


def _try(pair: VMPair) -> ReachabilityTest:
    return ReachabilityTest(pair.source.target, str(pair.address), device=pair.source.device)
