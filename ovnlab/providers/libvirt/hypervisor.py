"""A connection to libvirt: what goes over it, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import libvirt

from ovnlab.errors import HostRequirementError, OvnlabError, Timeout
from ovnlab.software import packages
from ovnlab.templating import render
from ovnlab.waiting import wait_until

TRY_TIMEOUT = 5.0
"""Seconds that a machine on KVM may take to say its first word."""

CONSOLE_TAIL = 15
"""Lines of the serial console that an error shows."""


@dataclass
class Hypervisor:
    """A connection to libvirt."""

    uri: str

    @cached_property
    def connection(self) -> Any:
        """Open for as long as this process lives. Raises HostRequirementError that says what to do."""
        libvirt.registerErrorHandler(lambda *_: None, None)  # it would print them
        try:
            return libvirt.open(self.uri)
        except libvirt.libvirtError as error:
            raise HostRequirementError(
                f"libvirt cannot be reached: {error.get_error_message()}", where=self.uri, hint=_advice(self.uri, error)
            ) from None


SYSTEMD = Path("/run/systemd/system")
"""A folder that is there where systemd runs (sd_booted(3))."""

QEMU_CONF = ('user = "root"', 'group = "root"', "remember_owner = 0")
"""Lines of /etc/libvirt/qemu.conf where nobody has set up /dev/kvm, users and extended attributes for libvirt.

Without the first two libvirt probes QEMU anew at every call where /dev/kvm is root's alone: a machine takes a minute to
start. The last one is for file systems without trusted extended attributes, as in containers.
"""


def starting_libvirt() -> str:
    """Return how to start, or else to install, libvirtd on this machine, with systemd or without."""
    path = os.pathsep.join(packages.SEARCHED)
    if shutil.which("libvirtd", path=path) is None:
        return "install it: sudo apt-get install libvirt-daemon-system qemu-system-x86"
    if SYSTEMD.is_dir():
        return "start it: sudo systemctl start libvirtd"
    lines = "\\n".join(QEMU_CONF)
    settings = f"printf '{lines}\\n' | sudo tee -a /etc/libvirt/qemu.conf"
    return f"start it: sudo virtlogd -d; sudo libvirtd -d (there is no systemd here; once before that: {settings})"


def _advice(uri: str, error: Any) -> str:
    said = str(error)
    if "ermission denied" in said or "authentication" in said:
        return "become a member of group libvirt (sudo usermod -aG libvirt $USER, and log in again), or run as root"
    if "No such file" in said or "refused" in said:
        return starting_libvirt()
    return f"try it: virsh -c {uri} version"


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn what libvirt says into an error that says what was being done."""
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or str(error)
        raise OvnlabError(message, where=what, hint=_hint(message)) from None


def _hint(message: str) -> str:
    if "already in use" in message:
        return "give the lab another network: libvirt: {subnet: …} in the topology"
    if "No space left" in message:
        return "make room in the storage pool, or name another one: libvirt: {pool: …}"
    return ""


class Console:
    """The serial console of a machine while it boots.

    It is read over a connection of its own: a call that shares one with a stream that waits may wait for ever as well.
    """

    def __init__(self, domain: Any) -> None:
        self.domain = domain
        self.said = bytearray()
        self._is_over = False

    def __enter__(self) -> Console:
        with contextlib.suppress(libvirt.libvirtError):  # somebody else may be at it
            connection = libvirt.open(self.domain.connect().getURI())
            stream = connection.newStream(0)
            same = connection.lookupByUUIDString(self.domain.UUIDString())
            same.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        return self

    def _read(self, stream: Any) -> None:
        """Read until the machine ends, or until the next line after `over`."""
        with contextlib.suppress(libvirt.libvirtError):
            while not self._is_over and (data := stream.recv(4096)):
                self.said += data
            stream.abort()

    def __exit__(self, *_: object) -> None:
        self._is_over = True

    @property
    def text(self) -> str:
        """Return the output of the console so far."""
        return bytes(self.said).decode(errors="replace").replace("\r", "")

    def tail(self) -> str:
        """Return the last lines of it."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        return "\n".join(lines[-CONSOLE_TAIL:]) or "nothing"

    def summary(self) -> str:
        """Return how far the machine came and the last line that it said, for whoever waits."""
        text = [line for line in self.text.splitlines() if line.strip()]
        return f"{self.stage()}, its console says: {text[-1].strip()}" if text else "no word on its console yet"

    def stage(self) -> str:
        """Return how far the machine came."""
        text = self.text
        for word, stage in (("login:", "it is up, without network"), ("systemd", "its system was starting")):
            if word in text:
                return stage
        return "its kernel was starting" if text.strip() else "it has not said a word"


def kvm_works(connection: Any, name: str) -> bool:
    """Return True if a machine on KVM says its first word; what a hypervisor says of itself cannot be relied on."""
    xml = render("libvirt/try.xml.j2", name=name)
    try:
        domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError:
        return False
    try:
        with Console(domain) as console:
            domain.resume()
            wait_until("the firmware", lambda: True if console.said else None, timeout=TRY_TIMEOUT)
    except (libvirt.libvirtError, Timeout):
        return False
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
    return True


def make_volume(pool: Any, name: str, size: int, kind: str, backing: dict[str, str] | None = None) -> Any:
    """Make a volume of so many bytes."""
    xml = render("libvirt/volume.xml.j2", name=name, capacity=size, format=kind, backing=backing)
    return pool.createXML(xml)


def send(connection: Any, volume: Any, file: BinaryIO, size: int) -> None:
    """Fill a volume with the content of a file."""
    stream = connection.newStream(0)
    volume.upload(stream, 0, size, 0)
    stream.sendAll(lambda _, count, source: source.read(count), file)
    stream.finish()
