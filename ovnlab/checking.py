"""What a topology's `checks:` say, tried in the running lab with real packets."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ovnlab.errors import OvnlabError
from ovnlab.lab import Lab, Target
from ovnlab.parallel import for_each
from ovnlab.topology.resolved import Check

ATTEMPTS = 3
"""How often something is tried that should work, and how many packets must be lost for something to be unreachable."""

SECONDS = "2"
"""How long one attempt waits for an answer."""


@dataclass(frozen=True)
class Checked:
    """A check and what came of it: reachable, unreachable, refused, or why it could not be tried."""

    check: Check
    observed: str

    @property
    def ok(self) -> bool:
        """Whether it came as expected."""
        return self.observed == self.check.expect

    @property
    def title(self) -> str:
        """What was tried, for people."""
        where = self.check.target if self.check.kind == "ping" else f"{self.check.target}:{self.check.port}"
        return f"{self.check.kind} {where} from {self.check.source}"


def run(lab: Lab) -> list[Checked]:
    """Try all checks of a lab, several at a time. Raises OvnlabError where the lab is down."""
    checks = lab.topology.checks
    lab.central()
    places = lab.places({check.source for check in checks} | {check.target for check in checks})
    return for_each(checks, lambda check: Checked(check, _observe(check, places)))


def _observe(check: Check, places: Mapping[str, Target]) -> str:
    source = places.get(check.source)
    if source is None:
        return f"{check.source} is not there"
    address = _address(check.target, places)
    if address is None:
        return f"{check.target} is not there" if check.target not in places else f"{check.target} has no address"
    try_once = _ping if check.kind == "ping" else _tcp
    observed = ""
    for _ in range(ATTEMPTS):
        observed = try_once(source, address, check.port)
        if observed != "unreachable":
            break
    return observed


def _address(target: str, places: Mapping[str, Target]) -> str | None:
    """Of a node or fake VM that is there, or the one that the check names."""
    if target in places:
        return places[target].address or None
    try:
        return str(ipaddress.ip_address(target))
    except ValueError:
        return None


def _ping(source: Target, address: str, port: int) -> str:
    del port
    leaving = [f"-I{source.interface}"] if source.is_vlan else []
    result = _run(source, ["ping", "-n", "-q", "-c1", f"-W{SECONDS}", *leaving, address])
    return "reachable" if result.returncode == 0 else "unreachable"


def _tcp(source: Target, address: str, port: int) -> str:
    connect = ["bash", "-c", 'exec 3<>"/dev/tcp/$0/$1"', address, str(port)]
    result = _run(source, ["env", "LC_ALL=C", "timeout", SECONDS, *connect])
    if result.returncode == 0:
        return "reachable"
    return "refused" if "Connection refused" in result.stderr else "unreachable"


def _run(source: Target, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(source.command(argv), capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        raise OvnlabError(f"does not come back from {argv[0]}", where=source.name) from None
