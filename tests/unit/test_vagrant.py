"""Vagrant that goes on after the ovnlab that started it was killed."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

pytest.importorskip("vagrant")

from ovnlab.errors import Timeout
from ovnlab.providers.vagrant_provider import Driver


def test_an_earlier_one_is_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "vagrant"
    root.mkdir()
    driver = Driver(root, tmp_path / "log", lambda _: None)
    driver.await_earlier(0)
    with subprocess.Popen(["sleep", "100"], cwd=root) as earlier:
        (root / "vagrant.pid").write_text(str(earlier.pid))
        with pytest.raises(Timeout, match=r"waited 0\.2 s for the Vagrant of an earlier command"):
            driver.await_earlier(0.2)
        earlier.kill()
    driver.await_earlier(0)
    with subprocess.Popen(["sleep", "100"], cwd=tmp_path) as other:
        (root / "vagrant.pid").write_text(str(other.pid))
        driver.await_earlier(0)  # somebody else has that number now
        other.kill()


def test_the_next_one_is_started_after_it_and_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vagrant").write_text("#!/bin/sh\necho $$\n")
    (tmp_path / "vagrant").chmod(0o755)
    monkeypatch.setattr("vagrant.which", lambda _: str(tmp_path / "vagrant"))
    said: list[str] = []
    driver = Driver(tmp_path, tmp_path / "log", said.append)
    with subprocess.Popen(["sleep", "100"], cwd=tmp_path) as earlier:
        (tmp_path / "vagrant.pid").write_text(str(earlier.pid))
        later = threading.Thread(target=driver._call_vagrant_command, args=(["up"],))
        later.start()
        later.join(0.3)
        waited, so_far = later.is_alive(), list(said)
        earlier.kill()
        earlier.wait()
        later.join(20)
    assert (waited, so_far) == (True, []), "it had not begun"
    assert (tmp_path / "vagrant.pid").read_text() == said[0]
