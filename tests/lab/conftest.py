"""Labs for tests: as root where the tests are run by root, and as an ordinary user always."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.harness import MADE, USERS_HOME, Account, Labs, checkout, interfaces
from tests.lab.shared import Share, sharing

ORDINARY = os.environ.get("OVNLAB_TEST_USER", "nobody")


@pytest.fixture(scope="session")
def make_lab() -> tuple[Account, subprocess.CompletedProcess[str]]:
    """An ordinary user, and what `make lab` in its fresh checkout came to.

    Nothing of what root has is used: the user makes its own virtual environment, and downloads its own packages. The
    first worker that asks has it done for all.
    """
    folder = Path(os.environ[USERS_HOME])
    result = folder / MADE
    home = folder / "home"
    name = ORDINARY if os.geteuid() == 0 else ""
    account = Account(name, str(home / "clone/.venv/bin/python"), home)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            done = _make_lab(account)
            result.write_text(json.dumps({"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}))
    return account, subprocess.CompletedProcess("make lab", **json.loads(result.read_text()))


def _make_lab(account: Account) -> subprocess.CompletedProcess[str]:
    clone = account.home / "clone"
    if clone.exists():  # its environment is kept, and nothing else
        for path in clone.iterdir():
            if path.name != ".venv":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    clone.mkdir(parents=True, exist_ok=True)
    checkout(clone)
    if account.name:
        subprocess.run(["chown", "-R", f"{account.name}:", str(account.home)], check=True)
    environment = {
        **account.environment(account.home / "state"),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    result = subprocess.run(
        [*account.prefix, "make", "-C", str(clone), "lab"],
        env=environment, capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip
    subprocess.run([*account.prefix, str(clone / ".venv/bin/ovnlab"), "down"], env=environment, check=False)
    return result


@pytest.fixture(scope="session")
def ordinary(make_lab: tuple[Account, subprocess.CompletedProcess[str]]) -> Account:
    account, result = make_lab
    assert result.returncode == 0, f"make lab: {result.stdout}\n{result.stderr}"
    return account


@pytest.fixture(params=["ordinary", pytest.param("root", marks=pytest.mark.thorough)])
def account(request: pytest.FixtureRequest) -> Account:
    found: Account = request.getfixturevalue(request.param)
    return found


def labs_in(account: Account, folder: Path) -> Iterator[Labs]:
    network = interfaces()
    folder.mkdir(mode=0o755)
    (folder / "scratch").mkdir()
    if account.name:
        subprocess.run(["chown", "-R", f"{account.name}:", str(folder)], check=True)
    labs = Labs(account, folder / "state", folder / "scratch")
    try:
        yield labs
    finally:
        labs.extra_environment.clear()
        labs.run("down", "--all")
        left = labs.audit()
        shutil.rmtree(folder)
    assert not left, f"left behind: {left}"
    assert interfaces() == network, "the machine's own network is another one than before"


@pytest.fixture(scope="module")
def share(session_folder: Path) -> Iterator[Share]:
    """Labs that the tests of a module share; nothing of them may be left at its end."""
    yield from sharing(contextlib.contextmanager(labs_in), session_folder)


@pytest.fixture
def labs(account: Account, session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Labs]:
    """The command line as an ordinary user, and in `make test-all` as root too; nothing of its labs may be left."""
    yield from labs_in(account, session_folder / f"test-{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def user_labs(ordinary: Account, session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Labs]:
    """The command line as an ordinary user, for what does not depend on who it is."""
    yield from labs_in(ordinary, session_folder / f"test-{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def root_labs(root: Account, session_folder: Path, request: pytest.FixtureRequest) -> Iterator[Labs]:
    """The command line as root."""
    yield from labs_in(root, session_folder / f"test-{abs(hash(request.node.nodeid)):x}")
