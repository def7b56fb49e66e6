"""Tunnel headers in OVN's terms: Geneve (RFC 8926), VXLAN (RFC 7348) and ovn-architecture(7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

GENEVE_PORT, VXLAN_PORT = 6081, 4789
PORTS = {GENEVE_PORT: "geneve", VXLAN_PORT: "vxlan"}
"""The UDP ports of tunnels, and which they are."""

ETHERNET = 0x6558
"""Transparent Ethernet Bridging, what OVN's tunnels carry."""

OVN_CLASS, OVN_TYPE = 0x0102, 0x80
"""The Geneve option with the logical ports (ovn-architecture(7), Tunnel Encapsulations)."""


@dataclass(frozen=True)
class TunnelHeader:
    """The header of a tunnel.

    `datapath_key` is the tunnel key of the logical datapath, `ingress_key` and `egress_key` those of the logical ports,
    None where the header does not carry them: VXLAN has no ingress port, and Geneve only with OVN's option, whose four
    bytes are `option`. `remarks` tell what is unusual.
    """

    encap: str
    vni: int
    datapath_key: int
    ingress_key: int | None = None
    egress_key: int | None = None
    option: str = ""
    protocol: int = ETHERNET
    remarks: tuple[str, ...] = ()

    @property
    def carries_ethernet(self) -> bool:
        """Return True if a frame follows."""
        return self.protocol == ETHERNET


def read(encap: str, payload: bytes) -> tuple[TunnelHeader | None, bytes]:
    """Return the header of a UDP payload and what follows it; None where it is cut off."""
    return _geneve(payload) if encap == "geneve" else _vxlan(payload)


def _geneve(payload: bytes) -> tuple[TunnelHeader | None, bytes]:
    """Return version and length of options, flags, protocol, VNI (RFC 8926, 3.4)."""
    if len(payload) < 8:
        return None, b""
    first, flags, protocol, last = struct.unpack_from("!BBHI", payload)
    end = 8 + (first & 0x3F) * 4
    if len(payload) < end:
        return None, b""
    remarks = [f"version {first >> 6}"] if first >> 6 else []
    if flags & 0x80:
        remarks.append("control packet")
    vni = last >> 8
    option, ingress, egress = "", None, None
    at = 8
    while at + 4 <= end:
        kind, number, size = struct.unpack_from("!HBB", payload, at)
        size = (size & 0x1F) * 4
        data = payload[at + 4 : min(at + 4 + size, end)]
        if at + 4 + size > end:
            remarks.append("an option is longer than the header")
        elif (kind, number) == (OVN_CLASS, OVN_TYPE) and size == 4:
            option = data.hex()
            keys = int.from_bytes(data, "big")
            ingress, egress = keys >> 16 & 0x7FFF, keys & 0xFFFF
        else:
            remarks.append(f"option class 0x{kind:04x} type 0x{number:02x} data {data.hex() or 'none'}")
        at += 4 + size
    found = TunnelHeader("geneve", vni, vni, ingress, egress, option, protocol, tuple(remarks))
    return found, payload[end:]


def _vxlan(payload: bytes) -> tuple[TunnelHeader | None, bytes]:
    """Return flags and VNI. Between chassis OVN has 12 bits of it for the datapath and 12 for the egress port."""
    if len(payload) < 8:
        return None, b""
    flags, last = struct.unpack_from("!B3xI", payload)
    vni = last >> 8
    remarks = () if flags & 0x08 else ("no VNI is valid",)
    return TunnelHeader("vxlan", vni, vni & 0xFFF, None, vni >> 12, remarks=remarks), payload[8:]
