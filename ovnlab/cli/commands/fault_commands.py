"""fault, faults, heal: what is broken on purpose."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ovnlab.cli import output
from ovnlab.cli.measuring import traffic_options, wanted
from ovnlab.cli.options import complete_nodes, complete_targets, json_option, lab_option
from ovnlab.errors import UsageError

if TYPE_CHECKING:
    from ovnlab.deliberate import Fault
    from ovnlab.lab.lab import Lab

LONGEST = 86400.0
"""Seconds that a fault can be put on for."""

fault_group = click.Group(
    "fault",
    no_args_is_help=True,
    help="""Break something of a lab on purpose: `ovnlab faults` lists it, `ovnlab heal` ends it.

    `status`, `test` and `diagnose` mark faults as deliberate, `up` leaves them alone, `down` removes them with the lab.

    \b
    ovnlab fault kill worker1 ovn-controller
    ovnlab fault pause central ovn-northd --for 10s
    ovnlab heal
    """,
)


def duration(text: str) -> float:
    """Return seconds of a duration such as `10s`, `250ms` or `2m`. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    if found is None:
        raise UsageError(f"invalid duration {text!r}: expected a number with ms, s, m or h, such as 10s")
    seconds = float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[found[2] or "s"]
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"invalid duration {text!r}: expected more than 0 and at most 24h")
    return seconds


def find(lab: str | None) -> Lab:
    """Return the lab that is meant."""
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415  what runs a lab is loaded by commands that do
    from ovnlab.lab.lab import find as find_lab  # noqa: PLC0415

    return find_lab(lab, NoProgress())


def for_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--for`, and the options that measure the outage."""
    option = click.option("--for", "time", metavar="TIME", help="Heal by itself after this time, such as 10s.")
    return option(traffic_options(command))


words_argument = click.argument("words", metavar="NODE [DAEMON]", nargs=-1, shell_complete=complete_nodes)


def put(kind: str, words: Sequence[str], settings: dict[str, str], *, time: str | None, lab: str | None) -> Fault:
    """Put a fault on the lab that is meant."""
    from ovnlab.faults.control import put_on  # noqa: PLC0415
    from ovnlab.faults.kind import FaultRequest  # noqa: PLC0415
    from ovnlab.faults.kinds import kind_of  # noqa: PLC0415

    seconds = duration(time) if time else 0.0
    command = shlex.join(["ovnlab", *sys.argv[1:]])
    found, kind_wanted = find(lab), kind_of(kind)
    said = [f"{name} {value}" for name, value in settings.items() if value != "both"]
    with wanted().around(found, " ".join([kind, *words, *said])) as traffic:
        fault = put_on(found, kind_wanted, FaultRequest(tuple(words), settings, command), seconds=seconds)
        if traffic is not None:
            traffic.watch(seconds)  # until it has healed
    return fault


def tell(fault: Fault, *, json: bool, done: str = "") -> int:
    """Say what is broken now."""
    if json:
        output.as_json(fault=_plain(fault), **wanted().as_json())
    elif done:
        output.line(done)
    else:
        ends = f"heals by itself at {_clock(fault.until)}" if fault.until else f"`ovnlab heal {fault.number}` ends it"
        output.line(f"fault {fault.number}: {fault.sentence}; {ends}")
    if not json:
        wanted().show()
    return 0


def _plain(fault: Fault) -> dict[str, object]:
    return {
        "number": fault.number,
        "kind": fault.kind,
        "target": fault.target,
        "sentence": fault.sentence,
        "nodes": list(fault.nodes),
        "command": fault.command,
        "since": round(fault.since, 3),
        "until": round(fault.until, 3) if fault.until else None,
    }


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")


@fault_group.command("kill")
@words_argument
@for_option
@lab_option
@json_option
def kill(words: tuple[str, ...], time: str | None, lab: str | None, json: bool) -> int:
    """Kill a daemon (SIGKILL), or switch a node off; it stays dead until it is healed.

    \b
    ovnlab fault kill worker1 ovn-controller
    ovnlab fault kill gw1 --for 10s
    """
    return tell(put("kill", words, {}, time=time, lab=lab), json=json)


@fault_group.command("stop")
@words_argument
@for_option
@lab_option
@json_option
def stop(words: tuple[str, ...], time: str | None, lab: str | None, json: bool) -> int:
    """Stop a daemon as its `exit` command does, or all daemons of a node and then the node.

    \b
    ovnlab fault stop worker1 ovn-controller
    ovnlab fault stop gw1
    """
    return tell(put("stop", words, {}, time=time, lab=lab), json=json)


@fault_group.command("pause")
@words_argument
@for_option
@lab_option
@json_option
def pause(words: tuple[str, ...], time: str | None, lab: str | None, json: bool) -> int:
    """Pause a daemon, or all daemons of a node, with SIGSTOP: they are there, and do not answer.

    \b
    ovnlab fault pause worker1 ovs-vswitchd
    ovnlab fault pause gw1 --for 3s
    """
    return tell(put("pause", words, {}, time=time, lab=lab), json=json)


@fault_group.command("restart")
@words_argument
@traffic_options
@lab_option
@json_option
def restart(words: tuple[str, ...], lab: str | None, json: bool) -> int:
    """Restart a daemon, or all daemons of a node, and wait until the lab is well.

    \b
    ovnlab fault restart worker1 ovs-vswitchd
    ovnlab fault restart gw1
    """
    fault = put("restart", words, {}, time=None, lab=lab)
    return tell(fault, json=json, done=fault.sentence)


@fault_group.command("reboot")
@click.argument("node", metavar="NODE", shell_complete=complete_nodes, help="A node.")
@traffic_options
@lab_option
@json_option
def reboot(node: str, lab: str | None, json: bool) -> int:
    """Switch a node off and on again, and wait until the lab is well. Its disk is kept.

    \b
    ovnlab fault reboot gw1
    """
    fault = put("reboot", [node], {}, time=None, lab=lab)
    return tell(fault, json=json, done=fault.sentence)


@fault_group.command("leader")
@click.argument("database", metavar="nb|sb", help="A clustered database.")
@for_option
@lab_option
@json_option
def leader(database: str, time: str | None, lab: str | None, json: bool) -> int:
    """Kill the server that leads a RAFT cluster: the others elect another one.

    \b
    ovnlab fault leader sb
    ovnlab fault leader nb --for 10s
    """
    return tell(put("leader", [database], {}, time=time, lab=lab), json=json)


@fault_group.command("northd")
@click.argument("state", metavar="pause", help="The only action.")
@for_option
@lab_option
@json_option
def northd(state: str, time: str | None, lab: str | None, json: bool) -> int:
    """Pause ovn-northd on all central nodes: what is written to the Northbound database has no effect.

    \b
    ovnlab fault northd pause --for 10s
    """
    return tell(put("northd", [state], {}, time=time, lab=lab), json=json)


@fault_group.command("bfd")
@click.argument("node", metavar="NODE", shell_complete=complete_nodes, help="A chassis.")
@click.argument("state", metavar="off", help="The only setting.")
@for_option
@lab_option
@json_option
def bfd(node: str, state: str, time: str | None, lab: str | None, json: bool) -> int:
    """Lose BFD packets of a node, and nothing else: its peers take it for dead.

    \b
    ovnlab fault bfd gw1 off
    """
    return tell(put("bfd", [node, state], {}, time=time, lab=lab), json=json)


def _workshop(number: int) -> click.Command:
    """Return the command of one fault for people to find."""

    @click.command(
        f"workshop-{number}",
        help=f"""Break one thing of the topology `workshop`, for people to find with `diagnose`, `trace` and `explain`.

        \b
        ovnlab fault workshop-{number}
        """,
    )
    @lab_option
    @json_option
    def workshop(lab: str | None, json: bool) -> int:
        return tell(put(f"workshop-{number}", [], {}, time=None, lab=lab), json=json)

    return workshop


for _number in range(1, 6):
    fault_group.add_command(_workshop(_number))


@click.command("link")
@click.argument("target", metavar="NODE[:NIC]|VM", shell_complete=complete_targets, help="A NIC, or a fake VM's.")
@click.argument("state", metavar="[down|up]", required=False, help="Cut it, or heal what was done to it.")
@click.option("--delay", metavar="TIME", help="Delay packets, such as 25ms, in each direction.")
@click.option("--jitter", metavar="TIME", help="Vary the delay by as much, up or down.")
@click.option("--loss", metavar="PERCENT", help="Lose so many packets, such as 2%.")
@click.option("--duplicate", metavar="PERCENT", help="Send so many packets twice.")
@click.option("--reorder", metavar="PERCENT", help="Let so many packets overtake others, or be overtaken.")
@click.option("--rate", metavar="RATE", help="Let through so many bits per second, such as 10mbit.")
@click.option("--direction", type=click.Choice(["in", "out", "both"]), default="both", help="Seen from the node.")
@for_option
@lab_option
@json_option
def link(
    target: str, state: str | None, direction: str, time: str | None, lab: str | None, json: bool, **given: str | None
) -> int:
    """Cut a link of a node, or make it slow and lossy. `up` heals what was done to it.

    A second command for the same link and direction replaces the first.

    \b
    ovnlab link worker1 down
    ovnlab link worker1 --delay 25ms --jitter 5ms --loss 2%
    ovnlab link gw1:eth2 --rate 10mbit --direction out --for 30s
    ovnlab link worker1 up
    """
    if state == "up":
        from ovnlab.faults.control import heal_link  # noqa: PLC0415

        if any(given.values()) or time:
            raise UsageError("a link that is up again has no options", hint=f"ovnlab link {target} up")
        found = find(lab)
        with wanted().around(found, f"link {target} up", required=False):
            ended = heal_link(found, target)
        if json:
            output.as_json(healed=[_plain(fault) for fault in ended], **wanted().as_json())
        else:
            output.line("\n".join(f"healed fault {f.number}: {f.sentence}" for f in ended) or "nothing to heal")
            wanted().show()
        return 0
    settings = {"direction": direction, **{name: value for name, value in given.items() if value is not None}}
    return tell(put("link", [target, *([state] if state else [])], settings, time=time, lab=lab), json=json)


@click.command("partition")
@click.argument("words", metavar="NODE,NODE ['|' NODE,NODE]", nargs=-1, required=True, shell_complete=complete_nodes)
@click.option("--one-way", is_flag=True, help="Only what the first side sends is lost.")
@for_option
@lab_option
@json_option
def partition(words: tuple[str, ...], one_way: bool, time: str | None, lab: str | None, json: bool) -> int:
    """Part two sides, or one side and all other nodes, on the underlay.

    \b
    ovnlab partition gw1
    ovnlab partition 'worker1,gw1 | worker2,gw2' --for 30s
    ovnlab partition 'gw1 | gw2' --one-way
    """
    return tell(put("partition", words, {"one-way": "yes"} if one_way else {}, time=time, lab=lab), json=json)


@click.command("flap")
@click.argument("target", metavar="NODE[:NIC]", shell_complete=complete_nodes, help="A NIC; the underlay's if omitted.")
@click.option("--every", metavar="TIME", default="3s", help="How long it is down, and then up.")
@for_option
@lab_option
@json_option
def flap(target: str, every: str, time: str | None, lab: str | None, json: bool) -> int:
    """Take a link down and up, repeatedly.

    \b
    ovnlab flap gw1 --every 3s --for 30s
    """
    return tell(put("flap", [target], {"every": every}, time=time, lab=lab), json=json)


@click.command("faults")
@lab_option
@json_option
def list_faults(lab: str | None, json: bool) -> int:
    """List what is broken on purpose: since when, by what command, and when it heals by itself.

    \b
    ovnlab faults
    """
    from ovnlab.deliberate import stored  # noqa: PLC0415

    found = stored(find(lab).folder)
    if json:
        output.as_json(faults=[_plain(fault) for fault in found])
    elif not found:
        output.line("no faults")
    else:
        rows = [
            (str(f.number), f.sentence, _clock(f.since), _clock(f.until) if f.until else "-", f.command) for f in found
        ]
        output.table(("FAULT", "WHAT", "SINCE", "UNTIL", "BY"), rows)
    return 0


@click.command("heal")
@click.argument("words", metavar="[FAULT|NODE]...", nargs=-1, shell_complete=complete_nodes, help="Faults or nodes.")
@click.option("--all", "every", is_flag=True, help="All faults.")
@click.option("--at", "moment", type=float, hidden=True)
@traffic_options
@lab_option
@json_option
def heal(words: tuple[str, ...], every: bool, moment: float | None, lab: str | None, json: bool) -> int:
    """End faults, and wait until the lab is well. Without arguments, the only fault.

    \b
    ovnlab heal 1
    ovnlab heal gw1
    ovnlab heal --all
    """
    from ovnlab.faults import control, timer  # noqa: PLC0415

    if every and words:
        raise UsageError("--all and names exclude each other")
    found = find(lab)
    if moment is not None:  # the process of a timer, which nobody hears
        if timer.wait(found, int(words[0]), moment):
            control.heal_due(found, int(words[0]), moment)
        return 0
    with wanted().around(found, " ".join(["heal", *words]), required=False):
        ended = control.heal(found, words, every=every)
    if json:
        output.as_json(healed=[_plain(fault) for fault in ended], **wanted().as_json())
    elif not ended:
        output.line("nothing to heal")
    for fault in ended if not json else ():
        output.line(f"healed fault {fault.number}: {fault.sentence}")
    if not json:
        wanted().show()
    return 0


COMMANDS = (fault_group, link, partition, flap, list_faults, heal)
