"""Validators of single values of a topology file that end up in a configuration, on a command line or in a program.

A file may come from a stranger: what it says must stay what it is, whatever reads it afterwards.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
"""Names of hosts as resolvers take them, and aliases as people give them."""

USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}\$?")
"""Names of users (useradd(8)), and those of directories, such as admin@example.org."""

ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
"""Zones of link-local addresses: names of interfaces."""

LIBVIRT_URI = re.compile(
    r"qemu(?P<transport>\+[a-z0-9]+)?://"
    r"((?P<user>[^@/?#]*)@)?(?P<host>\[[^\]/?#]*\]|[^:@/?#\[\]]*)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)(\?(?P<parameters>[^#]*))?"
)

TRANSPORTS = ("unix", "ssh", "tls")
"""Ways to a libvirt daemon. Others start programs (ext), or go unprotected (tcp)."""

URI_PARAMETERS = ("keyfile", "known_hosts", "mode", "no_tty", "pkipath", "socket")
"""Parameters of libvirt's URIs (https://libvirt.org/uri.html) that neither start a program, as command, netcat and
proxy do, nor turn a check off, as no_verify and known_hosts_verify do, nor make the daemon open another URI (name)."""

STARTS_PROGRAMS = frozenset({"emulator", "script", "downscript"})
"""Elements of libvirt's domains that name a program which the hypervisor starts."""

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that make a terminal show text in another order than it has."""


def is_control(character: str) -> bool:
    """Return True for a character that is not shown but does something: ends a line, moves the cursor, turns text."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDIRECTIONAL


def printable(value: str) -> str:
    """Return text of one line, without the line end of a block scalar. Raise ValueError for control characters."""
    value = value.rstrip("\n")
    if not value.strip():
        raise ValueError("must not be empty")
    if found := next(filter(is_control, value), None):
        raise ValueError(f"invalid text: expected a single line without control characters, found {found!a}")
    return value


def match_expression(value: str) -> str:
    """Return an OVN match in a single line: line ends and tabs are spaces between tokens (ovn-sb(5))."""
    return printable(re.sub(r"\s*[\n\t]\s*", " ", value).strip())


def host(value: str) -> str:
    """Return the name or address of a host, an address in its usual form."""
    if (address := _address(value)) is not None:
        return address
    if not HOST_NAME.fullmatch(value):
        raise ValueError(f"invalid host {value!r}: expected a host name or an IP address")
    return value


def _address(value: str) -> str | None:
    bare, percent, zone = value.partition("%")
    if percent and not (ZONE.fullmatch(zone) and ":" in bare):
        return None
    try:
        return f"{ipaddress.ip_address(bare)}{percent}{zone}"
    except ValueError:
        return None


def user(value: str) -> str:
    """Return the name of a user."""
    if not USER_NAME.fullmatch(value):
        raise ValueError(f"invalid user {value!r}: expected letters, digits and '.', '_', '@', '+', '-'")
    return value


def jump(value: str) -> str:
    """Return a jump host as USER@HOST:PORT."""
    name, at, place = value.rpartition("@")
    where, colon, port = place.rpartition(":")
    if not (at and colon and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"invalid jump host {value!r}: expected USER@HOST:PORT")
    bare = where[1:-1] if where.startswith("[") and where.endswith("]") else where
    return f"{user(name)}@{host(bare)}:{int(port)}"


def file_path(value: str) -> str:
    """Return a path, or a URL. Raise ValueError for what no configuration can quote."""
    value = printable(value)
    if '"' in value:
        raise ValueError(f"invalid path {value!r}: expected one without double quotes")
    return value


def compiler_flags(value: str) -> str:
    """Return flags for a C compiler, which make(1) and a shell read as well: nothing that they would expand."""
    words = printable(value).split()
    if bad := next((word for word in words if not re.fullmatch(r"[A-Za-z0-9_=,./:+@%^-]+", word)), None):
        raise ValueError(f"invalid compiler flag {bad!r}: expected flags such as -O2, without quotes, '$' or '#'")
    return " ".join(words)


def libvirt_uri(value: str) -> str:
    """Return the URI of a libvirt daemon for QEMU. Raise ValueError for what runs a program or turns a check off."""
    value = printable(value)
    if value == "test:///default":  # libvirt's own imitation of a hypervisor, in the memory of its client
        return value
    found = LIBVIRT_URI.fullmatch(value)
    if found is None or found["path"] not in ("/system", "/session"):
        raise ValueError(f"invalid libvirt URI {value!r}: expected such as qemu:///system or qemu+ssh://HOST/system")
    if (transport := (found["transport"] or "+unix")[1:]) not in TRANSPORTS:
        raise ValueError(f"transport {transport!r} of {value} is not supported: expected {', '.join(TRANSPORTS)}")
    if found["user"] is not None:
        user(found["user"])
    if found["host"]:
        host(found["host"].removeprefix("[").removesuffix("]"))
    from urllib.parse import unquote  # noqa: PLC0415  for libvirt only

    for parameter in re.split("[&;]", found["parameters"] or ""):
        key = parameter.partition("=")[0]
        if parameter and (unquote(key) != key or key not in URI_PARAMETERS):
            known = ", ".join(URI_PARAMETERS)
            raise ValueError(f"parameter {key!r} of {value} is not supported: expected {known}")
    return value


def device_elements(value: str) -> str:
    """Return elements for the devices of a libvirt domain. Raise ValueError for what is none, or starts a program."""
    if not value.strip():
        raise ValueError("must not be empty")
    if found := next((c for c in value if is_control(c) and c not in "\n\r\t"), None):
        raise ValueError(f"invalid XML: found the control character {found!a}")
    from xml.etree import ElementTree  # noqa: PLC0415  for libvirt only

    try:
        devices = ElementTree.fromstring(f"<devices>{value}</devices>")  # noqa: S314  no DOCTYPE inside an element
    except ElementTree.ParseError as error:
        raise ValueError(f"invalid XML: expected elements of a libvirt domain's devices ({error})") from None
    for element in devices.iter():
        name = str(element.tag).rpartition("}")[2]
        if name in STARTS_PROGRAMS:
            raise ValueError(f"element <{name}> is not supported: it names a program that the hypervisor starts")
    return value
