"""Addresses as a topology file and OVN write them: parsed here and nowhere else, each in one spelling.

MAC addresses, IP addresses, addresses with prefix length, subnets, and endpoints: ADDRESS or ADDRESS:PORT, with IPv6
in brackets where a port follows (ovn-nb(5), Load_Balancer: vips). Functions that raise ValueError say what was
expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
"""MAC addresses."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """An address and a port, 0 where there is none: a VIP, a backend, what a check connects to."""

    ip: str
    port: int = 0

    @property
    def address(self) -> Address:
        """Return the address as a value that can be compared with networks."""
        return ipaddress.ip_address(self.ip)

    def __str__(self) -> str:
        return f"{bracketed(self.ip)}:{self.port}" if self.port else self.ip


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that ADDRESS or ADDRESS:PORT names. Raise ValueError for anything else.

    >>> print(parse_endpoint("[FD01:0::100]:080"), parse_endpoint("fd01::1"), parse_endpoint("10.0.0.1:80"))
    [fd01::100]:80 fd01::1 10.0.0.1:80
    """
    host, port = split_port(text)
    try:
        return Endpoint(parse_ip(host), port)
    except ValueError:
        raise ValueError(f"{text!r} must be ADDRESS or ADDRESS:PORT") from None


def split_port(text: str) -> tuple[str, int]:
    """Return the host of HOST, HOST:PORT, [IPV6] or [IPV6]:PORT without brackets, and the port, 0 where there is none.

    Raise ValueError for a port outside 1 to 65535. The host may be a name.

    >>> split_port("vm1:22"), split_port("[fd00::1]:80"), split_port("fd00::1")
    (('vm1', 22), ('fd00::1', 80), ('fd00::1', 0))
    """
    found = re.fullmatch(r"\[([^\[\]]*)\](?::([^:]*))?", text) or re.fullmatch(r"([^:\[\]]*):([^:]*)", text)
    host, port = (found[1], found[2]) if found else (text, None)
    if port is None:
        return host, 0
    if not (port.isascii() and port.isdigit() and len(port) < 10 and 0 < int(port) < 65536):
        raise ValueError(f"invalid port {port!r} in {text!r}: expected 1 to 65535")
    return host, int(port)


def host_of(text: str) -> str:
    """Return the host of an endpoint as a row of a database has it, an address in its usual spelling.

    >>> host_of("[FD00::1]:80"), host_of("10.0.0.1:80"), host_of("fd00::1"), host_of("vm1:22")
    ('fd00::1', '10.0.0.1', 'fd00::1', 'vm1')
    """
    try:
        host = split_port(text.strip())[0]
    except ValueError:
        return text
    try:
        return parse_ip(host)
    except ValueError:
        return host


def port_of(text: str) -> int:
    """Return the port of an endpoint as a row of a database has it, 0 where there is none."""
    try:
        return split_port(text.strip())[1]
    except ValueError:
        return 0


def bracketed(ip: str) -> str:
    """Return an address as it stands before a colon: IPv6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip


def parse_ip(text: str) -> str:
    """Return an IP address in its usual spelling. Raise ValueError for others, those with a zone (%eth0) included."""
    if "%" in text:
        raise ValueError(f"invalid IP address {text!r}")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if "/" in text:
            raise ValueError(f"{text!r} must be an address without prefix length") from None
        raise ValueError(f"invalid IP address {text!r}") from None


def parse_network(text: str) -> str:
    """Return a subnet in its usual spelling. Raise ValueError where bits are set behind its prefix length."""
    try:
        meant = None if "%" in text else ipaddress.ip_network(text, strict=False)
    except ValueError:
        meant = None
    if meant is None:
        raise ValueError(f"invalid subnet {text!r} such as 192.168.0.0/24")
    if "/" not in text:
        raise ValueError(f"{text!r} needs a prefix length, such as 192.168.0.0/24")
    if str(meant.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise ValueError(f"{text!r} has bits behind its prefix length; did you mean {meant}?")
    return str(meant)


def parse_interface(text: str) -> str:
    """Return an address with prefix length in its usual spelling."""
    if "/" not in text:
        raise ValueError(f"{text!r} needs a prefix length, such as {text}/24")
    try:
        if "%" in text:
            raise ValueError
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise ValueError(f"invalid address with prefix length {text!r} such as 192.168.0.1/24") from None


def is_ip(text: str) -> bool:
    """Return True for an IP address without prefix length."""
    try:
        return bool(parse_ip(text))
    except ValueError:
        return False


def ip_of(interface: str) -> str:
    """Return the address of ADDRESS/LENGTH, or of ADDRESS.

    >>> ip_of("192.168.0.1/24"), ip_of("fd00::1")
    ('192.168.0.1', 'fd00::1')
    """
    return interface.partition("/")[0]


def with_length(ip: str, subnets: Iterable[str]) -> str:
    """Return an address with the prefix length of the first of the subnets that it is in, or that of a single host.

    >>> with_length("10.0.0.1", ["10.0.0.0/8"]), with_length("fd00::1", [])
    ('10.0.0.1/8', 'fd00::1/128')
    """
    address = ipaddress.ip_address(ip)
    network = next((network for network in map(ipaddress.ip_network, subnets) if address in network), None)
    return f"{ip}/{network.prefixlen if network else address.max_prefixlen}"


def parse_mac(text: str) -> str:
    """Return the MAC address of an interface in lower case. Raise ValueError for a multicast one, and for zeros."""
    if not MAC.fullmatch(text):
        raise ValueError(f"invalid MAC address {text!r}: six pairs of hex digits such as 0a:00:00:00:00:01")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text!r} is a multicast address (its first octet is odd): no interface can have it")
    if text == "00:00:00:00:00:00":
        raise ValueError("a MAC address of zeros is not an interface's")
    return text.lower()


def is_mac(text: str) -> bool:
    """Return True for six pairs of hex digits."""
    return MAC.fullmatch(text) is not None


def eui64(subnet: str, mac: str) -> str:
    """Return the address that a machine with that MAC makes of an advertised prefix (RFC 4291, appendix A).

    >>> eui64("fd00::/64", "40:44:00:00:00:01")
    'fd00::4244:ff:fe00:1'
    """
    octets = [int(octet, 16) for octet in mac.split(":")]
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.ip_network(subnet).network_address + int.from_bytes(identifier, "big"))


def split_name(text: str) -> tuple[str, int]:
    """Return name and port of NAME or NAME:PORT, the port 0 where there is none; an empty name for an address.

    >>> split_name("web1:80"), split_name("web1"), split_name("[fd00::11]:80"), split_name("fd00::11")
    (('web1', 80), ('web1', 0), ('', 0), ('', 0))
    """
    host, colon, port = text.rpartition(":")
    if is_ip(text) or (colon and (is_ip(host_of(host)) or not (port.isascii() and port.isdigit()))):
        return "", 0
    return (host, int(port)) if colon else (text, 0)
