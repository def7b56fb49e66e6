"""A very small cloud: tenants with a network each, which can reach each other only if they are peered.

It is an example of a program that writes an OVN Northbound database, such as an OpenStack driver or a CNI plugin.

    python tenants.py add red 10.1.0.0/24 red1 red2
    python tenants.py peer red blue
    python tenants.py remove red
"""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Callable, Sequence

ROUTER = "tenants"


def run_here(argv: Sequence[str]) -> str:
    """Run a command on this machine, and return its output."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class Tenants:
    """Tenants in a Northbound database. `run` runs ovn-nbctl where the database is."""

    def __init__(self, run: Callable[[Sequence[str]], str] = run_here) -> None:
        self._run = run

    def add(self, tenant: str, subnet: str, vms: Sequence[str]) -> None:
        """Add a tenant: a network with its VMs, behind the shared router."""
        network = ipaddress.ip_network(subnet)
        gateway, *addresses = list(network.hosts())[: len(vms) + 1]
        words = ["--may-exist", "lr-add", ROUTER]
        words += ["--", "ls-add", tenant]
        words += ["--", "lrp-add", ROUTER, f"to-{tenant}", _mac(gateway), f"{gateway}/{network.prefixlen}"]
        words += ["--", "lsp-add", tenant, f"{tenant}-to-router"]
        words += ["--", "lsp-set-type", f"{tenant}-to-router", "router"]
        words += ["--", "lsp-set-addresses", f"{tenant}-to-router", "router"]
        words += ["--", "lsp-set-options", f"{tenant}-to-router", f"router-port=to-{tenant}"]
        for vm, address in zip(vms, addresses, strict=True):
            words += ["--", "lsp-add", tenant, vm]
            words += ["--", "lsp-set-addresses", vm, f"{_mac(address)} {address}"]
        # Drop packets from other networks.
        words += ["--", "acl-add", tenant, "to-lport", "1000", f"ip4 && ip4.src != {subnet}", "drop"]
        self._nbctl(*words)

    def peer(self, one: str, other: str) -> None:
        """Let two tenants reach each other."""
        words: list[str] = []
        for tenant, peer in ((one, other), (other, one)):
            words += ["--", "acl-add", tenant, "to-lport", "1001", f"ip4.src == {self._subnet(peer)}", "allow-related"]
        self._nbctl(*words[1:])

    def remove(self, tenant: str) -> None:
        """Remove a tenant and its network."""
        self._nbctl("--if-exists", "ls-del", tenant, "--", "--if-exists", "lrp-del", f"to-{tenant}")

    def _subnet(self, tenant: str) -> str:
        address = self._nbctl("--bare", "--columns=networks", "find", "Logical_Router_Port", f"name=to-{tenant}")
        return str(ipaddress.ip_interface(address.strip()).network)

    def _nbctl(self, *words: str) -> str:
        return self._run(["ovn-nbctl", *words])


def _mac(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return a MAC address that is unique for an IP address."""
    return "0a:00:" + address.packed[-4:].hex(":")


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    tenants = Tenants()
    match list(argv):
        case ["add", tenant, subnet, *vms]:
            tenants.add(tenant, subnet, vms)
        case ["peer", one, other]:
            tenants.peer(one, other)
        case ["remove", tenant]:
            tenants.remove(tenant)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
