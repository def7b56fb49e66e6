"""The status of a lab, for people: of a large one, how much there is and what is wrong."""

import msgspec
import pytest

from ovnlab.cli.render.status_text import show
from ovnlab.lab.status import DaemonStatus, NodeStatus, PortStatus, Status, TunnelStatus


def node(number: int, count: int) -> NodeStatus:
    tunnels = tuple(
        TunnelStatus(f"n{peer}", f"192.0.2.{peer}", "geneve", True) for peer in range(count) if peer != number
    )
    daemons = (DaemonStatus("ovn-controller", True, 7, "23.03.1"),)
    return NodeStatus(
        f"n{number}", "worker", f"192.0.2.{number}", True, "running", True, True, "geneve", daemons, tunnels
    )


def lab(count: int) -> Status:
    nodes = tuple(node(number, count) for number in range(count))
    ports = tuple(PortStatus(f"v{n}", "net", (f"10.0.0.{n}",), True, f"n{n}", n, True) for n in range(count))
    return Status("many", "up", "local", "many.yaml", {}, nodes, ports)


def test_a_large_lab_that_is_well_is_told_in_totals(capsys: pytest.CaptureFixture[str]) -> None:
    show(lab(40))
    shown = capsys.readouterr().out
    assert "nodes: 40 of 40 running, 40 of 40 chassis registered" in shown
    assert "tunnels: 1560 of 1560 ends up, 39 to 39 a chassis" in shown
    assert "ports: 40, of which 40 up, 0 down, 0 unbound" in shown
    assert "n17" not in shown


def test_of_a_large_lab_what_is_wrong_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = lab(40)
    nodes, ports = list(found.nodes), list(found.ports)
    nodes[17] = msgspec.structs.replace(nodes[17], registered=False)
    nodes[23] = msgspec.structs.replace(nodes[23], tunnels=nodes[23].tunnels[1:])
    ports[31] = msgspec.structs.replace(ports[31], up=False)
    show(msgspec.structs.replace(found, nodes=tuple(nodes), ports=tuple(ports)))
    shown = capsys.readouterr().out
    assert "39 of 40 chassis registered" in shown
    named = {line.split()[0] for line in shown.splitlines() if line[:1] in ("n", "v") and line.split()[0][1:].isdigit()}
    assert named == {"n17", "n23", "v31"}


def test_all_of_a_large_lab_is_shown_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    show(lab(40), everything=True)
    shown = capsys.readouterr().out
    assert all(f"\nn{number} " in shown and f"\nv{number} " in shown for number in range(40))
    assert "nodes:" not in shown


def test_a_small_lab_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show(lab(3))
    shown = capsys.readouterr().out
    assert all(f"\nn{number} " in shown for number in range(3))
    assert "--all" not in shown
