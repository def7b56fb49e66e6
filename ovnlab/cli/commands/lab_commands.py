"""up, down, ls, status, logs: labs as wholes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from click.core import ParameterSource

from ovnlab import interruption
from ovnlab.cli import output, streams
from ovnlab.cli.measuring import traffic_options
from ovnlab.cli.measuring import wanted as measure_wanted
from ovnlab.cli.options import (
    complete_daemons,
    complete_labs,
    complete_nodes,
    json_option,
    lab_option,
    name_option,
    provider_option,
    set_option,
    topology_argument,
)
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.shipped import find_topology, topology_here
from ovnlab.state import LabFolder, Stored, locks, typed_path
from ovnlab.state import labs as existing_labs
from ovnlab.waiting import CLOCK


@click.command("up")
@topology_argument
@provider_option
@name_option
@set_option
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--prune", is_flag=True, help="Unbind fake VMs that the file does not name, which stay otherwise.")
@click.option("--exit-code", is_flag=True, help="With --dry-run: exit with 5 if there is something to do.")
@click.option("--watch", is_flag=True, help="Go on: whenever the file is saved, make the lab what it says.")
@traffic_options
@lab_option
@json_option
def up(
    topology: str | None,
    provider: str | None,
    name: str | None,
    settings: tuple[str, ...],
    dry_run: bool,
    prune: bool,
    exit_code: bool,
    watch: bool,
    lab: str | None,
    json: bool,
) -> int:
    """Bring a lab up, or make it what the file says now.

    Without TOPOLOGY, it takes the lab that --lab names, or the only lab, with the file and options of its last `up`. If
    there is none, it takes ovnlab.yaml or topology.yaml in this folder, else the shipped 3node. A password is asked
    for, or taken from OVNLAB_SSH_PASSWORD.

    \b
    ovnlab up topologies/3node.yaml
    ovnlab up routed --name mine --set underlay.mtu=9000
    ovnlab up topologies/3node.yaml --dry-run
    ovnlab up mine.yaml --watch
    ovnlab up --traffic vm1,vm2
    """
    from ovnlab.cli.progress import progress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.cli.render.effects_text import announce  # noqa: PLC0415
    from ovnlab.lab.lab import Request, prepare  # noqa: PLC0415

    measure = measure_wanted()
    _refuse_exclusive(dry_run=dry_run, exit_code=exit_code, watch=watch, json=json, measures=bool(measure.pairs))
    began = CLOCK.monotonic()
    is_said = click.get_current_context().get_parameter_source("lab") is ParameterSource.COMMANDLINE
    if is_said and (topology or name):
        raise UsageError(f"--lab {lab} is of a lab that is there", hint=f"--name {lab} names the lab of a file")
    again = None if topology or settings or name or provider else _stored_one(lab)
    request = Request.again(again) if again else Request(find_topology(topology), settings, name, provider)
    if watch:
        from ovnlab.cli import watching  # noqa: PLC0415

        known = watching.read(request.path)
    with progress() as reporter:
        found, wanted = prepare(request, reporter)
        if topology is None:
            reporter.note(f"this is lab {wanted.name}, of {typed_path(request.path)}")
        announce(wanted, request.path, reporter)
        source, named = str(Path(request.path).resolve()), request.name is not None
        if dry_run:
            outcome = found.dry_run(wanted, source=source, named=named, prune=prune)
        else:
            with measure.around(found, "up", required=False):
                outcome = found.up(wanted, source=source, named=named, options=request.options(), prune=prune)
    steps = outcome.plan.steps()
    seconds = CLOCK.monotonic() - began
    if json:
        output.as_json(
            lab=wanted.name,
            dry_run=dry_run,
            began=outcome.began,
            steps=steps,
            seconds=round(seconds, 3),
            **measure.as_json(),
        )
    elif dry_run:
        output.line("\n".join(steps) or f"lab {wanted.name}: nothing to do")
    elif not steps:
        output.line(f"lab {wanted.name} is up: nothing to do")
    else:
        for step in () if outcome.began else steps:
            output.line(step)
        parts = ((len(wanted.nodes), "node"), (len(wanted.switches), "switch"), (len(wanted.routers), "router"))
        counted = ", ".join(output.count(*part) for part in (*parts, (outcome.bound, "fake VM")))
        output.line(f"lab {wanted.name} is up: {counted} bound ({seconds:.1f} s)")
    if not json:
        measure.show()
    if watch:
        return watching.watch(request, wanted.name, known, prune=prune)
    return 5 if exit_code and steps else 0


def _refuse_exclusive(*, dry_run: bool, exit_code: bool, watch: bool, json: bool, measures: bool) -> None:
    """Raise UsageError for options of `up` that exclude each other."""
    if exit_code and not dry_run:
        raise UsageError("--exit-code goes with --dry-run")
    if watch and (dry_run or json):
        raise UsageError("--watch goes on: it takes neither --dry-run nor --json")
    if dry_run and measures:
        raise UsageError("--dry-run changes nothing: there is no outage to measure", hint="leave --traffic out")


def _stored_one(lab: str | None) -> Stored | None:
    """Return what a lab was made from, or the only one, None if there is no lab.

    Raises UsageError if there are several or none of that name.
    """
    there = existing_labs() if lab is None else [folder for folder in existing_labs() if folder.name == lab]
    if lab is not None and not there:
        raise UsageError(
            f"unknown lab {lab}: nothing says what to bring it up from", hint=f"ovnlab up FILE --name {lab}"
        )
    if len(there) > 1 and topology_here():
        return None  # the file in this folder is one of them, or another one
    if len(there) > 1:
        hint = (
            f"say which: {' or '.join(folder.up_command() for folder in there[:2])}; `ovnlab up 3node` is another one"
        )
        raise UsageError(f"there are several labs: {', '.join(folder.name for folder in there)}", hint=hint)
    stored = there[0].stored() if there else None
    return stored if stored and stored.source else None


@click.command("down")
@click.argument(
    "labs", metavar="[LAB]...", nargs=-1, shell_complete=complete_labs, help="Labs; the only one there is if omitted."
)
@click.option("--all", "every", is_flag=True, help="All labs of this user.")
@click.option(
    "--forget",
    is_flag=True,
    help="Also what is kept of virtual machines for the next `up`; without LAB, of the only lab that is kept.",
)
@click.option("--forget-hosts", is_flag=True, help="Also a lab whose hosts do not answer: says what stays on them.")
@lab_option
@json_option
def down(labs: tuple[str, ...], every: bool, forget: bool, forget_hosts: bool, lab: str | None, json: bool) -> int:
    """Remove labs with everything but their logs. Succeeds if there is none.

    \b
    ovnlab down
    ovnlab down 3node routed
    ovnlab down 3node --forget
    ovnlab down --all
    """
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.lab.lab import Lab  # noqa: PLC0415
    from ovnlab.providers.choice import kept_labs  # noqa: PLC0415

    is_said = click.get_current_context().get_parameter_source("lab") is ParameterSource.COMMANDLINE
    names = [*labs, *([lab] if lab and (is_said or not labs) else ())]  # OVNLAB_LAB adds nothing to names
    there = [folder.name for folder in existing_labs()]
    if every:
        names = sorted({*there, *locks(), *(kept_labs() if forget else ())})
    elif not names:
        names = _kept_one(there, list(kept_labs())) if forget else _only_one(there)
    with progress() as reporter:
        gone = {
            name: Lab(name, reporter).down(forget=forget, forget_hosts=forget_hosts) for name in dict.fromkeys(names)
        }
    removed = [name for name, found in gone.items() if found.removed]
    forgotten = [name for name, found in gone.items() if found.forgot]
    still_kept = kept_labs()
    kept = [name for name in removed if name in still_kept]
    if json:
        output.as_json(removed=removed, kept=kept, forgotten=forgotten)
        return 0
    if removed:
        output.line(f"removed {', '.join(removed)}")
    if forgotten:
        output.line(f"forgot what was kept of {', '.join(forgotten)}")
    if kept:
        hint = f"`ovnlab down {' '.join(kept)} --forget` removes it"
        output.line(f"kept for the next `up`, in the storage pool: {', '.join(kept)} ({hint})")
    if not (removed or forgotten):
        of = [name for name in names if name in still_kept] or ([] if names else list(still_kept))
        hint = f"; kept for the next `up`: {', '.join(of)} (`ovnlab down {of[0]} --forget` removes it)" if of else ""
        output.line(f"nothing to remove{hint}")
    return 0


def _only_one(there: Sequence[str]) -> list[str]:
    """Return the lab that `down` without a name removes. Raises UsageError if it could be one of several."""
    if len(there) > 1:
        raise UsageError(f"there are several labs: {', '.join(there)}", hint="say which, or --all")
    return list(there)


def _kept_one(there: Sequence[str], kept: Sequence[str]) -> list[str]:
    """Return the lab that `down --forget` without a name is about: the only one that is kept.

    Raises UsageError if it could be one of several, or would remove one that runs beside others.
    """
    if len(kept) > 1:
        hint = f"say which: ovnlab down {kept[0]} --forget, or --all"
        raise UsageError(f"several labs are kept for the next `up`: {', '.join(kept)}", hint=hint)
    if kept and kept[0] in there:
        return _only_one(there)
    if not kept and there:
        hint = f"ovnlab down {there[0]} removes {there[0]}"
        raise UsageError("no lab is kept for the next `up`", hint=hint)
    return list(kept)


@click.command("ls")
@json_option
def list_labs(json: bool) -> int:
    """List the labs of this user, and labs that are down but kept.

    \b
    ovnlab ls
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.lab.lab_list import listed  # noqa: PLC0415

    found = listed(NoProgress())
    if json:
        output.as_json(
            labs=[
                {
                    "name": one.name,
                    "state": one.state,
                    "provider": one.provider,
                    "nodes_running": one.running,
                    "nodes": one.nodes,
                    "topology": one.topology or None,
                    "kept": one.is_kept,
                }
                for one in found
            ]
        )
    elif not found:
        output.line("no labs (`ovnlab up` makes one)")
    else:
        cells = [
            (one.name, one.state, one.provider, f"{one.running}/{one.nodes}" if one.nodes else "-", one.topology)
            for one in found
        ]
        output.table(("LAB", "STATE", "PROVIDER", "NODES", "TOPOLOGY"), cells, colours=output.STATES)
    return 0


@click.command("status")
@click.option("--all", "everything", is_flag=True, help="Show every row of a large lab.")
@click.option("--exit-code", is_flag=True, help="Exit with 4 unless the lab is up and whole.")
@lab_option
@json_option
def status(everything: bool, exit_code: bool, lab: str | None, json: bool) -> int:
    """Show a lab: nodes, daemons, versions, chassis, tunnels, ports and where they are bound.

    Of more than 30 nodes, tunnels or ports it shows how many there are, and those that are not as they should be.

    \b
    ovnlab status
    ovnlab status --all
    ovnlab status --exit-code --json
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.cli.render import status_text  # noqa: PLC0415  what looks at a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415
    from ovnlab.lab.status import status as lab_status  # noqa: PLC0415

    the_lab = find(lab, NoProgress())
    found = lab_status(the_lab)
    logs = the_lab.folder.logs_size()
    if json:
        output.as_json(**found.as_dict(), logs={"path": str(the_lab.folder.logs), "bytes": logs})
    else:
        status_text.show(found, everything=everything)
        output.line(f"logs: {output.size(logs)} in {the_lab.folder.logs}")
    return 4 if exit_code and found.state != "up" else 0


@click.command("logs")
@click.argument(
    "target", metavar="[NODE]", required=False, shell_complete=complete_nodes, help="One node; all if omitted."
)
@click.argument(
    "daemon",
    metavar="[DAEMON]",
    required=False,
    shell_complete=complete_daemons,
    help="One daemon, such as ovn-controller.",
)
@click.option("--lines", "-n", type=click.IntRange(min=0), default=10, help="How many of each log's last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on as they grow.")
@click.option("--warn", is_flag=True, help="Only warnings and errors.")
@click.option("--all", "everything", is_flag=True, help="Also lines that are known to be harmless.")
@lab_option
@json_option
def logs(
    target: str | None,
    daemon: str | None,
    lines: int,
    follow: bool,
    warn: bool,
    everything: bool,
    lab: str | None,
    json: bool,
) -> int:
    """Show the ends of a lab's logs, also after it is down.

    Lines that are known to be harmless are counted instead of shown: ovs-vswitchd complains of each interface of a fake
    VM, as it is in the VM's network namespace.

    \b
    ovnlab logs
    ovnlab logs worker1 ovn-controller -n 50 -f
    ovnlab logs --warn
    """
    import subprocess  # noqa: PLC0415

    folder = _log_folder(lab)
    stored = folder.stored()
    if stored is not None and stored.topology.provider != "local":
        from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
        from ovnlab.lab.lab import Lab  # noqa: PLC0415

        if follow:
            hint = "ovnlab exec NODE -- tail -F /var/log/ovn/ovn-controller.log"
            raise UsageError("logs of machines cannot be followed from here", hint=hint)
        Lab(folder.name, NoProgress()).bring_logs()
    paths = [
        path
        for path in sorted(folder.logs.rglob("*.log"))
        if target in (None, path.relative_to(folder.logs).parts[0])
        and daemon in (None, path.stem)
        and not path.is_symlink()  # a node writes there, and may mean another file of this machine
    ]
    if not paths:
        there = sorted({path.stem for path in folder.logs.rglob("*.log")})
        hint = f"there are logs of {', '.join(there)}" if there else ""
        raise OvnlabError("there are no such logs", where=str(folder.logs), hint=hint)
    if json:
        contents = {
            str(path): path.read_text(errors="replace").splitlines()[-lines:] if lines else [] for path in paths
        }
        if warn:
            contents = {path: [text for text in found if WARNS.search(text)] for path, found in contents.items()}
        output.as_json(lab=folder.name, logs=contents)
        return 0
    wanted = LogLines(warn=warn, everything=everything)
    if not follow:
        for number, path in enumerate(paths):
            _show_log(path, lines, wanted, first=not number)
        return 0
    command = ["tail", "-v", f"-n{lines}", "-F", *map(str, paths)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="backslashreplace") as tail:
            assert tail.stdout is not None  # noqa: S101  it is a pipe
            for text in tail.stdout:
                if text.startswith("==>") or not text.strip() or wanted.keeps(text):
                    output.line(text.rstrip("\n"))
                    streams.flush()
    except KeyboardInterrupt:
        interruption.end()
        return 0
    return tail.returncode


WARNS = re.compile(r"\|(WARN|ERR|EMER)\|")

HARMLESS = re.compile(
    r"setting MAC failed \(No such device\)"
    r"|failed to set MTU for network device \S+: No such device"
    r"|ETHTOOL_\w+ on network device \S+ failed: No such device"
)
"""Lines of a healthy lab: ovs-vswitchd sets the MAC of an interface that is in the namespace of a fake VM."""


class LogLines(msgspec.Struct, frozen=True):
    """A filter of log lines: only warnings and errors, and without harmless ones unless all are wanted."""

    warn: bool
    everything: bool

    def keeps(self, text: str) -> bool:
        """Return True for a line that is shown."""
        return (not self.warn or bool(WARNS.search(text))) and (self.everything or not HARMLESS.search(text))


def _show_log(path: Path, lines: int, wanted: LogLines, *, first: bool) -> None:
    """Print the end of a log, and how many harmless lines are left out of it."""
    if not first:
        output.line()
    output.line(f"==> {path} <==")
    found = path.read_text(errors="backslashreplace").splitlines()
    kept = [text for text in found if wanted.keeps(text)]
    for text in kept[-lines:] if lines else ():
        output.line(text)
    harmless = 0 if wanted.everything else sum(bool(HARMLESS.search(text)) for text in found)
    if harmless and lines:
        output.line(output.coloured(f"({output.count(harmless, 'harmless line')} left out: --all shows them)", "dim"))


def _log_folder(lab: str | None) -> LabFolder:
    """Return the lab that is meant, which may be gone: its logs are not."""
    if lab is not None:
        return LabFolder(lab)
    there = existing_labs()
    if not there:
        folder = LabFolder("any").logs.parent
        there = [LabFolder(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    if len(there) == 1:
        return there[0]
    if not there:
        raise OvnlabError("there is no lab and no log of one", hint="`ovnlab up` makes one")
    raise UsageError(f"there are several labs: {', '.join(x.name for x in there)}", hint="say which with --lab")


COMMANDS = (up, down, list_labs, status, logs)
