"""Faults that somebody has put on a lab: its stored record of what is broken on purpose.

Who puts faults on and heals them is `ovnlab.faults`. What compares a lab with its topology, or looks for what is wrong
with it, reads the record here, so that a deliberate fault is neither mended nor taken for a surprise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ovnlab.atomic_write import write_whole
from ovnlab.errors import OvnlabError
from ovnlab.state import LabFolder, clear_folder
from ovnlab.topology.resolved import LinkRule, Topology

RECORD = "faults.json"
"""The file in the lab's folder."""


class Fault(msgspec.Struct, frozen=True):
    """A deliberate fault of a lab.

    `kind` is the module of ovnlab.faults.kinds that put it on, `target` what that was told to break, with `settings`;
    `nodes` are the nodes that it is on, `daemons` pairs of a node and a daemon there. `sentence` says what is broken,
    `command` is what was typed. Times are seconds since 1970; `until` is when it heals by itself, 0 for never.
    `effects` and `may` are what it explains, as in a finding of a diagnosis. `ending` is True while it is healed.
    """

    number: int
    kind: str
    target: str
    sentence: str
    nodes: tuple[str, ...] = ()
    daemons: tuple[tuple[str, str], ...] = ()
    links: tuple[LinkRule, ...] = ()
    settings: Mapping[str, str] = msgspec.field(default_factory=dict)
    effects: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    command: str = ""
    since: float = 0.0
    until: float = 0.0
    ends_nodes: bool = False
    ending: bool = False

    @property
    def is_left_alone(self) -> bool:
        """True if `up` does not mend it: only what people are to find themselves is mended by whatever does so."""
        return not self.kind.startswith("workshop-")

    @property
    def title(self) -> str:
        """Return what is broken, and how to end that."""
        return f"{self.sentence} (fault {self.number}; `ovnlab heal {self.number}` ends it)"


def stored(folder: LabFolder) -> tuple[Fault, ...]:
    """Return all faults that are recorded, those that are just healed as well.

    Raises OvnlabError if the record is damaged.
    """
    path = folder.path / RECORD
    try:
        return tuple(msgspec.json.decode(path.read_bytes(), type=list[Fault]))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ()
    except msgspec.DecodeError as error:
        hint = f"rm {path}, and `ovnlab up` mends what is broken"
        raise OvnlabError(f"damaged record of faults: {error}", where=str(path), hint=hint) from None


def active(folder: LabFolder) -> tuple[Fault, ...]:
    """Return the faults that are on."""
    return tuple(fault for fault in stored(folder) if not fault.ending)


def store(folder: LabFolder, faults: Iterable[Fault]) -> None:
    """Write the record, all of it or nothing; without faults there is none."""
    path = folder.path / RECORD
    clear_folder(path)
    found = list(faults)
    if found:
        write_whole(path, msgspec.json.format(msgspec.json.encode(found)))
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def left_alone(faults: Sequence[Fault]) -> frozenset[str]:
    """Return the nodes that `up` does not touch: those that a fault has ended, or daemons of."""
    ended = {node for fault in faults if fault.ends_nodes for node in fault.nodes}
    return frozenset({*ended, *(node for fault in faults for node, _ in fault.daemons)})


def disturbed(faults: Sequence[Fault]) -> frozenset[str]:
    """Return the nodes that may not answer because of a fault."""
    return frozenset(node for fault in faults for node in fault.nodes)


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────


class LinkState(msgspec.Struct, frozen=True):
    """The wanted state of a link: without carrier, or with rules for frames to its node and from it."""

    down: bool = False
    inward: tuple[LinkRule, ...] = ()
    outward: tuple[LinkRule, ...] = ()


def links(topology: Topology, faults: Iterable[Fault]) -> dict[tuple[str, str], LinkState]:
    """Return what the file and faults make of links, by node and device. Ordinary ones are left out."""
    found: dict[tuple[str, str], LinkState] = {}
    for rule in (*topology.links, *(rule for fault in faults for rule in fault.links)):
        before = found.get((rule.node, rule.device), LinkState())
        found[rule.node, rule.device] = LinkState(
            before.down or rule.down,
            (*before.inward, *([rule] if rule.direction != "out" and not rule.down else ())),
            (*before.outward, *([rule] if rule.direction != "in" and not rule.down else ())),
        )
    return found
