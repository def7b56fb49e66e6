"""Routes to the machines of a hypervisor: through it where it is remote, or directly."""

from __future__ import annotations

import functools
import ipaddress
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from ovnlab.errors import OvnlabError
from ovnlab.providers.ssh_target import SshTarget
from ovnlab.software import packages

ASK_TIMEOUT = 20
"""Seconds that ssh and ip may take to say what they would do."""


@functools.cache
def jump_of(uri: str) -> SshTarget | None:
    """Return how to log in to the hypervisor of `qemu+ssh://…`, as libvirt's ssh does; None for others."""
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh") or not parts.hostname:
        return None
    options = ["-l", parts.username] if parts.username else []
    options += ["-p", str(parts.port)] if parts.port else []
    command = ["ssh", "-G", *options, "--", parts.hostname]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise OvnlabError(f"ssh does not say how it reaches {parts.hostname}: {error}", where=uri) from None
    settings = _settings(asked.stdout)
    for key in ("proxyjump", "proxycommand"):
        if settings.get(key, ["none"]) != ["none"]:
            raise OvnlabError(
                f"a hypervisor behind another host is not supported: ssh reaches {parts.hostname} by {key}",
                where=uri,
                hint="run ovnlab on that host, or name a hypervisor that is reached directly",
            )
    return _reach(settings, parse_qs(parts.query).get("keyfile", [""])[0])


def _settings(printed: str) -> dict[str, list[str]]:
    """Return the settings that `ssh -G` prints, a list of values for each (ssh(1), -G)."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def _reach(settings: Mapping[str, list[str]], keyfile: str) -> SshTarget:
    names = [keyfile] if keyfile else settings.get("identityfile", [])
    keys = tuple(path for name in names if (path := Path(name).expanduser()).is_file())
    known = [Path(name).expanduser() for name in settings["userknownhostsfile"][0].split()]
    return SshTarget(
        settings["hostname"][0],
        int(settings["port"][0]),
        settings["user"][0],
        keys,
        next((path for path in known if path.is_file()), known[0]),
        agent=not keyfile,
    )


def require_route(address: str, subnet: str, uri: str, *, through: str = "") -> None:
    """Raise OvnlabError if no route leads from here to a machine that nothing but its hypervisor joins to others.

    `through` is the bridge that the person named, which may be a router away; a network of libvirt is not, and what
    goes by the default route gets lost.
    """
    ip = shutil.which("ip", path=":".join(packages.SEARCHED))
    if ip is None:
        return
    family = f"-{ipaddress.ip_address(address).version}"
    command = [ip, family, "-json", "route", "get", "fibmatch", address]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT, check=False)
    if leads(asked.stdout, by_default=bool(through)):
        return
    network = f"bridge {through}" if through else "the network of its machines"
    raise OvnlabError(
        f"no route from here to {subnet}, {network}",
        where=uri,
        hint="reach a hypervisor that is elsewhere by uri: qemu+ssh://USER@HOST/system, or add a route: "
        f"sudo ip route add {subnet} via ADDRESS",
    )


def leads(printed: str, *, by_default: bool) -> bool:
    """Return True if a route that `ip -json route get fibmatch` found leads somewhere; a default one `by_default`."""
    try:
        routes = msgspec.json.decode(printed, type=list[dict[str, object]])
    except msgspec.DecodeError:
        return False
    closed = ("unreachable", "blackhole", "prohibit")
    return any(route.get("type") not in closed and (by_default or route.get("dst") != "default") for route in routes)
