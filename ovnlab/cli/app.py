"""The application: all commands, and the one place that turns errors into exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from ovnlab import __version__, interruption
from ovnlab.cli import output, streams
from ovnlab.cli.options import complete_labs
from ovnlab.errors import OvnlabError
from ovnlab.scratch import sweep
from ovnlab.state import cache_root, state_root

COMMANDS = {
    "lab_commands": ("up", "down", "ls", "status", "logs"),
    "vm_commands": ("bind", "unbind", "exec", "shell", "ping"),
    "daemon_commands": ("restart", "stop", "start"),
    "starter_commands": ("init", "edit"),
    "copy_commands": ("cp", "port-forward"),
    "insight_commands": ("trace", "capture", "decode", "flows", "explain", "bundle"),
    "build_commands": ("build", "upgrade"),
    "traffic_commands": ("traffic", "perf"),
    "fault_commands": ("fault", "link", "partition", "flap", "faults", "heal"),
    "diagnose_command": ("diagnose",),
    "check_commands": ("test", "wait"),
    "graph_command": ("graph",),
    "tool_commands": ("nbctl", "sbctl", "vsctl", "ofctl", "appctl"),
    "topology_commands": ("validate", "schema", "topologies", "render"),
    "save_command": ("save",),
    "machine_commands": ("ssh", "ssh-config", "inventory", "console", "suspend", "resume", "image", "snapshot"),
    "help_command": ("help",),
    "doctor_command": ("doctor",),
    "prune_command": ("prune",),
    "podman_command": ("podman-shim",),
    "upstream_command": ("upstream",),
}
"""The modules of ovnlab.cli.commands and the names of their commands, in the order of the help."""


class Commands(click.Group):
    """The group of all commands. The module of a command is imported when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        del ctx
        return [name for names in COMMANDS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, None where there is none."""
        del ctx
        module = next((module for module, names in COMMANDS.items() if cmd_name in names), None)
        if module is None:
            return None
        commands: Sequence[click.Command] = importlib.import_module(f"ovnlab.cli.commands.{module}").COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, each with its line."""
        from ovnlab.cli.command_groups import sections  # noqa: PLC0415  for the help only

        for title, lines in sections(self.list_commands(ctx)):
            with formatter.section(title):
                formatter.write_dl(lines)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that words begin with. Raises NoSuchCommand, with those that may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click knows only those that are imported
            names = self.list_commands(ctx)
            raise click.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None


def _show_completion(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted and not ctx.resilient_parsing:
        from ovnlab.cli.completion import script  # noqa: PLC0415  needed once in a lifetime

        output.line(script(app))
        ctx.exit()


def _install_completion(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted and not ctx.resilient_parsing:
        from ovnlab.cli.completion import install  # noqa: PLC0415  needed once in a lifetime

        output.line(install(app))
        ctx.exit()


@click.group(
    "ovnlab",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(__version__, message="ovnlab %(version)s", help="Print the version.")
@click.option(
    "--lab",
    "-l",
    metavar="NAME",
    envvar="OVNLAB_LAB",
    shell_complete=complete_labs,
    help="The lab that is meant, by whatever command; OVNLAB_LAB says it as well.",
)
@click.option(
    "--install-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_install_completion,
    help="Complete ovnlab in this shell from now on.",
)
@click.option(
    "--show-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_completion,
    help="Print what completes ovnlab in this shell.",
)
def app(lab: str | None) -> None:
    """A multi-node OVN lab from one YAML file.

    \b
    ovnlab up topologies/3node.yaml
    ovnlab bind vm1=worker1 vm2=worker2
    ovnlab ping vm1 vm2
    ovnlab down
    """
    del lab  # commands take it from the context


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Of all that goes wrong, only KeyboardInterrupt is raised."""
    interruption.handle()
    for stream in (sys.stdout, sys.stderr):  # a name that is not a text is shown, not stumbled over
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return streams.sent(lambda: _run(argv))
    except KeyboardInterrupt:
        interruption.end()
        raise


def _run(argv: Sequence[str]) -> int:
    words = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    try:
        return _command(argv)
    except streams.OutputError:
        raise
    except OvnlabError as problem:
        from ovnlab.cli import hints  # noqa: PLC0415  for errors

        problem.hint = hints.with_file(problem.hint, words)
        output.error(problem, json="--json" in words)
        return problem.exit_code
    except click.exceptions.NoArgsIsHelpError as problem:
        streams.say(output.shown(problem.format_message()))
        return problem.exit_code
    except click.ClickException as problem:
        from ovnlab.cli import hints  # noqa: PLC0415  for errors

        output.error(hints.usage(problem), json="--json" in words)
        return problem.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except OSError as problem:
        if streams.is_of_output(problem):
            raise
        if os.environ.get("OVNLAB_TRACEBACK"):
            raise
        meant = streams.described(problem, state=state_root(), cache=cache_root())
        output.error(meant, json="--json" in words)
        return meant.exit_code
    except Exception as problem:
        if os.environ.get("OVNLAB_TRACEBACK"):
            raise
        hint = "this is a mistake in ovnlab: please report it with what OVNLAB_TRACEBACK=1 shows"
        output.error(OvnlabError(f"{type(problem).__name__}: {problem}", hint=hint), json="--json" in words)
        return 1


def _command(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises what goes wrong."""
    if "_OVNLAB_COMPLETE" in os.environ:
        app.main([], prog_name="ovnlab")  # a shell asks what may follow: answers, and exits
    sweep()
    with app.make_context("ovnlab", list(argv)) as context:
        return int(app.invoke(context) or 0)
