"""The providers that there are, and which one a lab has. The code of those that it does not use is not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ovnlab.errors import HostRequirementError
from ovnlab.providers.base import Provider
from ovnlab.providers.libvirt import saved_labs
from ovnlab.providers.local.local_provider import LocalProvider
from ovnlab.providers.spec import CONSOLES, SNAPSHOTS, SUSPENDING, ProviderSpec
from ovnlab.reporting import Reporter
from ovnlab.state import Base, LabFolder
from ovnlab.topology.resolved import Topology

if TYPE_CHECKING:
    from ovnlab.doctor import Requirement


def _local(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    del topology, reporter
    return LocalProvider(folder, base)


def _ssh(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    from ovnlab.providers.ssh_provider import SshProvider  # noqa: PLC0415  others have no use for it

    del base
    return SshProvider(folder, topology, reporter)


def _vagrant(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    try:
        from ovnlab.providers.vagrant_provider import VagrantProvider  # noqa: PLC0415  brings python-vagrant
    except ModuleNotFoundError as error:
        raise _lacking(error, "vagrant", "pip install 'ovnlab[vagrant]'") from None
    del base
    return VagrantProvider(folder, topology, reporter)


def _libvirt(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    try:
        from ovnlab.providers.libvirt.libvirt_provider import LibvirtProvider  # noqa: PLC0415  brings libvirt
    except ModuleNotFoundError as error:
        hint = "sudo apt-get install libvirt-dev gcc pkg-config, and pip install 'ovnlab[libvirt]'"
        raise _lacking(error, "libvirt", hint) from None
    del base
    return LibvirtProvider(folder, topology, reporter)


def _findings_of_libvirt() -> list[Requirement]:
    from ovnlab.providers.libvirt.requirements import findings  # noqa: PLC0415  for doctor

    return findings()


def _findings_of_vagrant() -> list[Requirement]:
    from ovnlab.providers.vagrant_requirements import findings  # noqa: PLC0415  for doctor

    return findings()


PROVIDERS = (
    ProviderSpec(
        "libvirt",
        _libvirt,
        traces=("libvirt.json",),
        supports=(SUSPENDING, SNAPSHOTS, CONSOLES),
        keeps=saved_labs.is_kept,
        kept=saved_labs.kept,
        findings=_findings_of_libvirt,
    ),
    ProviderSpec("vagrant", _vagrant, traces=("vagrant",), findings=_findings_of_vagrant),
    ProviderSpec("ssh", _ssh, traces=("ssh.json",)),
    ProviderSpec("local", _local),
)
"""All providers; one that leaves no trace of its own is the last."""


def provider_of(folder: LabFolder, topology: Topology | None, base: Base | None, reporter: Reporter) -> Provider:
    """Return the provider of a lab, by what it left in the lab's folder where its topology is lost.

    Raises HostRequirementError where a package that it takes is not installed.
    """
    kind = topology.provider if topology else _left(folder)
    spec = next(found for found in PROVIDERS if found.name == kind)
    return spec.make(folder, topology, base, reporter)


def findings_of_providers() -> list[Requirement]:
    """Return what `doctor` says of all providers."""
    return [finding for spec in PROVIDERS for finding in spec.findings()]


def supporting(what: str) -> list[str]:
    """Return the names of the providers that can do something."""
    return [spec.name for spec in PROVIDERS if what in spec.supports]


def keeper_of(folder: LabFolder) -> ProviderSpec | None:
    """Return the provider that keeps something of a lab for the next `up`, whether or not the lab is there."""
    return next((spec for spec in PROVIDERS if spec.keeps(folder)), None)


def kept_labs() -> dict[str, str]:
    """Return the names of this user's labs that something is kept of, and the provider that keeps it."""
    return dict(sorted((name, spec.name) for spec in PROVIDERS for name in spec.kept()))


def _lacking(error: ModuleNotFoundError, kind: str, hint: str) -> HostRequirementError:
    return HostRequirementError(
        f"the Python package {error.name} is not installed", where=f"provider {kind}", hint=hint
    )


def _left(folder: LabFolder) -> str:
    """Return the provider of a lab whose topology is lost."""
    traces = ((spec.name, folder.path / trace) for spec in PROVIDERS for trace in spec.traces)
    return next((name for name, path in traces if path.exists()), PROVIDERS[-1].name)
