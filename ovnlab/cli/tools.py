"""nbctl, sbctl, vsctl, ofctl, appctl: OVN's and OVS's own tools, at the right place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ovnlab.cli.options import JsonOption, LabOption, NodeArgument
from ovnlab.cli.vms import PASS_ON, run_on

if TYPE_CHECKING:
    from ovnlab.lab import Lab

Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARGUMENT]...", help="The tool's own arguments.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in (
        ("nbctl", nbctl),
        ("sbctl", sbctl),
        ("vsctl", vsctl),
        ("ofctl", ofctl),
        ("appctl", appctl),
    ):
        app.command(name, context_settings=PASS_ON)(function)


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import Quiet  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab import find  # noqa: PLC0415

    return find(lab, Quiet())


Zone = Annotated[
    str | None, typer.Option("--zone", metavar="ZONE", help="The availability zone, where the lab has several.")
]


def _central(tool: str, arguments: list[str] | None, lab: str | None, zone: str | None, *, json: bool) -> int:
    """Run a tool where the databases of a zone are, and tell it how to reach them."""
    found = _find(lab)
    node = found.central(zone)
    from ovnlab.templating import render  # noqa: PLC0415  brings jinja2

    environment = found.environment(node.name)
    if not environment:
        return run_on(node.command([tool, *(arguments or ())]), json=json)
    words = ["env", *(f"{key}={value}" for key, value in environment.items())]
    # To a cluster, so that it goes to the leader, also where that has to be elected first.
    script = f'{render("node/led.sh.j2")}led "$@"'
    return run_on(node.command([*words, "sh", "-c", script, "sh", tool, *(arguments or ())]), json=json)


def nbctl(arguments: Arguments = None, zone: Zone = None, lab: LabOption = None, json: JsonOption = False) -> int:
    """Run ovn-nbctl on a central node.

    \b
    ovnlab nbctl show
    ovnlab nbctl --format=json list Logical_Switch_Port
    """
    return _central("ovn-nbctl", arguments, lab, zone, json=json)


def sbctl(arguments: Arguments = None, zone: Zone = None, lab: LabOption = None, json: JsonOption = False) -> int:
    """Run ovn-sbctl on a central node.

    \b
    ovnlab sbctl show
    """
    return _central("ovn-sbctl", arguments, lab, zone, json=json)


def vsctl(node: NodeArgument, arguments: Arguments = None, lab: LabOption = None, json: JsonOption = False) -> int:
    """Run ovs-vsctl on a node.

    \b
    ovnlab vsctl worker1 show
    """
    return run_on(_find(lab).node(node).command(["ovs-vsctl", *(arguments or ())]), json=json)


def ofctl(node: NodeArgument, arguments: Arguments = None, lab: LabOption = None, json: JsonOption = False) -> int:
    """Run ovs-ofctl on a node.

    \b
    ovnlab ofctl worker2 dump-flows br-int
    """
    return run_on(_find(lab).node(node).command(["ovs-ofctl", *(arguments or ())]), json=json)


def appctl(node: NodeArgument, arguments: Arguments = None, lab: LabOption = None, json: JsonOption = False) -> int:
    """Run ovs-appctl on a node, or ovn-appctl where the target (-t) is one of OVN's daemons.

    \b
    ovnlab appctl worker1 dpif/show
    ovnlab appctl worker1 -t ovn-controller connection-status
    """
    words = arguments or []
    program = "ovn-appctl" if _target(words).startswith("ovn") else "ovs-appctl"
    return run_on(_find(lab).node(node).command([program, *words]), json=json)


def _target(words: list[str]) -> str:
    """The daemon that -t or --target names."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("-t", "--target"):
            return following
        if word.startswith("--target="):
            return word.removeprefix("--target=")
    return ""
