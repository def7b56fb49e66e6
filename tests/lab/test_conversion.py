"""Other software whose schemas do not allow what the databases have: made anew where it can be, refused where not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import trees
from tests.lab.conftest import labs_in
from tests.lab.harness import Account, Labs

TWO = """
name: two
nodes: {central: {role: central}, worker1: }
logical:
  switches:
    net:
      subnet: 10.0.0.0/24
      ports: {vm1: {chassis: central}, vm2: {chassis: worker1}, vm3: {}}
"""
STRICTER: dict[str, Callable[[Any], None]] = {
    "openvswitch/vswitch": lambda tables: tables["Flow_Table"]["columns"]["prefixes"]["type"].update(max=1),
    "ovn/ovn-nb": lambda tables: tables["ACL"]["columns"]["name"]["type"]["key"].update(maxLength=8),
    "ovn/ovn-sb": lambda tables: tables["Connection"]["columns"]["max_backoff"]["type"]["key"].update(minInteger=5000),
}
"""What the schemas of the other software allow less than those of the packages, by the names of their files."""


def stricter(labs: Labs, node: str) -> list[str]:
    """Trees that install nothing but the packages' own schemas, made stricter; the settings of `up` for them."""
    texts: dict[str, dict[str, str]] = {"openvswitch": {}, "ovn": {}}
    for name, change in STRICTER.items():
        project, stem = name.split("/")
        schema = json.loads(labs.on(node, "cat", f"/usr/share/{name}.ovsschema"))
        schema["version"] = "99.0.0"
        change(schema["tables"])
        texts[project][f"{stem}.ovsschema"] = json.dumps(schema)
    settings = []
    for project, files in texts.items():
        tree = labs.scratch / project
        configure = trees.CONFIGURE.format(name=project, version="23.03.9", more="")
        made = {"Makefile.am": f"dist_pkgdata_DATA = {' '.join(files)}\n", "boot.sh": trees.BOOT}
        trees.write(tree, {**files, **made, "configure.ac": configure})
        settings.append(f"{'ovn' if project == 'ovn' else 'ovs'}.path={tree}")
    trees.ovs(labs.scratch / "ovn/ovs")
    if labs.account.name:
        subprocess.run(["chown", "-R", f"{labs.account.name}:", str(labs.scratch)], check=True)
    return settings


@pytest.fixture
def two(ordinary: Account, session_folder: Path) -> Iterator[Labs]:
    for labs in labs_in(ordinary, session_folder / "conversion"):
        labs.run("up", labs.write("two.yaml", TWO))
        yield labs


def daemons(labs: Labs) -> dict[str, dict[str, int]]:
    return {node["name"]: {d["name"]: d["pid"] for d in node["daemons"]} for node in labs.json("status")["nodes"]}


def test_databases_that_cannot_be_converted(two: Labs) -> None:
    """What ovnlab and northd make again is made anew; a person's rows are refused before anything is stopped."""
    two.run("bind", "vm3", "worker1")
    words = ["set", "Bridge", "br-int", "flow_tables:0=@t", "--", "--id=@t", "create", "Flow_Table"]
    two.run("vsctl", "worker1", *words, "prefixes=ip_src,ip_dst")
    two.run("sbctl", "set", "Connection", ".", "max_backoff=1000")
    two.run("nbctl", "--name=longer-than-allowed", "acl-add", "net", "to-lport", "1", "ip4", "allow")
    settings = stricter(two, "central")
    path = two.write("two.yaml", TWO)
    up = ["up", path, *(word for setting in settings for word in ("--set", f"software.{setting}"))]

    # `up` is refused, and nothing is stopped.
    before = daemons(two)
    said = two.run(*up, expect=1).stderr
    assert "the Northbound database cannot be converted" in said
    assert 'ACL longer-than-allowed: name "longer-than-allowed" is longer than 8' in said
    assert daemons(two) == before

    # Of `upgrade`, the step that was done is undone.
    software = [word for setting in settings for word in ("--software", setting)]
    said = two.run("upgrade", "--all", *software, expect=1).stderr
    assert "ACL longer-than-allowed" in said
    assert "undoing the upgrade of worker1" in said
    assert "worker1: the local OVS database cannot be converted to the schema of its new software" in said
    assert daemons(two)["central"] == before["central"]
    assert two.out("up", path) == "lab two is up: nothing to do\n"
    two.run("ping", "vm1", "vm3")

    # Without the row all of it goes on, fake VMs that were bound by hand included.
    two.run("nbctl", "acl-del", "net")
    two.run("vsctl", "worker1", *words, "prefixes=ip_src,ip_dst")
    said = two.run(*up).stderr
    assert "worker1: the local OVS database cannot be converted" in said
    assert "central: the Southbound database cannot be converted" in said
    for socket, database in (
        ("openvswitch/db", "Open_vSwitch"),
        ("ovn/ovnnb_db", "OVN_Northbound"),
        ("ovn/ovnsb_db", "OVN_Southbound"),
    ):
        asked = ("ovsdb-client", "get-schema-version", f"unix:/run/{socket}.sock", database)
        assert two.on("central", *asked).strip() == "99.0.0"
    two.run("ping", "vm1", "vm2")
    two.run("ping", "vm1", "vm3")
    assert two.json("status")["state"] == "up"
    assert two.run(*up).stdout == "lab two is up: nothing to do\n"


@pytest.mark.thorough
def test_a_southbound_cluster_that_cannot_be_converted_is_made_anew(user_labs: Labs) -> None:
    user_labs.run("up", "raft")
    user_labs.run("sbctl", "set", "Connection", ".", "max_backoff=1000")
    _, ovn = stricter(user_labs, "central1")
    said = user_labs.run("upgrade", "--all", "--software", ovn).stderr
    assert "the Southbound database cannot be converted" in said
    for node in ("central1", "central2", "central3"):
        asked = ("ovsdb-client", "get-schema-version", "unix:/run/ovn/ovnsb_db.sock", "OVN_Southbound")
        assert user_labs.on(node, *asked).strip() == "99.0.0"
    assert user_labs.json("status")["state"] == "up"
    assert user_labs.json("test")["failed"] == 0
