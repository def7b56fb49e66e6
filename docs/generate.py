"""Writes docs/topology.md, commands.md, diagnosis.md and ovnlab.1 from the code.

    python docs/generate.py

A test compares them with its output.
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
from ovnlab.cli.command_groups import GROUPS
from ovnlab.insight.causes import CAUSES
from ovnlab.topology import model
from ovnlab.topology.objects.base import Keys

HERE = Path(__file__).parent

_PARTS: list[tuple[str, type[BaseModel], str]] = [
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
    ("links.NODE", model.Link, "A key is `NODE`, `NODE:NIC`, or two nodes: `worker1 worker2`."),
    ("checks", model.Check, ""),
    ("checks.then", model.Outcome, ""),
]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the parts of the format in the type of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _with_kinds() -> Iterator[tuple[str, type[BaseModel], str]]:
    """Yield the parts of the format, each followed by those that kinds of Northbound objects add to it."""
    for title, part, text in _PARTS:
        yield title, part, text
        above = title.removesuffix("The file")
        for kind in _kinds(part):
            yield from _nested(above, kind)


def _nested(above: str, part: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], str]]:
    """Yield the parts of the format that are in one, and what is in them, by what leads there."""
    for name, field in part.model_fields.items():
        where = f"{above}.{name}".lstrip(".") + (".NAME" if typing.get_origin(field.annotation) is dict else "")
        for found in _models(field.annotation):
            yield where, found, ""
            yield from _nested(where, found)


def _kinds(part: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the kinds of Northbound objects whose keys a part has, in the order of their list."""
    return [base for base in part.__mro__ if Keys in base.__bases__ and base.__annotations__]


def _fields(part: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of a part, its own before those of kinds of Northbound objects."""
    for owner in (part, *_kinds(part)):
        yield from ((name, field) for name, field in part.model_fields.items() if name in owner.__annotations__)


PARTS = list(_with_kinds())

TOPOLOGY_HEAD = """# The topology file

<!-- Written by docs/generate.py from ovnlab/topology/model.py. -->

One YAML file describes a lab. Only `nodes` is required, with one node of `role: central`; everything else has a
default. `ovnlab init` writes a file to start from, `ovnlab help KEY` explains a key, and `ovnlab validate FILE --json`
prints the file with all defaults resolved. Editors with the YAML language server complete and check files with this
first line:

```yaml
# yaml-language-server: $schema=topology.schema.json
```

Keys that this version of ovnlab does not support yet are valid: `ovnlab validate` names them, and `ovnlab up` refuses
them. [Rows of the schema](schema-rows.md) set what has no key.

- Names of nodes, switches, routers and fake VMs: letters, digits, `.`, `_` and `-`, starting with a letter or digit, at
  most 63 characters. Nodes and fake VMs share one set of names.
- A list of one item may be written without brackets: `ip: 10.0.0.1` or `ip: [10.0.0.1, "fd00::1"]`.
- `nodes` and `physical` may be lists of names, or mappings.
- Text has one line and no control characters. A `match` may span several lines, which are joined.
- A file has at most 4 MiB and 200,000 values. For programs and files that it can use, see [Security](security.md).
"""

COMMANDS_HEAD = """# Commands

<!-- Written by docs/generate.py from the command line's own help. -->

`-l/--lab NAME` selects the lab; without it, the only running lab is taken. `--json` prints one object with a
`schema_version` on stdout; progress and errors go to stderr. Exit codes:

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | usage error, or invalid topology |
| 3 | this machine lacks something; `ovnlab doctor` says what |
| 4 | a check failed, or something is wrong (`ping`: a reply is missing) |
| 5 | `--dry-run --exit-code`, and there is something to do |
| 130 | interrupted |

`exec`, `shell` and the tools (`nbctl`, `vsctl`, …) return the exit code of the command that they run.
"""

DIAGNOSIS_HEAD = """# Diagnosis

<!-- Written by docs/generate.py from ovnlab/insight/causes. -->

`ovnlab diagnose` says what is wrong with a lab: the object at fault, the evidence, and the command that repairs it. Its
exit code is 4 if anything is wrong. [Faults](faults.md) that are deliberate are marked as such.

```console
$ ovnlab up 3node
$ ovnlab bind vm1=worker1 vm2=worker2
$ ovnlab diagnose
$ ovnlab diagnose vm1 vm2
$ ovnlab diagnose vm1 vm2 --size 1414
$ ovnlab down
```

If something is wrong:

```
1. interface vm2 of fake VM vm2: is down
   seen      worker2: ip -n vm2 link: vm2 is not UP
   mend      ovnlab exec vm2 -- ip link set vm2 up
   explains  2 failing pairs: vm1 → vm2, vm2 → vm1
```

`--size BYTES` tries large packets, `--tcp PORT` a connection, `--json` prints all of it as data.

## How it reasons

1. **One snapshot.** All nodes and databases are queried at the same time: processes and daemons, the local OVS
   database, OpenFlow flows and ports of every bridge, addresses, routes and neighbors of each node and fake VM,
   listening TCP ports, the last warnings of the logs, both databases of each zone, and the changes of `ovnlab up
   --dry-run`. Each query has a limit of 3 seconds. A missing answer is itself a finding, and no other finding is
   derived from it.
2. **Packets.** It tries pairs of fake VMs (at most 200), the largest packet between each two chassis, and the file's
   checks. For those without an answer, ovn-trace says whether that is intended, in both directions.
3. **Causes.** Each kind of cause examines the snapshot, in the order below: an earlier kind is never a symptom of a
   later one. A finding names the findings that follow from it and the failing pairs that pass its object; these are
   printed below it. Findings that a second snapshot does not confirm are omitted: the lab was changing.
4. **Remaining pairs.** A failing pair that no finding explains is attributed to the rule of the logical network that
   drops it, or traced to the place where logic and reality differ. Otherwise the answer is *cannot be told*.

A finding is **certain** if the fault itself was read, and **likely** if it follows from what was read but could be
intended. `explains` lists failing pairs whose packets or replies pass the object; `may explain` lists pairs that pass
it without certainly being affected.

With SRC and DST, a pair that the logical network drops is a finding, with the row, and whether it was made by hand.
Without them it is not, because the lab does what its logical network says.

`ovnlab trace` also compares the logical network with the file. If a packet is dropped, rejected or not answered because
a row of the file is missing or changed, that is not intended: the row is named with its line, the remedy is `ovnlab up
FILE`, and the exit code is 4. A row that was added by hand is named as such. Whether it is intended cannot be known, so
the exit code is 0 if the switches do what it says.

## What it cannot detect

- Switches and firewalls between machines that ovnlab did not make.
- What a program in a fake VM does with a packet. It sees listening TCP ports, but nothing of UDP.
- Faults that come and go between two snapshots, and loss of single packets.
- Missing flows that ovn-controller may omit for a good reason (of port groups, address sets, and ports elsewhere).
- Whether a row that was made by hand in the Northbound database is intended.

## The causes

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
        for name, field in _fields(part):
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


def diagnosis() -> str:
    """docs/diagnosis.md."""
    lines = [DIAGNOSIS_HEAD]
    for cause in CAUSES:
        lines += [f"### {cause.title}", "", "| | |", "|---|---|"]
        facts = (
            ("reads", cause.reads),
            ("sure", cause.certainty),
            ("explains", cause.explains),
            ("mend", cause.remedy),
        )
        lines += [*(f"| {title} | {text} |" for title, text in facts), ""]
    return "\n".join(lines).rstrip() + "\n"


def manual() -> str:
    """Return the manual page: all commands, what ovnlab reads, and how it ends."""

    def escaped(text: str) -> str:
        return text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")

    lines = [
        '.\\" Written by docs/generate.py.',
        ".TH OVNLAB 1",
        ".SH NAME",
        "ovnlab \\- a multi\\-node OVN lab from one YAML file",
        ".SH SYNOPSIS",
        ".B ovnlab",
        "[\\fB\\-l\\fR \\fILAB\\fR] \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...",
        ".SH DESCRIPTION",
        "Brings up a lab of several nodes with OVN and OVS, in about a second, as an ordinary user,",
        "and shows what happens in it.",
        "\\fBovnlab help\\fR \\fICOMMAND\\fR explains a command,",
        "\\fBovnlab help\\fR \\fIKEY\\fR a key of the topology file.",
    ]
    for title, found in GROUPS.items():
        lines.append(f".SH {title.upper()}")
        for name, text in found.items():
            lines += [".TP", f".B {escaped(name)}", escaped(text)]
    for title, pairs in MANUAL.items():
        lines.append(f".SH {title}")
        for name, text in pairs:
            lines += [".TP", f".B {escaped(name)}", escaped(text)]
    lines += [".SH SEE ALSO", ".BR ovn\\-architecture (7),", ".BR ovn\\-nb (5),", ".BR ovn\\-trace (8)"]
    return "\n".join(lines) + "\n"


MANUAL = {
    "ENVIRONMENT": (
        ("OVNLAB_LAB", "The lab, if -l is not given."),
        ("OVNLAB_SSH_PASSWORD", "The password for machines that ask for one."),
        ("VISUAL, EDITOR", "The editor of `ovnlab edit`."),
        ("NO_COLOR", "Disables colours."),
        ("XDG_STATE_HOME, XDG_CACHE_HOME", "The folders of labs, and of software."),
    ),
    "FILES": (
        ("ovnlab.yaml, topology.yaml", "The topology that `ovnlab up` takes in the current folder if there is no lab."),
        ("~/.local/state/ovnlab", "Labs and their logs."),
        ("~/.cache/ovnlab", "Software and builds."),
    ),
    "EXIT STATUS": (
        ("0", "Done."),
        ("1", "Failed."),
        ("2", "Usage error, or invalid topology."),
        ("3", "This machine lacks something; `ovnlab doctor` says what."),
        ("4", "A check failed, or something is wrong."),
        ("5", "With --dry-run --exit-code: there is something to do."),
        ("130", "Interrupted."),
    ),
}

FILES = {"topology.md": topology, "commands.md": commands, "diagnosis.md": diagnosis, "ovnlab.1": manual}

if __name__ == "__main__":
    for name, text in FILES.items():
        (HERE / name).write_text(text())
        sys.stdout.write(f"wrote docs/{name}\n")
