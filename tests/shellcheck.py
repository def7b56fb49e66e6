"""Run shellcheck(1) on the shell scripts that `ovnlab render` prints: `python -m tests.shellcheck`, part of `make lint`.

Scripts of all shipped topologies and of everything.yaml, for every provider; of those that differ only in names, one.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ovnlab.cli.progress import NoProgress
from ovnlab.errors import OvnlabError
from ovnlab.insight.snapshot import LIMIT, SWITCH_TABLES
from ovnlab.lab.lab import Lab
from ovnlab.shipped import TOPOLOGIES
from ovnlab.tasks.probe import versions_script
from ovnlab.templating import render
from ovnlab.topology.load import load

EXCLUDED = {
    "SC2016": "matches and addresses of a topology have $ in single quotes",
    "SC2034": "one script uses a variable that its sibling does not",
    "SC2043": "a loop over the items of a topology may have one item",
    "SC2066": "as SC2043",
    "SC2086": "unquoted variables hold one validated word, or options that are meant to be split",
    "SC2194": "a case over the items of a topology",
    "SC2329": "a function of a fragment that this script does not call",
}
"""Remarks that say nothing about rendered scripts, and why."""

PROVIDERS = ("local", "libvirt", "vagrant", "ssh")


def scripts() -> Iterator[tuple[str, str]]:
    """Yield titles and texts of scripts: those that `ovnlab render` prints, and two that look at a node."""
    for path in (*sorted(TOPOLOGIES.glob("*.yaml")), Path(__file__).parent / "unit" / "everything.yaml"):
        for provider in PROVIDERS:
            try:
                topology = load(str(path), provider=provider).topology
                rendered = Lab("shellcheck", NoProgress()).render(topology)
            except OvnlabError:  # not every topology fits every provider, nor has every machine its libraries
                continue
            yield from ((f"{path.stem}/{provider}/{title}", text) for title, text in rendered if title.endswith(".sh"))
    yield "versions.sh", versions_script({})
    yield "snapshot-node.sh", render("node/snapshot-node.sh.j2", limit=LIMIT, switch=SWITCH_TABLES)


def distinct() -> dict[str, str]:
    """Return one script of each shape, by title: what differs only in names and numbers has one shape."""
    found: dict[str, tuple[str, str]] = {}
    for title, text in scripts():
        lines = {re.sub(r"[0-9a-z][\w.:~-]*\d[\w.:~-]*", "N", line) for line in text.splitlines()}
        words = sorted({" ".join(line.split()[:2]) for line in lines})
        shape = hashlib.sha256("\n".join([title.rpartition("/")[2], *words]).encode()).hexdigest()
        found.setdefault(shape, (title, text))
    return dict(found.values())


def main() -> int:
    """Check all scripts, print what shellcheck says, and return 1 if it says anything."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for title, text in distinct().items():
            paths.append(Path(folder, title.replace("/", "+")))
            paths[-1].write_text(text)
        program = Path(sys.executable).with_name("shellcheck")
        command = [str(program), "--shell=sh", "--format=gcc", f"--exclude={','.join(EXCLUDED)}"]

        def check(path: Path) -> str:
            return subprocess.run([*command, path.name], cwd=folder, capture_output=True, text=True, check=False).stdout

        with ThreadPoolExecutor(max_workers=2) as pool:
            said = "".join(pool.map(check, paths))
    print(said, end="")  # noqa: T201
    print(f"shellcheck: {len(paths)} scripts, {len(said.splitlines())} remarks")  # noqa: T201
    return 1 if said or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
