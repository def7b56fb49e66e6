"""A hypervisor for tests: libvirtd in namespaces of its own, and an image made on the spot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tests.lab.harness import ROOT, Account, Labs, interfaces

NEEDED = {
    "libvirtd": "libvirt-daemon-system",
    "virtlogd": "libvirt-daemon-system",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "xmllint": "libxml2-utils",
    "dnsmasq": "dnsmasq-base",
    "iptables": "iptables",
    "vagrant": "vagrant",
    "grub-mkimage": "grub-common",
    "sfdisk": "fdisk",
}

HOSTS = ("h1", "h2")
UNDERLAY = {f"h{number}": f"192.168.50.{10 + number}" for number in (1, 2, 3)}
"""Machines that are there already, and the addresses on the underlay of these and of one more."""

# PID 1 of the hypervisor. It reaps: libvirt waits for machines that have ended to be gone.
HYPERVISOR = """
set -eu
folder=$1
mount -t tmpfs tmpfs /run
mkdir -p /run/libvirt /run/lock /var/cache/libvirt /var/log/libvirt
cp -a /etc/libvirt "$folder"/etc
rm -rf "$folder"/etc/storage "$folder"/etc/qemu/autostart "$folder"/etc/qemu/*.xml  # pools and machines of this machine's own
printf 'user = "root"\\ngroup = "root"\\nremember_owner = 0\\nstdio_handler = "file"\\n' >>"$folder"/etc/qemu.conf
mkdir "$folder"/lib "$folder"/log "$folder"/cache
mount --bind "$folder"/etc /etc/libvirt
mount --bind "$folder"/lib /var/lib/libvirt
mount --bind "$folder"/log /var/log/libvirt
mount --bind "$folder"/cache /var/cache/libvirt
ip link set dev lo up
virtlogd -d
libvirtd -d
echo ready
exec >/dev/null 2>&1
trap 'exit 0' TERM
while :; do
    sleep 100000 &
    wait $! || :
done
"""


@dataclass(frozen=True)
class Inside(Account):
    """Root in the namespaces of a hypervisor."""

    pid: int = 0

    @property
    def forks(self) -> bool:
        return False  # processes have other numbers there

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--wdns=/"]


def lacking() -> list[str]:
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    packages = {package for program, package in NEEDED.items() if shutil.which(program, path=path) is None}
    modules = [name for name in ("libvirt", "pycdlib", "vagrant") if importlib.util.find_spec(name) is None]
    return [*sorted(packages), *(f"the Python package {name}" for name in modules)]


@pytest.fixture(scope="package")
def cache(root: Account, session_folder: Path) -> Path:
    """A cache with an image in it."""
    if missing := lacking():
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    labs = Labs(root, session_folder / "vm-state", session_folder)
    made = labs.run("image", "build", "--box", "--json")
    assert "openvswitch-switch" in made.stdout
    return root.home / "cache"


@pytest.fixture(scope="package")
def hypervisor(root: Account, cache: Path, session_folder: Path) -> Iterator[Account]:
    """libvirtd, with networks, processes and files that nobody else sees."""
    folder = session_folder / "hypervisor"
    folder.mkdir()
    before = interfaces()
    die_with_us = ["setpriv", "--pdeathsig", "KILL"]
    command = [
        *die_with_us,
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        HYPERVISOR,
    ]
    process = subprocess.Popen([*command, "sh", str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Inside("", root.python, root.home, int(children[0]))
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(folder)
    assert interfaces() == before


COUNTED = """
import sys
from ovnlab.cli import app
from ovnlab.nodes.context import ProcessContext
run, ran = ProcessContext.run, []
ProcessContext.run = lambda *words, **options: ran.append(words) or run(*words, **options)
code = app.run(["status", "--lab", sys.argv[1]])
print(len(ran), "scripts")
sys.exit(code)
"""


def scripts(labs: Labs, lab: str) -> int:
    """How many scripts `status` of a lab runs on its nodes."""
    command = [*labs.account.prefix, labs.account.python, "-c", COUNTED, lab]
    done = subprocess.run(command, env=labs.environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0])


def virsh(account: Account, *words: str) -> list[str]:
    """The words that virsh prints."""
    command = [*account.prefix, "virsh", "--connect", "qemu:///system", "--quiet", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def of_labs(account: Account) -> list[str]:
    """What is in libvirt that is a lab's: machines, networks, volumes; not what several labs share."""
    pools = virsh(account, "pool-list", "--name")
    volumes = virsh(account, "vol-list", "default")[::2] if "default" in pools else []
    domains = virsh(account, "list", "--all", "--name")
    networks = virsh(account, "net-list", "--all", "--name")
    found = [name for name in [*domains, *networks] if name.startswith("ovnlab-")]
    return found + [
        name
        for name in volumes
        if name.startswith("ovnlab-")
        and name.endswith((".qcow2", ".iso", ".img"))
        and name.count("-") > 1
        and "_vagrant_box_image_" not in name
    ]


def vm_labs(hypervisor: Account, folder: Path, cache: Path) -> Iterator[Labs]:
    folder.mkdir()
    (folder / "scratch").mkdir()
    before = of_labs(hypervisor)
    labs = Labs(hypervisor, folder / "state", folder / "scratch", cache)
    try:
        yield labs
    finally:
        labs.extra_environment.clear()
        labs.run("down", "--all", "--forget")
        assert not any((folder / "state/ovnlab/labs").glob("*"))
        shutil.rmtree(folder)
    assert of_labs(hypervisor) == before


@pytest.fixture
def machines(hypervisor: Account, cache: Path, session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Labs]:
    """The command line beside a hypervisor; nothing of its labs may be left there."""
    yield from vm_labs(hypervisor, session_folder / f"vm-{os.getpid()}-{abs(hash(request.node.nodeid)):x}", cache)


NODES = {"central": "central", "worker1": "worker", "worker2": "worker"}

FILE = """
name: everywhere
provider: {provider}
machines: {machines}
nodes:
{nodes}
logical:
  switches:
    red:
      subnet: 10.1.0.0/24
      ports: {{vm1: {{chassis: worker1, ip: 10.1.0.11}}, vm2: {{chassis: worker2, ip: 10.1.0.12}}}}
    blue:
      subnet: 10.2.0.0/24
      ports: {{vm3: {{chassis: worker2, ip: 10.2.0.11, serve: [80, 23]}}{more}}}
  routers:
    r: {{ports: {{red: {{ip: 10.1.0.1/24}}, blue: {{ip: 10.2.0.1/24}}}}}}
  acls:
    - {{switch: blue, direction: to-lport, priority: 100, match: tcp.dst == 23, action: drop}}
checks:
  - {{ping: vm2, from: vm1}}
  - {{ping: vm3, from: vm1}}
  - {{tcp: 'vm3:80', from: vm1}}
  - {{tcp: 'vm3:23', from: vm1, expect: unreachable}}
"""


@dataclass
class Everywhere:
    """A lab of that file on one kind of node."""

    provider: str
    labs: Labs
    machines: str
    own: dict[str, str]

    def write(self, more: str = "") -> str:
        nodes = "".join(f"  {name}: {{role: {role}{self.own.get(name, '')}}}\n" for name, role in NODES.items())
        text = FILE.format(provider=self.provider, machines=self.machines, nodes=nodes, more=more)
        return self.labs.write("everywhere.yaml", text)

    def up(self, more: str = "") -> list[str]:
        """What `up` did."""
        return list(self.labs.json("up", self.write(more))["steps"])

    def on(self, node: str, *command: str) -> str:
        return self.labs.out("exec", "--lab", "everywhere", node, "--", *command)

    def pids(self) -> dict[tuple[str, str], int]:
        status = self.labs.json("status", "--lab", "everywhere")
        return {(node["name"], found["name"]): found["pid"] for node in status["nodes"] for found in node["daemons"]}

    def checks(self) -> tuple[int, int]:
        """How many checks of the file hold, and how many of all do not."""
        found = self.labs.json("test", "--lab", "everywhere")
        return sum(one["ok"] for one in found["checks"]), found["failed"]


@pytest.fixture(scope="package")
def virtual(hypervisor: Account, cache: Path, session_folder: Path) -> Iterator[Everywhere]:
    """A lab of that file on virtual machines, up."""
    for labs in vm_labs(hypervisor, session_folder / "vm-virtual", cache):
        found = Everywhere("libvirt", labs, "{}", {})
        found.up()
        yield found


@dataclass
class Hosts:
    """Machines, and the command line that knows them by their addresses only."""

    labs: Labs

    @property
    def keys(self) -> Path:
        return self.labs.state / "ovnlab/labs/hosts/ssh"

    @cached_property
    def addresses(self) -> dict[str, str]:
        nodes = self.labs.json("validate", str(self.labs.scratch / "hosts.yaml"))["topology"]["nodes"]
        return {node["name"]: node["machine"]["address"] for node in nodes}

    def have(self, *hosts: str) -> None:
        """Make these, and no others."""
        plain = "".join(f"  {host}: {{role: host, ip: {UNDERLAY[host]}, physical: [wire]}}\n" for host in hosts)
        path = self.labs.write(
            "hosts.yaml",
            "name: hosts\nprovider: libvirt\nphysical_networks: {wire: {subnet: 10.200.0.0/24}}\n"
            f"nodes:\n  gate: {{role: central, chassis: false}}\n{plain}",
        )
        self.labs.run("up", path)
        self.__dict__.pop("addresses", None)
        for host in hosts:  # a NIC for physical networks, which nobody uses yet
            self.on(host, "ip address flush dev eth2")

    def write(self, machines: str = "", **more: str) -> str:
        nodes = "".join(
            f"  {name}: {{role: {role}, host: {self.addresses[host]}, ip: {UNDERLAY[host]}{more.get(name, '')}}}\n"
            for (name, role), host in zip((("c1", "central"), ("w1", "worker")), HOSTS, strict=True)
        )
        machines = machines or f"{{key: {self.keys}/key, known_hosts: {self.keys}/known_hosts}}"
        ports = "{vm1: {chassis: c1, ip: 10.1.0.11}, vm2: {chassis: w1, ip: 10.1.0.12}}"
        return self.labs.write(
            "there.yaml",
            f"name: there\nprovider: ssh\nmachines: {machines}\nnodes:\n{nodes}"
            f"logical: {{switches: {{s: {{subnet: 10.1.0.0/24, ports: {ports}}}}}}}\n"
            "checks: [{ping: vm2, from: vm1}]\n",
        )

    def on(self, host: str, script: str) -> str:
        """What a script prints on a machine, by a lab that has nothing to do with the one under test."""
        words = [*self.labs.account.prefix, "ssh", "-F", f"{self.keys}/config", host, script]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def inside(self, node: str, *command: str) -> str:
        """What a command prints on a node of the lab under test."""
        return self.labs.out("exec", "--lab", "there", node, "--", *command)

    def checks_hold(self) -> bool:
        return bool(self.labs.json("test", "--lab", "there")["failed"] == 0)


@pytest.fixture(scope="package")
def hosts(hypervisor: Account, cache: Path, session_folder: Path) -> Iterator[Hosts]:
    for labs in vm_labs(hypervisor, session_folder / "vm-hosts", cache):
        found = Hosts(labs)
        found.have(*HOSTS)
        yield found
