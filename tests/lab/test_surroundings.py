"""Bad surroundings: a clear error that names the fix, exit code 3, and nothing left half done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.harness import Account, Labs

SINGLE = "name: one\nnodes: {central: {role: central}}\n"

# A private view of this machine for one command: files of it are hidden below others, its own stay as they are.
IN_PRIVATE = ["unshare", "--mount", "--propagation=private", "sh", "-c"]


# Of OVS and OVN that this machine has installed, the programs are hidden; what is not a program is not found.
NOT_INSTALLED = (
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; for program in ovsdb-server ovs-vswitchd ovs-vsctl ovn-northd ovn-controller ovn-nbctl ovn-sbctl; do"
    ' for path in $(which -a "$program"); do mount --bind /dev/null "$(readlink -f "$path")"; done; done'
)


def run_in(labs: Labs, prepare: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of root's, in a mount namespace that `prepare` made a worse place."""
    command = [*IN_PRIVATE, f'{prepare} && exec "$@"', "sh", *labs.command(*words)]
    result = subprocess.run(
        command, env=labs.environment, capture_output=True, text=True, timeout=250, cwd=labs.scratch, check=False
    )
    assert "Traceback" not in result.stderr
    return result


def test_no_network_and_an_empty_cache(root_labs: Labs) -> None:
    root_labs.cache = root_labs.state / "empty-cache"
    path = root_labs.write("one.yaml", SINGLE)
    result = run_in(root_labs, f'{NOT_INSTALLED}; set -- unshare --net "$@"', "up", path)
    assert result.returncode == 3, result.stderr
    assert "the packages of OVS and OVN could not be downloaded" in result.stderr
    assert "connect this machine to its package mirror once" in result.stderr
    assert root_labs.audit() == []


def test_without_network_what_is_installed_is_used_and_that_is_said(root_labs: Labs, root: Account) -> None:
    """Where OVS and OVN are not, they are 'installed' here by laying the downloaded ones over /usr, for one command."""
    tree = _tree(root_labs)
    root_labs.cache = root_labs.state / "empty-cache"
    path = root_labs.write("one.yaml", SINGLE)
    installed = ":" if shutil.which("ovs-vswitchd") else f"mount -t overlay -o lowerdir={tree}/usr:/usr overlay /usr"
    command = [
        "unshare", "--net", *IN_PRIVATE, f'{installed} && exec "$@"', "sh", *root_labs.command("up", path),
    ]  # fmt: skip
    result = subprocess.run(
        command, env=root_labs.environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "using the OVS and OVN that are installed" in result.stderr
    assert root_labs.json("status")["nodes"][0]["running"]


def _tree(labs: Labs) -> Path:
    """The packages that an earlier lab of the same user downloaded; this brings one up where there was none."""
    path = labs.write("first.yaml", SINGLE)
    labs.run("up", path)
    labs.run("down")
    cache = Path(labs.environment["XDG_CACHE_HOME"]) / "ovnlab/software"
    return next(path for path in cache.iterdir() if path.name.startswith("packages-")).resolve()


def test_a_system_without_ovs(root_labs: Labs) -> None:
    path = root_labs.write("one.yaml", SINGLE + "software: system\n")
    result = run_in(root_labs, NOT_INSTALLED, "up", path)
    assert result.returncode == 3, result.stderr
    assert "OVS and OVN are not installed (ovsdb-server" in result.stderr
    assert "software: packages" in result.stderr
    assert root_labs.audit() == []


def test_an_ovs_that_is_too_old(root_labs: Labs) -> None:
    """There is no such old OVS to be had: a script that tells its version stands for it."""
    tree = root_labs.scratch / "old/sbin"
    tree.mkdir(parents=True)
    programs = ("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovn-northd", "ovn-controller", "ovn-nbctl", "ovn-sbctl")
    for program in programs:
        (tree / program).write_text('#!/bin/sh\necho "ovs-vswitchd (Open vSwitch) 2.5.12"\n')
        (tree / program).chmod(0o755)
    path = root_labs.write("one.yaml", SINGLE + "software: system\n")
    result = run_in(root_labs, f"mount --bind {tree} /usr/local/sbin", "up", path)
    assert result.returncode == 3
    assert "ovs-vswitchd 2.5.12 is too old: at least 2.13 is needed" in result.stderr


@pytest.mark.thorough
def test_a_damaged_cache_is_noticed_and_made_again(user_labs: Labs) -> None:
    user_labs.cache = user_labs.state / "own-cache"
    path = user_labs.write("one.yaml", SINGLE)
    user_labs.run("up", path)
    user_labs.run("down")
    tree = next(p for p in (user_labs.cache / "ovnlab/software").iterdir() if p.name.startswith("packages-")).resolve()
    (tree / "usr/sbin/ovsdb-server").write_bytes(b"half a file")
    said = user_labs.run("up", path).stderr
    assert "is damaged and is made again" in said
    user_labs.run("down")
    (tree / "usr/bin/ovn-controller").unlink()
    assert "is damaged and is made again" in user_labs.run("up", path).stderr
    user_labs.run("down")
    assert "damaged" not in user_labs.run("up", path).stderr
    user_labs.run("down")
    shutil.rmtree(user_labs.cache)


def test_a_second_lab_costs_no_download(user_labs: Labs) -> None:
    user_labs.run("up", "single")
    assert "downloading" not in user_labs.run("up", "routed").stderr


def test_two_at_once_make_the_software_once(user_labs: Labs) -> None:
    user_labs.cache = user_labs.state / "own-cache"
    paths = [user_labs.write(f"{name}.yaml", SINGLE.replace("one", name)) for name in ("first", "second")]
    started = [user_labs.start("up", path) for path in paths]
    results = [(process.communicate(timeout=100)[1], process.returncode) for process in started]
    assert [code for _, code in results] == [0, 0]
    said = "".join(text for text, _ in results)
    assert said.count("downloading OVS and OVN") == 1 + said.count("another ovnlab that is downloading")
    trees = [p for p in (user_labs.cache / "ovnlab/software").iterdir() if p.is_dir() and not p.is_symlink()]
    assert len(trees) == 1
    user_labs.run("down", "--all")
    shutil.rmtree(user_labs.cache)


def test_no_tun_device(root_labs: Labs) -> None:
    path = root_labs.write("one.yaml", SINGLE)
    result = run_in(root_labs, "mount -t tmpfs tmpfs /dev/net", "up", path)
    assert result.returncode == 3, result.stderr
    assert "there is no /dev/net/tun" in result.stderr
    assert "mknod" in result.stderr
    assert root_labs.audit() == []


def test_user_namespaces_are_forbidden(user_labs: Labs) -> None:
    """The limit is one of each user namespace: it is set in one of its own, and this machine's stays as it is."""
    path = user_labs.write("one.yaml", SINGLE)
    account = user_labs.account
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all "$@"'
    command = [
        *account.prefix, "unshare", "--user", "--map-user=1000", "--keep-caps",
        "sh", "-c", forbid, "sh", account.python, "-m", "ovnlab",
    ]  # fmt: skip
    for words in (["up", path], ["doctor"]):
        result = subprocess.run(
            [*command, *words], env=user_labs.environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert result.returncode == 3, result.stderr
        said = result.stdout + result.stderr
        assert "namespaces are forbidden: user.max_user_namespaces is 0" in said
        assert "sudo sysctl -w user.max_user_namespaces=15000" in said
    assert user_labs.audit() == []


def test_a_full_disk(root_labs: Labs) -> None:
    path = root_labs.write("one.yaml", SINGLE)
    _tree(root_labs)
    result = run_in(root_labs, f"mount -t tmpfs -o size=30m tmpfs {root_labs.state}", "up", path)
    assert result.returncode == 3
    assert "MiB are free where labs are kept, 64 are needed" in result.stderr
    assert "XDG_STATE_HOME" in result.stderr


def test_a_full_disk_while_downloading(root_labs: Labs) -> None:
    path = root_labs.write("one.yaml", SINGLE)
    root_labs.cache = root_labs.scratch / "cache"
    root_labs.cache.mkdir()
    result = run_in(root_labs, f"{NOT_INSTALLED}; mount -t tmpfs -o size=20m tmpfs {root_labs.cache}", "up", path)
    assert result.returncode == 3, result.stderr
    assert "MiB are free where packages are kept, 200 are needed" in result.stderr
    assert "XDG_CACHE_HOME" in result.stderr
    assert root_labs.audit() == []


def test_a_state_folder_of_another_user(user_labs: Labs, root: Account) -> None:
    user_labs.state.mkdir()
    os.chown(user_labs.state, 0, 0)
    user_labs.state.chmod(0o755)
    error = user_labs.run("up", user_labs.write("one.yaml", SINGLE), expect=3).stderr
    assert "XDG_STATE_HOME" in error
    (user_labs.state / "ovnlab").mkdir(mode=0o755)
    error = user_labs.run("up", str(user_labs.scratch / "one.yaml"), expect=3).stderr
    assert "belongs to user 0" in error
    assert "sudo chown -R" in error
    shutil.rmtree(user_labs.state)


def test_a_lab_name_in_use(user_labs: Labs) -> None:
    user_labs.run("up", user_labs.write("one.yaml", SINGLE))
    other = user_labs.scratch / "elsewhere"
    other.mkdir()
    (other / "one.yaml").write_text(SINGLE)
    error = user_labs.run("up", str(other / "one.yaml"), expect=3).stderr
    assert f"the name of lab one is in use: it was made from {user_labs.scratch}/one.yaml" in error
    assert "--name" in error
    user_labs.run("up", str(other / "one.yaml"), "--name", "another")


def test_doctor_finds_what_is_missing_and_mends_it(root_labs: Labs) -> None:
    """In a copy of this machine that is thrown away: an overlay over all of its files, and an empty /dev/net."""
    before = root_labs.json("doctor")
    assert before["ok"]
    compiler = {found["name"]: found for found in before["findings"]}["compiler"]
    installs = not compiler["ok"] and shutil.which("apt-get") is not None
    if installs:
        assert compiler["optional"]
        assert "apt-get install -y gcc" in compiler["fix"]
    copy = root_labs.scratch / "copy"
    copy.mkdir()
    prepare = (
        f"mount -t tmpfs tmpfs {copy} && cd {copy} && mkdir upper work root"
        " && mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root"
        " && mount --rbind /proc root/proc && mount --rbind /dev root/dev && mount --rbind /sys root/sys"
        " && mount -t tmpfs tmpfs root/dev/net"
    )
    chroot = 'set -- chroot root "$@"'
    broken = run_in(root_labs, f"{prepare} && {chroot}", "doctor")
    assert broken.returncode == 3
    assert "mknod -m 666 /dev/net/tun c 10 200" in broken.stdout
    update = "chroot root apt-get -qq update" if installs else ":"
    mended = run_in(root_labs, f"{prepare} && {update} && {chroot}", "doctor", "--fix")
    assert mended.returncode == 0, mended.stderr
    assert "running: sh -c" in mended.stderr
    assert ("running: apt-get install -y gcc" in mended.stderr) == installs
    assert "ok    compiler: OVS and OVN can be built from source" in mended.stdout
    assert without_room(root_labs.json("doctor")) == without_room(before), "it was this machine that was mended"


def without_room(found: dict[str, Any]) -> str:
    """What `doctor` says, but for how much is free: others write to disks, too."""
    return re.sub(r"\d+ GiB", "* GiB", json.dumps(found))


def test_doctor_of_an_ordinary_user_says_sudo(user_labs: Labs, root: Account) -> None:
    command = [
        *IN_PRIVATE,
        'mount -t tmpfs tmpfs /dev/net && mknod -m 600 /dev/net/tun c 10 200 && exec "$@"',
        "sh", "setpriv", f"--reuid={user_labs.account.name}", "--clear-groups",
        *Labs(Account("", user_labs.account.python, user_labs.account.home), user_labs.state, user_labs.scratch).command("doctor"),
    ]  # fmt: skip
    result = subprocess.run(command, env=user_labs.environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 3
    assert "sudo chmod 0666 /dev/net/tun" in result.stdout
