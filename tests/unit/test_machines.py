"""Nodes that are machines: what is decided for them, and what is written for them to read."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ruamel.yaml import YAML

from ovnlab.errors import OvnlabError, TopologyError
from ovnlab.lab.lab import BROUGHT_LOG
from ovnlab.lab.plan import LabState, plan
from ovnlab.providers.fabric_connection import RootConnection
from ovnlab.providers.ssh_machine import SshKeys, SshMachine
from ovnlab.providers.ssh_provider import KEYS, reach_of, recorded
from ovnlab.providers.ssh_target import SshTarget, as_root
from ovnlab.software import images
from ovnlab.state import LabFolder
from ovnlab.tasks.daemons import external_ids
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import Topology

pycdlib = pytest.importorskip("pycdlib", reason="it comes with ovnlab[libvirt]")

from ovnlab.providers.libvirt import definitions  # noqa: E402  it imports pycdlib

NODES = "nodes: {central: {role: central}, worker1: {}}\n"


def topology(text: str) -> Topology:
    return load_text("lab.yaml", text.encode()).topology


def test_each_lab_of_machines_has_addresses_of_its_own_and_always_the_same() -> None:
    first, second = (topology(f"name: {name}\nprovider: libvirt\n{NODES}") for name in ("one", "two"))
    assert topology(f"name: one\nprovider: libvirt\n{NODES}") == first
    addresses = [node.machine.address for found in (first, second) for node in found.nodes]
    assert len(set(addresses)) == 4
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.64.0.0/10") for address in addresses)
    subnet = ipaddress.ip_network(first.libvirt.subnet)
    assert str(subnet.network_address + 1) not in addresses, "that is the hypervisor's"
    given = topology(f"provider: libvirt\nlibvirt: {{subnet: 10.9.0.0/24}}\n{NODES}")
    assert all(node.machine.address.startswith("10.9.0.") for node in given.nodes)


def test_what_a_node_does_not_say_is_as_all_machines_have_it() -> None:
    found = topology(
        "provider: libvirt\nmachines: {memory: 2G, cpus: 2, image: ./disk.qcow2, disks: [1G]}\n"
        "nodes: {central: {role: central, memory: 300M, disks: []}, worker1: {image: other}}\n"
    )
    central, worker = (node.machine for node in found.nodes)
    assert (central.memory, central.cpus, central.disks) == (300, 2, ())
    assert (worker.memory, worker.cpus, worker.disks) == (2048, 2, (1024,))
    assert central.image == str(Path("disk.qcow2").absolute())
    assert worker.image == "other"
    assert topology(NODES).nodes[0].machine.address == "", "a local node is not a machine"


@pytest.mark.parametrize(
    ("change", "reason"),
    [("memory: 1G", "another machine"), ("cpus: 2", "another machine"), ("role: gateway", ""), ("user: bob", "")],
)
def test_other_hardware_is_another_machine(change: str, reason: str) -> None:
    before = topology(f"provider: libvirt\n{NODES}")
    after = topology(f"provider: libvirt\nnodes: {{central: {{role: central}}, worker1: {{{change}}}}}\n")
    todo = plan(after, LabState({}, None), known=before.nodes)
    assert todo.remove.get("worker1", "").removeprefix("it becomes ") == reason


def test_a_machine_is_told_who_it_is_in_two_ways(tmp_path: Path) -> None:
    found = topology(f"provider: libvirt\nunderlay: {{mtu: 9000}}\n{NODES}")
    node = found.nodes[1]
    nics = definitions.domain_of(found, node, "me").nics
    assert [(nic.device, nic.mtu) for nic in nics] == [("eth0", 1500), ("eth1", 9000)]
    keys = SshKeys(LabFolder("lab", tmp_path))
    keys.path.mkdir(parents=True)
    keys.make()
    files = definitions.seed_files(found, node, nics, keys.public, keys.host_key("worker1"))
    told = YAML(typ="safe").load(files["user-data"])
    assert told["ssh_keys"]["ed25519_private"].strip() == keys.host_key("worker1")[0]
    assert told["users"][0]["ssh_authorized_keys"] == [keys.public]
    network = YAML(typ="safe").load(files["network-config"])["ethernets"]
    assert network["eth1"]["addresses"] == [node.cidr]
    assert network["eth1"]["match"]["macaddress"] == node.mac
    assert keys.host_key("worker1")[0] in files["ovnlab.sh"]
    assert subprocess.run(["sh", "-n"], input=files["ovnlab.sh"], text=True, check=False).returncode == 0

    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(definitions.seed_image(files)))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    for name, text in files.items():
        content = io.BytesIO()
        image.get_file_from_iso_fp(content, joliet_path=f"/{name}")
        assert content.getvalue().decode() == text
    image.close()


def test_keys_are_private_and_made_once(tmp_path: Path) -> None:
    keys = SshKeys(LabFolder("lab", tmp_path))
    keys.path.parent.mkdir(parents=True)
    keys.make()
    first = keys.private.read_bytes()
    keys.make()
    assert keys.private.read_bytes() == first
    reaches = {"worker1": SshTarget("10.0.0.1", 2222, "root", (keys.private,), keys.known_hosts)}
    keys.write_known_hosts([(reaches["worker1"], keys.host_key("worker1")[1])])
    keys.write_config(topology(NODES), reaches)
    assert {oct(path.stat().st_mode & 0o777) for path in keys.path.iterdir() if path.suffix != ".pub"} == {"0o600"}
    assert keys.known_hosts.read_text().startswith("[10.0.0.1]:2222 ssh-ed25519 ")
    # ssh itself reads it.
    said = subprocess.run(
        ["ssh", "-F", str(keys.config), "-G", "worker1"], capture_output=True, text=True, check=True
    ).stdout
    for line in ("hostname 10.0.0.1", "port 2222", "stricthostkeychecking true", "identityagent none"):
        assert f"\n{line}\n" in f"\n{said}"


def test_hosts_that_are_there_need_an_address_and_a_key() -> None:
    with pytest.raises(TopologyError) as caught:
        topology("provider: ssh\nnodes: {central: {role: central, host: 192.0.2.1}}\n")
    (said,) = (mistake.message for mistake in caught.value.mistakes)
    assert said == (
        "central is there already, and must say its address on the underlay as ip "
        "and the private key that it is entered with as key (or agent: true, or password: true)"
    )
    with pytest.raises(TopologyError, match="expected USER@HOST:PORT"):
        topology("provider: ssh\nmachines: {key: k, jump: gate}\nnodes: {c: {role: central, ip: 192.168.50.10}}\n")


ON_A_NETWORK = """
provider: ssh
machines: {{key: k, nics: {{outside: ens4}}}}
physical_networks: {{outside: {{subnet: 10.0.0.0/24}}, other: {{}}}}
nodes:
  c: {{role: central, ip: 192.168.50.10}}
  g: {{role: gateway, ip: 192.168.50.11, physical: {{outside: 10.0.0.46}}, {node}}}
  h: {{role: host, host: 192.0.2.3, physical: [outside]}}
logical: {{switches: {{s: {{physical_network: outside, ports: {{e: {{type: external, {port}}}}}}}}}, ha_chassis_groups: {{one: [g]}}}}
"""


def test_a_host_is_on_a_physical_network_by_a_nic_of_its_own() -> None:
    found = topology(
        ON_A_NETWORK.format(
            node="nics: {outside: enp7s0}", port="mac: '02:00:00:00:00:01', host: h, ha_chassis_group: one"
        )
    )
    (gateway,), (host,) = found.nodes[1].nics, found.nodes[2].nics
    assert (gateway.device, gateway.bridge, gateway.mac) == ("enp7s0", "br-outside", "")
    assert (host.device, host.carrier, host.addresses) == ("ens4", "ens4", ("10.0.0.2/24",))
    moved = topology(
        ON_A_NETWORK.format(node="nics: {outside: enp8s0}", port="mac: '02:00:00:00:00:01', ha_chassis_group: one")
    )
    todo = plan(moved, LabState({}, None), known=found.nodes)
    assert todo.remove == {"g": "it becomes another machine"}


@pytest.mark.parametrize(
    "node",
    [
        "physical: {outside: dhcp}",
        "physical: {outside: 10.0.0.9, other: 10.8.0.9}, nics: {other: ens5}",
        "physical: [outside], routes: [{prefix: 0.0.0.0/0, nexthop: 10.0.0.1}]",
    ],
)
def test_what_would_cut_a_host_off_is_refused(node: str) -> None:
    text = ON_A_NETWORK.format(node="", port="mac: '02:00:00:00:00:01', ha_chassis_group: one")
    loaded = load_text("lab.yaml", text.replace("physical: [outside]", node).encode())
    with pytest.raises(TopologyError, match="on hosts by SSH cannot be done by this version of ovnlab yet"):
        loaded.refuse_unsupported()


@pytest.mark.parametrize(
    ("node", "port", "said"),
    [
        ("nics: {other: ens4}", "mac: '02:00:00:00:00:01'", "g is not on other by `physical`"),
        (
            "nics: {outsid: ens4}",
            "mac: '02:00:00:00:00:01'",
            "unknown physical network 'outsid' (did you mean 'outside'?)",
        ),
        ("nics: {outside: ens4}", "host: h", "h is there already: the MAC address of its NIC must be given as mac"),
        (
            "nics: {outside: an-interface-name}",
            "mac: '02:00:00:00:00:01'",
            "invalid interface name",
        ),
    ],
)
def test_nics_that_cannot_be(node: str, port: str, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        topology(ON_A_NETWORK.format(node=node, port=f"{port}, ha_chassis_group: one"))
    assert said in str(caught.value)


def test_which_nic_of_a_host_is_on_a_physical_network_is_not_guessed() -> None:
    text = ON_A_NETWORK.format(node="nics: {}", port="mac: '02:00:00:00:00:01', ha_chassis_group: one")
    with pytest.raises(TopologyError, match="g is there already, and must say by which NIC it is on outside"):
        topology(text.replace(", nics: {outside: ens4}", ""))
    with pytest.raises(TopologyError, match="ens4 of h is on outside already, and cannot be on other as well"):
        topology(text.replace("physical: [outside]", "physical: [outside, other], nics: {other: ens4}"))
    with pytest.raises(TopologyError, match=r"3:\d+: unknown physical network 'outsid' \(did you mean 'outside'"):
        topology(text.replace("nics: {outside: ens4}", "nics: {outsid: ens4}"))
    # The NICs of other kinds of machines are made, and the file may say those of hosts all the same.
    assert topology(text.replace("provider: ssh", "provider: libvirt")).nodes[1].nics[0].device == "eth2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "local nodes are on this machine, which builds by itself"),
        ("provider: libvirt\n", "unknown node 'worker9' (did you mean 'worker1'?)"),
    ],
)
def test_where_software_can_be_built(text: str, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        topology(f"{text}software: {{ovs: {{distro: true}}, build_on: worker9}}\n{NODES}")
    assert said in str(caught.value)
    found = topology(f"provider: libvirt\nsoftware: {{ovs: {{distro: true}}, build_on: worker1}}\n{NODES}")
    assert {node.software.build_on for node in found.nodes} == {"worker1"}


def test_how_a_host_is_reached() -> None:
    found = topology(
        "provider: ssh\nmachines: {key: /k, user: bob, jump: 'admin@192.0.2.9:2222'}\n"
        "nodes: {c: {role: central, host: 192.0.2.1, ip: 192.168.50.10}, w: {ip: 192.168.50.11, user: root}}\n"
    )
    central, worker = (reach_of(node, Path("/own")) for node in found.nodes)
    assert (central.host, central.user, central.sudo) == ("192.0.2.1", "bob", True)
    assert (worker.host, worker.user, worker.sudo) == ("192.168.50.11", "root", False)
    assert central.jump is not None
    assert (central.jump.host, central.jump.port, central.jump.user) == ("192.0.2.9", 2222, "admin")
    assert {node.datapath for node in found.nodes} == {"system"}
    assert {node.underlay_device for node in found.nodes} == {""}, "its address stays its own"


@pytest.mark.parametrize("sudo", [True, False])
def test_commands_run_as_root_wherever_one_comes_from(sudo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("SECRET", "of this machine")
    words = as_root(["id", "-u"], sudo=sudo)
    assert words[:2] == (["sudo", "-n"] if sudo else ["env", "-i"])
    assert words[-2:] == ["id", "-u"]
    assert not any("SECRET" in word for word in words)
    assert as_root(["env", "A=b", "id"], sudo=sudo) == [*words[:-2], "A=b", "id"]
    assert as_root(["env", "-u", "A", "id"], sudo=sudo) == [*words[:-2], "env", "-u", "A", "id"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", {}),
        ('{"data":[[["map",[]]]],"headings":["external_ids"]}', {}),
        ('{"data":[[["map",[["mine","a, \\"b\\""],["system-id","own"]]]]],"headings":[]}', {"mine": 'a, "b"', "system-id": "own"}),
    ],
)  # fmt: skip
def test_what_a_host_had_is_put_back(text: str, ids: dict[str, str]) -> None:
    assert recorded(text) == ids


def test_what_is_taken_off_a_host_is_what_a_chassis_is_given() -> None:
    found = topology("provider: ssh\nmachines: {key: /k}\nnodes: {c: {role: central, ip: 192.168.50.10}}\n")
    assert set(KEYS) == set(external_ids(found, found.nodes[0]))


def test_a_machine_that_comes_or_goes_leaves_the_others_their_addresses() -> None:
    names = ["central", "w1", "w2", "w10"]

    def addresses(chosen: list[str]) -> dict[str, str]:
        nodes = ", ".join(f"{name}: {{role: {'central' if name == 'central' else 'worker'}}}" for name in chosen)
        return {n.name: n.machine.address for n in topology(f"name: x\nprovider: libvirt\nnodes: {{{nodes}}}\n").nodes}

    before, after = addresses(names), addresses(["w0", "central", "w2", "w10"])
    assert {name: after[name] for name in ("central", "w2", "w10")} == {
        name: before[name] for name in ("central", "w2", "w10")
    }
    crowded = topology(
        "provider: libvirt\nlibvirt: {subnet: 10.9.0.0/29}\nnodes: {central: {role: central}, a: , b: , c: , d: }\n"
    )
    assert len({node.machine.address for node in crowded.nodes}) == 5


def test_a_node_has_only_its_own_host_key(tmp_path: Path) -> None:
    keys = SshKeys(LabFolder("lab", tmp_path))
    keys.path.mkdir(parents=True)
    other = keys.host_key("worker10")
    keys.host_key("worker1")
    keys.forget("worker1")
    assert keys.host_key("worker10") == other


def test_a_machine_cannot_have_its_logs_written_elsewhere() -> None:
    printed = "ovnlab: log ovn/a.log\none\novnlab: log /etc/cron.d/x\ntwo\novnlab: log ovn/../../x.log\n\novnlab: log openvswitch/b.log\n3\n"
    _, *parts = BROUGHT_LOG.split(printed)
    assert parts[::2] == ["ovn/a.log", "openvswitch/b.log"]


def test_a_host_that_is_reached_elsewhere_is_another_machine() -> None:
    def at(host: str) -> Topology:
        return topology(
            "provider: ssh\nmachines: {key: /k}\n"
            f"nodes: {{c: {{role: central, ip: 192.168.50.10}}, w: {{host: {host}, ip: 192.168.50.11}}}}\n"
        )

    todo = plan(at("192.0.2.2"), LabState({}, None), known=at("192.0.2.1").nodes)
    assert todo.remove == {"w": "it becomes another machine"}


def test_images_are_made_from_this_machines_own_mirror(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("# deb http://no/ bookworm main\ndeb http://mirror/debian bookworm main\n")
    (tmp_path / "sources.list.d/other.list").write_text("deb http://else/ stable main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\n# a comment\nURIs: http://mirror/security\nSuites: bookworm-security\nComponents: main\n\n"
        "Types: deb\nURIs: http://else\nSuites: nodistro\nComponents: main\n"
    )
    assert list(images.sources("bookworm", "list", tmp_path)) == ["deb http://mirror/debian bookworm main"]
    (stanza,) = images.sources("bookworm", "sources", tmp_path)
    assert "http://mirror/security" in stanza
    assert "comment" not in stanza
    assert list(images.sources("trixie", "sources", tmp_path)) == []


def test_scripts_of_an_image_are_shell(tmp_path: Path) -> None:
    if os.uname().machine not in images.KERNELS:
        pytest.skip("no kernel is known for images of this machine")
    for title, text in images.scripts("debian", "bookworm", tmp_path, tmp_path):
        if title.endswith(".sh"):
            assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0, title


@pytest.mark.parametrize("content", [b"[host ssh-ed25519 no-base-64!\n", b"\xff\xfe"])
def test_a_file_that_holds_no_host_keys_is_named(tmp_path: Path, content: bytes) -> None:
    known = tmp_path / "known"
    known.write_bytes(content)
    with pytest.raises(OvnlabError, match="cannot be read as host keys") as caught:
        RootConnection("worker1", SshTarget("192.0.2.1", 22, "root", (tmp_path / "key",), known))
    assert caught.value.where == str(known)


def test_disks_that_stay_say_whose_they_are() -> None:
    found = topology(f"provider: libvirt\nmachines: {{disks: [1G]}}\n{NODES}")
    mine, others = (definitions.domain_of(found, found.nodes[0], owner).volumes for owner in ("me", "somebody else"))
    assert len(mine) == 3
    assert not set(mine) & set(others)


@pytest.mark.parametrize(("patience", "found"), [(5.0, True), (None, False)])
def test_a_slow_machine_is_given_the_time_to_show_its_banner(
    tmp_path: Path, patience: float | None, found: bool
) -> None:
    """Whoever hangs up and asks again has it start one SSH server after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def show() -> None:
            accepted, _ = server.accept()
            with accepted, contextlib.suppress(OSError):
                time.sleep(0.5)
                accepted.sendall(b"SSH-2.0-slow\r\n")

        thread = threading.Thread(target=show)
        thread.start()
        reach = SshTarget("127.0.0.1", server.getsockname()[1], "root", (), tmp_path / "known")
        assert SshMachine("worker1", reach, tmp_path / "config").is_listening(0.2, patience) is found
        thread.join()


PEM, OPENSSH = serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.OpenSSH


def private_key(kind: serialization.PrivateFormat, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return rsa.generate_private_key(65537, 2048).private_bytes(serialization.Encoding.PEM, kind, encryption)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (private_key(OPENSSH), "cannot be reached by SSH: "),
        (private_key(OPENSSH, b"secret"), "cannot be reached by SSH: "),
        (private_key(PEM, b"secret"), "cannot be reached by SSH: "),
        (b"no key", "/key is not a private key"),
        (None, "/key cannot be read: No such file or directory"),
    ],
    ids=["plain", "encrypted", "encrypted-pem", "none", "missing"],
)
def test_what_is_wrong_with_a_key_and_what_with_a_machine(tmp_path: Path, key: bytes | None, said: str) -> None:
    """Where nobody listens, and a key that is encrypted may be the agent's."""
    if key is not None:
        (tmp_path / "key").write_bytes(key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    reach = SshTarget("127.0.0.1", port, "root", (tmp_path / "key",), tmp_path / "known_hosts", agent=True)
    with pytest.raises(OvnlabError) as caught:
        RootConnection("w1", reach).open()
    assert said in str(caught.value)
