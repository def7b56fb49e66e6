"""The help: commands in groups, and the keys of the topology file, for a terminal of 80 columns."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ovnlab.cli.app import COMMANDS, app
from ovnlab.cli.command_groups import GROUPS
from ovnlab.cli.commands.help_command import keys


def told(*words: str) -> list[str]:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, list(words), prog_name="ovnlab", standalone_mode=False)
    assert result.exception is None
    return result.output.splitlines()


def test_every_command_is_in_the_help_with_a_line_that_is_not_cut() -> None:
    names = [name for names in COMMANDS.values() for name in names]
    lines = told("--help")
    assert {line.split()[0] for line in lines if line.startswith("  ")} >= set(names)
    for group in GROUPS.values():
        for name, line in group.items():
            assert any(shown.split() == [name, *line.split()] for shown in lines), name
    assert max(map(len, lines)) <= 80


def test_every_command_is_in_a_group() -> None:
    names = [name for names in COMMANDS.values() for name in names]
    assert {name for group in GROUPS.values() for name in group} == set(names)


def test_a_key_of_the_file_is_explained_by_its_name_or_its_path() -> None:
    for word in ("gateway_chassis", "logical.routers.ports.gateway_chassis", "ports.gateway_chassis"):
        lines = told("help", word)
        assert lines[0] == "logical.routers.NAME.ports.NAME.gateway_chassis"
        assert "the preferred first" in lines[1]
    assert "  default  worker" in told("help", "nodes.role")
    assert "  value    central, worker, gateway, relay, host" in told("help", "nodes.role")
    assert "switches," in " ".join(told("help", "logical")).split()


def test_every_key_has_a_description_and_says_what_it_may_be() -> None:
    found = keys()
    assert len(found) > 150
    assert [key.title for key in found if not key.about or not key.values] == []
    for word in {key.path[-1] for key in found}:
        assert max(map(len, told("help", word))) <= 80


def test_help_of_a_command_is_its_own() -> None:
    assert told("help", "up")[0] == told("up", "--help")[0]
    assert told("help", "image", "build")[0] == "Usage: ovnlab image build [OPTIONS] [NAME]"


def test_help_of_a_command_as_json_is_one_object() -> None:
    found = json.loads("\n".join(told("help", "up", "--json")))
    assert found["command"] == "ovnlab up"
    assert found["help"].startswith("Usage: ovnlab up ")


@pytest.mark.parametrize("word", ["gateway_chasis", "nods", "nodes.nothing"])
def test_an_unknown_word_is_answered(word: str) -> None:
    result = CliRunner().invoke(app, ["help", word], standalone_mode=False)
    assert "unknown command or key" in str(result.exception)
