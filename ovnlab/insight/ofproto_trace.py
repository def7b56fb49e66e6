"""Output of `ovs-appctl ofproto/trace` (ovs-vswitchd(8)): how a switch handles a packet.

It prints for people only. What of it is not understood here is kept, and said.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ovnlab.errors import CommandFailed, OvnlabError, Timeout
from ovnlab.tasks.script import run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

_STEP = re.compile(r"(\d+)\. (?:(.*), )?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$")
_NO_MATCH = re.compile(r"(\d+)\. [Nn]o match\.?$")
_BRIDGE = re.compile(r'bridge\("(.*)"\)$')
_RECIRC = re.compile(r"recirc\((0x[0-9a-f]+)\)")
_ACTIONS = {
    "set", "set_masked", "tnl_push", "tnl_pop", "clone", "check_pkt_len", "push_vlan", "pop_vlan", "sample", "trunc",
    "meter", "hash", "lb_output", "recirc", "ct", "userspace", "psample", "dec_ttl", "push_eth", "pop_eth", "push_mpls",
    "pop_mpls", "add_mpls", "push_nsh", "pop_nsh",
}  # fmt: skip
"""Actions of the datapath with arguments (ovs-actions(7), odp actions)."""

COMPLAINTS = (
    "native tunnel routing failed", "neighbor cache miss", "no route", "output port is invalid", "dropping",
    "skipping output", "dropped", "disallowed", "forwarding disabled", "not forwarding", "OFPPC_",
    "nonexistent output port",
)  # fmt: skip
"""What a switch says of a packet that it does not put out (ofproto/ofproto-dpif-xlate.c)."""

ALARM = 142
"""The exit code of a command that its own time limit ended: 128 and SIGALRM."""

SECONDS = 3
"""How long a switch may take to answer."""

_KNOWN = ("Flow:", "Final flow:", "Megaflow:", "Datapath actions:", "This flow is handled", "* ", "Stop processing")
_GENEVE = re.compile(r"class=0x102,type=0x80,len=4,(0x[0-9a-f]+)")


@dataclass(frozen=True)
class FlowStep:
    """An OpenFlow flow that matched, in a table of a bridge; none did where `found` is false."""

    bridge: str
    table: int
    match: str = ""
    priority: int = 0
    cookie: int = 0
    found: bool = True
    depth: int = 0
    actions: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """Return the first digits of the UUID of the Southbound row that it is of; empty where it is of none."""
        return f"{self.cookie:08x}" if self.cookie else ""


@dataclass(frozen=True)
class Header:
    """The header of a tunnel that a packet leaves in: keys as numbers, the ports' None where it carries none."""

    encap: str
    remote_ip: str
    vni: int
    ingress_key: int | None = None
    egress_key: int | None = None


@dataclass(frozen=True)
class Exit:
    """A port of the datapath that a packet leaves by, in a tunnel or not, and what was set in its headers by then.

    `carrier` is the port that the encapsulated packet leaves by and `mac` whom it goes to, empty where the datapath
    does not tell them.
    """

    port: str
    tunnel: Header | None
    changed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    carrier: str = ""
    mac: str = ""


@dataclass(frozen=True)
class Pass:
    """A pass through the tables, from a flow to the actions of the datapath.

    `resumes` what connection tracking put off, and `translated` says whether addresses are by then what that makes of
    them: ofproto/trace does so since OVS 3.0.
    """

    flow: str
    steps: tuple[FlowStep, ...]
    actions: str = ""
    resumes: str = ""
    translated: bool = False

    @property
    def exits(self) -> tuple[Exit, ...]:
        """Return where the packet goes."""
        return tuple(_exits(split(self.actions), _headers(self.flow) if self.resumes else {}, None))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return actions of the datapath that are not known here, and may do what is not told."""
        names = (_call(action)[0] for action in split(self.actions) if "(" in action)
        return tuple(dict.fromkeys(name for name in names if name not in _ACTIONS))

    @property
    def asks_controller(self) -> bool:
        """Return True if it goes to ovn-controller: a MAC address to ask for, something to answer or to log."""
        return "controller(" in self.actions

    @property
    def translates(self) -> bool:
        """Return True if connection tracking changes addresses behind it."""
        return re.search(r"nat\((src|dst)=", self.actions) is not None


@dataclass(frozen=True)
class PhysicalTrace:
    """The passes of one packet on one node, and the lines that were not understood."""

    node: str
    passes: tuple[Pass, ...]
    unread: tuple[str, ...] = ()

    @property
    def steps(self) -> Iterator[FlowStep]:
        """Return every step of every pass."""
        return (step for one in self.passes for step in one.steps)

    @property
    def exits(self) -> tuple[Exit, ...]:
        """Return where the packet leaves the node's switch."""
        return tuple(found for one in self.passes for found in one.exits)

    @property
    def uuids(self) -> frozenset[str]:
        """Return the first digits of the UUIDs of all rows whose flows matched."""
        return frozenset(step.uuid for step in self.steps if step.uuid)

    @property
    def not_understood(self) -> tuple[str, ...]:
        """Return lines and actions that nobody here knows what to make of."""
        return (*self.unread, *(f"datapath action {name}" for one in self.passes for name in one.unknown))

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what the switch says of tunnels that it has no way for."""
        lines = (action for step in self.steps for action in step.actions)
        return tuple(
            line.lstrip("-> ") for line in lines if line.startswith("->") and any(w in line for w in COMPLAINTS)
        )

    @property
    def decapsulates(self) -> bool:
        """Return True if the switch takes a packet out of its tunnel."""
        return any("tnl_pop(" in one.actions for one in self.passes)

    @property
    def ending(self) -> FlowStep | None:
        """Return the step where a packet that leaves nowhere ends: the last one that matched."""
        matched = [step for step in self.steps if step.found]
        dropping = [step for step in matched if "drop" in step.actions]
        foreign = [step for step in dropping if step.priority]
        return next(iter([*foreign[:1], *matched[-1:]]), None)

    @property
    def reason(self) -> str:
        """Return why it is not followed to its end; empty where it is."""
        if any(one.asks_controller for one in self.passes):
            return "ofproto/trace leaves off where ovn-controller is asked"
        if self.passes and "recirc(" in self.passes[-1].actions:
            return "ofproto/trace leaves off where a group chooses"
        if any(one.translates and not after.translated for one, after in itertools.pairwise(self.passes)):
            return "ofproto/trace leaves off where addresses are translated: only OVS 3.0 and newer go on"
        return ""

    @property
    def is_followed(self) -> bool:
        """Return True if it is right to its end."""
        return not self.reason

    @property
    def last(self) -> FlowStep | None:
        """Return the last step in br-int."""
        inside = [step for step in self.steps if step.bridge == "br-int" and step.found]
        return inside[-1] if inside else None


def run(
    context: Context, node: str, flow: str, *, bridge: str = "br-int", tracked: Sequence[str] = ()
) -> PhysicalTrace:
    """Trace a packet through a bridge of a node: a flow with where it comes from and its headers.

    `tracked` is what connection tracking answers, each time that it is asked, as for a new connection where it is not
    given. A flow, never a packet: with one, ofproto/trace does what its actions say to controllers, as if it had come.
    Raises Timeout where the switch does not answer in time.
    """
    options = [word for answer in tracked for word in ("--ct-next", answer)]
    script = render("node/trace-ofproto.sh.j2", flow=flow, bridge=bridge, options=options, seconds=SECONDS)
    try:
        printed = run_script(context, script, where=f"{node}: ofproto/trace", timeout=2 * SECONDS + 1)
    except CommandFailed as error:
        if "Alarm clock" in error.detail or error.exited == ALARM:
            raise Timeout(f"ovs-vswitchd does not answer within {SECONDS} s", where=node) from None
        said = [line for line in error.detail.splitlines() if not line.startswith("ovs-appctl:")]
        raise OvnlabError("; ".join(said) or error.message, where=node) from None
    return parse(node, printed, bridge)


def parse(node: str, printed: str, bridge: str = "br-int") -> PhysicalTrace:
    """Return what ofproto/trace printed of a packet that comes into a bridge."""
    reader = _Reader(bridge)
    for line in printed.splitlines():
        text = line.strip()
        if text and not set(text) <= {"-"} and not set(text) <= {"="}:
            reader.line(text, len(line) - len(line.lstrip()))
    return PhysicalTrace(node, tuple(reader.passes), tuple(reader.unread))


class _Reader:
    """A parser of the lines of ofproto/trace."""

    def __init__(self, bridge: str) -> None:
        self.passes: list[Pass] = []
        self.unread: list[str] = []
        self.steps: list[FlowStep] = []
        self.flow, self.resumes, self.translated = "", "", False
        self.first = self.frozen = bridge
        self.bridges = [(bridge, 0)]

    def line(self, text: str, depth: int) -> None:
        if text.startswith("Flow:"):
            self.flow, self.steps = text.removeprefix("Flow:").strip(), []
            before = [step.bridge for one in self.passes[-1:] for step in one.steps] if self.resumes else []
            self.frozen = before[-1] if before else self.first
            self.bridges = [(self.frozen, 0)]
        elif text.startswith("Resuming from table"):
            self.bridges = [(self.frozen, 0)]  # what stands above it is the bridge that the trace began in
        elif text.startswith("Datapath actions:"):
            actions = text.removeprefix("Datapath actions:").strip()
            self.passes.append(Pass(self.flow, tuple(self.steps), actions, self.resumes, self.translated))
            self.steps, self.translated = [], False
        elif found := _BRIDGE.match(text):
            self._enter(found[1], depth)
        elif found := _RECIRC.match(text):
            self.resumes = found[1]
        elif text.startswith("Replacing src/dst IP/ports to simulate NAT"):
            self.translated = True
        elif not self._step(text, depth) and not text.startswith(_KNOWN):
            self._action(text)

    def _enter(self, bridge: str, depth: int) -> None:
        """Go on in another bridge: by a patch port at the same depth, or deeper, and then back."""
        while self.bridges and self.bridges[-1][1] >= depth:
            self.bridges.pop()
        self.bridges.append((bridge, depth))

    def _step(self, text: str, depth: int) -> bool:
        """Return True if the line is of a table."""
        found, nothing = _STEP.match(text), _NO_MATCH.match(text)
        while len(self.bridges) > 1 and depth < self.bridges[-1][1]:
            self.bridges.pop()
        bridge = self.bridges[-1][0]
        if found:
            table, match, priority, cookie = found.groups()
            number = int(cookie or "0", 16) & 0xFFFFFFFF
            self.steps.append(FlowStep(bridge, int(table), match or "", int(priority), number, depth=depth))
        elif nothing:
            self.steps.append(FlowStep(bridge, int(nothing[1]), found=False, depth=depth))
        return bool(found or nothing)

    def _action(self, text: str) -> None:
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], actions=(*self.steps[-1].actions, text))
        elif not self.flow:
            self.unread.append(text)


_FIELDS = {
    "dl_src": ("eth", "src"), "dl_dst": ("eth", "dst"), "nw_src": ("ipv4", "src"), "nw_dst": ("ipv4", "dst"),
    "ipv6_src": ("ipv6", "src"), "ipv6_dst": ("ipv6", "dst"),
}  # fmt: skip


def _headers(flow: str) -> dict[str, dict[str, str]]:
    """Return the addresses of a flow as OpenFlow has it, as the datapath's actions name them."""
    found: dict[str, dict[str, str]] = {}
    for key, value in _pairs(flow):
        if key in _FIELDS:
            header, name = _FIELDS[key]
            found.setdefault(header, {})[name] = value
    for name in ("src", "dst"):
        for protocol in ("tcp", "udp"):
            port = re.search(rf"\b{protocol}\b.*tp_{name}=(\d+)", flow)
            if port:
                found.setdefault(protocol, {})[name] = port[1]
    return found


def split(text: str) -> list[str]:
    """Return the parts of a list whose commas may also be within parentheses."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter in "({":
            depth += 1
        elif letter in ")}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part for part in parts if part]


def _call(text: str) -> tuple[str, str]:
    """Return the name and the arguments of an action."""
    name, parenthesis, rest = text.partition("(")
    return name, rest.rpartition(")")[0] if parenthesis else ""


def _exits(actions: Sequence[str], changed: Mapping[str, Mapping[str, str]], tunnel: Header | None) -> Iterator[Exit]:
    """Yield where actions of the datapath put a packet (odp actions as ovs-dpctl(8) prints them)."""
    for number, action in enumerate(actions):
        name, arguments = _call(action)
        if name == "set":
            header, inside = _call(arguments)
            if header == "tunnel":
                tunnel = _tunnel(inside)
            else:
                changed = {**changed, header: {**changed.get(header, {}), **dict(_pairs(inside))}}
        elif name == "tnl_push":
            after = actions[number + 1 : number + 2]  # where the encapsulated packet goes
            to = re.search(r"eth\(dst=([0-9a-f:]{17})", arguments)
            yield Exit("tunnel", _pushed(arguments), changed, "".join(after), to[1] if to else "")
            return
        elif name == "clone":
            yield from _exits(split(arguments), changed, tunnel)
        elif name == "check_pkt_len":
            for part in split(arguments):
                which, inside = _call(part)
                if which == "le":
                    yield from _exits(split(inside), changed, tunnel)
        elif name in ("push_vlan", "pop_vlan"):  # told by who reads the packet on the wire
            continue
        elif not arguments and name not in ("drop", "ct_clear"):
            yield Exit(name, tunnel, changed)
            tunnel = None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in split(text):
        key, equals, value = part.partition("=")
        if equals:
            yield key, value


def _keys(text: str) -> tuple[int | None, int | None]:
    """Return the ports in OVN's option."""
    found = _GENEVE.search(text)
    if found is None:
        return None, None
    keys = int(found[1], 16)
    return keys >> 16 & 0x7FFF, keys & 0xFFFF


def _tunnel(text: str) -> Header:
    """Parse `set(tunnel(...))` of the kernel's datapath."""
    said = dict(_pairs(text))
    vni = int(said.get("tun_id", "0"), 0)
    remote = said.get("dst") or said.get("ipv6_dst", "")
    if said.get("tp_dst") == "4789":
        return Header("vxlan", remote, vni, None, vni >> 12)
    ingress, egress = _keys(text)
    return Header("geneve", remote, vni, ingress, egress)


def _pushed(text: str) -> Header:
    """Parse `tnl_push(...)` of the userspace datapath."""
    remote = re.search(r"ipv[46]\([^()]*dst=([0-9a-f.:]+)", text)
    vni = re.search(r"vni=(0x[0-9a-f]+|\d+)", text)
    number = int(vni[1], 0) if vni else 0
    if "vxlan(" in text:
        return Header("vxlan", remote[1] if remote else "", number, None, number >> 12)
    ingress, egress = _keys(text)
    return Header("geneve", remote[1] if remote else "", number, ingress, egress)
