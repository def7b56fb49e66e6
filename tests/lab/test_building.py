"""OVS and OVN from source: where it comes from, what is built of it, and what is said when it cannot be."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnlab.software import packages
from ovnlab.software.packages import Selection
from tests.lab import trees
from tests.lab.harness import Account, Labs

NODES = "name: built\nnodes: {central: {role: central}}\n"


def own(labs: Labs, *paths: Path) -> None:
    """Let the user of the tests have files: git refuses what is another's."""
    if labs.account.name:
        subprocess.run(["chown", "-R", f"{labs.account.name}:", *map(str, paths)], check=True)


def topology(labs: Labs, software: str) -> str:
    return labs.write("built.yaml", f"{NODES}software: {software}\n")


def built(labs: Labs, software: str) -> dict[str, Any]:
    """The one build for that software."""
    (found,) = labs.json("build", topology(labs, software))["builds"]
    return dict(found)


def says(build: dict[str, Any], program: str) -> str:
    return subprocess.run([f"{build['path']}/{program}"], capture_output=True, text=True, check=True).stdout.strip()


def failing(labs: Labs, software: str, expect: int = 1) -> str:
    return labs.run("build", topology(labs, software), expect=expect).stderr


@pytest.fixture
def ovs(user_labs: Labs) -> Path:
    tree = trees.ovs(user_labs.scratch / "ovs")
    own(user_labs, tree)
    return tree


@contextlib.contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """Repositories below a folder, served on loopback by git's own server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr", "--export-all",
               f"--base-path={folder}", str(folder)]  # fmt: skip
    environment = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, start_new_session=True)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.communicate()


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def packed(tree: Path, archive: Path) -> str:
    """A tarball of a tree, as releases are; its SHA-256 sum."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, arcname="openvswitch-3.1.9")
    return hashlib.sha256(archive.read_bytes()).hexdigest()


# ── where it comes from ──────────────────────────────────────────────────────────────────────────────


def test_a_branch_a_tag_and_a_commit_of_a_repository(user_labs: Labs, ovs: Path) -> None:
    first = trees.repository(ovs)
    trees.git(ovs, "tag", "--annotate", "--message", "one", "v3.1.9")
    trees.git(ovs, "branch", "stable/3.1")
    (ovs / "lib/greet.c").write_text((ovs / "lib/greet.c").read_text().replace("hello", "good evening"))
    second = trees.commit(ovs, "second")
    own(user_labs, ovs)
    for url in (f"file://{ovs}", str(ovs)):
        for ref, greeting in (
            ("v3.1.9", "hello"), ("stable/3.1", "hello"), (first, "hello"), (first[:10], "hello"),
            ("main", "good evening"), (second, "good evening"),
        ):  # fmt: skip
            build = built(user_labs, f"{{ovs: {{git: '{url}', ref: '{ref}'}}}}")
            assert says(build, "sbin/toy-switch") == f"{greeting} from openvswitch 3.1.9"
            assert build["parts"]["ovs"]["version"] == "3.1.9"
    # All of these are two commits.
    builds = user_labs.json("build", "--list")["builds"]
    mine = {b["key"] for b in builds if "ovs" in b["parts"] and str(ovs) in b["parts"]["ovs"]["origin"]}
    assert len(mine) == 2
    # The default branch; and nothing but the one commit is brought.
    assert says(built(user_labs, f"{{ovs: {{git: 'file://{ovs}'}}}}"), "sbin/toy-switch").startswith("good evening")


def test_a_branch_that_goes_on_is_built_anew_and_one_out_of_reach_is_what_it_was(user_labs: Labs, ovs: Path) -> None:
    trees.repository(ovs)
    own(user_labs, ovs)
    with git_daemon(user_labs.scratch) as url:
        software = f"{{ovs: {{git: {url}/ovs, ref: main}}}}"
        assert says(built(user_labs, software), "sbin/toy-switch").startswith("hello")
        (ovs / "lib/greet.c").write_text((ovs / "lib/greet.c").read_text().replace("hello", "goodbye"))
        commit = trees.commit(ovs, "second")
        assert says(built(user_labs, software), "sbin/toy-switch").startswith("goodbye")
        shallow = next((Path(user_labs.environment["XDG_CACHE_HOME"]) / "ovnlab/sources/git").glob("*/shallow"))
        assert shallow.read_text(), "the whole history was brought"
    result = user_labs.run("build", topology(user_labs, software))
    assert f"cannot be reached: main is taken as it was, {commit}" in result.stderr
    assert "toy" not in result.stdout
    assert commit[:12] in result.stdout


@pytest.mark.thorough
def test_the_persons_own_repository_is_left_alone(user_labs: Labs, ovs: Path) -> None:
    """Git tells its hooks which repository they are of; that is not the one that is fetched into."""
    trees.repository(ovs)
    victim = user_labs.scratch / "victim"
    trees.repository(trees.write(victim, {"file": ""}))
    own(user_labs, ovs, victim)
    before = everything_in(victim)
    user_labs.extra_environment.update(GIT_DIR=str(victim / ".git"), GIT_WORK_TREE=str(victim), GIT_INDEX_FILE="index")
    assert says(built(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: main}}}}"), "sbin/toy-switch").startswith("hello")
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")
    assert everything_in(victim) == before


@pytest.mark.thorough
def test_the_head_of_a_clone_is_its_own(user_labs: Labs, ovs: Path) -> None:
    trees.repository(ovs)
    trees.git(user_labs.scratch, "clone", "--quiet", str(ovs), "clone")
    clone = user_labs.scratch / "clone"
    (clone / "lib/greet.c").write_text((clone / "lib/greet.c").read_text().replace("hello", "of the clone"))
    trees.commit(clone, "second")
    own(user_labs, clone)
    assert says(built(user_labs, "{ovs: {git: ./clone}}"), "sbin/toy-switch").startswith("of the clone")


@pytest.mark.thorough
def test_a_branch_that_takes_the_place_of_a_folder_of_branches(user_labs: Labs, ovs: Path) -> None:
    trees.repository(ovs)
    trees.git(ovs, "branch", "feature/x")
    own(user_labs, ovs)
    built(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: feature/x}}}}")
    trees.git(ovs, "branch", "--move", "feature/x", "feature")
    own(user_labs, ovs)
    built(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: feature}}}}")
    assert "unknown branch" in failing(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: abcdef0}}}}")


@pytest.mark.thorough
def test_a_short_commit_of_a_branch_that_was_brought_before(user_labs: Labs, ovs: Path) -> None:
    first = trees.repository(ovs)
    (ovs / "lib/greet.c").write_text((ovs / "lib/greet.c").read_text().replace("hello", "later"))
    trees.commit(ovs, "second")
    own(user_labs, ovs)
    for ref, greeting in (("main", "later"), (first[:10], "hello")):
        build = built(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: '{ref}'}}}}")
        assert says(build, "sbin/toy-switch").startswith(greeting)


@pytest.mark.thorough
def test_several_fetch_the_same_at_once(user_labs: Labs, ovs: Path) -> None:
    trees.repository(ovs)
    own(user_labs, ovs)
    path = topology(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: main}}}}")
    processes = [user_labs.start("build", path, "--json") for _ in range(4)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results


@pytest.mark.thorough
def test_a_relative_path_is_of_the_folder_that_one_is_in(user_labs: Labs) -> None:
    for name in ("one", "two"):
        tree = trees.ovs(user_labs.scratch / name / "ovs")
        (tree / "lib/greet.c").write_text((tree / "lib/greet.c").read_text().replace("hello", name))
    own(user_labs, user_labs.scratch)
    for name in ("one", "two"):
        result = subprocess.run(
            user_labs.command("build", "--json", "--set", "software.ovs.path=ovs"), env=user_labs.environment,
            capture_output=True, text=True, check=True, cwd=user_labs.scratch / name,
        )  # fmt: skip
        (build,) = json.loads(result.stdout)["builds"]
        assert says(build, "sbin/toy-switch").startswith(name)


def test_a_download_that_breaks_off_is_not_kept(user_labs: Labs, ovs: Path) -> None:
    packed(ovs, user_labs.scratch / "ovs.tar.gz")
    content = (user_labs.scratch / "ovs.tar.gz").read_bytes()
    answers = [content[: len(content) // 2], b"<html>please log in</html>", content]

    class Breaking(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer) if answer.startswith(b"<") else len(content)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        software = f"{{ovs: {{tarball: 'http://127.0.0.1:{server.server_port}/ovs.tar.gz'}}}}"
        try:
            assert f"ended after {len(content) // 2} of {len(content)} bytes" in failing(user_labs, software, expect=3)
            assert "is not a tarball that can be unpacked" in failing(user_labs, software)
            assert says(built(user_labs, software), "sbin/toy-switch").startswith("hello")
        finally:
            server.shutdown()
            thread.join()
    # And one that is damaged in the middle is not unpacked in part.
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 0xFF
    (user_labs.scratch / "damaged.tar.gz").write_bytes(damaged)
    assert "is not a tarball that can be unpacked" in failing(user_labs, "{ovs: {tarball: damaged.tar.gz}}")
    (user_labs.scratch / "short.tar.gz").write_bytes(content[:-100])
    assert "is not a tarball that can be unpacked" in failing(user_labs, "{ovs: {tarball: short.tar.gz}}")


def test_a_ref_that_does_not_exist(user_labs: Labs, ovs: Path) -> None:
    trees.repository(ovs)
    own(user_labs, ovs)
    for ref in ("v9.9", "0123456789", "0" * 40):
        said = failing(user_labs, f"{{ovs: {{git: 'file://{ovs}', ref: '{ref}'}}}}")
        assert f"unknown branch, tag or commit {ref} in file://{ovs}" in said


def test_a_host_that_is_not_reached(user_labs: Labs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = failing(user_labs, f"{{ovs: {{git: git://127.0.0.1:{port}/ovs}}}}", expect=3)
    assert f"git://127.0.0.1:{port}/ovs cannot be reached" in said
    assert "Connection refused" in said
    said = failing(user_labs, f"{{ovs: {{tarball: http://127.0.0.1:{port}/ovs.tar.gz}}}}", expect=3)
    assert "cannot be downloaded" in said
    assert "Connection refused" in said


def test_a_tarball_by_file_and_by_url(user_labs: Labs, ovs: Path) -> None:
    total = packed(ovs, user_labs.scratch / "ovs.tar.gz")
    by_file = built(user_labs, f"{{ovs: {{tarball: ovs.tar.gz, sha256: '{total}'}}}}")
    assert says(by_file, "sbin/toy-switch") == "hello from openvswitch 3.1.9"
    with web_server(user_labs.scratch) as url:
        by_url = built(user_labs, f"{{ovs: {{tarball: {url}/ovs.tar.gz}}}}")
        assert by_url["key"] == by_file["key"], "the same content is the same build"
        assert "404" in failing(user_labs, f"{{ovs: {{tarball: {url}/other.tar.gz}}}}")
        wrong = failing(user_labs, f"{{ovs: {{tarball: {url}/ovs.tar.gz, sha256: '{'0' * 64}'}}}}")
    assert f"its SHA-256 sum is {total}, not 000" in wrong
    # Once it is here, nobody is asked for it again.
    assert built(user_labs, f"{{ovs: {{tarball: {url}/ovs.tar.gz}}}}")["key"] == by_file["key"]
    wrong = failing(user_labs, f"{{ovs: {{tarball: ovs.tar.gz, sha256: '{'1' * 64}'}}}}")
    assert f"its SHA-256 sum is {total}, not 111" in wrong


def member(name: str, **more: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(found, key, value)
    return found


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (member("../../escaped"), "is outside of it"),
        (member("/tmp/ovnlab-escaped"), "is outside of it"),
        (member("ovs/link", type=tarfile.SYMTYPE, linkname="../../.."), "leads outside of it"),
        (member("ovs/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "leads outside of it"),
        (member("ovs/link", type=tarfile.LNKTYPE, linkname="../../outside"), "leads outside of it"),
        (member("ovs/lib/dir/greet.h", type=tarfile.REGTYPE), "is behind a link"),
        (member("ovs/device", type=tarfile.CHRTYPE), "is neither file nor folder nor link"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_a_tarball_whose_members_escape(user_labs: Labs, ovs: Path, bad: tarfile.TarInfo, problem: str) -> None:
    with tarfile.open(user_labs.scratch / "bad.tar", "w") as tar:
        tar.add(ovs, arcname="ovs")
        tar.addfile(member("ovs/lib/dir", type=tarfile.SYMTYPE, linkname="../vswitchd"))
        tar.addfile(bad, io.BytesIO(b""))
    said = failing(user_labs, "{ovs: {tarball: bad.tar}}")
    assert problem in said
    assert "nothing is unpacked" in said
    assert not (user_labs.scratch.parent / "escaped").exists()
    assert not Path("/tmp/ovnlab-escaped").exists()


def test_what_is_no_source(user_labs: Labs) -> None:
    (user_labs.scratch / "text.tar.gz").write_text("no tarball at all")
    (user_labs.scratch / "empty").mkdir()
    with tarfile.open(user_labs.scratch / "other.tar", "w") as tar:
        tar.addfile(member("other/README"))
    assert "is not a tarball that can be unpacked" in failing(user_labs, "{ovs: {tarball: text.tar.gz}}")
    assert "has neither configure.ac nor configure" in failing(user_labs, "{ovs: {tarball: other.tar}}")
    assert "No such file" in failing(user_labs, "{ovs: {tarball: missing.tar}}")
    assert "has neither configure.ac nor configure" in failing(user_labs, "{ovs: {path: empty}}")
    assert "is not a folder" in failing(user_labs, "{ovs: {path: missing}}")


def test_the_distributions_source_of_ovn(user_labs: Labs) -> None:
    """Where the mirror does not have it, that is said; apt's own state stays what it is."""
    before = sorted(Path("/var/lib/apt/lists").rglob("*"))
    result = user_labs.run(
        "build", topology(user_labs, "{ovn: {distro: true}, ovn_library: {distro: true}}"), expect=None
    )
    assert sorted(Path("/var/lib/apt/lists").rglob("*")) == before
    if result.returncode != 0:
        assert result.returncode == 3
        assert "dpkg-source" in result.stderr or "could not be downloaded from the distribution" in result.stderr


# ── OVN, against the OVS that it pins ────────────────────────────────────────────────────────────────


@pytest.fixture
def ovn(user_labs: Labs, ovs: Path) -> Path:
    """A repository of OVN that pins a commit of OVS that is not the end of any branch."""
    pinned = trees.repository(ovs)
    (ovs / "lib/greet.c").write_text((ovs / "lib/greet.c").read_text().replace("hello", "too new"))
    trees.commit(ovs, "second")
    tree = trees.ovn(user_labs.scratch / "ovn")
    trees.repository(tree)
    trees.pin(tree, f"file://{ovs}", pinned)
    own(user_labs, ovs, tree)
    return tree


def test_ovn_is_compiled_against_the_ovs_that_it_pins_and_another_runs(user_labs: Labs, ovs: Path, ovn: Path) -> None:
    build = built(user_labs, f"{{ovs: {{git: 'file://{ovs}'}}, ovn: {{git: 'file://{ovn}', ref: main}}}}")
    assert says(build, "bin/toy-controller") == "hello from ovn 23.03.9"
    assert says(build, "sbin/toy-switch") == "too new from openvswitch 3.1.9"
    # One of them may come from packages, the other is what it was, and is not built again.
    path = topology(user_labs, f"{{ovn: {{git: 'file://{ovn}', ref: main}}}}")
    assert "building" not in user_labs.run("build", path).stderr
    alone = built(user_labs, f"{{ovn: {{git: 'file://{ovn}', ref: main}}}}")
    assert set(alone["parts"]) == {"ovn"}
    assert not Path(alone["path"], "sbin").exists()
    # What it is compiled against can be said.
    said = built(user_labs, f"{{ovn: {{git: 'file://{ovn}'}}, ovn_library: {{git: 'file://{ovs}', ref: main}}}}")
    assert says(said, "bin/toy-controller") == "too new from ovn 23.03.9"


def test_a_working_tree_of_ovn_keeps_the_ovs_that_it_is_compiled_against(user_labs: Labs, ovn: Path) -> None:
    build = built(user_labs, f"{{ovn: {{path: {ovn}}}}}")
    assert says(build, "bin/toy-controller") == "hello from ovn 23.03.9"
    source = ovn / "controller/toy-controller.c"
    source.write_text(source.read_text().replace("%s from", "%s again from"))
    again = built(user_labs, f"{{ovn: {{path: {ovn}}}}}")
    assert says(again, "bin/toy-controller") == "hello again from ovn 23.03.9"
    log = newest_log(user_labs, "ovn-")
    assert compiled(log) == ["controller/toy-controller.o"]
    assert "configure" not in log
    assert newest_log(user_labs, "ovs-library-") == "", "the library was compiled again"


def newest_log(labs: Labs, name: str) -> str:
    folder = Path(labs.environment["XDG_CACHE_HOME"]) / "ovnlab/building/logs"
    return max(folder.glob(f"{name}*.log"), key=lambda path: path.stat().st_mtime_ns).read_text()


def compiled(log: str) -> list[str]:
    return [line.split()[1] for line in log.splitlines() if line.startswith("  CC ")]


@pytest.mark.thorough
def test_an_ovs_whose_place_is_relative_to_that_of_ovn(user_labs: Labs, ovs: Path) -> None:
    pinned = trees.repository(ovs)
    tree = trees.ovn(user_labs.scratch / "ovn")
    trees.repository(tree)
    trees.pin(tree, "../ovs", pinned)
    trees.git(user_labs.scratch, "clone", "--quiet", str(tree), "elsewhere/clone")
    clone = user_labs.scratch / "elsewhere/clone"
    own(user_labs, user_labs.scratch)
    for origin in (f"git: 'file://{tree}'", f"git: {tree}/", f"path: {clone}"):
        build = built(user_labs, f"{{ovn: {{{origin}}}}}")
        assert says(build, "bin/toy-controller") == "hello from ovn 23.03.9"


def test_two_trees_that_are_worked_on_at_once(user_labs: Labs) -> None:
    """OVN is linked with the working tree of OVS that runs: a change of OVN compiles that file, and nothing else.

    What a build has in common with the one before is the same file, so that its daemons need not be restarted.
    """
    tree = trees.ovn(user_labs.scratch / "ovn")
    switch = trees.ovs(user_labs.scratch / "ovs")
    (switch / "of-this-test").write_text("two trees")
    own(user_labs, tree, switch)
    software = f"{{ovs: {{path: {switch}}}, ovn: {{path: {tree}}}, ovn_library: {{path: {switch}}}}}"
    before = built(user_labs, software)
    source = tree / "controller/toy-controller.c"
    source.write_text(source.read_text().replace("%s from", "%s once more from"))
    after = built(user_labs, software)
    assert says(after, "bin/toy-controller") == "hello once more from ovn 23.03.9"
    assert compiled(newest_log(user_labs, "ovn-")) == ["controller/toy-controller.o"]
    same = {
        name: Path(before["path"], "bin", name).samefile(Path(after["path"], "bin", name))
        for name in ("toy-controller", "toy-northd")
    }
    assert same == {"toy-controller": False, "toy-northd": True}


@pytest.mark.thorough
def test_a_function_that_is_missing_does_not_cost_the_kept_copy(user_labs: Labs, ovs: Path) -> None:
    (ovs / "of-this-test").write_text("2")
    built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    source = ovs / "vswitchd/toy-switch.c"
    right = source.read_text()
    source.write_text(right.replace("greeting()", "greetings()"))
    assert "undefined reference to `greetings'" in failing(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    assert compiled(newest_log(user_labs, "ovs-")) == ["vswitchd/toy-switch.o"]


@pytest.mark.thorough
def test_a_populated_submodule_is_what_a_working_tree_is_compiled_against(user_labs: Labs) -> None:
    tree = trees.ovn(user_labs.scratch / "ovn")
    trees.ovs(tree / "ovs")
    own(user_labs, tree)
    build = built(user_labs, f"{{ovn: {{path: {tree}}}}}")
    assert says(build, "bin/toy-controller") == "hello from ovn 23.03.9"


def test_an_ovn_that_does_not_say_what_it_is_compiled_against(user_labs: Labs) -> None:
    tree = trees.ovn(user_labs.scratch / "ovn")
    own(user_labs, tree)
    said = failing(user_labs, f"{{ovn: {{path: {tree}}}}}")
    assert "does not say which OVS it is compiled against" in said
    assert "ovn_library" in said


def test_what_cannot_compile_is_refused_before_it_is_built(user_labs: Labs, ovs: Path) -> None:
    tree = trees.ovn(user_labs.scratch / "ovn", version="24.03.2")
    own(user_labs, tree)
    said = failing(user_labs, f"{{ovn: {{path: {tree}}}, ovn_library: {{path: {ovs}}}}}")
    assert "OVN 24.03.2 does not compile against OVS 3.1.9: it takes OVS 3.3" in said
    assert "branch-3.3" in said


# ── what is built ────────────────────────────────────────────────────────────────────────────────────


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def test_a_working_tree_is_read_and_never_written_to(user_labs: Labs, ovs: Path) -> None:
    (ovs / "of-this-test").write_text("")  # what others have built is not built again
    before = everything_in(ovs)
    first = built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    assert everything_in(ovs) == before
    source = ovs / "vswitchd/toy-switch.c"
    source.write_text(source.read_text().replace("%s from", "%s there from"))
    second = built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    assert says(second, "sbin/toy-switch") == "hello there from openvswitch 3.1.9"
    assert compiled(newest_log(user_labs, "ovs-")) == ["vswitchd/toy-switch.o"]
    assert first["key"] != second["key"]
    # A date alone is not a change; what was before is there still.
    os.utime(source)
    assert built(user_labs, f"{{ovs: {{path: {ovs}}}}}")["key"] == second["key"]
    source.write_text(source.read_text().replace("%s there from", "%s from"))
    assert built(user_labs, f"{{ovs: {{path: {ovs}}}}}")["key"] == first["key"]
    # A header: all that reads it, and a file that is gone is gone.
    (ovs / "lib/greet.h").write_text("/* other */\nconst char *greeting(void);\n")
    (ovs / "unused").write_text("")
    built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    assert sorted(compiled(newest_log(user_labs, "ovs-"))) == ["lib/greet.o", "vswitchd/toy-switch.o"]


@pytest.mark.thorough
def test_a_tree_that_somebody_has_built_in(user_labs: Labs, ovs: Path) -> None:
    """Its objects are not ours: they were compiled for somewhere else."""
    objects = ovs / "lib/greet.o"
    objects.write_bytes(b"not an object")
    (ovs / "config.status").write_text("exit 1\n")
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")
    # Where git knows the tree, it says what is part of it.
    (ovs / ".gitignore").write_text("*.o\nconfig.status\n/generated\n")
    (ovs / "generated").write_text("#error\n")
    trees.repository(ovs)
    own(user_labs, ovs)
    (ovs / "untracked.h").write_text("")
    build = built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    (ovs / "generated").write_text("#error something else\n")
    assert built(user_labs, f"{{ovs: {{path: {ovs}}}}}")["key"] == build["key"]
    (ovs / "untracked.h").write_text("/* a change */")
    assert built(user_labs, f"{{ovs: {{path: {ovs}}}}}")["key"] != build["key"]


@pytest.mark.thorough
def test_links_of_a_tree(user_labs: Labs, ovs: Path) -> None:
    """To a folder of it, and to a file outside: what that contains is of the tree."""
    (ovs / "lib").rename(ovs / "really")
    (ovs / "lib").symlink_to("really")
    outside = user_labs.scratch / "greet.c"
    (ovs / "really/greet.c").rename(outside)
    (ovs / "really/greet.c").symlink_to("../../greet.c")
    trees.repository(ovs)
    own(user_labs, ovs)
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")
    outside.write_text(outside.read_text().replace("hello", "from outside"))
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("from outside")


@pytest.mark.thorough
def test_a_cache_whose_name_has_a_space(user_labs: Labs, ovs: Path) -> None:
    user_labs.cache = user_labs.state / "a cache"
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")
    user_labs.cache = user_labs.state / "a:cache"
    said = user_labs.run("build", topology(user_labs, f"{{ovs: {{path: {ovs}}}}}"), expect=None)
    assert said.returncode == 0 or (said.returncode == 3 and "overlay mounts cannot have :" in said.stderr)


def test_only_what_a_lab_runs_is_in_a_build(user_labs: Labs, ovs: Path) -> None:
    """A test program and a manual page that cannot be made are in the tree: nobody tries."""
    build = built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    files = {str(path.relative_to(build["path"])) for path in Path(build["path"]).rglob("*") if path.is_file()}
    assert files == {"manifest.json", "sbin/toy-switch", "share/openvswitch/share.ovsschema"}
    # A plain `make` in the same tree does try, which shows that there is something to leave out.
    assert "#error" in (ovs / "tests/never.c").read_text()


def test_profiles_and_flags(user_labs: Labs, ovs: Path) -> None:
    keys, symbols = [], []
    for how in ("profile: fast", "profile: perf", "profile: debug", "cflags: -O1 -g3", "cflags: -Os"):
        build = built(user_labs, f"{{ovs: {{path: {ovs}}}, {how}}}")
        keys.append(build["key"])
        symbols.append(b".debug_info" in Path(build["path"], "sbin/toy-switch").read_bytes())
    assert len(set(keys)) == 5
    assert symbols == [False, False, True, True, False]


def test_building_twice_is_building_once(user_labs: Labs, ovs: Path) -> None:
    built(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    path = topology(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    assert "building" not in user_labs.run("build", path).stderr
    # And what another build has is not built for this one.
    tree = trees.ovn(user_labs.scratch / "ovn")
    own(user_labs, tree)
    both = topology(user_labs, f"{{ovs: {{path: {ovs}}}, ovn: {{path: {tree}}}, ovn_library: {{path: {ovs}}}}}")
    said = user_labs.run("build", both).stderr
    assert "building OVN 23.03.9" in said
    assert "building OVS" not in said


@pytest.mark.thorough
def test_ccache_is_used_where_it_is(root_labs: Labs, root: Account) -> None:
    """It is 'installed' here by laying its package over /usr, for one command."""
    selection = Selection("ccache", "ccache", ("ccache",), "")
    tree = trees.ovs(root_labs.scratch / "ovs")
    software = f"{{ovs: {{path: {tree}}}}}"
    built(root_labs, software)  # where tools are missing, they are downloaded
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", root_labs.environment["XDG_CACHE_HOME"])
        ccache = packages.tree(selection, print).tree
    root_labs.extra_environment["CCACHE_DIR"] = str(root_labs.scratch / "ccache")
    path = topology(root_labs, f"{{ovs: {{path: {tree}}}, cflags: -O3}}")
    lay = f"mount -t overlay -o lowerdir={ccache}/usr:/usr overlay /usr"
    command = ["unshare", "--mount", "sh", "-c", f'{lay} && exec "$@"', "sh", *root_labs.command("build", path)]
    result = subprocess.run(
        command, env=root_labs.environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert result.returncode == 0, result.stderr
    assert [path for path in (root_labs.scratch / "ccache").rglob("*R") if path.is_file()], "nothing is in its cache"


def test_the_scripts_of_a_build_are_rendered(user_labs: Labs, ovs: Path) -> None:
    path = topology(
        user_labs, "{ovs: {git: 'https://example.org/ovs', ref: v1}, ovn: {path: /src/ovn}, profile: debug}"
    )
    shown = user_labs.out("render", path)
    for expected in ("ls-remote", "boot.sh", "CFLAGS='-O0 -g'", "--with-ovs-build=", "noinst_PROGRAMS=", "builds/KEY"):
        assert expected in shown


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────


def kept(labs: Labs) -> set[str]:
    return {build["key"] for build in labs.json("build", "--list")["builds"]}


def test_a_broken_tree_fails_with_file_and_line_and_leaves_nothing(user_labs: Labs, ovs: Path) -> None:
    before = kept(user_labs)
    source = ovs / "vswitchd/toy-switch.c"
    right = source.read_text()
    source.write_text(right.replace("return 0; }", "return 0 }"))
    said = failing(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    line = right.count("\n", 0, right.index("return 0;")) + 1
    assert f"OVS: {source}:{line}: expected" in said
    log = said.split("the whole log: ")[1].split()[0]
    assert "error: expected" in Path(log).read_text()
    assert kept(user_labs) == before
    source.write_text(right)
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("configure.ac", "AC_OUTPUT", "AC_MSG_ERROR([no luck today])\nAC_OUTPUT", "OVS: no luck today"),
        (
            "configure.ac",
            "AC_OUTPUT",
            "AC_INVENTED\nAC_OUTPUT",
            "configure.ac:10: possibly undefined macro: AC_INVENTED",
        ),
        ("vswitchd/toy-switch.c", "greeting()", "greetings()", "undefined reference to `greetings'"),
        ("Makefile.am", "lib/greet.c", "lib/missing.c", "lib/missing.c"),
        ("boot.sh", "set -e", "exit 7", "exit code 7 from: sh ./boot.sh"),
    ],
)
def test_the_first_error_of_any_step(user_labs: Labs, ovs: Path, file: str, old: str, new: str, said: str) -> None:
    (ovs / file).write_text((ovs / file).read_text().replace(old, new))
    error = failing(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    first = next(line for line in error.splitlines() if line.startswith("ovnlab: OVS"))
    assert said in first
    assert "the whole log: " in error


def test_a_build_that_is_killed_is_done_again(user_labs: Labs, ovs: Path) -> None:
    """All that it started ends with it, and what a killed compiler left is not taken for good."""
    slow = ovs / "Makefile.am"
    right = slow.read_text()
    slow.write_text(right + "BUILT_SOURCES = waits\nwaits:\n\ttouch $(srcdir)/begun; sleep 60; touch waits\n")
    path = topology(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    cache = Path(user_labs.environment["XDG_CACHE_HOME"]) / "ovnlab/building"
    process = user_labs.start("build", path)

    def begun() -> list[Path]:
        return list(cache.glob("trees/*/ovs/begun"))

    wait(lambda: bool(begun()))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    tree = begun()[0].parent
    wait(lambda: not any(str(cache) in text for text in working_folders()))
    (tree / "lib/greet.o").write_bytes(b"half an obj")
    slow.write_text(right)
    assert says(built(user_labs, f"{{ovs: {{path: {ovs}}}}}"), "sbin/toy-switch").startswith("hello")


def wait(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def working_folders() -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit():
                found.append(os.readlink(process / "cwd"))
    return found


def test_an_interrupted_build_ends_all_that_it_started(user_labs: Labs, ovs: Path) -> None:
    (ovs / "boot.sh").write_text("sleep 61.25\n")
    process = user_labs.start("build", topology(user_labs, f"{{ovs: {{path: {ovs}}}}}"))

    def sleeping() -> bool:
        return any("61.25" in line for line in arguments())

    wait(sleeping)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in said
    wait(lambda: not sleeping())


def arguments() -> list[list[str]]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            found.append((process / "cmdline").read_bytes().decode(errors="replace").split("\0"))
    return found


def test_of_two_builds_at_once_one_is_made(user_labs: Labs, ovs: Path) -> None:
    (ovs / "boot.sh").write_text(f"{(ovs / 'boot.sh').read_text()}sleep 2\n")
    path = topology(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    processes = [user_labs.start("build", path, "--json") for _ in range(2)]
    results = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len({json.loads(out)["builds"][0]["key"] for out, _ in results}) == 1
    said = "".join(text for _, text in results)
    assert said.count("building OVS 3.1.9") == 1
    assert "waiting for another ovnlab that is building" in said


def test_a_corrupt_build_is_noticed_and_made_again(user_labs: Labs, ovs: Path) -> None:
    software = f"{{ovs: {{path: {ovs}}}}}"
    build = built(user_labs, software)
    program = Path(build["path"], "sbin/toy-switch")
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1  # of the same size
    program.write_bytes(content)
    result = user_labs.run("build", topology(user_labs, software))
    assert f"build {build['key']} is damaged and is made again" in result.stderr
    assert says(built(user_labs, software), "sbin/toy-switch").startswith("hello")
    program.unlink()
    (listed,) = (b for b in user_labs.json("build", "--list")["builds"] if b["key"] == build["key"])
    assert not listed["intact"]
    assert "damaged" in user_labs.out("build", "--list")
    assert "is damaged" in user_labs.run("build", topology(user_labs, software)).stderr


def test_a_missing_compiler(user_labs: Labs, ovs: Path) -> None:
    """Without network, and with nothing downloaded before; a compiler that lacks nothing is not hidden here."""
    findings = {found["name"]: found for found in user_labs.json("doctor")["findings"]}
    if findings["compiler"]["ok"]:
        pytest.skip("this machine has a compiler")
    user_labs.cache = user_labs.state / "empty-cache"
    path = topology(user_labs, f"{{ovs: {{path: {ovs}}}}}")
    account = user_labs.account
    command = [*account.prefix, "unshare", "--user", "--map-root-user", "--net"]
    result = subprocess.run(
        [*command, account.python, "-m", "ovnlab", "build", path], env=user_labs.environment, capture_output=True,
        text=True, check=False, cwd=user_labs.scratch, timeout=120,
    )  # fmt: skip
    assert result.returncode == 3
    assert "the packages of a compiler could not be downloaded" in result.stderr
    assert "ovnlab doctor --fix" in result.stderr


@pytest.mark.thorough
def test_a_full_disk(root_labs: Labs) -> None:
    tree = trees.ovs(root_labs.scratch / "ovs")
    (tree / "boot.sh").write_text(f"{trees.BOOT}dd if=/dev/zero of=filling bs=1M count=900 || :\n")
    root_labs.cache = root_labs.scratch / "small"
    root_labs.cache.mkdir()
    path = topology(root_labs, f"{{ovs: {{path: {tree}}}}}")
    for size, problem in (("300m", "600 are needed"), ("850m", "the disk is full")):
        prepare = f"mount -t tmpfs -o size={size} tmpfs {root_labs.cache}"
        command = ["unshare", "--mount", "sh", "-c", f'{prepare} && exec "$@"', "sh", *root_labs.command("build", path)]
        result = subprocess.run(
            command, env=root_labs.environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert result.returncode == 3, result.stderr
        assert problem in result.stderr
        assert "make room" in result.stderr
