"""build, upgrade: OVS and OVN from source, and other software on the nodes of a running lab."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ovnlab.cli import output
from ovnlab.cli.measuring import traffic_options, wanted
from ovnlab.cli.options import complete_nodes, json_option, lab_option, set_option, topology_argument
from ovnlab.errors import UsageError
from ovnlab.shipped import find_topology

if TYPE_CHECKING:
    from ovnlab.lab.rolling_upgrade import UpgradeStep
    from ovnlab.software.artefacts import Artefact


@click.command("build")
@topology_argument
@set_option
@click.option("--list", "listed", is_flag=True, help="List what was built.")
@click.option("--prune", is_flag=True, help="Remove what no lab runs, and all that was brought or made to build it.")
@json_option
def build(topology: str | None, settings: tuple[str, ...], listed: bool, prune: bool, json: bool) -> int:
    """Build what a topology runs from source, without a lab; `up` does it by itself.

    \b
    ovnlab build topologies/3node-distro-source.yaml
    ovnlab build --set software.ovn.path=~/src/ovn
    ovnlab build --list
    ovnlab build --prune
    """
    from ovnlab.cli.progress import progress  # noqa: PLC0415  what builds is loaded by commands that do
    from ovnlab.cli.render.effects_text import announce  # noqa: PLC0415
    from ovnlab.lab.builds import in_use, obtain, wanted  # noqa: PLC0415
    from ovnlab.lab.lab import Request, prepare  # noqa: PLC0415
    from ovnlab.software import artefacts, builder  # noqa: PLC0415

    if (listed and prune) or ((listed or prune) and (topology or settings)):
        raise UsageError("--list and --prune stand alone")
    if listed:
        return _list(artefacts.all_there(), in_use(), json=json)
    with progress() as reporter:
        if prune:
            gone = builder.prune(in_use, reporter.note)
        else:
            path = find_topology(topology)
            lab, found = prepare(Request(path, settings), reporter)
            announce(found, path, reporter)
            made = list(obtain(wanted(found).values(), reporter, lab.build_host).values())
    if prune:
        if json:
            output.as_json(removed=[artefact.key for artefact in gone])
        else:
            output.line(f"removed {', '.join(artefact.key for artefact in gone)}" if gone else "no build to remove")
        return 0
    if not made and not json:
        output.line(f"nothing to build: {found.name} runs {found.base}")
        return 0
    return _list(made, in_use(), json=json)


def _list(found: list[Artefact], used: dict[str, list[str]], *, json: bool) -> int:
    if json:
        output.as_json(builds=[_as_object(artefact, used) for artefact in found])
    elif not found:
        output.line("nothing was built (`ovnlab build TOPOLOGY` does)")
    else:
        rows = [
            (
                artefact.key,
                *(
                    f"{part.version} {part.label}".strip() if (part := artefact.parts.get(name)) else "-"
                    for name in ("ovs", "ovn")
                ),
                f"{artefact.size / 2**20:.0f} MiB" if artefact.is_intact else "damaged",
                ", ".join(used.get(artefact.key, ["-"])),
            )
            for artefact in found
        ]
        output.table(("BUILD", "OVS", "OVN", "SIZE", "USED BY"), rows)
    return 0


def _as_object(artefact: Artefact, used: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "key": artefact.key,
        "made": artefact.made,
        "bytes": artefact.size,
        "intact": artefact.is_intact,
        "path": str(artefact.path),
        "used_by": used.get(artefact.key, []),
        "parts": {
            name: {"version": part.version, "origin": part.origin, "label": part.label}
            for name, part in artefact.parts.items()
        },
    }


@click.command("upgrade")
@click.argument("nodes", metavar="[NODE]...", nargs=-1, shell_complete=complete_nodes, help="Nodes, in this order.")
@click.option(
    "--software",
    metavar="WORD",
    multiple=True,
    help="packages, or KEY=VALUE as below software: of a topology; several may be given.",
)
@click.option("--all", "every", is_flag=True, help="All nodes: chassis first, central nodes last.")
@traffic_options
@lab_option
@json_option
def upgrade(nodes: tuple[str, ...], software: tuple[str, ...], every: bool, lab: str | None, json: bool) -> int:
    """Change OVS or OVN on nodes of a running lab, one after the other; `up` returns to those of the file.

    \b
    ovnlab upgrade worker2 --software ovs.distro=true --traffic vm1,vm2
    ovnlab upgrade worker1 worker2 --software ovn.git=https://github.com/ovn-org/ovn --software ovn.ref=v25.03.0
    ovnlab upgrade --all --software packages
    """
    from ovnlab.cli.progress import progress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415
    from ovnlab.lab.rolling_upgrade import order  # noqa: PLC0415
    from ovnlab.lab.rolling_upgrade import upgrade as upgrade_nodes  # noqa: PLC0415
    from ovnlab.topology.load import load_software  # noqa: PLC0415

    if every == bool(nodes):
        raise UsageError("say which nodes, or --all")
    if not software:
        raise UsageError("--software is missing", hint="such as --software packages, or --software ovs.path=~/src/ovs")
    measure = wanted()
    with progress() as reporter:
        found = find(lab, reporter)
        names = order(found.topology, nodes, every=every)
        steps = upgrade_nodes(
            found, names, lambda before: load_software("--software", software, before), lambda: measure.around(found)
        )
    if json:
        output.as_json(lab=found.name, steps=[asdict(step) for step in steps], **measure.as_json())
        return 0
    output.table(
        ("NODE", "BEFORE", "AFTER", "TOOK", *(("LOST", "LONGEST GAP") if measure.pairs else ())),
        [_step(step) for step in steps],
    )
    measure.show(brief=True)
    return 0


def _step(step: UpgradeStep) -> tuple[str, ...]:
    row = (step.node, step.before, step.after, f"{step.seconds:.1f} s")
    if step.loss is None:
        return row
    return (*row, f"{step.loss.lost} of {step.loss.sent}", f"{step.loss.longest_gap_ms} ms")


COMMANDS = (build, upgrade)
