"""The grammar of topology files: types of single values, and mappings whose unknown keys are mistakes.

Not here: which keys there are, which is in `model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from ovnlab import scalars
from ovnlab.topology import addresses
from ovnlab.topology.resolved import LAB_NAME, NAME

GIT_SCHEMES = ("https", "http", "ssh", "git", "file")
"""How git repositories are reached. Helpers such as ext::COMMAND run what a URL says."""

LEAST_MEMORY = 128
"""Megabytes that a machine needs to boot a Debian kernel; with 64 it hangs before it says a word."""


def text(example: str, check: Callable[[str], str]) -> Any:
    """Return a validator for text that refuses other values and lets `check` normalise it."""

    def validate(value: object) -> str:
        if not isinstance(value, str):
            raise PydanticCustomError("text", "must be text such as {example}", {"example": example})
        try:
            return check(value)
        except ValueError as error:
            raise PydanticCustomError("text", "{problem}", {"problem": str(error)}) from None

    return BeforeValidator(validate)


def _name(value: str) -> str:
    if len(value) > 63:
        raise ValueError(f"a name has at most 63 characters, this one has {len(value)}")
    if not NAME.fullmatch(value):
        raise ValueError(f"invalid name {value!r}: letters, digits, '.', '_' and '-', a letter or digit first")
    return value


def _lab_name(value: str) -> str:
    if not 1 <= len(value) <= 32:
        raise ValueError(f"the name of a lab has 1 to 32 characters, this one has {len(value)}")
    if not LAB_NAME.fullmatch(value):
        raise ValueError(f"invalid name for a lab {value!r}: lower-case letters, digits and '-', no '-' first")
    return value


def _ip_or_dhcp(value: str) -> str:
    return value if value == "dhcp" else addresses.parse_ip(value)


def _ip_or_asked(value: str) -> str:
    return value if value in ("dhcp", "slaac") else addresses.parse_ip(value)


def _set_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_.]{0,62}", value):
        raise ValueError(f"{value!r} cannot stand in a match: letters, digits, '_' and '.', no digit first")
    return value


def _option_key(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", value):
        raise ValueError(f"invalid option {value!r}: letters, digits, '.', ':', '_' and '-'")
    return value


def _set_member(value: str) -> str:
    return value.lower() if addresses.is_mac(value) else _ip_or_network(value)


def _ip_or_network(value: str) -> str:
    return addresses.parse_network(value) if "/" in value else addresses.parse_ip(value)


def _interface_name(value: str) -> str:
    if not NAME.fullmatch(value) or len(value) > 15:
        raise ValueError(f"invalid interface name {value!r}: at most 15 letters, digits, '.', '_' and '-'")
    return value


def _endpoint(value: str) -> str:
    try:
        host, port = addresses.split_port(value)
        if not port and host == value:  # IPv6 without brackets: a port must follow, so it is the last part
            host, _, last = value.rpartition(":")
            port = addresses.split_port(f"-:{last}")[1]
    except ValueError:
        host, port = value, 0
    host = addresses.host_of(host)
    if not port or not (NAME.fullmatch(host) or addresses.is_ip(host)):
        raise ValueError(f"{value!r} must be NAME:PORT or ADDRESS:PORT")
    return f"{addresses.bracketed(host)}:{port}"


def _vip(value: str) -> str:
    if addresses.is_mac(value):
        raise ValueError(f"{value!r} is a MAC address, not ADDRESS or ADDRESS:PORT")
    return str(addresses.parse_endpoint(value))


def _backend(value: str) -> str:
    name, port = addresses.split_name(value)
    return value if NAME.fullmatch(name) and 0 <= port <= 65535 else _vip(value)


def _plain_text(value: str) -> str:
    if any(character in value for character in '"\\'):
        raise ValueError(f"invalid text {value!r}: expected neither quotes nor backslashes")
    return scalars.printable(value)


def _column(value: object) -> object:
    """Return the value of a column. Raise PydanticCustomError for what no column can have, whatever its type."""
    keys = list(value) if isinstance(value, dict) else []
    if not all(isinstance(key, str | int) and not isinstance(key, bool) for key in keys):
        raise PydanticCustomError("column", "a key must be text: put it in quotes")
    members = value if isinstance(value, list) else [*keys, *value.values()] if isinstance(value, dict) else [value]
    if not all(map(_is_scalar, members)):
        expected = "text, a number, true or false, or a list or mapping of such"
        raise PydanticCustomError("column", "invalid value: expected {expected}", {"expected": expected})
    return value


def _is_scalar(value: object) -> bool:
    if isinstance(value, int | float):
        return -(2**63) <= value < 2**63
    return value is None or (isinstance(value, str) and "\0" not in value)


def _memory(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[MG]", value):
        raise ValueError(f"invalid amount of memory {value!r} such as 512M or 2G")
    return value


def _machine_memory(value: str) -> str:
    megabytes = int(_memory(value)[:-1]) * (1024 if value.endswith("G") else 1)
    if megabytes < LEAST_MEMORY:
        raise ValueError(f"invalid value {value!r}: expected at least {LEAST_MEMORY}M, with less no machine boots")
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be the 64 hex digits of a SHA-256 sum")
    return value.lower()


def _git_ref(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./@+-]*", value) or ".." in value:
        raise ValueError(f"invalid branch, tag or commit {value!r}")
    return value


def _git_url(value: str) -> str:
    scheme = re.match(r"([A-Za-z0-9+.-]+)(::|://(?P<host>[^/]*))", value)
    odd = any(character.isspace() or scalars.is_control(character) for character in value)
    if value.startswith("-") or odd or (scheme and scheme[2].startswith("::")):
        raise ValueError(f"invalid URL of a git repository {value!r}")
    if scheme and (scheme[1] not in GIT_SCHEMES or (scheme["host"].rpartition("@")[2]).startswith("-")):
        raise ValueError(f"invalid URL {value!r}: expected {', '.join(GIT_SCHEMES)}, or a path")
    return value


def string(description: str, **more: object) -> WithJsonSchema:
    """Return the JSON schema of text; its description is what docs/topology.md calls it."""
    return WithJsonSchema({"type": "string", "description": description, **more})


Name = Annotated[str, text("worker1", _name), string("a name", pattern=f"^{NAME.pattern}$")]
LabName = Annotated[str, text("3node", _lab_name), string("a lab's name", pattern=f"^{LAB_NAME.pattern}$")]
Mac = Annotated[
    str, text("0a:00:00:00:00:01", addresses.parse_mac), string("a MAC address", pattern=f"^{addresses.MAC.pattern}$")
]
Ip = Annotated[str, text("192.168.0.11", addresses.parse_ip), string("an IPv4 or IPv6 address")]
IpOrDhcp = Annotated[str, text("192.168.0.11", _ip_or_dhcp), string("an address, or dhcp")]
IpOrAsked = Annotated[str, text("192.168.0.11", _ip_or_asked), string("an address, dhcp or slaac")]
SetName = Annotated[str, text("web_servers", _set_name), string("a name that a match can hold")]
SetMember = Annotated[str, text("192.168.0.0/24", _set_member), string("an address, a subnet or a MAC address")]
IpOrNetwork = Annotated[str, text("192.168.0.0/24", _ip_or_network), string("an address or a subnet")]
Network = Annotated[str, text("192.168.0.0/24", addresses.parse_network), string("a subnet with prefix length")]
Interface = Annotated[str, text("192.168.0.1/24", addresses.parse_interface), string("an address with prefix length")]
InterfaceName = Annotated[str, text("br-ex", _interface_name), string("an interface", maxLength=15)]
Endpoint = Annotated[str, text("vm2:22", _endpoint), string("NAME:PORT or ADDRESS:PORT")]
Vip = Annotated[str, text("192.168.0.100:80", _vip), string("ADDRESS or ADDRESS:PORT")]
Backend = Annotated[str, text("web1:80", _backend), string("ADDRESS or NAME, with or without :PORT")]
Memory = Annotated[str, text("512M", _memory), string("memory, in M or G")]
MachineMemory = Annotated[str, text("512M", _machine_memory), string("memory, in M or G")]
Jump = Annotated[str, text("admin@gate:22", scalars.jump), string("USER@HOST:PORT")]
Sha256 = Annotated[str, text("64 hex digits", _sha256), string("a SHA-256 sum")]
GitRef = Annotated[str, text("v3.5.0", _git_ref), string("a branch, tag or commit")]
GitUrl = Annotated[str, text("https://github.com/openvswitch/ovs", _git_url), string("the URL of a git repository")]
Text = Annotated[str, text("a word", scalars.printable), string("text of one line")]
PlainText = Annotated[str, text("a word", _plain_text), string("text of one line, without quotes")]
Match = Annotated[str, text("ip4", scalars.match_expression), string("an OVN match expression")]
Path = Annotated[str, text("./file", scalars.file_path), string("a path or URL")]
Host = Annotated[str, text("gw1.example.org", scalars.host), string("a host name or an address")]
User = Annotated[str, text("admin", scalars.user), string("a user")]
CompilerFlags = Annotated[str, text("-O2 -g", scalars.compiler_flags), string("compiler flags")]
LibvirtUri = Annotated[str, text("qemu:///system", scalars.libvirt_uri), string("a libvirt URI")]
DeviceXml = Annotated[str, text("<watchdog/>", scalars.device_elements), string("libvirt device elements")]
Encap = Literal["geneve", "vxlan"]
OptionKey = Annotated[str, text("requested-tnl-key", _option_key), string("the name of an option")]
Options = dict[OptionKey, Text]
ColumnValue = Annotated[Any, BeforeValidator(_column)]
TcpPort = Annotated[int, Field(ge=1, le=65535)]


class Or:
    """A further form in the JSON schema of a type, which a validator turns into the first."""

    def __init__(self, *forms: dict[str, object]) -> None:
        self.forms = forms

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), *self.forms]}


class _OrItem:
    """A note in the JSON schema of a list that one item may stand alone."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        return {"anyOf": [schema["items"], schema]}


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _listed_or_none(value: object) -> object:
    return [] if value is None else _listed(value)


def _empty_is_default(value: object) -> object:
    return {} if value is None else value


def true_is_default(value: object) -> object:
    """Return what a key that takes true, false or a mapping means: its defaults, None, or the mapping."""
    return {} if value is True else None if value is False else value


def names_or_mapping(value: object) -> object:
    """Turn a list of names, or a single one, into a mapping with empty entries."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return value
    names = [name for name in value if isinstance(name, str)]
    if len(names) != len(value):
        raise PydanticCustomError("names", "must be a list of names, or a mapping")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PydanticCustomError("names", "duplicate {name}", {"name": repr(twice)})
    return dict.fromkeys(names)


LIST_OF_NAMES: dict[str, object] = {
    "anyOf": [{"type": "array", "items": {"type": "string"}, "uniqueItems": True}, {"type": "string"}]
}
OneOrMore = (BeforeValidator(_listed), _OrItem())
OneOrNone = (BeforeValidator(_listed_or_none), _OrItem(), Or({"type": "null"}))
MayBeEmpty = (BeforeValidator(_empty_is_default), Or({"type": "null"}))


class Part(BaseModel):
    """A mapping of the file: unknown keys are mistakes, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_default(cls, data: Any) -> Any:
        """Treat a key without a value as left out."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
