"""graph: a picture of a topology, or of a lab that runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovnlab.cli import output
from ovnlab.cli.options import bundle_option, complete_topologies, json_option, lab_option, set_option
from ovnlab.errors import UsageError
from ovnlab.shipped import find_topology

if TYPE_CHECKING:
    from ovnlab.graph.lab_state import Live
    from ovnlab.graph.picture import Picture
    from ovnlab.lab.status import NodeStatus, Status

SUFFIXES = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot"}
FORMATS = ("svg", "mermaid", "dot")


@click.command("graph")
@click.argument(
    "topology",
    metavar="[TOPOLOGY]",
    required=False,
    shell_complete=complete_topologies,
    help="A topology file, or the name of a shipped one; the running lab if omitted.",
)
@click.option("--format", "form", metavar="F", help="svg, mermaid or dot; what FILE ends in, or svg, if omitted.")
@click.option("--output", "-o", "into", metavar="FILE", help="Write it there instead of printing it.")
@click.option("--view", metavar="V", default="both", help="physical, logical or both.")
@lab_option
@set_option
@bundle_option
@json_option
def graph(
    topology: str | None,
    form: str | None,
    into: str | None,
    view: str,
    lab: str | None,
    settings: tuple[str, ...],
    bundle: str | None,
    json: bool,
) -> int:
    """Draw a lab: nodes, networks and tunnels, switches and routers, and what is bound where.

    \b
    ovnlab graph -o lab.svg
    ovnlab graph gateway -o gateway.svg
    ovnlab graph topologies/routed.yaml --format mermaid --view logical
    """
    from ovnlab.graph.picture import VIEWS  # noqa: PLC0415  what draws is loaded by this command only

    if view not in VIEWS:
        raise UsageError(f"--view {view}: must be {_listed(VIEWS)}")
    if topology is not None and lab is not None:
        raise UsageError("a picture is either of a file or of --lab")
    if topology is None and settings:
        raise UsageError("--set is for a topology, not for a lab that runs", hint="name the topology as well")
    language = _language(form, into)
    if bundle is not None and (topology is not None or lab is not None):
        raise UsageError("a picture is of one thing: a file, --lab, or --bundle")
    if bundle is not None:
        picture = _picture_of_bundle(bundle)
    else:
        picture = _picture_of_file(topology, settings) if topology is not None else _picture_of_lab(lab)
    text = _drawn(picture, language, view)
    if into is not None:
        output.write_text(Path(into), text)
    if json:
        output.as_json(**({"written": into} if into is not None else {"format": language, "text": text}))
    else:
        output.line(f"wrote {into}" if into is not None else text.rstrip())
    return 0


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _language(form: str | None, into: str | None) -> str:
    """Return the format that is asked for, or that a file's name stands for."""
    if form is not None and form not in FORMATS:
        raise UsageError(f"--format {form}: must be {_listed(FORMATS)}")
    if into is None:
        return form or "svg"
    suffix = Path(into).suffix.lower()
    meant = SUFFIXES.get(suffix)
    if form is None and meant is None:
        raise UsageError(
            f"-o {into}: what it ends in is not a format", hint=f"one of {', '.join(SUFFIXES)}, or --format"
        )
    if form is not None and meant is not None and form != meant:
        raise UsageError(f"-o {into} is a name for {meant}, and --format is {form}", hint="leave one of the two out")
    return form or meant or "svg"


def _picture_of_file(topology: str, settings: Sequence[str]) -> Picture:
    from ovnlab.graph.picture_builder import portray  # noqa: PLC0415
    from ovnlab.topology.load import load  # noqa: PLC0415  pydantic, needed by few commands

    return portray(load(find_topology(topology), settings=settings).topology)


def _picture_of_lab(name: str | None) -> Picture:
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.graph.picture_builder import portray  # noqa: PLC0415
    from ovnlab.lab.lab import find  # noqa: PLC0415
    from ovnlab.lab.status import status  # noqa: PLC0415

    lab = find(name, NoProgress())
    return portray(lab.topology, live_of(status(lab)))


def _picture_of_bundle(bundle: str) -> Picture:
    from ovnlab.graph.picture_builder import portray  # noqa: PLC0415
    from ovnlab.insight.bundle import status_of, understanding  # noqa: PLC0415

    topology, found = status_of(Path(bundle))
    with understanding(Path(bundle)):
        return portray(topology, live_of(found))


def live_of(status: Status) -> Live:
    """Return what a picture needs of a lab's status."""
    from ovnlab.graph.lab_state import Live, LiveNode, LivePort, LiveTunnel  # noqa: PLC0415

    return Live(
        state=status.state,
        nodes=tuple(LiveNode(node.name, node.running, tuple(_faults(node))) for node in status.nodes),
        tunnels=tuple(
            LiveTunnel(node.name, tunnel.peer, tunnel.encap, tunnel.working)
            for node in status.nodes
            for tunnel in node.tunnels
        ),
        ports=tuple(
            LivePort(port.name, port.switch, _ips(port.addresses), port.chassis, port.up) for port in status.ports
        ),
    )


def _faults(node: NodeStatus) -> Iterator[str]:
    stopped = [daemon.name for daemon in node.daemons if not daemon.works]
    if stopped:
        yield f"not running: {', '.join(stopped)}"
    if not node.registered and any(daemon.name == "ovn-controller" for daemon in node.daemons):
        yield "not among the chassis"


def _ips(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the IP addresses of a port, as OVN writes them: the MAC comes first (ovn-nb(5), Logical_Switch_Port)."""
    return tuple(word for address in addresses for word in address.split()[1:])


def _drawn(picture: Picture, language: str, view: str) -> str:
    if language == "mermaid":
        from ovnlab.graph.mermaid import mermaid  # noqa: PLC0415

        return mermaid(picture, view)
    if language == "dot":
        from ovnlab.graph.dot import dot  # noqa: PLC0415

        return dot(picture, view)
    from ovnlab.graph.svg import svg  # noqa: PLC0415

    return svg(picture, view)


COMMANDS = (graph,)
