"""Pages that are generated are what would be generated now."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from ovnlab.topology import model

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["topology.md", "commands.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    written = runpy.run_path(str(DOCS / "generate.py"))["FILES"][name]()
    assert (DOCS / name).read_text() == written, "python docs/generate.py"


def test_every_part_of_the_format_has_its_section() -> None:
    described = {part for _, part, _ in runpy.run_path(str(DOCS / "generate.py"))["PARTS"]}
    assert described == {*model.Part.__subclasses__(), *model.Machine.__subclasses__()}
