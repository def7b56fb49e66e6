"""Dissection of packets, down to the inside of a tunnel. Never raises: malformed parts become text.

Only what a lab is looked at for: Ethernet, VLANs, ARP, IPv4 and IPv6, ICMP, TCP, UDP, Geneve and VXLAN.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovnlab.insight.encapsulation import PORTS, TunnelHeader, read

VLANS = (0x8100, 0x88A8, 0x9100)
"""EtherTypes of 802.1Q and 802.1ad tags."""

EXTENSIONS = (0, 43, 60, 135)
"""IPv6 extension headers whose second byte says how long they are (RFC 8200, 4): hop-by-hop, routing, ..."""

ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
UNREACHABLE = {0: "net unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
               4: "fragmentation needed", 9: "net prohibited", 10: "host prohibited", 13: "filtered"}  # fmt: skip
ICMP6 = {1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
         133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation",
         136: "neighbor advertisement", 143: "multicast listener report"}  # fmt: skip
SPOKEN = {53: "DNS", 67: "DHCP", 68: "DHCP", 546: "DHCPv6", 547: "DHCPv6", 3784: "BFD"}
"""What is said on some UDP ports."""

TCP_FLAGS = "FSRP.UEW"
"""As tcpdump(8) writes them; the point is ACK."""


@dataclass(frozen=True)
class Packet:
    """A frame that was taken apart. What it does not have is empty.

    `fields` are its headers as OpenFlow names them (ovs-fields(7)); `said` what it says above IP, in words; `payload`
    what follows the last header that is known; `tunnel` and `inner` what a tunnel carries; `problem` why it was not
    read to its end.
    """

    eth_source: str = ""
    eth_destination: str = ""
    vlans: tuple[int, ...] = ()
    ethertype: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    destination: str = ""
    ttl: int = 0
    protocol: str = ""
    source_port: int = 0
    destination_port: int = 0
    said: str = ""
    length: int = 0
    payload: bytes = b""
    tunnel: TunnelHeader | None = None
    inner: Packet | None = None
    problem: str = ""

    @property
    def flow(self) -> str:
        """Return the packet's headers as an OpenFlow flow."""
        return ",".join(f"{key}={value}" for key, value in self.fields.items())

    @property
    def line(self) -> str:
        """Return the packet in a line, its tunnel left out."""
        tags = "".join(f"vlan {tag}, " for tag in self.vlans)
        if self.source:
            ports = self.protocol in ("tcp", "udp")
            ends = (
                _end(self.source, self.source_port if ports else 0),
                _end(self.destination, self.destination_port if ports else 0),
            )
            text = f"{ends[0]} > {ends[1]}: {self.said}"
        else:
            text = self.said or f"{self.eth_source} > {self.eth_destination}, ethertype 0x{self.ethertype:04x}"
        text = f"{tags}{text}"
        return f"{text} [{self.problem}]" if self.problem else text

    @property
    def innermost(self) -> Packet:
        """Return what the fake VMs see of it."""
        return self.inner.innermost if self.inner else self


def _end(address: str, port: int) -> str:
    return f"{address}.{port}" if port else address


class _Short(Exception):
    """There is less of it than its headers say."""


def packet(frame: bytes, *, depth: int = 0) -> Packet:
    """Return an Ethernet frame, taken apart."""
    found: dict[str, Any] = {"length": len(frame)}
    try:
        _ethernet(frame, found, depth)
    except _Short as short:
        found["problem"] = f"cut off in its {short} header"
    return Packet(**found)


def _take(data: bytes, at: int, form: str, what: str) -> tuple[Any, ...]:
    size = struct.calcsize(form)
    if len(data) < at + size:
        raise _Short(what)
    return struct.unpack_from(form, data, at)


def mac(raw: bytes) -> str:
    """Return a MAC address as OVN writes it."""
    return raw.hex(":")


def _ethernet(frame: bytes, found: dict[str, Any], depth: int) -> None:
    destination, source, kind = _take(frame, 0, "!6s6sH", "Ethernet")
    found.update(eth_destination=mac(destination), eth_source=mac(source), ethertype=kind)
    found["fields"] = {"dl_src": mac(source), "dl_dst": mac(destination)}
    at = 14
    while kind in VLANS:
        tag, kind = _take(frame, at, "!HH", "VLAN")
        found["vlans"] = (*found.get("vlans", ()), tag & 0xFFF)
        found["ethertype"] = kind
        found["fields"].setdefault("dl_vlan", str(tag & 0xFFF))
        at += 4
    found["fields"]["dl_type"] = f"{kind:#06x}"
    found["payload"] = frame[at:]
    if kind == 0x0806:
        _arp(frame[at:], found)
    elif kind == 0x0800:
        _ipv4(frame[at:], found, depth)
    elif kind == 0x86DD:
        _ipv6(frame[at:], found, depth)
    elif kind < 0x0600:
        found["said"] = f"802.3, length {kind}"


def _arp(data: bytes, found: dict[str, Any]) -> None:
    found["protocol"] = "arp"
    hardware, network, sizes, operation = _take(data, 0, "!HHHH", "ARP")
    if (hardware, network, sizes) != (1, 0x0800, 0x0604):
        found["said"] = f"ARP of hardware type {hardware}"
        return
    sender, sender_ip, target, target_ip = _take(data, 8, "!6s4s6s4s", "ARP")
    found["fields"].update(
        arp_op=str(operation), arp_spa=socket.inet_ntoa(sender_ip), arp_tpa=socket.inet_ntoa(target_ip),
        arp_sha=mac(sender), arp_tha=mac(target),
    )  # fmt: skip
    asker, asked = socket.inet_ntoa(sender_ip), socket.inet_ntoa(target_ip)
    said = {1: f"ARP, who has {asked}? tell {asker}", 2: f"ARP, {asker} is at {mac(sender)}"}
    found["said"] = said.get(operation, f"ARP, operation {operation}")
    found["payload"] = data[28:]


def _ipv4(data: bytes, found: dict[str, Any], depth: int) -> None:
    first, tos, total, _, fragment, ttl, protocol, _, source, destination = _take(data, 0, "!BBHHHBBH4s4s", "IPv4")
    header = (first & 15) * 4
    found.update(source=socket.inet_ntoa(source), destination=socket.inet_ntoa(destination), ttl=ttl)
    if first >> 4 != 4 or header < 20 or len(data) < header:
        raise _Short("IPv4")
    found["fields"].update(
        nw_src=found["source"], nw_dst=found["destination"], nw_ttl=str(ttl), nw_tos=str(tos & 0xFC),
        nw_proto=str(protocol),
    )  # fmt: skip
    # What a short frame is filled up with is not of the packet; a length of 0 is a segment that a NIC is yet to cut.
    body = data[header : max(total, header)] if total else data[header:]
    if fragment & 0x1FFF:
        found.update(said=f"fragment at byte {(fragment & 0x1FFF) * 8}, protocol {protocol}", payload=body)
        return
    _above(protocol, body, found, depth)


def _ipv6(data: bytes, found: dict[str, Any], depth: int) -> None:
    first, length, following, hops, source, destination = _take(data, 0, "!IHBB16s16s", "IPv6")
    found.update(
        source=socket.inet_ntop(socket.AF_INET6, source),
        destination=socket.inet_ntop(socket.AF_INET6, destination),
        ttl=hops,
    )
    if first >> 28 != 6:
        raise _Short("IPv6")
    found["fields"].update(
        ipv6_src=found["source"], ipv6_dst=found["destination"], nw_ttl=str(hops), nw_tos=str(first >> 20 & 0xFC)
    )
    body = data[40 : 40 + length] if length else data[40:]
    while following in EXTENSIONS:
        further, size = _take(body, 0, "!BB", "IPv6 extension")
        body, following = body[8 + size * 8 :], further
    if following == 44:
        further, _, offset, _ = _take(body, 0, "!BBHI", "IPv6 fragment")
        body, following = body[8:], further
        if offset >> 3:
            found.update(said=f"fragment at byte {offset & ~7}, protocol {further}", payload=body)
            return
    _above(following, body, found, depth)


PROTOCOLS = {
    2: "IGMP", 4: "IP in IP", 41: "IPv6 in IP", 50: "ESP", 51: "AH", 89: "OSPF", 103: "PIM", 112: "VRRP", 132: "SCTP",
}  # fmt: skip
"""Protocols above IP that are called by name (IANA, Protocol Numbers)."""

ERSPAN = {0x88BE: "ERSPAN", 0x22EB: "ERSPAN III"}
GRE = {0x0800: "IPv4", 0x86DD: "IPv6", 0x6558: "Ethernet", **ERSPAN}
"""What GRE carries (IANA, Ether Types)."""


def _above(protocol: int, body: bytes, found: dict[str, Any], depth: int) -> None:
    found["payload"] = body
    found["fields"]["nw_proto"] = str(protocol)
    if protocol == 1:
        _icmp(body, found, "icmp", "ICMP", ICMP)
    elif protocol == 58:
        _icmp(body, found, "icmp6", "ICMPv6", ICMP6)
    elif protocol == 6:
        _tcp(body, found)
    elif protocol == 17:
        _udp(body, found, depth)
    elif protocol == 47:
        _gre(body, found)
    else:
        said = PROTOCOLS.get(protocol, f"protocol {protocol}")
        found.update(protocol=str(protocol), said=f"{said}, length {len(body)}")


def _gre(body: bytes, found: dict[str, Any]) -> None:
    """Dissect GRE (RFC 2784, RFC 2890), and the ERSPAN in it (draft-foschiano-erspan)."""
    found["protocol"] = "gre"
    flags, kind = _take(body, 0, "!HH", "GRE")
    at = 4 + 4 * bool(flags & 0x8000)
    words = [GRE.get(kind, f"protocol {kind:#06x}")]
    if flags & 0x2000:
        words.append(f"key {_take(body, at, '!I', 'GRE')[0]}")
        at += 4
    if flags & 0x1000:
        words.append(f"seq {_take(body, at, '!I', 'GRE')[0]}")
        at += 4
    if kind in ERSPAN:
        first, second = _take(body, at, "!HH", "ERSPAN")
        words += [f"VLAN {first & 0xFFF}", f"session {second & 0x3FF}"]
    found.update(said=f"GRE, {', '.join(words)}, length {len(body)}", payload=body[at:])


def _icmp(body: bytes, found: dict[str, Any], name: str, title: str, kinds: dict[int, str]) -> None:
    found["protocol"] = name
    kind, code, _ = _take(body, 0, "!BBH", title)
    found["payload"] = body[8:]
    found["fields"].update({f"{name.replace('6', 'v6')}_type": str(kind), f"{name.replace('6', 'v6')}_code": str(code)})
    said = f"{title} {kinds.get(kind, f'type {kind} code {code}')}"
    if kinds.get(kind, "").startswith("echo"):
        number, sequence = _take(body, 4, "!HH", title)
        said += f", id {number}, seq {sequence}"
    elif name == "icmp" and kind == 3:
        said = f"{title} {UNREACHABLE.get(code, f'unreachable, code {code}')}"
    elif name == "icmp6" and kind in (135, 136) and len(body) >= 24:
        said += f", {socket.inet_ntop(socket.AF_INET6, body[8:24])}"
    found["said"] = f"{said}, length {len(body)}"


def _tcp(body: bytes, found: dict[str, Any]) -> None:
    found["protocol"] = "tcp"
    source, destination, sequence, acknowledged, flags = _take(body, 0, "!HHIIH", "TCP")
    header = (flags >> 12) * 4
    found.update(source_port=source, destination_port=destination)
    found["fields"].update(tcp_src=str(source), tcp_dst=str(destination), tcp_flags=str(flags & 0xFFF))
    if header < 20 or len(body) < header:
        raise _Short("TCP")
    shown = "".join(letter for bit, letter in enumerate(TCP_FLAGS) if flags >> bit & 1) or "none"
    answer = f", ack {acknowledged}" if flags & 0x10 else ""
    found.update(
        said=f"TCP [{shown}], seq {sequence}{answer}, length {len(body) - header}",
        payload=body[header:],
    )


def _udp(body: bytes, found: dict[str, Any], depth: int) -> None:
    found["protocol"] = "udp"
    source, destination, length, _ = _take(body, 0, "!HHHH", "UDP")
    payload = body[8 : max(length, 8)] if length else body[8:]
    found["fields"].update(udp_src=str(source), udp_dst=str(destination))
    found.update(source_port=source, destination_port=destination, said=f"UDP, length {len(payload)}", payload=payload)
    if destination in SPOKEN or source in SPOKEN:
        found["said"] = f"{SPOKEN.get(destination) or SPOKEN[source]}, length {len(payload)}"
    encap = PORTS.get(destination)
    if encap is None or depth > 3:
        return
    tunnel, carried = read(encap, payload)
    found["said"] = f"{encap.capitalize() if encap == 'geneve' else 'VXLAN'}, length {len(payload)}"
    if tunnel is None:
        found["problem"] = f"cut off in its {'Geneve' if encap == 'geneve' else 'VXLAN'} header"
        return
    found["tunnel"] = tunnel
    if tunnel.carries_ethernet:
        found["inner"] = packet(carried, depth=depth + 1)
    found["payload"] = carried
