"""Sources of OVS and OVN: a commit, a tarball, a working tree, or the distribution's source package.

Each is known by what it contains, so that the same content is built once, whatever it is called.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError
from ovnlab.scratch import folder as scratch_folder
from ovnlab.software import packages, working_tree
from ovnlab.software.downloads import download
from ovnlab.software.packages import Report, Selection
from ovnlab.state import cache_root
from ovnlab.tasks import build
from ovnlab.topology.resolved import Origin

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

DEVELOPMENT = "90"
"""The last number of what is not a release: 3.7.90 is what comes after branch-3.7."""

MATCHING = {
    "22.03": "2.17", "22.09": "3.0", "23.03": "3.1", "23.09": "3.2", "24.03": "3.3", "24.09": "3.4",
    "25.03": "3.5", "25.09": "3.6", "26.03": "3.7",
}  # fmt: skip
"""The branch of OVS that releases of OVN pin and compile against (OVN, Documentation/internals/ovs_submodule)."""


@dataclass(frozen=True)
class SoftwareSource:
    """The source of a component, found but not yet unpacked.

    `identity` says what it contains, `label` is for people. `tree` is a folder that has it, `archive` a file, and
    `commit` of `repository` otherwise.
    """

    component: str
    origin: Origin
    identity: str
    label: str
    tree: Path | None = None
    archive: Path | None = None
    repository: Path | None = None
    commit: str = ""

    @property
    def is_working_tree(self) -> bool:
        """Return True if somebody works on it, so that its next build should cost no more than what has changed."""
        return self.tree is not None


def sources_root() -> Path:
    """Return the folder of what was brought from elsewhere."""
    return cache_root() / "sources"


def repository_of(url: str) -> Path:
    """Return the bare repository that what is at a URL is brought into."""
    return sources_root() / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]


def find(component: str, origin: Origin, context: Context, report: Report) -> SoftwareSource:
    """Return the source that an origin means just now, brought to this machine.

    Raises OvnlabError where there is none, HostRequirementError where it cannot be had.
    """
    match origin.kind:
        case "git":
            return _commit(component, origin, context, report)
        case "tarball":
            return _tarball(component, origin, report)
        case "path":
            return _working_tree(component, origin)
        case _:
            return _of_distribution(component, origin, report)


def _commit(component: str, origin: Origin, context: Context, report: Report) -> SoftwareSource:
    repository = repository_of(origin.place)
    repository.parent.mkdir(parents=True, exist_ok=True)
    other = f"another ovnlab that fetches {origin.place}"
    try:
        with packages.exclusive(repository.with_suffix(".lock"), report, other):
            commit, reached = build.fetch(context, repository, origin.place, origin.ref)
    except CommandFailed as error:
        if "cannot be reached" in error.message:
            hint = "see whether git reaches it: git ls-remote " + origin.place
            raise HostRequirementError(error.message, where=component, detail=error.detail, hint=hint) from None
        raise OvnlabError(error.message, where=component, detail=error.detail) from None
    if not reached:
        report(f"{origin.place} cannot be reached: {origin.ref or 'its default branch'} is taken as it was, {commit}")
    label = f"{origin.ref or commit[:12]} ({commit[:12]})" if not commit.startswith(origin.ref or "-") else commit[:12]
    return SoftwareSource(component, origin, f"git {commit}", label, repository=repository, commit=commit)


def _tarball(component: str, origin: Origin, report: Report) -> SoftwareSource:
    path = Path(origin.place)
    if "://" in origin.place:
        name = hashlib.sha256(f"{origin.place} {origin.sha256}".encode()).hexdigest()[:16]
        path = sources_root() / "tarballs" / name
        if not path.exists():
            report(f"downloading {origin.place}")
            _download(origin, path)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OvnlabError(f"cannot be read: {error.strerror}", where=f"{component}: {origin.place}") from None
    _require_checksum(component, origin, found)
    return SoftwareSource(component, origin, f"sha256 {found}", Path(origin.place).name, archive=path)


def _require_checksum(component: str, origin: Origin, found: str) -> None:
    if origin.sha256 and found != origin.sha256:
        raise OvnlabError(
            f"its SHA-256 sum is {found}, not {origin.sha256}",
            where=f"{component}: {origin.place}",
            hint="it is not the file that was meant: see where it comes from, or mend sha256",
        )


def _download(origin: Origin, path: Path) -> None:
    """Download a tarball, all of it or nothing."""

    def examine(scratch: Path) -> None:
        with scratch.open("rb") as file:
            _require_checksum("tarball", origin, hashlib.file_digest(file, "sha256").hexdigest())
        _members(origin.place, scratch)

    download(origin.place, path, examine)


def _working_tree(component: str, origin: Origin) -> SoftwareSource:
    tree = Path(origin.place)
    if not any((tree / name).is_file() for name in ("configure.ac", "configure")):
        problem = "has neither configure.ac nor configure" if tree.is_dir() else "is not a folder"
        raise OvnlabError(f"{problem}: it is not a source of {component.upper()}", where=origin.place)
    return SoftwareSource(component, origin, f"tree {working_tree.digest(tree)}", str(tree), tree=tree)


def _of_distribution(component: str, origin: Origin, report: Report) -> SoftwareSource:
    folder = sources_root() / f"distro-{packages.distribution()}" / component
    found = next((path for path in sorted(folder.glob("*")) if path.is_file()), None)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        found = (_source_package_ovs if component == "ovs" else _source_package)(component, folder, report)
    return SoftwareSource(component, origin, f"distro {found.name}", found.name.replace("%3a", ":"), archive=found)


def _source_package_ovs(component: str, folder: Path, report: Report) -> Path:
    """Return the source of OVS in Debian's package, which has Debian's changes."""
    name = "openvswitch-source"
    selection = Selection(name, "the source of OVS", (name,), "give another origin, such as git or tarball")
    packages.require_apt(selection)
    with scratch_folder("downloading-", folder) as scratch:
        try:
            archives = packages.download(scratch, selection, report)
        except HostRequirementError as error:
            if "Unable to locate package" not in error.detail:
                raise
            return _source_package(component, folder, report)
        archive = next(path for path in archives if path.name.startswith(f"{name}_"))
        packages.run(["dpkg-deb", "--extract", str(archive), f"{scratch}/tree"], "unpacking failed", selection)
        tarball = next(Path(scratch, "tree/usr/src").rglob("*.tar.*"))
        version = archive.name.split("_")[1]
        return tarball.rename(folder / f"{name}_{version}.tar{tarball.suffix}")


def _source_package(component: str, folder: Path, report: Report) -> Path:
    """Return the distribution's source package, with its changes applied, packed as it is built."""
    name = "openvswitch" if component == "ovs" else "ovn"
    selection = Selection(name, f"the source of {component.upper()}", (name,), "give another origin, such as git")
    packages.require_apt(selection)
    return packages.download_source(folder, selection, report)


def unpack(source: SoftwareSource, context: Context, into: Path) -> None:
    """Put the files of a source into a folder that is not there yet. Raises OvnlabError where they cannot be."""
    if source.repository is not None:
        build.export(context, source.repository, source.commit, into)
    elif source.archive is not None:
        _extract(source, source.archive, into)


def _extract(source: SoftwareSource, archive: Path, into: Path) -> None:
    """Unpack a tarball: the one folder in it, or all of it, and nothing that would be elsewhere."""
    where = f"{source.component}: {source.label}"
    scratch = into.with_name(f"{into.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    members = _members(where, archive)
    links = {os.path.normpath(member.name) for member in members if member.issym()}
    for member in members:
        if problem := _escapes(member, links):
            raise OvnlabError(f"{member.name!r} {problem}: nothing is unpacked", where=where)
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "fully_trusted_filter"):  # Pythons from before 3.11.4 have no filters
                tar.extraction_filter = tarfile.fully_trusted_filter
            for member in members:
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                member.mode |= 0o700 if member.isdir() else 0o600
                tar.extract(member, scratch)
    except (*_DAMAGE, KeyError) as error:
        raise OvnlabError(f"is not a tarball that can be unpacked: {error}", where=where) from None
    inner = list(scratch.iterdir()) if scratch.exists() else []
    (inner[0] if len(inner) == 1 and inner[0].is_dir() else scratch).rename(into)
    shutil.rmtree(scratch, ignore_errors=True)
    if not any((into / name).is_file() for name in ("configure.ac", "configure")):
        raise OvnlabError("has neither configure.ac nor configure in it", where=where)


_DAMAGE = (tarfile.TarError, EOFError, UnicodeDecodeError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def _members(where: str, archive: Path) -> list[tarfile.TarInfo]:
    """Return what is in a tarball. Raises OvnlabError where it is none, or is damaged anywhere."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            while tar.fileobj and tar.fileobj.read(1 << 20):  # to its end, where its checksum is
                pass
    except _DAMAGE as error:
        raise OvnlabError(f"is not a tarball that can be unpacked: {error}", where=where) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise OvnlabError(f"is not a tarball that can be unpacked: {error}", where=where) from None
    return members


def _escapes(member: tarfile.TarInfo, links: Collection[str] = ()) -> str:
    """Return how a member of a tarball would be outside of the folder that it is unpacked into, empty where it is not.

    `links` are the symbolic links in it: nothing is unpacked through one.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        return "is outside of it"
    if any(os.path.normpath(parent) in links for parent in name.parents):
        return "is behind a link"
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return "is neither file nor folder nor link"
    if member.issym() or member.islnk():
        start = name.parent if member.issym() else PurePosixPath()
        target = os.path.normpath(start / member.linkname)
        if target.startswith(("/", "../")) or target == "..":
            return f"leads outside of it, to {member.linkname!r}"
    return ""


def pinned(source: SoftwareSource, context: Context) -> Origin | None:
    """Return the OVS that a source of OVN is compiled against, as it says: its submodule or folder `ovs`."""
    if source.tree is not None and (source.tree / "ovs/configure.ac").is_file():
        return Origin("path", str(source.tree / "ovs"))
    repository, commit = source.repository, source.commit
    if source.tree is not None and (source.tree / ".git").exists():
        repository, commit = source.tree, "HEAD"
    if repository is None:
        return None
    found = build.pin(context, repository, commit)
    if found is None:
        return None
    url, commit, origin = found
    base = (source.origin.place if source.tree is None else origin or str(source.tree)).rstrip("/")
    while url.startswith(("./", "../")):
        step, _, url = url.partition("/")
        base = base.rpartition("/")[0] if step == ".." else base
        if not url.startswith(("./", "../")):
            url = f"{base}/{url}"
    return Origin("git", url, commit)


def version(source: SoftwareSource, context: Context) -> str:
    """Return what configure.ac says, such as 3.1.0; empty where it does not say that in so many words."""
    with contextlib.suppress(OSError, CommandFailed, KeyError, *_DAMAGE):
        for text in _configure_ac(source, context):
            found = re.search(r"AC_INIT\(\s*\[?[\w-]+\]?\s*,\s*\[?([0-9][\w.+-]*)", text)
            return found[1] if found else ""
    return ""


def _configure_ac(source: SoftwareSource, context: Context) -> Iterator[str]:
    if source.tree is not None:
        yield (source.tree / "configure.ac").read_text(errors="replace")
    elif source.repository is not None:
        yield build.show(context, source.repository, source.commit, "configure.ac")
    elif source.archive is not None:
        with tarfile.open(source.archive) as tar:
            for member in tar:
                if PurePosixPath(member.name).name == "configure.ac" and member.name.count("/") < 2:
                    file = tar.extractfile(member)
                    yield file.read().decode(errors="replace") if file else ""


def refuse_mismatch(ovn: SoftwareSource, library: SoftwareSource, context: Context) -> None:
    """Raise OvnlabError for an OVN that does not compile against an OVS, where their versions tell."""
    release = version(ovn, context).split(".")
    wanted = MATCHING.get(".".join(release[:2])) if release[2:3] != [DEVELOPMENT] else None
    found = version(library, context)
    if wanted and found and (found.split(".")[:2] != wanted.split(".") or found.split(".")[2:3] == [DEVELOPMENT]):
        raise OvnlabError(
            f"OVN {version(ovn, context)} does not compile against OVS {found}: it takes OVS {wanted}",
            where=f"ovn_library: {library.label}",
            hint=f"leave ovn_library out, or give branch-{wanted} of OVS",
        )
