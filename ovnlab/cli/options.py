"""Options and arguments that several commands share, and what completes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovnlab.shipped import TOPOLOGIES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class PassOn(click.Command):
    """A command whose last words are another program's.

    Options of ovnlab are taken anywhere before `--`. Where there is no `--`, the words of the other program begin
    after the arguments of ovnlab, and no option of ovnlab follows them.
    """

    allow_interspersed_args = False
    ignore_unknown_options = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of one call."""
        if "--" in args and self._are_ours(ctx, args[: args.index("--")]):
            ctx.allow_interspersed_args, ctx.ignore_unknown_options = True, False
        return super().parse_args(ctx, args)

    def _are_ours(self, ctx: click.Context, words: list[str]) -> bool:
        """Return True if words are options and all arguments of ovnlab: a `--` after others is the other program's."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args, parser.ignore_unknown_options = True, False
        try:
            values, _, _ = parser.parse_args(list(words))
        except click.UsageError:
            return False
        arguments = [param for param in self.params if isinstance(param, click.Argument) and param.name]
        others = [param.name for param in arguments if param.nargs == -1]
        single = [param.name for param in arguments if param.nargs == 1]
        given = {
            name for name, value in values.items() if isinstance(value, str) or (isinstance(value, tuple) and value)
        }
        return given.isdisjoint(others) and given.issuperset(single)


def lab_of_all(ctx: click.Context) -> str | None:
    """Return the lab that is named before the command, by --lab or OVNLAB_LAB."""
    name: str | None = ctx.find_root().params.get("lab")
    return name


def _lab(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    del param
    return value if value is not None else lab_of_all(ctx)


def complete_labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return labs of this user."""
    del ctx, param
    from ovnlab.state import labs  # noqa: PLC0415  for completion only

    return [folder.name for folder in labs() if folder.name.startswith(incomplete)]


def _stored_names(ctx: click.Context, *, nodes: bool, vms: bool) -> list[str]:
    from ovnlab.state import labs  # noqa: PLC0415  for completion only

    wanted = ctx.params.get("lab") or lab_of_all(ctx)
    names: list[str] = []
    for folder in labs():
        stored = folder.stored() if wanted in (None, folder.name) else None
        if stored is not None:
            names += [node.name for node in stored.topology.nodes] if nodes else []
            names += [vm.name for vm in stored.topology.vms] if vms else []
    return sorted(set(names))


def complete_nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return nodes of the lab."""
    del param
    return [name for name in _stored_names(ctx, nodes=True, vms=False) if name.startswith(incomplete)]


def complete_vms(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of the lab's fake VMs."""
    del param
    return [name for name in _stored_names(ctx, nodes=False, vms=True) if name.startswith(incomplete)]


def complete_bindings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return VM, NODE or VM=NODE."""
    vm, separator, start = incomplete.partition("=")
    if separator:
        return [f"{vm}={node}" for node in complete_nodes(ctx, param, start)]
    words: Sequence[str] = ctx.params.get("words") or ()
    if len(words) == 1 and "=" not in words[0]:
        return complete_nodes(ctx, param, incomplete)
    return complete_vms(ctx, param, incomplete)


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return nodes and fake VMs of the lab."""
    del param
    return [name for name in _stored_names(ctx, nodes=True, vms=True) if name.startswith(incomplete)]


def complete_providers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return providers."""
    del ctx, param
    return [name for name in ("local", "libvirt", "vagrant", "ssh") if name.startswith(incomplete)]


def complete_roles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return roles of nodes."""
    del ctx, param
    return [role for role in ("central", "worker", "gateway", "relay", "host") if role.startswith(incomplete)]


def complete_daemons(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the daemons of the node that the word before names."""
    del param
    from ovnlab.lab.plan import daemons  # noqa: PLC0415  for completion only
    from ovnlab.state import labs  # noqa: PLC0415

    wanted = ctx.params.get("lab") or lab_of_all(ctx)
    node = ctx.params.get("node") or ctx.params.get("target")
    found: set[str] = set()
    for folder in labs():
        stored = folder.stored() if wanted in (None, folder.name) else None
        there = stored.topology.node(node) if stored is not None and node else None
        if stored is not None and there is not None:
            found |= set(daemons(stored.topology, there))
    return sorted(name for name in found if name.startswith(incomplete))


def complete_paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return NODE: and VM:, and files of this machine."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415  for completion only

    names = complete_targets(ctx, param, incomplete)
    return [*(CompletionItem(f"{name}:") for name in names), CompletionItem(incomplete, type="file")]


def complete_ports(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return VM: and NODE:."""
    return [f"{name}:" for name in complete_targets(ctx, param, incomplete)]


def complete_topologies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return files here, and shipped topologies by name."""
    del ctx, param
    from click.shell_completion import CompletionItem  # noqa: PLC0415  for completion only

    folder, slash, start = incomplete.rpartition("/")
    here = [
        CompletionItem(f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}")
        for path in sorted(Path(folder or ("/" if slash else ".")).glob(f"{glob_escape(start)}*"))
        if path.suffix in (".yaml", ".yml") or (path.is_dir() and not path.name.startswith("."))
    ]
    shipped = [path.stem for path in sorted(TOPOLOGIES.glob("*.yaml")) if path.stem.startswith(incomplete)]
    return [*here, *map(CompletionItem, shipped)]


def glob_escape(text: str) -> str:
    """Return text that a pattern of file names matches as it is."""
    return re.sub(r"([*?[])", r"[\1]", text)


lab_option = click.option(
    "--lab", "-l", metavar="NAME", callback=_lab, shell_complete=complete_labs, help="Name of the lab."
)
bundle_option = click.option("--bundle", metavar="FILE", help="A lab that `ovnlab bundle` wrote, not one that runs.")
json_option = click.option("--json", is_flag=True, help="Print one JSON object.")
topology_argument = click.argument(
    "topology",
    metavar="[TOPOLOGY]",
    required=False,
    shell_complete=complete_topologies,
    help="A file, or the name of a shipped topology. If omitted: ovnlab.yaml or topology.yaml here, else 3node.",
)
provider_option = click.option(
    "--provider", metavar="P", shell_complete=complete_providers, help="Use this provider instead of the file's."
)
name_option = click.option("--name", metavar="NAME", help="The lab's name instead of the file's.")
set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Put a value over the file's, such as underlay.mtu=9000.",
)
node_argument = click.argument("node", metavar="NODE", shell_complete=complete_nodes, help="A node.")
target_argument = click.argument(
    "target", metavar="TARGET", shell_complete=complete_targets, help="A node or a fake VM."
)
