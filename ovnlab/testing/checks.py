"""Ready-made checks of a lab, for a person's own tests.

Each looks at the lab as it is, returns what it found where it holds, and raises CheckFailed, an AssertionError, where
it does not:

    def test_tenants_are_apart(lab):
        checks.reachable(lab, "vm1", "vm2")
        checks.unreachable(lab, "vm1", "other-tenant")
        checks.encapsulated(lab, "vm1", "vm2", vni=1)

`lab` is the fixture of the plugin, or `ovnlab.lab.lab.find(NAME, reporter)`. What asks about packets sends real ones.
"""

from __future__ import annotations

from ovnlab.checks import assertions, examination
from ovnlab.checks.check_result import CheckResult, failed, held
from ovnlab.errors import OvnlabError
from ovnlab.insight.lab_view import look
from ovnlab.insight.names import TunnelNames
from ovnlab.insight.probe_packet import TraceRequest
from ovnlab.insight.trace import Trace, trace
from ovnlab.insight.verdict import verdict
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import NodeStatus, Status, status
from ovnlab.reporting import SilentReporter
from ovnlab.topology.resolved import Check

__tracebackhide__ = True
"""A test's own line is what its failure should show."""


class CheckFailed(AssertionError):
    """A check did not hold; `finding` says what was expected and what was observed."""

    def __init__(self, finding: CheckResult) -> None:
        super().__init__(str(finding))
        self.finding = finding


def _held(finding: CheckResult) -> CheckResult:
    if not finding.ok:
        raise CheckFailed(finding)
    return finding


def _node(found: Status, name: str) -> NodeStatus:
    """Return a node. Raises OvnlabError for a name that is not a node."""
    node = next((node for node in found.nodes if node.name == name), None)
    if node is None:
        raise OvnlabError("is not a node", where=name, hint=f"{', '.join(node.name for node in found.nodes)} are")
    return node


def daemon_runs(lab: Lab, node: str, daemon: str) -> CheckResult:
    """Check that a daemon such as `ovn-controller` runs on a node that should run it."""
    found = _node(status(lab), node)
    wanted = next((one for one in found.daemons if one.name == daemon), None)
    if wanted is None:
        title = f"{daemon} runs on {node}"
        return _held(failed("daemons", title, "a daemon that should run there", "none of that name"))
    return _held(assertions.daemon_runs(found, wanted))


def chassis_registered(lab: Lab, node: str) -> CheckResult:
    """Check that a node has a row in the Southbound database's Chassis table."""
    return _held(assertions.chassis_registered(_node(status(lab), node)))


def tunnel_up(lab: Lab, node: str, peer: str) -> CheckResult:
    """Check that a node has a tunnel port to a peer, and that its switch works with it.

    One direction; the other is another check.
    """
    found = status(lab)
    return _held(assertions.tunnel_up(_node(found, node), _node(found, peer).name))


def port_bound(lab: Lab, port: str, chassis: str | None = None) -> CheckResult:
    """Check that a logical switch port is bound, to that chassis where one is named, and up."""
    found = next((one for one in status(lab).ports if one.name == port), None)
    if found is None:
        return _held(failed("ports", f"{port} is bound and up", "a logical switch port", "there is none"))
    return _held(assertions.port_bound(found, chassis))


def synced(lab: Lab, *, timeout: int = 30) -> CheckResult:
    """Check that all chassis follow the Northbound database within `timeout` seconds."""
    for zone in lab.topology.zones:
        found = _held(examination.hv_synced(lab, zone, timeout))
    return found


def reachable(lab: Lab, source: str, target: str, *, tcp: int | None = None) -> CheckResult:
    """Check that another node, fake VM or address answers a ping, or a connection to port `tcp`."""
    return _tried(lab, source, target, tcp, "reachable")


def unreachable(lab: Lab, source: str, target: str, *, tcp: int | None = None) -> CheckResult:
    """Check that no answer comes, not even a refusal."""
    return _tried(lab, source, target, tcp, "unreachable")


def refused(lab: Lab, source: str, target: str, *, tcp: int) -> CheckResult:
    """Check that a connection to port `tcp` is refused."""
    return _tried(lab, source, target, tcp, "refused")


def _tried(lab: Lab, source: str, target: str, tcp: int | None, expect: str) -> CheckResult:
    """Check what becomes of packets alone; whether OVN means it so is for `as_intended`."""
    if tcp is not None and not 0 < tcp < 65536:
        raise OvnlabError(f"{tcp} is not a TCP port")
    for name in (source, target):
        if not _is_address(name):
            lab.target(name)  # raises for what is not there, so that nobody takes a mistyped name for unreachable
    check = Check("tcp" if tcp else "ping", source, target, tcp or 0, expect)
    observed = examination.observe([check], lab.endpoints({source, target}))[0]
    title = f"{target}{f':{tcp}' if tcp else ''} from {source}"
    hint = f"ovnlab trace {source} {target}" + (f" --tcp {tcp}" if tcp else "")
    if observed != expect:
        return _held(failed("packets", title, expect, observed, hint))
    return held("packets", title, observed)


def _is_address(name: str) -> bool:
    return examination.address(name, {}) is not None


def as_intended(lab: Lab, source: str, target: str) -> CheckResult:
    """Check that one real packet goes where OVN means it to, on every chassis of its way (`ovnlab trace`)."""
    return _held(_verdict(_trace(lab, source, target)))


def encapsulated(
    lab: Lab,
    source: str,
    target: str,
    *,
    vni: int | None = None,
    ingress_key: int | None = None,
    egress_key: int | None = None,
) -> TunnelNames:
    """Check that a packet is seen in a tunnel with the keys of the Southbound database, and with those given.

    Returns the header that was seen, with names (ovn-architecture(7), Tunnel Encapsulations).
    """
    done = _trace(lab, source, target)
    title = f"{source} → {target} is encapsulated"
    if done.expected is None:
        _held(failed("tunnels", title, "a tunnel", f"OVN means none: {_verdict(done).observed}"))
    seen = done.observed
    if seen is None:
        raise CheckFailed(failed("tunnels", title, str(done.expected), "none was seen", _verdict(done).observed))
    _held(_verdict(done))
    given = {"vni": vni, "ingress_key": ingress_key, "egress_key": egress_key}
    wanted = {key: value for key, value in given.items() if value is not None}
    observed = {key: getattr(seen, key) for key in wanted}
    if observed != wanted:
        raise CheckFailed(failed("tunnels", title, _keys(wanted), f"{_keys(observed)}: {seen}"))
    return seen


def _keys(found: dict[str, int]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items())


def north_south(lab: Lab, source: str, target: str, *, gateway: str) -> CheckResult:
    """Check that a packet to another network goes through that gateway chassis, and is answered."""
    _tried(lab, source, target, None, "reachable")
    done = _trace(lab, source, target)
    title = f"{source} → {target} goes through {gateway}"
    passed = list(dict.fromkeys(hop.node for hop in done.hops if hop.seen))
    told = " → ".join(passed) or "nowhere"
    if gateway not in passed:
        return _held(failed("gateways", title, f"seen on {gateway}", f"seen on {told}", _verdict(done).observed))
    return held("gateways", title, told)


def holds(lab: Lab, *, sample: int = 1000, seed: int = 1) -> None:
    """Raise CheckFailed unless all that `ovnlab test` looks at holds."""
    examined = examination.examine(lab, SilentReporter(), sample=sample, seed=seed)
    if examined.failures:
        told = "\n".join(map(str, examined.failures[:20]))
        first = examined.failures[0]
        number = f"{len(examined.failures)} of {len(examined.findings)}"
        raise CheckFailed(failed(first.kind, f"lab {lab.name}", "all holds", f"{number} do not:\n{told}"))


def _trace(lab: Lab, source: str, target: str) -> Trace:
    return trace(look(lab), TraceRequest(source, target))


def _verdict(done: Trace) -> CheckResult:
    said = verdict(done)
    title = f"{done.question.source.name} → {done.question.destination.name}"
    if said.agrees:
        return held("packets", title, said.sentence)
    return failed("packets", title, f"{done.outcome} as intended", said.sentence, said.hint)
