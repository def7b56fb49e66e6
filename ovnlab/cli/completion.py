"""Completion of commands, options and names in bash, zsh and fish."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ovnlab.errors import UsageError

VARIABLE = "_OVNLAB_COMPLETE"
"""The environment variable by which a shell asks for completions (click's own protocol)."""

FILES = {
    "bash": ("~/.local/share/bash-completion/completions/ovnlab", ""),
    "zsh": ("~/.zfunc/_ovnlab", "~/.zshrc needs `fpath+=~/.zfunc` before `autoload -Uz compinit; compinit`"),
    "fish": ("~/.config/fish/completions/ovnlab.fish", ""),
}
"""Where each shell looks for what completes a command, and what it takes beside that."""


def _shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in FILES:
        raise UsageError(f"unknown shell {name!r}", hint=f"set SHELL to one of {', '.join(FILES)}")
    return name


def script(app: click.Command) -> str:
    """Return what completes ovnlab in the person's shell. Raises UsageError for a shell without completion."""
    kind = get_completion_class(_shell())
    assert kind is not None  # noqa: S101  click completes all shells of FILES
    return kind(app, {}, "ovnlab", VARIABLE).source()


def install(app: click.Command) -> str:
    """Write what completes ovnlab to where the person's shell looks for it, and return a sentence about it."""
    shell = _shell()
    name, more = FILES[shell]
    path = Path(name).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(app))
    return f"wrote {path}: {more or f'a new {shell} completes ovnlab'}"
