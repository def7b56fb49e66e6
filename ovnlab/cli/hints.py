"""Hints of errors: the file of a lab behind `ovnlab up`, the right word for a command of old habit."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from ovnlab.errors import OvnlabError, UsageError
from ovnlab.state import LabFolder, labs

HABITS = {
    "destroy": "down", "halt": "down", "delete": "down", "rm": "down",
    "deploy": "up", "create": "up", "apply": "up", "reload": "up", "provision": "up",
    "list": "ls", "ps": "ls", "global-status": "ls",
    "run": "exec", "attach": "shell",
    "diff": "up --dry-run", "plan": "up --dry-run",
    "inspect": "status", "describe": "explain", "show": "status",
    "config": "validate", "check": "validate",
    "monitor": "flows --follow", "tcpdump": "capture", "scp": "cp", "new": "init",
}  # fmt: skip
"""What people type who know Vagrant, containerlab, docker compose, kubectl or ip(8), and the command that does it."""


def lab_of(words: Sequence[str]) -> LabFolder | None:
    """Return the lab that the words of a command mean, None where that is not clear."""
    there = labs()
    named = os.environ.get("OVNLAB_LAB", "")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("-l", "--lab"):
            named = following
        elif word.startswith("--lab="):
            named = word.removeprefix("--lab=")
    if named:
        return next((folder for folder in there if folder.name == named), None)
    if len(there) < 2:
        return there[0] if there else None
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  for errors, and of several labs
    from ovnlab.lab.lab import find  # noqa: PLC0415

    try:
        return find(None, NoProgress()).folder
    except OvnlabError:
        return None


def with_file(hint: str, words: Sequence[str]) -> str:
    """Return a hint in which `ovnlab up` names the file of the lab that the words of a command mean."""
    if "ovnlab up" not in hint:
        return hint
    folder = lab_of(words)
    return folder.with_file(hint) if folder else hint


def usage(problem: click.ClickException) -> UsageError:
    """Return what is wrong with a command line, as all other errors are told."""
    context = getattr(problem, "ctx", None)
    called = context.command_path if context is not None else "ovnlab"
    if isinstance(problem, click.exceptions.NoSuchCommand):
        word = problem.command_name
        meant = HABITS.get(word) if called == "ovnlab" else None
        close = _close(word, problem.possibilities or ())
        hint = f"{called} {meant}" if meant else f"did you mean {close}?" if close else f"{called} --help lists them"
        return UsageError(f"unknown command {word!r}", hint=hint)
    if isinstance(problem, click.exceptions.NoSuchOption):
        close = _close(problem.option_name, problem.possibilities or ())
        hint = f"did you mean {close}?" if close else f"{called} --help"
        return UsageError(f"unknown option {problem.option_name}", hint=hint)
    message = problem.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"{called} --help")


def _close(word: str, known: Sequence[str]) -> str:
    import difflib  # noqa: PLC0415  for names that are mistyped

    return next(iter(difflib.get_close_matches(word, known, n=1)), "")
