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
    compiled = sorted(path.name for path in (installed / "ovnlab/_shipped/compiled").rglob("*.j2.py"))
    templates = sorted(f"{path.name}.py" for path in (installed / "ovnlab/_shipped/templates").rglob("*.j2"))
    assert compiled == sorted([*templates, "Vagrantfile.j2.py"])
    root_labs.extra_environment["PYTHONDONTWRITEBYTECODE"] = "1"  # nothing is kept: all is compiled that is not shipped
    loaded = [root_labs.account.python, "-X", "importtime", "-m", "ovnlab", "up", "single"]
    shown = subprocess.run(loaded, env=root_labs.environment, capture_output=True, text=True, cwd="/", check=True)
    assert "jinja2" not in shown.stderr
    root_labs.run("ping", "vm1", "vm2")
    root_labs.run("down")
