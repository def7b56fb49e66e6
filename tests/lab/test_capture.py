"""Packets at several places at once, with names: `ovnlab capture` and `ovnlab decode`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_scenarios import eventually
from tests.lab.test_trace import key, tunnel_key


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "capture"):
        labs.run("up", "routed")
        labs.run("ping", "vm1", "vm2", "-c1")  # whoever is asked for a MAC address has been
        yield labs


def listening(labs: Labs) -> None:
    """Wait until something is captured on worker2."""
    eventually("tcpdump", lambda: "tcpdump" in labs.on("worker2", "ps", "-e", "-o", "comm"))
    time.sleep(0.7)  # it says when it listens to whoever started it, and to nobody else


def captured(labs: Labs, *words: str, pings: int = 2) -> list[dict[str, Any]]:
    """What `capture --json` shows of pings of vm1 to vm2."""
    capture = labs.start("capture", *words, "--json")
    listening(labs)
    labs.run("ping", "vm1", "vm2", "-c", str(pings))
    time.sleep(0.7)
    capture.send_signal(signal.SIGINT)
    out, err = capture.communicate(timeout=60)
    assert capture.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_ping_at_every_place_with_the_names_of_the_southbound_database(lab: Labs) -> None:
    packets = captured(lab, pings=1)
    requests = [one for one in packets if "echo request" in one["text"]]
    assert [one["place"] for one in requests] == ["vm1", "worker1:eth1", "worker2:eth1", "vm2"]
    assert [one["time"] for one in packets] == sorted(one["time"] for one in packets)
    sent, arrived = requests[1]["tunnel"], requests[2]["tunnel"]
    assert sent == arrived
    assert sent | {"option": "", "source": "", "destination": ""} == {
        "src_chassis": "worker1",
        "dst_chassis": "worker2",
        "encap": "geneve",
        "vni": key(lab, "Datapath_Binding", "external_ids:name=network2"),
        "ingress_key": tunnel_key(lab, "network2-router1"),
        "egress_key": tunnel_key(lab, "vm2"),
        "datapath": "network2",
        "inport": "network2-router1",
        "outport": "vm2",
        "option": "",
        "source": "",
        "destination": "",
        "remarks": [],
    }
    replies = [one["tunnel"] for one in packets if "echo reply" in one["text"] and one["tunnel"]]
    assert {(one["datapath"], one["outport"]) for one in replies} == {("network1", "vm1")}


def test_what_tunnels_carry_by_a_mirror_that_goes_again(lab: Labs) -> None:
    packets = captured(lab, "--inner", "worker2", "--filter", "icmp")
    assert [one["tunnel"] for one in packets] == [None] * 4
    assert [one["text"].split(",")[0].split(": ")[1] for one in packets] == ["ICMP echo request", "ICMP echo reply"] * 2

    def left() -> str:
        return lab.out("vsctl", "worker2", "list", "Mirror") + "".join(
            line for line in lab.out("vsctl", "worker2", "list-ports", "br-int").splitlines() if "mirror" in line
        )

    assert left() == ""
    # Whoever asked for it is killed: it ends all the same.
    capture = lab.start("capture", "--inner", "worker2")
    eventually("the mirror", lambda: left() != "")
    capture.send_signal(signal.SIGKILL)
    capture.communicate()
    eventually("it to go", lambda: left() == "")


@pytest.mark.thorough
def test_a_tcpdump_that_does_not_end_is_ended(lab: Labs) -> None:
    capture = lab.start("capture", "vm2", "--json")
    listening(lab)
    lab.on("worker2", "sh", "-c", "kill -STOP $(pidof tcpdump)")
    capture.send_signal(signal.SIGINT)
    assert capture.wait(timeout=40) == 0, capture.communicate()
    capture.communicate()
    assert "tcpdump" not in lab.on("worker2", "ps", "-e", "-o", "comm")


def test_a_file_of_several_places_loses_nothing(lab: Labs) -> None:
    flood = """
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("vm1", 0))
frame = bytes.fromhex("404400000003404400000001" "0800" "45000054000040004001b000c0a8000bc0a8010b" "0800" + "78" * 62)
began = time.monotonic()
for number in range(20000):
    wire.send(frame)
    ahead = began + number / 20000 - time.monotonic()
    if ahead > 0.001:
        time.sleep(ahead)
"""
    target = lab.scratch / "lab.pcapng"
    capture = lab.start("capture", "-w", str(target), "vm1", "worker1", "worker2", "--json")
    listening(lab)
    lab.on("vm1", "python3", "-c", flood)
    time.sleep(1)
    capture.send_signal(signal.SIGINT)
    said, err = capture.communicate(timeout=60)
    assert capture.returncode == 0, err
    written = json.loads(said)
    assert written["places"] == 3
    found = lab.json("decode", str(target), "--lab", "routed")["packets"]
    assert len(found) == written["packets"]
    places = [one["place"] for one in found if one["source"] == "192.168.0.11" and "echo request" in one["text"]]
    # All that were sent, but for those that the kernel tells tcpdump that it dropped, which a busy machine does. What
    # comes to the NICs is for the switch to say.
    assert 20000 - written["lost"] <= places.count("vm1") <= 20000
    assert 0 < places.count("worker2:eth1") <= 20000
    named = next(one["tunnel"] for one in found if one["tunnel"])
    assert (named["datapath"], named["outport"]) == ("network2", "vm2")
    numbers = next(one["tunnel"] for one in lab.json("decode", str(target))["packets"] if one["tunnel"])
    assert (numbers["datapath"], numbers["vni"]) == ("", named["vni"])
    assert [path.name for path in lab.scratch.iterdir() if path.name.startswith((".", "tmp"))] == []


def test_an_end_of_its_own(lab: Labs) -> None:
    target = lab.scratch / "two.pcapng"
    capture = lab.start("capture", "vm2", "-w", str(target), "-c", "2")
    listening(lab)
    lab.run("ping", "vm1", "vm2", "-c3")
    capture.communicate(timeout=60)
    assert capture.returncode == 0
    assert len(lab.json("decode", str(target))["packets"]) == 2


def test_mistakes_are_told(lab: Labs) -> None:
    assert "unknown node or fake VM 'vm9'" in lab.run("capture", "vm9", expect=2).stderr
    assert "syntax error" in lab.run("capture", "vm1", "--filter", "icmp and", expect=2).stderr
    assert "two sides" in lab.run("capture", "--inner", "--outer", expect=2).stderr
    assert "no such folder" in lab.run("capture", "-w", "/nowhere/x.pcapng", expect=1).stderr
    assert "hexadecimal" in lab.run("decode", lab.write("no-capture", "nodes:\n"), expect=1).stderr
    assert "No such file" in lab.run("decode", "/nowhere", expect=1).stderr


@pytest.mark.thorough
def test_it_ends_when_it_is_told_to_whatever_still_comes(lab: Labs) -> None:
    flood = (
        "import socket, time; wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); wire.bind(('vm1', 0));"
        "end = time.monotonic() + 25\nwhile time.monotonic() < end:\n wire.send(bytes(60)); time.sleep(0.0005)"
    )
    flooding = lab.start("exec", "vm1", "--", "python3", "-c", flood)
    time.sleep(1)
    began = time.monotonic()
    out = lab.out("capture", "vm1", "--seconds", "2", "--json")
    assert time.monotonic() - began < 15
    times = [json.loads(line)["time"] for line in out.splitlines()]
    assert len(times) > 100
    assert times == sorted(times)
    flooding.terminate()
    flooding.communicate(timeout=60)


def test_a_filter_is_no_option(lab: Labs) -> None:
    lab.run("capture", "vm1", "--filter", "-w /tmp/ovnlab-x", "--seconds", "1", expect=2)
    assert "ovnlab-x" not in lab.on("worker1", "ls", "/tmp")
