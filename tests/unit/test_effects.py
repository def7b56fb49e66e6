"""What a topology makes run or read beyond the lab is told: by validate, and by the first up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovnlab.topology.effects import effects
from ovnlab.topology.load import load_text

NODES = "nodes: {central: {role: central, ip: 192.168.50.10}, w1: {ip: 192.168.50.11}}\n"


def told(text: str) -> list[str]:
    loaded = load_text("/lab/lab.yaml", (NODES + text).encode())
    return list(effects(loaded.topology, Path("/lab")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("software: {ovs: {path: src}}", "builds OVS from /lab/src, which runs what is in it on this machine"),
        ("software: {ovs: {path: ../src}}", "builds OVS from /src (outside /lab), which runs what is in it on this machine"),
        ("software: {ovn: {git: 'https://e.org/o', ref: main}}", "builds OVN from https://e.org/o main, which"),
        ("software: {ovn: {tarball: /etc/shadow}}", "builds OVN from /etc/shadow (outside /lab), which"),
        ("software: {ovn: {distro: true}, ovn_library: {path: x}}", "builds the OVS for it from /lab/x, which"),
        ("software: {ovs: {distro: true}, cflags: -fplugin=./x.so}", "compiles with -fplugin=./x.so"),
        ("provider: libvirt\nsoftware: {ovs: {distro: true}, build_on: w1}", "which runs what is in it on w1"),
        ("provider: libvirt\nmachines: {uri: 'qemu+ssh://h/system'}", "makes machines on qemu+ssh://h/system: central, w1"),
        ("provider: libvirt\nmachines: {image: ./disk.img}", "boots /lab/disk.img: central, w1"),
        ("provider: libvirt\nmachines: {image: ~/disk.img}", f"boots {Path.home()}/disk.img (outside /lab): central, w1"),
        ("provider: libvirt\nmachines: {kernel: vmlinuz, initrd: /boot/initrd}", "boots /boot/initrd (outside /lab)"),
        ("provider: libvirt\nmachines: {xml: <watchdog/>}", "may be files and devices of the hypervisor"),
        ("provider: vagrant\nmachines: {image: a/box}", "runs the Vagrantfile of box a/box: central, w1"),
        ("provider: ssh\nmachines: {agent: true}", "offers the keys of your ssh-agent: central (192.168.50.10)"),
        ("provider: ssh\nmachines: {key: k, user: a}", "logs in and runs OVN as a, who becomes root by sudo"),
        ("provider: ssh\nmachines: {key: /etc/k}", "uses the private key /etc/k (outside /lab)"),
        ("provider: ssh\nmachines: {key: k, jump: 'a@gate:22'}", "logs in to a@gate:22 on the way"),
        ("provider: ssh\nmachines: {key: k, known_hosts: ./kh}", "takes host keys from /lab/kh"),
    ],
)  # fmt: skip
def test_each_effect_is_a_sentence(text: str, said: str) -> None:
    assert any(said in sentence for sentence in told(text)), told(text)


def test_a_lab_of_local_nodes_with_packages_has_none() -> None:
    for text in ("", "tls: true", "software: system", "provider: libvirt"):
        assert not told(text)


def test_many_nodes_are_one_line() -> None:
    nodes = "".join(f"  w{number}: {{}}\n" for number in range(9))
    loaded = load_text(
        "x", f"provider: libvirt\nmachines: {{image: ./x}}\nnodes:\n  c: {{role: central}}\n{nodes}".encode()
    )
    (line,) = effects(loaded.topology, Path.cwd())
    assert line.endswith("c, w0, w1, w2 and 6 more")


def test_the_first_up_tells_and_later_ones_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    run = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def up(text: str) -> str:
        path.write_text(NODES + text)
        command = [sys.executable, "-m", "ovnlab", "up", "--dry-run", str(path)]
        return subprocess.run(command, capture_output=True, text=True, env=run, check=False).stderr

    key = "provider: ssh\nmachines: {key: ./nothing, host: 127.0.0.1, port: 1}\n"
    said = up(key)
    assert "lab.yaml reaches beyond the lab:" in said
    assert f"uses the private key {tmp_path}/nothing: central (127.0.0.1)" in said
    assert "beyond the lab" not in up(key)
    assert "beyond the lab" not in up(key + "logical: {switches: {n1: }}\n")
    assert "beyond the lab" in up(key.replace("./nothing", "/etc/shadow"))
    assert os.stat(tmp_path / "state/ovnlab").st_mode & 0o077 == 0


def test_a_build_tells_too(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(NODES + "software: {ovs: {path: ./nothing}, ovn: packages}")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    for command in (["build", str(path)], ["up", "--dry-run", str(path)]):
        done = subprocess.run(
            [sys.executable, "-m", "ovnlab", *command], capture_output=True, text=True, env=environment, check=False
        )
        assert ("reaches beyond the lab" in done.stderr) == (command[0] == "build")


def test_validate_tells_each_time(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(NODES + "software: {ovs: {path: /src/ovs}}")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "ovnlab", "validate", path], capture_output=True, text=True, check=True
        )
        assert "effect: builds OVS from /src/ovs (outside" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "ovnlab", "validate", "--json", path], capture_output=True, text=True, check=True
    )
    assert len(json.loads(done.stdout)["effects"]) == 1
