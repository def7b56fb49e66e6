"""test: whether a lab does what its topology says."""

from __future__ import annotations

import typer

from ovnlab.cli import output
from ovnlab.cli.options import JsonOption, LabOption
from ovnlab.errors import ChecksFailed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("test")(run_checks)


def run_checks(lab: LabOption = None, json: JsonOption = False) -> int:
    """Try what the topology's `checks:` say, with real packets. Exit code 4 if something is not as it should be.

    \b
    ovnlab test
    ovnlab test --json
    """
    from ovnlab.checking import run  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.lab import find  # noqa: PLC0415

    with progress() as reporter:
        found = find(lab, reporter)
        number = len(found.topology.checks)
        reporter.step(f"trying {number} checks")
        checked = run(found)
    failed = [item for item in checked if not item.ok]
    if json:
        output.as_json(
            lab=found.name,
            passed=len(checked) - len(failed),
            failed=len(failed),
            checks=[
                {
                    "kind": item.check.kind,
                    "from": item.check.source,
                    "target": item.check.target,
                    "port": item.check.port or None,
                    "expected": item.check.expect,
                    "observed": item.observed,
                    "ok": item.ok,
                }
                for item in checked
            ],
        )
        return 4 if failed else 0
    if not checked:
        output.line(f"the topology of lab {found.name} has no checks")
        return 0
    output.table(
        ("CHECK", "EXPECTED", "OBSERVED", "RESULT"),
        [(item.title, item.check.expect, item.observed, "ok" if item.ok else "FAILED") for item in checked],
        colours={"ok": "green", "FAILED": "red"},
    )
    if failed:
        raise ChecksFailed(f"{len(failed)} of {len(checked)} checks of lab {found.name} did not hold")
    return 0
