"""Parsers of what OVS's tools print for people: OpenFlow flows, and the state of OpenFlow ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ovnlab.ovsdb.client import Tables, listed

_FLOW = re.compile(r"^ cookie=(0x[0-9a-f]+), duration=[^,]*, table=(\d+), n_packets=(\d+), n_bytes=\d+, (.*)$")
_PORT = re.compile(r"^ (?:\d+|LOCAL)\(([^)]*)\):")

_AGES = (
    "idle_",
    "hard_",
    "importance",
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte",
)
"""What stands between the counters and the match and is neither (ovs-ofctl(8), Flow Syntax)."""


@dataclass(frozen=True)
class DumpedFlow:
    """An OpenFlow flow. `match` holds its terms without the priority."""

    cookie: int
    table: int
    priority: int
    match: str
    actions: str
    packets: int

    @property
    def text(self) -> str:
        """Return the flow as ovs-ofctl(8) takes it."""
        words = [f"table={self.table}", f"priority={self.priority}", *([self.match] if self.match else [])]
        return f"{','.join(words)} actions={self.actions}"


def flows_in(printed: str) -> tuple[DumpedFlow, ...]:
    """Return the flows that `ovs-ofctl dump-flows` printed."""
    return tuple(flow for line in printed.splitlines() if (flow := _flow(line)) is not None)


def _flow(line: str) -> DumpedFlow | None:
    found = _FLOW.match(line)
    if found is None:
        return None
    terms, _, actions = found[4].partition("actions=")
    priority, match = 32768, []
    for word in re.split(r"[,\s]+", terms.strip()):
        if word.startswith("priority="):
            priority = int(word.removeprefix("priority="))
        elif word and not word.startswith(_AGES):
            match.append(word)
    return DumpedFlow(int(found[1], 16), int(found[2]), priority, ",".join(match), actions, int(found[3]))


def port_states_in(printed: str) -> dict[str, frozenset[str]]:
    """Return the configuration bits of each port that `ovs-ofctl dump-ports-desc` printed."""
    found: dict[str, frozenset[str]] = {}
    name = ""
    for line in printed.splitlines():
        if port := _PORT.match(line):
            name = port[1].strip('"')
        elif name and line.strip().startswith("config:"):
            words = line.partition(":")[2].split()
            found[name] = frozenset(word for word in words if word != "0")
    return found


def interfaces_in(switch: Tables) -> dict[str, tuple[str, ...]]:
    """Return the names of the interfaces in each bridge, of the rows of a switch's database."""
    names = {row["_uuid"]: str(row["name"]) for row in switch.get("Interface", ())}
    ports: Mapping[str, tuple[str, ...]] = {
        row["_uuid"]: tuple(names[uuid] for uuid in listed(row["interfaces"]) if uuid in names)
        for row in switch.get("Port", ())
    }
    return {
        row["name"]: tuple(name for uuid in listed(row["ports"]) for name in ports.get(uuid, ()))
        for row in switch.get("Bridge", ())
    }
