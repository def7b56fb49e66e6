"""Writes docs/topology.md from the model and docs/commands.md from the command line.

    python docs/generate.py

A test holds both files to what this would write.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ovnlab.cli.app import app
from ovnlab.topology import model

HERE = Path(__file__).parent

PARTS: list[tuple[str, type[BaseModel], str]] = [
    ("The file", model.TopologyFile, ""),
    ("software", model.Build, "As a mapping: OVS and OVN from chosen origins. Otherwise `packages` or `system`."),
    ("software.ovs, software.ovn, software.ovn_library", model.Origin, ""),
    ("control", model.Control, ""),
    ("underlay", model.Underlay, ""),
    ("physical_networks.NAME", model.PhysicalNetwork, ""),
    ("machines", model.Machine, "Each of these may stand in a node as well."),
    ("libvirt", model.Libvirt, ""),
    ("nodes.NAME", model.Node, "And what stands in `machines`."),
    ("nodes.NAME.routes", model.NodeRoute, ""),
    ("logical", model.Logical, ""),
    ("logical.switches.NAME", model.Switch, ""),
    ("logical.switches.NAME.ports.NAME", model.Port, ""),
    ("logical.switches.NAME.dhcp", model.Dhcp, "As a mapping. Otherwise `true` or `false`."),
    ("logical.routers.NAME", model.Router, ""),
    ("logical.routers.NAME.ports.SWITCH", model.RouterPort, ""),
    ("logical.routers.NAME.routes", model.Route, ""),
    ("logical.routers.NAME.nat", model.Nat, ""),
    ("logical.acls", model.Acl, ""),
    ("logical.port_groups.NAME", model.PortGroup, ""),
    ("logical.qos", model.Qos, ""),
    ("logical.load_balancers.NAME", model.LoadBalancer, ""),
    ("logical.load_balancers.NAME.health_check", model.HealthCheck, "As a mapping. Otherwise `true` or `false`."),
    ("checks", model.Check, ""),
]

TOPOLOGY_HEAD = """# The topology file

<!-- Written by docs/generate.py from ovnlab/topology/model.py. -->

One YAML file describes a lab. Only `nodes` must be there, and one of them must have `role: central`; everything else
has a default. `ovnlab validate FILE --json` shows what was decided for all that a file leaves open. Editors that know
the YAML language server complete and check these files by their first line:

```yaml
# yaml-language-server: $schema=topology.schema.json
```

What this version of ovnlab cannot do yet is valid, is named by `ovnlab validate`, and is refused by `ovnlab up`.

- Names of nodes, switches, routers and fake VMs: letters, digits, `.`, `_` and `-`, starting with a letter or digit, at
  most 63 characters. Nodes and fake VMs share one set of names.
- A list of one may be written without its brackets: `ip: 10.0.0.1` or `ip: [10.0.0.1, "fd00::1"]`.
- `nodes` and `physical` may be lists of names, or mappings.
"""

COMMANDS_HEAD = """# Commands

<!-- Written by docs/generate.py from the command line's own help. -->

`-l/--lab NAME` picks the lab; without it the only running lab is meant. `--json` prints one object with a
`schema_version` on stdout; progress and errors go to stderr. Exit codes:

| code | meaning |
|---|---|
| 0 | done |
| 1 | something failed while it was being done |
| 2 | the command line or the topology makes no sense |
| 3 | this machine lacks something; `ovnlab doctor` says what |
| 4 | a check did not hold (`ping`: a packet did not come back) |
| 5 | `--dry-run --exit-code`, and there is something to do |
| 130 | interrupted |

`exec`, `shell` and the tools (`nbctl`, `vsctl`, …) end with the exit code of what they ran.
"""


def _kind(annotation: Any) -> str:
    """The type of a field, for people."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        described = next((m.json_schema.get("description") for m in arguments[1:] if hasattr(m, "json_schema")), None)
        return str(described or _kind(arguments[0]))
    if origin is typing.Literal:
        return ", ".join(f"`{word}`" for word in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments if a is not type(None)))
    if origin is list:
        return f"list of: {_kind(arguments[0])}"
    if origin is dict:
        return "mapping by name"
    return {int: "number", bool: "`true`, `false`"}.get(annotation, "text")


def _described(field: FieldInfo) -> str:
    described = [m.json_schema.get("description") for m in field.metadata if hasattr(m, "json_schema")]
    return str(next(filter(None, described), None) or _kind(field.annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if isinstance(value, str | int) else ""


def topology() -> str:
    """docs/topology.md."""
    lines = [TOPOLOGY_HEAD]
    for title, part, text in PARTS:
        lines += [f"## {title}", "", *([text, ""] if text else []), "| key | what | default | |", "|---|---|---|---|"]
        inherited = {name for base in part.__bases__ for name in getattr(base, "model_fields", ())}
        for name, field in part.model_fields.items():
            if name in inherited:
                continue
            meaning = " ".join((field.description or "").split())
            lines.append(f"| `{field.alias or name}` | {_described(field)} | {_default(field)} | {meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _flat(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Commands by their words, those of groups as well."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in _flat(command))
        else:
            yield name, command


def commands() -> str:
    """docs/commands.md."""
    lines = [COMMANDS_HEAD]
    for name, command in _flat(app):
        context = click.Context(command, info_name=f"ovnlab {name}", terminal_width=100, **app.context_settings)
        lines += [f"## ovnlab {name}", "", "```", command.get_help(context).strip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


FILES = {"topology.md": topology, "commands.md": commands}

if __name__ == "__main__":
    for name, text in FILES.items():
        (HERE / name).write_text(text())
        sys.stdout.write(f"wrote docs/{name}\n")
