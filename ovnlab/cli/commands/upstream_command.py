"""upstream: OVN's own multinode test suite on a lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.options import json_option, set_option
from ovnlab.errors import UsageError
from ovnlab.shipped import find_topology

if TYPE_CHECKING:
    from ovnlab.upstream import GroupResult

NOT_AS_EXPECTED = 4
"""The exit code if the outcome of a group is not the expected one."""


@click.command("upstream")
@click.option(
    "--ovn", metavar="DIR", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A source tree of OVN: what the nodes run, and where the tests are from.",
)  # fmt: skip
@click.option(
    "-k", "expressions", metavar="EXPR", multiple=True, help="Only groups with these keywords, as in autotest."
)
@click.option("--provider", default="local", help="The provider of the nodes: local.")
@click.option("--tests-only", is_flag=True, help="Let the nodes run what the topology says, not what is in --ovn.")
@click.option("--keep", is_flag=True, help="Leave the lab as it is after the last group.")
@click.option(
    "--junit", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML to a file."
)
@set_option
@json_option
def upstream(
    ovn: Path,
    expressions: tuple[str, ...],
    provider: str,
    tests_only: bool,
    keep: bool,
    junit: Path | None,
    settings: tuple[str, ...],
    json: bool,
) -> int:
    """Run OVN's own multinode test suite (tests/multinode.at) on a lab of the topology that it expects.

    The suite is generated without building OVN. `up` restores the lab before each group. The exit code is 4 if the
    outcome of a group is not the expected one on this provider. Logs of failed groups are kept.

    \b
    ovnlab upstream --ovn ~/src/ovn
    ovnlab upstream --ovn ~/src/ovn -k basic --keep
    ovnlab upstream --ovn ~/src/ovn --set software.ovs.path=~/src/ovs --junit results.xml
    """
    from ovnlab import podman  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab import upstream as suites  # noqa: PLC0415
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.cli.render.effects_text import announce  # noqa: PLC0415
    from ovnlab.lab.lab import Request, find, prepare  # noqa: PLC0415
    from ovnlab.software.build_host import LocalBuildHost  # noqa: PLC0415
    from ovnlab.state import cache_root  # noqa: PLC0415

    if provider != "local":
        raise UsageError(f"upstream is not supported by provider {provider}", hint="--provider local")
    if not (ovn / suites.SUITE).exists():
        raise UsageError(f"no source tree of OVN with multinode tests: {ovn}", hint=f"it has no {suites.SUITE}")
    if junit is not None:
        output.require_writable(junit)
    path = find_topology(suites.TOPOLOGY)
    ours = () if tests_only else (f"software.ovn.path={ovn.resolve()}",)
    request = Request(path, (*ours, *settings), None, provider)
    with progress() as reporter:
        lab, topology = prepare(request, reporter)
        announce(topology, path, reporter)
        if lacking := suites.missing_tools():
            reporter.note(lacking)
        work = cache_root() / "upstream"
        reporter.step("generating the suite")
        suite = suites.generate(LocalBuildHost(work / "tmp", reporter.note).context, ovn, work / "suite")
        groups = suite.groups(expressions)
        logs = lab.folder.logs / "upstream"

        def ready() -> Path:
            reporter.step(f"making lab {lab.name} ready")
            lab.up(topology, source=str(Path(path).resolve()), named=False, options=request.options())
            folder = podman.install(find(lab.name, reporter), work / "shim").parent
            reporter.step("running a group")
            return folder

        found: list[GroupResult] = []
        for one in suites.results(suite, groups, suites.expectations(provider), ready, logs):
            found.append(one)
            reporter.note(f"{one.group.number:2} {one.group.title}: {one.outcome} ({one.seconds:g} s)")
        if not keep:
            reporter.step(f"removing lab {lab.name}")
            lab.down()
    if junit is not None:
        output.write_text(junit, suites.junit(found))
    unexpected = [one for one in found if not one.is_expected]
    if json:
        output.as_json(groups=[_plain(one) for one in found], unexpected=len(unexpected), logs=str(logs))
    else:
        _show(found, unexpected, logs)
    return NOT_AS_EXPECTED if unexpected else 0


def _plain(one: GroupResult) -> dict[str, object]:
    return {
        "number": one.group.number,
        "title": one.group.title,
        "outcome": one.outcome,
        "expected": one.expected,
        "place": one.place,
        "reason": one.reason,
        "seconds": one.seconds,
        "logs": one.logs,
    }


def _show(found: Sequence[GroupResult], unexpected: Sequence[GroupResult], logs: Path) -> None:
    rows = [
        (
            str(one.group.number),
            one.group.title,
            one.outcome if one.is_expected else f"{one.outcome} (expected {one.expected})",
            one.reason or one.place,
            f"{one.seconds:g}",
        )
        for one in found
    ]
    output.table(("#", "GROUP", "OUTCOME", "REASON", "SECONDS"), rows)
    totals = {word: sum(one.outcome == word for one in found) for word in ("pass", "skip", "fail")}
    output.line(", ".join(f"{number} {word}" for word, number in totals.items()) + f" of {len(found)}; logs: {logs}")
    if unexpected:
        output.line(f"not as expected: {', '.join(str(one.group.number) for one in unexpected)}")


COMMANDS = (upstream,)
