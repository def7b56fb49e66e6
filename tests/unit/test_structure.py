"""The house: imports go one way, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ovnlab"

LAYERS = [
    ["errors", "scalars"],
    ["waiting", "shipped", "ovsdb", "unixctl", "templating", "parallel", "reporting", "writing", "ahead"],
    ["nodes"],
    ["topology"],
    ["graph"],
    ["state", "tasks"],
    ["software", "northbound", "credentials"],
    ["doctor"],
    ["providers", "plan"],
    ["binding", "looking", "watching", "mending"],
    ["convergence"],
    ["builds"],
    ["lab"],
    ["status", "insight", "podman"],
    ["testing"],
    ["diagnosis"],
    ["upgrading"],
    ["cli"],
    ["__main__"],
]
"""Each imports only what is before it, or beside it within its own package."""

HEAVY = (
    "jinja2",
    "invoke",
    "http",
    "pydantic",
    "ruamel",
    "rich",
    "fabric",
    "paramiko",
    "cryptography",
    "jsonschema",
    "scapy",
)


def layer_of(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports(path: Path) -> set[str]:
    """The parts of ovnlab that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ovnlab"):
            parts = (node.module or "").split(".")
            found.update([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ovnlab."))
    return found - {"__version__"}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path) - {own}:
        assert layer_of(name) < layer_of(own) or name in LAYERS[layer_of(own)], f"{own} must not import {name}"
        if name in LAYERS[layer_of(own)]:
            assert own not in _parts_imported_by(name), f"{own} and {name} import each other"


def _parts_imported_by(name: str) -> set[str]:
    paths = [PACKAGE / f"{name}.py", *(PACKAGE / name).rglob("*.py")]
    return set().union(*(imports(path) for path in paths if path.exists()))


def test_a_task_does_not_know_what_kind_of_node_it_is_on() -> None:
    for path in (PACKAGE / "tasks").glob("*.py"):
        assert "providers" not in imports(path)


@pytest.mark.parametrize("module", ["ovnlab.cli.app", "ovnlab.lab", "ovnlab.status", "ovnlab.providers.machines"])
def test_what_is_heavy_is_not_imported_by_every_command(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)


def test_the_version_is_told_without_importing_anything() -> None:
    code = (
        "import sys; sys.argv = ['ovnlab', '--version']; import ovnlab.__main__ as m; m.main();"
        "print(*[n for n in sys.modules if n.startswith('ovnlab')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[1].split() == ["ovnlab", "ovnlab.__main__"]


def test_an_interrupt_shows_no_traceback_before_the_command_has_begun() -> None:
    """The imports take a tenth of a second, in which many a Ctrl-C is typed."""
    code = (
        "import os, signal, sys, ovnlab.__main__ as m\n"
        "class Typed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'ovnlab.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Typed()); m.main()"
    )
    shown = subprocess.run([sys.executable, "-c", code, "ls"], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (130, "ovnlab: interrupted\n")


def test_no_shell_is_given_a_string() -> None:
    for path in MODULES:
        assert "shell=True" not in path.read_text(), path
