"""The public interface: what `ovnlab` exports, and nothing else."""

from __future__ import annotations

import inspect
import subprocess
import sys

import ovnlab

PUBLIC = {
    "Lab": ["bind", "down", "run", "topology", "unbind"],
    "errors": [
        "ChecksFailed", "CommandFailed", "HostRequirementError", "LoginRefused", "OvnlabError", "Timeout",
        "TopologyError", "UsageError",
    ],
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert sorted(ovnlab.__all__) == ["Lab", "__version__", "errors", "find", "up"]
    for name in ovnlab.__all__:
        assert getattr(ovnlab, name)
    for name, members in PUBLIC.items():
        assert [member for member in members if not hasattr(getattr(ovnlab, name), member)] == []


def test_functions_take_what_the_page_says() -> None:
    assert list(inspect.signature(ovnlab.up).parameters) == ["topology", "name", "provider", "settings", "reporter"]
    assert list(inspect.signature(ovnlab.find).parameters) == ["name", "reporter"]
    assert list(inspect.signature(ovnlab.Lab.run).parameters) == ["self", "target", "command"]


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, ovnlab; print([name for name in sys.modules if name.startswith('ovnlab')])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "['ovnlab']\n"


def test_another_name_is_an_error_of_the_module() -> None:
    assert not hasattr(ovnlab, "nothing")
