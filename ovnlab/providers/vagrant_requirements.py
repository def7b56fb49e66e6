"""Requirements of Vagrant labs; the provider itself cannot be loaded where python-vagrant is missing."""

from __future__ import annotations

import importlib.util
import shutil

from ovnlab.doctor import Requirement


def findings() -> list[Requirement]:
    """Return what is missing. Which provider of its own Vagrant has, it knows itself."""
    lacking = [] if shutil.which("vagrant") else ["vagrant"]
    if importlib.util.find_spec("vagrant") is None:
        lacking.append("the Python package python-vagrant")
    if lacking:
        why = f"no machines of Vagrant, not there: {', '.join(lacking)} (docs/machines.md)"
        return [Requirement("vagrant", False, why, optional=True)]
    said = "Vagrant is there: whether it has vagrant-libvirt or VirtualBox, it knows itself"
    return [Requirement("vagrant", True, said)]
