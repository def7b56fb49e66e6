"""nbctl, sbctl, vsctl, ofctl, appctl: OVN's and OVS's own tools, at the right place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ovnlab.cli.commands.vm_commands import run_on
from ovnlab.cli.options import PassOn, json_option, lab_option, node_argument

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab

tool_arguments = click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1, help="The tool's own arguments.")


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


zone_option = click.option("--zone", metavar="ZONE", help="The availability zone, where the lab has several.")


def _central(tool: str, arguments: Sequence[str], lab: str | None, zone: str | None, *, json: bool) -> int:
    """Run a tool where the databases of a zone are, and tell it how to reach them."""
    found = _find(lab)
    node = found.central(zone)
    from ovnlab.templating import render  # noqa: PLC0415  brings jinja2

    environment = found.environment(node.name)
    if not environment:
        return run_on(node.command([tool, *arguments]), json=json)
    words = ["env", *(f"{key}={value}" for key, value in environment.items())]
    # To a cluster, so that it goes to the leader, also where that has to be elected first.
    script = f'{render("node/lib/with-leader.sh.j2")}with_leader "$@"'
    return run_on(node.command([*words, "sh", "-c", script, "sh", tool, *arguments]), json=json)


@click.command("nbctl", cls=PassOn)
@tool_arguments
@zone_option
@lab_option
@json_option
def nbctl(arguments: tuple[str, ...], zone: str | None, lab: str | None, json: bool) -> int:
    """Run ovn-nbctl on a central node.

    \b
    ovnlab nbctl show
    ovnlab nbctl --format=json list Logical_Switch_Port
    """
    return _central("ovn-nbctl", arguments, lab, zone, json=json)


@click.command("sbctl", cls=PassOn)
@tool_arguments
@zone_option
@lab_option
@json_option
def sbctl(arguments: tuple[str, ...], zone: str | None, lab: str | None, json: bool) -> int:
    """Run ovn-sbctl on a central node.

    \b
    ovnlab sbctl show
    """
    return _central("ovn-sbctl", arguments, lab, zone, json=json)


@click.command("vsctl", cls=PassOn)
@node_argument
@tool_arguments
@lab_option
@json_option
def vsctl(node: str, arguments: tuple[str, ...], lab: str | None, json: bool) -> int:
    """Run ovs-vsctl on a node.

    \b
    ovnlab vsctl worker1 show
    """
    return run_on(_find(lab).node(node).command(["ovs-vsctl", *arguments]), json=json)


@click.command("ofctl", cls=PassOn)
@node_argument
@tool_arguments
@lab_option
@json_option
def ofctl(node: str, arguments: tuple[str, ...], lab: str | None, json: bool) -> int:
    """Run ovs-ofctl on a node.

    \b
    ovnlab ofctl worker2 dump-flows br-int
    """
    return run_on(_find(lab).node(node).command(["ovs-ofctl", *arguments]), json=json)


@click.command("appctl", cls=PassOn)
@node_argument
@tool_arguments
@lab_option
@json_option
def appctl(node: str, arguments: tuple[str, ...], lab: str | None, json: bool) -> int:
    """Run ovs-appctl on a node, or ovn-appctl where the target (-t) is one of OVN's daemons.

    \b
    ovnlab appctl worker1 dpif/show
    ovnlab appctl worker1 -t ovn-controller connection-status
    """
    program = "ovn-appctl" if _target(arguments).startswith("ovn") else "ovs-appctl"
    return run_on(_find(lab).node(node).command([program, *arguments]), json=json)


def _target(words: Sequence[str]) -> str:
    """Return the daemon that -t or --target names."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("-t", "--target"):
            return following
        if word.startswith("--target="):
            return word.removeprefix("--target=")
    return ""


COMMANDS = (nbctl, sbctl, vsctl, ofctl, appctl)
