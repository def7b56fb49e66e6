"""traffic, perf: what is lost between two ends and for how long, and how much goes through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ovnlab.cli import output
from ovnlab.cli.commands.fault_commands import duration
from ovnlab.cli.measuring import asked
from ovnlab.cli.options import complete_targets, json_option, lab_option
from ovnlab.errors import UsageError

if TYPE_CHECKING:
    from ovnlab.lab.lab import Lab


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


@click.command("traffic")
@click.argument(
    "words",
    metavar="A B | A,B[,C...]...",
    nargs=-1,
    required=True,
    shell_complete=complete_targets,
    help="Fake VMs and nodes: from A to B. An address is a destination, too.",
)
@click.option("--for", "time", metavar="TIME", default="5s", help="How long, such as 500ms, 5s or 2m.")
@click.option("--udp", is_flag=True, help="UDP packets, not pings.")
@click.option("--tcp", is_flag=True, help="TCP connections, and which of them die.")
@click.option("--svg", metavar="FILE", type=click.Path(path_type=Path), help="Draw the loss over time.")
@lab_option
@json_option
def traffic(
    words: tuple[str, ...], time: str, udp: bool, tcp: bool, svg: Path | None, lab: str | None, json: bool
) -> int:
    """Send a packet each millisecond, and say what is lost, for how long, and what took over.

    Exit code 4 if nothing is answered at the end. Commands that change a lab have this as --traffic.

    \b
    ovnlab traffic vm1 vm2
    ovnlab traffic vm1,host1 vm2,host1 --for 30s --udp
    ovnlab traffic vm1,vm2 --tcp --svg loss.svg
    """
    seconds = duration(time)
    pair = len(words) == 2 and not any("," in word for word in words)
    measure = asked([",".join(words)] if pair else words, udp=udp, tcp=tcp, svg=svg)
    found = _find(lab)
    with measure.around(found, required=False) as seen:
        if seen is not None:
            seen.patience = 0
            seen.watch(seconds)
    if measure.report is None:
        raise UsageError("no pairs")
    if json:
        measure.draw()
        output.as_json(**msgspec.to_builtins(measure.report))
    else:
        measure.show()
    return 0 if measure.report.is_well else 4


COMMANDS = (traffic,)
