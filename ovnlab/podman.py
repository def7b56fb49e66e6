"""podman(1) for the nodes of a lab, as far as OVN's multinode tests use it: exec, cp and inspect.

Those tests enter the containers of ovn-fake-multinode by `podman exec NAME`. With a program of that name that runs
`ovnlab podman-shim`, they enter the nodes of a lab, by the same names.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovnlab.errors import UsageError
from ovnlab.lab.lab import Lab
from ovnlab.nodes import copying
from ovnlab.nodes.node import RunningNode
from ovnlab.parallel import for_each
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

_FLAGS = frozenset({"-i", "--interactive", "-t", "--tty", "-it", "-ti", "-d", "--detach", "--privileged"})
_WITH_VALUE = frozenset({"-u", "--user", "--detach-keys"})
_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*):(.+)", re.DOTALL)

_DATAPATH_TYPE = re.compile(r"^datapath[-_]type=\"?system\"?$")

PATH = (
    "/data/bin:/opt/ovnlab/current/sbin:/opt/ovnlab/current/bin"
    ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
"""Where a node has programs: those of the multinode tests, of a build, and of the packages."""

ENVIRONMENT: Mapping[str, str] = {"PATH": PATH, "HOME": "/root", "TERM": "xterm"}
"""All that a command in a node gets, as in a container."""


@dataclass(frozen=True)
class Exec:
    """A parsed `podman exec`."""

    node: str
    argv: tuple[str, ...]
    folder: str = ""
    environment: tuple[str, ...] = ()
    detached: bool = False


@dataclass
class _Options:
    folder: str = ""
    environment: list[str] = field(default_factory=list)
    detached: bool = False


def parse_exec(words: Sequence[str]) -> Exec:
    """Return the words after `podman exec`. Raises UsageError for what is not understood."""
    found, rest = _Options(), list(words)
    while rest and rest[0].startswith("-"):
        word, _, value = rest.pop(0).partition("=")
        if word == "--":
            break
        if word in ("-e", "--env", "-w", "--workdir", *_WITH_VALUE):
            if not value and not rest:
                raise UsageError(f"podman exec {word} needs a value")
            value = value or rest.pop(0)
            if word in ("-e", "--env"):
                if "=" not in value:  # of the caller's environment, as podman has it
                    value = f"{value}={os.environ[value]}" if value in os.environ else ""
                found.environment += [value] if value else []
            elif word in ("-w", "--workdir"):
                found.folder = value
        elif word in _FLAGS:
            found.detached = found.detached or word in ("-d", "--detach")
        else:
            raise UsageError(f"podman exec {word} is not understood", hint="-i, -t, -d, -e KEY=VALUE and -w FOLDER are")
    if len(rest) < 2:
        raise UsageError("podman exec NODE COMMAND...")
    return Exec(rest[0], tuple(rest[1:]), found.folder, tuple(found.environment), found.detached)


def command(lab: Lab, wanted: Exec) -> list[str]:
    """Return the command to run here so that it runs there, with nothing of this one's environment."""
    node = _node(lab, wanted.node)
    words = ["env", "-i", *(f"{key}={value}" for key, value in ENVIRONMENT.items()), *wanted.environment]
    argv = list(wanted.argv)
    topology = lab.topology.node(wanted.node)
    if topology is not None and topology.datapath == "netdev":
        argv = userspace(argv)
    if wanted.folder:
        argv = ["sh", "-c", 'cd "$0" && exec "$@"', wanted.folder, *argv]
    if wanted.detached:
        argv = ["setsid", "sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "sh", *argv]
    return node.command([*words, *argv])


def userspace(argv: Sequence[str]) -> list[str]:
    """Return a command with the userspace datapath in place of the kernel's, which a node in namespaces does not have.

    Only ovs-vsctl says which it is: of a bridge that it adds, and to ovn-controller of br-int (ovn-controller(8),
    external_ids:ovn-bridge-datapath-type).
    """
    if not argv or argv[0].rpartition("/")[2] != "ovs-vsctl":
        return list(argv)
    found: list[str] = []
    parts = _split(argv)
    for number, part in enumerate(parts):
        words = [word.replace("ovn-bridge-datapath-type=system", "ovn-bridge-datapath-type=netdev") for word in part]
        words = [_DATAPATH_TYPE.sub("datapath_type=netdev", word) for word in words]
        found += (["--"] if number else []) + words
        added = words[words.index("add-br") + 1 :] if "add-br" in words else []
        if len(added) == 1:  # with a parent and a VLAN it is not a row of its own
            found += ["--", "set", "Bridge", added[0], "datapath_type=netdev"]
    return found


def _split(argv: Sequence[str]) -> list[list[str]]:
    """Return the commands of one ovs-vsctl, which `--` stands between."""
    parts: list[list[str]] = [[]]
    for word in argv:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def copy(lab: Lab, source: str, target: str) -> tuple[list[str], list[str]]:
    """Return two commands, of which the second reads what the first writes: a file or folder, to or from a node."""
    source_at, target_at = _PATH.fullmatch(source), _PATH.fullmatch(target)
    if (source_at is None) == (target_at is None):
        raise UsageError("podman cp FILE NODE:PATH, or podman cp NODE:PATH FILE")
    from_path = source_at[2] if source_at else source
    into_path = target_at[2] if target_at else target
    if source_at and from_path.endswith("/."):  # what is in a folder
        reading = ["tar", "-C", from_path, "-cf", "-", "."]
        writing = ["sh", "-c", 'mkdir -p "$1" && exec tar -C "$1" --no-same-owner -xf -', "sh", into_path]
        return _node(lab, source_at[1]).command(reading), writing
    if copying.base_of(from_path) in ("", ".", ".."):
        raise UsageError(f"podman cp of {from_path} is not here", hint="name the folder itself")
    source_side = _node(lab, source_at[1]).command if source_at else copying.here
    target_side = _node(lab, target_at[1]).command if target_at else copying.here
    return copying.commands(source_side, from_path, target_side, into_path)


def install(lab: Lab, folder: Path) -> Path:
    """Prepare the nodes of a lab for OVN's multinode tests, and write a program `podman` that enters them.

    It runs no Python for what the tests do most, which takes a tenth of the time. It is for the lab as it runs now.
    """
    topology = lab.topology
    nodes = {node.name: _node(lab, node.name) for node in topology.nodes if node.has_switch}
    for_each(nodes.values(), prepare)
    entering = {name: _entering(node) for name, node in nodes.items()}
    program = folder / "podman"
    text = render(
        "multinode/podman.sh.j2",
        lab=lab.name,
        entering=entering,
        environment=ENVIRONMENT,
        ovnlab=sys.executable,
    )
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
    return program


def prepare(node: RunningNode) -> None:
    """Give a node what OVN's multinode tests expect of a container."""
    script = render("multinode/prepare-node.sh.j2", node=node.name)
    run_script(node.context, script, where=f"{node.name}: preparing it for OVN's multinode tests")


def _entering(node: RunningNode) -> list[str]:
    """Return the words that enter a node, before those of a command."""
    words = node.command([])
    return words[: words.index("--") + 1]


def inspected(lab: Lab, words: Sequence[str]) -> str:
    """Return what `podman inspect -f FORMAT NODE` prints, for formats with the fields that a node has."""
    rest = list(words)
    text = ""
    names = []
    while rest:
        word = rest.pop(0)
        option, _, value = word.partition("=")
        if option in ("-f", "--format"):
            text = value or (rest.pop(0) if rest else "")
        elif word not in ("-t", "--type", "container"):
            names.append(word)
    if not text or not names:
        raise UsageError("podman inspect -f FORMAT NODE...", hint="such as -f '{{.State.Pid}}'")
    return "\n".join(_filled(lab, text, name) for name in names)


def _filled(lab: Lab, text: str, name: str) -> str:
    pid = getattr(_node(lab, name), "pid", 0)
    node = lab.topology.node(name)
    known = {
        ".State.Pid": str(pid),
        ".State.Running": "true",
        ".State.Status": "running",
        ".Name": name,
        ".NetworkSettings.IPAddress": node.ip if node else "",
    }

    def value(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise UsageError(f"podman inspect does not know {found[0]}", hint=f"it knows {', '.join(known)}")
        return known[found[1]]

    return re.sub(r"\{\{\s*(\S+?)\s*\}\}", value, text)


def _node(lab: Lab, name: str) -> RunningNode:
    if lab.topology.provider != "local":
        where = f"nodes of lab {lab.name} are {lab.topology.provider}"
        raise UsageError(
            f"podman-shim is for nodes in namespaces, and {where}", hint=f"ovnlab exec {shlex.quote(name)}"
        )
    return lab.node(name)
