"""What holds together and is probably not meant: told, and done all the same."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ovnlab.topology.resolved import Topology, host_of


def advice(topology: Topology) -> Iterator[str]:
    """A sentence for each."""
    for zone in topology.zones:
        names = [node.name for node in topology.centrals(zone)]
        if len(names) > 1 and len(names) % 2 == 0:
            yield (
                f"{' and '.join(names)} are a cluster of {len(names)}: it has a majority only with "
                f"{len(names) // 2 + 1} alive, so that it survives no more deaths than {len(names) - 1} would; "
                f"{len(names) + 1} survive {len(names) // 2}"
            )
    for balancer in topology.load_balancers:
        address = ipaddress.ip_address(host_of(balancer.vip))
        for name in balancer.switches:
            switch = topology.switch(name)
            inside = switch is not None and any(address in ipaddress.ip_network(net) for net in switch.subnets)
            if inside and not topology.gateways(name):
                yield (
                    f"nobody on {name} answers ARP for {address}, the VIP of {balancer.name}: "
                    "put a router on it, or take a VIP outside its subnet"
                )
