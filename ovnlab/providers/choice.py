"""Which provider a lab has. Those that it does not use are not loaded."""

from __future__ import annotations

from ovnlab.errors import SurroundingsError
from ovnlab.providers.base import Provider
from ovnlab.providers.local.provider import LocalProvider
from ovnlab.reporting import Reporter
from ovnlab.state import Base, LabFolder
from ovnlab.topology.resolved import Topology


def provider_of(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    """The provider of a lab, by what it left in its folder where its topology is lost.

    Raises SurroundingsError where a package that it takes is not installed.
    """
    kind = topology.provider if topology else _left(folder)
    if kind == "local":
        return LocalProvider(folder, base)
    if kind == "ssh":
        from ovnlab.providers.ssh import SshProvider  # noqa: PLC0415  others have no use for it

        return SshProvider(folder, topology, reporter)
    if kind == "vagrant":
        try:
            from ovnlab.providers.vagrant import VagrantProvider  # noqa: PLC0415  brings python-vagrant
        except ModuleNotFoundError as error:
            raise _lacking(error, kind, "pip install 'ovnlab[vagrant]'") from None
        return VagrantProvider(folder, topology, reporter)
    try:
        from ovnlab.providers.libvirt.provider import LibvirtProvider  # noqa: PLC0415  brings libvirt
    except ModuleNotFoundError as error:
        hint = "sudo apt-get install libvirt-dev gcc pkg-config, and pip install 'ovnlab[libvirt]'"
        raise _lacking(error, kind, hint) from None
    return LibvirtProvider(folder, topology, reporter)


def _lacking(error: ModuleNotFoundError, kind: str, hint: str) -> SurroundingsError:
    return SurroundingsError(f"the Python package {error.name} is not installed", where=f"provider {kind}", hint=hint)


def _left(folder: LabFolder) -> str:
    """The provider of a lab whose topology is lost."""
    if (folder.path / "vagrant").is_dir():
        return "vagrant"
    return next((kind for kind in ("libvirt", "ssh") if (folder.path / f"{kind}.json").exists()), "local")
