"""The chassis that run each part of a logical trace, one after the other, and the tunnels between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovnlab.insight.names import LogicalPort, Names, TunnelNames
from ovnlab.insight.ovn_trace import INSIDE, PortOutput, Section


@dataclass(frozen=True)
class Leg:
    """The part of a logical path on one chassis.

    `tunnel` is the one that the packet comes in by, `localnet` the port by which it comes in from a physical network
    instead; neither on the first. `origin` is the chassis that it comes from.
    """

    chassis: str
    sections: tuple[Section, ...] = ()
    tunnel: TunnelNames | None = None
    localnet: LogicalPort | None = None
    origin: str = ""

    @property
    def outputs(self) -> tuple[PortOutput, ...]:
        """Return the logical ports where the packet leaves the logical network here."""
        return tuple(output for section in self.sections for output in section.outputs if output.type not in INSIDE)

    @property
    def uuids(self) -> tuple[str, ...]:
        """Return the logical flows that a switch has to match here, by the first digits of their UUIDs, in order."""
        return tuple(stage.uuid for section in self.sections for stage in section.sure if stage.uuid)


def legs(sections: Sequence[Section], names: Names, chassis: str) -> tuple[Leg, ...]:
    """Return the parts of a trace that begins on a chassis (ovn-architecture(7), Physical Life Cycle of a Packet).

    Egress pipelines run where their output port is bound, a router's behind a chassisredirect port on its gateway, all
    else where the packet is already. What floods goes on from one chassis to several.
    """
    found = [Leg(chassis)]
    here = 0  # the leg that what floods goes out from
    redirect = group = ""
    for section in sections:
        if section.pipeline == "multicast":
            here, group = len(found) - 1, section.outport
        port = names.ports.get(redirect or section.outport)
        home = _home(port) if section.pipeline == "egress" else None
        if section.depth and section.pipeline == "egress":
            home = home or found[here].chassis
        if home is not None and home != found[-1].chassis:
            start = found[here] if section.depth else found[-1]
            known = [leg for leg in found[here:] if leg.chassis == home] if section.depth else []
            if known and home == start.chassis:
                found[here] = replace(start, sections=(*start.sections, section))
                continue
            found.append(_arriving(names, section, port, start.chassis, home, group if section.depth else ""))
        found[-1] = replace(found[-1], sections=(*found[-1].sections, section))
        redirect = section.redirect
    return tuple(found)


def _arriving(
    names: Names, section: Section, port: LogicalPort | None, source: str, destination: str, group: str
) -> Leg:
    """Return the next leg: through a tunnel, or where the logical switch is on a physical network, through that."""
    if source == destination:
        return Leg(destination, origin=source)
    localnet = next((one for one in names.ports_of(section.datapath) if one.type == "localnet"), None)
    if localnet is not None and port is not None and not port.type:
        return Leg(destination, localnet=localnet, origin=source)
    tunnel = _tunnel(names, section, port, source, destination)
    key = names.group(section.datapath, group) if group else None
    if key is not None:  # what floods goes to the group on each chassis, which has it for its own ports
        vni = key << 12 | tunnel.vni & 0xFFF if tunnel.encap == "vxlan" else tunnel.vni
        tunnel = replace(tunnel, egress_key=key, outport=group, vni=vni)
    return Leg(destination, tunnel=tunnel, origin=source)


def _home(port: LogicalPort | None) -> str | None:
    """Return the chassis where the egress pipeline to a port runs; None where that is wherever the packet is."""
    if port is None or port.type in ("patch", "localnet", "localport"):
        return None
    return port.chassis


def _tunnel(names: Names, section: Section, port: LogicalPort | None, source: str, destination: str) -> TunnelNames:
    """Return what the header between two chassis must say, for what runs next."""
    datapath = names.datapaths.get(section.datapath)
    inport = names.ports.get(section.inport)
    encap = encap_between(names, source, destination)
    key = datapath.key if datapath else 0
    egress = port.key if port else None
    vxlan = encap == "vxlan"
    return TunnelNames(
        src_chassis=source,
        dst_chassis=destination,
        encap=encap,
        vni=(egress or 0) << 12 | key if vxlan else key,
        ingress_key=None if vxlan or inport is None else inport.key,
        egress_key=egress,
        datapath=section.datapath,
        inport="" if vxlan or inport is None else inport.name,
        outport=port.name if port else section.outport,
    )


def encap_between(names: Names, source: str, destination: str) -> str:
    """Return the encapsulation that two chassis have in common, Geneve before VXLAN (ovn-controller(8),
    ovn-encap-type).
    """
    both = {
        kind
        for kind in ("geneve", "vxlan")
        for mine in names.encaps
        for theirs in names.encaps
        if mine.chassis == source and theirs.chassis == destination and mine.type == theirs.type == kind
    }
    return "geneve" if "geneve" in both or not both else "vxlan"
