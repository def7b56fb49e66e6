"""A packet made of an OVN expression's fields, and sent from where it is said to come from."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from typing import Any

from ovnlab.errors import UsageError
from ovnlab.insight.probe_packet import ProbePacket
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.addresses import ip_of

KNOWN = {
    "eth.src", "eth.dst", "ip4.src", "ip4.dst", "ip6.src", "ip6.dst", "ip.ttl", "ip.dscp", "icmp4.type", "icmp4.code",
    "icmp6.type", "icmp6.code", "tcp.src", "tcp.dst", "tcp.flags", "udp.src", "udp.dst", "arp.op", "arp.spa", "arp.tpa",
    "arp.sha", "arp.tha", "vlan.vid", "ip.proto", "ip4", "ip6",
}  # fmt: skip
"""The fields that a packet can be made of."""


NOBODY = "0.0.0.0"  # noqa: S104  the sender where none is given, and nothing listens on it


def frame(question: ProbePacket) -> bytes | None:
    """Return the packet's bytes, with its marker at the end; None where it has something that none can be made of."""
    fields = dict(question.fields)
    fields.pop("inport", None)
    if question.more or not set(fields) <= KNOWN:
        return None
    try:
        return _built(
            fields, question.marker + bytes(max(question.size - len(question.marker), 0)), whole=bool(question.size)
        )
    except (ValueError, OSError, OverflowError, struct.error) as error:
        said = str(error).splitlines()[0] if str(error) else "a value is out of its range"
        raise UsageError(f"no packet can be made of it: {said}", where=question.microflow) from None


def _built(fields: Mapping[str, str], marker: bytes, *, whole: bool) -> bytes:
    """Return the packet with a payload; nobody may take it apart on the way if it has to stay `whole` (RFC 1191)."""
    logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
    from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: PLC0415  takes 0.3 s
    from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6Unknown, IPv6  # noqa: PLC0415
    from scapy.layers.l2 import ARP, Dot1Q, Ether  # noqa: PLC0415

    def number(key: str, otherwise: int) -> int:
        return int(fields.get(key, str(otherwise)), 0)

    made: Any = Ether(src=fields.get("eth.src"), dst=fields.get("eth.dst"))
    if "vlan.vid" in fields:
        made /= Dot1Q(vlan=number("vlan.vid", 0))
    if any(key.startswith("arp.") for key in fields):
        return bytes(
            made
            / ARP(
                op=number("arp.op", 1), psrc=fields.get("arp.spa", NOBODY), pdst=fields.get("arp.tpa", NOBODY),
                hwsrc=fields.get("arp.sha", fields.get("eth.src")), hwdst=fields.get("arp.tha", "00:00:00:00:00:00"),
            )
            / marker
        )  # fmt: skip
    ttl, tos = number("ip.ttl", 64), number("ip.dscp", 0) << 2
    if "ip6.dst" in fields:
        made /= IPv6(src=fields.get("ip6.src", "::"), dst=fields["ip6.dst"], hlim=ttl, tc=tos)
    elif "ip4.dst" in fields:
        made /= IP(src=fields.get("ip4.src", NOBODY), dst=fields["ip4.dst"], ttl=ttl, tos=tos)
        if whole:
            made.flags = "DF"
        if "ip.proto" in fields:
            made.proto = number("ip.proto", 0)
    else:
        made.type = 0x88B5  # for experiments (IEEE 802)
    if "tcp.dst" in fields:
        made /= TCP(sport=number("tcp.src", 0), dport=number("tcp.dst", 0), flags=number("tcp.flags", 2))
    elif "udp.dst" in fields:
        made /= UDP(sport=number("udp.src", 0), dport=number("udp.dst", 0))
    elif "icmp4.type" in fields:
        made /= ICMP(type=number("icmp4.type", 8), code=number("icmp4.code", 0), id=int.from_bytes(marker[:2]), seq=1)
    elif number("icmp6.type", 0) == 128:
        made /= ICMPv6EchoRequest(id=int.from_bytes(marker[:2]), seq=1)
    elif "icmp6.type" in fields:
        made /= ICMPv6Unknown(type=number("icmp6.type", 0), code=number("icmp6.code", 0))
    return bytes(made / marker)


def changed(packet: bytes, headers: Mapping[str, Mapping[str, str]]) -> bytes:
    """Return a packet with what a switch's datapath sets in its headers (ovs-fields(7) in the datapath's own names)."""
    if not headers:
        return packet
    from scapy.layers.inet import IP, TCP, UDP  # noqa: PLC0415
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415
    from scapy.layers.l2 import Ether  # noqa: PLC0415

    made: Any = Ether(packet)
    layers = {
        "eth": (Ether, {"src": "src", "dst": "dst"}),
        "ipv4": (IP, {"src": "src", "dst": "dst", "ttl": "ttl", "tos": "tos"}),
        "ipv6": (IPv6, {"src": "src", "dst": "dst", "hlimit": "hlim", "tclass": "tc"}),
        "tcp": (TCP, {"src": "sport", "dst": "dport"}),
        "udp": (UDP, {"src": "sport", "dst": "dport"}),
    }
    for header, values in headers.items():
        layer, fields = layers.get(header, (None, {}))
        if layer is None or layer not in made:
            continue
        for key, value in values.items():
            text = ip_of(value)
            if key in fields:
                is_address = key in ("src", "dst") and header in ("eth", "ipv4", "ipv6")
                setattr(made[layer], fields[key], text if is_address else int(text, 0))
    for layer in (IP, TCP, UDP):
        if layer in made:
            made[layer].chksum = None
    return bytes(made)


def send(question: ProbePacket, packet: bytes, *, from_chassis: bool, copies: int = 1) -> None:
    """Send it from where it is said to come from: inside the fake VM, or at its port of the chassis' switch."""
    end = question.source
    if from_chassis or end.place is None:
        node = question.chassis
        place = end.place.node if end.place is not None and end.place.vm else None
        if place is None:
            raise UsageError(f"{end.name} is at no port of a chassis: --from-chassis is for fake VMs")
        port = end.port
        if port is not None and port.parent and port.tag:
            packet = packet[:12] + struct.pack("!HH", 0x8100, port.tag) + packet[12:]
        script = render("node/inject-packet.sh.j2", port=question.in_port, packet=packet.hex())
        run_script(place.context, script, where=f"{node}: sending a packet")
        return
    script = render(
        "node/send-packets.sh.j2",
        namespace=end.place.vm or "",
        device=end.place.interface,
        packet=packet.hex(),
        copies=copies,
    )
    run_script(end.place.node.context, script, where=f"{end.name}: sending a packet")
