"""Pages that are generated are what would be generated now, and commands on others are commands."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ovnlab.cli.app import app
from ovnlab.topology import grammar
from ovnlab.topology.objects.base import Keys
from tests.lab.test_documentation import console

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["topology.md", "commands.md", "diagnosis.md", "ovnlab.1"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    written = runpy.run_path(str(DOCS / "generate.py"))["FILES"][name]()
    assert (DOCS / name).read_text() == written, "python docs/generate.py"


PAGES = sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_index_of_the_site_and_of_the_readme_is_the_same() -> None:
    """A page that is in none is still found by the site's search."""
    listed = re.findall(r"\]\((\w+\.md)\)", (DOCS / "index.md").read_text())
    assert len(listed) >= 15
    assert [name for name in listed if f"](docs/{name})" not in (DOCS.parent / "README.md").read_text()] == []
    assert [name for name in listed if f": {name}\n" not in (DOCS.parent / "mkdocs.yml").read_text()] == []


def parts(of: type[grammar.Part]) -> Iterator[type[grammar.Part]]:
    """Yield the mappings of the format: all that is a part, but for bases that only bring keys to others."""
    for part in of.__subclasses__():
        if not part.__name__.endswith("Keys") and Keys not in part.__bases__:
            yield part
        yield from parts(part)


def test_every_part_of_the_format_has_its_section() -> None:
    described = {part for _, part, _ in runpy.run_path(str(DOCS / "generate.py"))["PARTS"]}
    assert described == set(parts(grammar.Part))


@pytest.mark.parametrize(("name", "least"), [("machines.md", 15), ("traffic.md", 11)])
def test_the_commands_of_pages_that_are_not_run_each_time_are_commands(name: str, least: int) -> None:
    """`make test-all` runs them."""
    commands = [shlex.split(command)[1:] for command, _ in console(DOCS / name)]
    assert len(commands) >= least
    for words in commands:
        assert accepts(words), words
    assert not accepts(["up", "3node", "--no-such-option"])
    assert not accepts(["snapshot", "no-such-command"])
    assert not accepts(["snapshot", "save"])


def accepts(words: list[str]) -> bool:
    """Whether the command line takes these words; nothing is run."""
    command: click.Command = app
    context = None
    try:
        while isinstance(command, click.Group):
            context = command.make_context(command.name, list(words), parent=context)
            name, *words = words
            found = command.get_command(context, name)
            if found is None:
                return False
            command = found
        command.make_context(command.name, list(words), parent=context)
    except click.ClickException:
        return False
    return True
