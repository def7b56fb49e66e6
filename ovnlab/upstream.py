"""OVN's own multinode test suite: generated from a source tree, and run on a lab group by group."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.nodes.context import Context
from ovnlab.shipped import TEMPLATES
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.waiting import CLOCK

TOPOLOGY = "ovn-multinode"
"""The shipped topology with the nodes that the suite expects."""

SUITE = "tests/multinode-testsuite.at"
"""Where a source tree of OVN has the suite."""

GROUP_TIMEOUT = 600.0
"""Seconds that one group may take."""

PASS, FAIL, SKIP = "pass", "fail", "skip"

_GROUP = re.compile(r"^ *(?P<number>\d+): (?P<place>\S+\.at:\d+) +(?P<title>.+?) *$", re.MULTILINE)
_RESULT = re.compile(
    r"^ *\d+: .*?\s(?P<word>ok|skipped|FAILED|expected failure|unexpected pass)\b(?: \((?P<place>[^)]*)\))?"
)
_NEEDED = {"nft": "nftables", "curl": "curl", "killall": "psmisc", "bash": "bash"}
"""Programs that the suite runs in nodes, and the packages that they are in."""


class Group(msgspec.Struct, frozen=True):
    """A test group of the suite."""

    number: int
    title: str
    place: str


class Expected(msgspec.Struct, frozen=True):
    """The expected result of a group on a provider and why, but for machines that have the file `unless`."""

    outcome: str
    reason: str
    unless: str = ""


class GroupResult(msgspec.Struct, frozen=True):
    """The result of a group; `place` is the line of the suite at which it failed or was skipped."""

    group: Group
    outcome: str
    place: str
    reason: str
    seconds: float
    expected: str
    logs: str = ""

    @property
    def is_expected(self) -> bool:
        """Return True if the outcome is the one that is expected, or better."""
        return self.outcome in (self.expected, PASS)


class Suite(msgspec.Struct, frozen=True):
    """A generated suite in a folder of its own."""

    folder: Path

    def groups(self, expressions: Sequence[str] = ()) -> list[Group]:
        """Return the groups that any keyword expression of autotest selects, all without one."""
        words = ["-l", *(word for expression in expressions for word in ("-k", expression))]
        done = subprocess.run(self._command(*words), cwd=self.folder, capture_output=True, text=True, check=False)
        found = [Group(int(m["number"]), m["title"], m["place"]) for m in _GROUP.finditer(done.stdout)]
        if not found:
            hint = "without -k all of them run"
            raise UsageError(f"no test group of the suite has keywords {', '.join(expressions)}", hint=hint)
        return found

    def _command(self, *words: str) -> list[str]:
        return ["bash", str(self.folder / "tests/multinode-testsuite"), "-C", str(self.folder / "tests"), *words]

    def run(self, group: Group, shim: Path, log: Path) -> tuple[str, str]:
        """Run one group with `podman` of a folder. Returns its outcome and the place of the suite where it ended."""
        environment = {**os.environ, "ENABLE_SSL": "no", "PATH": f"{shim}:{os.environ.get('PATH', '')}"}
        with log.open("w+") as printed:
            process = subprocess.Popen(
                self._command(str(group.number)),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(GROUP_TIMEOUT)
            except subprocess.TimeoutExpired:
                return FAIL, f"no end after {GROUP_TIMEOUT:g} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            printed.seek(0)
            return outcome_in(printed.read())

    def kept_logs(self, group: Group) -> Path:
        """Return the folder with the logs of a group that failed."""
        return self.folder / "tests/multinode-testsuite.dir" / f"{group.number:02d}"


def outcome_in(printed: str) -> tuple[str, str]:
    """Return the outcome that the suite prints for one group, and the place that it names."""
    found = [match for line in printed.splitlines() if (match := _RESULT.match(line))]
    if not found:
        return FAIL, "the suite did not run"
    word = found[-1]["word"]
    return {"ok": PASS, "skipped": SKIP}.get(word, FAIL), found[-1]["place"] or ""


def generate(context: Context, source: Path, folder: Path) -> Suite:
    """Generate the suite of a source tree of OVN. Raises CommandFailed where it has none."""
    script = render("multinode/generate-suite.sh.j2", source=source.resolve(), suite=folder)
    run_script(context, script, where=f"generating the multinode suite of {source}", timeout=120)
    return Suite(folder)


def expectations(provider: str) -> dict[str, Expected]:
    """Return what is expected of groups on a provider by their titles; of all others that they pass."""
    content = (TEMPLATES / "multinode/outcomes.json").read_bytes()
    found = msgspec.json.decode(content, type=dict[str, dict[str, Expected]]).get(provider, {})
    return {title: one for title, one in found.items() if not (one.unless and Path(one.unless).exists())}


def missing_tools() -> str:
    """Return a sentence about the programs of the suite that this machine lacks, empty where it has all."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in _NEEDED if shutil.which(name, path=path) is None]
    if not missing:
        return ""
    packages = ", ".join(_NEEDED[name] for name in missing)
    return f"groups that run {', '.join(missing)} will fail: this machine lacks it (install {packages})"


def results(
    suite: Suite,
    groups: Sequence[Group],
    expected: Mapping[str, Expected],
    shim: Callable[[], Path],
    logs: Path,
) -> Iterator[GroupResult]:
    """Run groups one after the other, each on a lab that `shim` makes ready, and yield what came of each."""
    for group in groups:
        began = CLOCK.monotonic()
        log = logs / f"{group.number:02d}.log"
        wanted = expected.get(group.title)
        try:
            folder = shim()
            logs.mkdir(parents=True, exist_ok=True)  # only now: a lab that begins removes the logs of an earlier one
            outcome, place = suite.run(group, folder, log)
        except OvnlabError as error:
            outcome, place = FAIL, f"the lab was not ready: {error}"
        kept = ""
        if outcome == FAIL and suite.kept_logs(group).exists():
            target = logs / f"{group.number:02d}"
            shutil.rmtree(target, ignore_errors=True)  # of the last time
            shutil.move(suite.kept_logs(group), target)  # which may be on another file system
            kept = str(target)
        reason = wanted.reason if wanted is not None and outcome == wanted.outcome else ""
        seconds = round(CLOCK.monotonic() - began, 1)
        meant = wanted.outcome if wanted is not None else PASS
        yield GroupResult(group, outcome, place, reason, seconds, meant, kept)


def junit(found: Sequence[GroupResult]) -> str:
    """Return the results as CI systems read them."""
    suite = ET.Element("testsuite", name="ovn multinode", tests=str(len(found)))
    suite.set("failures", str(sum(one.outcome == FAIL for one in found)))
    suite.set("skipped", str(sum(one.outcome == SKIP for one in found)))
    for one in found:
        case = ET.SubElement(suite, "testcase", classname="multinode", name=one.group.title, time=str(one.seconds))
        if one.outcome == FAIL:
            ET.SubElement(case, "failure", message=one.reason or one.place).text = one.logs
        if one.outcome == SKIP:
            ET.SubElement(case, "skipped", message=one.reason or one.place)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
