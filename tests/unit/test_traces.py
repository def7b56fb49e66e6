"""What ovn-trace and ofproto/trace print, by versions of OVN and OVS from 22.03 and 2.17 to 26.03 and 4.0.

The files of golden/ are what those programs printed of one network: switches network1 (vm1, vm3) and network2 (vm2 on
another chassis), router1 between them, and ACLs to vm3 that allow ICMP, reject TCP port 8080 by `no-8080`, and drop the
rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnlab.insight import ofproto_trace, ovn_trace
from ovnlab.insight.logical_path import legs
from ovnlab.insight.names import Names

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir())


def of(version: str, name: str) -> str:
    return (GOLDEN / version / name).read_text()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_are_several_versions() -> None:
    assert len(VERSIONS) >= 5


def test_a_routed_packet(version: str) -> None:
    found = ovn_trace.parse(of(version, "routed.ovn-trace"))
    assert found.unread == ()
    assert found.flow.startswith("icmp,reg14=0x")
    pipelines = [(one.pipeline, one.datapath, one.inport, one.outport) for one in found.sections if one.pipeline]
    assert pipelines == [
        ("ingress", "network1", "vm1", ""),
        ("egress", "network1", "vm1", "net1-router1"),
        ("ingress", "router1", "router1-net1", ""),
        ("egress", "router1", "router1-net1", "router1-net2"),
        ("ingress", "network2", "net2-router1", ""),
        ("egress", "network2", "net2-router1", "vm2"),
    ]
    assert [(output.port, output.type) for output in found.outputs] == [("vm2", "")]
    assert found.refusal is None
    stages = {stage.name: stage for stage in found.stages}
    assert "eth.dst == 40:44:00:00:00:03" in stages["lr_in_admission"].match
    assert "ip.ttl--;" in stages["lr_in_ip_routing"].actions
    assert all(len(stage.uuid) == 8 for stage in found.stages)
    rewritten = found.rewritten({"eth.src": "x", "eth.dst": "y", "ip.ttl": "64", "ip4.src": "192.168.0.11"})
    assert rewritten == {
        "eth.src": "40:44:00:00:00:04",
        "eth.dst": "40:44:00:00:00:02",
        "ip.ttl": "63",
        "ip4.src": "192.168.0.11",
    }


def test_a_dropped_packet_is_dropped_by_the_acl_that_says_so(version: str) -> None:
    found = ovn_trace.parse(of(version, "dropped.ovn-trace"))
    assert found.unread == ()
    assert found.outputs == ()
    assert found.drop is not None
    section, stage = found.drop
    assert (section.datapath, stage.name.startswith("ls_out_acl")) == ("network1", True)
    assert 'outport == "vm3" && ip' in stage.match


def test_a_rejected_packet_is_rejected_by_the_acl_that_says_so(version: str) -> None:
    found = ovn_trace.parse(of(version, "rejected.ovn-trace"))
    assert found.unread == ()
    assert found.refusal is not None
    _, stage = found.refusal
    assert "tcp.dst == 8080" in stage.match
    assert "tcp_reset" not in [section.title for section in found.sent], "that is the answer, not the packet"
    assert [section.pipeline for section in found.sent if section.pipeline] == ["ingress", "egress"]


def test_what_floods_goes_to_several(version: str) -> None:
    found = ovn_trace.parse(of(version, "flooded.ovn-trace"))
    assert found.unread == ()
    assert any(section.pipeline == "multicast" for section in found.sections)
    flooded = [section for section in found.sections if section.depth and section.pipeline == "egress"]
    assert flooded
    assert all(section.inport == "vm2" for section in flooded)


def test_what_a_switch_does_with_the_routed_packet(version: str) -> None:
    meant = ovn_trace.parse(of(version, "routed.ovn-trace"))
    found = ofproto_trace.parse("worker1", of(version, "routed.ofproto-trace"))
    assert found.not_understood == ()
    assert found.is_followed, found.reason
    assert [bool(one.resumes) for one in found.passes] == [False, True]
    (out,) = (one for one in found.exits if one.tunnel)
    assert out.tunnel is not None
    assert (out.tunnel.encap, out.tunnel.remote_ip) == ("geneve", "192.168.50.101")
    assert {out.tunnel.ingress_key, out.tunnel.egress_key} == {1, 2}
    assert out.changed["eth"] == {"src": "40:44:00:00:00:04", "dst": "40:44:00:00:00:02"}
    assert out.changed["ipv4"]["ttl"] == "63"
    # Every stage that OVN means to match here did; the last pipeline runs where vm2 is.
    names = Names({})
    (here,) = legs(meant.sections[:-1], names, "worker1")
    assert [uuid for uuid in here.uuids if uuid not in found.uuids] == []


def test_what_a_switch_does_with_the_dropped_packet(version: str) -> None:
    meant = ovn_trace.parse(of(version, "dropped.ovn-trace"))
    found = ofproto_trace.parse("worker1", of(version, "dropped.ofproto-trace"))
    assert found.exits == ()
    assert found.is_followed
    assert meant.drop is not None
    assert meant.drop[1].uuid in found.uuids


@given(st.sampled_from(VERSIONS), st.integers(0, 130), st.text(max_size=80))
def test_what_is_not_understood_is_kept(version: str, place: int, text: str) -> None:
    """Whatever stands between the lines of a trace: nothing raises, and words are not lost."""
    lines = of(version, "routed.ovn-trace").splitlines()
    lines.insert(place, text)
    assert ovn_trace.parse("\n".join(lines)).sections
    ofproto_trace.parse("worker1", "\n".join([*of(version, "routed.ofproto-trace").splitlines()[:place], text]))


def test_lines_that_nobody_knows_are_told() -> None:
    found = ovn_trace.parse(of(VERSIONS[0], "routed.ovn-trace") + "\nsomething that no version prints yet\n")
    assert found.unread == ("something that no version prints yet",)
    strange = of(VERSIONS[0], "routed.ofproto-trace").replace("set(ipv4(ttl=63))", "teleport(mars)")
    assert ofproto_trace.parse("worker1", strange).not_understood == ("datapath action teleport",)


KERNEL = (
    "Flow: icmp,in_port=3\n\nDatapath actions: set(eth(dst=40:44:00:00:00:02)),"
    "set(tunnel(tun_id=0x8,dst=192.168.50.101,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x20001}),"
    "flags(df|csum|key))),genev_sys_6081,check_pkt_len(size=1500,gt(drop),le(clone(push_vlan(vid=5,pcp=0),eth2)))\n"
)


def test_the_kernels_datapath_sets_a_tunnel_instead_of_pushing_a_header() -> None:
    tunnelled, plain = ofproto_trace.parse("worker1", KERNEL).exits
    assert tunnelled.tunnel == ofproto_trace.Header("geneve", "192.168.50.101", 8, 2, 1)
    assert tunnelled.port == "genev_sys_6081"
    assert (plain.port, plain.tunnel) == ("eth2", None)


RESUMED = """Flow: icmp,in_port=1

bridge("br-ex")
---------------
 0. priority 0
    NORMAL
     -> forwarding to learned port

bridge("br-int")
----------------
 0. in_port=3, priority 100
    ct(table=13,zone=1)
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 13.

Final flow: unchanged
Megaflow: recirc_id=0,icmp
Datapath actions: ct(zone=2),recirc(0x6)

===============================================================================
recirc(0x6) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x6,icmp

bridge("br-ex")
---------------
    thaw
        Resuming from table 13
13. metadata=0x3, priority 0, cookie 0x7ccf8d92
    output:4

bridge("br-ex")
---------------
     0. priority 0
        NORMAL

Final flow: unchanged
Megaflow: recirc_id=0x6,icmp
Datapath actions: 1
"""
"""A packet from a NIC: where it goes on after conntrack, ofproto/trace shows the bridge that the trace began in."""


def test_a_packet_goes_on_in_the_bridge_whose_flow_sent_it_through_conntrack() -> None:
    first, second = ofproto_trace.parse("gw1", RESUMED, "br-ex").passes
    assert [step.bridge for step in first.steps] == ["br-ex", "br-int"]
    assert [(step.bridge, step.table) for step in second.steps] == [("br-int", 13), ("br-ex", 0)]
