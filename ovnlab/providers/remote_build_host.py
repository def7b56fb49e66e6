"""A node with a compiler, on which OVS and OVN are built."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ovnlab import scratch
from ovnlab.errors import HostRequirementError
from ovnlab.providers.delivery import COMPRESSION, receive, stream
from ovnlab.providers.ssh_machine import SshMachine
from ovnlab.state import cache_root
from ovnlab.tasks.script import failure, run_script
from ovnlab.templating import render

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

ROOT = Path("/opt/ovnlab/building")
"""What a node has of this machine's folder of builds that are being made."""


class RemoteBuildHost:
    """A node that is reached by SSH."""

    def __init__(self, machine: SshMachine) -> None:
        self.machine = machine

    @property
    def name(self) -> str:
        """Return the name of the node."""
        return self.machine.name

    @property
    def context(self) -> Context:
        """Return a context on the node, as root."""
        return self.machine.context

    @cached_property
    def _facts(self) -> tuple[str, str, str, str]:
        said = run_script(
            self.context, render("build/find-compiler.sh.j2"), where=f"{self.name}: looking for a compiler"
        )
        facts = dict(line.split(" ", 1) for line in said.splitlines())
        if lacking := facts.get("lacking"):
            raise HostRequirementError(
                f"there is no {lacking} to build with",
                where=self.name,
                hint=f"on {self.name}: {facts['install']} {facts['packages']}",
            )
        return facts["distribution"], facts["architecture"], facts["compiler"], facts["processors"]

    @property
    def kind(self) -> tuple[str, ...]:
        """Return distribution, architecture, compiler. Raises HostRequirementError where it has no compiler."""
        return self._facts[:3]

    @property
    def jobs(self) -> int:
        """Return the number of its processors."""
        return int(self._facts[3])

    def place(self, path: Path) -> Path:
        """Return the path of a tree below the node's own folder."""
        return ROOT / path.relative_to(cache_root() / "building")

    def has(self, tree: Path) -> bool:
        """Return True if it is there."""
        place = self.place(tree)
        script = f"[ ! -e {place}.names ] || echo there"
        return run_script(self.context, script, where=f"{self.name}: looking for {place}").strip() == "there"

    def send(self, tree: Path, *, afresh: bool) -> None:
        """Send files. Those whose content is the same stay as they are: make compares dates."""
        script = render("build/receive.sh.j2", tree=self.place(tree), afresh=afresh)
        with tempfile.TemporaryFile(dir=cache_root()) as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive:
                archive.add(tree, arcname=".")
            file.seek(0)
            stream(self.machine, script, file, where=f"{self.name}: receiving {tree.name}")

    def fetch(self, stage: Path) -> None:
        """Copy what was installed to this machine."""
        place = self.place(stage)
        stage.mkdir(parents=True, exist_ok=True)
        with scratch.folder("receiving-") as folder, (folder / "archive").open("w+b") as file:
            pack = f"tar -C {place} -czf - . && rm -rf {place}"
            receive(self.machine, pack, file, where=f"{self.name}: sending {stage.name}")
            file.flush()
            unpack = ["tar", "-C", str(stage), "--no-same-owner", "-xzf", file.name]
            result = subprocess.run(unpack, capture_output=True, text=True, check=False)
            if result.returncode:
                raise failure(f"{self.name}: unpacking what was built", result.returncode, result.stderr)
