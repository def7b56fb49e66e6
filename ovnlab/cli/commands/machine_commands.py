"""image, ssh, ssh-config, inventory, console, suspend, resume, snapshot: nodes that are machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.commands.vm_commands import run_on
from ovnlab.cli.options import PassOn, json_option, lab_of_all, lab_option, node_argument
from ovnlab.errors import OvnlabError, UsageError
from ovnlab.shipped import find_topology

if TYPE_CHECKING:
    from ovnlab.lab.checkpoints import Checkpoints
    from ovnlab.lab.lab import Lab
    from ovnlab.software.artefacts import Artefact
    from ovnlab.software.images import Image

images = click.Group(
    "image",
    no_args_is_help=True,
    help="""Disk images for nodes that are virtual machines.

    \b
    ovnlab image build
    ovnlab image ls
    """,
)
snapshots = click.Group(
    "snapshot",
    no_args_is_help=True,
    help="""Save whole labs at one moment, and restore them.

    Of virtual machines, a snapshot has memory and disks; of other labs the Northbound databases, the nodes of the
    topology and the bindings of fake VMs, in a second or two.

    \b
    ovnlab snapshot save before
    ovnlab snapshot diff before
    ovnlab snapshot restore before
    """,
)


def _complete_snapshots(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return snapshots of the lab that is meant."""
    del param
    try:
        lab = _find(ctx.params.get("lab") or lab_of_all(ctx))
        found = (lab.machine_snapshots or _checkpoints(lab)).snapshots()
    except OvnlabError:
        return []
    return [name for name in found if name.startswith(incomplete)]


name_argument = click.argument("name", metavar="NAME", help="Its name.")
snapshot_argument = click.argument("name", metavar="NAME", shell_complete=_complete_snapshots, help="Its name.")


def _find(lab: str | None) -> Lab:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find  # noqa: PLC0415

    return find(lab, NoProgress())


def _find_only(lab: str | None) -> Lab:
    """Return the lab that something of is undone or removed: named, or the only one there is."""
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find_only  # noqa: PLC0415

    return find_only(lab, NoProgress())


def _config(found: Lab) -> str:
    """Return the ssh_config file of a lab. Raises UsageError where its nodes have no SSH."""
    path = found.folder.path / "ssh/config"
    if not path.exists():
        provider = found.topology.provider
        raise UsageError(
            f"nodes of lab {found.name} are {provider}, without SSH servers", hint="ovnlab shell NODE, ovnlab exec NODE"
        )
    return str(path)


@click.command("ssh", cls=PassOn)
@node_argument
@click.argument("command", metavar="[COMMAND]...", nargs=-1, help="A command instead of a login shell.")
@lab_option
def ssh(node: str, command: tuple[str, ...], lab: str | None) -> int:
    """Log in to a node by SSH, as the lab does.

    \b
    ovnlab ssh worker1
    ovnlab ssh worker1 uptime
    """
    found = _find(lab)
    if found.topology.node(node) is None:
        raise found.unknown_name(node)
    return run_on(["ssh", "-F", _config(found), node, *command], json=False)


@click.command("ssh-config")
@lab_option
@json_option
def ssh_config(lab: str | None, json: bool) -> int:
    """Print the path of a file for `ssh -F` (and scp, rsync, Ansible) that knows the nodes by their names.

    \b
    ovnlab ssh-config
    ssh -F $(ovnlab ssh-config) worker1
    """
    path = _config(_find(lab))
    if json:
        output.as_json(path=path)
    else:
        output.line(path)
    return 0


@click.command("inventory")
@lab_option
@json_option
def inventory(lab: str | None, json: bool) -> int:
    """Print an Ansible inventory of the lab: groups are the roles of its nodes.

    \b
    ovnlab inventory > inventory.ini
    ansible -i inventory.ini all -m ping
    """
    found = _find(lab)
    config = _config(found)
    roles: dict[str, list[str]] = {}
    for node in found.topology.nodes:
        roles.setdefault(node.role, []).append(node.name)
    if json:
        output.as_json(groups=roles, ssh_config=config)
        return 0
    from ovnlab.templating import render  # noqa: PLC0415

    output.line(render("inventory.j2", roles=roles, config=config).rstrip())
    return 0


@click.command("console")
@node_argument
@lab_option
def console(node: str, lab: str | None) -> int:
    """Show the serial console of a virtual machine; Ctrl-] leaves it.

    \b
    ovnlab console worker1
    """
    found = _find(lab)
    if found.topology.node(node) is None:
        raise found.unknown_name(node)
    return run_on(found.consoles.console(node), json=False)


@click.command("suspend")
@lab_option
@json_option
def suspend(lab: str | None, json: bool) -> int:
    """Write the memory of a lab's virtual machines to disk and end them, all at one moment; see resume.

    \b
    ovnlab suspend
    """
    found = _find(lab)
    with found.naming_what_stays(), found.locked():
        found.suspending.suspend()
    if json:
        output.as_json(lab=found.name)
    else:
        output.line(f"lab {found.name} is suspended (`ovnlab resume --lab {found.name}` lets it go on)")
    return 0


@click.command("resume")
@lab_option
@json_option
def resume(lab: str | None, json: bool) -> int:
    """Resume a suspended lab.

    \b
    ovnlab resume
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find_suspended  # noqa: PLC0415

    found = find_suspended(lab, NoProgress())
    with found.naming_what_stays(), found.locked():
        names = found.suspending.resume()
    if not names:
        raise OvnlabError(f"lab {found.name} is not suspended")
    if json:
        output.as_json(lab=found.name, nodes=names)
    else:
        output.line(f"lab {found.name} goes on: {output.count(len(names), 'node')}")
    return 0


@snapshots.command()
@name_argument
@lab_option
@json_option
def save(name: str, lab: str | None, json: bool) -> int:
    """Save a lab at one moment: virtual machines with memory and disks, other labs with databases and bindings.

    \b
    ovnlab snapshot save before-upgrade
    """
    found = _find(lab)
    if found.machine_snapshots is None:
        _checkpoints(found).save(name)
    else:
        with found.locked():
            found.machine_snapshots.save(name)
    if json:
        output.as_json(lab=found.name, snapshot=name)
    else:
        output.line(f"saved {name} (`ovnlab snapshot restore {name} --lab {found.name}` brings it back)")
    return 0


@snapshots.command()
@snapshot_argument
@lab_option
@json_option
def restore(name: str, lab: str | None, json: bool) -> int:
    """Restore the nodes, the logical network and the bindings of a lab.

    \b
    ovnlab snapshot restore before-upgrade
    """
    found = _find_only(lab)
    if found.machine_snapshots is None:
        _checkpoints(found).restore(name)
    else:
        with found.naming_what_stays(), found.locked():
            found.machine_snapshots.restore(name)
    if json:
        output.as_json(lab=found.name, snapshot=name)
    else:
        output.line(f"lab {found.name} is what it was at {name}")
    return 0


@snapshots.command("diff")
@snapshot_argument
@lab_option
@json_option
def diff(name: str, lab: str | None, json: bool) -> int:
    """Say what has changed since a snapshot: nodes, rows of the Northbound database, bindings.

    Snapshots of virtual machines do not support this.

    \b
    ovnlab snapshot diff before-upgrade
    """
    found = _find(lab)
    if found.machine_snapshots is not None:
        raise UsageError("a difference is not supported: snapshots of virtual machines are of memory and disks")
    changes = _checkpoints(found).diff(name)
    if json:
        output.as_json(lab=found.name, snapshot=name, changes=changes)
    else:
        output.line("\n".join(changes) or f"nothing has changed since {name}")
    return 0


def _checkpoints(lab: Lab) -> Checkpoints:
    from ovnlab.lab.checkpoints import Checkpoints  # noqa: PLC0415

    return Checkpoints(lab)


@snapshots.command("ls")
@lab_option
@json_option
def list_snapshots(lab: str | None, json: bool) -> int:
    """List the snapshots of a lab.

    \b
    ovnlab snapshot ls
    """
    the_lab = _find(lab)
    found = (the_lab.machine_snapshots or _checkpoints(the_lab)).snapshots()
    if json:
        output.as_json(snapshots=[{"name": name, "made": made} for name, made in found.items()])
    elif not found:
        output.line("no snapshots (`ovnlab snapshot save NAME` makes one)")
    else:
        output.table(("SNAPSHOT", "MADE"), [(name, _date(made)) for name, made in found.items()])
    return 0


@snapshots.command("rm")
@snapshot_argument
@lab_option
@json_option
def remove_snapshot(name: str, lab: str | None, json: bool) -> int:
    """Remove a snapshot.

    \b
    ovnlab snapshot rm before-upgrade
    """
    found = _find_only(lab)
    with found.locked():
        if not (found.machine_snapshots or _checkpoints(found)).forget(name):
            raise UsageError(f"lab {found.name} has no snapshot {name}", hint="`ovnlab snapshot ls` lists them")
    if json:
        output.as_json(removed=name)
    else:
        output.line(f"removed {name} of lab {found.name}")
    return 0


@images.command()
@click.argument("name", metavar="[NAME]", default="debian", help="Its name, for `image:` of nodes.")
@click.option("--suite", metavar="SUITE", default="bookworm", help="Which Debian.")
@click.option("--box", is_flag=True, help="Make a Vagrant box of it as well.")
@click.option("--for", "built_for", metavar="TOPOLOGY", help="Put into it what this topology builds from source.")
@json_option
def build(name: str, suite: str, box: bool, built_for: str | None, json: bool) -> int:
    """Make an image of Debian with OVS, OVN and their tools, from this machine's package mirror. Takes root.

    \b
    ovnlab image build
    ovnlab image build trixie --suite trixie
    ovnlab image build --box
    ovnlab image build built --for topologies/3node-distro-source.yaml
    """
    from ovnlab.cli.progress import progress  # noqa: PLC0415
    from ovnlab.cli.render.effects_text import announce  # noqa: PLC0415
    from ovnlab.lab.builds import obtain, wanted  # noqa: PLC0415
    from ovnlab.lab.lab import Request, prepare  # noqa: PLC0415
    from ovnlab.providers import copies  # noqa: PLC0415
    from ovnlab.software import images  # noqa: PLC0415

    with progress() as reporter:
        builds: list[Artefact] = []
        if built_for is not None:
            images.require(name, box=box)  # before minutes of building
            path = find_topology(built_for)
            lab, topology = prepare(Request(path), reporter)
            announce(topology, path, reporter)
            builds += obtain(wanted(topology).values(), reporter, lab.build_host).values()
            if not builds:
                raise UsageError(f"there is nothing to build: {topology.name} runs {topology.base}")
        reporter.step(f"making image {name}")
        before = copies.files_of(name)
        image = images.build(name, reporter.note, suite=suite, box=box, builds=builds)
        for copy in copies.remove(before - copies.files_of(name), reporter.note)[0]:
            reporter.note(f"removed {copy}, which was of the image before")
    if json:
        made = str(image.box) if box else None
        output.as_json(
            name=name,
            key=image.key,
            path=str(image.path),
            box=made,
            packages=image.packages,
            builds=list(image.builds),
        )
    else:
        output.line(f"made {name}: {_content(image)}, {image.size / 2**20:.0f} MiB")
    return 0


@images.command("ls")
@json_option
def list_images(json: bool) -> int:
    """List images.

    \b
    ovnlab image ls
    """
    from ovnlab.software import images  # noqa: PLC0415

    found = images.all_there()
    if json:
        output.as_json(
            images=[
                {
                    "name": i.name,
                    "key": i.key,
                    "suite": i.suite,
                    "made": i.made,
                    "bytes": i.size,
                    "path": str(i.path),
                    "builds": list(i.builds),
                }
                for i in found
            ]
        )
    elif not found:
        output.line("no images (`ovnlab image build` makes one)")
    else:
        rows = [(i.name, i.key, i.suite, _content(i), f"{i.size / 2**20:.0f} MiB", _date(i.made)) for i in found]
        output.table(("IMAGE", "KEY", "SUITE", "CONTENT", "SIZE", "MADE"), rows)
    return 0


@images.command("rm")
@name_argument
@json_option
def remove_image(name: str, json: bool) -> int:
    """Remove an image, and its copies in storage pools that no machine and no kept lab uses.

    \b
    ovnlab image rm debian
    """
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.providers import copies  # noqa: PLC0415
    from ovnlab.software import images  # noqa: PLC0415

    names = copies.files_of(name)
    images.remove(name)
    gone, used = copies.remove(names, NoProgress().note)
    if json:
        output.as_json(removed=name, copies_removed=gone, copies_in_use=used)
        return 0
    for line in (f"removed {name}", *(f"removed {copy}" for copy in gone)):
        output.line(line)
    for copy in used:
        output.line(f"{copy} stays, it is used by {', '.join(copy.users)}")
    return 0


def _content(image: Image) -> str:
    """Return the OVS and OVN versions of packages, as Debian numbers them, and the builds."""
    found = {"OVS": image.packages.get("openvswitch-switch", ""), "OVN": image.packages.get("ovn-host", "")}
    of_packages = [f"{short} {version.partition('-')[0]}" for short, version in found.items() if version]
    return ", ".join([*of_packages, *(f"build {key}" for key in image.builds)])


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


COMMANDS = (ssh, ssh_config, inventory, console, suspend, resume, images, snapshots)
