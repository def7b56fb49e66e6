"""The house: imports go one way, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ovnlab"

LAYERS = [
    ["errors", "scalars", "interruption"],
    ["waiting", "shipped", "templating", "parallel", "reporting", "atomic_write"],
    ["topology"],
    ["ovsdb", "graph"],
    ["unixctl"],
    ["nodes"],
    ["state", "tasks"],
    ["scratch", "deliberate"],
    ["software", "northbound", "credentials"],
    ["doctor"],
    ["providers"],
    ["traffic"],
    ["lab"],
    ["disk_usage", "api"],
    ["insight", "podman", "upstream"],
    ["faults"],
    ["checks"],
    ["testing"],
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


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names of the modules of ovnlab that are imported, and of what is imported from them."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ovnlab":
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("ovnlab."))
    return {name.removeprefix("ovnlab.") for name in found} - {"__version__"}


@functools.cache
def parts_imported_by(path: Path) -> frozenset[str]:
    """Return the parts of ovnlab that a module imports, wherever in it."""
    return frozenset(name.split(".")[0] for name in imported(ast.walk(ast.parse(path.read_text()))))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def wrong_way(path: Path) -> Iterator[str]:
    """Say what a module must not import."""
    own = part_of(path)
    beside = LAYERS[layer_of(own)]
    for name in sorted(parts_imported_by(path) - {own}):
        if layer_of(name) > layer_of(own) or (layer_of(name) == layer_of(own) and name not in beside):
            yield f"{path.relative_to(PACKAGE)} must not import {name}"
        elif name in beside and any(own in parts_imported_by(other) for other in MODULES if part_of(other) == name):
            yield f"{own} and {name} import each other"


def test_imports_go_one_way() -> None:
    assert len(MODULES) > 150
    assert {part_of(path) for path in MODULES} == {name for names in LAYERS for name in names}
    assert [said for path in MODULES for said in wrong_way(path)] == []


def test_no_modules_import_each_other_when_they_are_loaded() -> None:
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES
    }
    graph = {name: _loads(path, names) - {name} for name, path in names.items()}
    assert graph["lab.lab"], "what a module imports was not found"
    while ready := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in ready:
            del graph[name]
    assert sorted(graph) == [], "these are in a circle, or import one"


def _loads(path: Path, names: Mapping[str, Path]) -> set[str]:
    """Return the modules that a module loads: what stands in its functions, or is for type checkers, it does not."""
    found = imported(ast.parse(path.read_text()).body)
    return {name if name in names else name.rpartition(".")[0] for name in found} & names.keys()


def test_a_task_does_not_know_what_kind_of_node_it_is_on() -> None:
    for path in (PACKAGE / "tasks").glob("*.py"):
        assert "providers" not in parts_imported_by(path)


@pytest.mark.parametrize(
    "module", ["ovnlab.cli.app", "ovnlab.lab.lab", "ovnlab.lab.status", "ovnlab.providers.ssh_machine"]
)
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


@pytest.mark.parametrize("name", sorted(path.name for path in (PACKAGE / "lab").glob("*.py")))
def test_what_works_on_labs_names_no_provider(name: str) -> None:
    """What a provider can do beyond the others is a protocol of providers/base.py."""
    text = (PACKAGE / "lab" / name).read_text().lower()
    assert not [provider for provider in ("libvirt", "vagrant", "sshprovider", "localprovider") if provider in text]
