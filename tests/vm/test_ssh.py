"""Machines that are there already: virtual machines with sshd, which another lab made and knows nothing of this one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnlab.software import packages, toolchain
from ovnlab.waiting import wait_until
from tests.lab import trees
from tests.lab.test_building import compiled, newest_log
from tests.vm.conftest import HOSTS, UNDERLAY, Hosts, scripts, virsh

START_OVSDB = (
    "ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema; mkdir -p /run/openvswitch; "
    "ovsdb-server --detach --no-chdir --pidfile=/run/openvswitch/ovsdb-server.pid "
    "--remote=punix:/run/openvswitch/db.sock /etc/openvswitch/conf.db 2>/dev/null; ovs-vsctl --no-wait init"
)
END_OVSDB = "pkill -F /run/openvswitch/ovsdb-server.pid; sleep 0.5; rm /var/lib/openvswitch/conf.db"
LOOK = """
ip -o link | cut -d: -f2 | grep -v @
ip -o -4 address show | tr -s ' ' | cut -d' ' -f2-4
pgrep -la 'ovs|ovn'
cat /etc/hosts
ls -A /var/lib/ovnlab /var/lib/ovnlab.new /opt /etc/openvswitch /var/lib/ovn 2>&1 | grep -v lock
ovs-vsctl --timeout=2 --bare --columns=external_ids list Open_vSwitch 2>/dev/null
ip netns list
ip -o link show eth2 | cut -d'>' -f1
cat /proc/sys/net/ipv6/conf/eth2/disable_ipv6 /proc/sys/net/ipv6/conf/eth2/accept_ra
cat /sys/class/net/eth2/address /sys/class/net/eth2/mtu
"""


@pytest.fixture
def there(hosts: Hosts) -> Iterator[Hosts]:
    yield hosts
    hosts.labs.run("down", "there")


@pytest.fixture(scope="class")
def owners(hosts: Hosts) -> Iterator[dict[str, str]]:
    """What hosts look like that have an OVS of their owner's that runs, one of them with a bridge."""
    hosts.on("h2", f"{START_OVSDB} -- add-br br-own")
    mine = "external_ids:mine='\"a, b\"' external_ids:system-id=own"
    hosts.on("h1", f"{START_OVSDB} -- set Open_vSwitch . {mine}")
    yield {host: hosts.on(host, LOOK) for host in HOSTS}
    hosts.labs.run("down", "there")
    for host in HOSTS:
        hosts.on(host, END_OVSDB)


class TestHostsOfSomebody:
    """A lab on them, from its first `up` to its end."""

    def up(self, hosts: Hosts) -> list[str]:
        return list(hosts.labs.json("up", hosts.write(w1=", adopt: true"))["steps"])

    def test_one_with_bridges_is_refused(self, hosts: Hosts, owners: dict[str, str]) -> None:
        error = hosts.labs.run("up", hosts.write(), expect=1).stderr
        assert f"w1 ({hosts.addresses['h2']}): its OVS has bridges already: br-own" in error
        assert hosts.on("h2", LOOK) == owners["h2"]

    def test_they_are_nodes_as_others_are(self, hosts: Hosts, owners: dict[str, str]) -> None:
        assert self.up(hosts)
        assert hosts.checks_hold()
        status = hosts.labs.json("status", "--lab", "there")
        assert (status["state"], status["provider"]) == ("up", "ssh")
        assert "system@ovs-system" in hosts.inside("w1", "ovs-appctl", "dpctl/show")
        assert self.up(hosts) == []
        assert hosts.labs.out("ssh", "--lab", "there", "w1", "hostname") == "h2\n"
        assert hosts.on("h1", LOOK) != owners["h1"]

    @pytest.mark.usefixtures("owners")
    def test_one_that_stops_answering_is_named_and_up_goes_on_from_there(self, hosts: Hosts) -> None:
        self.up(hosts)
        virsh(hosts.labs.account, "suspend", "ovnlab-hosts-h2")
        try:
            began = time.monotonic()
            error = hosts.labs.run("up", hosts.write(w1=", adopt: true"), expect=1).stderr
            assert time.monotonic() - began < 90
            assert "w1" in error
            assert "cannot be reached by SSH" in error
            states = {node["name"]: node["state"] for node in hosts.labs.json("status", "--lab", "there")["nodes"]}
            assert states == {"c1": "running", "w1": "does not answer"}
        finally:
            virsh(hosts.labs.account, "resume", "ovnlab-hosts-h2")
        self.up(hosts)
        hosts.labs.run("ping", "--lab", "there", "vm1", "vm2")

    def test_all_is_as_before(self, hosts: Hosts, owners: dict[str, str]) -> None:
        self.up(hosts)
        hosts.labs.run("down", "there")
        assert {host: hosts.on(host, LOOK) for host in HOSTS} == owners
        assert hosts.on("h2", "ovs-vsctl --no-wait list-br") == "br-own\n"


OUTSIDE = """
name: there
provider: ssh
machines: {{key: {keys}/key, known_hosts: {keys}/known_hosts, nics: {{outside: {nic}}}}}
physical_networks: {{outside: {{subnet: 10.9.0.0/24}}}}
nodes:
  c1: {{role: central, host: {h1}, ip: 192.168.50.11}}
  w1: {{role: gateway, host: {h2}, ip: 192.168.50.12, physical: [outside]{more}}}
  w2: {{role: host, host: {h3}, physical: {{outside: 10.9.0.48}}}}
logical:
  switches:
    s: {{subnet: 10.1.0.0/24, ports: {{vm1: {{chassis: c1, ip: 10.1.0.11}}}}}}
    public: {{physical_network: outside}}
  routers:
    r:
      ports: {{s: {{ip: 10.1.0.1/24}}, public: {{ip: 10.9.0.1/24, gateway_chassis: [w1]}}}}
      nat:
        - {{type: snat, external: 10.9.0.1, logical: 10.1.0.0/24}}
        - {{type: dnat_and_snat, external: 10.9.0.11, logical: 10.1.0.11}}
checks: [{{ping: w2, from: vm1}}, {{ping: 10.9.0.11, from: w2}}]
"""


@pytest.fixture
def three(hosts: Hosts) -> Iterator[Hosts]:
    hosts.have(*UNDERLAY)
    yield hosts
    hosts.labs.run("down", "there")
    hosts.have(*HOSTS)


@pytest.mark.thorough
def test_a_gateway_on_machines_that_are_there_has_a_nic_of_theirs(three: Hosts) -> None:
    there, labs = three, three.labs

    def write(nic: str = "eth2", more: str = "") -> str:
        text = OUTSIDE.format(keys=there.keys, nic=nic, more=more, **there.addresses)
        return labs.write("there.yaml", text)

    # What is in use is not taken: it may be the NIC that commands come by.
    there.on("h2", "ip link set eth2 down")
    before = {host: there.on(host, LOOK) for host in UNDERLAY}
    said = labs.run("up", write(nic="ens9", more=", nics: {outside: eth1}"), expect=1).stderr
    w1, w2 = (f"{name} ({there.addresses[host]})" for name, host in (("w1", "h2"), ("w2", "h3")))
    assert f"{w1}: its NIC eth1 has an address already, 192.168.50.12/24: take that off" in said
    assert f"{w2}: it has no NIC ens9, which is to be on outside" in said
    labs.run("up", write())
    assert there.checks_hold()
    assert there.inside("w1", "ovs-vsctl", "list-ports", "br-outside").splitlines()[0] == "eth2"
    assert labs.json("up", write())["steps"] == []
    trace = labs.json("trace", "--lab", "there", "vm1", "w2")
    assert trace["verdict"] == "delivered as intended", trace
    assert "w1:eth2" in [hop["place"] for hop in trace["hops"]]
    mac = there.on("h2", "cat /sys/class/net/eth2/address")
    assert mac in before["h2"]
    assert there.on("h2", "cat /sys/class/net/br-outside/address") == mac, "it speaks for itself"
    # A switch that is dead does not keep its NIC.
    there.on("h2", "kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)")
    labs.run("down", "there")
    assert {host: there.on(host, LOOK) for host in UNDERLAY} == before
    there.on("h2", "ip link set eth2 up")


@pytest.mark.thorough
def test_whoever_ran_the_daemons_of_a_host_runs_them_again(there: Hosts) -> None:
    there.on("h2", "systemctl start openvswitch-switch")
    ask = "systemctl is-active ovs-vswitchd ovsdb-server; ovs-vsctl --timeout=5 show | grep -c Bridge || :"
    assert there.on("h2", ask) == "active\nactive\n0\n"
    try:
        there.labs.run("up", there.write())
        there.on("h2", "systemctl stop ovs-vswitchd")  # killed, systemd would start it again by itself
        steps = there.labs.json("up", there.write())["steps"]
        assert any("ovs-vswitchd does not run" in step for step in steps), steps
        assert there.checks_hold()
        there.labs.run("down", "there")
        assert there.on("h2", ask) == "active\nactive\n0\n"
        there.on("h2", "systemctl status ovs-vswitchd | grep -q 'ovs-vswitchd unix:'")
    finally:
        there.on(
            "h2", "systemctl stop openvswitch-switch ovs-vswitchd ovsdb-server; rm -f /var/lib/openvswitch/conf.db"
        )


NO_SOFTWARE = """
mkdir -p /root/apt /repository
[ ! -e /etc/apt/sources.list ] || mv /etc/apt/sources.list /root/apt/
mv /etc/apt/sources.list.d /root/apt/ && mkdir /etc/apt/sources.list.d
tar -C /repository -xf -
echo 'deb [trusted=yes] file:/repository ./' >/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt-get -qq purge -y 'openvswitch-*' 'ovn-*' 2>&1
"""
POLICY = "cat /usr/sbin/policy-rc.d 2>/dev/null || echo none"
AS_BEFORE = """
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /repository
mv /root/apt/* /etc/apt/
rmdir /root/apt
"""


def repository(folder: Path) -> Path:
    """An archive of what ovnlab's own packages are downloaded as, with an index that apt understands."""
    folder.mkdir()
    (folder / "scratch").mkdir()
    index = []
    with tarfile.open(folder / "repository.tar", "w") as packed:
        for path in packages.download(folder / "scratch", packages.RUNNING, print):
            fields = subprocess.run(["dpkg-deb", "-f", str(path)], capture_output=True, text=True, check=True).stdout
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            index.append(f"{fields}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n")
            packed.add(path, path.name)
        (folder / "Packages").write_text("\n".join(index))
        packed.add(folder / "Packages", "Packages")
    return folder / "repository.tar"


@pytest.mark.thorough
def test_a_machine_without_ovs_gets_it_from_its_packages(there: Hosts, tmp_path: Path) -> None:
    ssh = [*there.labs.account.prefix, "ssh", "-F", f"{there.keys}/config", "h2", NO_SOFTWARE]
    with repository(tmp_path / "made").open("rb") as archive:
        subprocess.run(ssh, stdin=archive, check=True, timeout=120)
    policy = there.on("h2", POLICY)
    try:
        assert there.on("h2", "command -v ovs-vswitchd ovn-controller || echo none") == "none\n"
        refused = there.labs.run("up", there.write(), "--set", "software=system", expect=1).stderr
        assert "w1" in refused
        assert "has no ovsdb-server" in refused
        there.labs.run("up", there.write())
        assert there.checks_hold()
        assert there.on("h2", POLICY) == policy
        assert there.on("h2", "systemctl is-active ovn-controller || :") == "inactive\n"  # it is ovnlab that runs it
    finally:
        there.labs.run("down", "there")
        there.on("h2", AS_BEFORE)


USERS = """
for user in able unable known; do
    id $user >/dev/null 2>&1 || useradd -m -p '*' -s /bin/bash $user
    install -d -o $user -m 700 /home/$user/.ssh
done
cp ~/.ssh/authorized_keys /home/unable/.ssh/
cat >/home/able/.ssh/authorized_keys
printf 'ssh-rsa of-somebody-else' >/home/known/.ssh/authorized_keys
for user in able unable known; do chown $user: /home/$user/.ssh/authorized_keys; done
echo 'able ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/users
echo 'known ALL=(ALL) NOPASSWD: ALL' >>/etc/sudoers.d/users
chpasswd <<'END'
known:a b'$
END
"""
AUTHORIZED = "cat ~known/.ssh/authorized_keys; stat -c '%a %U' ~known/.ssh ~known/.ssh/authorized_keys"


@pytest.fixture
def by_password(there: Hosts) -> Iterator[str]:
    """What lets people in by a password on a host."""
    yield "echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/a.conf; systemctl reload ssh; sleep 2"
    there.on("h2", "rm -f /etc/ssh/sshd_config.d/a.conf; systemctl reload ssh")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A key that is encrypted, and the socket of an agent that has it."""
    key, socket = tmp_path / "key", tmp_path / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until("the agent", lambda: socket.exists() or None, timeout=10)
            subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, "SSH_AUTH_SOCK": str(socket)}, check=True)
            subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
            yield key, str(socket)
        finally:
            process.terminate()


def test_ways_in(there: Hosts, agent: tuple[Path, str], by_password: str) -> None:
    """By a key, by an agent's, and by a password that is asked for once; as root, and as somebody with sudo."""
    labs, password = there.labs, "a b'$"
    key, socket = agent
    for host in HOSTS:
        command = [*labs.account.prefix, "ssh", "-F", f"{there.keys}/config", host, USERS]
        subprocess.run(command, input=key.with_suffix(".pub").read_text(), text=True, check=True)
    before = {host: there.on(host, LOOK) for host in HOSTS}
    authorized = there.on("h2", AUTHORIZED)
    c1, w1 = (f"{name} ({there.addresses[host]})" for name, host in zip(("c1", "w1"), HOSTS, strict=True))
    path = there.write(w1=", user: known, password: true", c1=f", user: able, key: {key}, agent: true")
    who = f"known@{there.addresses['h2']}"
    said = labs.run("up", path, expect=1).stderr
    assert f"nobody can be asked for the password of {who}" in said
    assert "OVNLAB_SSH_PASSWORD" in said
    labs.extra_environment["OVNLAB_SSH_PASSWORD"] = "wrong"
    assert f"{w1}: takes no password: known gets in by publickey only" in labs.run("up", path, expect=1).stderr
    there.on("h2", by_password)
    assert f"{w1}: does not let known in with that password" in labs.run("up", path, expect=1).stderr
    assert there.on("h2", AUTHORIZED) == authorized
    del labs.extra_environment["OVNLAB_SSH_PASSWORD"]
    # What is wrong with several is said at once, and none of it has to be right for the lab to go.
    said = labs.run("up", there.write(c1=", user: unable", w1=f", user: able, key: {key}"), expect=1).stderr
    assert f"{c1}: a command ended with exit code 1" in said
    assert "password is required" in said
    assert f"{w1}: {key} is encrypted" in said
    labs.run("down", "there")
    assert "there" not in [lab["name"] for lab in labs.json("ls")["labs"]]

    labs.extra_environment["SSH_AUTH_SOCK"] = socket
    path = there.write(w1=", user: known, password: true", c1=f", user: able, key: {key}, agent: true")
    shown = labs.on_a_terminal("up", path, question=f"password of {who}: ", answer=password)
    assert f"password of {who}: " in shown
    assert password not in shown
    assert there.checks_hold()
    assert there.inside("w1", "id", "-un") == "root\n"
    assert scripts(labs, "there") == 2
    assert labs.json("up", path)["steps"] == []
    labs.run("down", "there")
    del labs.extra_environment["SSH_AUTH_SOCK"]
    assert {host: there.on(host, LOOK) for host in HOSTS} == before
    assert there.on("h2", AUTHORIZED).replace("of-somebody-else\n", "of-somebody-else") == authorized


def test_keys_that_do_not_fit(there: Hosts) -> None:
    labs = there.labs
    other, empty, wrong = (labs.scratch / name for name in ("other-key", "nobody-known", "wrongly-known"))
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(other)], check=True)
    empty.write_text("")
    gate, *lines = (there.keys / "known_hosts").read_text().splitlines()
    wrong.write_text("".join(f"{line.split()[0]} {gate.partition(' ')[2]}\n" for line in lines))

    def said(**bad: str) -> str:
        return labs.run("up", there.write(**bad), expect=1).stderr

    known = said(c1=f", known_hosts: {empty}", w1=f", known_hosts: {wrong}")
    assert f"has a host key that is not in {empty}" in known
    assert "shows another host key than the one that is known" in known
    none = said(c1=f", key: {labs.scratch}/nowhere", w1=f", key: {empty}")
    assert f"{labs.scratch}/nowhere cannot be read: No such file or directory" in none
    assert f"{empty} is not a private key" in none
    assert "ssh-keyscan -p 22" in said(c1=f", known_hosts: {empty}")
    assert f"does not let root in with {other}" in said(c1=f", key: {other}")


@pytest.mark.thorough
def test_by_another_machine_to_addresses_that_are_not_reached_from_here(there: Hosts) -> None:
    gate, *lines = (there.keys / "known_hosts").read_text().splitlines()
    known = there.labs.scratch / "known"
    inner = [f"{UNDERLAY[host]} {line.partition(' ')[2]}" for host, line in zip(HOSTS, lines, strict=True)]
    known.write_text("\n".join([gate, *inner, ""]))
    jump = f"root@{there.addresses['gate']}:22"
    path = there.write(machines=f"{{key: {there.keys}/key, known_hosts: {known}, jump: '{jump}'}}")
    text = Path(path).read_text()
    for host in HOSTS:
        text = text.replace(f"host: {there.addresses[host]}", f"host: {UNDERLAY[host]}")
    Path(path).write_text(text)
    there.labs.run("up", path)
    assert there.checks_hold()
    assert there.labs.out("ssh", "--lab", "there", "w1", "hostname") == "h2\n"


# A machine with a compiler: this one, seen through sshd, with all that it could be changed in laid over.
MAKER = """
set -eu
folder=/mnt
mount -t tmpfs tmpfs /mnt
for path in etc var opt root; do
    mkdir -p "$folder/$path/upper" "$folder/$path/work"
    mount -t overlay -o "lowerdir=/$path,upperdir=$folder/$path/upper,workdir=$folder/$path/work" overlay "/$path"
done
[ -z "$1" ] || mount -t overlay -o "lowerdir=$1/usr:/usr" overlay /usr
mkdir -p /run/sshd
cp "$2" /run/sshd/key
chmod 600 /run/sshd/key
exec /usr/sbin/sshd -D -e -p 2222 -o ListenAddress=127.0.0.1 -o HostKey=/run/sshd/key -o UsePAM=no -o StrictModes=no \
    -o "AuthorizedKeysFile=$3" -o PidFile=none
"""


@pytest.fixture
def maker(there: Hosts, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of host keys that knows it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    tools = packages.tree(packages.BUILDING, print).tree if toolchain.missing() else ""
    key = there.labs.scratch / "maker-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    known = there.labs.scratch / "maker-known"
    public = key.with_suffix(".pub").read_text()
    known.write_text((there.keys / "known_hosts").read_text() + f"[127.0.0.1]:2222 {public}")
    words = ["unshare", "--mount", "sh", "-c", MAKER, "sh", tools or "", str(key), f"{there.keys}/key.pub"]
    with subprocess.Popen([*there.labs.account.prefix, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield known
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)


@pytest.mark.usefixtures("built")
@pytest.mark.thorough
def test_software_is_built_on_a_node_and_runs_on_others(there: Hosts, maker: Path) -> None:
    """The tree is one of the tests' own, of autotools as OVS is; what it installs has other names than OVS's."""
    labs = there.labs
    tree = trees.ovs(labs.scratch / "ovs")
    node = f"{{role: host, host: 127.0.0.1, port: 2222, key: {there.keys}/key, known_hosts: {maker}}}"
    path = there.write(machines=f"{{key: {there.keys}/key, known_hosts: {maker}}}")
    text = Path(path).read_text().replace("nodes:\n", f"nodes:\n  maker: {node}\n")
    Path(path).write_text(f"{text}software: {{ovs: {{path: {tree}}}, build_on: maker}}\n")
    said = labs.run("up", path).stderr
    assert "adding maker to build on" in said
    assert there.inside("w1", "toy-switch") == "hello from openvswitch 3.1.9\n"
    assert there.checks_hold()
    assert there.inside("maker", "ls", "/opt/ovnlab/building") != ""
    log = newest_log(labs, "ovs-")
    assert sorted(compiled(log)) == ["lib/greet.o", "vswitchd/toy-switch.o"]
    # A changed line compiles its file, there.
    source = tree / "vswitchd/toy-switch.c"
    source.write_text(source.read_text().replace("%s from", "%s once more from"))
    labs.run("up", path)
    assert there.inside("c1", "toy-switch") == "hello once more from openvswitch 3.1.9\n"
    assert compiled(newest_log(labs, "ovs-")) == ["vswitchd/toy-switch.o"]
    # What does not compile is said with the person's own file.
    source.write_text("int main(void) { return }\n")
    error = labs.run("up", path, expect=1).stderr
    assert f"{source}:1: expected expression" in error
    # A node without a compiler.
    other = labs.run("up", path, "--set", "software.build_on=w1", expect=3).stderr
    assert "w1: there is no gcc make strip to build with" in other
    labs.run("down", "there")
    assert not Path("/opt/ovnlab").exists()
