"""Every command that the documentation shows, run; and what the README and some pages say that they print."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.lab.harness import ROOT, Account, Labs

DOCS = ROOT / "docs"


def console(path: Path) -> list[tuple[str, str]]:
    """The commands of a document's console blocks, each with what stands below it."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", path.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def masked(text: str) -> str:
    """Text without what is another at each run: times, and the numbers of interfaces."""
    text = re.sub(r"build [0-9a-f]{8}", "build *", text)
    text = re.sub(r"\bid \d+, seq", "id *, seq", text)
    text = re.sub(r"\b(vni|inport|outport) \d+", r"\1 *", text)
    text = re.sub(r"(192\.168\.0\.31)\.\d+", r"\1.*", text)
    text = re.sub(r"\bACL [0-9a-f]{8}\b", "ACL *", text)
    text = re.sub(r"\d+ tables, 0 … \d+", "* tables", text)
    text = re.sub(r"TOOK +LOST +LONGEST GAP", "TOOK LOST LONGEST GAP", text)
    text = re.sub(r"\d+\.\d+ s +\d+ of \d+ +\d+ ms", "*", text)
    text = re.sub(r"\d+\.\d+(/\d+\.\d+)* ?m?s|time \d+ms|@if\d+ *", "*", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def run(labs: Labs, command: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "ovnlab"
    labs.scratch.joinpath("topologies").mkdir(exist_ok=True)
    for topology in (ROOT / "topologies").glob("*.yaml"):
        (labs.scratch / "topologies" / topology.name).write_text(topology.read_text())
    return labs.run(*words[1:])


GIT = re.compile(r'git: "?(https://[^"\s,}]+)')


def unreached(url: str) -> str | None:
    """A git repository that this machine does not reach."""
    command = ["git", "-c", "http.lowSpeedTime=20", "ls-remote", url, "HEAD"]
    return None if subprocess.run(command, capture_output=True, check=False).returncode == 0 else url


@pytest.mark.parametrize(
    ("page", "least"), [("README.md", 4), ("docs/setups.md", 14), ("docs/packets.md", 3), ("docs/software.md", 3)]
)
def test_transcripts_are_true(user_labs: Labs, page: str, least: int) -> None:
    commands = console(ROOT / page)
    assert len(commands) >= least
    for command, output in commands:
        assert masked(run(user_labs, command).stdout) == masked(output), command


def test_the_readme_says_how_ovnlab_gets_into_path(ordinary: Account, user_labs: Labs) -> None:
    (command,) = re.findall(r"^export PATH=.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    clone = ordinary.python.removesuffix("/.venv/bin/python")
    script = f"cd {clone} && {command} && command -v ovnlab"
    shown = subprocess.run(
        [*ordinary.prefix, "sh", "-c", script], env=user_labs.environment, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{clone}/.venv/bin/ovnlab\n"


def test_the_commands_of_the_tutorial_work(user_labs: Labs) -> None:
    commands = console(DOCS / "tutorial.md")
    assert len(commands) >= 25
    for command, _ in commands:
        run(user_labs, command)


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("testing.md", 9),
        ("security.md", 8),
        ("robustness.md", 8),
        ("multinode.md", 5),
        ("diagnosis.md", 6),
        pytest.param("traffic.md", 11, marks=pytest.mark.thorough),
        ("faults.md", 15),
    ],
)
def test_the_commands_of_other_pages_work(user_labs: Labs, page: str, least: int) -> None:
    commands = console(DOCS / page)
    assert len(commands) >= least
    for command, _ in commands:
        run(user_labs, command)


@pytest.mark.thorough
def test_the_commands_in_the_shipped_topologies_work(user_labs: Labs) -> None:
    for path in sorted((ROOT / "topologies").glob("*.yaml")):
        comment = "\n".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
        comment = re.sub(r"\s*\\\n\s*|(?<=&&)\n\s*", " ", comment)
        commands = [line.strip() for line in comment.splitlines() if line.strip().startswith("ovnlab ")]
        assert len(commands) >= 5
        if (unreachable := next(filter(None, map(unreached, GIT.findall(path.read_text()))), None)) is not None:
            error = user_labs.run("up", str(path), expect=3).stderr
            assert f"{unreachable} cannot be reached" in error
            continue
        for line in commands:
            command = re.split(r"\s{3,}", line)[0]
            if "tcpdump" in command:
                continue  # waits for packets of another terminal: tests/lab/test_posts.py does that
            run(user_labs, command)


def test_every_help_has_an_example(user_labs: Labs) -> None:
    listed = user_labs.out("--help").split("Lab:")[1]
    names = [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)]
    assert len(names) >= 45
    for name in names:
        assert re.search(rf"^  ovnlab {name}\b", user_labs.out(name, "--help"), re.MULTILINE), name
