"""Captures that go on to other programs, and at the places that `ovnlab trace` names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnlab.insight.pcap import read
from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "capture-streams"):
        labs.run("up", "gateway")
        labs.run("ping", "vm1", "host1", "-c1")
        yield labs


@pytest.fixture
def pinging(lab: Labs) -> Iterator[Labs]:
    process = lab.start("exec", "vm1", "--", "ping", "-q", "-i0.2", "10.0.0.48")
    try:
        yield lab
    finally:
        lab.on("vm1", "sh", "-c", "kill $(pidof ping)")
        process.communicate(timeout=60)


def test_a_capture_on_standard_output_is_pcapng_as_it_comes(pinging: Labs, tmp_path: Path) -> None:
    into = tmp_path / "packets.pcapng"
    with into.open("wb") as file:
        command = pinging.command("capture", "vm1", "-w", "-", "--filter", "icmp", "-c", "4")
        environment = {**os.environ, **pinging.environment}
        subprocess.run(command, stdout=file, env=environment, cwd=pinging.scratch, check=True, timeout=120)
    frames = list(read(into))
    assert len(frames) == 4
    assert {frame.place for frame in frames} == {"vm1"}
    assert "--json and -w -" in pinging.run("capture", "-w", "-", "--json", expect=2).stderr


def test_places_that_a_trace_names_and_what_tunnels_carry(pinging: Labs) -> None:
    hops = pinging.json("trace", "vm1", "host1")["hops"]
    nic = next(hop["place"] for hop in hops if hop["what"] == "to external")
    shown = pinging.out("capture", nic, "worker1", "--filter", "icmp", "-c", "8")
    assert f"{nic} " in shown
    assert "worker1:eth1" in shown
    assert "Geneve" in shown
    assert "available: " in pinging.run("capture", "gw1:eth9", expect=2).stderr


def test_bfd_is_left_out_unless_it_is_asked_for(lab: Labs) -> None:
    assert "BFD" not in lab.out("capture", "worker1", "gw1", "gw2", "--seconds", "3")
    assert "BFD" in lab.out("capture", "worker1", "gw1", "gw2", "--bfd", "--seconds", "5")
