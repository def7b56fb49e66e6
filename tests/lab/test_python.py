"""The public interface: the example and the cells of docs/python.md run as they stand."""

from __future__ import annotations

import re
import subprocess

from tests.lab.harness import ROOT, Labs


def run_python(labs: Labs, *words: str, stdin: str = "") -> str:
    """Return what a program prints, run as the user that the labs are of."""
    done = subprocess.run(
        [*labs.account.prefix, labs.account.python, *words],
        env={**labs.environment, "PYTHONDONTWRITEBYTECODE": "1"}, cwd=labs.scratch,
        input=stdin, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_pings_between_workers_and_removes_its_lab(labs: Labs) -> None:
    program = labs.scratch / "two_workers.py"
    program.write_text((ROOT / "examples/python/two_workers.py").read_text())
    printed = run_python(labs, str(program))
    assert " 0% packet loss" in printed
    assert re.search(r"^worker2 ovs-vsctl .* \d+\.\d+", printed, re.MULTILINE)
    assert labs.json("ls")["labs"] == []


def test_the_cells_of_the_notebook_run_one_after_the_other(labs: Labs) -> None:
    cells = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(cells) == 4
    printed = run_python(labs, "-", stdin="\n".join(cells))
    assert " 0% packet loss" in printed
    assert "worker9" in printed
    assert labs.json("ls")["labs"] == []
