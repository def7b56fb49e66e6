"""test, wait: whether a lab is and does what its topology says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovnlab.cli import output
from ovnlab.cli.options import complete_nodes, complete_vms, json_option, lab_option
from ovnlab.errors import ChecksFailed

if TYPE_CHECKING:
    from ovnlab.checks.diagnosis import Diagnosis
    from ovnlab.checks.examination import Examination

SAMPLE = 1000
"""Pairs that are tried where nothing else is said: the 870 of 30 fake VMs are all tried."""

MANY = 30
"""Fake VMs whose matrix is shown whole."""

MOST_FAILURES = 40
"""Failures that are shown: one dead node can mean hundreds."""

_COLOURS = {"●": "green", "·": "dim", "✗": "red", "+": "red", "?": "yellow", "¿": "yellow"}


@click.command("test")
@lab_option
@click.option(
    "--sample", metavar="N", type=click.IntRange(min=0), default=SAMPLE, help="Try at most N pairs, at random."
)
@click.option("--seed", metavar="N", type=int, default=1, help="Seed of the random choice.")
@click.option("--all", "everything", is_flag=True, help="Show the matrix of many fake VMs whole.")
@click.option(
    "--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write a JUnit report, as CI systems read it."
)
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page with the matrix.")
@click.option("--faults", is_flag=True, help="Also the file's checks that break something, which is healed after each.")
@json_option
def run_checks(
    lab: str | None,
    sample: int,
    seed: int,
    everything: bool,
    junit: Path | None,
    html: Path | None,
    faults: bool,
    json: bool,
) -> int:
    """Look at all of a lab, and try every pair of fake VMs and the file's `checks:` with real packets.

    Daemons and their versions, chassis, tunnels, bound ports, the largest packet between chassis; of each pair what OVN
    means (ovn-trace) and what comes of a real ping: the two have to agree. Exit code 4 if something does not hold.

    \b
    ovnlab test
    ovnlab test --junit report.xml --html report.html
    ovnlab test --sample 200 --seed 7
    ovnlab test --faults
    """
    from dataclasses import replace  # noqa: PLC0415

    from ovnlab.checks import fault_checks, report  # noqa: PLC0415
    from ovnlab.checks.examination import examine  # noqa: PLC0415
    from ovnlab.cli.progress import progress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    for path in filter(None, (junit, html)):
        output.require_writable(path)
    with progress() as reporter:
        examined = examine(find(lab, reporter), reporter, sample=sample, seed=seed)
        if faults:
            examined = replace(examined, faults=tuple(fault_checks.run(find(lab, reporter), reporter)))
    found = _diagnosed(lab) if examined.failures else None
    if json:
        output.as_json(**report.as_dict(examined), diagnosis=_as_dict(found))
    else:
        _show(examined, everything=everything)
        _show_diagnosis(found)
    if junit is not None:
        output.write_text(junit, report.junit(examined))
    if html is not None:
        output.write_text(html, report.page(examined))
    if json:
        return 4 if examined.failures else 0
    if examined.failures:
        total = len(examined.findings)
        raise ChecksFailed(f"{len(examined.failures)} of {total} checks of lab {examined.lab} did not hold")
    return 0


def _diagnosed(lab: str | None) -> Diagnosis | None:
    """Return what is to blame for what failed; None where that cannot be looked for."""
    from ovnlab.checks.diagnosis import diagnose  # noqa: PLC0415
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.errors import OvnlabError  # noqa: PLC0415
    from ovnlab.lab.lab import find  # noqa: PLC0415

    try:
        return diagnose(find(lab, NoProgress()))
    except OvnlabError:
        return None


def _as_dict(found: Diagnosis | None) -> dict[str, Any] | None:
    from ovnlab.checks.diagnosis import as_dict  # noqa: PLC0415

    return as_dict(found) if found is not None else None


def _show_diagnosis(found: Diagnosis | None) -> None:
    """Print the findings that explain what failed."""
    from ovnlab.cli.commands.diagnose_command import lines  # noqa: PLC0415

    if found is None or found.ok:
        return
    output.line()
    for line in lines(found):
        output.line(line)


def _show(examined: Examination, *, everything: bool) -> None:
    """Print the counts, the matrix, and the checks that failed."""
    from ovnlab.checks import report  # noqa: PLC0415  loaded already

    rows = []
    for kind, found in report.kinds(examined.findings).items():
        well = sum(finding.ok for finding in found)
        rows.append((kind, f"{well} of {len(found)}", "ok" if well == len(found) else "FAILED"))
    output.table(("CHECKED", "HOLD", "RESULT"), rows, colours={"ok": "green", "FAILED": "red"})
    if examined.pairs:
        output.line()
        _show_matrix(examined, everything=everything)
    elif examined.of_pairs:
        output.line(f"none of {examined.of_pairs} pairs was tried")
    if examined.failures:
        output.line()
        _show_failures(examined)


def _show_failures(examined: Examination) -> None:
    """Print failures as a table, or as lines where the terminal is too narrow."""
    rows = [(one.title, one.expected, one.observed, one.hint) for one in examined.failures[:MOST_FAILURES]]
    more = len(examined.failures) - len(rows)
    _show_rows(rows)
    if more:
        output.line(f"… and {more} more: --json, --junit FILE and --html FILE tell all")


def _show_rows(rows: Sequence[tuple[str, str, str, str]]) -> None:
    width = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    if not sys.stdout.isatty() or width <= shutil.get_terminal_size().columns:
        output.table(("FAILED", "EXPECTED", "OBSERVED", "LOOK WITH"), rows)
        return
    for title, expected, observed, hint in rows:
        output.line(output.coloured(title, "red"))
        output.line(f"  expected   {expected}")
        output.line(f"  observed   {observed}")
        output.line(f"  look with  {hint}")


def _show_matrix(examined: Examination, *, everything: bool) -> None:
    """Print the matrix; of many fake VMs only pairs that differ from the intent, unless `everything` is asked for."""
    from ovnlab.checks import report  # noqa: PLC0415  loaded already

    names, found = report.matrix(examined)
    if len(examined.pairs) < examined.of_pairs:
        output.line(f"a sample of {len(examined.pairs)} of {examined.of_pairs} pairs (--seed {examined.seed})")
    if len(names) > MANY and not everything:
        names = [name for name in names if any(name in pair and mark in "✗+" for pair, mark in found.items())]
        if not names:
            marks = list(found.values())
            totals = [f"{marks.count(mark)} {mark} {meaning}" for mark, meaning in report.LEGEND if mark in marks]
            output.line(f"{', '.join(totals)} (--all shows the matrix)")
            return
        output.line("fake VMs with pairs that are not as meant (--all shows all)")
    width, name = len(str(len(names))) + 1, max(map(len, names))
    edge = len(str(len(names))) + 1 + name
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else edge + width * len(names)
    if edge + width * len(names) > columns:
        output.line(f"the matrix of {len(names)} fake VMs is wider than this terminal: see it with --html FILE")
        return
    heads = "".join(str(number).rjust(width) for number in range(1, len(names) + 1))
    output.line(output.coloured(" " * edge + heads, "dim"))
    for number, source in enumerate(names, 1):
        cells = [found.get((source, target), " ") for target in names]
        shown = "".join(" " * (width - 1) + output.coloured(cell, _COLOURS.get(cell, "dim")) for cell in cells)
        output.line(f"{str(number).rjust(edge - name - 1)} {source.ljust(name)}{shown}".rstrip())
    used = set(found.values())
    meanings = ", ".join(f"{mark} {meaning}" for mark, meaning in report.LEGEND if mark in used)
    output.line(output.coloured(meanings, "dim"))


def complete_conditions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return what can be waited for."""
    kind, separator, start = incomplete.partition("=")
    names = {"chassis": complete_nodes, "port-up": complete_vms}
    if separator and kind in names:
        return [f"{kind}={name}" for name in names[kind](ctx, param, start)]
    return [word for word in ("hv-synced", "port-up=", "chassis=") if word.startswith(incomplete)]


@click.command("wait")
@click.option(
    "--for",
    "conditions",
    metavar="WHAT",
    multiple=True,
    required=True,
    shell_complete=complete_conditions,
    help="hv-synced, port-up=PORT or chassis=NODE.",
)
@click.option("--timeout", "-t", metavar="SECONDS", type=click.IntRange(min=1), default=30, help="The deadline.")
@lab_option
@json_option
def wait_for(conditions: tuple[str, ...], timeout: int, lab: str | None, json: bool) -> int:
    """Wait until a lab has followed a change; at the deadline, say what lags. For scripts.

    \b
    ovnlab wait --for hv-synced
    ovnlab wait --for chassis=worker2 --for port-up=vm1 --timeout 60
    """
    from ovnlab.checks import wait  # noqa: PLC0415
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.lab.lab import find  # noqa: PLC0415
    from ovnlab.waiting import CLOCK  # noqa: PLC0415

    wanted = [wait.condition(word) for word in conditions]
    found = find(lab, NoProgress())
    began = CLOCK.monotonic()
    for condition in wanted:
        left = timeout - int(CLOCK.monotonic() - began)
        wait.wait(found, condition, timeout=max(1, left))
    seconds = CLOCK.monotonic() - began
    if json:
        output.as_json(lab=found.name, held=[str(condition) for condition in wanted], seconds=round(seconds, 3))
    return 0


COMMANDS = (run_checks, wait_for)
