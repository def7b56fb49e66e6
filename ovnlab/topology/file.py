"""The bytes of a topology file. Apart from `source`, so that an unchanged file needs no YAML parser."""

from __future__ import annotations

from pathlib import Path

from ovnlab.errors import Mistake, TopologyError


def read(path: str) -> bytes:
    """The bytes of a topology file.

    Raises TopologyError where it is missing, a directory or unreadable.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise TopologyError(path, [Mistake(0, 0, "there is no such file")]) from None
    except IsADirectoryError:
        raise TopologyError(path, [Mistake(0, 0, "is a directory, not a topology file")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TopologyError(path, [Mistake(0, 0, f"cannot be read: {reason}")]) from None
