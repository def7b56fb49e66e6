"""Builds what nodes run, where it is not there yet: the one place that knows the order."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from ovnlab.errors import CommandFailed, HostRequirementError, OvnlabError
from ovnlab.software import artefacts, packages, sources, working_tree
from ovnlab.software.artefacts import Artefact, ArtefactPart
from ovnlab.software.build_host import BuildHost, LocalBuildHost
from ovnlab.software.sources import SoftwareSource
from ovnlab.state import cache_root, remove_tree, storage_error
from ovnlab.tasks import build
from ovnlab.topology.resolved import Origin, Software
from ovnlab.waiting import now_ns

if TYPE_CHECKING:
    from ovnlab.nodes.context import Context

RECIPE = "1"
"""Changes when the same source would be built otherwise."""

PROFILES = {"fast": "-O1", "perf": "-O2", "debug": "-O0 -g"}
NEEDED_BYTES = 600 * 1024 * 1024
"""What must be free to build: sources, objects and programs of OVS and OVN."""

MAKING = ("once", "stage", "assembled", "assembled.damaged", "tmp")
"""Folders of a build that is being made: nothing in them outlives it."""

ATTEMPTS = 3
"""How often a working tree that changes meanwhile is looked at anew."""

LOGS_KEPT = 30
NAMES = {"ovs": "OVS", "ovn": "OVN", "ovs-library": "OVS for OVN"}


class BuildReporter(Protocol):
    """A receiver of reports on a build."""

    def step(self, text: str) -> None:
        """Report the current step."""

    def node(self, name: str, doing: str) -> None:
        """Report what a part of it is doing."""

    def note(self, text: str) -> None:
        """Report something that the person should know and that is not an error."""


@dataclass(frozen=True)
class Component:
    """OVS or OVN, to be built from a source, OVN against a library; `key` addresses what comes of it."""

    name: str
    source: SoftwareSource
    library: SoftwareSource | None
    version: str
    cflags: str
    key: str

    def __str__(self) -> str:
        version = f"{self.version} " if self.version else ""
        return f"{NAMES[self.name]} {version}from {self.source.origin}"


@dataclass(frozen=True)
class Recipe:
    """The inputs of a build."""

    components: tuple[Component, ...]
    key: str

    def __str__(self) -> str:
        return " and ".join(map(str, self.components))


class Builder:
    """A builder that finds the builds of one command, and makes those that are not there."""

    def __init__(self, reporter: BuildReporter, build_host: BuildHost | None = None) -> None:
        self.reporter = reporter
        self._recipes: dict[Software, Recipe] = {}
        self._here = LocalBuildHost(self.root / "tmp", reporter.note)
        self._build_host = build_host or self._here

    @property
    def root(self) -> Path:
        """Return where builds are made."""
        return cache_root() / "building"

    def recipe(self, software: Software) -> Recipe:
        """Return what goes into the build for that software.

        Sources are brought as far as that takes. Raises OvnlabError where one is not there, or where OVN cannot be
        compiled against what it is given.
        """
        if software not in self._recipes:
            try:
                parts = tuple(self._components(software))
            except OSError as error:
                raise storage_error(error, cache_root()) from None
            key = artefacts.key_of({part.name: part.key for part in parts})
            self._recipes[software] = Recipe(parts, key)
        return self._recipes[software]

    def obtain(self, software: Software) -> Artefact:
        """Return the build for that software, made where it is not there.

        Raises CommandFailed with the first error of a failed build, OvnlabError and HostRequirementError as `recipe`.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._found_or_made(software)
            except working_tree.Changed:  # while it was waited for, or read: it is what it is now
                self._recipes.clear()
        return self._found_or_made(software)

    def _found_or_made(self, software: Software) -> Artefact:
        recipe = self.recipe(software)
        try:
            return artefacts.find(recipe.key) or self._made(recipe)
        except OSError as error:
            raise storage_error(error, cache_root()) from None

    @property
    def _context(self) -> Context:
        """Return where sources are brought, which is this machine in any case."""
        return self._here.context

    # ── what goes in ─────────────────────────────────────────────────────────────────────────────────

    def _components(self, software: Software) -> Iterator[Component]:
        cflags = software.cflags or PROFILES[software.profile]
        if software.ovs.is_source:
            yield self._component("ovs", self._find("ovs", software), None, cflags)
        if software.ovn.is_source:
            ovn = self._find("ovn", software)
            library = self._library(ovn, software)
            if software.library is not None:
                sources.refuse_mismatch(ovn, library, self._context)
            yield self._component("ovn", ovn, library, cflags)

    def _find(self, component: str, software: Software) -> SoftwareSource:
        origin = software.ovs if component == "ovs" else software.ovn
        return sources.find(component, origin, self._context, self.reporter.note)

    def _library(self, ovn: SoftwareSource, software: Software) -> SoftwareSource:
        origin = software.library or sources.pinned(ovn, self._context)
        if origin is None:
            raise OvnlabError(
                "does not say which OVS it is compiled against",
                where=f"OVN from {ovn.origin}",
                hint="say so with ovn_library in the topology's software, such as the branch of OVS of its year",
            )
        return sources.find("ovs-library", origin, self._context, self.reporter.note)

    def _component(self, name: str, source: SoftwareSource, library: SoftwareSource | None, cflags: str) -> Component:
        version = sources.version(source, self._context)
        against = library.identity if library else ""
        inputs = (RECIPE, name, source.identity, against, cflags, build.OPTIONS, self._build_host.kind)
        key = hashlib.sha256(repr(inputs).encode()).hexdigest()[: artefacts.KEY_LENGTH]
        return Component(name, source, library, version, cflags, key)

    # ── making it ────────────────────────────────────────────────────────────────────────────────────

    def _made(self, recipe: Recipe) -> Artefact:
        self.root.mkdir(parents=True, exist_ok=True)
        with packages.exclusive(self.root / "lock", self.reporter.note, "another ovnlab that is building"):
            found = artefacts.find(recipe.key)
            if found is not None:
                return found
            if (artefacts.builds_root() / recipe.key).exists():
                self.reporter.note(f"build {recipe.key} is damaged and is made again")
            self._begin()
            try:
                return self._assembled(recipe)
            finally:
                for left in MAKING:
                    shutil.rmtree(self.root / left, ignore_errors=True)

    def _begin(self) -> None:
        """Remove what a build that was killed has left; make what this one needs."""
        for left in MAKING:
            remove_tree(self.root / left)
        (self.root / "tmp").mkdir()
        free = shutil.disk_usage(self.root).free
        if free < NEEDED_BYTES:
            raise HostRequirementError(
                f"only {free // 2**20} MiB are free where builds are made, {NEEDED_BYTES // 2**20} are needed",
                where=str(self.root),
                hint="make room there, or set XDG_CACHE_HOME to a folder with more",
            )
        logs = sorted((self.root / "logs").glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-LOGS_KEPT]:
            path.unlink()

    def _assembled(self, recipe: Recipe) -> Artefact:
        """Build the components that no other build has, and put all of them into one tree."""
        assembled = self.root / "assembled"
        assembled.mkdir()
        trees: dict[str, Path] = {}
        parts = {
            component.name: _shared(component, assembled) or self._part(component, trees, assembled)
            for component in recipe.components
        }
        artefact = Artefact(recipe.key, parts, now_ns() // 10**9)
        artefacts.put(artefact, assembled)
        return artefact

    def _part(self, component: Component, trees: dict[str, Path], assembled: Path) -> ArtefactPart:
        """Build one component of a recipe."""
        self.reporter.step(f"building {component}")
        stage = self._built(component, trees) / build.PREFIX[1:]
        names = sorted(str(path.relative_to(stage)) for path in stage.rglob("*") if _is_file(path))
        _link(stage, assembled, names)
        source = component.source
        sums = artefacts.sums(assembled, names)
        _reuse(component.name, sums, assembled)
        self.reporter.node(NAMES[component.name], "done")
        return ArtefactPart(
            component.key, str(source.origin), source.label, component.version, sums, source.is_working_tree
        )

    def _built(self, component: Component, trees: dict[str, Path]) -> Path:
        """Compile a component and install it into a folder. `trees` are those that were compiled by this build."""
        options: tuple[str, ...] = ()
        if component.library is not None:
            library = trees.get(component.library.identity)
            if library is None or component.source.is_working_tree:  # whose kept copy knows it by its place
                library = self._compiled("ovs-library", component.library, component, None, ())
            place = self._build_host.place(library)
            options = (f"--with-ovs-source={place}", f"--with-ovs-build={place}")
        stage = self.root / "stage" / component.name
        trees[component.source.identity] = self._compiled(component.name, component.source, component, stage, options)
        return stage

    def _compiled(
        self, name: str, source: SoftwareSource, component: Component, stage: Path | None, options: tuple[str, ...]
    ) -> Path:
        """Return a tree in which a source is compiled, and installed from below `stage`.

        Where something else than a file of a working tree is at fault, once more in a fresh copy: there may be
        something in the kept one that is not of the tree any more.
        """
        kept = self._kept(name, self._kind(source, component, options)) if source.tree else None
        was_there = kept is not None and kept.exists()
        try:
            return self._compiled_once(name, source, component, stage, options)
        except build.CompileFailed:
            raise
        except CommandFailed:
            if kept is None or not was_there:
                raise
            remove_tree(kept.parent)
            return self._compiled_once(name, source, component, stage, options)

    def _kind(self, source: SoftwareSource, component: Component, options: tuple[str, ...]) -> object:
        """Return what one kept tree is for: a source, and how it is compiled."""
        what = source.origin if source.tree else source.identity
        return (what, component.cflags, options, self._build_host.kind[-1], self._build_host.name)

    def _compiled_once(
        self, name: str, source: SoftwareSource, component: Component, stage: Path | None, options: tuple[str, ...]
    ) -> Path:
        label = NAMES[name]
        place = source.tree

        def doing(what: str) -> None:
            self.reporter.node(label, what)

        def compiling(done: int, total: int) -> None:
            doing(f"compiling {done} of {total} ({100 * done // total} %)" if total else "compiling")

        log_path = self.root / "logs" / f"{name}-{component.key}.log"
        with build.Log(log_path, compiling) as log:
            doing("unpacking")
            kind = self._kind(source, component, options)
            tree = self._followed(name, source, kind) if source.tree else self._unpacked(name, source, component, kind)
            ready = tree.with_name(f"{tree.name}.configured")
            shop = self._build_host
            there, kept = shop.place(tree), shop.has(tree)
            if stage is None and not source.is_working_tree and ready.exists() and kept:
                return tree  # compiled for an earlier build of the working tree that is linked with it
            if not (ready.exists() and kept):
                ready.unlink(missing_ok=True)
            if shop.name:
                doing(f"sending it to {shop.name}")
            shop.send(tree, afresh=not ready.exists())
            if not ready.exists():
                doing("configuring")
                build.configure(shop.context, label, there, log, cflags=component.cflags, options=options, place=place)
                if source.is_working_tree:
                    ready.touch()
            busy = tree.with_name(f"{tree.name}.compiling")
            busy.touch()
            try:
                into = shop.place(stage) if stage else None
                build.make(shop.context, label, there, log, stage=into, jobs=shop.jobs, place=place)
            except OvnlabError:
                busy.unlink()  # make has taken back what failed
                raise
            busy.unlink()
            ready.touch()
            if stage is not None:
                build.strip(shop.context, label, shop.place(stage), log, symbols=_wants_symbols(component.cflags))
                shop.fetch(stage)
        return tree

    def _unpacked(self, name: str, source: SoftwareSource, component: Component, kind: object) -> Path:
        """Return the files of a source. They stay where what is linked with them is of a working tree."""
        tree = self.root / "once" / name
        if name == "ovs-library" and component.source.is_working_tree:
            tree = self._kept(name, kind)
        if not tree.exists():
            tree.parent.mkdir(parents=True, exist_ok=True)
            sources.unpack(source, self._context, tree)
        return tree

    def _kept(self, name: str, kind: object) -> Path:
        """Return a folder that is there the next time; empty where it was not finished the last time."""
        which = hashlib.sha256(repr((RECIPE, name, kind)).encode()).hexdigest()[:16]
        tree = self.root / "trees" / which / name
        if not tree.with_name(f"{name}.configured").exists():
            remove_tree(tree.parent)
        return tree

    def _followed(self, name: str, source: SoftwareSource, kind: object) -> Path:
        """Return the files of a working tree as they are now, in a copy that is compiled again and again."""
        assert source.tree is not None  # noqa: S101  it is a working tree
        tree = self._kept(name, kind)
        busy = tree.with_name(f"{tree.name}.compiling")
        if working_tree.follow(source.tree, tree) != source.identity.partition(" ")[2]:
            raise working_tree.Changed("changes while it is read", where=str(source.tree), hint="once more, please")
        if busy.exists():
            working_tree.forget_made_since(tree, busy.stat().st_mtime_ns)
        return tree


def render(software: Software) -> list[tuple[str, str]]:
    """Return the scripts that a build of that software runs: titles and texts, in order."""
    root = cache_root() / "building"
    cflags = software.cflags or PROFILES[software.profile]
    wanted = [("ovs", software.ovs)] if software.ovs.is_source else []
    if software.ovn.is_source:
        wanted += [("ovs-library", software.library or Origin("git")), ("ovn", software.ovn)]
    scripts = []
    for name, origin in wanted:
        tree = root / "once" / name
        stage = None if name == "ovs-library" else root / "stage" / name
        library = root / "once/ovs-library"
        options = (f"--with-ovs-source={library}", f"--with-ovs-build={library}") if name == "ovn" else ()
        if origin.kind == "git" and origin.place:
            repository = sources.repository_of(origin.place)
            scripts.append((f"build/{name}/fetch.sh", build.fetch_script(repository, origin.place, origin.ref)))
        scripts.append((f"build/{name}/configure.sh", build.configure_script(name, tree, cflags, options)))
        scripts.append((f"build/{name}/make.sh", build.make_script(name, tree, stage, len(os.sched_getaffinity(0)))))
        if stage is not None:
            text = build.strip_script(name, stage, strip=not _wants_symbols(cflags))
            scripts.append((f"build/{name}/strip.sh", text))
    return scripts


def _wants_symbols(cflags: str) -> bool:
    return any(flag.startswith("-g") and flag != "-g0" for flag in cflags.split())


def _shared(component: Component, assembled: Path) -> ArtefactPart | None:
    """Return the files of this very component in a build that has it, undamaged."""
    for artefact in artefacts.all_there():
        part = artefact.parts.get(component.name)
        if part is not None and part.key == component.key and artefacts.is_part_intact(artefact, component.name):
            _link(artefact.path, assembled, part.files)
            source = component.source
            return msgspec.structs.replace(part, origin=str(source.origin), label=source.label)
    return None


def _reuse(component: str, sums: Mapping[str, str], assembled: Path) -> None:
    """Let files that an earlier build has as well be the same files: a daemon whose program is the same runs on."""
    wanted = {name: total for name, total in sums.items() if not (assembled / name).is_symlink()}
    for artefact in artefacts.all_there():
        part = artefact.parts.get(component)
        alike = [name for name, total in wanted.items() if part is not None and part.files.get(name) == total]
        for name in alike:
            there, here = artefact.path / name, assembled / name
            if not there.is_file() or not filecmp.cmp(there, here, shallow=False):
                continue  # it was damaged since
            here.unlink()
            os.link(there, here)
            del wanted[name]


def _link(source: Path, target: Path, names: Mapping[str, str] | list[str]) -> None:
    """Let files be in two folders at once."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source / name, target / name, follow_symlinks=False)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def prune(used: Callable[[], Collection[str]], report: Callable[[str], None]) -> list[Artefact]:
    """Remove builds whose keys are not in use, the folders that they were made in, and what was brought for them."""
    root = cache_root() / "building"
    building = "another ovnlab that is building"
    with artefacts.pruning(report), packages.exclusive(root / "lock", report, building):
        keys = used()
        gone = [artefact for artefact in artefacts.all_there() if artefact.key not in keys]
        for artefact in gone:
            artefacts.remove(artefact)
        for name in (*MAKING, "trees", "indexes", "logs"):
            remove_tree(root / name)
        remove_tree(sources.sources_root())
    return gone
