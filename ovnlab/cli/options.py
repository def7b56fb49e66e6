"""Options and arguments that several commands have, and what completes them."""

from __future__ import annotations

from typing import Annotated

import typer

from ovnlab.shipped import TOPOLOGIES
from ovnlab.state import labs


def complete_labs(incomplete: str) -> list[str]:
    """Labs of this user."""
    return [folder.name for folder in labs() if folder.name.startswith(incomplete)]


def _stored_names(ctx: typer.Context, *, nodes: bool, vms: bool) -> list[str]:
    wanted = ctx.params.get("lab")
    names: list[str] = []
    for folder in labs():
        stored = folder.stored() if wanted in (None, folder.name) else None
        if stored is not None:
            names += [node.name for node in stored.topology.nodes] if nodes else []
            names += [vm.name for vm in stored.topology.vms] if vms else []
    return sorted(set(names))


def complete_nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes of the lab."""
    return [name for name in _stored_names(ctx, nodes=True, vms=False) if name.startswith(incomplete)]


def complete_vms(ctx: typer.Context, incomplete: str) -> list[str]:
    """Fake VMs of the lab."""
    return [name for name in _stored_names(ctx, nodes=False, vms=True) if name.startswith(incomplete)]


def complete_bindings(ctx: typer.Context, incomplete: str) -> list[str]:
    """VM, NODE or VM=NODE."""
    vm, separator, start = incomplete.partition("=")
    if separator:
        return [f"{vm}={node}" for node in complete_nodes(ctx, start)]
    return complete_targets(ctx, incomplete)


def complete_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes and fake VMs of the lab."""
    return [name for name in _stored_names(ctx, nodes=True, vms=True) if name.startswith(incomplete)]


def complete_topologies(incomplete: str) -> list[str]:
    """Shipped topologies by name; the shell completes paths."""
    return [path.stem for path in sorted(TOPOLOGIES.glob("*.yaml")) if path.stem.startswith(incomplete)]


LabOption = Annotated[
    str | None,
    typer.Option("--lab", "-l", metavar="NAME", help="The lab that is meant.", autocompletion=complete_labs),
]
BundleOption = Annotated[
    str | None, typer.Option("--bundle", metavar="FILE", help="A lab that `ovnlab bundle` wrote, not one that runs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TopologyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[TOPOLOGY]",
        help="A topology file, or the name of a shipped one; 3node if omitted.",
        autocompletion=complete_topologies,
    ),
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="P", help="Use this provider instead of the file's.")
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name the lab so.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the file's, such as underlay.mtu=9000."),
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A node.", autocompletion=complete_nodes, show_default=False)
]
TargetArgument = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="A node or a fake VM.", autocompletion=complete_targets, show_default=False),
]
