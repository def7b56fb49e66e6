"""Files that people take for topologies: those of other tools, and what tools of OVN print or write."""

from __future__ import annotations

import re

BINARY = (
    (b"\x1f\x8b", "a compressed file", "`ovnlab graph --bundle FILE` reads what `ovnlab bundle` wrote"),
    (b"\x0a\x0d\x0d\x0a", "a capture file", "`ovnlab decode FILE` shows its packets"),
    (b"\xd4\xc3\xb2\xa1", "a capture file", "`ovnlab decode FILE` shows its packets"),
    (b"\xa1\xb2\xc3\xd4", "a capture file", "`ovnlab decode FILE` shows its packets"),
    (b"\x7fELF", "a program", ""),
    (b"OVSDB ", "an OVSDB database file", "ovsdb-tool(1) reads it"),
)
"""How a file begins, what it is, and what to do with it."""

START = "`ovnlab init` writes a topology to begin with"
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

TEXT = (
    (r"^\s*Vagrant\.configure\b", "a Vagrantfile", f"{START}; `ovnlab up --provider vagrant` uses Vagrant"),
    (rf"^(switch|router) {_UUID}( \(|$)", "what `ovn-nbctl show` prints", START),
    (r"^Chassis \S+\n\s+hostname:", "what `ovn-sbctl show` prints", START),
    (rf"^{_UUID}\n\s+(Bridge|Manager)\b", "what `ovs-vsctl show` prints", START),
    (r"\A#!", "a script", START),
    (r"\A\s*<[!?a-zA-Z]", "an XML or HTML file", START),
    (r"^apiVersion:", "a Kubernetes manifest", START),
    (r"^services:", "a docker compose file", START),
    (r"^- (hosts|name):", "an Ansible playbook", "`ovnlab inventory` prints an inventory for one"),
    (r"^topology:\s*(#.*)?$", "a containerlab file", START),
    (r"^(module|defaults|provider): *(\[|\n|(frr|eos|clab)\b)|^links:\s*\n *- ", "a netlab file", START),
    (r"^\[(?!\s*\{)[\w.-]+\]\s*$", "an INI file", START),
    (r"^network:\s*$", "a netplan file", START),
)
"""What stands in a file that is not a topology, what such a file is, and what to do instead."""


def kind_of(content: bytes) -> tuple[str, str] | None:
    """Return what a file is that is not valid as a topology, and a hint; None where that is not known."""
    for start, kind, hint in BINARY:
        if content.startswith(start):
            return kind, hint
    text = content[:65536].decode(errors="replace")
    for pattern, kind, hint in TEXT:
        if re.search(pattern, text, re.MULTILINE):
            return kind, hint
    return None
