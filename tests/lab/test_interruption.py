"""An `up` whose interruption Python drops takes back the lab that it began, as any other does."""

from __future__ import annotations

import subprocess

from tests.lab.harness import Labs

TWO = "name: two\nnodes: {central: {role: central}, worker1: }\n"

# When a step is told, this process is interrupted while something is finalized, as the lock of an import is.
DROPPED = """
import os, signal, sys
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100): pass
class Told:
    def __init__(self, stream): self.stream = stream
    def __getattr__(self, name): return getattr(self.stream, name)
    def write(self, text):
        self.stream.write(text)
        if "starting databases" in text: Finalized()
sys.stderr = Told(sys.stderr)
from ovnlab.__main__ import main
main()
"""


def test_an_interruption_that_python_drops_takes_back_the_lab(user_labs: Labs) -> None:
    path = user_labs.write("two.yaml", TWO)
    command = [*user_labs.account.prefix, user_labs.account.python, "-c", DROPPED, "up", path]
    result = subprocess.run(
        command, env=user_labs.environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert "Exception ignored in" in result.stderr, "nothing was dropped"
    assert result.returncode == 130, result.stderr
    assert "taking back lab two" in result.stderr
    assert user_labs.audit() == []
