"""What OVN means, what switches do, what is seen: `ovnlab trace`, against the live databases and broken labs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import labs_in
from tests.lab.harness import TOPOLOGIES, Account, Labs
from tests.lab.test_scenarios import eventually


@pytest.fixture(scope="module")
def gateway(ordinary: Account, session_folder: Any) -> Iterator[Labs]:
    """One lab for all that breaks it: each test mends what it broke."""
    for labs in labs_in(ordinary, session_folder / "trace"):
        labs.run("up", "gateway")
        yield labs


@pytest.fixture
def mended(gateway: Labs) -> Iterator[Labs]:
    yield gateway
    gateway.run("up", "gateway")
    eventually("an answer", lambda: gateway.run("ping", "vm1", "vm2", "-c1", expect=None).returncode == 0)
    assert trace(gateway, "vm1", "vm2")["agrees"]


def trace(labs: Labs, *words: str, expect: int = 0) -> dict[str, Any]:
    return labs.json("trace", *words, expect=expect)


def key(labs: Labs, table: str, condition: str) -> int:
    return int(labs.rows("sbctl", "--columns=tunnel_key", "find", table, condition)[0]["tunnel_key"])


def tunnel_key(labs: Labs, port: str) -> int:
    return key(labs, "Port_Binding", f"logical_port={port}")


def test_the_tunnel_is_what_the_southbound_database_says(labs: Labs) -> None:
    labs.run("up", "routed")
    found = trace(labs, "vm1", "vm2")
    wanted = {
        "src_chassis": "worker1",
        "dst_chassis": "worker2",
        "encap": "geneve",
        "vni": key(labs, "Datapath_Binding", "external_ids:name=network2"),
        "ingress_key": tunnel_key(labs, "network2-router1"),
        "egress_key": tunnel_key(labs, "vm2"),
        "datapath": "network2",
        "inport": "network2-router1",
        "outport": "vm2",
    }
    assert found["tunnel"] == {"expected": wanted, "observed": wanted}
    assert found["verdict"] == "delivered as intended"
    assert [(hop["place"], hop["what"], hop["seen"]) for hop in found["hops"]] == [
        ("vm1", "sent", True),
        ("worker1:eth1", "to worker2", True),
        ("worker2:eth1", "from worker1", True),
        ("vm2", "received", True),
    ]
    assert [(part["chassis"], part["datapath"], part["pipeline"]) for part in found["logical"]] == [
        ("worker1", "network1", "ingress"),
        ("worker1", "network1", "egress"),
        ("worker1", "router1", "ingress"),
        ("worker1", "router1", "egress"),
        ("worker1", "network2", "ingress"),
        ("worker2", "network2", "egress"),
    ]
    (leaving,), (arriving,) = (one["exits"] for one in found["physical"])
    assert leaving["tunnel"]["vni"] == wanted["vni"]
    assert (leaving["tunnel"]["ingress_key"], leaving["tunnel"]["egress_key"]) == (
        wanted["ingress_key"],
        wanted["egress_key"],
    )
    assert arriving == {"port": "vm2", "tunnel": None}
    shown = labs.out("trace", "vm1", "vm2")
    assert f"Geneve vni {wanted['vni']} (network2)" in shown
    assert shown.splitlines()[-1] == "verdict  delivered as intended"
    assert "lr_in_ip_routing" in shown
    assert "lr_in_ip_routing" not in labs.out("trace", "vm1", "vm2", "--summary")
    assert "set_field" in labs.out("trace", "vm1", "vm2", "--detail")


@pytest.mark.thorough
def test_addresses_and_fields_of_a_persons_own(gateway: Labs) -> None:
    by_address = trace(gateway, "192.168.0.11", "192.168.0.12")
    by_mac = trace(gateway, "40:44:00:00:00:01", "40:44:00:00:00:02")
    assert by_address["tunnel"] == by_mac["tunnel"] == trace(gateway, "vm1", "vm2")["tunnel"]
    ends = trace(gateway, "vm1", "10.0.0.48", "--expr", "ip.ttl == 1")
    assert ends["outcome"] == "answered"
    assert "ip.ttl == 1" in ends["microflow"]
    assert not trace(gateway, "vm1", "vm2", "--no-send")["sent"]
    assert trace(gateway, "vm1", "vm2", "--from-chassis")["tunnel"]["observed"]["outport"] == "vm2"
    assert "syntax error" in gateway.run("trace", "vm1", "vm2", "--expr", "ip4.dst ==", expect=2).stderr.lower()
    assert "unknown node or fake VM 'vm9'" in gateway.run("trace", "vm1", "vm9", expect=2).stderr


def test_out_through_the_gateway_and_in_again(gateway: Labs) -> None:
    out = trace(gateway, "vm1", "host1")
    assert out["agrees"], out["verdict"]
    assert out["tunnel"]["observed"]["outport"] == "cr-router1-public"
    gateways = {out["tunnel"]["observed"]["dst_chassis"]}
    seen = {hop["what"]: hop["packet"] for hop in out["hops"]}
    assert seen["sent"].startswith("192.168.0.11 > 10.0.0.48")
    assert seen["received"].startswith("10.0.0.45 > 10.0.0.48")
    back = trace(gateway, "host1", "10.0.0.12")
    assert back["agrees"], back["verdict"]
    assert {back["tunnel"]["observed"]["src_chassis"]} == gateways
    assert back["hops"][-1]["place"] == "vm2"
    assert trace(gateway, "vm1", "192.168.0.1")["outcome"] == "answered"


def test_a_flow_that_somebody_deleted(mended: Labs) -> None:
    match = 'match="eth.dst == 40:44:00:00:00:02"'
    (flow,) = mended.rows("sbctl", "--columns=_uuid,table_id", "find", "Logical_Flow", match, "pipeline=ingress")
    uuid = flow["_uuid"][1]
    installed = mended.out("ofctl", "worker1", "dump-flows", "br-int", f"cookie=0x{uuid[:8]}/-1")
    table = installed.split("table=")[1].split(",")[0]
    mended.run("ofctl", "worker1", "del-flows", "br-int", f"cookie=0x{uuid[:8]}/-1")
    for words in (("vm1", "vm2"), ("vm1", "vm2", "--no-send")):
        found = trace(mended, *words, expect=4)
        assert found["place"] == f"worker1, table {table}", found["verdict"]
        assert "ls_in_l2_lkup" in found["cause"]
        assert "not installed" in found["cause"]
    mended.end_controller("worker1")


def test_a_wrong_bridge_mapping(mended: Labs) -> None:
    gateway = trace(mended, "vm1", "host1")["tunnel"]["observed"]["dst_chassis"]
    mended.run("vsctl", gateway, "set", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings=outside:br-ex")
    mended.run("nbctl", "--wait=hv", "sync")
    found = trace(mended, "vm1", "host1", expect=4)
    assert found["place"] == f"{gateway}, its bridge mappings"
    assert "external has no bridge" in found["cause"]
    assert [hop["seen"] for hop in found["hops"]][-3:] == [True, False, False]


def test_a_poisoned_mac_binding(mended: Labs) -> None:
    trace(mended, "vm1", "host1")
    (binding,) = mended.rows("sbctl", "--columns=_uuid", "find", "MAC_Binding", "ip=10.0.0.48")
    mended.run("sbctl", "set", "MAC_Binding", binding["_uuid"][1], 'mac="0a:00:00:00:00:99"')
    mended.run("nbctl", "--wait=hv", "sync")
    found = trace(mended, "vm1", "host1", expect=4)
    assert found["place"] == "the MAC binding of 10.0.0.48 on router1-public", found["verdict"]
    assert "0a:00:00:00:00:99" in found["cause"]
    mended.run("sbctl", "destroy", "MAC_Binding", binding["_uuid"][1])
    assert trace(mended, "vm1", "host1")["agrees"], "it learns it anew"


def test_a_wrong_encap_ip(mended: Labs) -> None:
    mended.run("vsctl", "worker2", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip=192.168.50.99")
    eventually("the chassis to say so", lambda: mended.rows("sbctl", "find", "Encap", "ip=192.168.50.99"))
    mended.run("nbctl", "--wait=hv", "sync")
    found = trace(mended, "vm1", "vm2", expect=4)
    assert found["place"] == "worker2, its encap IP", found["verdict"]
    assert "192.168.50.99" in found["cause"]


def test_a_dead_ovn_controller(mended: Labs) -> None:
    mended.on("worker2", "sh", "-c", "kill -9 $(cat /run/ovn/ovn-controller.pid)")
    assert trace(mended, "vm1", "vm2")["agrees"], "what it installed is there still"
    mended.run("nbctl", "acl-add", "network1", "to-lport", "1000", 'outport == "vm2" && icmp4', "drop")
    mended.run("nbctl", "--wait=sb", "sync")
    found = trace(mended, "vm1", "vm2", expect=4)
    assert found["outcome"] == "dropped"
    assert found["place"] == "worker2, ovn-controller", found["verdict"]
    mended.run("nbctl", "acl-del", "network1")


def test_what_an_acl_drops_and_rejects_is_told_with_its_line(user_labs: Labs) -> None:
    user_labs.run("up", "acl")
    lines = (TOPOLOGIES / "acl.yaml").read_text().splitlines()

    def line_of(place: str) -> str:
        return lines[int(place.split(":")[1]) - 1]

    dropped = trace(user_labs, "stranger", "web1", "--tcp", "80")
    assert dropped["outcome"] == "dropped"
    assert dropped["agrees"]
    assert "action: drop" in line_of(dropped["decision"]["place"])
    assert dropped["decision"]["uuid"] in [
        row["_uuid"][1] for row in user_labs.rows("nbctl", "find", "ACL", "action=drop")
    ]
    assert (dropped["hops"][-1]["place"], dropped["hops"][-1]["seen"]) == ("web1", False)
    rejected = trace(user_labs, "client1", "web1", "--tcp", "8080")
    assert rejected["outcome"] == "rejected"
    assert rejected["agrees"], rejected["verdict"]
    assert "ACL no-8080" in rejected["verdict"]
    assert "[R.]" in next(hop["packet"] for hop in rejected["hops"] if hop["what"] == "refused")
    assert trace(user_labs, "client1", "web1", "--tcp", "80")["outcome"] == "delivered"
    # Whoever lets it through all the same is found.
    uuid = next(
        stage["uuid"] for part in dropped["logical"] for stage in part["stages"] if stage["actions"] == ["drop;"]
    )
    chassis = dropped["decision"]["chassis"]
    user_labs.run("ofctl", chassis, "del-flows", "br-int", f"cookie=0x{uuid}/-1")
    through = trace(user_labs, "stranger", "web1", "--tcp", "80", expect=4)
    assert through["place"].startswith(f"{chassis}, table "), through["verdict"]
    assert "not installed" in through["cause"]


def test_a_load_balancer_and_the_backend_that_it_chose(user_labs: Labs) -> None:
    user_labs.run("up", "load-balancer")
    backends = set()
    for _ in range(6):
        found = trace(user_labs, "client2", "192.168.0.100", "--tcp", "80")
        assert found["agrees"], found["verdict"]
        backends.add(found["hops"][-1]["place"])
        assert found["hops"][-1]["seen"]
    assert backends <= {"web1", "web2"}


@pytest.mark.parametrize(
    ("topology", "source", "destination", "chassis"),
    [
        ("interconnection", "vm-east", "vm-west", ["worker-east", "gw-east", "gw-west", "worker-west"]),
        ("no-overlay", "vm1", "vm3", ["worker1", "worker2"]),
        ("ipv6", "vm1", "vm2", ["worker1", "worker2"]),
        ("tls", "vm1", "vm2", ["worker1", "worker2"]),
        ("raft", "vm1", "vm2", ["worker1", "worker2"]),
    ],
)
def test_other_ways_of_getting_there(
    user_labs: Labs, topology: str, source: str, destination: str, chassis: list[str]
) -> None:
    user_labs.run("up", topology)
    found = trace(user_labs, source, destination)
    assert found["agrees"], found["verdict"]
    assert all(hop["seen"] for hop in found["hops"])
    assert [one["chassis"] for one in found["physical"]] == chassis
    assert not any(one["missing"] for one in found["physical"])


def test_a_router_of_another_zone_answers(user_labs: Labs) -> None:
    user_labs.run("up", "interconnection")
    found = trace(user_labs, "vm-east", "192.168.2.1")
    assert (found["outcome"], found["agrees"]) == ("answered", True), found["verdict"]
    assert [one["chassis"] for one in found["physical"]] == ["worker-east", "gw-east", "gw-west"]
    assert (
        trace(user_labs, "vm-east", "192.168.2.99")["verdict"] == "dropped as intended: nobody answers for 192.168.2.99"
    )


def test_vxlan_has_a_header_of_its_own(user_labs: Labs) -> None:
    text = """
    nodes: {central: {role: central}, worker1: {encap: vxlan}, worker2: {encap: vxlan}}
    logical:
      switches:
        network1:
          subnet: 192.168.0.0/24
          ports:
            vm1: {ip: 192.168.0.11, chassis: worker1}
            vm2: {ip: 192.168.0.12, chassis: worker2}
    """
    user_labs.run("up", user_labs.write("vxlan.yaml", text))
    found = trace(user_labs, "vm1", "vm2")
    assert found["agrees"], found["verdict"]
    observed = found["tunnel"]["observed"]
    assert observed == found["tunnel"]["expected"]
    assert (observed["encap"], observed["ingress_key"]) == ("vxlan", None)
    assert observed["vni"] == tunnel_key(user_labs, "vm2") << 12 | key(
        user_labs, "Datapath_Binding", "external_ids:name=network1"
    )


def first(found: dict[str, Any], name: str) -> str:
    """The first digits of the UUID of the logical flow of a stage that a trace went through."""
    return next(str(stage["uuid"]) for part in found["logical"] for stage in part["stages"] if stage["name"] == name)


@pytest.mark.thorough
def test_a_router_that_does_not_answer_an_outside_host(mended: Labs) -> None:
    found = trace(mended, "host1", "10.0.0.45")
    assert found["outcome"] == "answered"
    assert "echo reply" in found["hops"][-1]["packet"]
    chassis = found["logical"][0]["chassis"]
    mended.run("ofctl", chassis, "del-flows", "br-int", f"cookie=0x{first(found, 'lr_in_ip_input')}/-1")
    silent = trace(mended, "host1", "10.0.0.45", expect=4)
    assert silent["place"].startswith(f"{chassis}, table "), silent["verdict"]
    mended.end_controller(chassis)


@pytest.mark.thorough
def test_what_is_bound_nowhere_is_not_delivered(mended: Labs) -> None:
    mended.run("unbind", "vm2")
    for words in (("vm1", "vm2"), ("vm1", "192.168.0.12"), ("vm1", "vm2", "--no-send")):
        found = trace(mended, *words, expect=4)
        assert found["place"] == "vm2", found["verdict"]
        assert "bound to no chassis" in found["cause"]
    assert "ovnlab bind vm2 NODE" in mended.run("trace", "vm2", "vm1", expect=1).stderr


@pytest.mark.thorough
def test_a_nic_that_is_down(mended: Labs) -> None:
    mended.on("worker2", "ip", "link", "set", "eth1", "down")
    found = trace(mended, "vm1", "vm2", expect=4)
    assert found["place"] == "worker2:eth1", found["verdict"]
    assert "not up" in found["cause"]
    mended.on("worker2", "ip", "link", "set", "eth1", "up")


def test_a_dead_switch_where_the_packet_begins(mended: Labs) -> None:
    mended.on("worker1", "sh", "-c", "kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)")
    assert trace(mended, "vm1", "vm2", expect=4)["place"] == "worker1, ovs-vswitchd"


def test_a_flow_that_is_missing_where_the_packet_arrives(mended: Labs) -> None:
    port = mended.out(
        "vsctl", "worker2", "--bare", "--columns=name", "find", "Interface", "options:remote_ip=192.168.50.100"
    ).strip()
    flow = f"table=0,priority=65000,in_port={port}"
    mended.run("ofctl", "worker2", "add-flow", "br-int", f"{flow},actions=drop")
    for words in (("vm1", "vm2"), ("vm1", "vm2", "--no-send")):
        found = trace(mended, *words, expect=4)
        assert found["place"].startswith("worker2"), found["verdict"]
    mended.run("ofctl", "worker2", "--strict", "del-flows", "br-int", flow)


def test_a_chassis_itself_on_the_physical_network(gateway: Labs) -> None:
    found = trace(gateway, "vm1", "gw1")
    assert (found["agrees"], found["hops"][-1]["place"]) == (True, "gw1:br-ex"), found["verdict"]


def test_nobody_answers_for_an_address(gateway: Labs) -> None:
    found = trace(gateway, "vm1", "10.0.0.99")
    assert (found["outcome"], found["verdict"]) == ("dropped", "dropped as intended: nobody answers for 10.0.0.99")


@pytest.mark.thorough
def test_packets_of_other_kinds(gateway: Labs) -> None:
    flooded = trace(gateway, "vm1", "ff:ff:ff:ff:ff:ff")
    assert flooded["agrees"], flooded["verdict"]
    assert flooded["tunnel"]["observed"]["outport"].startswith("_MC_")
    assert trace(gateway, "vm1", "192.168.0.255")["agrees"]
    for expression in ("icmp4.type == 3", "udp.dst == 53"):
        found = trace(gateway, "vm1", "vm2", "--expr", expression)
        assert found["agrees"], (expression, found["verdict"])
    said = gateway.run("trace", "vm1", "vm2", "--expr", 'inport == "vm2"', expect=2).stderr
    assert "another inport" in said
    assert gateway.run("trace", "vm1", "vm2", "--expr", "ip.ttl == 999", expect=2).stderr
    assert "same port" in gateway.run("trace", "vm1", "192.168.0.11", expect=2).stderr


def test_northd_that_does_not_run_is_told(mended: Labs) -> None:
    mended.on("central", "sh", "-c", "kill -9 $(cat /run/ovn/ovn-northd.pid)")
    found = trace(mended, "vm1", "vm2", expect=4)
    assert found["verdict"].startswith("cannot be told, because central: ovn-northd does not run"), found["verdict"]
    assert found["place"] == "ovn-northd"


@pytest.mark.thorough
def test_an_ovn_trace_that_fails_is_said_and_leaves_nothing(gateway: Labs) -> None:
    gateway.on("central", "sh", "-c", 'mount --bind /bin/false "$(command -v ovn-trace)"')
    try:
        error = gateway.run("test", expect=1).stderr
    finally:
        gateway.on("central", "sh", "-c", 'umount "$(command -v ovn-trace)"')
    assert re.search(r"^ovnlab: ovn-trace of \d+ packets: a command ended with exit code 1$", error, re.MULTILINE)
    assert gateway.on("central", "ls", "/tmp") == ""


@pytest.mark.thorough
def test_what_is_dropped_elsewhere_is_not_dropped_by_the_acl(user_labs: Labs) -> None:
    user_labs.run("up", "acl")
    found = trace(user_labs, "stranger", "web1", "--tcp", "22")
    assert found["agrees"]
    chassis = found["logical"][0]["chassis"]
    uuid = first(found, "ls_in_l2_lkup")
    user_labs.run("ofctl", chassis, "del-flows", "br-int", f"cookie=0x{uuid}/-1")
    elsewhere = trace(user_labs, "stranger", "web1", "--tcp", "22", expect=4)
    assert elsewhere["place"].startswith(f"{chassis}, table "), elsewhere["verdict"]
    assert "ls_in_l2_lkup" in elsewhere["cause"]


def test_vlan_children_send_and_receive(user_labs: Labs) -> None:
    user_labs.run("up", "trunks")
    blue = next(
        port["name"]
        for port in user_labs.json("status")["ports"]
        if port["switch"] == "blue" and port["name"] not in ("vm1-blue",)
    )
    for source, destination in (("vm1-blue", blue), (blue, "vm1-blue")):
        for options in ((), ("--no-send",)):
            found = trace(user_labs, source, destination, *options)
            assert found["agrees"], (source, options, found["verdict"])
    assert trace(user_labs, "vm1-blue", blue, "--from-chassis")["agrees"]


def test_floating_ips_that_are_distributed(user_labs: Labs) -> None:
    user_labs.run("up", "dvr")
    out = trace(user_labs, "vm1", "10.0.0.12")
    assert out["agrees"], out["verdict"]
    into = trace(user_labs, "host1", "10.0.0.11")
    assert into["agrees"], into["verdict"]
    assert into["logical"][0]["chassis"] == "worker1", "where the fake VM is, not at the gateway"
    assert into["hops"][-1]["place"] == "vm1"


@pytest.mark.thorough
def test_a_machine_on_the_fake_vms_own_physical_network(user_labs: Labs) -> None:
    user_labs.run("up", "external-ports")
    found = trace(user_labs, "metal1", "vm1")
    assert found["agrees"], found["verdict"]


@pytest.mark.thorough
def test_a_load_balancer_is_one_of_a_protocol(user_labs: Labs) -> None:
    user_labs.run("up", "load-balancer")
    found = trace(user_labs, "client2", "192.168.0.100", "--udp", "80")
    assert found["agrees"], found["verdict"]
    assert not any(hop["place"] in ("web1", "web2") for hop in found["hops"])
