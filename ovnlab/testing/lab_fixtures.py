"""Labs for tests: brought up when the first test asks, and down when the last that may use them is over."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ovnlab.checks import assertions
from ovnlab.deliberate import Fault
from ovnlab.errors import OvnlabError, TopologyError
from ovnlab.faults import control
from ovnlab.insight import bundle
from ovnlab.lab.lab import Lab, Request, prepare
from ovnlab.lab.status import Status, status
from ovnlab.reporting import Reporter
from ovnlab.shipped import find_topology
from ovnlab.state import labs

MOST_LINES = 8
"""Lines of a log that a report shows."""

_WORTH_SHOWING = re.compile(r"\|(?:WARN|ERR|EMER)\|")
"""Levels of messages (ovs-appctl(8), Logging Commands)."""


_USUAL = "No such device"
"""What ovs-vswitchd says of each fake VM: its device is in a namespace, where the switch does not look."""


@dataclass
class RecordingReporter(Reporter):
    """A reporter that keeps what is reported while a lab comes up."""

    lines: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        """Keep the step for the report."""
        self.lines.append(text)

    note = step

    def node(self, name: str, doing: str) -> None:
        """Ignore the node's progress: it is too much for a report."""


class TestedLab(Lab):
    """A lab that tests use, and break on purpose."""

    __test__ = False

    @contextlib.contextmanager
    def fault(self, *words: str) -> Iterator[Fault]:
        """Break something for the body of a `with`, by words as after `ovnlab fault`, and heal it at the end.

        with lab.fault("kill", "gw1"): ...
        with lab.fault("link", "worker1", "--delay", "25ms"): ...
        """
        with control.put_for_a_while(self, words) as fault:
            yield fault


@dataclass
class LabUnderTest:
    """A lab that tests use. `own`: brought up for them, and theirs to remove; `kept`: left up for a person.

    `since` is when it was up, as logs tell the time (ISO 8601, UTC): what was said before that is of its coming up.
    """

    lab: TestedLab
    own: bool
    since: str = ""
    kept: bool = False

    def remove(self) -> None:
        """Remove it, unless it is somebody else's or to be kept."""
        if self.own and not self.kept:
            self.lab.down(forget=True)


class Naming:
    """Names for labs that no other process, and no other test of this one, gives."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)

    def name(self, topology: str) -> str:
        """Return a name that tells the topology, with what makes it the only one."""
        stem = re.sub(r"[^a-z0-9]+", "-", Path(topology).stem.lower()).strip("-")[:10] or "lab"
        parts = [stem, self._worker, str(os.getpid()), str(next(self._numbers))]
        return "-".join(part for part in parts if part)[:32].rstrip("-")


def running(name: str) -> TestedLab | None:
    """Return the lab of that name that is up already, None where there is none."""
    if name not in [folder.name for folder in labs()]:
        return None
    found = TestedLab(name, RecordingReporter())
    return found if found.provider.is_up() else None


def bring_up(path: str, name: str, settings: Sequence[str], provider: str | None) -> LabUnderTest:
    """Bring a lab up for tests. Raises OvnlabError with all that helps in one text."""
    said = RecordingReporter()
    try:
        request = Request(path, tuple(settings), name, provider)
        lab, topology = prepare(request, said)
        lab.up(topology, source=str(Path(path).resolve()), named=True, options=request.options())
    except OvnlabError as error:
        raise OvnlabError(report_of(error, said.lines)) from None
    return LabUnderTest(TestedLab(name, said), own=True, since=now())


def now() -> str:
    """Return this moment in the format of logs."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:23]


def report_of(error: OvnlabError, steps: Sequence[str] = ()) -> str:
    """Return an error with all that comes with it."""
    if isinstance(error, TopologyError):
        return str(error)
    lines = [str(error), *(f"    {line}" for line in error.detail.splitlines())]
    lines += [f"  → {error.hint}"] if error.hint else []
    lines += ["steps before it: " + ", ".join(steps)] if steps else []
    return "\n".join(lines)


def topology_file(word: str, test: Path, root: Path) -> str:
    """Return the file that a test names: beside it or in a folder above, up to the project's; else a topology of
    ovnlab's.

    Raises UsageError where there is none.
    """
    for folder in (test.parent, *test.parent.parents):
        if (folder / word).is_file():
            return str(folder / word)
        if folder == root:
            break
    return find_topology(word)


def described(lab: Lab) -> str:
    """Return the state of a lab for the report of a test that failed: what does not hold, then nodes and ports."""
    found = status(lab)
    bad = [str(finding) for finding in assertions.all_of(found, lab.topology) if not finding.ok]
    return "\n".join([f"lab {lab.name}: {found.state}", *(f"! {line}" for line in bad), *_rows(found)])


def _rows(found: Status) -> Iterator[str]:
    for node in found.nodes:
        daemons = " ".join(daemon.name for daemon in node.daemons if daemon.running)
        yield f"{node.name}  {node.role}  {node.ip}  {daemons or 'nothing runs'}"
    for port in found.ports:
        where = f"on {port.chassis}, {'up' if port.up else 'down'}" if port.chassis else "bound nowhere"
        yield f"{port.name}  {port.switch}  {' '.join(port.addresses)}  {where}"


def logs(lab: Lab, since: str) -> str:
    """Return the last warnings and errors of each daemon's log from a moment on."""
    lab.bring_logs()
    found = []
    for path in sorted(lab.folder.logs.rglob("*.log")):
        said = path.read_text(errors="replace").splitlines()
        lines = [line for line in said if line >= since and _WORTH_SHOWING.search(line) and _USUAL not in line]
        if lines:
            found.append(
                "\n".join([f"{path.relative_to(lab.folder.logs)}:", *(f"  {one}" for one in lines[-MOST_LINES:])])
            )
    return "\n".join(found) or "no warnings and no errors since it was up"


def put_into_bundle(lab: Lab, folder: Path) -> Path:
    """Return everything about a lab in an archive that is read without it (`ovnlab bundle`)."""
    path = folder / f"{lab.name}.tar.gz"
    bundle.write(lab, path)
    return path
