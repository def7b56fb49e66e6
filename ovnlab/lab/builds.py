"""Builds from source for the nodes of labs. Labs without any load nothing for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ovnlab.errors import OvnlabError
from ovnlab.reporting import Reporter
from ovnlab.state import labs
from ovnlab.topology.resolved import Software, Topology

if TYPE_CHECKING:
    from ovnlab.software.artefacts import Artefact
    from ovnlab.software.build_host import BuildHost

PLACEHOLDER = "KEY"
"""What stands in rendered scripts for the key of a build that nobody has made."""


def wanted(topology: Topology) -> dict[str, Software]:
    """Return what is to be built, by the nodes that are to run it."""
    return {node.name: node.software for node in topology.nodes if node.role != "host" and node.software.is_built}


BuildHosts = Callable[[str], "BuildHost"]
"""The build host that a node is. Raises OvnlabError where it does not run."""


def obtain(software: Iterable[Software], reporter: Reporter, build_hosts: BuildHosts) -> dict[Software, Artefact]:
    """Return builds for software, made where they are not there. Raises what Builder.obtain and `build_hosts` raise."""
    built = [found for found in dict.fromkeys(software) if found.is_built]
    if not built:
        return {}
    from ovnlab.software import artefacts  # noqa: PLC0415  where something is built
    from ovnlab.software.builder import Builder  # noqa: PLC0415

    with artefacts.claimed(reporter.note):
        places = dict.fromkeys(found.build_on for found in built)
        builders = {name: Builder(reporter, build_hosts(name) if name else None) for name in places}
        obtained = {found: builders[found.build_on].obtain(found) for found in built}
        artefacts.remove_outlived(in_use())
    return obtained


def keys_of_nodes(
    topology: Topology, reporter: Reporter, kept: Mapping[str, str], build_hosts: BuildHosts
) -> dict[str, str]:
    """Return the key of each node's build, made where it is not there; those of `kept` stay as they are."""
    asked = {name: software for name, software in wanted(topology).items() if name not in kept}
    found = obtain(asked.values(), reporter, build_hosts)
    return {**{name: key for name, key in kept.items() if key}, **{name: found[s].key for name, s in asked.items()}}


@contextlib.contextmanager
def claimed(topology: Topology, reporter: Reporter) -> Iterator[None]:
    """Hold a claim between choosing a build and running it, so that nobody prunes it."""
    if not wanted(topology):
        yield
        return
    from ovnlab.software import artefacts  # noqa: PLC0415  where something is built

    with artefacts.claimed(reporter.note):
        yield


def planned(topology: Topology, reporter: Reporter, build_hosts: BuildHosts) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the key of each node's build, and what would have to be built for it first.

    What is to be built on a node that does not run has no key yet.
    """
    asked = wanted(topology)
    if not asked:
        return {}, ()
    from ovnlab.software import artefacts  # noqa: PLC0415  where something is built
    from ovnlab.software.builder import Builder  # noqa: PLC0415

    builders: dict[str, Builder] = {}
    recipes = {}
    missing: dict[str, None] = {}
    for name, software in asked.items():
        place = software.build_on
        try:
            builders.setdefault(place, Builder(reporter, build_hosts(place) if place else None))
        except OvnlabError:
            missing[f"{software} on {place}"] = None
            continue
        recipes[name] = builders[place].recipe(software)
        if artefacts.find(recipes[name].key) is None:
            missing[str(recipes[name])] = None
    return {name: recipe.key for name, recipe in recipes.items()}, tuple(missing)


def scripts(topology: Topology) -> list[tuple[str, str]]:
    """Return the scripts that building for a topology runs: titles and texts, in order."""
    asked = dict.fromkeys(wanted(topology).values())
    if not asked:
        return []
    from ovnlab.software.builder import render  # noqa: PLC0415

    return [script for software in asked for script in render(software)]


def in_use() -> dict[str, list[str]]:
    """Return the labs of this user that run each build, by its key: where the links of their nodes lead."""
    used: dict[str, list[str]] = {}
    for folder in labs():
        links = [path / "current" for path in folder.path.glob("nodes/*/opt")]
        for key in sorted({link.readlink().name for link in links if link.is_symlink()}):
            used.setdefault(key, []).append(folder.name)
    return used
