"""`ovnlab save`: a lab that somebody changed by hand comes up elsewhere from what is printed, row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ovnlab.northbound.schema import TABLES
from tests.lab.harness import TOPOLOGIES, Account, Labs
from tests.lab.shared import CONFIGURATIONS, UUID, Share

TEXT = """# Two fake VMs and a router.
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.1.0.0/24   # the only one
      dhcp: true
      ports:
        a: {chassis: central}
        b: {chassis: central}
        c: {ip: 10.1.0.30}
  routers:
    r: {ports: {net: {ip: 10.1.0.1/24}}}
  acls:
    - {switch: net, direction: to-lport, priority: 1000, match: tcp.dst == 22, action: drop}
    - {switch: net, direction: to-lport, priority: 1001, match: tcp.dst == 24, action: drop}  # removed by hand
  load_balancers:
    web: {vip: "10.1.0.100:80", backends: ["10.1.0.30:80"], switches: [net]}
"""

CHOSEN = ("mac_prefix", "max_tunid", "northd_internal_version", "svc_monitor_mac")
"""Options of NB_Global that ovn-northd chooses."""

WRITTEN = ("_uuid", "_version", "up", "dynamic_addresses", "connections", *CONFIGURATIONS)
"""Columns that are another at each run."""

OF_A_HOST = re.compile("52:54:00(:[0-9a-f]{2}){3}")
"""The MAC address of a machine's NIC, which is another one in another lab, and that of its external port."""


@pytest.fixture
def lab(ordinary: Account, share: Share) -> Labs:
    return share(ordinary, "save", TEXT)


def database(labs: Labs, lab: str) -> list[tuple[str, str]]:
    """All rows of the Northbound database but for UUIDs and ovnlab's marks; what refers to a row has its content."""
    found: dict[str, list[dict[str, Any]]] = {}
    for central in [node["name"] for node in labs.json("status", "-l", lab)["nodes"] if node["role"] == "central"]:
        select = [{"op": "select", "table": table, "where": []} for table in TABLES]
        asked = json.dumps(["OVN_Northbound", *select])
        words = ("ovsdb-client", "transact", "unix:/run/ovn/ovnnb_db.sock", asked)
        answer = json.loads(labs.run("exec", "-l", lab, central, "--", *words).stdout)
        for table, result in zip(TABLES, answer, strict=True):
            found.setdefault(table, []).extend(result["rows"])
    rows = [(table, row) for table, here in found.items() for row in here]
    labels: dict[str, str] = {}
    for _ in range(3):  # rows refer to rows that refer to rows
        labels = {row["_uuid"][1]: f"{table} {content(table, row, labels)}" for table, row in rows}
    return sorted((table, content(table, row, labels)) for table, row in rows)


def content(table: str, row: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    return json.dumps({key: plain(table, key, row[key], labels) for key in sorted(row) if key not in WRITTEN})


def plain(table: str, column: str, value: Any, labels: Mapping[str, str]) -> Any:
    match value:
        case ["uuid", uuid]:
            return labels.get(uuid, "*")
        case ["set", members]:
            return sorted((plain(table, column, member, labels) for member in members), key=str)
        case ["map", pairs]:
            left_out = CHOSEN if table == "NB_Global" else ()
            return sorted(
                [key, UUID.sub("*", str(item))]
                for key, item in pairs
                if not key.startswith("ovnlab") and key not in left_out
            )
    return OF_A_HOST.sub("*", value) if isinstance(value, str) else value


def brought_up_again(labs: Labs, lab: str) -> str:
    """Save a lab, compare with it what comes up of that under another name, and return the text."""
    saved = labs.run("save", "-l", lab)
    assert saved.stderr == ""
    path = labs.write("saved.yaml", saved.stdout)
    labs.run("up", path, "--name", "twin")
    assert database(labs, "twin") == database(labs, lab)
    assert labs.out("up", path, "--name", "twin") == "lab twin is up: nothing to do\n"
    return saved.stdout


def chassis(labs: Labs, lab: str) -> dict[str, str | None]:
    return {port["name"]: port["chassis"] for port in labs.json("status", "-l", lab)["ports"]}


def test_what_was_made_by_hand_is_in_the_file_that_is_saved(lab: Labs) -> None:
    lab.run("bind", "b", "worker1")
    lab.run("bind", "mine", "worker1", "--network", "net")
    lab.run("unbind", "a")
    lab.run("nbctl", "lsp-add", "net", "hand", "--", "lsp-set-addresses", "hand", "0a:00:00:00:00:77 10.1.0.77",
            "--", "lsp-set-port-security", "hand", "0a:00:00:00:00:77",
            "--", "lr-route-add", "r", "10.8.0.0/24", "10.1.0.9",
            "--", "--policy=dst-ip", "lr-route-add", "r", "10.9.0.0/24", "10.1.0.9",
            "--", "lr-nat-add", "r", "snat", "10.1.0.50", "10.2.0.0/24",
            "--", "acl-add", "net", "to-lport", "900", "tcp.dst == 23", "reject",
            "--", "acl-del", "net", "to-lport", "1001", "tcp.dst == 24",
            "--", "lb-add", "mail", "10.1.0.101:25", "10.1.0.30:25,10.1.0.77:25", "--", "ls-lb-add", "net", "mail",
            "--", "set", "Logical_Switch_Port", "c", "options:mcast_flood=true", "enabled=false",
            "--", "set", "Logical_Router", "r", "options:mac_binding_age_threshold=60",
            "--", "set", "NB_Global", ".", "options:bfd-min-tx=500")  # fmt: skip
    text = brought_up_again(lab, "save")
    assert text.startswith("# Two fake VMs and a router.\nname: save\nnodes: {central: {role: central}, worker1: ")
    assert "subnet: 10.1.0.0/24   # the only one\n" in text
    assert "    - {switch: net, direction: to-lport, priority: 900, match: tcp.dst == 23, action: reject}\n" in text
    assert "tcp.dst == 24" not in text
    found = chassis(lab, "twin")
    assert {name: found[name] for name in ("a", "b", "mine")} == {"a": None, "b": "worker1", "mine": "worker1"}
    lab.run("ping", "-l", "twin", "b", "mine")
    into = lab.scratch / "written.yaml"
    assert lab.out("save", "-l", "save", "-o", str(into)) == f"wrote {into}\n"
    assert into.read_text() == text
    assert lab.json("save", "-l", "save") == {
        "schema_version": 1, "lab": "save", "written": None, "topology": text, "left_out": []
    }  # fmt: skip


def test_a_file_that_was_edited_meanwhile_is_told(lab: Labs) -> None:
    lab.write("save.yaml", TEXT.replace("        c:", "        d: {}\n        c:"))
    refused = lab.run("save", expect=2).stderr
    assert "lab save is not what its file says now" in refused
    assert "ovnlab up" in refused
    (lab.scratch / "save.yaml").unlink()
    assert "there is no such file" in lab.run("save", expect=1).stderr


@pytest.mark.thorough
def test_a_file_with_aliases_is_saved_with_what_is_set(ordinary: Account, share: Share) -> None:
    text = """
nodes: {central: {role: central}, worker1: {role: gateway}}
logical:
  switches:
    one: {subnet: &net 10.2.0.0/24, ports: {d: &port {chassis: central}}}
    two: {ports: {e: *port}}
  routers: {s: {chassis: worker1, nat: {type: snat, external: 10.3.0.1, logical: *net}}}
"""
    labs = share(ordinary, "aliases", text)
    labs.run("up", str(labs.scratch / "aliases.yaml"), "--set", "underlay.mtu=1400")
    labs.run("bind", "e", "worker1")
    labs.run("nbctl", "lr-nat-del", "s", "--", "lr-nat-add", "s", "dnat", "10.3.0.2", "10.2.0.3")
    saved = labs.run("save")
    assert saved.stderr == "ovnlab: left out: comments of a file with aliases\n"
    labs.run("up", labs.write("saved.yaml", saved.stdout), "--name", "twin")
    assert database(labs, "twin") == database(labs, "aliases")
    assert "mtu: 1400" in saved.stdout
    assert chassis(labs, "twin") == {"d": "central", "e": "worker1"}


def test_what_no_file_can_say_is_told(lab: Labs) -> None:
    lab.run("nbctl", "lb-add", "web", "10.1.0.102:80", "10.1.0.30:80", "--", "--add-duplicate", "lb-add", "web", "10.1.0.103:80", "10.1.0.30:80",
            "--", "remove", "Logical_Switch_Port", "net-r", "options", "router-port")  # fmt: skip
    told = lab.run("save").stderr.splitlines()
    assert [line for line in told if "load balancer web: there are several of that name" in line], told
    assert [line for line in told if "logical switch port net-r: options" in line], told


BY_HAND = """
ls-add theirs
set Logical_Switch theirs other_config:mcast_snoop=true external_ids:of=them
lsp-add theirs x
lsp-set-addresses x unknown
lsp-set-type x localnet
lsp-set-options x network_name=somewhere
set Logical_Switch_Port x tag_request=7
lsp-add net child c 5
lsp-set-addresses child dynamic
lr-add theirs-too
lrp-add theirs-too to-net 0a:00:00:00:00:78 10.1.0.3/24 fd00::3/64
lrp-set-gateway-chassis to-net central 5
set Logical_Router_Port to-net ipv6_ra_configs:address_mode=slaac
lsp-add net from-net
lsp-set-type from-net router
lsp-set-addresses from-net router
lsp-set-options from-net router-port=to-net
--ecmp lr-route-add r 10.10.0.0/24 10.1.0.11
--ecmp lr-route-add r 10.10.0.0/24 10.1.0.12
--bfd lr-route-add theirs-too 10.11.0.0/24 10.1.0.13 to-net
lr-policy-add r 100 ip4.dst==10.12.0.0/24 reroute 10.1.0.14
lr-nat-add r dnat_and_snat 10.1.0.51 10.1.0.30
--portrange lr-nat-add r snat 10.1.0.52 10.3.0.0/24 3000-4000
lsp-add net hand
pg-add group hand
acl-add group from-lport 10 inport==@group&&ip4.src==$set allow-related
create Address_Set name=set addresses="10.1.0.60"
meter-add slow drop 10 pktps 5
--log --severity=info --meter=slow --name=noted acl-add net to-lport 11 ip4 allow
qos-add net to-lport 12 ip4 rate=1000 burst=100 dscp=4
dhcp-options-create 10.5.0.0/24
create DNS records:host="10.1.0.61"
ha-chassis-group-add together
ha-chassis-group-add-chassis together central 3
static-mac-binding-add r-net 10.1.0.62 0a:00:00:00:00:79
copp-add gentle arp slow
ls-copp-add gentle net
mirror-add copies gre 5 to-lport 192.168.50.20
fwd-group-add forwards net 10.1.0.63 0a:00:00:00:00:7a a b
lb-add udp 10.1.0.104:53 10.1.0.30:53 udp
lr-lb-add r udp
create Load_Balancer_Group name=balancers
create Chassis_Template_Var chassis=central variables:one=10.1.0.64
clear Logical_Switch_Port c dhcpv4_options
"""
"""Commands of ovn-nbctl, of most kinds that there are."""


@pytest.mark.thorough
def test_forty_commands_by_hand_are_in_the_file(lab: Labs) -> None:
    commands = [line.split() for line in BY_HAND.splitlines() if line]
    refused = [(words, done.stderr) for words in commands if (done := lab.run("nbctl", *words, expect=None)).returncode]
    assert refused == []
    assert len(commands) >= 30
    lab.run("nbctl", "--wait=sb", "sync")
    brought_up_again(lab, "save")


LOCAL = sorted(
    path.stem
    for path in TOPOLOGIES.glob("*.yaml")
    if "source" not in path.stem and path.stem not in ("mixed-versions", "workshop", "ovn-multinode")
)


@pytest.mark.thorough
@pytest.mark.parametrize("name", LOCAL)
def test_every_shipped_topology_is_the_same_lab_when_it_is_saved(name: str, ordinary: Account, share: Share) -> None:
    labs = share(ordinary, name)
    text = brought_up_again(labs, name)
    comments = [line for line in Path(TOPOLOGIES / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert [line for line in comments if line not in text.splitlines()] == []
