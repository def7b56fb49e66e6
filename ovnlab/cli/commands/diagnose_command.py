"""diagnose: what is wrong with a lab, causes before symptoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.options import complete_targets, json_option, lab_option
from ovnlab.errors import ChecksFailed, UsageError

if TYPE_CHECKING:
    from ovnlab.checks.diagnosis import Diagnosis, RankedCause
    from ovnlab.insight.causes.finding import FailingPair, Finding

MOST_PAIRS = 6
"""Failing pairs that are shown by name under a finding."""


@click.command("diagnose")
@click.argument("src", required=False, shell_complete=complete_targets, help="A fake VM or node that sends.")
@click.argument("dst", required=False, shell_complete=complete_targets, help="A name or address that it cannot reach.")
@lab_option
@click.option("--size", "-s", metavar="BYTES", type=click.IntRange(0, 65507), help="Bytes of ICMP payload of the ping.")
@click.option("--tcp", metavar="PORT", type=click.IntRange(1, 65535), help="Try a TCP connection to this port.")
@click.option("--no-send", is_flag=True, help="Send nothing: only what can be read.")
@json_option
def diagnose(
    src: str | None,
    dst: str | None,
    lab: str | None,
    size: int | None,
    tcp: int | None,
    no_send: bool,
    json: bool,
) -> int:
    """Say what is wrong with a lab: the object that is to blame, what was seen there, and what mends it.

    Reads all nodes and databases, each question with a limit of 3 s, tries pairs of fake VMs and the file's checks, and
    puts those that fail under the cause that explains them. With SRC and DST, only that pair is tried. Exit code 4 if
    anything is wrong.

    \b
    ovnlab diagnose
    ovnlab diagnose vm1 vm2
    ovnlab diagnose client 192.168.0.100 --tcp 80
    ovnlab diagnose --no-send
    """
    from ovnlab.checks.diagnosis import DiagnosisRequest, as_dict  # noqa: PLC0415
    from ovnlab.checks.diagnosis import diagnose as look  # noqa: PLC0415
    from ovnlab.cli.progress import NoProgress, busy  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    if src is not None and dst is None:
        raise UsageError("missing DST: a pair is two", hint=f"ovnlab diagnose {src} DST, or no name for the whole lab")
    if src is None and (size or tcp):
        raise UsageError("--size and --tcp are for a pair", hint="ovnlab diagnose SRC DST --size 1400")
    if size and tcp:
        raise UsageError("--size and --tcp exclude each other")
    if src is not None and no_send:
        raise UsageError("--no-send is for the whole lab: a pair is tried")
    asked = DiagnosisRequest(src, dst, size or 0, tcp or 0) if src and dst else None
    with busy("looking at all nodes and databases, trying pairs"):
        found = look(find(lab, NoProgress()), asked, send=not no_send)
    if json:
        output.as_json(**as_dict(found))
        return 0 if found.ok else 4
    show(found)
    if not found.ok:
        raise ChecksFailed(_summary(found))
    return 0


def _summary(found: Diagnosis) -> str:
    number = len(found.found) + bool(found.unexplained)
    return f"{number} thing{'s are' if number > 1 else ' is'} wrong with lab {found.lab}"


def show(found: Diagnosis) -> None:
    """Print a diagnosis for people."""
    for line in lines(found):
        output.line(line)


def lines(found: Diagnosis) -> Iterator[str]:
    """Return the lines of a diagnosis."""
    if found.ok and found.asked is not None:
        yield f"{found.asked.source} → {found.asked.target}: answered; nothing wrong was found in lab {found.lab}"
    elif found.ok:
        yield f"nothing wrong was found in lab {found.lab}: {found.tried} pairs tried"
    for number, one in enumerate(found.found, 1):
        yield from _lines(number, one)
    if found.unexplained:
        yield (
            output.coloured("cannot be told", "yellow")
            + f": why {_pairs(found.unexplained)} fail{'s' if len(found.unexplained) == 1 else ''}"
        )
    for note in found.notes:
        yield output.coloured(f"note: {note}", "dim")


def _lines(number: int, one: RankedCause) -> Iterator[str]:
    finding = one.finding
    sure = "" if finding.certainty == "certain" else f" ({finding.certainty})"
    yield f"{number}. {output.coloured(finding.object, 'red')}: {finding.problem}{sure}"
    for line in finding.evidence:
        yield f"   seen      {line}"
    if finding.remedy:
        yield f"   mend      {finding.remedy}"
    if one.pairs:
        yield f"   explains  {_counted(one.pairs)}: {_pairs(one.pairs)}"
    if one.possibly:
        yield f"   may explain {_counted(one.possibly)}: {_pairs(one.possibly)}"
    for symptom in _once(one.symptoms):
        yield output.coloured(f"   so        {symptom.sentence}", "dim")


def _counted(pairs: Sequence[FailingPair]) -> str:
    return f"{len(pairs)} failing pair{'s' if len(pairs) > 1 else ''}"


def _once(symptoms: Sequence[Finding]) -> Sequence[Finding]:
    return list({symptom.sentence: symptom for symptom in symptoms}.values())


def _pairs(pairs: Sequence[FailingPair]) -> str:
    shown = ", ".join(pair.title for pair in pairs[:MOST_PAIRS])
    more = len(pairs) - MOST_PAIRS
    return f"{shown} and {more} more" if more > 0 else shown


COMMANDS = (diagnose,)
