"""A node has a root folder of its own: what it does there leaves nothing on the machine, whoever made the lab."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import ROOT, Account, Labs

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: central}, vm2: {chassis: worker1}}
"""

MARK = "ovnlab-was-here"

FOLDERS = (
    "/", "/root", "/home", "/boot", "/usr", "/usr/bin", "/usr/local/bin", "/usr/lib", "/lib", "/bin", "/sbin", "/etc",
    "/etc/cron.d", "/etc/ssh", "/etc/systemd/system", "/opt", "/srv", "/mnt", "/media", "/var", "/var/cache",
    "/var/spool", "/var/spool/cron", "/var/lib", "/var/lib/dpkg", "/var/log", "/var/tmp", "/tmp", "/run", "/dev",
    "/dev/shm", "/sys/fs/cgroup", "/sys/kernel", str(ROOT),
)  # fmt: skip
FILES = (
    "/etc/passwd", "/etc/shadow", "/etc/ld.so.preload", "/usr/bin/env", "/dev/sda", "/dev/vda", "/dev/mem", "/dev/kmsg",
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/panic", "/proc/sys/vm/swappiness", "/proc/sys/fs/file-max",
    "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/sys/power/state", "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)  # fmt: skip
"""Opened for writing and not written to: what is open to a node is found, and nothing is harmed."""

OWN = {"/proc/1/oom_score_adj"}
"""Of a process of the node's own."""


@pytest.fixture(scope="module", params=["root", "ordinary"])
def two(request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Labs]:
    account: Account = request.getfixturevalue(request.param)
    for labs in labs_in(account, session_folder / f"walls-{request.param}"):
        labs.run("up", labs.write("two.yaml", TWO))
        yield labs


@pytest.mark.parametrize("where", ["worker1", "vm2"])
def test_nothing_that_is_written_in_a_node_is_on_the_machine(two: Labs, where: str) -> None:
    marks = [f"{folder.rstrip('/')}/{MARK}" for folder in FOLDERS]
    assert len(marks) + len(FILES) > 40
    left = []
    try:
        two.on(where, "sh", "-c", 'for mark; do { true >>"$mark"; } 2>/dev/null || :; done', "sh", *marks)
        left = [mark for mark in marks if Path(mark).exists()]
        assert left == []
    finally:
        for mark in left:
            Path(mark).unlink()
    script = 'for file; do [ ! -e "$file" ] || ! { true >>"$file"; } 2>/dev/null || echo "$file"; done'
    opened = two.on(where, "sh", "-c", script, "sh", *FILES).split()
    assert set(opened) <= OWN


def test_a_node_writes_to_its_own_root_folder(two: Labs) -> None:
    two.on("worker1", "sh", "-c", "mkdir /data && echo mine >/data/file")
    assert two.on("worker1", "cat", "/data/file") == "mine\n"
    two.run("exec", "central", "--", "cat", "/data/file", expect=1)
    assert not Path("/data/file").exists()


def test_a_node_sees_no_file_of_a_person(two: Labs) -> None:
    seen = two.on("worker1", "ls", "-A", "/root", "/home", "/srv", "/mnt").split()
    assert set(seen) <= {"/root:", "/home:", "/srv:", "/mnt:", MARK}
    two.run("exec", "worker1", "--", "ls", "/boot", expect=2)
    two.run("exec", "worker1", "--", "cat", "/etc/shadow", expect=1)
    two.run("exec", "worker1", "--", "ls", str(ROOT), expect=2)
    two.run("exec", "worker1", "--", "ls", str(two.state), expect=2)


def test_walls_cannot_be_taken_down_from_inside(two: Labs) -> None:
    """Root of a node is root of nothing on this machine: it may mount and unmount what it likes."""
    harmed = two.on(
        "worker1", "unshare", "--mount", "sh", "-c",
        "exec 2>/dev/null;"
        "mount -o remount,rw /usr && touch /usr/mark && echo usr;"
        "mount -o remount,rw /proc/sys; { true >/proc/sys/kernel/core_pattern; } && echo core_pattern;"
        "umount -l /proc/sys; { true >/proc/sys/kernel/core_pattern; } && echo core_pattern;"
        "mount -t proc proc /mnt && { true >/mnt/sys/kernel/core_pattern; } && echo core_pattern;"
        "umount -l /sys; umount -l /sys; mount -t sysfs sysfs /sys; { true >/sys/power/state; } && echo sys;"
        "umount -l /root; umount -l /; ls /boot /work /root/.ssh;"
        "mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1 && echo disk;"
        "mount -t devtmpfs dev /mnt && echo devices;"
        "date -s \"@$(date +%s)\" >/dev/null && echo clock;"
        "modprobe dummy && echo module;"
        ":",
    )  # fmt: skip
    assert harmed == ""


def test_root_of_a_lab_is_nobody_on_this_machine(two: Labs) -> None:
    for pid in two.nodes("two").values():
        status = Path(f"/proc/{pid}/status").read_text()
        users = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert "0" not in users


def test_what_the_lab_keeps_of_a_node_survives_the_node(two: Labs) -> None:
    """Databases and logs are the lab's, and readable for who made it."""
    two.on("worker1", "touch", f"/var/lib/{MARK}", f"/var/log/{MARK}")
    assert (two.state / "ovnlab/labs/two/nodes/worker1/lib" / MARK).exists()
    assert (two.state / "ovnlab/logs/two/worker1" / MARK).exists()
    two.run("down")
    two.run("up", two.write("two.yaml", TWO))
    two.run("ping", "vm1", "vm2")


def test_without_a_user_namespace_root_has_walls_all_the_same(root_labs: Labs) -> None:
    """And the lab's log says what it lacks."""
    programs = root_labs.scratch / "bin"
    programs.mkdir()
    real = shutil.which("unshare")
    (programs / "unshare").write_text(f'#!/bin/sh\n[ "$1 $2" != "--user sleep" ] || exit 1\nexec {real} "$@"\n')
    (programs / "unshare").chmod(0o755)
    root_labs.extra_environment["PATH"] = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    root_labs.run("up", root_labs.write("two.yaml", TWO))
    assert "no user namespaces" in (root_labs.state / "ovnlab/logs/two/lab.log").read_text()
    root_labs.on("worker1", "touch", f"/{MARK}")
    assert not Path(f"/{MARK}").exists()
    root_labs.run("exec", "worker1", "--", "sh", "-c", "true >/proc/sys/kernel/core_pattern", expect=2)
    root_labs.run("exec", "worker1", "--", "sh", "-c", "true >/sys/power/state", expect=2)
    root_labs.run("ping", "vm1", "vm2")
