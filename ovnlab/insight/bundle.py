"""A lab in a file: all that somebody asks for who is to look into a problem, and what insight needs of it later."""

from __future__ import annotations

import bz2
import contextlib
import errno
import functools
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from ovnlab import __version__, scratch
from ovnlab.errors import OvnlabError
from ovnlab.insight.explain import INTERFACE
from ovnlab.insight.lab_view import LabView, ZoneView, look
from ovnlab.insight.names import Names
from ovnlab.lab.lab import Lab
from ovnlab.lab.status import Status, status
from ovnlab.nodes.context import ProcessContext
from ovnlab.nodes.node import RunningNode
from ovnlab.northbound.live import LiveRow, Parent
from ovnlab.ovsdb.client import Row, rows
from ovnlab.ovsdb.endpoints import Databases
from ovnlab.parallel import for_each
from ovnlab.software import packages
from ovnlab.tasks.probe import NodeState
from ovnlab.templating import render
from ovnlab.topology.resolved import NAME, Topology
from ovnlab.waiting import now_ns

SCHEMA_VERSION = 1

MOST_OF_A_LOG = 2_000_000
"""Bytes of each log that come along."""

MOST_UNPACKED = 512 * 2**20
"""Bytes that a bundle may hold: those of a lab with 100 nodes hold some 100 MiB."""

MOST_AT_ONCE = 2**20
"""Bytes of a bundle that are read into memory at once: its files are copied in smaller pieces."""

DAMAGED = (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
"""What reading a damaged archive raises."""

COLLECT_TIMEOUT = 120.0
"""Seconds that a node may take to collect what it has."""

Report = Callable[[str], None]


class Manifest(msgspec.Struct, frozen=True):
    """The description of an archive. `missing` names the nodes that did not answer, and why."""

    lab: str
    time: int
    ovnlab: str
    nodes: tuple[str, ...]
    missing: dict[str, str]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class BundleResult:
    """An archive: its size in bytes, and the nodes that are not in it."""

    path: Path
    size: int
    missing: Mapping[str, str]


def write(lab: Lab, path: Path) -> BundleResult:
    """Put a lab into an archive. What of it does not answer is named in it, and no reason to leave out the rest."""
    topology = lab.topology
    missing: dict[str, str] = {}
    archives: dict[str, bytes] = {}
    nodes = lab.nodes()
    missing.update({node.name: "does not run" for node in topology.nodes if node.name not in nodes})

    def collect(node: RunningNode) -> None:
        try:
            archives[node.name] = _collected(node)
        except OvnlabError as error:
            missing[node.name] = error.message

    for_each(nodes.values(), collect)
    parts: dict[str, bytes] = {}
    with contextlib.suppress(OvnlabError):  # without databases there are still nodes and their logs
        parts.update(_databases(look(lab)))
    parts["topology.json"] = _json(topology)
    parts["status.json"] = _json(status(lab).as_dict())
    source = Path(lab.stored.source) if lab.stored else Path()
    with contextlib.suppress(OSError):
        parts["topology.yaml"] = source.read_bytes()
    found = Manifest(lab.name, now_ns() // 1_000_000_000, __version__, tuple(sorted(archives)), missing)
    parts["manifest.json"] = _json(found)
    partial = path.with_name(f".{path.name}.partial")
    try:
        _pack(partial, lab.name, parts, archives)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OvnlabError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    return BundleResult(path, path.stat().st_size, missing)


def _collected(node: RunningNode) -> bytes:
    """Return what a node has, as an archive. Raises OvnlabError where it does not answer."""
    script = render("node/collect-bundle.sh.j2", most=MOST_OF_A_LOG, columns=INTERFACE)
    try:
        done = subprocess.run(
            node.command(["sh", "-c", script]),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=COLLECT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OvnlabError(f"did not answer in {COLLECT_TIMEOUT:g} s", where=node.name) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise OvnlabError(said[-1] if said else f"exit code {done.returncode}", where=node.name)
    return done.stdout


def _databases(seen: LabView) -> Iterator[tuple[str, bytes]]:
    """Yield what tracing and explaining read, as they read it."""
    for zone in seen.zones.values():
        yield f"zones/{zone.name or '-'}/southbound.json", _json(zone.tables)
    yield "northbound.json", _json(seen.northbound)
    yield "states.json", _json(seen.states)


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value))


def _pack(path: Path, lab: str, parts: Mapping[str, bytes], archives: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as target:

        def add(name: str, content: bytes) -> None:
            about = tarfile.TarInfo(f"{lab}/{name}")
            about.size, about.mode, about.mtime = len(content), 0o644, now_ns() // 1_000_000_000
            target.addfile(about, io.BytesIO(content))

        for name, content in sorted(parts.items()):
            add(name, content)
        for node, archive in sorted(archives.items()):
            with tarfile.open(fileobj=io.BytesIO(archive)) as source:
                for member in source:
                    file = source.extractfile(member) if member.isfile() else None
                    if file is not None:
                        add(f"nodes/{node}/{member.name.removeprefix('./')}", file.read())


# ── reading one ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def opened(path: Path, report: Report) -> Iterator[LabView]:
    """Yield the lab in an archive as a view. Raises OvnlabError for a file that is not a bundle.

    OVN's tools, where they are needed, are those of this machine's packages, which `report` tells of.
    """
    with scratch.folder("bundle-") as unpacked:
        root = _unpacked(path, unpacked)
        with understanding(path):
            yield _look(path, root, report)


def status_of(path: Path) -> tuple[Topology, Status]:
    """Return the topology and the status of the lab in an archive."""
    with scratch.folder("bundle-") as unpacked:
        root = _unpacked(path, unpacked)
        return _topology(path, root), _part(path, root, "status.json", Status)


@contextlib.contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Work with what a bundle holds. Raises OvnlabError where its parts do not fit together.

    They have the right types, but who damages one can let any name in it stand for nothing.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if os.environ.get("OVNLAB_TRACEBACK"):
            raise
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        hint = "it is damaged, or this is a mistake in ovnlab: OVNLAB_TRACEBACK=1 shows where"
        raise OvnlabError(f"its parts do not fit together ({reason})", where=str(path), hint=hint) from None


def _topology(path: Path, root: Path) -> Topology:
    """Return the topology of a bundle. Its names become those of files: one that can be none is refused."""
    topology: Topology = _part(path, root, "topology.json", Topology)
    names = [*(node.name for node in topology.nodes), *(node.zone for node in topology.nodes if node.zone)]
    for name in names:
        if not NAME.fullmatch(name):
            raise OvnlabError(f"its topology.json has the invalid name {name!r}", where=str(path))
    return topology


class _Bounded(io.RawIOBase):
    """The uncompressed contents of an archive, up to MOST_UNPACKED bytes: few may be compressed from very many.

    A single read is what fits into memory. Raises tarfile.ReadError for more.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        if not 0 <= size <= MOST_AT_ONCE or self.stream.tell() + size > MOST_UNPACKED:
            raise tarfile.ReadError(f"it holds more than {MOST_UNPACKED // 2**20} MiB")
        return self.stream.read(size)

    def tell(self) -> int:
        """Return the position, in uncompressed bytes."""
        return self.stream.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position in the uncompressed contents."""
        if whence == 0 and offset > MOST_UNPACKED:
            raise tarfile.ReadError(f"it holds more than {MOST_UNPACKED // 2**20} MiB")
        return self.stream.seek(offset, whence)


def _uncompressed(path: Path) -> IO[bytes]:
    """Open an archive, compressed or not. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path))
    if start.startswith(b"BZh"):
        return bz2.open(path)
    return lzma.open(path) if start == b"\xfd7zXZ\0" else path.open("rb")


def _unpacked(path: Path, into: Path) -> Path:
    """Unpack an archive, and return the folder of the lab that it holds. Nothing of it gets outside `into`."""
    try:
        with _uncompressed(path) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as archive:
            for member in archive:
                parts = Path(member.name).parts
                if not member.isreg() or ".." in parts or Path(member.name).is_absolute():
                    continue  # nothing that we write
                if member.size > MOST_UNPACKED:
                    raise tarfile.ReadError(f"it holds more than {MOST_UNPACKED // 2**20} MiB")
                target = into.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                file = archive.extractfile(member)
                assert file is not None  # noqa: S101  it is a regular file
                with target.open("wb") as written:
                    shutil.copyfileobj(file, written)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # not of the archive
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise OvnlabError(f"cannot be read as a bundle: {reason}", where=str(path)) from None
    found = [entry for entry in into.iterdir() if (entry / "manifest.json").is_file()]
    if not found:
        raise OvnlabError("is not a bundle", where=str(path), hint="`ovnlab bundle` writes one")
    version = _part(path, found[0], "manifest.json", dict[str, Any]).get("schema_version")
    if version != SCHEMA_VERSION:
        raise OvnlabError(f"is of another version of ovnlab (its format is {version})", where=str(path))
    return found[0]


def _part(path: Path, root: Path, name: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode((root / name).read_bytes(), type=kind)
    except FileNotFoundError:
        raise OvnlabError(f"has no {name}: its databases did not answer when it was made", where=str(path)) from None
    except (OSError, msgspec.DecodeError) as error:
        raise OvnlabError(f"its {name} cannot be understood: {error}", where=str(path)) from None


def _look(path: Path, root: Path, report: Report) -> LabView:
    manifest = _part(path, root, "manifest.json", Manifest)
    topology = _topology(path, root)
    zones = {}
    for zone in topology.zones:
        tables: dict[str, list[Row]] = _part(
            path, root, f"zones/{zone or '-'}/southbound.json", dict[str, list[dict[str, Any]]]
        )
        central = next((node.name for node in topology.centrals(zone) if (_database(root, node.name)).exists()), "")
        context = ProcessContext(functools.partial(_with_database, _database(root, central), report))
        zones[zone] = ZoneView(zone, context, Databases(zone), Names(tables), tables)
    return LabView(
        manifest.lab,
        topology,
        {},
        _part(path, root, "states.json", dict[str, NodeState]),
        zones,
        tuple(map(_row, _part(path, root, "northbound.json", list[dict[str, Any]]))),
        interfaces={name: _interfaces(root / "nodes" / name) for name in manifest.nodes if NAME.fullmatch(name)},
    )


def _database(root: Path, node: str) -> Path:
    return root / "nodes" / node / "ovnsb_db.db"


def _row(plain: Mapping[str, Any]) -> LiveRow:
    columns = {key: tuple(value) if isinstance(value, list) else value for key, value in plain["columns"].items()}
    belongs = Parent(**plain["belongs"]) if plain["belongs"] else None
    return LiveRow(plain["table"], plain["uuid"], plain["name"], columns, belongs, plain["zone"])


def _interfaces(folder: Path) -> Sequence[Row]:
    try:
        return rows((folder / "interfaces.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return ()


def _with_database(database: Path, report: Report, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` where a Southbound database is served, in namespaces that end with it."""
    if not database.exists():
        raise OvnlabError("the bundle has no Southbound database", hint="`explain` and `decode` need none")
    tree = packages.provide("packages", report).tree or ""
    root = os.geteuid() == 0
    user = () if root else ("--user", "--map-root-user")
    return [
        *("unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"),
        render("local/serve.sh.j2", options=() if root else ("-o", "userxattr")),
        *("sh", tree, str(database.parent), *argv),
    ]
