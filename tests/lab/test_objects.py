"""Kinds of Northbound objects (ovnlab/topology/objects): what each does to packets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
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
    connect = (
        "import socket, sys; s = socket.socket(); s.settimeout(1); sys.exit(s.connect_ex(('192.168.2.11', 80)) != 0)"
    )
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


@pytest.mark.thorough
def test_a_next_hop_that_does_not_answer_bfd_gets_nothing(labs: Labs) -> None:
    labs.run("up", "two-uplinks")

    def sessions() -> dict[str, str]:
        return {row["dst_ip"]: row["status"] for row in labs.rows("nbctl", "list", "BFD")}

    def only_up(ip: str) -> bool:
        return [peer for peer, status in sessions().items() if status == "up"] == [ip]

    eventually("both sessions", lambda: sessions() == {"10.1.0.1": "up", "10.2.0.1": "up"})
    assert [labs.run("trace", "vm1", "203.0.113.9").returncode for _ in range(20)] == [0] * 20
    for dead, other in (("isp1", "10.2.0.1"), ("isp2", "10.1.0.1")):
        labs.on(dead, "ip", "link", "set", "eth2", "down")
        eventually("one session", partial(only_up, other))
        eventually("an answer", lambda: answers(labs, "vm1", "203.0.113.9"))
        assert all(answers(labs, "vm1", "203.0.113.9") for _ in range(6)), "each ping is another flow"
        labs.on(dead, "ip", "link", "set", "eth2", "up")
        eventually("both sessions", lambda: set(sessions().values()) == {"up"})
    labs.on("isp1", "sh", "-c", "kill $(cat /run/ovnlab/-/serve.pid)")
    assert labs.json("up", "two-uplinks")["steps"] == ["configure isp1: it does not answer BFD"]
    eventually("both sessions", lambda: set(sessions().values()) == {"up"})
