"""Temporary data of a command that was killed goes with the next command."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ovnlab import scratch
from ovnlab.waiting import wait_until
from tests.lab.harness import Labs


def _left(labs: Labs) -> list[Path]:
    place = Path(labs.environment["XDG_CACHE_HOME"]) / "ovnlab/scratch"
    return list(place.iterdir()) if place.is_dir() else []


@pytest.mark.parametrize("words", [("explain", "vm1"), ("graph", "-o", "graph.svg")])
def test_an_unpacked_bundle_goes_with_the_next_command(user_labs: Labs, words: tuple[str, ...]) -> None:
    user_labs.run("up", "routed")
    user_labs.run("bundle", "-o", "lab.tar.gz")
    process = user_labs.start(*words, "--bundle", "lab.tar.gz")

    def unpacked() -> list[Path] | None:
        assert process.poll() is None, "it ended before it was seen to unpack anything"
        return _left(user_labs) or None

    wait_until("an unpacked bundle", unpacked, timeout=30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert _left(user_labs)
    user_labs.run("ls")
    assert _left(user_labs) == []


def test_a_folder_that_is_held_stays(tmp_path: Path) -> None:
    with scratch.folder("held-", tmp_path) as held:
        (held / "file").write_text("mine")
        (tmp_path / "held-of-one-that-was-killed").mkdir()
        with scratch.folder("held-", tmp_path) as other:
            assert other != held
            assert sorted(tmp_path.iterdir()) == sorted([held, other])
        assert (held / "file").read_text() == "mine"
    assert list(tmp_path.iterdir()) == []
