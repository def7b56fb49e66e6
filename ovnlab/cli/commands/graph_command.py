"""graph: a picture of a topology, or of a lab that runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovnlab import interruption
from ovnlab.cli import output, streams
from ovnlab.cli.options import bundle_option, complete_topologies, json_option, lab_option, set_option
from ovnlab.errors import HostRequirementError, OvnlabError, UsageError
from ovnlab.shipped import find_topology
from ovnlab.waiting import CLOCK

if TYPE_CHECKING:
    from ovnlab.graph.lab_state import Live
    from ovnlab.graph.picture import Picture
    from ovnlab.lab.status import NodeStatus, Status

SUFFIXES = {
    ".svg": "svg",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".html": "html",
    ".png": "png",
}
FORMATS = ("svg", "mermaid", "dot", "html", "png")

INTERVAL = 1.0
"""Seconds between two looks at a lab whose picture is watched."""

RASTERIZERS = (
    ("rsvg-convert", "-z", "2", "-o", "{into}", "{svg}"),
    ("inkscape", "--export-type=png", "--export-dpi=192", "--export-filename={into}", "{svg}"),
    ("magick", "-density", "192", "{svg}", "{into}"),
    ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--screenshot={into}", "{url}"),
    ("google-chrome", "--headless", "--disable-gpu", "--screenshot={into}", "{url}"),
)
"""Programs that make a PNG of an SVG."""


def complete_formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return formats of pictures."""
    del ctx, param
    return [name for name in FORMATS if name.startswith(incomplete)]


def complete_views(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return views of a lab."""
    del ctx, param
    return [name for name in ("physical", "logical", "both") if name.startswith(incomplete)]


@click.command("graph")
@click.argument(
    "topology",
    metavar="[TOPOLOGY]",
    required=False,
    shell_complete=complete_topologies,
    help="A topology file, or the name of a shipped one; the running lab if omitted.",
)
@click.option(
    "--format",
    "form",
    metavar="F",
    shell_complete=complete_formats,
    help="svg, html, png, mermaid or dot; by default the suffix of FILE, or svg.",
)
@click.option("--output", "-o", "into", metavar="FILE", help="Write it there instead of printing it.")
@click.option("--view", metavar="V", default="both", shell_complete=complete_views, help="physical, logical or both.")
@click.option("--watch", is_flag=True, help="Go on: write FILE anew when the lab changes; a page reloads.")
@lab_option
@set_option
@bundle_option
@json_option
def graph(
    topology: str | None,
    form: str | None,
    into: str | None,
    view: str,
    watch: bool,
    lab: str | None,
    settings: tuple[str, ...],
    bundle: str | None,
    json: bool,
) -> int:
    """Draw a lab: nodes, networks and tunnels, switches and routers, and what is bound where.

    \b
    ovnlab graph -o lab.svg
    ovnlab graph -o lab.html --watch
    ovnlab graph gateway -o gateway.svg
    ovnlab graph topologies/routed.yaml --format mermaid --view logical
    """
    from ovnlab.graph.picture import VIEWS  # noqa: PLC0415  what draws is loaded by this command only

    if view not in VIEWS:
        raise UsageError(f"--view {view}: must be {_listed(VIEWS)}")
    _refuse_exclusive(topology, lab, bundle, settings)
    language = _language(form, into)
    if watch and (into is None or json or topology is not None or bundle is not None or language == "png"):
        hint = "ovnlab graph -o lab.html --watch"
        raise UsageError("--watch is for a lab that runs, and a file other than a PNG", hint=hint)
    if bundle is not None:
        picture = _picture_of_bundle(bundle)
    else:
        picture = _picture_of_file(topology, settings) if topology is not None else _picture_of_lab(lab)
    if language == "png" and into is not None:
        return _write_png(Path(into), _drawn(picture, "svg", view), json=json)
    text = _drawn(picture, language, view, live=watch)
    if into is not None:
        output.write_text(Path(into), text)
    if watch and into is not None:
        return _watch(lab, Path(into), language, view)
    if json:
        output.as_json(**({"written": into} if into is not None else {"format": language, "text": text}))
    else:
        output.line(f"wrote {into}" if into is not None else text.rstrip())
    return 0


def _refuse_exclusive(topology: str | None, lab: str | None, bundle: str | None, settings: Sequence[str]) -> None:
    """Raise UsageError where a picture would be of more than one thing."""
    if topology is not None and lab is not None:
        raise UsageError("a picture is either of a file or of --lab")
    if topology is None and settings:
        raise UsageError("--set is for a topology, not for a lab that runs", hint="name the topology as well")
    if bundle is not None and (topology is not None or lab is not None):
        raise UsageError("a picture is of one thing: a file, --lab, or --bundle")


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _language(form: str | None, into: str | None) -> str:
    """Return the format that is asked for, or that a file's name stands for."""
    if form is not None and form not in FORMATS:
        raise UsageError(f"--format {form}: must be {_listed(FORMATS)}")
    if into is None and form == "png":
        raise UsageError("a PNG is written to a file", hint="ovnlab graph -o lab.png")
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


def _watch(lab: str | None, into: Path, language: str, view: str) -> int:
    """Write the picture anew whenever it is another one, until Ctrl-C."""
    from ovnlab.cli.progress import NoProgress  # noqa: PLC0415
    from ovnlab.lab.lab import find  # noqa: PLC0415

    name = find(lab, NoProgress()).name  # of this one, whatever labs come and go
    output.line(f"writing {into}; Ctrl-C ends it")
    streams.flush()
    before = into.read_text(encoding="utf-8")
    try:
        while True:
            CLOCK.sleep(INTERVAL)
            text = _drawn(_picture_of_lab(name), language, view, live=True)
            if text != before:
                output.write_text(into, text)
                before = text
    except KeyboardInterrupt:
        interruption.end()
    return 0


def _write_png(into: Path, svg: str, *, json: bool) -> int:
    """Let a program of this machine make a PNG. Raises HostRequirementError where there is none."""
    import shutil  # noqa: PLC0415  for a PNG only
    import subprocess  # noqa: PLC0415

    from ovnlab import scratch  # noqa: PLC0415

    found = next((words for words in RASTERIZERS if shutil.which(words[0])), None)
    if found is None:
        hint = "sudo apt-get install librsvg2-bin, or -o FILE.svg, which browsers show"
        raise HostRequirementError("there is no program that makes a PNG of a picture", hint=hint)
    with scratch.folder("graph-") as folder:
        drawn = folder / "picture.svg"
        drawn.write_text(svg, encoding="utf-8")
        names = {"into": str(into.absolute()), "svg": str(drawn), "url": drawn.as_uri()}
        done = subprocess.run([word.format(**names) for word in found], capture_output=True, text=True, check=False)
    if done.returncode or not into.exists():
        raise OvnlabError(f"{found[0]} made no picture", where=str(into), detail=done.stderr[-500:])
    if json:
        output.as_json(written=str(into))
    else:
        output.line(f"wrote {into}")
    return 0


def _page(svg: str, *, live: bool) -> str:
    """Return a page with a picture that fits its window; one that is live reloads itself."""
    again = f'<meta http-equiv="refresh" content="{INTERVAL:g}">' if live else ""
    picture = svg[svg.index("<svg") :]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{again}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>ovnlab</title>\n'
        "<style>:root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center}"
        "svg{max-width:100%;height:auto}</style></head>\n"
        f"<body>{picture}</body></html>\n"
    )


def _drawn(picture: Picture, language: str, view: str, *, live: bool = False) -> str:
    if language == "mermaid":
        from ovnlab.graph.mermaid import mermaid  # noqa: PLC0415

        return mermaid(picture, view)
    if language == "dot":
        from ovnlab.graph.dot import dot  # noqa: PLC0415

        return dot(picture, view)
    from ovnlab.graph.svg import svg  # noqa: PLC0415

    return _page(svg(picture, view), live=live) if language == "html" else svg(picture, view)


COMMANDS = (graph,)
