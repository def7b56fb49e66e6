"""Put defects of one line into a copy of ovnlab, and see whether the tests that should notice one do.

    python -m tests.mutate              all of them, one after the other: some twenty minutes
    python -m tests.mutate 3 17         these
    python -m tests.mutate --list       what they are

It ends with a line that counts them and names the survivors, and with exit code 1 if there are any. Tests of labs run as
the ordinary user, whose virtual environment is made once. A defect whose line is not there any more is an error: it is
to be given another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.harness import USERS_HOME, checkout

UNIT = "tests/unit"


@dataclass(frozen=True)
class Defect:
    """A line that is another one, and the tests that it should fail: files, or a file and what `-k` selects in it."""

    path: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    select: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.right.strip()} → {self.wrong.strip()}"


def lab(name: str) -> str:
    return f"tests/lab/test_{name}.py"


def unit(name: str) -> str:
    return f"{UNIT}/test_{name}.py"


DEFECTS = (
    # topology
    Defect("topology/addresses.py", 'return f"[{ip}]" if ":" in ip else ip', "return ip", (unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    Defect("topology/addresses.py", "0 < int(port) < 65536", "0 < int(port) < 65537", (unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    Defect("topology/complete.py", "if kind == \"path\" or (kind", "if (kind", (unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    Defect("topology/complete.py", 'ref.lower() if COMMIT.fullmatch(ref) else ref', "ref", (unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    Defect("topology/check.py", "len({keys[name] for name in members}) > 1", "len({keys[name] for name in members}) > 9", (unit("hypervisors"), unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    Defect("topology/check.py", 'if node.role == "host":\n                yield where', 'if node.role == "relay":\n                yield where', (unit("topology"), unit("addresses"), unit("machines"), unit("software"),)),
    # northbound
    Defect("northbound/change.py", "if live is None or live.parent != row.parent:", "if live is None:", (lab("converging"), unit("plan"), unit("topology")), "switch"),
    Defect("northbound/change.py", "if row.belongs is not None and row.belongs.uuid in going:", "if False:", (lab("logical"), unit("plan"), unit("topology")), "by_hand"),
    Defect("northbound/change.py", "key=lambda change: -list(TABLES).index(change.table)", "key=lambda change: list(TABLES).index(change.table)", (lab("converging"), lab("logical"), unit("plan"), unit("topology")), "router_less or by_hand"),
    Defect("northbound/rows.py", '"port_security": port.addresses if port.port_security else (),', '"port_security": (),', (lab("logical"), unit("plan"), unit("topology")), "dry_run"),
    Defect("northbound/rows.py", '"tag": (port.tag,) if port.tag else (),', '"tag": (),', (lab("scenarios"), unit("plan"), unit("topology")), "trunks"),
    # plan, convergence, lab, binding
    Defect("lab/plan.py", 'elif state.daemons[daemon].outdated and state.build == build:', "elif False:", (lab("converging"), lab("source"), unit("plan")), "other or outdated or upgrade"),
    Defect("lab/plan.py", "if bridge not in state.bridges:", "if bridge in state.bridges:", (unit("plan"), lab("converging")), "second_up"),
    Defect("lab/plan.py", 'return "another machine" if before.hardware != now.hardware else ""', 'return ""', (unit("plan"),)),
    Defect("lab/plan.py", "found.mark == topology.name and found.name not in transit", "found.name not in transit", (unit("plan"),)),
    Defect("lab/convergence.py", "if len(members) < 2 or", "if len(members) < 3 or", (lab("source"), unit("plan")), "convert or upgrade"),
    Defect("lab/binding.py", "taken.update(self.topology.gateways(network), self.given)", "taken.update(self.given)", (lab("binding"),)),
    Defect("lab/binding.py", "self.given.update(filter(None, ips))", "pass", (lab("binding"),), "several_new"),
    Defect("lab/binding.py", 'if row.columns["type"]:', "if False:", (lab("binding"), lab("commands"), lab("logical"))),
    Defect("state.py", "return stored if stored.schema_version == SCHEMA_VERSION else None", "return stored", (unit("what_stays"), unit("damaged_files"), lab("going_away")), "damaged"),
    Defect("state.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", (lab("going_away"), unit("what_stays"), unit("damaged_files")), "second_up"),
    Defect("waiting.py", "pause = min(pause * 2, 0.1)", "pause = pause * 2", (unit("waiting"),)),
    Defect("parallel.py", "raise first\n", "return []\n", (unit("scripts"), unit("interruption"),)),
    Defect("interruption.py", "INTERRUPTION.asked = True", "pass", (unit("interruption"),)),
    # providers
    Defect("providers/local/processes.py", 'fields["NSpid"].split()[-1] == "1"', "True", (lab("converging"), lab("going_away")), "died or killed or holder"),
    Defect("providers/libvirt/definitions.py", 'if self.format == "qcow2" else', 'if self.format == "raw" else', (unit("libvirt"), "tests/vm/test_libvirt.py"), "image or size"),
    Defect("nodes/context.py", "start_new_session=True,", "start_new_session=False,", (unit("scripts"),)),
    # software
    Defect("software/packages.py", "system = installed()\n            report", "raise\n            report", (lab("surroundings"),), "without_network"),
    Defect("software/working_tree.py", 'f"{name}\\0{file.kind}\\0{file.digest}\\0"', 'f"{name}\\0{file.digest}\\0"', (unit("software"), lab("building")), "tree"),
    # insight
    Defect("insight/encapsulation.py", "keys >> 16 & 0x7FFF", "keys >> 16 & 0xFFF", (unit("packets"),)),
    Defect("insight/encapsulation.py", "Tunnel(\"vxlan\", vni, vni & 0xFFF, None, vni >> 12", "Tunnel(\"vxlan\", vni, vni >> 12, None, vni & 0xFFF", (unit("packets"), lab("trace")), "vxlan"),
    Defect("insight/verdict.py", "unwanted = [hop for hop in trace.hops if hop.seen and not hop.wanted]", "unwanted = []", (lab("trace"), unit("traces")), "acl"),
    Defect("insight/verdict.py", "(hop.tunnel.vni, hop.tunnel.ingress_key, hop.tunnel.egress_key) in keys", "True", (unit("traces"), lab("trace"), lab("insight"))),
    Defect("insight/ofproto_trace.py", 'return "controller(" in self.actions', "return False", (unit("traces"), lab("trace"))),
    Defect("insight/causes/tunnels.py", 'row["bfd_status"].get("state") != "up"', 'row["bfd_status"].get("state") == "up"', (unit("southbound"), lab("insight"))),
    # testing, diagnosis, status
    Defect("checks/assertions.py", "if (chassis and port.chassis != chassis) or not port.up:", "if chassis and port.chassis != chassis:", (unit("looking"), lab("checks"))),
    Defect("checks/wait.py", 'if (kind == "hv-synced") == bool(given)', "if False", (lab("checks"),), "wait"),
    Defect("checks/vm_matrix.py", "return self.intent.agrees_with(self.observed)", "return True", (lab("checks"),)),
    Defect("checks/diagnosis.py", "found = tuple(finding for finding in found if (finding.cause, finding.object) in keys)", "pass", (unit("southbound"), lab("insight"))),
    # graph, podman, credentials
    Defect("graph/physical_view.py", "return 14 + abs(second - first) * 0.085", "return 14 + abs(second + first) * 0.085", (unit("graph"),)),
    Defect("podman.py", "if len(added) == 1:", "if len(added) == 2:", (unit("scripts"), lab("podman"))),
    Defect("podman.py", 'if _base(from_path) in ("", ".", ".."):', "if False:", (unit("scripts"), lab("podman"))),
    # templates
    Defect("../templates/node/lib/running.sh.j2", '[ "$program" = "$1" ]', "true", (unit("running"), lab("converging")), "killed"),
    Defect("../templates/node/bind-vms.sh.j2", 'ip -n "$vm" -4 route flush default', "true", (lab("converging"), lab("changing")), "router or route or switch"),
)  # fmt: skip


def outcome(tree: Path, home: Path, defect: Defect) -> str:
    """Put the defect into the tree, run its tests, and take it out again; return `caught`, `SURVIVED` or what is wrong."""
    file = tree / "ovnlab" / defect.path
    text = file.read_text()
    if defect.right not in text:
        return "ERROR: the line is not there"
    file.write_text(text.replace(defect.right, defect.wrong, 1))
    try:
        quick = [tests for tests in defect.tests if tests.startswith(UNIT)]
        slow = [tests for tests in defect.tests if tests not in quick]
        for tests, select in ((quick, ""), (slow, defect.select)):
            code = _run(tree, home, tests, select) if tests else 0
            if code == 1:
                return "caught"
            if code not in (0, 5):
                return f"ERROR: pytest ended with exit code {code}"
    finally:
        file.write_text(text)
    return "SURVIVED"


def _run(tree: Path, home: Path, tests: Sequence[str], select: str) -> int:
    """Return pytest's exit code: 0 all passed, 1 some failed, 5 there were none."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", *tests]
    command += ["-k", select] if select else []
    environment = {**os.environ, USERS_HOME: str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode


def main(words: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args(words)
    chosen = asked.numbers or range(1, len(DEFECTS) + 1)
    if asked.list:
        sys.stdout.writelines(f"{number:3} {DEFECTS[number - 1]}\n" for number in chosen)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="ovnlab-mutate-", dir="/var/tmp"))
    found: dict[int, str] = {}
    try:
        folder.chmod(0o755)
        tree, home = folder / "tree", folder / "user"
        tree.mkdir()
        home.mkdir(mode=0o755)
        checkout(tree)
        subprocess.run(["git", "init", "--quiet"], cwd=tree, check=True)  # its tests make a checkout of it
        for number in chosen:
            found[number] = outcome(tree, home, DEFECTS[number - 1])
            sys.stdout.write(f"{number:3} {found[number]:8}  {DEFECTS[number - 1]}\n")
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    left = [number for number, what in found.items() if what != "caught"]
    named = f": {', '.join(map(str, left))}" if left else ""
    sys.stdout.write(f"{len(found) - len(left)} of {len(found)} defects were caught, {len(left)} were not{named}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
