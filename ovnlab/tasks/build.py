"""Tasks that fetch, configure, compile and install OVS and OVN, wherever their context runs.

Nothing here knows OVS from OVN, or either from any other tree of autotools; what they are given does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

PREFIX = "/opt/ovnlab/current"
"""Where a build believes that it is: a link that says which one a node runs."""

OPTIONS = (
    f"--prefix={PREFIX}",
    "--localstatedir=/var",
    "--sysconfdir=/etc",
    # What a node need not have: a build needs libc and libssl, whatever else the machine has that it is made on.
    "--disable-libcapng",
    "--disable-afxdp",
    "ac_cv_lib_unbound_ub_ctx_create=no",
)

NOT_RUN = (
    "noinst_PROGRAMS", "check_PROGRAMS", "EXTRA_PROGRAMS",
    "man_MANS", "dist_man_MANS", "noinst_man_MANS", "MANS",
)  # fmt: skip
"""What automake calls test programs and manual pages."""

PROGRAMS = ("bin_PROGRAMS", "sbin_PROGRAMS")
"""What automake calls programs that are installed; somebody who links with a tree does not need them."""

FETCH_TIMEOUT = 900
"""Seconds that bringing a repository may take."""

BUILD_TIMEOUT = 7200
"""Seconds that configuring or compiling may take."""

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and of how many; 0 where that is not known."""

_STEP = re.compile(r"^  [A-Z]+ ")
_STEPS = re.compile(r"^ovnlab: steps (\d+)$")
_ERRORS = (
    re.compile(r"^(?P<file>[^\s:][^:]*):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<what>.*)"),
    re.compile(r"^configure: error: (?P<what>.*)"),
)
_LATER_ERRORS = (
    re.compile(r"^(?:\S*ld: )?(?P<file>[^\s:]+):(?:(?P<line>\d+):|.*[:)] )\s*(?P<what>undefined reference to .*)"),
    re.compile(r"^(?:\S*ld: )(?P<what>cannot find .*)"),
    re.compile(r"^make(?:\[\d+\])?: \*\*\* (?P<what>.*)"),
    re.compile(r"^ovnlab: (?P<what>exit code .*)"),
)
"""What only says that there was an error, in the order of how much it tells."""


class CompileFailed(CommandFailed):
    """A file does not compile, or what it needs is not there to be linked: the person has to look there."""


class Log:
    """The log of a build: kept in a file, its steps counted."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self.done = 0
        self.total = 0
        self._rest = ""

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, text: str) -> None:
        """Write what was printed."""
        self._file.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if steps := _STEPS.match(line):
                self.done, self.total = 0, int(steps[1])
            elif _STEP.match(line):
                self.done += 1
            else:
                continue
            self.progress(min(self.done, self.total), self.total)

    def flush(self) -> None:
        """Flush the file, so that others see it."""
        self._file.flush()

    def text(self) -> str:
        """Return the whole log."""
        self._file.flush()
        return self.path.read_text(errors="replace")


@dataclass(frozen=True)
class FirstError:
    """The first thing that a build says went wrong; `file` is empty and `line` 0 where it names none."""

    file: str
    line: int
    what: str
    detail: str = ""


def first_error(text: str) -> FirstError | None:
    """Return the first compiler, linker, autotools or configure error in what a build printed."""
    lines = text.splitlines()
    for patterns in (_ERRORS, *((pattern,) for pattern in _LATER_ERRORS)):
        for number, line in enumerate(lines):
            for pattern in patterns:
                if found := pattern.match(line):
                    named = found.groupdict()
                    detail = "\n".join(lines[number : number + 4])
                    file = str(named.get("file") or "").removeprefix("./")
                    return FirstError(file, int(named.get("line") or 0), named["what"], detail)
    return None


def _run(context: Context, script: str, log: Log, name: str, tree: Path, place: Path | None) -> None:
    """Run a step of a build in a tree. `place` is the person's own, where the files of errors are looked for."""
    try:
        run_script(context, script, where=name, timeout=BUILD_TIMEOUT, output=log)
    except CommandFailed as error:
        raise _failure(log.text().replace(f"{tree}/", ""), log.path, name, place, error) from None


def _failure(text: str, path: Path, name: str, place: Path | None, error: CommandFailed) -> OvnlabError:
    hint = f"the whole log: {path}"
    if "No space left on device" in text + error.detail:
        return HostRequirementError("the disk is full", where=name, hint="make room, or set XDG_CACHE_HOME")
    found = first_error(text)
    if found is None:
        return CommandFailed(error.message, where=name, exited=error.exited, detail=error.detail, hint=hint)
    file = str(place / found.file) if place and found.file and (place / found.file).exists() else found.file
    where = ":".join(filter(None, (file, str(found.line or "")))) if file else ""
    where = f"{name}: {where}" if where else name
    kind = CompileFailed if found.file else CommandFailed
    return kind(found.what, where=where, exited=error.exited, detail=found.detail, hint=hint)


def fetch_script(repository: Path, url: str, ref: str) -> str:
    """Return the script that fetches a branch, tag or commit into a bare repository."""
    return render(
        "build/fetch.sh.j2",
        repository=repository,
        url=url,
        ref=ref,
        commit=re.fullmatch("[0-9a-f]{40}", ref) is not None,
        short=re.fullmatch("[0-9a-f]{7,39}", ref) is not None,
        timeout=FETCH_TIMEOUT,
    )


def fetch(context: Context, repository: Path, url: str, ref: str) -> tuple[str, bool]:
    """Bring a branch, tag or commit into a bare repository: which commit it is, and whether the URL was reached.

    A branch that was brought before is taken as it was then where the URL cannot be reached. Raises CommandFailed
    where there is no such thing, or no way to it.
    """
    script = fetch_script(repository, url, ref)
    said = run_script(context, script, where=f"git {url}", timeout=FETCH_TIMEOUT * 2).split("\n")
    commit = next(line.removeprefix("commit ") for line in said if line.startswith("commit "))
    return commit, "unreachable" not in said


def pin(context: Context, repository: Path, commit: str) -> tuple[str, str, str] | None:
    """Return URL and commit of a commit's submodule `ovs`, and the repository's origin; None where it has none."""
    said = run_script(context, render("build/pin.sh.j2", repository=repository, commit=commit), where="git ls-tree")
    facts = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    return (facts["url"], facts["commit"], facts.get("origin", "")) if {"url", "commit"} <= facts.keys() else None


def export(context: Context, repository: Path, commit: str, into: Path) -> None:
    """Put the files of a commit into a folder."""
    run_script(
        context,
        render("build/export.sh.j2", repository=repository, commit=commit, into=into),
        where=f"git archive {commit}",
        timeout=FETCH_TIMEOUT,
    )


def show(context: Context, repository: Path, commit: str, path: str) -> str:
    """Return the content of a file in a commit. Raises CommandFailed where there is none."""
    script = render("build/show.sh.j2", repository=repository, commit=commit, path=path)
    return run_script(context, script, where=f"git show {commit}:{path}")


def configure_script(name: str, tree: Path, cflags: str, options: Sequence[str] = ()) -> str:
    """Return the script that configures a tree, after its boot.sh where it comes without a configure."""
    return render("build/configure.sh.j2", name=name, tree=tree, options=(*OPTIONS, *options), cflags=cflags)


def configure(
    context: Context, name: str, tree: Path, log: Log, *, cflags: str, options: Sequence[str] = (), place: Path | None
) -> None:
    """Configure a tree. Raises CommandFailed with the first error."""
    _run(context, configure_script(name, tree, cflags, options), log, name, tree, place)


def make_script(name: str, tree: Path, stage: Path | None, jobs: int) -> str:
    """Return the script that compiles a tree and installs it below `stage`; without one, to be linked with."""
    skipped = NOT_RUN if stage else (*NOT_RUN, *PROGRAMS)
    return render("build/make.sh.j2", name=name, tree=tree, stage=stage, jobs=jobs, skipped=skipped)


def make(
    context: Context, name: str, tree: Path, log: Log, *, stage: Path | None, jobs: int, place: Path | None
) -> None:
    """Compile a tree and install it below `stage`. Raises CommandFailed with the first error."""
    _run(context, make_script(name, tree, stage, jobs), log, name, tree, place)


def strip_script(name: str, stage: Path, *, strip: bool) -> str:
    """Return the script that removes what nodes do not run; `strip` also removes symbols from programs."""
    return render("build/strip.sh.j2", name=name, stage=stage, prefix=PREFIX, strip=strip)


def strip(context: Context, name: str, stage: Path, log: Log, *, symbols: bool) -> None:
    """Take away what nodes do not run, and symbols from programs where `symbols` is False."""
    _run(context, strip_script(name, stage, strip=not symbols), log, name, stage, None)
