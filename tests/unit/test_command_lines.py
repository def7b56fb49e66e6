"""What command lines mean: which words are ovnlab's, and which are another program's."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ovnlab.cli.app import app
from ovnlab.cli.commands.starter_commands import init
from ovnlab.cli.commands.vm_commands import EVERYWHERE, execute
from ovnlab.errors import UsageError
from ovnlab.topology.load import load_text


@pytest.mark.parametrize(
    ("line", "target", "command", "every"),
    [
        ("--all -- ls -l", EVERYWHERE, "ls -l", True),
        ("--json --all -l mine -- ls", EVERYWHERE, "ls", True),
        ("--role gateway -- ls", EVERYWHERE, "ls", False),
        ("worker1 ls --all", "worker1", "ls --all", False),
        ("worker1 -- ls --all", "worker1", "ls --all", False),
        ("worker1 git log --all -- file", "worker1", "git log --all -- file", False),
        ("worker1 tool --role gateway", "worker1", "tool --role gateway", False),
        ("--all worker1 -- ls", "worker1", "ls", True),
        ("worker1 --all -- ls", "worker1", "ls", True),
    ],
)
def test_all_and_role_of_exec_are_told_from_those_of_the_program(
    line: str, target: str, command: str, every: bool
) -> None:
    params = execute.make_context("exec", line.split(), **app.context_settings).params
    assert (params["target"], " ".join(params["command"]), params["every"]) == (target, command, every)


def test_a_command_for_several_nodes_stands_behind_two_dashes() -> None:
    with pytest.raises(UsageError, match="missing `--` before the command"):
        execute.make_context("exec", ["--all", "ls"], **app.context_settings)
    with pytest.raises(click.exceptions.Exit):  # it has been shown
        execute.make_context("exec", ["--all", "--help"], **app.context_settings)


@pytest.mark.parametrize("words", [("2026", "--switch", "1", "--switch", "on"), ("1e3", "--like", "gateway")])
def test_init_takes_names_that_are_numbers_in_yaml(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init.main(list(words), standalone_mode=False, **app.context_settings)
    assert load_text("ovnlab.yaml", Path("ovnlab.yaml").read_bytes()).topology.name == words[0]


@pytest.mark.parametrize("words", [(r"a\1", "--like", "gateway"), ("x", "--like", "no/such.yaml"), ("\udcff",)])
def test_init_refuses_what_cannot_be(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        init.main(list(words), standalone_mode=False, **app.context_settings)
    assert list(tmp_path.iterdir()) == []
