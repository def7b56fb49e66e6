"""`up --watch`: whenever a topology file is saved, the lab becomes what it says."""

from __future__ import annotations

from pathlib import Path

from ovnlab import interruption
from ovnlab.cli import output, streams
from ovnlab.cli.progress import progress
from ovnlab.errors import OvnlabError, TopologyError, UsageError
from ovnlab.lab.lab import Request, prepare
from ovnlab.state import typed_path
from ovnlab.waiting import CLOCK

INTERVAL = 0.2
"""Seconds between two looks at the file."""


def watch(request: Request, name: str, known: bytes | None, *, prune: bool) -> int:
    """Converge on each save until Ctrl-C. A mistake in the file, or an `up` that fails, is told and leaves the lab.

    `name` is the lab's, `known` what the file held before the lab was made what it says: it may have been saved since.
    """
    output.line(f"watching {typed_path(request.path)}; Ctrl-C ends it, and leaves the lab up")
    streams.flush()
    try:
        while True:
            CLOCK.sleep(INTERVAL)
            content = read(request.path)
            if content is not None and content != known:
                known = content
                _converge(request, name, prune=prune)
                streams.flush()
    except KeyboardInterrupt:
        interruption.end()
        return 0


def read(path: str) -> bytes | None:
    """Return what a file holds; None while an editor replaces it, or has just emptied it to write it anew.

    What is not a file, such as a pipe, can be read once, and is not for this.
    """
    try:
        return (Path(path).read_bytes() or None) if Path(path).is_file() else None
    except OSError:
        return None


def _converge(request: Request, name: str, *, prune: bool) -> None:
    began = CLOCK.monotonic()
    try:
        with progress() as reporter:
            lab, wanted = prepare(request, reporter)
            if wanted.name != name:
                hint = f"ovnlab up {typed_path(request.path)} brings {wanted.name} up beside it"
                raise UsageError(f"the file is of lab {wanted.name} now, and not of {name}", hint=hint)
            source, named = str(Path(request.path).resolve()), request.name is not None
            outcome = lab.up(wanted, source=source, named=named, options=request.options(), prune=prune)
    except OvnlabError as error:
        output.error(error, json=False)
        if isinstance(error, (TopologyError, UsageError)):
            streams.say("ovnlab: the lab stays as it is")
        return
    steps = outcome.plan.steps()
    for step in steps:
        output.line(step)
    seconds = CLOCK.monotonic() - began
    output.line(
        f"lab {wanted.name}: {output.count(len(steps), 'change')} ({seconds:.1f} s)"
        if steps
        else f"lab {wanted.name}: nothing to do"
    )
