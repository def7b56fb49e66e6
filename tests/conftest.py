"""What tests of labs on this machine and of labs of virtual machines share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.lab.harness import MADE, SERVERS, USERS_HOME, Account, Labs, this_python

# Where tests are started in the background, a shell has them ignore SIGINT, and so would every lab that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is for the machine to say. `make test-all` has Hypothesis look for all that it looks for.
hypothesis.settings.register_profile("each-change", deadline=None, max_examples=50)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "each-change"))


MACHINES = "tests/vm/"
BUILDING = ("tests/lab/test_building.py", "tests/lab/test_source.py", "tests/lab/test_documentation.py")
"""What compiles OVS or trees like it, with one cache of an ordinary user's; the documentation shows how it is done."""

LONGEST = (
    "tests/vm/test_libvirt.py",
    "tests/vm/test_vagrant.py",
    "tests/vm/test_everywhere.py",
    "tests/vm/test_ssh.py",
    *BUILDING,
)
"""What takes longest is begun first, so that no worker is left alone with it at the end.

Machines that are of use to several files are made for the last of them: an emulated one takes a tenth of a processor
while it does nothing.
"""


def scope_of(nodeid: str) -> str:
    """Return what one worker runs all of: a file, all that needs the hypervisor, or all that compiles."""
    file = nodeid.split("::", maxsplit=1)[0]
    return MACHINES if file.startswith(MACHINES) else BUILDING[0] if file in BUILDING else file


ROOTS_HOME = "OVNLAB_TESTS_ROOTS_HOME"


OWN_HOMES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make homes that all workers use: what one of them downloads or builds the others have."""
    if not hasattr(config, "workerinput"):
        os.environ[ROOTS_HOME] = tempfile.mkdtemp(prefix="ovnlab-tests-root-", dir="/var/tmp")
        config.stash[OWN_HOMES] = [ROOTS_HOME]
        if USERS_HOME not in os.environ:  # whoever sets it keeps it, which saves half a minute each time
            os.environ[USERS_HOME] = tempfile.mkdtemp(prefix="ovnlab-tests-user-", dir="/var/tmp")
            Path(os.environ[USERS_HOME]).chmod(0o755)
            config.stash[OWN_HOMES].append(USERS_HOME)
        (Path(os.environ[USERS_HOME]) / MADE).unlink(missing_ok=True)


def pytest_sessionfinish() -> None:
    SERVERS.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove them."""
    if not hasattr(config, "workerinput"):
        for home in config.stash[OWN_HOMES]:
            shutil.rmtree(os.environ.pop(home))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415  this hook is called where there is xdist

    class ByScope(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist is typed in part
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ByScope(config, log)


@pytest.hookimpl(tryfirst=True)  # marks are what tests are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith((MACHINES, *BUILDING)):
            item.add_marker(pytest.mark.machines)
        if item.nodeid.startswith(MACHINES):
            item.add_marker(pytest.mark.timeout(1200))  # another worker may need the processors that are emulated
    items.sort(key=lambda item: next((at for at, long in enumerate(LONGEST) if item.nodeid.startswith(long)), 9))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that other users can get into: pytest's own is private."""
    folder = Path(f"/var/tmp/ovnlab-tests-{os.getpid()}")
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def root() -> Account:
    if os.geteuid() != 0:
        pytest.skip("only root can run labs as root")
    return Account("", this_python(), Path(os.environ[ROOTS_HOME]))


@pytest.fixture(scope="session")
def built(root: Account, session_folder: Path) -> Path:
    """root's cache, with OVS of the distribution's source built in it."""
    labs = Labs(root, session_folder / "built-state", session_folder)
    labs.run("build", "3node-distro-source")
    return Path(labs.environment["XDG_CACHE_HOME"]) / "ovnlab"
