"""Durations, percentages and rates as people write them. Each function raises ValueError that says what is expected."""

from __future__ import annotations

import re

LONGEST = 86400.0
"""Seconds of the longest duration."""


def seconds(text: str) -> float:
    """Return the seconds of a duration.

    >>> seconds("25ms")
    0.025
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text.strip())
    value = float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}[found[2]] if found else 0.0
    if found is None or value > LONGEST:
        raise ValueError("expected a number with us, ms, s, m or h, at most 24h, such as 25ms")
    return value


def share(text: str) -> float:
    """Return 0 to 1 for a percentage.

    >>> share("2%")
    0.02
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text.strip())
    if found is None or not 0 <= float(found[1]) <= 100:
        raise ValueError("expected a percentage from 0% to 100%, such as 2%")
    return float(found[1]) / 100


def bits(text: str) -> float:
    """Return bits per second of a rate.

    >>> bits("10mbit")
    10000000.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(k|m|g)?bit", text.strip().lower())
    value = float(found[1]) * {None: 1.0, "k": 1e3, "m": 1e6, "g": 1e9}[found[2]] if found else 0.0
    if not 8000 <= value <= 1e11:
        raise ValueError("expected a rate from 8kbit to 100gbit, such as 10mbit")
    return value


def pair(text: str) -> tuple[str, str]:
    """Return the two names of `vm1 → host1`, `vm1 -> host1`, or `vm1, host1`.

    >>> pair("vm1 → host1")
    ('vm1', 'host1')
    """
    names = [name.strip() for name in re.split(r"→|->|,", text)]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise ValueError("expected two names, such as vm1 → host1")
    return names[0], names[1]
