"""Requirements of libvirt labs. Nothing is installed unasked: that would start services."""

from __future__ import annotations

import importlib.util
import os
import shutil

from ovnlab.doctor import Requirement
from ovnlab.software import images, packages
from ovnlab.topology.resolved import DEFAULT_URI

MODULES = ("libvirt", "pycdlib")
PROGRAMS = ("ssh", "virsh", *images.PROGRAMS)


def findings(uri: str = DEFAULT_URI) -> list[Requirement]:
    """Return what is missing: packages, a libvirtd that answers, an image to boot."""
    path = os.pathsep.join(packages.SEARCHED)
    lacking = [name for name in MODULES if importlib.util.find_spec(name) is None]
    lacking += [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lacking:
        return [_no_machines(f"not there: {', '.join(lacking)}")]
    import libvirt  # noqa: PLC0415  for those who have it

    from ovnlab.providers.libvirt.hypervisor import starting_libvirt  # noqa: PLC0415  brings libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        libvirt.openReadOnly(uri).close()
    except libvirt.libvirtError as error:
        return [_no_machines(f"libvirt does not answer at {uri}: {error.get_error_message()}; {starting_libvirt()}")]
    image = "" if images.all_there() else "; no image yet: sudo ovnlab image build makes one"
    return [Requirement("machines", True, f"nodes can be virtual machines of libvirt{image}")]


def _no_machines(why: str) -> Requirement:
    return Requirement("machines", False, f"no virtual machines, {why} (docs/machines.md)", optional=True)
