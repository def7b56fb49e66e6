"""The bytes of a topology file. Apart from `source`, so that an unchanged file needs no YAML parser."""

from __future__ import annotations

from pathlib import Path

from ovnlab.errors import Problem, TopologyError

LARGEST = 4 * 2**20
"""Bytes of a topology file: some 50,000 ports."""


def read(path: str) -> bytes:
    """Return the bytes of a topology file. Raise TopologyError where it is missing, unreadable or no such file."""
    if not path:
        raise TopologyError("topology", [Problem(0, 0, "invalid file name '': expected a path")])
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise TopologyError(path, [Problem(0, 0, "there is no such file")]) from None
    except IsADirectoryError:
        raise TopologyError(path, [Problem(0, 0, "is a directory, not a topology file")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TopologyError(path, [Problem(0, 0, f"cannot be read: {reason}")]) from None
    if len(content) > LARGEST:
        raise TopologyError(path, [Problem(0, 0, f"is larger than {LARGEST // 2**20} MiB, which is not a topology")])
    return content
