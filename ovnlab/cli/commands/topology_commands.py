"""validate, schema, render: topology files, without a lab."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec

from ovnlab.cli import output
from ovnlab.cli.options import json_option, name_option, provider_option, set_option, topology_argument
from ovnlab.errors import UsageError
from ovnlab.shipped import find_topology, shipped_topologies


@click.command("validate")
@topology_argument
@provider_option
@name_option
@set_option
@json_option
def validate(
    topology: str | None, provider: str | None, name: str | None, settings: tuple[str, ...], json: bool
) -> int:
    """Check a file; with --json, print it with all defaults resolved.

    \b
    ovnlab validate topologies/3node.yaml
    """
    from ovnlab.topology.advice import advice  # noqa: PLC0415
    from ovnlab.topology.effects import effects  # noqa: PLC0415
    from ovnlab.topology.load import load  # noqa: PLC0415  pydantic, needed by few commands
    from ovnlab.topology.unsupported import find  # noqa: PLC0415

    path = find_topology(topology)
    loaded = load(path, settings=settings, name=name, provider=provider)
    refused = [
        loaded.source.mistake(where, message, at_key=True).located(path) for where, message in find(loaded.model)
    ]
    beyond = list(effects(loaded.topology, Path(path).absolute().parent))
    if json:
        output.as_json(
            valid=True,
            unsupported=refused,
            warnings=list(advice(loaded.topology)),
            effects=beyond,
            topology=msgspec.to_builtins(loaded.topology),
        )
        return 0
    found = loaded.topology
    refused += [f"{path}: {sentence}" for sentence in advice(found)]
    output.line(
        f"{path}: lab {found.name}, {output.count(len(found.nodes), 'node')}, "
        f"{output.count(len(found.switches), 'switch')}, {output.count(len(found.routers), 'router')}, "
        f"{output.count(len(found.vms), 'fake VM')}"
    )
    for text in refused:
        output.line(f"note: {text}")
    for text in beyond:
        output.line(f"effect: {text}")
    return 0


@click.command("topologies")
@json_option
def topologies(json: bool) -> int:
    """List the topologies that come with ovnlab; `up` takes them by name.

    \b
    ovnlab topologies
    ovnlab up gateway
    """
    found = shipped_topologies()
    if json:
        output.as_json(topologies=[{"name": name, "path": path, "about": about} for name, path, about in found])
    else:
        output.table(("TOPOLOGY", "ABOUT"), [(name, about) for name, _, about in found])
    return 0


@click.command("schema")
@json_option
def schema(json: bool) -> int:
    """Print the JSON schema of topology files, for editors.

    \b
    ovnlab schema > topology.schema.json
    """
    from ovnlab.topology.json_schema import schema_text  # noqa: PLC0415  pydantic

    if json:
        output.as_json(schema=msgspec.json.decode(schema_text()))
    else:
        output.line(schema_text().rstrip())
    return 0


@click.command("render")
@topology_argument
@provider_option
@name_option
@set_option
@click.option("--only", metavar="REGEX", help="Only scripts whose title matches.")
@click.option("--output", "-o", "into", metavar="FOLDER", help="Write each script to a file instead of printing it.")
@json_option
def render(
    topology: str | None,
    provider: str | None,
    name: str | None,
    settings: tuple[str, ...],
    only: str | None,
    into: str | None,
    json: bool,
) -> int:
    """Print every script that `up` of a new lab would run, in order.

    \b
    ovnlab render topologies/3node.yaml
    ovnlab render routed --only northbound
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.lab.lab import Lab  # noqa: PLC0415
    from ovnlab.topology.load import load  # noqa: PLC0415

    loaded = load(find_topology(topology), settings=settings, name=name, provider=provider)
    loaded.refuse_unsupported()
    try:
        wanted = re.compile(only or "")
    except re.error as problem:
        raise UsageError(f"--only {only}: invalid regular expression: {problem}") from None
    scripts = [
        (title, text)
        for title, text in Lab(loaded.topology.name, NoProgress()).render(loaded.topology)
        if wanted.search(title)
    ]
    if not scripts:
        raise UsageError(
            f"--only {only}: found in the title of no script",
            hint="titles are NODE/STEP.sh, such as worker1/bind-vms.sh",
        )
    if into is not None:
        for title, text in scripts:
            path = Path(into) / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if json:
            output.as_json(written=[str(Path(into) / title) for title, _ in scripts])
        else:
            output.line(f"wrote {len(scripts)} scripts to {into}")
    elif json:
        output.as_json(scripts=[{"title": title, "text": text} for title, text in scripts])
    else:
        for title, text in scripts:
            output.line(output.coloured(f"##### {title}", "bold"))
            output.line(text)
    return 0


COMMANDS = (validate, schema, topologies, render)
