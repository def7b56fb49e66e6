"""The runs: each takes input by its number, and raises AssertionError for what must not happen."""

from __future__ import annotations

import functools
import io
import json
import random
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ovnlab.cli.commands.graph_command import live_of
from ovnlab.cli.output import shown
from ovnlab.cli.progress import NoProgress
from ovnlab.cli.render.packet_text import as_object, clock, packets, told
from ovnlab.errors import OvnlabError
from ovnlab.graph.picture_builder import portray
from ovnlab.graph.svg import svg
from ovnlab.insight import bundle, pcap
from ovnlab.lab.lab import Lab
from ovnlab.providers.local.local_provider import hosts
from ovnlab.providers.ssh_provider import reach_of
from ovnlab.templating import render
from ovnlab.topology.advice import advice
from ovnlab.topology.effects import effects
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import Topology
from tests.fuzz import seeds
from tests.fuzz.mutate import TOKENS, damaged
from tests.fuzz.shape import shape

SETTINGS = (
    (), ("underlay.mtu=9000",), ("software.ovs.git=x",), ("nodes.w1=",), ("logical=[]",), ("a.b.c=1",), ("name=x y",),
    ("machines.host=$(id)",), ("nodes.central.ip=255.255.255.255",), ("underlay.subnet=::/126",), ("tls=maybe",),
)  # fmt: skip

Run = Callable[[int, Path], str]


def topology(number: int, scratch: Path) -> str:
    """A topology file, damaged: it is loaded, or refused with its own error."""
    del scratch
    chance = random.Random(number)
    given = seeds.topologies()
    content = damaged(chance.choice(given), chance, TOKENS, given) if chance.random() < 0.95 else chance.randbytes(200)
    settings = chance.choice(SETTINGS) if chance.random() < 0.1 else ()
    name = chance.choice(("ok", "../x", "", "A")) if chance.random() < 0.05 else None
    provider = chance.choice(("ssh", "libvirt", "vagrant", "local", "x")) if chance.random() < 0.1 else None
    try:
        loaded = load_text("lab.yaml", content, settings=settings, name=name, provider=provider)
        loaded.refuse_unsupported()
    except OvnlabError as error:
        assert str(error)
        return "refused"
    _ = [*advice(loaded.topology), *effects(loaded.topology, Path("/"))]
    return "taken"


@functools.cache
def _captures(scratch: Path) -> tuple[bytes, ...]:
    return seeds.captures(scratch)


def capture(number: int, scratch: Path) -> str:
    """A capture or a dump, damaged: its packets are shown as far as they go, and nothing is sent to a terminal."""
    chance = random.Random(number)
    given = _captures(scratch)
    path = scratch / "capture"
    path.write_bytes(damaged(chance.choice(given), chance, (), given))
    try:
        for recorded in pcap.read(path):
            found = recorded.packet
            line = shown(f"{clock(recorded.time)} {recorded.place} {told(found, None)}")
            assert line.isprintable() or not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line), line
            json.dumps(as_object(recorded.time, recorded.length, found, None))
    except OvnlabError as error:
        assert "\n" not in str(error)
        return "refused"
    return "read"


def archive(number: int, scratch: Path) -> str:
    """A bundle, damaged as a file, in its archive, or in what it holds."""
    chance = random.Random(number)
    path = scratch / "bundle"
    match chance.randrange(3):
        case 0:
            whole = seeds.bundle(chance.choice(("gz", "bz2", "xz", "")))
            path.write_bytes(damaged(whole, chance))
        case 1:
            path.write_bytes(damaged(seeds.bundle(""), chance))
        case _:
            name = chance.choice(("manifest.json", "topology.json", "states.json", "status.json", "northbound.json",
                                  "zones/-/southbound.json"))  # fmt: skip
            path.write_bytes(seeds.bundle("gz", **{name: damaged(_part(name), chance, TOKENS)}))
    try:
        with bundle.opened(path, lambda _: None) as look:
            names = [zone.names for zone in look.zones.values()]
            (scratch / "packets").write_bytes(seeds.pcap([seeds.frame()]))
            assert list(packets(scratch / "packets", names))
        found, status = bundle.status_of(path)
        with bundle.understanding(path):
            svg(portray(found, live_of(status)))
    except OvnlabError as error:
        assert "\n" not in str(error)
        return "refused"
    return "read"


@functools.cache
def _part(name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(seeds.bundle())) as packed:
        file = packed.extractfile(f"lab/{name}")
        assert file is not None
        return file.read()


# ── strings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def injection(number: int, scratch: Path) -> str:
    """A string in the place of a value or key of a file: in what is rendered, it is a value as a harmless one is."""
    mark = scratch / "MARK"
    cases, given = _places(), _strings(str(mark))
    text, provider, where = cases[number // len(given) % len(cases)]
    string = given[number % len(given)]
    rendered = _rendered(text, provider, where, string)
    if rendered is None:
        return "refused"
    harmless = _rendered(text, provider, where, re.sub(r"[^A-Za-z0-9./:@=%+-]", "x", string))
    if harmless is None:
        harmless = _rendered(text, provider, (), "")
    assert harmless is not None
    assert len(rendered) == len(harmless), (where, string)
    for (title, one), (_, other) in zip(rendered, harmless, strict=True):
        assert shape(title, one) == shape(title, other), (title, where, string)
    assert not mark.exists(), (where, string)
    return "rendered"


@functools.cache
def _strings(mark: str) -> tuple[str, ...]:
    return tuple(string.replace("MARK", mark) for string in seeds.strings())


@functools.cache
def _places() -> tuple[tuple[bytes, str, tuple[Any, ...]], ...]:
    """Each scalar and each key of the files, with the providers that they are for."""
    found = []
    for text in seeds.topologies():
        data = YAML(typ="safe", pure=True).load(text)
        for provider in ("local", "libvirt", "vagrant", "ssh"):
            if provider in ("local", data.get("provider")) or text == seeds.MACHINES:
                found += [(text, provider, where) for where in _walk(data)]
    return tuple(found)


def _walk(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*where, key, "KEY")
            yield from _walk(value, (*where, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _walk(value, (*where, number))
    else:
        yield where


def _put(data: Any, where: tuple[Any, ...], string: str) -> Any:
    """Return data with a string in a place."""
    if not where:
        return string
    first, *rest = where
    if rest == ["KEY"]:
        return {string if key == first else key: value for key, value in data.items()}
    if isinstance(data, dict):
        return {key: _put(value, tuple(rest), string) if key == first else value for key, value in data.items()}
    return [_put(value, tuple(rest), string) if key == first else value for key, value in enumerate(data)]


@functools.lru_cache(512)
def _rendered(text: bytes, provider: str, where: tuple[Any, ...], string: str) -> list[tuple[str, str]] | None:
    """Everything that is rendered of a file, by title; None where the file is refused."""
    data = YAML(typ="safe", pure=True).load(text)
    changed = _put(data, where, string) if where else data
    try:
        content = json.dumps(changed, default=str).encode()
        loaded = load_text("/lab/lab.yaml", content, provider=provider).topology
        return list(_files(loaded))
    except OvnlabError:
        return None


def _files(found: Topology) -> Iterator[tuple[str, str]]:
    yield from Lab(found.name, NoProgress()).render(found)
    if found.provider == "ssh":
        reaches = {node.name: reach_of(node, Path("/state/key")) for node in found.nodes}
        yield "ssh_config", render("ssh_config.j2", lab=found.name, machines=reaches, sockets={})
        yield "known_hosts", "".join(f"{reach.known_name} KEY\n" for reach in reaches.values())
    roles = {node.role: [other.name for other in found.nodes if other.role == node.role] for node in found.nodes}
    yield "inventory", render("inventory.j2", roles=roles, config="/state/config")
    yield "hosts", hosts(found)
    yield "picture.svg", svg(portray(found))


RUNS: Mapping[str, Run] = {
    "topologies": topology,
    "captures": capture,
    "bundles": archive,
    "strings": injection,
}


def run(kind: str, first: int, count: int, scratch: Path) -> tuple[dict[str, int], float, int]:
    """Run so many, and return how many ended in which way, the longest in CPU seconds, and its number."""
    outcomes: dict[str, int] = {}
    worst, slowest = 0.0, first
    for number in range(first, first + count):
        began = time.process_time()
        try:
            outcome = RUNS[kind](number, scratch)
        except BaseException as error:
            error.add_note(f"python -m tests.fuzz {kind} 1 --first {number}")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if (taken := time.process_time() - began) > worst:
            worst, slowest = taken, number
    return outcomes, worst, slowest
