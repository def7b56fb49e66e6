"""Kills commands, daemons and nodes at random moments, and sees whether the next `up` and `down` put everything right.

    python -m tests.fuzz.kills --commands 100 --daemons 50 [--user NAME] [--seed N]

Prints a line for each round that did not go well, and what all of them came to. As root, --user runs them as another user.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovnlab.providers.local import processes
from tests.lab.harness import Account, Labs

TWO = """
name: two
nodes: {central: {role: central}, worker1: , worker2: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: worker1}, vm2: {chassis: worker2}}
"""
EDITED = TWO.replace("worker2: }", "worker2: , worker3: }").replace("{chassis: worker2}}", "{chassis: worker3}, vm3: }")

COMMANDS = (
    ("up", "two.yaml"), ("up", "two.yaml"), ("edit",), ("down", "two"), ("bind", "vm1", "worker2"),
    ("unbind", "vm1"), ("status",), ("nbctl", "ls-add", "by-hand"), ("capture", "worker1", "-c", "1000"),
)  # fmt: skip
DAEMONS = ("ovs-vswitchd", "ovsdb-server", "ovn-controller", "ovn-northd", "", "holder")
"""What is killed; the empty name is a whole node."""

SLOWEST_TO_SAY = 15.0
"""Seconds after which a command has said what died."""

PATIENCE = 120.0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Tally:
    """What came of all rounds."""

    rounds: int = 0
    bad: list[str] = field(default_factory=list)
    unnamed: int = 0
    slowest: float = 0.0

    def expect(self, what: str, well: bool, said: str = "") -> None:
        """Note what did not go well."""
        if not well:
            self.bad.append(what)
            _say(f"{what}: {' | '.join(said.strip().splitlines()[-9:])}")


def _settled(labs: Labs) -> list[str]:
    """What is left once whatever was being started has had time to be noticed."""
    for _ in range(200):
        left = labs.audit()
        if not left:
            break
        time.sleep(0.02)
    return left


def _recover(labs: Labs, tally: Tally, what: str, *, down: bool) -> None:
    """`up` succeeds after anything, and packets go; `down` leaves nothing."""
    labs.write("two.yaml", TWO)
    up = labs.run("up", "two.yaml", expect=None)
    tally.expect(f"{what}: up: {up.returncode}", up.returncode == 0, up.stderr)
    ping = labs.run("ping", "vm1", "vm2", expect=None)
    tally.expect(f"{what}: ping: {ping.returncode}", ping.returncode == 0, ping.stdout + ping.stderr)
    if down:
        labs.run("down", "two")
        left = _settled(labs)
        tally.expect(f"{what}: left behind: {left}", not left)


def _started(labs: Labs, words: tuple[str, ...]) -> Any:
    """A command that goes on in the background; `edit` is an `up` of the file as it is edited."""
    if words == ("edit",):
        labs.write("two.yaml", EDITED)
        words = ("up", "two.yaml")
    return labs.start(*words)


def kill_commands(labs: Labs, count: int, chance: random.Random) -> Tally:
    """Kill commands, three in ten with all processes that they have started themselves."""
    tally = Tally()
    for number in range(count):
        words = chance.choice(COMMANDS)
        moment = chance.uniform(0.05, 2.5 if words[0] in ("up", "edit", "capture") else 0.8)
        process = _started(labs, words)
        time.sleep(moment)
        whole = chance.random() < 0.3
        with contextlib.suppress(ProcessLookupError):  # it has ended before
            (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
        tally.rounds += 1
        what = f"command {number}: {' '.join(words)} after {moment:.2f} s{' with its group' if whole else ''}"
        _recover(labs, tally, what, down=number % 4 == 3)
    return tally


def _victim(labs: Labs, program: str, chance: random.Random) -> tuple[str, int] | None:
    """What is to be killed, if it is there: how it is called, and its process."""
    try:
        if program == "holder":
            return "the lab", labs.holder("two")
        nodes = labs.nodes("two")
    except (OSError, ValueError):
        return None
    name = chance.choice(sorted(nodes)) if nodes else ""
    if not program:
        return (name, nodes[name]) if name else None
    for node, init in sorted(nodes.items(), key=lambda item: item[0] != name):
        for pid in processes.children(init):
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    return f"{program} of {node}", pid
            except OSError:
                continue
    return None


def kill_daemons(labs: Labs, count: int, chance: random.Random) -> Tally:
    """Kill daemons, nodes and whole labs: while `up` works on a new lab or on an edited one, and at rest."""
    tally = Tally()
    for number in range(count):
        program = DAEMONS[number % len(DAEMONS)]
        when = chance.choice(("a new lab", "an edited lab", "at rest"))
        if when == "a new lab":
            labs.run("down", "two", expect=None)
        else:
            labs.run("up", "two.yaml")
        process = _started(labs, ("edit",) if when == "an edited lab" else ("up", "two.yaml"))
        began = time.monotonic()
        if when == "at rest":
            process.communicate()
            began = time.monotonic()
        time.sleep(chance.uniform(0.0, 1.2))
        found = None
        while found is None and time.monotonic() < began + 30:
            found = _victim(labs, program, chance)
        if found is None:
            tally.expect(f"daemon {number}: no {program or 'node'} was there to be killed", False)
            continue
        killed = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[1], signal.SIGKILL)
        tally.rounds += 1
        what = f"daemon {number}: {found[0]} of {when}"
        try:
            _, said = process.communicate(timeout=PATIENCE) if when != "at rest" else ("", "")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
        took = time.monotonic() - killed
        if process.returncode:
            tally.slowest = max(tally.slowest, took)
            tally.expect(f"{what}: said so after {took:.1f} s", took <= SLOWEST_TO_SAY, said)
            names = [word for word in found[0].split() if word not in ("of", "the", "lab")] or ["node", "lab"]
            tally.unnamed += not any(name in said.splitlines()[-1] or name in said for name in names)
            tally.expect(f"{what}: internal error", "mistake in ovnlab" not in said, said)
        _recover(labs, tally, what, down=number % 5 == 4)
    return tally


def main() -> int:
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--daemons", type=int, default=0)
    parser.add_argument("--user", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(f"/var/tmp/ovnlab-kills-{os.getpid()}"))
    parser.add_argument("--cache", type=Path, help="XDG_CACHE_HOME, to download nothing again")
    wanted = parser.parse_args()
    for name in ("state", "scratch", "home"):
        (wanted.folder / name).mkdir(parents=True)
    labs = Labs(
        Account(wanted.user, sys.executable, wanted.folder / "home"),
        wanted.folder / "state",
        wanted.folder / "scratch",
        wanted.cache,
    )
    labs.write("two.yaml", TWO)
    if wanted.user:
        subprocess.run(["chown", "-R", f"{wanted.user}:", str(wanted.folder)], check=True)
    chance = random.Random(wanted.seed)
    try:
        commands = kill_commands(labs, wanted.commands, chance)
        found = kill_daemons(labs, wanted.daemons, chance)
        _say(
            f"{commands.rounds} commands and {found.rounds} daemons, nodes and labs killed: "
            f"{len(commands.bad) + len(found.bad)} went wrong; the slowest to say what died took {found.slowest:.1f} s, "
            f"{found.unnamed} did not name it"
        )
        return 1 if commands.bad or found.bad else 0
    finally:
        labs.run("down", "--all", expect=None)
        shutil.rmtree(wanted.folder)


if __name__ == "__main__":
    sys.exit(main())
