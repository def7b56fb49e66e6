"""Output of ovn-trace(8): how the logical network handles a packet.

ovn-trace prints for people only. What of it is not understood here is kept, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.ovsdb.endpoints import TLS_OPTIONS, Databases
from ovnlab.tasks.script import TIMEOUT, run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

_HEADING = re.compile(r"(ingress|egress|multicast)\((.*)\)$")
_NAMED = re.compile(r'(dp|inport|outport|mcgroup)="((?:[^"\\]|\\.)*)"')
_STAGE = re.compile(r"(\d+)\. ([^:(]+?)(?: \(([^()]*:\d+)\))?: (.*), priority (\d+), uuid ([0-9a-f]{8})$")
_NO_STAGE = re.compile(r"(\d+)\. ([^:(]+?)(?: \(([^()]*:\d+)\))?: no match(?: \(implicit drop\))?(?:, .*)?$")
_OUTPUT = re.compile(r'/\* output to "(.*?)", type "(.*?)" \*/')
_REDIRECT = re.compile(r'/\* Replacing type "\S+" outport "(.*?)" with distributed port "(.*?)"\.? \*/')
_REWRITTEN = ("eth.src", "eth.dst", "ip4.src", "ip4.dst", "ip6.src", "ip6.dst", "ip.ttl")
_ASSIGNED = re.compile(r"\b(eth\.(?:src|dst)|ip[46]\.(?:src|dst)) ?= ?([0-9a-f.:]+|[a-z0-9.]+)[;)]")
_SWAPPED = re.compile(r"\b(eth\.(?:src|dst)|ip[46]\.(?:src|dst)) <-> (eth\.(?:src|dst)|ip[46]\.(?:src|dst));")
_TRACKED = re.compile(r"\bct\.|\breg0\[(?:1|7|8|9|10|13)\]")
"""What matches ask of connection tracking, and of the hints that earlier stages leave of it."""

_WORDS = re.compile(r"[a-z]")


CONNECTIONS = 8
"""How many times connection tracking is asked on one way at most, each answered as for a new connection."""

SECONDS_EACH = 0.1
"""How long one packet of many may take; about 3 ms where nothing is emulated."""

INSIDE = ("patch", "l3gateway", "chassisredirect", "remote")
"""Types of ports behind which the logical network goes on (ovn-sb(5), Port_Binding type)."""

ASKING = ("arp", "nd_ns")
"""Actions with which a router asks for a MAC address (ovn-sb(5), Logical_Flow actions)."""

REFUSALS = ("reject {", "tcp_reset", "icmp4_error", "icmp6_error")
"""Actions that tell a sender that there is no way (ovn-sb(5), Logical_Flow actions)."""


@dataclass(frozen=True)
class Stage:
    """A table of a pipeline and the logical flow that matched in it; none did where `uuid` is empty.

    `uuid` are its first eight digits, as in cookies of OpenFlow (ovn-controller(8)); `actions` what it did, line by
    line.
    """

    table: int
    name: str
    match: str = ""
    priority: int = 0
    uuid: str = ""
    actions: tuple[str, ...] = ()

    @property
    def drops(self) -> bool:
        """Return True if the packet ends here: nothing matched, or what did says so."""
        return not self.uuid or any(action.rstrip(";").strip() == "drop" for action in self.actions)


@dataclass(frozen=True)
class PortOutput:
    """A logical port that a pipeline hands the packet to."""

    port: str
    type: str


@dataclass(frozen=True)
class Section:
    """A pipeline of a datapath, or an action with some more in it (ct_next, arp, ...), and what was done there.

    `depth` is how deep it is nested: what floods has a section for each port. `redirect` is the chassisredirect port
    that the packet goes to before its next pipeline.
    """

    title: str
    pipeline: str = ""
    datapath: str = ""
    inport: str = ""
    outport: str = ""
    depth: int = 0
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> tuple[str, ...]:
        """Return all that was done in it."""
        return (*self.notes, *(action for stage in self.stages for action in stage.actions))

    @property
    def sure(self) -> tuple[Stage, ...]:
        """Return the stages that a switch has to match as well.

        In a pipeline that does not track connections ovn-trace goes on with what it knew of them before, and a switch
        has forgotten that by then.
        """
        if not self.pipeline:
            return self.stages
        return tuple(stage for stage in self.stages if not _TRACKED.search(stage.match))

    @property
    def outputs(self) -> tuple[PortOutput, ...]:
        """Return the ports that it hands the packet to."""
        return tuple(PortOutput(*found.groups()) for line in self.text if (found := _OUTPUT.search(line)))

    @property
    def is_omitted(self) -> bool:
        """Return True if it would hand the packet to the port that it came from, and does not."""
        return any("omitting output because inport == outport" in line for line in self.text)

    @property
    def redirect(self) -> str:
        """Return the chassisredirect port that it goes through, empty where it does not."""
        return next((found[1] for line in self.text if (found := _REDIRECT.search(line))), "")


@dataclass(frozen=True)
class LogicalTrace:
    """The output of ovn-trace: the microflow, what was done, and the lines that were not understood."""

    flow: str
    sections: tuple[Section, ...]
    unread: tuple[str, ...] = ()

    @property
    def stages(self) -> Iterator[Stage]:
        """Return every stage, in order."""
        return (stage for section in self.sections for stage in section.stages)

    @property
    def text(self) -> str:
        """Return all that was done."""
        return "\n".join(line for section in self.sections for line in section.text)

    @property
    def asks_for_mac(self) -> bool:
        """Return True if a router does not know yet whose MAC address the next hop has, and asks."""
        return "/* No MAC binding. */" in self.text or any(section.title in ASKING for section in self.sections)

    @property
    def outputs(self) -> tuple[PortOutput, ...]:
        """Return the ports where it leaves the logical network: of fake VMs, localnet, and of other zones."""
        return tuple(output for section in self.sent for output in section.outputs if output.type not in INSIDE)

    @property
    def refusal(self) -> tuple[Section, Stage] | None:
        """Return where the sender is told that there is no way (an ACL with reject), None where it is not."""
        for section in self.sections:
            for stage in section.stages:
                if any(action.startswith(REFUSALS) for action in stage.actions):
                    return self.deciding(section, stage)
        return None

    def rewritten(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Return those fields of a packet that are other ones at its end: MAC and IP addresses, and TTL."""
        found = {key: fields[key] for key in _REWRITTEN if key in fields}
        for section in self.sent:
            for line in (section.title, *section.text):
                for one, other in _SWAPPED.findall(line):
                    if one in found and other in found:
                        found[one], found[other] = found[other], found[one]
                for key, value in _ASSIGNED.findall(line):
                    if key in found and value not in _REWRITTEN:
                        found[key] = value
                if "ip.ttl--" in line and "ip.ttl" in found:
                    found["ip.ttl"] = str(int(found["ip.ttl"], 0) - 1)
        return found

    def deciding(self, section: Section, stage: Stage) -> tuple[Section, Stage]:
        """Return the stage that decided what one does: since OVN 23.06 ACLs are evaluated in one and acted on in
        another.
        """
        if not stage.name.endswith("_acl_action"):
            return section, stage
        before = [(one, found) for one in self.sections[: self.sections.index(section) + 1] for found in one.stages]
        evaluated = [item for item in before if item[1].name.endswith("_acl_eval") and item[1].match != "1"]
        same = [item for item in evaluated if item[1].name.startswith(stage.name[: len("ls_in")])]
        return same[-1] if same else (section, stage)

    @property
    def sent(self) -> tuple[Section, ...]:
        """Return what is done with the packet itself, without answers that there is no way, and without asking for a
        MAC.
        """
        for number, section in enumerate(self.sections):
            if any(action.startswith(REFUSALS) for stage in section.stages for action in stage.actions):
                return self.sections[: number + 1]
            if self.asks_for_mac and section.title in ASKING:
                return self.sections[:number]
        if not any(section.pipeline == "multicast" for section in self.sections):
            return self.sections
        return tuple(section for section in self.sections if not section.is_omitted)  # who sent it gets no copy

    @property
    def drop(self) -> tuple[Section, Stage] | None:
        """Return where the packet ends without leaving, None where it does not."""
        if self.outputs:
            return None
        found = [(section, stage) for section in self.sent for stage in section.stages]
        dropping = [item for item in found if item[1].drops]
        last = (dropping or found)[-1:]
        return self.deciding(*last[0]) if last else None


def run(
    central: Context, databases: Databases, datapath: str, microflow: str, *, options: Sequence[str] = ()
) -> LogicalTrace:
    """Trace a packet. Raises UsageError with what ovn-trace says of a microflow that makes no sense."""
    script = render(
        "node/trace-packet.sh.j2",
        databases=databases,
        tls=TLS_OPTIONS,
        datapath=datapath,
        microflow=microflow,
        options=list(options),
    )
    found = parse(run_script(central, script, where=f"ovn-trace {datapath}"))
    if not found.sections:
        raise UsageError("; ".join(found.unread) or "it printed nothing", where=f"ovn-trace {datapath} '{microflow}'")
    return found


def run_all(
    central: Context, databases: Databases, packets: Sequence[tuple[str, str]], tracked: str
) -> list[LogicalTrace | None]:
    """Trace many packets, each a datapath and a microflow; None of what ovn-trace makes no sense of.

    `tracked` is what connection tracking answers (ovn-trace(8), --ct), each time that it is asked.
    """
    script = render(
        "node/trace-packets.sh.j2",
        databases=databases,
        tls=TLS_OPTIONS,
        packets=packets,
        answers=len(packets) * CONNECTIONS,
        tracked=tracked,
    )
    timeout = TIMEOUT + len(packets) * SECONDS_EACH
    printed = run_script(central, script, where=f"ovn-trace of {len(packets)} packets", timeout=timeout)
    _, *parts = printed.split("ovnlab: trace\n")
    if len(parts) != len(packets):
        raise OvnlabError("ovn-trace ended before it had told all", where=f"ovn-trace of {len(packets)} packets")
    found = [parse(part) for part in parts]
    return [one if one.sections else None for one in found]


def parse(printed: str) -> LogicalTrace:
    """Return what `ovn-trace --detailed` printed."""
    reader = _Reader()
    lines = printed.splitlines()
    skip = False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if skip:
            skip = False
        elif line.strip() and re.fullmatch(r"\s*-{3,}", following):
            reader.heading(line)
            skip = True
        else:
            reader.line(line)
    return reader.finish()


class _Reader:
    def __init__(self) -> None:
        self.flow = ""
        self.sections: list[Section] = []
        self.unread: list[str] = []
        self.current: Section | None = None
        self.stages: list[Stage] = []
        self.actions: list[str] = []
        self.notes: list[str] = []

    def heading(self, line: str) -> None:
        text = line.strip()
        if text.startswith("LOG: "):  # underlined as well, and no heading
            self.line(line)
            return
        self._close()
        depth = (len(line) - len(line.lstrip())) // 4
        found = _HEADING.match(text)
        before = self.sections[-1] if self.sections else Section("")
        if found is None:  # more of the pipeline that it is in
            self.current = Section(text, "", before.datapath, before.inport, before.outport, depth)
            return
        names = dict(_NAMED.findall(found[2]))
        outport = names.get("outport") or names.get("mcgroup", "")
        self.current = Section(text, found[1], names.get("dp", ""), names.get("inport", ""), outport, depth)

    def line(self, line: str) -> None:
        text = line.strip()
        if not text:
            return
        if text.startswith("# ") and not self.flow:
            self.flow = text[2:]
        elif found := _STAGE.match(text):
            self._close_stage()
            table, name, _, match, priority, uuid = found.groups()
            self.stages.append(Stage(int(table), name, match, int(priority), uuid))
        elif found := _NO_STAGE.match(text):
            self._close_stage()
            self.stages.append(Stage(int(found[1]), found[2]))
        elif self.current is not None and (text.endswith((";", "*/", "}", "{")) or text.startswith(("LOG:", "/*"))):
            (self.actions if self.stages else self.notes).append(text)
        elif _WORDS.search(text):
            self.unread.append(text)

    def _close_stage(self) -> None:
        if self.stages:
            last = self.stages[-1]
            self.stages[-1] = Stage(last.table, last.name, last.match, last.priority, last.uuid, tuple(self.actions))
        self.actions = []

    def _close(self) -> None:
        self._close_stage()
        if self.current is not None:
            made = self.current
            self.sections.append(
                Section(
                    made.title, made.pipeline, made.datapath, made.inport, made.outport, made.depth,
                    tuple(self.stages), tuple(self.notes),
                )
            )  # fmt: skip
        self.current, self.stages, self.notes = None, [], []

    def finish(self) -> LogicalTrace:
        self._close()
        return LogicalTrace(self.flow, tuple(self.sections), tuple(self.unread))
