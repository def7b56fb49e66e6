"""Runs the real command line as a user of this machine, each lab in folders of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import pwd
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.command import Command, Server

Process = Command | subprocess.Popen[str]
"""A command in the background."""

FRESH = "OVNLAB_TESTS_FRESH"
"""Set in the environment, each command line gets an interpreter of its own. `make test-all` does so."""

USERS_HOME = "OVNLAB_TESTS_USERS_HOME"
"""The environment variable with the folder in which the ordinary user of all workers has a home."""

MADE = "make-lab.json"
"""What `make lab` came to there, once it has been run for these tests."""

ROOT = Path(__file__).parents[2]
TOPOLOGIES = ROOT / "topologies"

# Where /dev/net/tun is for root only, an ordinary user is given one that is as most distributions have it,
# in a mount namespace of the command: this machine's stays as it is.
_WITH_TUN = (
    "mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun"
    ' && umount -l /mnt && exec "$@"'
)


@dataclass(frozen=True)
class Account:
    """A user of this machine that commands run as, the one that runs the tests where `name` is empty."""

    name: str
    python: str
    home: Path

    @property
    def prefix(self) -> list[str]:
        """What goes before a command to run it as this user."""
        if not self.name:
            return []
        group = pwd.getpwnam(self.name).pw_gid
        drop = ["setpriv", f"--reuid={self.name}", f"--regid={group}", "--clear-groups"]
        if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
            return drop
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", _WITH_TUN, "sh", *drop]

    @property
    def forks(self) -> bool:
        """Whether a server that has ovnlab loaded can stand for a new interpreter."""
        return not os.environ.get(FRESH)

    def environment(self, state: Path, cache: Path | None = None) -> dict[str, str]:
        """Folders of its own, and nothing of the person's who runs the tests."""
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "PIP_", "LANG"))}
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(state),
            "XDG_CACHE_HOME": str(cache or self.home / "cache"),
            "NO_COLOR": "1",
        }


INTERPRETERS = ("PYTHON", "LANG", "LC_")
"""What begins so in an environment is read when an interpreter starts."""


def for_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith(INTERPRETERS)}


class Servers:
    """What forks for the commands of each account, as long as the tests run."""

    def __init__(self) -> None:
        self._running: dict[Account, Server] = {}

    def __getitem__(self, account: Account) -> Server:
        if account not in self._running:
            environment = account.environment(Path("/nonexistent"))
            self._running[account] = Server(account.prefix, account.python, environment)
        return self._running[account]

    def close(self) -> None:
        while self._running:
            self._running.popitem()[1].close()


SERVERS = Servers()


@dataclass
class Labs:
    """The command line of one user, with a state folder of its own."""

    account: Account
    state: Path
    scratch: Path
    cache: Path | None = None
    extra_environment: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        return [*self.account.prefix, self.account.python, "-m", "ovnlab", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.account.environment(self.state, self.cache), **self.extra_environment}

    def _server(self, environment: Mapping[str, str]) -> Server | None:
        """What forks for a command with this environment; None where it takes an interpreter of its own."""
        usual = self.account.environment(self.state)
        if not self.account.forks or for_interpreter(environment) != for_interpreter(usual):
            return None
        return SERVERS[self.account]

    def _begin(
        self, words: Sequence[str], stdin: int = subprocess.DEVNULL, *, session: bool = False, fresh: bool = False
    ) -> Process:
        environment = self.environment
        if not fresh and (forks := self._server(environment)):
            if stdin == subprocess.DEVNULL:
                with Path(os.devnull).open() as nothing:
                    return forks.start(words, environment, self.scratch, stdin=nothing.fileno(), session=session)
            return forks.start(words, environment, self.scratch, stdin=stdin, session=session)
        return subprocess.Popen(
            self.command(*words),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=stdin,
            text=True,
            cwd=self.scratch,
            start_new_session=session,
        )

    def start(self, *words: str, fresh: bool = False) -> Process:
        """A command that goes on in the background, in a process group of its own; `fresh`, an interpreter, too."""
        return self._begin(words, session=True, fresh=fresh)

    def run(
        self, *words: str, expect: int | None = 0, stdin: str | None = None, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A command and what came of it; its exit code must be `expect`. `fresh`, it has an interpreter of its own."""
        with _piped(stdin or "") as reading:
            process = self._begin(words, reading, fresh=fresh)
        try:
            stdout, stderr = process.communicate(timeout=600)
        except BaseException:
            process.kill()
            process.wait()
            raise
        assert process.returncode is not None
        result = subprocess.CompletedProcess(["ovnlab", *words], process.returncode, stdout, stderr)
        assert "Traceback" not in result.stderr, result.stderr
        if expect is not None:
            said = f"{' '.join(words)}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
            assert result.returncode == expect, said
        return result

    def on_a_terminal(self, *words: str, colour: bool = True, question: str = "", answer: str = "") -> str:
        """What a command shows on a terminal of its own; where it asks that question, it is answered."""
        main, terminal = pty.openpty()
        environment = {**self.environment, "TERM": "xterm-256color"}
        if colour:
            environment.pop("NO_COLOR", None)
        process: Command | subprocess.Popen[bytes]
        if forks := self._server(environment):
            process = forks.run(words, environment, self.scratch, [terminal] * 3, session=True)
        else:
            process = subprocess.Popen(
                self.command(*words), env=environment, stdin=terminal, stdout=terminal, stderr=terminal,
                cwd=self.scratch, start_new_session=True,
            )  # fmt: skip
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(main, 65536):
                shown += chunk
                if question and question.encode() in shown:
                    os.write(main, answer.encode() + b"\n")
                    question = ""
        except OSError:  # how a terminal says that nobody has it open any more
            pass
        os.close(main)
        assert process.wait() == 0, shown
        return shown.decode()

    def out(self, *words: str, expect: int = 0) -> str:
        """What a command prints."""
        return self.run(*words, expect=expect).stdout

    def json(self, *words: str, expect: int = 0) -> dict[str, Any]:
        """What a command prints with --json."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", expect=expect).stdout)
        assert found["schema_version"] == 1
        return found

    def on(self, target: str, *command: str, expect: int = 0) -> str:
        """What a command prints on a node or in a fake VM."""
        return self.run("exec", target, "--", *command, expect=expect).stdout

    def end_controller(self, node: str) -> None:
        """ovn-controller ends, leaves what it installed, and is gone when this returns."""
        script = "ovn-appctl -t /run/ovn/ovn-controller.*.ctl exit --restart && while pidof ovn-controller; do sleep 0.02; done"
        self.on(node, "sh", "-c", f"{{ {script}; }} >/dev/null")

    def rows(self, tool: str, *words: str) -> list[dict[str, Any]]:
        """Rows of a database, by `nbctl` or `sbctl` and a list or find command."""
        table = json.loads(self.out(tool, "--format=json", "--data=json", *words))
        return [dict(zip(table["headings"], row, strict=True)) for row in table["data"]]

    def write(self, name: str, text: str) -> str:
        """The path of a topology file with this text."""
        path = self.scratch / name
        path.write_text(text)
        return str(path)

    def give(self, path: Path) -> None:
        """Make what the tests put somewhere the user's whose labs these are."""
        if self.account.name:
            subprocess.run(["chown", "-Rh", f"{self.account.name}:", str(path)], check=True)

    def holder(self, lab: str) -> int:
        return int((self.state / "ovnlab/labs" / lab / "holder.pid").read_text())

    def nodes(self, lab: str) -> dict[str, int]:
        """The PID 1 of each node, as this machine numbers it."""
        return {
            argv[2]: pid
            for pid, argv in processes_with(f"{self.state}/ovnlab/labs/{lab}/node.sh")
            if argv[0] == "sh" and namespaced(pid)
        }

    def audit(self) -> list[str]:
        """What is left of labs of this user: nothing but logs, if all is well.

        A namespace, and with it its interfaces and mounts, lives as long as a process is in it; and every process of a
        lab sees mounts of the state folder, or was started with its path.
        """
        left = [f"process {pid}: {' '.join(argv)}" for pid, argv in processes_with(str(self.state))]
        left += [f"process {pid} in a lab: {name}" for pid, name in processes_that_see(str(self.state))]
        folder = self.state / "ovnlab/labs"
        if folder.exists():
            left += [f"file {path}" for path in folder.iterdir()]
        return left


@contextlib.contextmanager
def _piped(text: str) -> Iterator[int]:
    """The end of a pipe at which a text can be read."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as pipe:
            pipe.write(text)

    threading.Thread(target=write, daemon=True).start() if text else os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)


def processes_with(word: str) -> list[tuple[int, list[str]]]:
    """The processes of this machine with a word in their arguments, the one that asks excepted."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            argv = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        if any(word in argument for argument in argv):
            found.append((int(path.name), argv))
    return found


def processes_that_see(path: str) -> list[tuple[int, str]]:
    """The processes of this machine whose mounts are of a path: all that are in the mount namespaces of a lab."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and path in (process / "mountinfo").read_text():
                found.append((int(process.name), (process / "comm").read_text().strip()))
        except OSError:  # it has ended, or is not ours to see
            continue
    return found


def namespaced(pid: int) -> bool:
    """Whether a process is PID 1 of a PID namespace."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return len(line.split()) > 2 and line.split()[-1] == "1"


def interfaces() -> str:
    """This machine's own network, as `ip` shows it."""
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=False).stdout
    return "\n".join(sorted(line.split(":")[1] for line in shown.splitlines()))


def checkout(into: Path) -> None:
    """Copy the files of this checkout, uncommitted changes included, as a new clone would have them."""
    listed: Sequence[str] = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in listed:
        source, target = ROOT / name, into / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def this_python() -> str:
    return sys.executable
