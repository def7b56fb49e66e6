"""The labs of this user in a line each, those included of which something is kept while they are down."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.lab.lab import Lab
from ovnlab.providers.base import DOES_NOT_ANSWER, SUSPENDED
from ovnlab.providers.choice import kept_labs
from ovnlab.reporting import Reporter
from ovnlab.state import labs

COMING_UP = "coming up"
"""The state of a lab that `up` works on, and of a node that boots meanwhile or did when `up` was killed."""

KEPT = "kept"
"""The state of a lab that is down, and is kept for the next `up`."""


class ListedLab(msgspec.Struct, frozen=True):
    """A lab: `state` in a word or two, how many of its nodes run, the file that it was made from, empty if unknown.

    `is_kept` says that something of it is kept for the next `up`, whatever its state.
    """

    name: str
    state: str
    provider: str
    running: int
    nodes: int
    topology: str
    is_kept: bool


def listed(reporter: Reporter) -> list[ListedLab]:
    """Return all labs by name. What cannot be found out of a lab is noted, and keeps no other from being listed."""
    kept = kept_labs()
    there = [_listed(Lab(folder.name, reporter), folder.name in kept, reporter) for folder in labs()]
    names = {lab.name for lab in there}
    gone = [ListedLab(name, KEPT, by, 0, 0, "", is_kept=True) for name, by in kept.items() if name not in names]
    return sorted([*there, *gone], key=lambda lab: lab.name)


def _listed(lab: Lab, is_kept: bool, reporter: Reporter) -> ListedLab:
    topology = lab.stored.topology if lab.stored else None
    provider = topology.provider if topology else "?"
    nodes = [node.name for node in topology.nodes] if topology else []
    source = lab.stored.source if lab.stored else ""
    try:
        running = lab.provider.running()
        state = state_of(lab, running, nodes)
    except OvnlabError as error:
        reporter.note(f"lab {lab.name}: {error}")
        return ListedLab(lab.name, DOES_NOT_ANSWER, provider, 0, len(nodes), source, is_kept)
    return ListedLab(lab.name, state, provider, len(running), len(nodes), source, is_kept)


def state_of(lab: Lab, running: Collection[str], nodes: Collection[str]) -> str:
    """Return the state of a lab in a word or two, of whose nodes these run."""
    if is_coming_up(lab):
        return COMING_UP
    if running:
        return "up" if len(running) == len(nodes) else "partly up"
    return state_of_silent(lab, set(lab.provider.stopped_reasons(nodes).values()) if nodes else set())


def state_of_silent(lab: Lab, words: Collection[str]) -> str:
    """Return the state of a lab none of whose nodes runs, by what became of these."""
    if DOES_NOT_ANSWER in words:
        return DOES_NOT_ANSWER if is_complete(lab) else COMING_UP
    return SUSPENDED if set(words) == {SUSPENDED} else "down"


def is_coming_up(lab: Lab) -> bool:
    """Return True if `up` works on a lab now."""
    return not is_complete(lab) and lab.folder.is_locked()


def is_complete(lab: Lab) -> bool:
    """Return True if the last `up` of a lab came to its end."""
    return lab.stored is not None and lab.stored.complete
