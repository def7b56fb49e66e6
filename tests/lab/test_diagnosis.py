"""`diagnose` names the one object that is to blame, and nothing else, in labs that are broken by hand one way each."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs

WARD = """
name: ward
physical_networks:
  external: {subnet: 10.0.0.0/24, bridge: br-ex}
nodes:
  central: {role: central, ip: 192.168.50.10, chassis: false}
  worker1: {ip: 192.168.50.100}
  worker2: {ip: 192.168.50.101}
  gw1: {role: gateway, ip: 192.168.50.201, physical: {external: 10.0.0.46}}
  gw2: {role: gateway, ip: 192.168.50.202, physical: {external: 10.0.0.47}}
  host1: {role: host, physical: {external: 10.0.0.48}}
logical:
  switches:
    net1:
      subnet: 192.168.0.0/24
      ports:
        vm1: {mac: "40:44:00:00:00:01", ip: 192.168.0.11, chassis: worker1, port_security: true}
        vm2: {mac: "40:44:00:00:00:02", ip: 192.168.0.12, chassis: worker2, serve: [8080]}
    net2:
      subnet: 192.168.1.0/24
      ports:
        vm3: {mac: "40:44:00:00:00:03", ip: 192.168.1.13, chassis: worker2}
    join: {subnet: 172.16.0.0/24}
    public: {physical_network: external}
  routers:
    inner:
      ports: {net2: {ip: 192.168.1.1/24}, join: {ip: 172.16.0.2/24}}
      routes: [{prefix: 0.0.0.0/0, nexthop: 172.16.0.1}]
    outer:
      ports:
        net1: {ip: 192.168.0.1/24}
        join: {ip: 172.16.0.1/24}
        public: {ip: 10.0.0.45/24, gateway_chassis: [gw1, gw2]}
      routes: [{prefix: 192.168.1.0/24, nexthop: 172.16.0.2}]
      nat:
        - {type: snat, external: 10.0.0.45, logical: 192.168.0.0/24}
        - {type: dnat_and_snat, external: 10.0.0.12, logical: 192.168.0.12}
  load_balancers:
    web: {vip: "192.168.0.100:80", backends: ["192.168.0.12:8080"], switches: [net1]}
checks:
  - {ping: vm3, from: vm1}
  - {ping: 10.0.0.48, from: vm1}
  - {ping: 10.0.0.12, from: host1}
  - {tcp: "192.168.0.100:80", from: vm1}
"""


@dataclass(frozen=True)
class Broken:
    """A way to break a lab: command lines, the cause and object that must be named, and what puts it back before `up`.

    Words that begin with a node or fake VM and `$` run there in a shell; others are ovnlab's own.
    """

    name: str
    breaking: tuple[str, ...]
    cause: str
    object: str
    mending: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def signalled(node: str, daemon: str, pidfile: str, number: str) -> Broken:
    return Broken(
        f"{daemon} of {node} is stopped",
        (f"{node}$ kill -STOP $(cat {pidfile})",),
        "daemon-silent",
        rf"{daemon} on {node}",
        (f"{node}$ kill -CONT $(cat {pidfile})",),
    )


OVS, OVN = "/run/openvswitch", "/run/ovn"
CONTROLLER = "-t $(echo /run/ovn/ovn-controller.*.ctl)"

CASES = (
    signalled("worker2", "ovs-vswitchd", f"{OVS}/ovs-vswitchd.pid", "STOP"),
    signalled("worker1", "ovsdb-server", f"{OVS}/ovsdb-server.pid", "STOP"),
    signalled("worker1", "ovn-controller", f"{OVN}/ovn-controller.pid", "STOP"),
    signalled("central", "ovn-northd", f"{OVN}/ovn-northd.pid", "STOP"),
    signalled("central", "ovnsb_db", f"{OVN}/ovnsb_db.pid", "STOP"),
    signalled("central", "ovnnb_db", f"{OVN}/ovnnb_db.pid", "STOP"),
    Broken("northd is paused", ("appctl central -t ovn-northd pause",), "northd-paused", "ovn-northd on central",
           ("appctl central -t ovn-northd resume",)),
    Broken("ovn-controller has ended", ("worker1$ ovn-appctl -t $(echo /run/ovn/ovn-controller.*.ctl) exit --restart; sleep 0.5",),
           "daemon-down", "ovn-controller on worker1"),
    Broken("northd has ended", ("central$ kill $(cat /run/ovn/ovn-northd.pid); sleep 0.5",), "daemon-down", "ovn-northd on central"),
    Broken("ovs-vswitchd has ended", ("worker2$ kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid); sleep 0.5",),
           "daemon-down", "ovs-vswitchd on worker2"),
    # who a chassis is
    Broken("two chassis with one system-id", ("vsctl worker2 set Open_vSwitch . external_ids:system-id=worker1",),
           "system-id", "system-id of worker2"),
    Broken("an encapsulation address that is none", ("vsctl worker2 set Open_vSwitch . external_ids:ovn-encap-ip=192.168.50.99",),
           "encap-ip", "ovn-encap-ip of worker2"),
    Broken("two chassis with one encapsulation address", ("vsctl worker2 set Open_vSwitch . external_ids:ovn-encap-ip=192.168.50.100",),
           "encap-ip", "ovn-encap-ip of worker2"),
    Broken("another encapsulation", ("vsctl gw1 set Open_vSwitch . external_ids:ovn-encap-type=vxlan",),
           "encap-type", "ovn-encap-type of gw1"),
    Broken("a remote that leads nowhere", ("vsctl worker1 set Open_vSwitch . external_ids:ovn-remote=tcp:192.168.50.77:6642",),
           "remote-wrong", "ovn-remote of worker1"),
    Broken("transport zones that do not meet", ("vsctl worker1 set Open_vSwitch . external_ids:ovn-transport-zones=far",),
           "transport-zones", "ovn-transport-zones of worker1"),
    Broken("another bridge for ovn-controller", ("vsctl worker1 set Open_vSwitch . external_ids:ovn-bridge=br-other",),
           "ovn-bridge", "ovn-bridge of worker1"),
    # the underlay
    Broken("a small MTU of a NIC", ("worker2$ ip link set eth1 mtu 1300",), "nic-mtu", "eth1 of worker2"),
    Broken("a NIC that is down", ("worker2$ ip link set eth1 down",), "nic-down", "eth1 of worker2"),
    Broken("a bridge that is down", ("worker1$ ip link set br-eth1 down",), "nic-down", "br-eth1 of worker1"),
    Broken("an address that is gone", ("worker1$ ip address del 192.168.50.100/24 dev br-eth1",), "address", "br-eth1 of worker1"),
    Broken("a connected route that is gone", ("worker1$ ip route del 192.168.50.0/24 dev br-eth1",), "no-route", "routes of worker1"),
    Broken("a blackhole on the way", ("worker1$ ip route add blackhole 192.168.50.101",), "no-route", "routes of worker1",
           ("worker1$ ip route del blackhole 192.168.50.101",)),
    Broken("a route by somebody else", ("worker1$ ip route add 192.168.50.101 via 192.168.50.10",), "route-foreign", "routes of worker1",
           ("worker1$ ip route del 192.168.50.101",)),
    Broken("a neighbour of the tunnel with another MAC", ("appctl worker1 tnl/neigh/set br-eth1 192.168.50.101 52:54:00:00:00:99",),
           "neighbour", "neighbour 192.168.50.101 on worker1", ("up-mac worker1 worker2 192.168.50.101",)),
    Broken("a NIC that is slowed down", ("worker2$ tc qdisc add dev eth1 root tbf rate 8kbit burst 1600 latency 50ms",),
           "shaped", "eth1 of worker2", ("worker2$ tc qdisc del dev eth1 root",)),
    # bridges
    Broken("the underlay's NIC in no bridge", ("vsctl worker1 del-port br-eth1 eth1",), "nic-bridge", "eth1 of worker1"),
    Broken("a gateway's NIC in no bridge", ("vsctl gw1 del-port br-ex eth2",), "nic-bridge", "eth2 of gw1"),
    Broken("a NIC in another bridge", ("vsctl gw2 del-port br-ex eth2 -- add-port br-eth1 eth2",), "nic-bridge", "eth2 of gw2"),
    Broken("no bridge mapping", ("vsctl gw1 remove Open_vSwitch . external_ids ovn-bridge-mappings",), "bridge-mapping", "ovn-bridge-mappings of gw1"),
    Broken("another bridge mapping", ("vsctl gw2 set Open_vSwitch . external_ids:ovn-bridge-mappings=external:br-none",),
           "bridge-mapping", "ovn-bridge-mappings of gw2"),
    Broken("a port that forwards nothing", ("ofctl worker1 mod-port br-eth1 eth1 no-forward",), "port-flags", "port eth1 of br-eth1 on worker1",
           ("ofctl worker1 mod-port br-eth1 eth1 forward",)),
    Broken("a port that takes nothing", ("ofctl worker2 mod-port br-int vm2 no-receive",), "port-flags", "port vm2 of br-int on worker2",
           ("ofctl worker2 mod-port br-int vm2 receive",)),
    Broken("a VLAN on a provider port", ("vsctl gw1 set Port eth2 tag=77",), "port-vlan", "port eth2 of br-ex on gw1",
           ("vsctl gw1 clear Port eth2 tag",)),
    Broken("OpenFlow 1.0 only", ("vsctl worker1 set Bridge br-int protocols=OpenFlow10",), "protocols", "bridge br-int of worker1",
           ("vsctl worker1 clear Bridge br-int protocols",)),
    # flows
    Broken("a foreign drop in table 0", ("ofctl worker1 add-flow br-int table=0,priority=65000,ip,actions=drop",),
           "foreign-flow", "flow in br-int of worker1, table 0", ("ofctl worker1 --strict del-flows br-int table=0,priority=65000,ip",)),
    Broken("a foreign drop in the pipeline", ("ofctl worker2 add-flow br-int cookie=0xbad,table=44,priority=65000,ip,nw_dst=192.168.0.12,actions=drop",),
           "foreign-flow", "flow in br-int of worker2, table 44", ("ofctl worker2 del-flows br-int cookie=0xbad/-1",)),
    Broken("a foreign drop in a provider bridge", ("ofctl gw1 add-flow br-ex priority=100,ip,nw_src=10.0.0.48,actions=drop",),
           "foreign-flow", "flow in br-ex of gw1", ("ofctl gw1 --strict del-flows br-ex priority=100,ip,nw_src=10.0.0.48",)),
    Broken("Geneve dropped one way", ("ofctl gw1 add-flow br-eth1 priority=100,udp,tp_dst=6081,actions=drop", "gw1$ sleep 5"),
           "foreign-flow", "flow in br-eth1 of gw1", ("ofctl gw1 --strict del-flows br-eth1 priority=100,udp,tp_dst=6081", "gw1$ sleep 6")),
    Broken("a bridge without flows", ("ofctl gw1 del-flows br-ex",), "no-normal-flow", "br-ex of gw1", ("ofctl gw1 add-flow br-ex priority=0,actions=NORMAL",)),
    Broken("flows of one stage deleted", ("delete-stage worker2 ls_in_arp_rsp",), "flows-missing", "flows of ls_in_arp_rsp on worker2",
           ("worker2$ ovn-appctl -t $(echo /run/ovn/ovn-controller.*.ctl) exit --restart; sleep 0.5",)),
    Broken("all flows deleted", ("ofctl worker1 del-flows br-int",), "no-flows", "br-int of worker1",
           ("worker1$ ovn-appctl -t $(echo /run/ovn/ovn-controller.*.ctl) exit --restart; sleep 0.5",)),
    # fake VMs
    Broken("another MAC and port security", ("vm1$ ip link set vm1 address 40:44:00:00:00:77",), "vm-mac", "MAC of fake VM vm1"),
    Broken("another address", ("vm2$ ip address replace 192.168.0.99/24 dev vm2; ip address del 192.168.0.12/24 dev vm2",), "vm-address", "addresses of fake VM vm2"),
    Broken("another prefix length", ("vm2$ ip address del 192.168.0.12/24 dev vm2; ip address add 192.168.0.12/16 dev vm2",), "vm-address", "addresses of fake VM vm2"),
    Broken("no default route", ("vm3$ ip route del default",), "vm-gateway", "default route of fake VM vm3"),
    Broken("another default route", ("vm3$ ip route replace default via 192.168.1.99",), "vm-gateway", "default route of fake VM vm3"),
    Broken("a small MTU inside", ("vm2$ ip link set vm2 mtu 1000",), "vm-mtu", "interface vm2 of fake VM vm2"),
    Broken("an interface that is down", ("vm2$ ip link set vm2 down",), "vm-down", "interface vm2 of fake VM vm2"),
    Broken("a fake VM that ignores pings", ("vm2$ echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all",), "vm-ignores-echo", "fake VM vm2",
           ("vm2$ echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_all",)),
    Broken("a blackhole inside", ("vm2$ ip route add blackhole 192.168.0.11",), "vm-route-refuses", "routes of fake VM vm2",
           ("vm2$ ip route del blackhole 192.168.0.11",)),
    Broken("a neighbour with another MAC inside", ("vm1$ ip neigh replace 192.168.0.12 lladdr 40:44:00:00:00:99 dev vm1 nud permanent",),
           "vm-neighbour", "neighbour 192.168.0.12 in fake VM vm1", ("vm1$ ip neigh del 192.168.0.12 dev vm1",)),
    Broken("a server that has ended", ("worker2$ kill $(cat /run/ovnlab/vm2/serve.pid)",), "no-listener", r"backend 192.168.0.12:8080 \(vm2\)"),
    # ports
    Broken("a second interface with an iface-id", ("vsctl worker1 add-port br-int twin -- set Interface twin type=internal external_ids:iface-id=vm2", "worker1$ sleep 1"),
           "iface-id-twice", "port vm2", ("vsctl worker1 del-port br-int twin", "worker1$ sleep 1")),
    Broken("an iface-id that is gone", ("vsctl worker2 remove Interface vm2 external_ids iface-id",), "port-unbound", "port vm2"),
    Broken("a port that asks for another chassis", ("nbctl --wait=hv set Logical_Switch_Port vm2 options:requested-chassis=worker1",),
           "requested-chassis", "port vm2", ("nbctl remove Logical_Switch_Port vm2 options requested-chassis",)),
    Broken("a disabled port", ("nbctl --wait=hv lsp-set-enabled vm2 disabled",), "port-disabled", "logical switch port vm2", ("nbctl lsp-set-enabled vm2 enabled",)),
    Broken("a deleted port", ("nbctl --wait=hv lsp-del vm2",), "northbound-drift", "logical switch port vm2"),
    Broken("two ports with one address", ("nbctl lsp-add net1 twin", """nbctl --wait=hv set Logical_Switch_Port twin 'addresses="40:44:00:00:00:55 192.168.0.12"'"""),
           "twin-address", "ports vm2 and twin of net1|ports twin and vm2 of net1", ("nbctl lsp-del twin",)),
    # the logical network
    Broken("a static route that is gone", ("nbctl --wait=hv lr-route-del outer 192.168.1.0/24",), "northbound-drift", "static route outer 192.168.1.0/24"),
    Broken("a NAT rule that is gone", ("nbctl --wait=hv lr-nat-del outer snat 192.168.0.0/24",), "northbound-drift", "NAT rule outer"),
    Broken("a load balancer that is gone", ("nbctl --wait=hv lb-del web",), "northbound-drift", "load balancer web"),
    Broken("a gateway that may be on none", ("nbctl --wait=hv lrp-del-gateway-chassis outer-public gw1",), "northbound-drift", "gateway chassis"),
    # limits
    Broken("connection tracking that is small", ("appctl worker1 dpctl/ct-set-maxconns 3",), "conntrack-(small|full)", "connection tracking of worker1",
           ("appctl worker1 dpctl/ct-set-maxconns 3000000",)),
    # rows of the file that somebody changed
    Broken("a disabled router port", ("nbctl --wait=hv lrp-set-enabled outer-net1 disabled",), "disabled", "logical router port outer-net1",
           ("nbctl lrp-set-enabled outer-net1 enabled",)),
    Broken("a disabled router", ("nbctl --wait=hv set Logical_Router outer enabled=false",), "disabled", "logical router outer",
           ("nbctl clear Logical_Router outer enabled",)),
    Broken("a router port that is joined to nothing", ("nbctl --wait=hv set Logical_Switch_Port net1-outer options:router-port=nope",),
           "northbound-drift", "logical switch port net1-outer"),
    Broken("another external address of a NAT rule",
           ("central$ ovn-nbctl --wait=hv set NAT $(ovn-nbctl --bare --columns=_uuid find NAT external_ip=10.0.0.12) external_ip=10.0.0.77",),
           "northbound-drift", "NAT rule outer dnat_and_snat 10.0.0.12"),
    Broken("a load balancer of another protocol", ("nbctl --wait=hv set Load_Balancer web protocol=udp",), "northbound-drift", "load balancer web"),
    Broken("a virtual IP that nobody answers ARP for", ("nbctl --wait=hv remove Logical_Switch_Port net1-outer options arp_proxy",),
           "northbound-drift", "logical switch port net1-outer"),
)  # fmt: skip


@pytest.fixture(scope="module")
def ward(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "test-diagnosis"):
        labs.run("up", labs.write("ward.yaml", WARD))
        yield labs


def run(labs: Labs, line: str) -> None:
    where, separator, script = line.partition("$ ")
    if separator and " " not in where:
        labs.run("exec", where, "--", "sh", "-c", script)
        return
    words = shlex.split(line)
    match words[0]:
        case "delete-stage":
            delete_stage(labs, words[1], words[2])
        case "up-mac":
            mac = re.search(r"link/ether (\S+)", labs.on(words[2], "ip", "link", "show", "br-eth1"))
            assert mac
            labs.run("appctl", words[1], "tnl/neigh/set", "br-eth1", words[3], mac[1])
        case _:
            labs.run(*words)


def delete_stage(labs: Labs, node: str, stage: str) -> None:
    rows = labs.rows("sbctl", "--columns=_uuid", "find", "Logical_Flow", f"external_ids:stage-name={stage}")
    assert rows
    cookies = [f"cookie=0x{row['_uuid'][1].partition('-')[0]}/-1" for row in rows]
    script = "; ".join(f"ovs-ofctl del-flows br-int {cookie}" for cookie in cookies)
    labs.on(node, "sh", "-c", script)


def mended(labs: Labs) -> dict[str, Any]:
    """What is found once the lab has had time to be well again: BFD comes back by itself, seconds later."""
    deadline = time.monotonic() + 20
    while True:
        found = diagnosed(labs, "--no-send")
        if found["ok"] or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def told(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{one['cause']} | {one['object']}: {one['problem']} {one['evidence']} so {[s['object'] for s in one['symptoms']]}"
        for one in found["findings"]
    )


def diagnosed(labs: Labs, *words: str) -> dict[str, Any]:
    result = labs.run("diagnose", *words, "--json", expect=None)
    assert result.returncode in (0, 4), result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert (result.returncode == 0) == found["ok"]
    return found


def test_a_healthy_lab_has_no_findings(ward: Labs) -> None:
    assert told(diagnosed(ward)) == ""
    assert "nothing wrong was found" in ward.out("diagnose", "vm1", "10.0.0.48")
    assert ward.run("diagnose", "host1", "10.0.0.12").returncode == 0


EACH_CHANGE = 5
"""Of so many cases one is for each change: each takes some seconds. `make test-all` runs all."""


@pytest.mark.parametrize(
    "case",
    [
        case if number % EACH_CHANGE == 0 else pytest.param(case, marks=pytest.mark.thorough)
        for number, case in enumerate(CASES)
    ],
    ids=str,
)
def test_the_object_that_is_to_blame_is_named_and_no_other(ward: Labs, case: Broken) -> None:
    try:
        for line in case.breaking:
            run(ward, line)
        found = diagnosed(ward, "--no-send")
    finally:
        for line in case.mending:
            run(ward, line)
        ward.run("up", str(ward.scratch / "ward.yaml"))
    assert found["findings"], f"nothing was found: {found['notes']}"
    first = found["findings"][0]
    assert re.fullmatch(case.cause, first["cause"]), told(found)
    assert re.search(case.object, first["object"]), told(found)
    assert len(found["findings"]) == 1, told(found)
    assert first["evidence"]
    assert first["remedy"]
    after = mended(ward)
    assert after["ok"], told(after)


def test_every_kind_of_object_is_explained(ward: Labs) -> None:
    found = {name: ward.json("explain", name) for name in ("outer", "net1", "gw1", "web", "outer-public", "10.0.0.12")}
    assert {name: one["kind"] for name, one in found.items()} == {
        "outer": "logical router",
        "net1": "logical switch",
        "gw1": "node",
        "web": "load balancer",
        "outer-public": "gateway port",
        "10.0.0.12": "NAT address",
    }
    assert not any(one["problems"] for one in found.values()), found
    rules = [(rule["kind"], rule["place"]) for rule in found["outer"]["rules"]]
    assert rules[0] == ("route", f"{ward.scratch / 'ward.yaml'}:{line_of('nexthop: 172.16.0.2')}:25")
    assert [kind for kind, _ in rules] == ["route", "NAT", "NAT"]
    assert "outer-public: " in str(found["outer"]["facts"]["port"])
    assert found["outer-public"]["facts"]["gateway"] == "on gw1"
    assert found["outer-public"]["facts"]["candidates"] == "gw1, gw2"
    assert "outer-public" in found["gw1"]["facts"]["gateway of"]
    assert found["10.0.0.12"]["facts"]["NAT"] == "dnat_and_snat on router outer, done by gw1 (outer-public)"
    assert "192.168.0.12:8080 (vm2)" in found["web"]["facts"]["backend"]
    shown = ward.out("explain", "net1")
    assert shown.startswith("logical switch net1")
    assert "router" in shown


def test_rules_are_in_the_order_in_which_they_are_looked_at(ward: Labs) -> None:
    ward.run("nbctl", "acl-add", "net1", "to-lport", "10", "ip6", "allow", "--",
             "acl-add", "net1", "to-lport", "2000", "ip6 && tcp.dst == 9", "drop", "--",
             "qos-add", "net1", "to-lport", "7", 'outport == "vm2" && ip6', "rate=512", "burst=64")  # fmt: skip
    try:
        rules = ward.json("explain", "vm2")["rules"]
    finally:
        ward.run("nbctl", "acl-del", "net1", "--", "qos-del", "net1")
    said = [rule["text"] for rule in rules if rule["kind"] in ("ACL", "QoS")]
    assert [text.split()[1] for text in said] == ["2000", "10", "7"]
    assert said[-1].endswith("at most 512 kbit/s, bursts of 64 kbit (made by hand)")


def test_status_tells_the_gateway_of_each_router_port(ward: Labs) -> None:
    found = ward.json("status")
    assert [(one["port"], one["chassis"], one["candidates"]) for one in found["gateways"]] == [
        ("outer-public", "gw1", ["gw1", "gw2"])
    ]
    assert found["behind"] == {}
    assert found["offline"] == []
    assert re.search(r"outer-public +outer +active +gw1 +gw1, gw2", ward.out("status"))


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(WARD.splitlines(), 1) if text in line)


def test_failing_pairs_stand_under_what_explains_them(ward: Labs) -> None:
    run(ward, "vm2$ ip link set vm2 down")
    try:
        found = diagnosed(ward)
        shown = ward.run("diagnose", "vm1", "vm2", expect=4).stdout
    finally:
        ward.run("up", str(ward.scratch / "ward.yaml"))
    assert [one["object"] for one in found["findings"]] == ["interface vm2 of fake VM vm2"], told(found)
    pairs = {(pair["from"], pair["to"]) for pair in found["findings"][0]["explains"]}
    assert {("vm1", "vm2"), ("vm2", "vm1"), ("vm3", "vm2"), ("vm2", "vm3")} <= pairs
    assert not found["unexplained"]
    assert "mend      ovnlab exec vm2 -- ip link set vm2 up" in shown
    assert "explains  1 failing pair: vm1 → vm2" in shown


def test_large_packets_are_explained_by_the_nic_that_is_small(ward: Labs) -> None:
    run(ward, "worker2$ ip link set eth1 mtu 1300")
    try:
        found = diagnosed(ward, "vm1", "vm2", "--size", "1400")
    finally:
        ward.run("up", str(ward.scratch / "ward.yaml"))
    assert [one["object"] for one in found["findings"]] == ["eth1 of worker2"], told(found)
    assert [pair["what"] for pair in found["findings"][0]["explains"]] == ["1400 bytes"]


def test_a_rule_by_hand_that_drops_the_answer_is_named_for_the_pair(ward: Labs) -> None:
    # On a switch without a load balancer: where packets are tracked, an answer passes before such a rule (ovn-northd(8)).
    ward.run(
        "nbctl", "--wait=hv", "acl-add", "net2", "from-lport", "1000", 'inport == "vm3" && icmp4.type == 0', "drop"
    )
    try:
        found = diagnosed(ward, "vm1", "vm3")
        whole = diagnosed(ward, "--no-send")
    finally:
        ward.run("nbctl", "--wait=hv", "acl-del", "net2")
    first = found["findings"][0]
    assert first["cause"] == "meant"
    assert first["object"].startswith("ACL")
    assert "by hand" in first["problem"]
    assert "nbctl remove Logical_Switch net2 acls" in first["remedy"]
    assert whole["ok"]


def test_flows_that_a_chassis_does_not_understand_are_told(ward: Labs) -> None:
    """As those of a newer ovn-northd are: actions that this ovn-controller does not know."""
    ward.run("nbctl", "ls-add", "lonely")
    ward.run("bind", "hermit=worker1", "--network", "lonely", "--ip", "10.7.0.2/24")
    options = ["server_id=10.7.0.1", "server_mac=c0:ff:ee:00:00:01", "lease_time=3600", "of_a_later_version=1"]
    row = ["cidr=10.7.0.0/24", *(f"options:{option}" for option in options)]
    try:
        ward.run("nbctl", "--wait=hv", "--id=@d", "create", "DHCP_Options", *row, "--", "set", "Logical_Switch_Port", "hermit",
                 "dhcpv4_options=@d")  # fmt: skip
        found = diagnosed(ward, "--no-send")
    finally:
        ward.run("unbind", "hermit")
        ward.run("nbctl", "--wait=hv", "ls-del", "lonely", "--", "--all", "destroy", "DHCP_Options")
    (first,) = found["findings"]
    assert (first["cause"], first["object"]) == ("flows-not-understood", "ovn-controller on worker1"), told(found)
    assert re.fullmatch(r"does not understand [12] flows? of its ovn-northd", first["problem"]), told(found)
    assert "of_a_later_version" in " ".join(first["evidence"])
    assert mended(ward)["ok"]


def test_shipped_topologies_are_healthy(ward: Labs) -> None:
    for name in ("routed", "trunks"):
        ward.run("up", str(TOPOLOGIES / f"{name}.yaml"))
        found = diagnosed(ward, "-l", name)
        ward.run("down", name)
        assert told(found) == "", name
