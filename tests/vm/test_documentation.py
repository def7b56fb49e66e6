"""Every command of the page about virtual machines, run on some."""

from __future__ import annotations

import pytest

from tests.lab.harness import Labs
from tests.lab.test_documentation import DOCS, console, run


@pytest.mark.thorough
def test_the_commands_of_the_page_about_machines_work(machines: Labs) -> None:
    commands = console(DOCS / "machines.md")
    assert len(commands) >= 15
    for command, _ in commands:
        run(machines, command)
