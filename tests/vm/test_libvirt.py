"""The same topology on virtual machines: real libvirt, real QEMU, the kernel's datapath."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ovnlab.waiting import wait_until
from tests.lab import trees
from tests.lab.harness import Account, Labs, Process
from tests.vm.conftest import Everywhere, Inside, of_labs, virsh, vm_labs


def daemons(labs: Labs) -> dict[tuple[str, str], int]:
    return {(n["name"], d["name"]): d["pid"] for n in labs.json("status")["nodes"] for d in n["daemons"]}


@pytest.mark.thorough
@pytest.mark.usefixtures("built")
def test_an_image_that_has_what_was_built(machines: Labs, root: Account, cache: Path, session_folder: Path) -> None:
    maker = Labs(root, session_folder / "vm-state", session_folder, cache)  # the hypervisor itself reaches no mirror
    nothing = maker.run("image", "build", "built", "--for", "3node", expect=2).stderr
    assert "there is nothing to build: 3node runs packages" in nothing
    (key,) = maker.json("image", "build", "built", "--for", "3node-distro-source")["builds"]
    assert f"build {key}" in maker.out("image", "ls")
    text = "name: built\nprovider: libvirt\nsoftware: {ovs: {distro: true}}\nmachines: {image: built}\n"
    path = machines.write("built.yaml", text + "nodes: {central: {role: central}}\n")
    try:
        assert "bringing build" not in machines.run("up", path).stderr
        running = machines.on("central", "sh", "-c", "readlink /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)/exe")
        assert running.strip() == f"/opt/ovnlab/builds/{key}/sbin/ovs-vswitchd"
    finally:
        maker.run("image", "rm", "built")


def test_what_is_defined_passes_libvirts_own_validation(hypervisor: Account, machines: Labs) -> None:
    path = machines.write(
        "rich.yaml",
        """
name: rich
provider: libvirt
underlay: {mtu: 9000}
machines: {memory: 768M, xml: "<watchdog model='i6300esb' action='reset'/>"}
libvirt: {network: route, subnet: 10.99.0.0/24}
physical_networks: {external: {}}
nodes:
  central: {role: central, cpus: 2, cpu: host-model, disk: 8G}
  gw1: {role: gateway, physical: [external], disks: [1G, 512M], machine: q35}
""",
    )
    for number, found in enumerate(machines.json("render", path, "--only", "xml$")["scripts"]):
        (machines.scratch / f"{number}.xml").write_text(found["text"])
        kind = "domain" if ".domain." in found["title"] else "network"
        command = ["virt-xml-validate", str(machines.scratch / f"{number}.xml"), kind]
        result = subprocess.run([*hypervisor.prefix, *command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{found['title']}: {result.stdout}{result.stderr}"
    assert number == 4


def test_an_interrupted_up_leaves_nothing_and_what_is_somebody_elses_stays(machines: Labs, hypervisor: Account) -> None:
    path = machines.write("one.yaml", "name: one\nprovider: libvirt\nnodes: {central: {role: central}}\n")
    foreign = "<network><name>ovnlab-one-underlay</name></network>"
    (machines.scratch / "net.xml").write_text(foreign)
    virsh(hypervisor, "net-define", str(machines.scratch / "net.xml"))
    error = machines.run("up", path, expect=2).stderr
    assert "there is a libvirt network ovnlab-one-underlay that is not of this lab" in error
    machines.run("down", "--all")
    assert [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")] == ["ovnlab-one-underlay"]
    virsh(hypervisor, "net-undefine", "ovnlab-one-underlay")
    process = begin(machines, path)
    process.send_signal_inside(signal.SIGINT)
    assert process.ended() == 130
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]


def test_up_goes_on_with_machines_that_boot(machines: Labs, hypervisor: Account) -> None:
    """Who interrupts twice is told what stays; who was killed finds machines that are on and do not answer yet."""
    path = machines.write("one.yaml", "name: one\nprovider: libvirt\nnodes: {central: {role: central}}\n")
    process = begin(machines, path)
    process.send_signal_inside(signal.SIGINT)
    said = process.until("taking back lab one")
    process.send_signal_inside(signal.SIGINT)
    assert process.ended() == 130
    said += process.rest
    left = [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]
    told = f"lab one stays as far as it came: `ovnlab up {path}` goes on with it, `ovnlab down one` removes it"
    assert (told in said) == bool(left), said
    machines.run("down", "one")
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]
    process = begin(machines, path)
    with silent(machines, path, "central"):  # however quickly it boots
        process.send_signal_inside(signal.SIGKILL)
        process.ended()
        assert machines.json("ls")["labs"][0]["state"] == "coming up"
        status = machines.json("status")
        assert (status["state"], status["nodes"][0]["state"]) == ("coming up", "coming up")
        assert "is switched on, and does not answer" in machines.run("exec", "central", "--", "true", expect=1).stderr
        process = Begun(machines.start("up", path, fresh=True))
        assert "central: waiting for SSH on 10." in process.until("waiting for SSH")
    assert process.ended() == 0, process.rest
    assert machines.json("ls")["labs"][0]["state"] == "up"
    assert machines.json("down")["kept"] == ["one"]
    assert [(lab["name"], lab["state"]) for lab in machines.json("ls")["labs"]] == [("one", "kept")]
    assert machines.json("down", "--forget")["forgotten"] == ["one"]
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-one")]


@contextlib.contextmanager
def silent(machines: Labs, path: str, node: str) -> Iterator[None]:
    """Let nobody on the hypervisor log in to a node of that file."""
    nodes = machines.json("validate", path)["topology"]["nodes"]
    address = next(found["machine"]["address"] for found in nodes if found["name"] == node)
    rule = ("OUTPUT", "--destination", address, "--protocol", "tcp", "--dport", "22", "--jump", "REJECT")
    iptables = [*machines.account.prefix, "iptables"]
    subprocess.run([*iptables, "--insert", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*iptables, "--delete", *rule], check=True)


@dataclass
class Begun:
    """An `up` that has begun to boot a machine, with what it has said so far."""

    process: Process
    rest: str = ""

    def send_signal_inside(self, number: int) -> None:
        """Send a signal to ovnlab itself; nsenter ends with its exit code."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), number)

    def until(self, word: str) -> str:
        """Return what is said up to a line with that word, or to the end."""
        assert isinstance(self.process, subprocess.Popen)
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if word in line:
                break
        return said

    def ended(self) -> int:
        """Return the exit code; what was said since is in `rest`."""
        self.rest = self.process.communicate(timeout=300)[1]
        assert self.process.returncode is not None
        return self.process.returncode


def begin(machines: Labs, path: str) -> Begun:
    """Begin to bring lab one up, and return when its machine is on."""
    process = machines.start("up", path, fresh=True)
    while "ovnlab-one-central" not in virsh(machines.account, "list", "--state-running", "--name"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    return Begun(process)


def test_machines_that_no_route_leads_to_are_not_waited_for(
    root: Account, hypervisor: Account, cache: Path, session_folder: Path
) -> None:
    """The hypervisor is that of other namespaces; its libvirtd is reached by a file, its networks are not."""
    assert isinstance(hypervisor, Inside)
    (folder := session_folder / "vm-far").mkdir()
    labs = Labs(root, folder / "state", folder, cache)
    socket = f"/proc/{hypervisor.pid}/root/run/libvirt/libvirt-sock"
    path = labs.write(
        "far.yaml",
        f"name: far\nprovider: libvirt\nmachines: {{uri: 'qemu+unix:///system?socket={socket}'}}\n"
        "nodes: {central: {role: central}}\n",
    )
    error = labs.run("up", path, expect=1).stderr
    assert "no route from here to 10." in error
    assert "reach a hypervisor that is elsewhere by uri: qemu+ssh://USER@HOST/system" in error
    assert labs.json("ls")["labs"] == []
    assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-far")]
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("machines: {image: nowhere}", 1, "unknown image nowhere\n  → ovnlab image build nowhere"),
        ("machines: {image: ./missing.qcow2}", 1, "cannot be read: No such file or directory"),
        ("machines: {uri: 'qemu+unix:///system?socket=/nowhere'}", 3, "libvirt cannot be reached"),
        ("libvirt: {pool: elsewhere}", 1, "unknown storage pool elsewhere"),
        ("libvirt: {subnet: 10.98.0.0/24}", 1, "already in use"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said(machines: Labs, hypervisor: Account, more: str, code: int, said: str) -> None:
    path = machines.write("bad.yaml", f"name: bad\nprovider: libvirt\nnodes: {{central: {{role: central}}}}\n{more}\n")
    ip = [*hypervisor.prefix, "ip"]
    subprocess.run([*ip, "link", "add", "taken", "type", "bridge"], check=True)
    subprocess.run([*ip, "address", "add", "10.98.0.1/24", "dev", "taken"], check=True)
    subprocess.run([*ip, "link", "set", "taken", "up"], check=True)
    try:
        assert said in machines.run("up", path, expect=code).stderr
        assert machines.json("ls")["labs"] == [], "a lab that holds nothing is none"
        assert not [name for name in of_labs(hypervisor) if name.startswith("ovnlab-bad")]
    finally:
        subprocess.run([*ip, "link", "del", "taken"], check=True)


TWO = """
name: two
provider: libvirt
nodes: {central: {role: central}, worker1: {}}
logical: {switches: {s: {subnet: 10.1.0.0/24, ports: {a: {chassis: worker1, ip: 10.1.0.11}}}}}
"""


def boot_id(labs: Labs, node: str) -> str:
    return labs.on(node, "cat", "/proc/sys/kernel/random/boot_id")


def running_machines(labs: Labs) -> list[str]:
    found = virsh(labs.account, "list", "--state-running", "--name")
    return [name for name in found if name.startswith("ovnlab-everywhere")]


def knows_the_time(labs: Labs) -> bool:
    before = time.time()
    shown = float(labs.on("worker1", "date", "+%s.%N"))
    return before - 3 < shown < time.time() + 3


def boot_ids(labs: Labs) -> list[str]:
    return [boot_id(labs, node["name"]) for node in labs.json("status")["nodes"]]


@pytest.mark.thorough
def test_what_is_kept_is_for_the_same_topology_only(machines: Labs, hypervisor: Account) -> None:
    path = machines.write("two.yaml", TWO)
    machines.run("up", path)
    boots = boot_ids(machines)
    machines.run("down")
    smaller = machines.write(
        "two.yaml", TWO.replace(", worker1: {}", "").replace("chassis: worker1", "chassis: central")
    )
    machines.run("up", smaller)
    assert boot_id(machines, "central") not in boots
    # Of a machine that there is none of any more, nothing is left.
    assert not [name for name in of_labs(hypervisor) if "two-worker1" in name]


@pytest.fixture(scope="class")
def one(hypervisor: Account, cache: Path, session_folder: Path) -> Iterator[Labs]:
    """The command line, with a lab of one machine."""
    yield from vm_labs(hypervisor, session_folder / "vm-one", cache)


@pytest.fixture(scope="class")
def image(one: Labs) -> Path:
    """The folder of the image that there is."""
    return Path(one.json("image", "ls")["images"][0]["path"])


@contextlib.contextmanager
def served(labs: Labs, folder: Path) -> Iterator[str]:
    """The URL of a folder on a server on the hypervisor, as there is no other that it reaches."""
    serve = ("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "8099")
    server = subprocess.Popen([*labs.account.prefix, *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with server:
        try:
            listens = [*labs.account.prefix, "bash", "-c", "</dev/tcp/127.0.0.1/8099"]
            ask = functools.partial(subprocess.run, listens, stderr=subprocess.DEVNULL, check=False)
            wait_until("a server", lambda: ask().returncode == 0 or None, timeout=30)
            yield "http://127.0.0.1:8099"
        finally:
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)


def impatient(labs: Labs, seconds: float, path: str) -> subprocess.CompletedProcess[str]:
    """Bring a lab up with less patience than five minutes."""
    patched = (
        f"import ovnlab.providers.libvirt.libvirt_provider as p; p.BOOT_TIMEOUT = {seconds}; "
        "import ovnlab.__main__ as m; m.main()"
    )
    command = [*labs.account.prefix, labs.account.python, "-c", patched, "up", path]
    return subprocess.run(command, env=labs.environment, cwd=labs.scratch, capture_output=True, text=True, check=False)


ONE_NODE = "nodes: {central: {role: central}}\n"


class TestOneMachine:
    """What may be wrong with a machine, and what `up` makes of it then."""

    def write(self, one: Labs, image: Path, disk: str) -> str:
        return one.write(
            "one.yaml",
            "name: one\nprovider: libvirt\nnodes: {central: {role: central}}\n"
            f"machines: {{{disk}, kernel: {image}/vmlinuz, initrd: {image}/initrd.img}}\n",
        )

    def test_it_never_boots(self, one: Labs, image: Path) -> None:
        """Its disk, which is downloaded, is not the one that is meant, and then is empty: the kernel finds nothing."""
        (one.scratch / "empty.img").write_bytes(bytes(2**20))
        total = hashlib.sha256(bytes(2**20)).hexdigest()
        with served(one, one.scratch) as url:
            path = self.write(one, image, f"image: '{url}/empty.img', sha256: {total}")
            other = ("--set", f"machines.sha256={'a' * 64}")
            assert f"its SHA-256 sum is {total}, not aaa" in one.run("up", path, *other, expect=1).stderr
            result = impatient(one, 12, path)
        assert result.returncode == 1
        assert f"downloading {url}/empty.img" in result.stderr
        assert "central: waited 12 s for SSH on " in result.stderr
        assert "its kernel was starting, after 1" in result.stderr
        assert re.search(r"central: waiting for SSH on \S+ \(5 s so far, 12 s at most\): .*console", result.stderr)
        assert f"lab one stays as far as it came: `ovnlab up {path}` goes on with it" in result.stderr
        assert "Traceback" not in result.stderr

    def test_images_leave_the_pool(self, one: Labs, image: Path) -> None:
        """A copy that a disk is backed by stays; one that nothing needs goes."""
        key, root = "d" * 16, image.parent
        shutil.copytree(image, root / key, ignore=shutil.ignore_patterns("disk.*"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", root / key / "disk.qcow2", "64M"], check=True)
        about = json.loads((image / "image.json").read_text())
        (root / key / "image.json").write_text(json.dumps({**about, "name": "tiny", "key": key}))
        (root / "names/tiny").symlink_to(f"../{key}")
        path = one.write("tiny.yaml", "name: tiny\nprovider: libvirt\nmachines: {image: tiny}\n" + ONE_NODE)
        result = impatient(one, 1, path)
        assert "waited 1 s for SSH" in result.stderr
        copy = f"ovnlab-{key}.qcow2"
        removed = one.json("image", "rm", "tiny")
        assert [found["name"] for found in removed["copies_removed"]] == []
        (used,) = removed["copies_in_use"]
        assert (used["name"], used["users"][0][:20]) == (copy, "ovnlab-tiny-central-")
        assert copy in virsh(one.account, "vol-list", "default")
        one.run("down", "tiny")
        code = "from ovnlab.providers import copies; print(*copies.remove([c.name for c in copies.unused(print)], print)[0])"
        command = [*one.account.prefix, one.account.python, "-c", code]
        told = subprocess.run(command, env=one.environment, capture_output=True, text=True, check=True).stdout
        assert f"{copy} in storage pool default of qemu:///system" in told
        left = virsh(one.account, "vol-list", "default")
        assert copy not in left
        assert f"ovnlab-{about['key']}.qcow2" in left, "an image of the cache stays in the pool"

    @pytest.mark.thorough
    def test_up_goes_on_from_a_machine_that_never_booted(self, one: Labs, image: Path) -> None:
        total = hashlib.sha256((image / "disk.qcow2").read_bytes()).hexdigest()
        with served(one, image) as url:
            path = self.write(one, image, f"image: '{url}/disk.qcow2', sha256: {total}")
            assert f"downloading {url}/disk.qcow2" in one.run("up", path).stderr
        assert one.json("status")["state"] == "up"

    @pytest.mark.thorough
    def test_what_is_kept_of_it_is_damaged(self, one: Labs) -> None:
        """Then it is said, and the machine is made anew, of the image that was downloaded before."""
        path, before = str(one.scratch / "one.yaml"), boot_id(one, "central")
        assert one.json("down")["kept"] == ["one"]
        (volume,) = (name for name in of_labs(one.account) if "one-central" in name)
        virsh(one.account, "vol-delete", "--pool", "default", volume)
        said = one.run("up", path).stderr
        assert "cannot be used, and is made anew" in said
        assert "downloading" not in said
        assert boot_id(one, "central") != before
        one.run("down", "--forget")
        assert not [name for name in of_labs(one.account) if name.startswith("ovnlab-one")]
        assert one.json("down", "--all", "--forget")["removed"] == []


def test_a_storage_pool_that_is_full(machines: Labs, hypervisor: Account) -> None:
    path = machines.write(
        "full.yaml", "name: full\nprovider: libvirt\nlibvirt: {pool: tiny}\nnodes: {central: {role: central}}\n"
    )
    tiny = "mkdir /run/tiny && mount -t tmpfs -o size=50M tmpfs /run/tiny"
    subprocess.run([*hypervisor.prefix, "sh", "-c", tiny], check=True)
    virsh(hypervisor, "pool-define-as", "tiny", "dir", "--target", "/run/tiny")
    try:
        error = machines.run("up", path, expect=1).stderr
        assert "storage pool tiny" in error
        assert "make room in the storage pool, or name another one" in error
    finally:
        machines.run("down", "full")
        virsh(hypervisor, "pool-destroy", "tiny")
        virsh(hypervisor, "pool-undefine", "tiny")
        subprocess.run([*hypervisor.prefix, "umount", "/run/tiny"], check=True)


@pytest.mark.thorough
def test_two_labs_at_once(machines: Labs) -> None:
    paths = [
        machines.write(f"{name}.yaml", f"name: {name}\nprovider: libvirt\nnodes: {{central: {{role: central}}}}\n")
        for name in ("east", "west")
    ]
    for process in [machines.start("up", path) for path in paths]:
        _, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
    assert {lab["name"]: lab["state"] for lab in machines.json("ls")["labs"]} == {"east": "up", "west": "up"}


AWAY = """
mkdir -p /run/sshd /root/.ssh
mount -t tmpfs tmpfs /root/.ssh
ip netns add away
ip link add v0 type veth peer name v1 netns away
ip address add 172.31.9.1/24 dev v0
ip link set v0 up
ip -n away address add 172.31.9.2/24 dev v1
ip -n away link set v1 up
ip -n away link set lo up
cd "$1"
/usr/sbin/sshd -f /dev/null -h "$1"/hostkey -p 2222 -o PidFile="$1"/pid -o AuthorizedKeysFile="$1"/key.pub \
    -o StrictModes=no -o PermitRootLogin=yes
"""

BACK = """
kill "$(cat "$1"/pid)"
umount /root/.ssh
ip link delete v0
ip netns delete away
"""


@pytest.mark.thorough
def test_a_hypervisor_that_is_reached_by_ssh(machines: Labs) -> None:
    """Its machines are reached through it: no route leads to them from where ovnlab runs."""
    folder = machines.scratch
    for name in ("hostkey", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    inside = [*machines.account.prefix, "sh", "-euc"]
    subprocess.run([*inside, AWAY, "sh", str(folder)], check=True)
    away = replace(machines, account=Away("", machines.account.python, machines.account.home, pid_of(machines.account)))
    try:
        uri = f"qemu+ssh://root@172.31.9.1:2222/system?keyfile={folder}/key"
        path = machines.write("far.yaml", f"name: far\nprovider: libvirt\nmachines: {{uri: '{uri}'}}\n{ONE_NODE}")
        error = away.run("up", path, expect=3).stderr
        assert "libvirt cannot be reached" in error, "nobody knows its host key"
        known = f"[172.31.9.1]:2222 {' '.join((folder / 'hostkey.pub').read_text().split()[:2])}"
        subprocess.run([*inside, 'echo "$1" >/root/.ssh/known_hosts', "sh", known], check=True)
        said = away.run("up", path).stderr
        assert "channel" not in said, "tries to reach a machine that boots are no news"
        assert away.on("central", "hostname") == "central\n"
        assert away.out("ssh", "central", "hostname") == "central\n"
        assert away.json("status")["state"] == "up"
        away.run("down", "--forget")
        assert not of_labs(machines.account)
    finally:
        subprocess.run([*inside, BACK, "sh", str(folder)], check=True)


class Away(Inside):
    """Root beside the hypervisor, in a network namespace that has a link to it."""

    @property
    def prefix(self) -> list[str]:
        return [*super().prefix, "ip", "netns", "exec", "away"]


def pid_of(account: Account) -> int:
    assert isinstance(account, Inside)
    return account.pid


@pytest.mark.thorough
def test_a_bridge_of_the_hypervisor_instead_of_a_network(machines: Labs) -> None:
    inside = [*machines.account.prefix, "sh", "-ec"]
    make = "ip link add br-lab type bridge; ip address add 10.99.0.1/24 dev br-lab; ip link set br-lab up"
    subprocess.run([*inside, make], check=True)
    try:
        settings = ("--set", "libvirt.bridge=br-lab", "--set", "libvirt.subnet=10.99.0.0/24")
        machines.run("up", "3node", "--provider", "libvirt", *settings)
        ports = subprocess.run([*inside, "ip -br link show master br-lab"], capture_output=True, text=True, check=True)
        assert len(ports.stdout.splitlines()) == 3
        machines.run("bind", "vm1=worker1", "vm2=worker2")
        machines.run("ping", "vm1", "vm2")
        machines.run("down", "--forget")
        assert not of_labs(machines.account)
        left = subprocess.run([*inside, "ip -br address show br-lab"], capture_output=True, text=True, check=True)
        assert "10.99.0.1/24" in left.stdout, "the bridge is somebody's, and stays"
    finally:
        subprocess.run([*inside, "ip link del br-lab"], check=True)


def test_a_lab_comes_up_again_as_it_was_when_it_first_was_up(virtual: Everywhere) -> None:
    labs, hypervisor = virtual.labs, virtual.labs.account
    boots, before, host_key = boot_ids(labs), daemons(labs), labs.out("ssh-config")
    labs.run("nbctl", "ls-add", "later")
    labs.on("worker1", "touch", "/root/later")
    labs.run("snapshot", "save", "later")
    assert labs.json("down")["kept"] == ["everywhere"]
    for listed in (("list", "--all"), ("net-list", "--all")):
        assert not [name for name in virsh(hypervisor, *listed, "--name") if name.startswith("ovnlab-everywhere")]
    virtual.up()
    assert boot_ids(labs) == boots, "the machines were made anew"
    assert daemons(labs) == before
    assert labs.out("ssh-config") == host_key
    assert knows_the_time(labs)
    assert "later" not in labs.out("nbctl", "ls-list")
    labs.run("exec", "worker1", "--", "test", "-e", "/root/later", expect=1)
    assert labs.json("snapshot", "ls")["snapshots"] == []
    assert [port["up"] for port in labs.json("status")["ports"]] == [True] * 3
    assert virtual.up() == []


def test_a_lab_goes_on_after_it_was_suspended(virtual: Everywhere) -> None:
    running = virtual.labs
    before = daemons(running)
    running.run("suspend")
    status = running.json("status")
    assert status["state"] == "suspended"
    assert [node["state"] for node in status["nodes"]] == ["suspended"] * 3
    assert running.json("ls")["labs"][0]["state"] == "suspended"
    assert not running_machines(running)
    # Whoever is busy takes a while to answer, which is not the same as never.
    with silent(running, virtual.write(), "worker1"):
        resume = running.start("resume", "--json")
        wait_until("machines", lambda: len(running_machines(running)) == 3 or None, timeout=60)
        time.sleep(3)
        assert resume.poll() is None
    said, error = resume.communicate(timeout=120)
    assert resume.returncode == 0, error
    assert len(json.loads(said)["nodes"]) == 3
    running.run("ping", "vm1", "vm2")
    assert daemons(running) == before
    assert knows_the_time(running)


@pytest.mark.thorough
def test_up_goes_on_with_a_lab_that_was_suspended(virtual: Everywhere) -> None:
    before = daemons(virtual.labs)
    virtual.labs.run("suspend")
    virtual.up()
    assert daemons(virtual.labs) == before


def test_status_asks_databases_over_the_kept_connection(virtual: Everywhere) -> None:
    running = virtual.labs
    whole = running.json("status")
    config = running.out("ssh-config").strip()

    def ssh(*words: str) -> int:
        command = [*running.account.prefix, "ssh", "-F", config, *words]
        return subprocess.run(command, capture_output=True, check=False).returncode

    running.run(
        "exec", "central", "--", "chmod", "-x", "/usr/bin/ovn-nbctl", "/usr/bin/ovn-sbctl", "/usr/bin/ovs-vsctl"
    )
    try:
        assert running.json("status") == whole
        # Also over a connection that somebody's own ssh has begun to keep.
        assert ssh("-O", "exit", "central") == 0
        assert ssh("central", "true") == 0
        assert running.json("status") == whole
    finally:
        running.run(
            "exec", "central", "--", "chmod", "+x", "/usr/bin/ovn-nbctl", "/usr/bin/ovn-sbctl", "/usr/bin/ovs-vsctl"
        )
    assert {port["name"]: port["chassis"] for port in whole["ports"]} == {
        "vm1": "worker1",
        "vm2": "worker2",
        "vm3": "worker2",
    }
    sockets = [path for path in Path(config).parent.glob("@*.*") if path.is_socket()]
    # Five of databases, and one of each machine that it is asked by whether it answers.
    assert 0 < len(sockets) <= 8, sockets
    # Whoever finds no connection leaves one.
    assert ssh("-O", "exit", "central") == 0
    assert running.json("status") == whole
    wait_until("a connection to be kept", lambda: ssh("-O", "check", "central") == 0 or None, timeout=30)


@pytest.mark.thorough
def test_status_logs_in_where_the_kept_connection_takes_nobody_more(virtual: Everywhere) -> None:
    running = virtual.labs
    whole = running.json("status")
    ssh = [*running.account.prefix, "ssh", "-F", running.out("ssh-config").strip()]
    hold = [*ssh, "central", "echo here; exec sleep 100"]

    def allow(sessions: str) -> None:
        reload = (
            f"{sessions} /etc/ssh/sshd_config.d/a.conf; systemctl reload ssh; sleep 2"  # sshd_config(5), MaxSessions
        )
        subprocess.run([*ssh, "-S", "none", "central", reload], check=True)
        subprocess.run([*ssh, "-O", "exit", "central"], capture_output=True, check=True)

    def is_full() -> bool | None:
        command = [*ssh, "-o", "ProxyCommand=false", "central", "true"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return True
        # Also after one that was to be held: a session that is just ending takes its place for a moment.
        held.append(subprocess.Popen(hold, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
        assert held[-1].stdout is not None
        assert held[-1].stdout.readline() == b"here\n"
        return None

    allow("echo MaxSessions 2 >")
    subprocess.run([*ssh, "-o", "ConnectionAttempts=30", "central", "true"], check=True)
    held: list[subprocess.Popen[bytes]] = []
    try:
        wait_until("all sessions to be taken", is_full, timeout=30)
        assert running.json("status") == whole
    finally:
        for process in held:
            process.kill()
            with process:
                pass
        allow("rm")


def test_a_snapshot_of_the_whole_lab(virtual: Everywhere) -> None:
    running = virtual.labs
    running.run("snapshot", "save", "before")
    assert [found["name"] for found in running.json("snapshot", "ls")["snapshots"]] == ["before"]
    assert "there is a snapshot before already" in running.run("snapshot", "save", "before", expect=1).stderr
    running.run("nbctl", "ls-add", "later")
    running.on("worker1", "touch", "/root/later")
    running.run("snapshot", "restore", "before")
    assert "later" not in running.out("nbctl", "ls-list")
    running.run("exec", "worker1", "--", "test", "-e", "/root/later", expect=1)
    running.run("ping", "vm1", "vm2")
    assert "has no snapshot other" in running.run("snapshot", "restore", "other", expect=2).stderr
    running.run("snapshot", "rm", "before")
    assert running.json("snapshot", "ls")["snapshots"] == []


def test_up_brings_back_a_machine_that_was_switched_off(virtual: Everywhere) -> None:
    running = virtual.labs
    virsh(running.account, "destroy", "ovnlab-everywhere-worker2")
    states = [node["state"] for node in running.json("status")["nodes"]]
    assert states == ["running", "running", "shut off"]
    steps = virtual.up()
    assert "add node worker2: it is not running" in steps
    running.run("ping", "vm1", "vm2")


@pytest.mark.thorough
def test_up_brings_back_a_machine_that_rebooted(virtual: Everywhere) -> None:
    running = virtual.labs
    before = boot_id(running, "worker1")
    running.run("exec", "worker1", "--", "systemctl", "--no-block", "reboot", expect=None)
    deadline = time.monotonic() + 120
    while running.run("exec", "worker1", "--", "cat", "/proc/sys/kernel/random/boot_id", expect=None).stdout in (
        before,
        "",
    ):
        assert time.monotonic() < deadline, "worker1 does not come back"
        time.sleep(1)
    steps = virtual.up()
    assert any(step.startswith("configure worker1: ") and "ovn-controller does not run" in step for step in steps)
    running.run("ping", "vm1", "vm2")


@pytest.mark.thorough
def test_a_switch_is_not_started_in_the_first_seconds_after_a_boot(virtual: Everywhere) -> None:
    """OVS 3.1 would lose what its datapath has no flow for, until it is started anew."""
    running = virtual.labs
    running.on("worker2", "sh", "-c", "echo 3.90 0.50 >/root/uptime; mount --bind /root/uptime /proc/uptime")
    sleep = "#!/bin/sh\necho $* >>/root/slept\nexec /usr/bin/sleep $*\n"
    running.on("worker2", "sh", "-c", f"printf '{sleep}' >/usr/local/bin/sleep; chmod +x /usr/local/bin/sleep")
    try:
        running.on("worker2", "sh", "-c", "kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)")
        (step,) = virtual.up()
    finally:
        running.on("worker2", "sh", "-c", "rm /usr/local/bin/sleep; umount /proc/uptime")
    assert "ovs-vswitchd does not run" in step
    assert "7" in running.on("worker2", "cat", "/root/slept").split()
    running.run("ping", "vm1", "vm2")


def test_what_is_built_from_source_is_brought_to_a_machine(
    virtual: Everywhere, root: Account, cache: Path, session_folder: Path
) -> None:
    """The tree is one of the tests' own: what it installs has other names than OVS's, which runs from packages."""
    running = virtual.labs
    tree = trees.ovs(running.scratch / "ovs")
    maker = Labs(root, session_folder / "vm-state", session_folder, cache)  # the hypervisor itself reaches no mirror
    maker.run("build", "3node", "--set", f"software.ovs.path={tree}")
    running.run("upgrade", "worker2", "--software", f"ovs.path={tree}")
    assert running.on("worker2", "toy-switch") == "hello from openvswitch 3.1.9\n"
    running.run("ping", "vm1", "vm2")
    running.run("upgrade", "worker2", "--software", "packages")


@pytest.mark.thorough
@pytest.mark.usefixtures("built")
def test_what_is_built_from_source_is_brought_to_a_machine_and_runs_there(virtual: Everywhere) -> None:
    running = virtual.labs
    (step,) = running.json("upgrade", "worker2", "--software", "ovs.distro=true", "--traffic", "vm1,vm2")["steps"]
    assert 0 < step["loss"]["lost"] < step["loss"]["sent"]
    builds = running.json("build", "--list")["builds"]
    (build,) = (found for found in builds if "distribution" in found["parts"]["ovs"]["origin"])
    manifest = json.loads(Path(build["path"], "manifest.json").read_text())["parts"]["ovs"]["files"]
    path = f"/opt/ovnlab/builds/{build['key']}/sbin/ovs-vswitchd"
    look = "exe=$(readlink /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)/exe); echo $exe; sha256sum <$exe"
    assert running.on("worker2", "sh", "-c", look).split()[:2] == [path, manifest["sbin/ovs-vswitchd"]]
    assert f"build {build['key'][:8]}" in running.out("status")
    running.run("ping", "vm1", "vm2")
    running.run("upgrade", "worker2", "--software", "packages")


@pytest.mark.thorough
@pytest.mark.usefixtures("built")
def test_an_archive_that_is_not_what_was_sent_gets_no_name(virtual: Everywhere) -> None:
    running = virtual.labs
    builds = running.json("build", "--list")["builds"]
    (build,) = (found for found in builds if "distribution" in found["parts"]["ovs"]["origin"])
    running.on("worker2", "rm", "-rf", f"/opt/ovnlab/builds/{build['key']}")
    running.on(
        "worker2", "sh", "-c", "printf '#!/bin/sh\\ncat >/dev/null\\n' >/usr/local/bin/tar; chmod +x /usr/local/bin/tar"
    )
    error = running.run("upgrade", "worker2", "--software", "ovs.distro=true", expect=1).stderr
    assert f"build {build['key']} did not arrive as it was sent" in error
    running.on("worker2", "rm", "/usr/local/bin/tar")
    running.run("up", virtual.write())
    running.run("ping", "vm1", "vm2")


def test_another_host_key_is_not_trusted(virtual: Everywhere) -> None:
    running = virtual.labs
    known = running.state / "ovnlab/labs/everywhere/ssh/known_hosts"
    right = known.read_text()
    other = right.splitlines()[0].split()[2]
    wrong = "\n".join(" ".join([*line.split()[:2], other]) for line in right.splitlines())
    known.write_text(f"{wrong}\n")
    for node in ("central", "worker1", "worker2"):  # connections that are kept were made when it was the right one
        command = ["ssh", "-F", str(known.parent / "config"), "-O", "exit", node]
        subprocess.run([*running.account.prefix, *command], capture_output=True, check=False)
    try:
        shown = json.loads(running.run("status", "--json", expect=None).stdout)
        assert [n["name"] for n in shown["nodes"] if any(d["running"] for d in n["daemons"])] == ["central"]
        error = running.run("bind", "vm1", "worker1", expect=1).stderr
        assert "shows another host key than the one that is known" in error
    finally:
        known.write_text(right)
