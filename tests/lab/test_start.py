"""What the commands load that people run all day: each module takes time before anything is done."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

NEVER = {
    "asyncio", "bz2", "concurrent", "cryptography", "dhcp", "fabric", "html", "http", "importlib.metadata", "invoke",
    "jinja2", "jsonschema", "libvirt", "logging", "lzma", "paramiko", "platformdirs", "pydantic", "rich", "ruamel",
    "scapy", "shutil", "tarfile", "tempfile", "testinfra", "typer", "unittest", "vagrant", "xml", "yaml",
}  # fmt: skip
"""What none of them loads."""

MOST = {
    ("--version",): 18,
    ("ls",): 188,
    ("status",): 192,
    ("up", "single"): 190,
    ("bind", "vm1", "ovn"): 190,
}
"""How many modules each loads at most, beyond those of an empty Python."""

COUNTING = """
import sys
empty = set(sys.modules)
from ovnlab.__main__ import main
try:
    main()
except SystemExit as end:
    print(*sorted(set(sys.modules) - empty), file=sys.stderr)
    sys.exit(end.code)
print(*sorted(set(sys.modules) - empty), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def lab(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """A lab that is up."""
    for labs in labs_in(ordinary, session_folder / "start"):
        labs.run("up", "single")
        yield labs


@pytest.mark.parametrize("words", MOST, ids=" ".join)
def test_a_command_loads_what_it_needs(words: tuple[str, ...], lab: Labs) -> None:
    argv = [*lab.account.prefix, lab.account.python, "-c", COUNTING, *words]
    for _ in range(2):  # the first one compiles templates, if nobody has
        result = subprocess.run(argv, env=lab.environment, capture_output=True, text=True, check=True, cwd="/")
    modules = result.stderr.splitlines()[-1].split()
    assert not {".".join(name.split(".")[:n]) for name in modules for n in (1, 2)} & NEVER
    assert len(modules) <= MOST[words], modules
