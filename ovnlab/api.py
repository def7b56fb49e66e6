"""The public interface of ovnlab for Python: `from ovnlab import Lab, errors, find, up`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovnlab.lab import lab as labs
from ovnlab.lab.lab import Lab, Request, prepare
from ovnlab.reporting import Reporter, SilentReporter
from ovnlab.shipped import find_topology

__all__ = ("Lab", "find", "up")


def up(
    topology: str | Path,
    *,
    name: str | None = None,
    provider: str | None = None,
    settings: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Lab:
    """Bring a lab up, or make it what its file says now, and return it.

    `topology` is a file, or the name of a shipped topology. `name`, `provider` and `settings` (`KEY=VALUE`) override
    it as the options of `ovnlab up` do. Progress goes to `reporter`, by default nowhere. Raises TopologyError for an
    invalid file, and other errors of `ovnlab.errors`.
    """
    reporter = reporter or SilentReporter()
    request = Request(find_topology(str(topology)), tuple(settings), name, provider)
    lab, wanted = prepare(request, reporter)
    lab.up(wanted, source=str(Path(request.path).resolve()), named=name is not None, options=request.options())
    return Lab(lab.name, reporter)  # another object: what this one knows is from before


def find(name: str | None = None, *, reporter: Reporter | None = None) -> Lab:
    """Return a lab that exists, by name; without a name, the only one. Raises UsageError for an unknown name."""
    return labs.find(name, reporter or SilentReporter())
