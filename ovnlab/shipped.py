"""Files that are shipped with ovnlab to be read and changed: templates/, topologies/ and Vagrantfile.j2.

They stand at the top of the repository; the wheel carries them inside the package.
"""

from __future__ import annotations

from pathlib import Path

from ovnlab.errors import UsageError

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent

TEMPLATES = _ROOT / "templates"
TOPOLOGIES = _ROOT / "topologies"
VAGRANTFILE = _ROOT / "Vagrantfile.j2"
COMPILED = _ROOT / "compiled"
"""Templates as Python; in a wheel only."""
DEFAULT_TOPOLOGY = TOPOLOGIES / "3node.yaml"
HERE = ("ovnlab.yaml", "topology.yaml")
"""Files of the current folder that are taken where no topology is named."""


def shipped_topologies() -> list[tuple[str, str, str]]:
    """Return name, path, and the sentence about it, of every topology that is shipped."""
    return [(path.stem, str(path), _about(path)) for path in sorted(TOPOLOGIES.glob("*.yaml"))]


def _about(path: Path) -> str:
    """Return the third line of its comment, below that for editors and an empty one."""
    return path.read_text().splitlines()[2].removeprefix("# ")


def topology_here() -> str | None:
    """Return the file in the current folder that commands take where none is named."""
    return next((name for name in HERE if Path(name).is_file()), None)


def find_topology(given: str | None) -> str:
    """Return the path of a topology: as given, or a shipped one by its name.

    Where nothing is given it is ovnlab.yaml or topology.yaml in the current folder, else the shipped 3node.
    """
    if given is None:
        return topology_here() or str(DEFAULT_TOPOLOGY)
    if not given:
        raise UsageError("invalid topology '': expected a file or the name of a shipped topology")
    shipped = TOPOLOGIES / f"{given}.yaml"
    if "/" in given or Path(given).is_file():
        return given
    if shipped.is_file():
        return str(shipped)
    names = [path.stem for path in TOPOLOGIES.glob("*.yaml")]
    import difflib  # noqa: PLC0415  for names that are mistyped

    close = difflib.get_close_matches(given, names, n=1)
    if not Path(given).exists() and "." not in given:
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown topology {given!r}", hint=f"{hint}`ovnlab topologies` lists those that are shipped")
    return given
