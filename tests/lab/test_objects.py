"""Kinds of Northbound objects (ovnlab/topology/objects): what each does to packets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs
from tests.lab.test_scenarios import answers, eventually

CHAIN = (TOPOLOGIES / "router-policies.yaml").read_text()


@pytest.fixture(scope="module")
def chain(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab of the topology router-policies, which each test leaves as it is."""
    for labs in labs_in(ordinary, session_folder / "objects"):
        labs.run("up", without(labs))
        yield labs


def without(chain: Labs, *lines: str) -> str:
    """Write the topology router-policies without some of its lines, and return where."""
    text = CHAIN
    for line in lines:
        assert line in text
        text = text.replace(line, "")
    return chain.write("router-policies.yaml", text)


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


def forward(chain: Labs, yes: int) -> None:
    chain.on("firewall", "sh", "-c", f"echo {yes} >/proc/sys/net/ipv4/ip_forward")


def test_policies_reroute_and_drop(chain: Labs) -> None:
    assert chain.json("up", without(chain))["steps"] == []
    assert not answers(chain, "vm1", "192.168.2.11"), "it did not go to the firewall, which forwards nothing"
    forward(chain, 1)
    eventually("an answer by the firewall", lambda: answers(chain, "vm1", "192.168.2.11"))
    forward(chain, 0)
    eventually("silence", lambda: not answers(chain, "vm1", "192.168.2.11"))
    assert answers(chain, "vm2", "192.168.2.11")
    connect = "import socket; socket.create_connection(('192.168.2.11', 80), 1)"
    assert chain.run("exec", "vm2", "--", "python3", "-c", connect, expect=None).returncode != 0
    policies = re.search(r"      policies:\n(        .*\n)+", CHAIN)[0]  # type: ignore[index]
    steps = chain.json("up", without(chain, policies))["steps"]
    assert [step.split(":")[0][:27] for step in steps] == ["remove router policy router"] * 2
    eventually("an answer without the firewall", lambda: answers(chain, "vm1", "192.168.2.11"))
    chain.run("up", without(chain))


def test_what_ovn_is_too_old_for_changes_nothing(chain: Labs) -> None:
    mirror = CHAIN.replace("logical:\n", "logical:\n  mirrors: {m: {sink: 192.168.50.99, filter: both}}\n")
    refused = chain.run("up", chain.write("router-policies.yaml", mirror), expect=2).stderr
    assert re.search(r"mirror filter both needs OVN 24\.09 or newer; central runs 23\.03\.\d", refused)
    assert chain.json("up", without(chain))["steps"] == []
