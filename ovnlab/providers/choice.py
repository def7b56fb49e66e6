"""Which provider a lab has. Those that it does not use are not loaded."""

from __future__ import annotations

from collections.abc import Callable

from ovnlab.errors import SurroundingsError
from ovnlab.providers.base import Provider
from ovnlab.providers.local.provider import LocalProvider
from ovnlab.state import Base, LabFolder
from ovnlab.topology.resolved import Topology


def provider_of(
    folder: LabFolder, topology: Topology | None, base: Base | None, note: Callable[[str], None]
) -> Provider:
    """The provider of a lab, by what it left in its folder where its topology is lost.

    Raises SurroundingsError where a package that it takes is not installed.
    """
    libvirt = topology.provider == "libvirt" if topology else (folder.path / "libvirt.json").exists()
    if not libvirt:
        return LocalProvider(folder, base)
    try:
        from ovnlab.providers.libvirt.provider import LibvirtProvider  # noqa: PLC0415  brings libvirt, Fabric and Paramiko
    except ModuleNotFoundError as error:
        raise SurroundingsError(
            f"the Python package {error.name} is not installed",
            where="provider libvirt",
            hint="sudo apt-get install libvirt-dev gcc pkg-config, and pip install 'ovnlab[libvirt]'",
        ) from None
    return LibvirtProvider(folder, topology, note)
