"""The state of a running lab as a picture needs it: plain data, whoever reads the lab."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiveNode:
    """A node: whether it runs, and what of it is not as it should be, a few words each."""

    name: str
    running: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiveTunnel:
    """A tunnel as one of its two ends sees it."""

    node: str
    peer: str
    encap: str
    working: bool


@dataclass(frozen=True)
class LivePort:
    """A logical switch port of a fake VM: its addresses without MAC, and where it is bound."""

    name: str
    switch: str
    addresses: tuple[str, ...]
    chassis: str | None
    up: bool


@dataclass(frozen=True)
class Live:
    """A running lab. `ports` is empty where no database could be asked."""

    state: str
    nodes: tuple[LiveNode, ...] = ()
    tunnels: tuple[LiveTunnel, ...] = ()
    ports: tuple[LivePort, ...] = ()
