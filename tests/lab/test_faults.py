"""Faults: put on, told, left alone by `up`, and healed without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_scenarios import eventually


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """One lab that is broken by all, and healed."""
    for labs in labs_in(ordinary, session_folder / "faults"):
        labs.run("up", "gateway")
        yield labs


@pytest.fixture
def well(lab: Labs) -> Iterator[Labs]:
    """The lab, which must be well after the test."""
    yield lab
    lab.run("heal", "--all")
    assert lab.json("diagnose")["ok"]
    assert lab.json("up", "gateway", "--dry-run")["steps"] == []


def told(labs: Labs) -> list[dict[str, Any]]:
    """What a diagnosis says of all that is wrong."""
    found: list[dict[str, Any]] = labs.json("diagnose", expect=4)["findings"]
    return found


@pytest.mark.parametrize(
    ("words", "sentence", "symptom"),
    [
        (("kill", "worker1", "ovn-controller"), "ovn-controller on worker1 is killed", "daemon-down"),
        (("pause", "gw2", "ovs-vswitchd"), "ovs-vswitchd on gw2 is paused", "daemon-silent"),
        (("kill", "gw1"), "node gw1 is killed", "node-down"),
        (("stop", "gw1"), "node gw1 is stopped", "node-down"),
    ],
    ids=" ".join,
)
def test_a_fault_is_told_left_alone_and_healed(words: tuple[str, ...], sentence: str, symptom: str, well: Labs) -> None:
    fault = well.json("fault", *words)["fault"]
    assert fault["sentence"] == sentence
    assert [(one["number"], one["command"]) for one in well.json("faults")["faults"]] == [
        (fault["number"], f"ovnlab fault {' '.join(words)} --json")
    ]
    assert [sentence in one for one in well.json("status")["faults"]] == [True]
    (finding,) = told(well)
    assert (finding["cause"], finding["problem"]) == ("deliberate", f"deliberately, {sentence}")
    assert symptom in [one["cause"] for one in finding["symptoms"]]
    result = well.run("up", "gateway")
    assert "nothing to do" in result.stdout
    assert f"deliberately, {sentence}" in result.stderr
    assert len(well.json("faults")["faults"]) == 1
    well.run("heal")
    assert well.json("diagnose")["ok"]


def test_a_fault_heals_by_itself(well: Labs) -> None:
    fault = well.json("fault", "pause", "central", "ovn-northd", "--for", "1s")["fault"]
    assert fault["until"] == pytest.approx(fault["since"] + 1)
    eventually("the end of the fault", lambda: not well.json("faults")["faults"])
    assert well.json("diagnose")["ok"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fault", "kill", "nobody"), "unknown node nobody"),
        (("fault", "kill", "worker1", "nothing"), "unknown daemon nothing"),
        (("fault", "kill", "worker1", "ovn-northd"), "unknown daemon ovn-northd"),
        (("fault", "kill"), "invalid arguments"),
        (("fault", "kill", "worker1", "--for", "soon"), "invalid duration"),
        (("heal", "7"), "unknown fault 7"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_breaks_nothing(words: tuple[str, ...], said: str, lab: Labs) -> None:
    assert said in lab.run(*words, expect=2).stderr
    assert lab.json("faults")["faults"] == []


def test_nothing_is_broken_twice(well: Labs) -> None:
    well.run("fault", "kill", "worker1", "ovn-controller")
    assert "already broken" in well.run("fault", "pause", "worker1", "ovn-controller", expect=2).stderr
    assert "already broken" in well.run("fault", "kill", "worker1", expect=2).stderr
    assert len(well.json("faults")["faults"]) == 1
