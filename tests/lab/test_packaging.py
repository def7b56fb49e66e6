"""An installed ovnlab has all that it needs with it, and works from any folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile

from tests.lab.harness import Labs, checkout


def test_a_lab_from_the_wheel_alone(root_labs: Labs) -> None:
    source, wheels, installed = (root_labs.scratch / name for name in ("source", "wheels", "installed"))
    checkout(source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(source)],
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(wheels.glob("ovnlab-*.whl"))) as wheel:
        wheel.extractall(installed)
    root_labs.extra_environment["PYTHONPATH"] = str(installed)
    where = [root_labs.account.python, "-c", "import ovnlab.shipped as s; print(s.TEMPLATES)"]
    found = subprocess.run(where, env=root_labs.environment, capture_output=True, text=True, cwd="/", check=True)
    assert found.stdout.strip() == f"{installed}/ovnlab/_shipped/templates"
    root_labs.run("up", "single")
    root_labs.run("ping", "vm1", "vm2")
    root_labs.run("down")
