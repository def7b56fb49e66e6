"""Kinds of Northbound objects (ovnlab/topology/objects): what each does to packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs
from tests.lab.test_scenarios import answers, eventually

CHAIN = (TOPOLOGIES / "service-chain.yaml").read_text()


@pytest.fixture(scope="module")
def chain(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab of the topology service-chain, which each test leaves as it is."""
    for labs in labs_in(ordinary, session_folder / "objects"):
        labs.run("up", without(labs))
        yield labs


def without(chain: Labs, *lines: str) -> str:
    """Write the topology service-chain without some of its lines, and return where."""
    text = CHAIN
    for line in lines:
        assert line in text
        text = text.replace(line, "")
    return chain.write("service-chain.yaml", text)


def test_a_static_mac_binding_reaches_who_answers_no_arp(chain: Labs) -> None:
    chain.on(
        "firewall", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; ip address add 192.168.9.100 dev lo"
    )
    eventually("an answer", lambda: answers(chain, "vm1", "192.168.9.100"))
    binding = '      static_mac_bindings:\n        - {port: inspection, ip: 192.168.9.100, mac: "0a:00:00:00:09:11"}\n'
    steps = chain.json("up", without(chain, binding))["steps"]
    assert steps == [
        "remove static MAC binding router1-inspection 192.168.9.100: the topology does not have it any more"
    ]
    eventually("silence", lambda: not answers(chain, "vm1", "192.168.9.100"))
    assert chain.json("up", without(chain))["steps"] == [
        "add static MAC binding router1-inspection 192.168.9.100: it is missing"
    ]
    eventually("an answer", lambda: answers(chain, "vm1", "192.168.9.100"))
    chain.on("firewall", "ip", "address", "del", "192.168.9.100", "dev", "lo")
    assert chain.json("up", without(chain))["steps"] == []
