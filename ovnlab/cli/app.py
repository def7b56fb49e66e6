"""The application: all commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import copy
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import click
import typer
from typer.main import get_command_name

from ovnlab import __version__
from ovnlab.cli import builds, checks, files, graphs, insight, labs, machine, machines, output, shim, tools, vms
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.state import state_root, storage_error

app = typer.Typer(
    name="ovnlab",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click does
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


INTERRUPTED = 130
"""What typer makes of a Ctrl-C."""


def _print_version(wanted: bool) -> None:
    if wanted:
        output.line(f"ovnlab {__version__}")
        raise typer.Exit


@app.callback()
def _ovnlab(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A multi-node OVN lab from one YAML file.

    \b
    ovnlab up topologies/3node.yaml
    ovnlab bind vm1=worker1 vm2=worker2
    ovnlab ping vm1 vm2
    ovnlab down
    """


for group in (labs, vms, insight, builds, checks, graphs, tools, files, machines, machine, shim):
    group.register(app)


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code. Of all that goes wrong, only KeyboardInterrupt is raised."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):  # a name that is no text is shown, not stumbled over
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    try:
        return _command(argv)
    except OvnlabError as problem:
        output.error(problem, json="--json" in words)
        return problem.exit_code
    except click.ClickException as problem:
        if "--json" in words:
            output.error(UsageError(problem.format_message()), json=True)
        else:
            problem.show()
        return problem.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as problem:
        output.error(storage_error(problem, state_root()), json="--json" in words)
        return 3
    except Exception as problem:
        if os.environ.get("OVNLAB_TRACEBACK"):
            raise
        hint = "this is a mistake in ovnlab: please report it with what OVNLAB_TRACEBACK=1 shows"
        output.error(OvnlabError(f"{type(problem).__name__}: {problem}", hint=hint), json="--json" in words)
        return 1


def _command(argv: Sequence[str]) -> int:
    """The exit code of one command. Raises what goes wrong."""
    code = int(_with_only(argv[:1])(list(argv), standalone_mode=False, prog_name="ovnlab") or 0)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _with_only(words: Sequence[str]) -> typer.Typer:
    """The application with the one command that is called so: typer takes 1 ms to look at each. All where none is."""
    commands = [
        found
        for found in app.registered_commands
        if found.callback and (found.name or get_command_name(found.callback.__name__)) in words
    ]
    groups = [found for found in app.registered_groups if found.name in words]
    if not commands and not groups:
        return app
    one = copy.copy(app)
    one.registered_commands, one.registered_groups = commands, groups
    return one


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends ovnlab as Ctrl-C does: what this run began is taken back."""
    raise KeyboardInterrupt
