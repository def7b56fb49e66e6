"""Labs whose OVS is built from source: Debian's own, and a working tree that somebody changes.

The tree is Debian's source with another version and another schema, as another release has them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import trees
from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs
from tests.lab.test_building import compiled, everything_in, newest_log

VERSION = "3.1.77"
SCHEMA = "8.3.77"
DISTRO = "3node-distro-source"


@pytest.fixture(scope="module")
def builder(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    """An ordinary user who has built OVS of the distribution's source."""
    for labs in labs_in(ordinary, session_folder / "builder"):
        result = labs.run("build", DISTRO)
        assert "openvswitch-source" in result.stdout
        yield labs


@pytest.fixture(scope="module")
def tree(builder: Labs) -> Path:
    """A working tree of OVS: another version, and a database with a column more."""
    (archive,) = (Path(builder.environment["XDG_CACHE_HOME"]) / "ovnlab/sources").glob("distro-*/ovs/*.tar.gz")
    subprocess.run(["tar", "-C", str(builder.scratch), "-xzf", str(archive)], check=True)
    folder = builder.scratch / "openvswitch"
    configure = folder / "configure"
    configure.write_text(re.sub(r"\b3\.1\.0\b", VERSION, configure.read_text()))
    schema = folder / "vswitchd/vswitch.ovsschema"
    text = schema.read_text().replace('"version": "8.3.1"', f'"version": "{SCHEMA}"')
    text = text.replace(
        '"Bridge": {\n     "columns": {', '"Bridge": {\n     "columns": {\n       "novel": {"type": "boolean"},'
    )
    assert SCHEMA in text
    assert "novel" in text
    without = "".join(line for line in text.splitlines(keepends=True) if '"cksum"' not in line)
    total = subprocess.run(["cksum"], input=without, capture_output=True, text=True, check=True).stdout.strip()
    schema.write_text(re.sub(r'"cksum": "[^"]*"', f'"cksum": "{total}"', text))
    if builder.account.name:
        subprocess.run(["chown", "-R", f"{builder.account.name}:", str(folder)], check=True)
    builder.run("build", "3node", "--set", f"software.ovs.path={folder}")
    return folder


@pytest.fixture(params=["ordinary", pytest.param("root", marks=pytest.mark.thorough)])
def labs(request: pytest.FixtureRequest, builder: Labs, session_folder: Path) -> Iterator[Labs]:
    """The command line as root, and as an ordinary user; what the one has built the other uses."""
    account: Account = request.getfixturevalue(request.param)
    for found in labs_in(account, session_folder / f"source-{request.param}"):
        found.cache = Path(builder.environment["XDG_CACHE_HOME"])
        yield found


@pytest.fixture
def user_labs(builder: Labs, ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    yield from labs_in(ordinary, session_folder / "source")


def running(labs: Labs, node: str, pidfile: str = "openvswitch/ovs-vswitchd") -> tuple[str, str]:
    """The file that a daemon runs, by its pidfile below /run, and its SHA-256 sum."""
    script = f"exe=/proc/$(cat /run/{pidfile}.pid)/exe; readlink $exe; sha256sum <$exe"
    path, total = labs.on(node, "sh", "-c", script).splitlines()
    # A node has this machine's folder of builds below /opt/ovnlab/machine, and links to it.
    return path.replace("/opt/ovnlab/machine/builds/", "/opt/ovnlab/builds/"), total.split()[0]


def software(labs: Labs) -> dict[str, str]:
    """What runs on each node, by the daemons' own account."""
    return {
        node["name"]: next(d["version"] for d in node["daemons"] if d["name"] == "ovs-vswitchd")
        for node in labs.json("status")["nodes"]
    }


def pings(labs: Labs) -> bool:
    return labs.run("ping", "vm1", "vm2", expect=None).returncode == 0


def test_ovs_of_the_distributions_source_runs_on_three_nodes(labs: Labs) -> None:
    said = labs.run("up", DISTRO).stderr
    assert "building" not in said, "it was built before, by another"
    (build,) = (b for b in labs.json("build", "--list")["builds"] if b["used_by"])
    manifest = json.loads(Path(build["path"], "manifest.json").read_text())["parts"]["ovs"]["files"]
    for node in ("central", "worker1", "worker2"):
        path, total = running(labs, node)
        assert path == f"/opt/ovnlab/builds/{build['key']}/sbin/ovs-vswitchd"
        assert total == manifest["sbin/ovs-vswitchd"]
        # The tools are the built ones, OVN's are the packages'.
        where = [labs.on(node, "sh", "-c", f"command -v {name}") for name in ("ovs-vsctl", "ovsdb-client", "ovn-nbctl")]
        assert [path.rpartition("/")[0] for path in where] == ["/opt/ovnlab/current/bin"] * 2 + ["/usr/bin"]
        libraries = labs.on(node, "ldd", path)
        assert {line.split()[0].split(".so")[0] for line in libraries.splitlines()} <= {
            "linux-vdso", "libssl", "libcrypto", "libm", "libc", "/lib64/ld-linux-x86-64", "libpthread", "libdl",
        }  # fmt: skip
    assert labs.json("test")["failed"] == 0
    # Through Geneve, as in the posts.
    captured = labs.start(
        "exec", "worker2", "--", "tcpdump", "--immediate-mode", "-c", "2", "-nn", "-i", "eth1", "udp port 6081"
    )
    assert captured.stderr is not None
    while "listening on" not in captured.stderr.readline():
        pass
    assert pings(labs)
    assert "Geneve" in captured.communicate(timeout=30)[0]
    shown = labs.out("status")
    assert shown.count(f"OVS 3.1.0 build {build['key'][:8]}, OVN 23.03.1") == 3
    assert labs.run("up", DISTRO).stdout == f"lab {DISTRO} is up: nothing to do\n"


def test_a_changed_line_of_a_working_tree_is_seen_on_every_node(user_labs: Labs, tree: Path) -> None:
    labs = user_labs
    before = everything_in(tree)
    command = ("up", DISTRO, "--set", f"software.ovs.path={tree}")
    labs.run(*command)
    assert set(software(labs).values()) == {VERSION}
    assert pings(labs)
    assert labs.run(*command).stdout.endswith("nothing to do\n")
    assert everything_in(tree) == before, "the working tree was written to"
    source = tree / "vswitchd/bridge.c"
    right = source.read_text()
    source.write_text(
        right.replace('"%s (Open vSwitch) %s", program_name', '"%s (Open vSwitch) %s, marked", program_name')
    )
    assert source.read_text() != right
    try:
        planned = labs.out(*command, "--dry-run")
        assert f"build OVS 3.1.0 from {tree}" in planned
        assert "configure worker1: its software is build" in planned
        labs.run(*command)
    finally:
        source.write_text(right)
    assert compiled(newest_log(labs, "ovs-")) == ["vswitchd/bridge.o"]
    for node in ("central", "worker1", "worker2"):
        log = labs.on(node, "cat", "/var/log/openvswitch/ovs-vswitchd.log")
        assert re.search(rf"Open vSwitch\) {re.escape(VERSION)}, marked", log), node
    assert pings(labs)


def test_two_versions_in_one_lab(user_labs: Labs, tree: Path) -> None:
    labs = user_labs
    labs.run("up", "mixed-versions", "--set", f"nodes.worker2.software.ovs.path={tree}")
    assert software(labs) == {"central": "3.1.0", "worker1": "3.1.0", "worker2": VERSION}
    assert labs.json("test")["failed"] == 0
    shown = labs.out("status")
    assert re.search(rf"worker2 .* OVS {re.escape(VERSION)} build \w{{8}}, OVN 23.03.1", shown)
    assert re.search(r"worker1 .* OVS 3.1.0, OVN 23.03.1", shown)
    assert schema_of(labs, "worker1") == "8.3.1"
    assert schema_of(labs, "worker2") == SCHEMA


def schema_of(labs: Labs, node: str) -> str:
    return labs.on(node, "ovsdb-client", "get-schema-version", "unix:/run/openvswitch/db.sock").strip()


def test_a_node_is_upgraded_and_downgraded_while_a_ping_goes_on(user_labs: Labs, tree: Path) -> None:
    labs = user_labs
    labs.run("up", "mixed-versions", "--set", "nodes.worker2.software=packages")
    pids = {n["name"]: {d["name"]: d["pid"] for d in n["daemons"]} for n in labs.json("status")["nodes"]}
    words = ("upgrade", "worker2", "--traffic", "vm1,vm2")
    (there,) = labs.json(*words, "--software", f"ovs.path={tree}")["steps"]
    assert (there["node"], there["before"]) == ("worker2", "OVS 3.1.0, OVN 23.03.1")
    assert there["after"].startswith(f"OVS {VERSION} build ")
    assert schema_of(labs, "worker2") == SCHEMA
    assert labs.rows("sbctl", "find", "Chassis", "name=worker2")[0]["name"] == "worker2"
    # Nothing of the other nodes was touched.
    after = {n["name"]: {d["name"]: d["pid"] for d in n["daemons"]} for n in labs.json("status")["nodes"]}
    assert {name: after[name] for name in ("central", "worker1")} == {
        name: pids[name] for name in ("central", "worker1")
    }
    assert pings(labs)
    (back,) = labs.json(*words, "--software", "packages")["steps"]
    assert back["after"] == "OVS 3.1.0, OVN 23.03.1"
    assert schema_of(labs, "worker2") == "8.3.1"
    assert pings(labs)
    for step in (there, back):
        loss = step["loss"]
        assert 0 < loss["lost"] < loss["sent"]
        assert 50 < loss["longest_gap_ms"] < 10_000
    # With nothing to do, nothing is restarted.
    before = running_pids(labs)
    (same,) = labs.json(*words, "--software", "packages")["steps"]
    assert same["before"] == same["after"]
    assert running_pids(labs) == before
    # What was bound is bound; the databases know of it as before.
    assert {p["name"]: p["chassis"] for p in labs.json("status")["ports"]} == {"vm1": "worker1", "vm2": "worker2"}


def running_pids(labs: Labs) -> dict[str, dict[str, int]]:
    return {n["name"]: {d["name"]: d["pid"] for d in n["daemons"]} for n in labs.json("status")["nodes"]}


@pytest.mark.parametrize("topology", ["3node", "raft"])
def test_databases_of_ovn_are_converted_up_and_back(user_labs: Labs, topology: str) -> None:
    """By a tree that installs nothing but other schemas: the packages' own with a column more, as a later OVN has."""
    labs = user_labs
    labs.run("up", topology)
    nodes = [node["name"] for node in labs.json("status")["nodes"] if node["role"] == "central"]
    tree = labs.scratch / "ovn"
    files = {"boot.sh": trees.BOOT, "configure.ac": trees.CONFIGURE.format(name="ovn", version="23.03.9", more="")}
    for name in ("nb", "sb"):
        schema = json.loads(labs.on(nodes[0], "cat", f"/usr/share/ovn/ovn-{name}.ovsschema"))
        schema["version"] = "99.0.0"
        schema["tables"][f"{name.upper()}_Global"]["columns"]["novel"] = {"type": "string"}
        files[f"ovn-{name}.ovsschema"] = json.dumps(schema)
    files["Makefile.am"] = "dist_pkgdata_DATA = ovn-nb.ovsschema ovn-sb.ovsschema\n"
    trees.write(tree, files)
    trees.ovs(tree / "ovs")
    if labs.account.name:
        subprocess.run(["chown", "-R", f"{labs.account.name}:", str(tree)], check=True)

    def versions() -> set[str]:
        shown = [
            labs.on(node, "ovsdb-client", "get-schema-version", f"unix:/run/ovn/ovn{name}_db.sock", database).strip()
            for node in nodes
            for name, database in (("nb", "OVN_Northbound"), ("sb", "OVN_Southbound"))
        ]
        return set(shown)

    packaged = versions()
    labs.run("nbctl", "ls-add", "kept-by-it")
    for node in nodes[:-1]:
        labs.run("upgrade", node, "--software", f"ovn.path={tree}")
        assert versions() == packaged, "not before all of them can read it"
    labs.run("upgrade", nodes[-1], "--software", f"ovn.path={tree}")
    assert versions() == {"99.0.0"}
    row = {
        "op": "update",
        "table": "NB_Global",
        "where": [],
        "row": {"novel": "x"},
    }  # not a column that ovn-nbctl knows
    labs.on(nodes[0], "ovsdb-client", "transact", "unix:/run/ovn/ovnnb_db.sock", json.dumps(["OVN_Northbound", row]))
    labs.run("upgrade", *nodes, "--software", "packages")
    assert versions() == packaged
    assert "kept-by-it" in labs.out("nbctl", "ls-list")
    assert labs.json("status")["state"] == "up"


def test_all_nodes_are_upgraded_chassis_first(user_labs: Labs, tree: Path) -> None:
    labs = user_labs
    labs.run("up", "mixed-versions", "--set", "nodes.worker2.software=packages")
    steps = labs.json("upgrade", "--all", "--software", f"ovs.path={tree}")["steps"]
    assert [step["node"] for step in steps] == ["worker1", "worker2", "central"]
    assert set(software(labs).values()) == {VERSION}
    for pidfile in ("openvswitch/ovsdb-server", "ovn/ovnnb_db"):
        path, _ = running(labs, "central", pidfile)
        assert path.startswith("/opt/ovnlab/builds/")
    assert labs.json("test")["failed"] == 0
    # What was upgraded is remembered by what comes next, and `up` makes it what the file says.
    labs.run("bind", "vm3=worker1", "--network", "network1")
    assert set(software(labs).values()) == {VERSION}
    shown = labs.out("up", "mixed-versions", "--set", "nodes.worker2.software=packages")
    assert shown.count("its software is build") == 3
    assert set(software(labs).values()) == {"3.1.0"}
    assert labs.json("test")["failed"] == 0


@pytest.mark.thorough
def test_a_cluster_is_upgraded_and_stays_one(user_labs: Labs, tree: Path) -> None:
    labs = user_labs
    labs.run("up", "raft")
    labs.run("upgrade", "--all", "--software", f"ovs.path={tree}")
    found = labs.json("status")
    assert found["state"] == "up"
    assert sorted(member["role"] for member in found["clusters"]) == ["follower"] * 4 + ["leader"] * 2
    assert labs.json("test")["failed"] == 0
    for node in ("central1", "central2", "central3"):
        path = labs.on(node, "sh", "-c", "readlink /proc/$(cat /run/ovn/ovnsb_db.pid)/exe")
        assert path.startswith("/opt/ovnlab/builds/")


def test_a_daemon_that_was_started_before_is_replaced(user_labs: Labs) -> None:
    """Whatever the link says: a daemon is what its process runs."""
    labs = user_labs
    labs.run("up", DISTRO)
    link = labs.state / "ovnlab/labs" / DISTRO / "nodes/worker1/opt/current"
    target = link.readlink()
    link.unlink()
    labs.on("worker1", "sh", "-c", "ovs-appctl exit && while pidof ovs-vswitchd; do sleep 0.1; done; true")
    labs.on("worker1", "sh", "-c", "ovs-vswitchd --disable-system --detach --no-chdir --pidfile --log-file")
    link.symlink_to(target)
    planned = labs.out("up", DISTRO, "--dry-run")
    assert "configure worker1: ovs-vswitchd is of other software" in planned
    assert "(old)" in labs.out("status")
    labs.run("up", DISTRO)
    assert running(labs, "worker1")[0].startswith("/opt/ovnlab/builds/")
    assert pings(labs)


@pytest.mark.thorough
def test_a_cache_that_was_removed_is_made_again_for_a_lab_that_runs(user_labs: Labs, builder: Labs) -> None:
    labs = user_labs
    shared = Path(builder.environment["XDG_CACHE_HOME"]) / "ovnlab"
    labs.cache = labs.state / "own-cache"
    for part in ("software", "sources", "builds"):
        shutil.copytree(shared / part, labs.cache / "ovnlab" / part, symlinks=True)
    if labs.account.name:
        subprocess.run(["chown", "-R", f"{labs.account.name}:", str(labs.state)], check=True)
    labs.run("up", DISTRO)
    key = next(build["key"] for build in labs.json("build", "--list")["builds"] if build["used_by"])
    (labs.cache / "ovnlab/builds").rename(labs.cache / "ovnlab/gone")
    (labs.cache / "ovnlab/builds").mkdir()
    (labs.cache / "ovnlab/gone" / key).rename(labs.cache / "ovnlab/builds" / key)
    subprocess.run(["chown", "--reference", str(labs.cache), str(labs.cache / "ovnlab/builds")], check=True)
    labs.run("upgrade", "worker1", "--software", "packages")
    labs.run("up", DISTRO)
    assert running(labs, "worker1")[0] == f"/opt/ovnlab/builds/{key}/sbin/ovs-vswitchd"
    assert pings(labs)
    labs.run("down")
    shutil.rmtree(labs.cache)


@pytest.mark.thorough
def test_an_upgrade_leaves_the_other_nodes_what_they_are(user_labs: Labs, tree: Path) -> None:
    """Also where what they run has changed since, or is gone."""
    labs = user_labs
    labs.run("up", DISTRO, "--set", f"software.ovs.path={tree}")
    before = running(labs, "worker1")
    source = tree / "vswitchd/bridge.c"
    right = source.read_text()
    source.write_text("does not compile\n")
    try:
        (step,) = labs.json("upgrade", "worker2", "--software", "packages")["steps"]
    finally:
        source.write_text(right)
    assert step["after"] == "OVS 3.1.0, OVN 23.03.1"
    assert running(labs, "worker1") == before
    # Two at once: both are done.
    at_once = [labs.start("upgrade", name, "--software", "packages") for name in ("worker1", "central")]
    for process in at_once:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert set(software(labs).values()) == {"3.1.0"}
    assert pings(labs)


@pytest.mark.thorough
def test_watched_traffic_ends_however_the_upgrade_does(user_labs: Labs) -> None:
    labs = user_labs
    labs.run("up", DISTRO)
    words = ("upgrade", "worker2", "--software", "packages", "--traffic", "vm1,vm2")
    labs.run(*words)
    assert not sending(labs)
    labs.run("up", DISTRO)
    process = labs.start(*words)
    deadline = time.monotonic() + 30
    while not sending(labs) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sending(labs)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while sending(labs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sending(labs)
    labs.run("up", DISTRO)
    assert pings(labs)


def sending(labs: Labs) -> list[str]:
    """The senders of traffic that run in the lab."""
    shown = labs.on("worker1", "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    return re.findall(r'"role": "send"', shown)


def test_what_upgrade_refuses(user_labs: Labs) -> None:
    labs = user_labs
    labs.run("up", "single")
    node = labs.json("status")["nodes"][0]["name"]
    for words, expect, said in (
        ((node,), 2, "--software is missing"),
        (("--software", "packages"), 2, "say which nodes, or --all"),
        ((node, "--all", "--software", "packages"), 2, "say which nodes, or --all"),
        (("nobody", "--software", "packages"), 2, "has no node 'nobody'"),
        ((node, "--software", "latest"), 2, "unknown software"),
        ((node, "--software", "ovs.pth=x"), 2, "unknown key 'pth'"),
        ((node, "--software", "ovs.path=/nowhere"), 1, "is not a folder"),
        ((node, "--software", "packages", "--traffic", "vm1"), 2, "invalid traffic"),
        ((node, "--software", "packages", "--traffic", "vm1,vm9"), 2, "vm9"),
    ):
        assert said in labs.run("upgrade", *words, expect=expect).stderr, words
    assert labs.json("status")["state"] == "up"


def test_what_no_lab_runs_is_pruned(user_labs: Labs, builder: Labs) -> None:
    """In a cache of its own: what other tests have built stays."""
    labs = user_labs
    labs.cache = labs.state / "own-cache"
    shared = Path(builder.environment["XDG_CACHE_HOME"]) / "ovnlab"
    for part in ("software", "sources", "builds"):
        shutil.copytree(shared / part, labs.cache / "ovnlab" / part, symlinks=True)
    if labs.account.name:
        subprocess.run(["chown", "-R", f"{labs.account.name}:", str(labs.state)], check=True)
    labs.run("up", DISTRO)
    keys = {build["key"]: build["used_by"] for build in labs.json("build", "--list")["builds"]}
    (used,) = (key for key, by in keys.items() if by)
    assert set(labs.json("build", "--prune")["removed"]) == keys.keys() - {used}
    assert [build["key"] for build in labs.json("build", "--list")["builds"]] == [used]
    assert pings(labs)
    labs.run("down")
    assert labs.json("build", "--prune")["removed"] == [used]
    assert labs.out("build", "--list").startswith("nothing was built")
    shutil.rmtree(labs.cache)
