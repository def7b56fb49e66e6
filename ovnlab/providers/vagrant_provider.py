"""Nodes as virtual machines that Vagrant makes. It makes, halts and destroys them; what they become is up to the tasks.

Vagrant is started once for a whole lab, in a session of its own: killed half-way it would leave what it does not know.
What it prints goes to a log, and is read for its progress. Whether machines answer is found out without it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import vagrant
from msgspec.structs import replace

from ovnlab.atomic_write import write_whole
from ovnlab.errors import HostRequirementError, OvnlabError
from ovnlab.parallel import for_each
from ovnlab.providers.base import DOES_NOT_ANSWER, SUSPENDED
from ovnlab.providers.delivery import deliver
from ovnlab.providers.ssh_machine import MEETING, SshKeys, SshMachine, answering, introduce
from ovnlab.providers.ssh_target import SshTarget
from ovnlab.reporting import Reporter, slowly
from ovnlab.software import images
from ovnlab.state import LabFolder
from ovnlab.tasks.script import run_script
from ovnlab.templating import render
from ovnlab.topology.resolved import Node, Topology
from ovnlab.waiting import wait_until

NOTES = "vagrant.json"
"""The file of the lab's folder that says which machines are settled, and how they are reached."""

BOOT_TIMEOUT = 300
"""Seconds that Vagrant waits for a machine."""

ENDING_TIMEOUT = 300.0
"""Seconds that Vagrant may take to clean up after it was interrupted."""

EARLIER_TIMEOUT = 900.0
"""Seconds that Vagrant may go on after the ovnlab that started it was killed."""

SAID = re.compile(r"^==> ([a-z0-9_-]+): (.+?)\.*$")
"""What Vagrant prints when something begins with a machine."""

ENDS = re.compile(r"[\r\n]|\033\[K")
"""What ends a line, or writes over it."""


STATES = {
    vagrant.Vagrant.RUNNING: DOES_NOT_ANSWER,
    vagrant.Vagrant.SAVED: SUSPENDED,
    vagrant.Vagrant.POWEROFF: "shut off",
    vagrant.Vagrant.SHUTOFF: "shut off",
    vagrant.Vagrant.ABORTED: "crashed",
}
"""What a machine's state is called here that Vagrant calls so; others are called as Vagrant does."""


class VagrantRecord(msgspec.Struct, frozen=True):
    """A machine that knows who it is: Vagrant's id of it, how it is reached, and the host key that it showed first."""

    id: str
    host: str
    port: int
    user: str
    host_key: str


@dataclass(frozen=True)
class Box:
    """The box that a machine is a copy of: its name in Vagrant, and its URL if Vagrant does not know it."""

    name: str
    url: str = ""
    sha256: str = ""


class Driver(vagrant.Vagrant):  # type: ignore[misc]  # it ships no types
    """Vagrant in one folder."""

    def __init__(self, root: Path, log: Path, heard: Callable[[str], None]) -> None:
        unwanted = ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE", "VAGRANT_DOTFILE_PATH")
        environment = {key: value for key, value in os.environ.items() if key not in unwanted}
        environment |= {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"}
        logged = vagrant.make_file_cm(str(log))
        super().__init__(str(root), out_cm=logged, err_cm=logged, env=environment)
        self.log = log
        self.heard = heard

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        """Run Vagrant to its end, also when this process is told to stop: then it is told as well, and waited for."""
        self.await_earlier()
        log = self.log.open("a+")
        place = log.seek(0, os.SEEK_END)  # Vagrant moves it as well
        command = self._make_vagrant_command(args)
        done = threading.Event()
        with (
            log,
            subprocess.Popen(
                command, cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):  # fmt: skip
            self._noted.write_text(str(process.pid))
            listener = threading.Thread(target=self._listen, args=(place, done), daemon=True)
            listener.start()
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(ENDING_TIMEOUT)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                done.set()
                listener.join()
        if code:
            raise subprocess.CalledProcessError(code, command)

    @property
    def _noted(self) -> Path:
        """Return the file with the process ID of the Vagrant that was started last."""
        return Path(self.root) / "vagrant.pid"

    def await_earlier(self, timeout: float = EARLIER_TIMEOUT) -> None:
        """Wait for the Vagrant of an ovnlab that was killed: it goes on, and lets no other one work in its folder.

        Raises Timeout.
        """

        def look() -> bool | None:
            try:
                link = Path(f"/proc/{int(self._noted.read_text())}/cwd").readlink()
            except (OSError, ValueError):  # there was none, or it has ended
                return True
            return None if link == Path(self.root).resolve() else True

        wait_until("the Vagrant of an earlier command", look, timeout=timeout)

    def _listen(self, place: int, done: threading.Event) -> None:
        """Read each line that is written to the log from that position on."""
        with self.log.open(errors="replace") as log:
            log.seek(place)
            begun = ""
            while True:
                last = done.wait(0.2)
                begun += log.read()
                *lines, begun = ENDS.split(begun)
                for line in lines:
                    self.heard(line)
                if last:
                    return


class VagrantProvider:
    """The machines of one lab."""

    def __init__(self, folder: LabFolder, topology: Topology | None, reporter: Reporter) -> None:
        self.folder = folder
        self.topology = topology
        self.reporter = reporter
        self.keys = SshKeys(folder)
        self._machines: dict[str, SshMachine] = {}
        self._answering: dict[str, bool] = {}
        self._last_line = "nothing"

    @property
    def path(self) -> Path:
        """Return the folder of the lab's Vagrantfile."""
        return self.folder.path / "vagrant"

    # ── what is there ────────────────────────────────────────────────────────────────────────────────

    def _ids(self) -> dict[str, str]:
        """Return Vagrant's ids of the machines that it has made, by node."""
        found = {}
        for path in self.path.glob(".vagrant/machines/*/*/id"):
            if text := path.read_text().strip():
                found[path.parts[-3]] = text
        return found

    def _settled(self) -> dict[str, VagrantRecord]:
        """Return the machines that know who they are, and are still those that Vagrant knows."""
        try:
            noted = msgspec.json.decode((self.folder.path / NOTES).read_bytes(), type=dict[str, VagrantRecord])
        except (OSError, msgspec.DecodeError):
            return {}
        ids = self._ids()
        return {name: found for name, found in noted.items() if ids.get(name) == found.id}

    def _note(self, settled: Mapping[str, VagrantRecord]) -> None:
        write_whole(self.folder.path / NOTES, msgspec.json.encode(dict(settled)))

    def defined_nodes(self) -> frozenset[str]:
        """Return the nodes whose machines Vagrant has made."""
        return frozenset(self._ids())

    def is_up(self) -> bool:
        """Return True if any machine of the lab answers."""
        return bool(self.running())

    def running(self) -> frozenset[str]:
        """Return the nodes whose machines answer."""
        settled = self._settled()
        self._answering |= answering(
            self._machine(name, found) for name, found in settled.items() if name not in self._answering
        )
        return frozenset(name for name in settled if self._answering[name])

    def active(self) -> frozenset[str]:
        """Return the nodes whose machines answer: whether others are on takes seconds to find out."""
        return self.running()

    def stopped_reasons(self, names: Collection[str]) -> dict[str, str]:
        """Return what Vagrant says of machines that do not answer: one call, which takes seconds."""
        made = self.defined_nodes() & set(names)
        if not made:
            return {}
        try:
            said = {found.name: str(found.state) for found in self._do("status", lambda found: found.status())}
        except (OvnlabError, HostRequirementError):
            return dict.fromkeys(made, DOES_NOT_ANSWER)
        return {name: STATES.get(said[name], said[name].replace("_", " ")) for name in made if name in said}

    def nodes(self) -> dict[str, SshMachine]:
        """Return the nodes whose machines answer, by name."""
        running = self.running()
        names = [node.name for node in self.topology.nodes] if self.topology else []
        return {name: self._machines[name] for name in names if name in running}

    def node(self, name: str) -> SshMachine:
        """Return a node whose machine answers. Raises OvnlabError where it does not."""
        found = self.nodes().get(name)
        if found is None:
            raise OvnlabError("is not running", where=name, hint=f"{self.folder.up_command()} brings it back")
        return found

    def _reach(self, found: VagrantRecord) -> SshTarget:
        keys = (self.keys.private,)
        return SshTarget(found.host, found.port, found.user, keys, self.keys.known_hosts, sudo=found.user != "root")

    def _machine(self, name: str, found: VagrantRecord) -> SshMachine:
        if name not in self._machines:
            self._machines[name] = SshMachine(name, self._reach(found), self.keys.config)
        return self._machines[name]

    # ── making ───────────────────────────────────────────────────────────────────────────────────────

    def _vagrant(self) -> Driver:
        """Return Vagrant in the lab's folder. Raises HostRequirementError where it is not installed."""
        if shutil.which("vagrant") is None:
            raise HostRequirementError(
                "Vagrant is not installed",
                where="provider vagrant",
                hint="sudo apt-get install vagrant vagrant-libvirt, or see developer.hashicorp.com/vagrant",
            )
        return Driver(self.path, self._log, self._heard)

    @property
    def _log(self) -> Path:
        return self.folder.logs / "vagrant.log"

    def _heard(self, line: str) -> None:
        if line.strip():
            self._last_line = line.strip()
        said = SAID.match(line)
        if said is not None:
            self.reporter.node(said[1], said[2][:1].lower() + said[2][1:])

    def _do(self, what: str, do: Callable[[Driver], Any]) -> Any:
        """Let Vagrant do something. Raises OvnlabError with what it said last."""
        before = self._log.stat().st_size if self._log.exists() else 0
        try:
            with slowly(self.reporter, lambda: f"waiting for vagrant {what}, which said last: {self._last_line}"):
                return do(self._vagrant())
        except subprocess.CalledProcessError as error:
            with self._log.open(errors="replace") as log:
                log.seek(before)
                lines = [line for line in ENDS.split(log.read()) if line.strip()]
            told = [
                line
                for line in lines
                if not SAID.match(line) and not line.startswith(("    ", "Progress:", "Bringing machine"))
            ]
            raise OvnlabError(
                f"vagrant {what} failed with exit code {error.returncode}",
                where=f"lab {self.folder.name}",
                detail="\n".join(told[-12:]),
                hint=f"all that it said is in {self._log}",
            ) from None

    def add(self, topology: Topology, names: Sequence[str]) -> None:
        """Make machines, or start them again, and let them know who they are."""
        self.topology = topology
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.keys.make()
        others = self._ids().keys() - {node.name for node in topology.nodes}
        text = vagrantfile(topology, str(self.keys.private), box_of, sorted(others))
        (self.path / "Vagrantfile").write_text(text)
        settled = self._settled()
        if names:
            self._do("up", lambda found: found.up())
            from paramiko import SSHConfig  # noqa: PLC0415  for new machines only

            said = self._do("ssh-config", lambda found: found.ssh_config())
            found = SSHConfig.from_text(said)
            nodes = [node for node in topology.nodes if node.name in names]
            settled |= dict(for_each(nodes, lambda node: (node.name, self._settle(node, found.lookup(node.name)))))
            self._note(settled)
        reaches = {name: self._reach(found) for name, found in settled.items()}
        self.keys.write_known_hosts((reaches[name], found.host_key) for name, found in settled.items())
        self.keys.write_config(topology, reaches)
        self._machines.clear()
        self._answering.clear()
        with slowly(self.reporter, MEETING):
            introduce(self.nodes().values(), topology)

    def _settle(self, node: Node, said: Mapping[str, Any]) -> VagrantRecord:
        """Let a machine know who it is, reached as Vagrant says. The host key that it shows first is its host key."""
        host, port, user = said["hostname"], int(said.get("port", 22)), said["user"]
        keys = tuple(Path(key.strip('"')) for key in said["identityfile"])
        known = self._settled().get(node.name)
        pinned = self.keys.path / f"first-{node.name}"
        reach = SshTarget(host, port, user, (self.keys.private, *keys), pinned, sudo=user != "root")
        host_key = known.host_key if known else _shown_key(reach)
        pinned.write_text(f"{reach.known_name} {host_key}\n")
        script = render(
            "vagrant/settle.sh.j2",
            node=node,
            hostname=node.name.replace("_", "-"),
            nics=_nics(topology=self.topology, node=node),
            user=user,
            authorized=self.keys.public,
        )
        self.keys.close(node.name)  # what is kept is of a machine that has ended
        with SshMachine(node.name, reach, self.keys.config).root as context:
            run_script(context, script, where=f"{node.name}: becoming a node")
        if reach.sudo and self._lets_root_in(node.name, reach):
            user = "root"
        pinned.unlink()
        return VagrantRecord(self._ids()[node.name], host, port, user, host_key)

    def _lets_root_in(self, name: str, reach: SshTarget) -> bool:
        """Return True if a machine lets root in with the lab's key: sudo takes half a second of an emulated CPU a
        command.
        """
        own = replace(reach, user="root", keys=(self.keys.private,), sudo=False)
        try:
            with SshMachine(name, own, self.keys.config).root as context:
                run_script(context, "true", where=f"{name}: letting root in")
        except OvnlabError:
            return False
        return True

    def deliver(self, builds: Mapping[str, str]) -> None:
        """Bring builds to the machines."""
        deliver(self.nodes(), builds, self.reporter.note)

    # ── going away ───────────────────────────────────────────────────────────────────────────────────

    def stop(self, names: Sequence[str]) -> None:
        """Halt machines; their disks stay."""
        self._each(names, "halt", lambda found, name: found.halt(vm_name=name, force=True))

    def remove(self, names: Sequence[str]) -> None:
        """Remove machines and their disks."""
        self._each(names, "destroy", lambda found, name: found.destroy(vm_name=name))

    def _each(self, names: Sequence[str], what: str, do: Callable[[Driver, str], None]) -> None:
        for name in sorted(self._ids().keys() & set(names)):
            self.keys.close(name)
            self._do(what, lambda found, name=name: do(found, name))  # type: ignore[misc]  # mypy knows no such default
            self._machines.pop(name, None)
            self._answering.pop(name, None)

    def destroy(self) -> None:
        """Remove all machines of the lab, also those that Vagrant has only begun to make, and its files."""
        made = self.defined_nodes()
        if made or ((self.path / "Vagrantfile").exists() and shutil.which("vagrant") is not None):
            for name in made:
                self.keys.close(name)
            if not (self.path / "Vagrantfile").exists():
                (self.path / "Vagrantfile").write_text(render("vagrant/lost.j2", names=sorted(made)))
            self._do("destroy", lambda found: found.destroy())
        self.folder.remove()

    # ── looking at it ────────────────────────────────────────────────────────────────────────────────

    def render(self, topology: Topology) -> list[tuple[str, str]]:
        """Return the Vagrantfile, as a person can use it without ovnlab."""

        def box(node: Node) -> Box:
            try:
                return box_of(node)
            except OvnlabError:  # one that is not made yet
                return Box(node.machine.image)

        return [("Vagrantfile", vagrantfile(topology, "", box))]


def vagrantfile(topology: Topology, key: str, box: Callable[[Node], Box], others: Sequence[str] = ()) -> str:
    """Return the Vagrantfile of a lab; `key` is the file of the lab's private key, empty where Vagrant has keys of its
    own.

    `others` are machines that are there and not in the topology any more.
    """
    settings = topology.libvirt
    machines = [
        {
            **msgspec.structs.asdict(node.machine),
            "name": node.name,
            "box": box(node),
            "nics": _nics(topology, node),
        }
        for node in topology.nodes
    ]
    return render(
        "Vagrantfile.j2",
        lab=topology.name,
        machines=machines,
        boot_timeout=BOOT_TIMEOUT,
        key=key,
        others=others,
        pool=settings.pool,
        subnet=settings.subnet,
        mode={"isolated": "none"}.get(settings.network, settings.network),
        driver=settings.accelerate if settings.accelerate != "auto" else ("kvm" if has_kvm() else "qemu"),
    )


def _nics(topology: Topology | None, node: Node) -> list[dict[str, Any]]:
    """Return the NICs of a node beside the one that it is reached by."""
    assert topology is not None  # noqa: S101  set before machines are made
    found: list[dict[str, Any]] = []
    if node.ip:
        own = ipaddress.ip_interface(node.cidr)
        # Vagrant's own configuration of a NIC knows no IPv6 that all boxes understand.
        address = {"ip": node.ip, "netmask": str(own.netmask)} if own.version == 4 else {"ip": "", "netmask": ""}
        network, mtu = f"ovnlab-{topology.name}-{node.segment}", topology.underlay.mtu
        found.append({"device": "eth1", "mac": node.mac, "network": network, "mtu": mtu, **address})
    for nic in node.nics:
        network = f"ovnlab-{topology.name}-{nic.network}"
        found.append({"device": nic.device, "mac": nic.mac, "network": network, "mtu": 1500, "ip": "", "netmask": ""})
    return found


def box_of(node: Node) -> Box:
    """Return the box of a node. Raises OvnlabError where its file is not there."""
    image = node.machine.image
    own = images.find(image) if images.NAME.fullmatch(image) else None
    if own is not None and own.box.exists():
        return Box(f"ovnlab-{own.name}-{own.key}", own.box.as_uri())
    if "://" in image:
        return Box(f"ovnlab-{node.machine.sha256[:16]}", image, node.machine.sha256)
    if not image.startswith("/"):
        if images.NAME.fullmatch(image):
            hint = f"ovnlab image build {image} --box"
            raise OvnlabError(f"unknown box {image}", where=node.name, hint=hint)
        return Box(image)
    try:
        return Box(f"ovnlab-{Path(image).stem}-{images.identity(Path(image))}", Path(image).as_uri())
    except OSError as error:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=f"{node.name}: box {image}") from None


def has_kvm() -> bool:
    """Return True if this machine can run others by hardware, as its processor and its kernel say."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    if os.uname().machine != "x86_64":
        return True
    flags = Path("/proc/cpuinfo").read_text()
    return re.search(r"^flags\s*:.*\b(vmx|svm)\b", flags, re.MULTILINE) is not None


def _shown_key(reach: SshTarget) -> str:
    from ovnlab.providers.fabric_connection import shown_key  # noqa: PLC0415  for new machines only

    return shown_key(reach)
