"""prune: what nothing uses any more."""

from __future__ import annotations

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option


@click.command("prune")
@click.option("--yes", is_flag=True, help="Remove it.")
@json_option
def prune(yes: bool, json: bool) -> int:
    """Say what nothing uses any more, and with --yes remove it: logs of labs that are gone, old packages and builds.

    \b
    ovnlab prune
    ovnlab prune --yes
    """
    from ovnlab import housekeeping  # noqa: PLC0415  walks through all that ovnlab has
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.software import artefacts  # noqa: PLC0415

    found = housekeeping.leftovers()
    if yes:
        with progress() as reporter, artefacts.claimed(reporter.note):
            for leftover in found:
                housekeeping.remove(leftover)
    total = sum(leftover.size for leftover in found)
    if json:
        output.as_json(
            removed=yes,
            bytes=total,
            leftovers=[{"what": item.what, "path": str(item.path), "bytes": item.size} for item in found],
        )
    elif not found:
        output.line("nothing to remove")
    else:
        for item in found:
            output.line(f"{output.size(item.size):>9}  {item.what}: {item.path}")
        output.line(
            f"removed {output.size(total)}" if yes else f"{output.size(total)} (`ovnlab prune --yes` removes it)"
        )
    return 0


COMMANDS = (prune,)
