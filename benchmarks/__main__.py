"""The figures of docs/speed.md, each as a ratio to a floor that is measured in the same run, in turn.

python -m benchmarks                 all of them
python -m benchmarks up bind         some
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ovnlab.lab.lab import Lab
from ovnlab.northbound import change, live, rows
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.reporting import SilentReporter
from ovnlab.software import toolchain
from ovnlab.software.images import find
from ovnlab.software.packages import provide
from ovnlab.tasks import build
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import VM

HERE = Path(__file__).parent
IMAGE = "debian"
OVNLAB = [sys.executable, "-m", "ovnlab"]


def seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def ovnlab(*words: str) -> str:
    result = subprocess.run([*OVNLAB, *words], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"ovnlab {' '.join(words)}: {result.stderr}")
    return result.stdout


def in_turn(runs: int, **what: Callable[[], float]) -> dict[str, float]:
    """The median seconds of several things, done in turn so that a busy machine is busy for all of them."""
    taken: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(runs):
        for name, measure in what.items():
            taken[name].append(measure())
    return {name: statistics.median(times) for name, times in taken.items()}


def say(name: str, found: float, floor: float, floor_name: str, budget: str) -> None:
    ratio = f"{found / floor:.2f} × {floor_name} ({floor * 1000:.0f} ms)"
    print(f"{name:34} {found * 1000:7.0f} ms   {ratio:42} budget: {budget}", flush=True)


def _floor(scratch: Path, br_int: str = "first", nodes: int = 3, vms: int = 0) -> float:
    """Start the floor's lab, and end it again (not counted)."""
    return _measured_floor(scratch, br_int, nodes, vms)[0]


def _measured_floor(scratch: Path, br_int: str, nodes: int, vms: int) -> tuple[float, float]:
    """The seconds that the floor's lab takes to start, and its CPU seconds."""
    os.environ["BR_INT"] = br_int
    tree = provide("packages", lambda _: None).tree
    folder = scratch / "floor"
    began = time.perf_counter()
    process = subprocess.Popen(
        ["sh", str(HERE / "floor.sh"), str(folder), str(tree), str(nodes - 1), str(vms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    answer = process.stdout.readline()
    taken = time.perf_counter() - began
    cpu = _cpu(_below(process.pid))
    process.communicate("\n")
    shutil.rmtree(folder)
    if answer != "ready\n":
        sys.exit("the floor did not start")
    return taken, cpu


def _below(root: int) -> set[int]:
    """A process and all that it started, and that they started."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _cpu(pids: Iterable[int]) -> float:
    """The CPU seconds of processes and of their children that have ended (proc_pid_stat(5), fields 14 to 17)."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _up() -> float:
    taken = seconds(lambda: ovnlab("up", "3node"))
    ovnlab("down")
    return taken


def bench_up(scratch: Path) -> None:
    """`ovnlab up` of three nodes."""
    found = in_turn(9, floor=lambda: _floor(scratch), plain=lambda: _floor(scratch, "later"), up=_up)
    say("up, 3 nodes", found["up"], found["floor"], "a plain script", "1.5 ×")
    say("", found["up"], found["plain"], "one that leaves br-int to OVN", "")


def bench_commands(scratch: Path) -> None:
    """What people type often."""
    del scratch
    ovnlab("up", "3node")
    lab = Lab("3node", SilentReporter())
    enter, central = (lab.node(name).command(["sh", "-s"]) for name in ("worker1", "central"))
    script = _by_hand([vm for vm in lab.topology.vms if vm.name == "vm1"])
    up = "ovn-nbctl --timeout=30 wait-until Logical_Switch_Port vm1 up=true"

    def by_hand() -> float:
        taken = seconds(
            lambda: [subprocess.run(a, input=s, text=True, check=True) for a, s in ((enter, script), (central, up))]
        )
        ovnlab("unbind", "vm1")
        return taken

    def bind() -> float:
        taken = seconds(lambda: ovnlab("bind", "vm1", "worker1"))
        ovnlab("unbind", "vm1")
        return taken

    python = [sys.executable, "-c", "pass"]
    found = in_turn(
        9,
        python=lambda: seconds(lambda: subprocess.run(python, check=True)),
        version=lambda: seconds(lambda: ovnlab("--version")),
        up=lambda: seconds(lambda: ovnlab("up", "3node")),
        status=lambda: seconds(lambda: ovnlab("status")),
        ls=lambda: seconds(lambda: ovnlab("ls")),
        by_hand=by_hand,
        bind=bind,
    )
    ovnlab("down")
    for what, name in (
        ("version", "--version"),
        ("up", "up, nothing to do"),
        ("status", "status, 3 nodes"),
        ("ls", "ls"),
    ):
        say(name, found[what], found["python"], "python -c pass", "12 ×")
    say("bind, one fake VM", found["bind"], found["by_hand"], "by hand", "2 ×")


def _processes(lab: str) -> list[int]:
    """The processes of a lab: those in the PID namespaces of its nodes."""
    script = str(Lab(lab, SilentReporter()).folder.path)
    namespaces = {
        os.readlink(f"/proc/{path.name}/ns/user") + os.readlink(f"/proc/{path.name}/ns/pid")
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and script in _arguments(path)
    }
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/user") + os.readlink(path / "ns/pid") in namespaces:
                    found.append(int(path.name))
    return found


def _memory(pids: Iterable[int]) -> float:
    """The memory of processes in MiB, what they share counted once (proc(5), smaps_rollup, Pss)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _arguments(path: Path) -> str:
    try:
        argv = (path / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    return argv if argv.startswith("sh\0") else ""


def many(count: int) -> str:
    """A topology of that many chassis, each with a fake VM on one logical switch."""
    names = ["central", *(f"n{number}" for number in range(1, count))]
    nodes = "".join(f"  {name}: {'{role: central}' if name == 'central' else '{}'}\n" for name in names)
    ports = "".join(f"        v-{name}: {{chassis: {name}}}\n" for name in names)
    network = f"logical:\n  switches:\n    net:\n      subnet: 10.0.0.0/16\n      ports:\n{ports}"
    return f"name: many{count}\nunderlay: {{subnet: 172.30.0.0/16}}\nnodes:\n{nodes}{network}"


def bench_many(scratch: Path, counts: Sequence[int] = (10, 25, 50, 100)) -> None:
    """Many chassis, each with a fake VM: seconds, CPU seconds and memory, and how they grow with the number.

    The slope is the power of the number of chassis that the CPU seconds grow with, from one row to the next.
    """
    before: tuple[int, float] | None = None
    for count in counts:
        path = scratch / f"many{count}.yaml"
        path.write_text(many(count))
        floor, floor_cpu = _measured_floor(scratch, "first", count, count)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = seconds(lambda path=path: ovnlab("up", str(path)))  # type: ignore[misc]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
        pids = _processes(f"many{count}")
        cpu, memory = own + _cpu(pids), _memory(pids) / count
        ovnlab("down", f"many{count}")
        say(f"up, {count} chassis", taken, floor, "a plain script", "1.3 ×")
        slope = f", slope {math.log(cpu / before[1]) / math.log(count / before[0]):.1f}" if before else ""
        print(f"{'':34} {cpu:.1f} CPU s ({floor_cpu:.1f}), {memory:.0f} MiB each{slope}", flush=True)
        before = count, cpu


def bench_hundreds(scratch: Path) -> None:
    """200 and 300 chassis: some minutes, and 10 GiB of memory."""
    bench_many(scratch, (200, 300))


BY_HAND = """set -eu
ovs-vsctl{% for vm in vms %} -- add-port br-int {{ vm.interface }} -- set Interface {{ vm.interface }} type=internal \\
    external_ids:iface-id={{ vm.name }}{% endfor %}

ip -batch - <<'END'
{% for vm in vms %}
netns add {{ vm.name }}
link set {{ vm.interface }} netns {{ vm.name }}
{% endfor %}
END
{% for vm in vms %}
ip -n {{ vm.name }} -batch - <<'END'
link set {{ vm.interface }} address {{ vm.mac }} mtu 1442 up
address add {{ vm.addresses[0] }} dev {{ vm.interface }}
END
{% endfor %}
"""


def _by_hand(vms: Sequence[VM]) -> str:
    """Return what a person would write to bind fake VMs on their chassis."""
    import jinja2  # noqa: PLC0415

    return str(jinja2.Template(BY_HAND, trim_blocks=True).render(vms=vms))


def bench_bind(scratch: Path) -> None:
    """Binding 200 fake VMs, against what a person would write by hand for the same chassis."""
    count = 200
    ports = "".join(f"        v{number}: {{}}\n" for number in range(count))
    text = (
        "name: bind\nnodes: {central: {role: central}, worker1: }\n"
        f"logical:\n  switches:\n    net:\n      subnet: 10.0.0.0/16\n      ports:\n{ports}"
    )
    path = scratch / "bind.yaml"
    path.write_text(text)
    ovnlab("up", str(path))
    lab = Lab("bind", SilentReporter())
    vms: Sequence[VM] = lab.topology.vms
    script = _by_hand(vms)
    names = [vm.name for vm in vms]

    def by_hand() -> float:
        argv = lab.node("worker1").command(["sh", "-s"])
        taken = seconds(lambda: subprocess.run(argv, input=script, text=True, check=True))
        wait = [word for name in names for word in ("--", "wait-until", "Logical_Switch_Port", name, "up=true")]
        taken += seconds(lambda: ovnlab("nbctl", "--timeout=60", *wait))
        ovnlab("unbind", *names)
        return taken

    def by_ovnlab() -> float:
        taken = seconds(lambda: ovnlab("bind", *(f"{name}=worker1" for name in names)))
        ovnlab("unbind", *names)
        return taken

    found = in_turn(3, floor=by_hand, bind=by_ovnlab)
    ovnlab("down")
    say(f"bind, {count} fake VMs", found["bind"], found["floor"], "by hand", "one transaction")


def bench_rows(scratch: Path) -> None:
    """1,000 ports on 10 switches: read, compare and write, against one bare ovn-nbctl with the same rows."""
    bare = "name: rows\nnodes: {central: {role: central, chassis: false}}\n"
    switches = "".join(
        f"    net{s}:\n      subnet: 10.{s}.0.0/16\n      ports: {{{', '.join(f'v{s}-{p}: ' for p in range(100))}}}\n"
        for s in range(10)
    )
    (scratch / "rows.yaml").write_text(bare)
    ovnlab("up", str(scratch / "rows.yaml"))
    topology = load_text("rows.yaml", f"{bare}logical:\n  switches:\n{switches}".encode()).topology
    central = Lab("rows", SilentReporter()).node("central")
    databases = Databases("")
    words = ["ovn-nbctl", "--timeout=60"]
    for switch in topology.switches:
        words += ["--", "ls-add", switch.name]
        for port in switch.ports:
            words += ["--", "lsp-add", switch.name, port.name, "--", "lsp-set-addresses", port.name, *port.addresses]

    def run(argv: Sequence[str]) -> None:
        subprocess.run(central.command(["sh", "-s"]), input=shlex.join(argv), text=True, check=True)

    def emptied(taken: float) -> float:
        run(["ovn-nbctl", *(word for switch in topology.switches for word in ("--", "ls-del", switch.name))])
        run(["ovn-nbctl", "--timeout=60", "--wait=sb", "sync"])
        return taken

    def step() -> None:
        there = live.read(central.context, databases)
        found = change.changes("rows", rows.wanted(topology), there)
        change.apply(central.context, databases, found)

    def nothing() -> float:
        step()
        taken = seconds(step)
        return emptied(taken)

    found = in_turn(
        5, floor=lambda: emptied(seconds(lambda: run(words))), step=lambda: emptied(seconds(step)), nothing=nothing
    )
    ovnlab("down")
    say("1,000 ports, written", found["step"], found["floor"], "one bare ovn-nbctl", "500 ms more")
    say("1,000 ports, nothing to do", found["nothing"], found["floor"], "one bare ovn-nbctl", "300 ms")


def bench_pairs(scratch: Path) -> None:
    """`ovnlab test` with 30 fake VMs on three workers; the floor sends the same 870 pings and asks for nothing."""
    workers = ["worker1", "worker2", "worker3"]
    vms = [(f"vm{number}", workers[number % 3], f"10.1.0.{number}") for number in range(1, 31)]
    nodes = "".join(f"  {name}: {{}}\n" for name in workers)
    ports = "".join(f"        {vm}: {{chassis: {node}, ip: {ip}}}\n" for vm, node, ip in vms)
    text = f"name: pairs\nnodes:\n  central: {{role: central}}\n{nodes}logical:\n  switches:\n    s:\n"
    (scratch / "pairs.yaml").write_text(f"{text}      subnet: 10.1.0.0/24\n      ports:\n{ports}")
    ovnlab("up", str(scratch / "pairs.yaml"))

    def pings() -> None:
        running = []
        for worker in workers:
            lines = "\n".join(
                f"{vm} {ip}" for vm, node, _ in vms if node == worker for name, _, ip in vms if name != vm
            )
            script = 'xargs -P 32 -n 2 sh -c \'ip netns exec "$1" ping -q -n -c1 -W2 "$2" >/dev/null\' sh'
            process = subprocess.Popen(
                [*OVNLAB, "exec", worker, "--", "sh", "-c", script], stdin=subprocess.PIPE, text=True
            )
            assert process.stdin is not None
            process.stdin.write(lines)
            process.stdin.close()
            running.append(process)
        assert [process.wait() for process in running] == [0, 0, 0]

    found = in_turn(3, pings=lambda: seconds(pings), test=lambda: seconds(lambda: ovnlab("test")))
    ovnlab("down")
    say("test, 30 fake VMs, 870 pairs", found["test"], found["pings"], "the pings alone, by hand", "30 s")


def bench_build(scratch: Path) -> None:
    """OVS of the distribution's source: against a bare configure and make of the same tree, with the same compiler."""
    distro = ["--set", "software.ovs.distro=true"]
    os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")  # what the person has built stays
    ovnlab("build", *distro)  # the sources and the compiler are here then
    cache = scratch / "cache/ovnlab"
    (archive,) = (cache / "sources").glob("distro-*/ovs/*")
    context, _ = toolchain.obtain(scratch, lambda _: None)
    bare = scratch / "bare"

    def by_hand(variables: str) -> float:
        shutil.rmtree(bare, ignore_errors=True)
        bare.mkdir()
        jobs = len(os.sched_getaffinity(0))
        script = (
            f"cd {bare} && tar -xzf {archive} && cd openvswitch && ./configure -q {shlex.join(build.OPTIONS)}"
            f" CC=gcc CFLAGS=-O1 PYTHON3=/usr/bin/python3 && make -s -j{jobs} {variables}"
        )
        return seconds(lambda: context.run(script, hide=True, in_stream=False))

    def ours() -> float:
        shutil.rmtree(cache / "builds")
        return seconds(lambda: ovnlab("build", *distro))

    skipped = " ".join(f"{name}=" for name in build.NOT_RUN)
    found = in_turn(3, same=lambda: by_hand(skipped), all=lambda: by_hand(""), ours=ours)
    say("build of OVS", found["ours"], found["same"], "configure and make of the same", "1.1 ×")
    say("", found["ours"], found["all"], "configure and make of all", "")

    def up(*words: str) -> float:
        taken = seconds(lambda: ovnlab("up", "3node", *words))
        ovnlab("down")
        return taken

    cached = in_turn(9, packages=up, built=lambda: up(*distro))
    say("up, 3 nodes, of what was built", cached["built"], cached["packages"], "up of packages", "+ 300 ms")
    print(f"{'':34} {1000 * (cached['built'] - cached['packages']):+7.0f} ms")

    tree = scratch / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-C", str(tree), "--strip-components=1", "-xzf", str(archive)], check=True)
    words = ["3node", "--set", f"software.ovs.path={tree}"]
    ovnlab("up", *words)
    changes = iter(range(100))

    def changed() -> float:
        with (tree / "vswitchd/bridge.c").open("a") as file:
            file.write(f"/* change {next(changes)} */\nint ovnlab_change_{next(changes)};\n")
        return seconds(lambda: ovnlab("up", *words))

    by_hand(skipped)
    compiled = bare / "openvswitch/vswitchd/bridge.o"

    def by_make() -> float:
        compiled.unlink(missing_ok=True)
        script = f"cd {bare}/openvswitch && make -s {skipped}"
        return seconds(lambda: context.run(script, hide=True, in_stream=False))

    once = in_turn(5, make=by_make, ours=changed)
    ovnlab("down")
    say("a changed line, until 3 nodes run it", once["ours"], once["make"], "make of that file", "")


def bench_machines(scratch: Path) -> None:
    """Three virtual machines of the same image: made, brought back from memory, and by `vagrant up` without any OVN."""
    if shutil.which("vagrant") is None or find(IMAGE) is None or not Path("/run/libvirt/libvirt-sock").exists():
        print(f"machines: left out, they take libvirtd, Vagrant, and `ovnlab image build {IMAGE} --box`")
        return
    words = ["3node", "--provider", "libvirt"]
    plain = scratch / "vagrant"
    plain.mkdir()
    rendered = ovnlab("render", "3node", "--provider", "vagrant", "--name", "plain", "--only", "Vagrantfile")
    (plain / "Vagrantfile").write_text(rendered)

    def vagrant(*words: str) -> None:
        subprocess.run(["vagrant", *words], cwd=plain, stdout=subprocess.DEVNULL, check=True)

    def by_vagrant() -> float:
        taken = seconds(lambda: vagrant("up"))
        vagrant("destroy", "--force")
        return taken

    def cold() -> float:
        ovnlab("down", "--all", "--forget")
        return seconds(lambda: ovnlab("up", *words))

    def kept() -> float:
        ovnlab("down")
        return seconds(lambda: ovnlab("up", *words))

    by_vagrant()  # which knows the box then, as libvirt knows the image
    cold()
    found = in_turn(3, vagrant=by_vagrant, cold=cold, kept=kept)
    say("up, 3 virtual machines", found["cold"], found["vagrant"], "vagrant up of the same", "0.5 ×")
    say("up, 3 that were kept", found["kept"], found["vagrant"], "vagrant up of the same", "0.1 ×")
    login = ["ssh", "-F", ovnlab("ssh-config").strip(), "worker1", "true"]
    looked = in_turn(
        9,
        login=lambda: seconds(lambda: subprocess.run(login, check=True)),
        status=lambda: seconds(lambda: ovnlab("status")),
        again=lambda: seconds(lambda: ovnlab("up", *words)),
    )
    say("status, 3 virtual machines", looked["status"], looked["login"], "a command by ssh -F", "500 ms")
    say("up of them, nothing to do", looked["again"], looked["login"], "a command by ssh -F", "")
    ovnlab("down", "--forget")


BY_HAND_ONLY = {"hundreds": bench_hundreds}
"""What is run where it is named."""

BENCHMARKS = {
    "up": bench_up,
    "commands": bench_commands,
    "many": bench_many,
    "bind": bench_bind,
    "rows": bench_rows,
    "pairs": bench_pairs,
    "build": bench_build,
    "machines": bench_machines,
}


def main(names: Sequence[str]) -> None:
    """Run benchmarks by name, with a state folder of their own."""
    every = {**BENCHMARKS, **BY_HAND_ONLY}
    if set(names) - set(every):
        sys.exit(f"available: {', '.join(every)}")
    provide("packages", lambda _: None)
    with tempfile.TemporaryDirectory(prefix="ovnlab-bench-", dir="/var/tmp") as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        os.environ["NO_COLOR"] = "1"
        try:
            for name in names or BENCHMARKS:
                every[name](Path(folder))
        finally:
            ovnlab("down", "--all", "--forget")


main(sys.argv[1:])
