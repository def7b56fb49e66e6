"""Names that commands are given, and the error for one that a topology does not have."""

from __future__ import annotations

from ovnlab.errors import UsageError
from ovnlab.topology.resolved import Topology


def unknown_name(topology: Topology, name: str) -> UsageError:
    """Return the error for a name that is neither a node nor a fake VM of a lab."""
    known = [*(node.name for node in topology.nodes), *(vm.name for vm in topology.vms)]
    import difflib  # noqa: PLC0415  for names that are mistyped

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"available: {', '.join(known)}"
    return UsageError(f"unknown node or fake VM {name!r} in lab {topology.name}", hint=hint)
