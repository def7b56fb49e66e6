"""The lines of the file that rows of the Northbound database are of."""

from pathlib import Path

from ovnlab.insight.decisions import place_named
from ovnlab.northbound.rows import wanted
from ovnlab.topology.load import load

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
RULES = ("ACL", "QoS", "Load_Balancer", "Logical_Router_Static_Route", "NAT")


def test_each_rule_of_the_shipped_topologies_has_a_line() -> None:
    seen = set()
    for path in sorted(TOPOLOGIES.glob("*.yaml")):
        topology = load(str(path)).topology
        for row in wanted(topology):
            if row.table in RULES:
                seen.add(row.table)
                place = place_named(topology, row.table, row.name)
                assert place.startswith(f"{path}:"), (row.table, row.name, place)
    assert seen >= {"ACL", "Load_Balancer", "Logical_Router_Static_Route", "NAT"}


def test_a_row_that_the_file_does_not_have_has_no_line() -> None:
    topology = load(str(TOPOLOGIES / "acl.yaml")).topology
    assert place_named(topology, "ACL", "somebody's") == ""
    assert place_named(topology, "Logical_Router_Static_Route", "") == ""
