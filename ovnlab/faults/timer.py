"""A timer that heals a fault after a while, even if the command that injected it is gone.

A process of its own waits beside the lab. It ends with the lab, and with the fault where somebody heals that before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ovnlab import deliberate
from ovnlab.deliberate import Fault
from ovnlab.errors import OvnlabError
from ovnlab.lab.lab import Lab
from ovnlab.waiting import CLOCK, now_ns

PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from ovnlab.__main__ import main; main()"
"""This ovnlab, wherever it was started: with `-m`, Python would import what is in the folder that a person is in."""

INTERVAL = 0.2
"""Seconds between two looks whether the fault and its lab are still there."""


def start(lab: Lab, fault: Fault) -> None:
    """Start the process that heals a fault when its time has come."""
    words = ["heal", str(fault.number), "--lab", lab.name, "--at", repr(fault.until)]
    subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, str(Path(deliberate.__file__).parent.parent), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OVNLAB_LAB": lab.name},
    )


def wait(lab: Lab, number: int, moment: float) -> bool:
    """Return True when a moment has come, in seconds since 1970; False once the fault or the lab has gone."""
    while now_ns() / 10**9 < moment:
        try:
            there = any(fault.number == number and fault.until == moment for fault in deliberate.stored(lab.folder))
        except OvnlabError:
            return False
        if not there or not lab.provider.is_up():
            return False
        CLOCK.sleep(max(0.001, min(INTERVAL, moment - now_ns() / 10**9)))
    return True
