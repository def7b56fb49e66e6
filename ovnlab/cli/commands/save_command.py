"""save: a lab that is up as a topology file."""

from __future__ import annotations

from pathlib import Path

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option, lab_option


@click.command("save")
@click.option("--output", "-o", "into", metavar="FILE", help="Write a file instead of printing.")
@lab_option
@json_option
def save(into: str | None, lab: str | None, json: bool) -> int:
    """Print a lab as it is now as a topology file: `ovnlab up` of it makes the same Northbound database elsewhere.

    It is the lab's file with its comments, where fake VMs are bound now, and what was made, changed or removed by hand.

    \b
    ovnlab save > lab.yaml
    ovnlab save -l 3node -o lab.yaml
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what looks at a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415
    from ovnlab.lab.save import save as saved  # noqa: PLC0415  pydantic and the YAML parser

    if into is not None:
        output.require_writable(Path(into))
    reporter = NoProgress()
    found = find(lab, reporter)
    result = saved(found)
    for sentence in result.left_out:
        reporter.note(f"left out: {sentence}")
    if into is not None:
        output.write_text(Path(into), result.text)
    if json:
        output.as_json(lab=found.name, written=into, topology=result.text, left_out=list(result.left_out))
    elif into is None:
        output.line(result.text.rstrip())
    else:
        output.line(f"wrote {into}")
    return 0


COMMANDS = (save,)
