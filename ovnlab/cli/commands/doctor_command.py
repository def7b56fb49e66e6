"""doctor: this machine."""

from __future__ import annotations

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option
from ovnlab.cli.streams import say


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Run what mends it, with sudo where needed.")
@json_option
def doctor(fix: bool, json: bool) -> int:
    """Say what this machine lacks for a lab, and the command that mends it. Exit code 3 if something is missing.

    \b
    ovnlab doctor
    ovnlab doctor --fix
    """
    from ovnlab.disk_usage import usage  # noqa: PLC0415
    from ovnlab.doctor import examine, mend  # noqa: PLC0415
    from ovnlab.providers.choice import findings_of_providers  # noqa: PLC0415

    findings = examine(findings_of_providers())
    if fix:
        mend(findings, lambda text: say(f"ovnlab: {text}"))
        findings = examine(findings_of_providers())
    taken = usage()
    if json:
        output.as_json(
            ok=all(finding.ok or finding.optional for finding in findings),
            findings=[
                {"name": f.name, "ok": f.ok, "optional": f.optional, "message": f.message, "fix": f.command or None}
                for f in findings
            ],
            disk=taken,
        )
    else:
        for finding in findings:
            bad = ("-   ", "yellow") if finding.optional else ("FAIL", "red")
            mark = output.coloured(*(("ok  ", "green") if finding.ok else bad))
            output.line(f"{mark}  {finding.name}: {finding.message}")
            if not finding.ok and finding.command:
                output.line(f"      → {finding.command}")
        shown = ", ".join(f"{name} {output.size(number)}" for name, number in taken.items() if number)
        output.line(
            f"{output.coloured('ok  ', 'green')}  disk: {shown or 'nothing yet'} (`ovnlab prune` looks for more room)"
        )
    return 0 if all(finding.ok or finding.optional for finding in findings) else 3


COMMANDS = (doctor,)
