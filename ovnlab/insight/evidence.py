"""Evidence about one packet and its reply: the data that a verdict is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from ovnlab.insight.lab_view import LabView
from ovnlab.insight.logical_path import Leg
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.ovn_trace import LogicalTrace, Stage
from ovnlab.insight.physical_path import SwitchTrace
from ovnlab.insight.probe_capture import Hop
from ovnlab.insight.probe_packet import ProbePacket
from ovnlab.northbound.live import LiveRow

_KINDS = {
    "ACL": "ACL",
    "NAT": "NAT",
    "QoS": "QoS rule",
    "Logical_Router_Static_Route": "static route",
    "Logical_Router_Policy": "policy",
}


@dataclass(frozen=True)
class Decision:
    """The stage that ended a packet's way: the logical flow, the Northbound row that it is of, its line in the file."""

    chassis: str
    datapath: str
    pipeline: str
    stage: Stage
    row: LiveRow | None = None
    place: str = ""

    @property
    def title(self) -> str:
        """Return what decided, in words."""
        if self.stage.name == "lr_in_policy" and self.stage.match != "1":
            return f"policy {self.stage.priority} of router {self.datapath} ({self.stage.match})"
        if self.row is None:
            return f"{self.stage.name} of {self.datapath}"
        kind = _KINDS.get(self.row.table, self.row.table.replace("_", " ").lower())
        columns = self.row.columns
        if self.row.table == "Logical_Router_Static_Route":
            return f"{kind} {columns['ip_prefix']} via {columns['nexthop']} {self.row.uuid[:8]}"
        if self.row.table == "NAT":
            return f"{kind} {columns['type']} {columns['external_ip']} {columns['logical_ip']} {self.row.uuid[:8]}"
        # A rule without a name of its own is known by what it says, which stands elsewhere.
        name = self.row.columns.get("name") or ("" if self.row.table in ("ACL", "QoS") else self.row.name) or ()
        named = f" {next(iter(name))}" if name and not isinstance(name, str) else f" {name}" if name else ""
        return f"{kind}{named} {self.row.uuid[:8]}"


@dataclass(frozen=True)
class Reply:
    """The reply to a packet, or why none came.

    `state` is `came`, `refused` (the receiver said that nothing listens), `none` (an answer was due, and is lost),
    `beyond` (it left the lab, and what happens there cannot be seen), or `unknown`. `said` is a sentence; `back` the
    way of the answer where it was followed; `place` and `hint` are where it was lost and what to do.
    """

    state: str
    said: str
    back: Trace | None = None
    hop: Hop | None = None
    place: str = ""
    hint: str = ""

    @property
    def is_lost(self) -> bool:
        """Return True if an answer was due and did not come."""
        return self.state == "none"


@dataclass(frozen=True)
class ProbeCount:
    """The counts of several packets sent at once: arrived and answered; None where none is answered."""

    sent: int
    arrived: int
    answered: int | None = None

    @property
    def is_lossy(self) -> bool:
        """Return True if some are missing."""
        return self.arrived < self.sent or (self.answered is not None and self.answered < self.sent)

    def __str__(self) -> str:
        answered = "" if self.answered is None else f", {self.answered} were answered"
        return f"of {self.sent} packets {self.arrived} arrived{answered}"


@dataclass(frozen=True)
class Trace:
    """A trace of one packet. `outcome` is delivered, answered (by a router), rejected, dropped, or left (by a NIC).

    `came` is where the answer was listened for, None where none was due. `stopped` says why the logical flows may not
    be what the Northbound database says.
    """

    question: ProbePacket
    logical: LogicalTrace
    legs: tuple[Leg, ...]
    physical: tuple[SwitchTrace, ...]
    hops: tuple[Hop, ...]
    outcome: str
    decision: Decision | None
    sent: bool
    notes: tuple[str, ...]
    look: LabView = field(repr=False)
    came: Hop | None = None
    answer: Reply | None = None
    stopped: str = ""
    counted: ProbeCount | None = None

    @property
    def expected(self) -> TunnelNames | None:
        """Return the header of the first tunnel that it has to take."""
        return next((leg.tunnel for leg in self.legs if leg.tunnel), None)

    @property
    def observed(self) -> TunnelNames | None:
        """Return the header of the first tunnel that it was seen in."""
        return next((hop.tunnel for hop in self.hops if hop.tunnel), None)

    @property
    def arrived(self) -> Hop | None:
        """Return where the packet was received, None where it was not seen to be."""
        return next((hop for hop in reversed(self.hops) if hop.seen and hop.name and hop.what == "received"), None)
