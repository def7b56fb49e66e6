"""Progress on stderr: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovnlab.cli.output import shown
from ovnlab.cli.streams import say
from ovnlab.errors import OvnlabError
from ovnlab.reporting import Reporter
from ovnlab.waiting import CLOCK

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class PlainProgress(Reporter):
    """A line for each step; nothing about single nodes."""

    def step(self, text: str) -> None:
        """Print the step."""
        say(shown(f"ovnlab: {text}"))

    note = step

    def node(self, name: str, doing: str) -> None:
        """Ignore the node: this is too much for a log."""

    def secret(self, what: str) -> str:
        """Ask for it on the terminal, if there is one."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return super().secret(what)
        from getpass import getpass  # noqa: PLC0415  rarely asked

        try:
            return getpass(f"{what}: ", stream=sys.stderr)
        except EOFError:
            raise OvnlabError(f"the {what} was not given") from None


class NoProgress(PlainProgress):
    """Only what the person should know."""

    def step(self, text: str) -> None:
        """Ignore the step: the command takes no time."""


WORTH_TELLING = 2.0
"""Seconds after which the time that a node takes is shown."""


class LiveProgress(Reporter):
    """A live display of the lab's step and, below it, of each node with the time that it took so far."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.began = CLOCK.monotonic()
        self.text = "looking"
        self.nodes: dict[str, str] = {}
        self.since: dict[str, float] = {}

    def step(self, text: str) -> None:
        """Begin a new step; what nodes did in the last one is over."""
        self.text = shown(text)
        self.nodes = dict.fromkeys(self.nodes, "")
        self.since = {}

    def node(self, name: str, doing: str) -> None:
        """Show what a node is doing."""
        self.nodes[name] = shown(doing)
        self.since.setdefault(name, CLOCK.monotonic())

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self.live.console.print(shown(f"ovnlab: {text}"), highlight=False, markup=False)

    def secret(self, what: str) -> str:
        """Ask for it where the picture is, which goes on below."""
        self.live.stop()
        try:
            return PlainProgress().secret(what)
        finally:
            self.live.start()

    def __rich__(self) -> Table:
        from rich.spinner import Spinner  # noqa: PLC0415  loaded already: this is drawn by rich
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        elapsed = f"{CLOCK.monotonic() - self.began:.1f} s"
        table.add_row(Spinner("dots", Text(f" {self.text}", style="bold")), Text(elapsed, style="dim"))
        for name, doing in sorted(self.nodes.items()):
            mark, style = ("✓", "green") if doing == "done" else ("·", "cyan")
            shown = "" if doing == "done" else doing
            taken = CLOCK.monotonic() - self.since.get(name, self.began)
            if shown and taken >= WORTH_TELLING:
                shown += f", {taken:.0f} s"
            table.add_row(Text(f"  {mark} {name}", style=style), Text(shown, style="dim"))
        return table


@contextlib.contextmanager
def busy(doing: str) -> Iterator[None]:
    """Say on a terminal what is done while a block takes more than a second; nothing of it stays."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    told = threading.Event()

    def tell() -> None:
        told.set()
        say(f"\r{shown(doing)} …\x1b[K", end="")

    waiting = threading.Timer(WORTH_TELLING / 2, tell)
    waiting.daemon = True
    waiting.start()
    try:
        yield
    finally:
        waiting.cancel()
        waiting.join()
        if told.is_set():
            say("\r\x1b[K", end="")


@contextlib.contextmanager
def progress() -> Iterator[Reporter]:
    """Yield the reporter that fits where stderr goes."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield PlainProgress()
        return
    from rich.console import Console  # noqa: PLC0415  40 ms that only a terminal is worth
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=12) as live:
        picture = LiveProgress(live)
        live.update(picture)
        yield picture
