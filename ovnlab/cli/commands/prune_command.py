"""prune: what nothing uses any more."""

from __future__ import annotations

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option


@click.command("prune")
@click.option("--yes", is_flag=True, help="Remove it.")
@json_option
def prune(yes: bool, json: bool) -> int:
    """Say what nothing uses any more, and with --yes remove it.

    This is logs of labs that are gone, old packages and builds, and images in storage pools that no disk is backed by.

    \b
    ovnlab prune
    ovnlab prune --yes
    """
    from ovnlab import disk_usage  # noqa: PLC0415  walks through all that ovnlab has
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.providers import copies  # noqa: PLC0415
    from ovnlab.software import artefacts  # noqa: PLC0415

    found = disk_usage.leftovers()
    with progress() as reporter:
        images = copies.unused(reporter.note)
        if yes:
            with artefacts.claimed(reporter.note):
                for leftover in found:
                    disk_usage.remove(leftover)
            images, _ = copies.remove([image.name for image in images], reporter.note)
    rows = [(item.what, str(item.path), item.size) for item in found]
    rows += [
        (f"an image in storage pool {i.pool} that no disk is backed by", f"{i.name} of {i.uri}", i.bytes)
        for i in images
    ]
    total = sum(size for _, _, size in rows)
    if json:
        output.as_json(
            removed=yes,
            bytes=total,
            leftovers=[{"what": what, "path": path, "bytes": size} for what, path, size in rows],
        )
    elif not rows:
        output.line("nothing to remove")
    else:
        for what, path, size in rows:
            output.line(f"{output.size(size):>9}  {what}: {path}")
        output.line(
            f"removed {output.size(total)}" if yes else f"{output.size(total)} (`ovnlab prune --yes` removes it)"
        )
    return 0


COMMANDS = (prune,)
