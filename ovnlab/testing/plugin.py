"""The pytest plugin: OVN labs as fixtures.

    @pytest.mark.topology("topologies/3node.yaml")
    def test_ping(lab, vm):
        lab.bind({"vm1": "worker1", "vm2": "worker2"})
        assert vm("vm1").run("ping -c1 192.168.0.12").succeeded

A lab comes up when a test asks for it, about a second on the local provider, and goes when its scope ends. Each has a
name of its own, so that processes of pytest-xdist do not disturb one another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

    from ovnlab.lab.lab import Lab
    from ovnlab.testing.lab_fixtures import LabUnderTest, Naming, TestedLab

SCOPES = ("function", "module", "session")

KEPT = "ovnlab_kept"
"""The property of a report that names the lab that was left up."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("ovnlab", "OVN labs")
    group.addoption(
        "--ovnlab",
        metavar="FILE|LAB",
        help="Run tests in a lab of this topology, or in this one that is up; instead of what they are marked with.",
    )
    group.addoption("--ovnlab-provider", metavar="P", help="Where labs are made: local, libvirt, vagrant or ssh.")
    group.addoption(
        "--ovnlab-set", metavar="KEY=VALUE", action="append", default=[], help="Another value for each topology."
    )
    group.addoption(
        "--ovnlab-keep", action="store_true", help="Leave the labs of failed tests up, and say how to get into them."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the mark, and tell testinfra of `ovnlab://`."""
    config.addinivalue_line(
        "markers",
        "topology(file, scope='function', settings=()): the topology that a test's lab is brought up from; "
        "scope is function, module or session.",
    )
    with contextlib.suppress(ImportError):  # the fixtures `node` and `vm` say what is missing
        from testinfra import backend  # noqa: PLC0415  only there with the extra

        backend.BACKENDS["ovnlab"] = "ovnlab.testing.backend.OvnlabBackend"
    config.stash[_LABS] = Labs(config)


class Labs:
    """The labs of one test process, by what they are for."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._naming: Naming | None = None
        self._brought: dict[tuple[str, ...], LabUnderTest] = {}

    def of(self, item: pytest.Item) -> LabUnderTest:
        """Return the lab that a test is marked with, or that the command line names."""
        from ovnlab.errors import OvnlabError  # noqa: PLC0415  runs that use no lab load nothing of this
        from ovnlab.testing import lab_fixtures  # noqa: PLC0415

        wished = self.config.getoption("--ovnlab")
        mark = item.get_closest_marker("topology")
        file, scope, settings = _marked(item, mark)
        if wished:
            if (found := lab_fixtures.running(wished)) is not None:
                return lab_fixtures.LabUnderTest(found, own=False, since=lab_fixtures.now())
            file, scope = wished, scope if mark else "session"
        if not file:
            pytest.fail(
                f"{item.nodeid} uses a lab: mark it with @pytest.mark.topology(FILE), or run pytest with --ovnlab FILE",
                pytrace=False,
            )
        settings = (*settings, *self.config.getoption("--ovnlab-set"))
        why = ""
        try:
            path = lab_fixtures.topology_file(file, item.path, self.config.rootpath)
            return self._brought_for(_owner(item, scope), path, settings)
        except OvnlabError as error:
            why = lab_fixtures.report_of(error)
        pytest.fail(f"no lab of {file}: {why}", pytrace=False)

    def _brought_for(self, owner: pytest.Item | pytest.Collector, path: str, settings: Sequence[str]) -> LabUnderTest:
        """Return the lab of a file that lives as long as `owner`, brought up where it is not there yet."""
        from ovnlab.testing import lab_fixtures  # noqa: PLC0415  as above

        key = (path, *settings, owner.nodeid)
        if key not in self._brought:
            _interrupt_at_sigterm()
            self._naming = self._naming or lab_fixtures.Naming(os.environ.get("PYTEST_XDIST_WORKER", ""))
            provider = self.config.getoption("--ovnlab-provider")
            self._brought[key] = lab_fixtures.bring_up(path, self._naming.name(path), settings, provider)
            owner.addfinalizer(lambda: self._brought.pop(key).remove())
        return self._brought[key]


_LABS = pytest.StashKey[Labs]()
_BROUGHT = pytest.StashKey[tuple["LabUnderTest", pytest.TempPathFactory]]()


def _marked(item: pytest.Item, mark: pytest.Mark | None) -> tuple[str, str, tuple[str, ...]]:
    """Return file, scope and settings of a test's mark."""
    if mark is None:
        return "", "function", ()
    allowed = {"scope", "settings"}
    scope = mark.kwargs.get("scope", "function")
    settings = mark.kwargs.get("settings", ())
    if len(mark.args) != 1 or set(mark.kwargs) - allowed or scope not in SCOPES or isinstance(settings, str):
        pytest.fail(
            f"{item.nodeid}: @pytest.mark.topology(FILE, scope={' | '.join(SCOPES)}, settings=[KEY=VALUE])",
            pytrace=False,
        )
    return str(mark.args[0]), scope, tuple(settings)


def _interrupt_at_sigterm() -> None:
    """Treat SIGTERM, which CI sends to what it cancels, as Ctrl-C, so that labs are removed."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


def _owner(item: pytest.Item, scope: str) -> pytest.Item | pytest.Collector:
    """Return what a lab lives as long as."""
    if scope == "session":
        return item.session
    if scope == "module":
        return item.getparent(pytest.Module) or item.session
    return item


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TestedLab:
    """Provide the lab that the test is marked with: `lab.name`, `lab.topology`, `lab.bind({"vm1": "worker1"})`, ..."""
    item: pytest.Item = request.node
    brought = request.config.stash[_LABS].of(item)
    item.stash[_BROUGHT] = brought, tmp_path_factory
    return brought.lab


def _hosts(lab: Lab) -> Callable[[str], Host]:
    try:
        from ovnlab.testing.backend import host  # noqa: PLC0415  only there with the extra
    except ImportError as error:
        pytest.fail(f"{error.name} is not installed: pip install 'ovnlab[test]'", pytrace=False)
    return lambda name: host(lab, name)


@pytest.fixture
def node(lab: Lab) -> Callable[[str], Host]:
    """Provide nodes as testinfra hosts: `node("worker1").service("ovn-controller").is_running`."""
    return _hosts(lab)


@pytest.fixture
def vm(lab: Lab) -> Callable[[str], Host]:
    """Provide fake VMs as testinfra hosts: `vm("vm1").run("ping -c1 192.168.0.12").succeeded`."""
    return _hosts(lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put into the report of a test that failed what its lab is like; keep the lab where that was asked for."""
    report = yield
    brought, factory = item.stash.get(_BROUGHT, (None, None))
    if brought and factory and report.failed and (call.when != "teardown" or brought.lab.provider.is_up()):
        report.sections += list(_about(brought, factory))
        if item.config.getoption("--ovnlab-keep"):
            brought.kept = True
            report.user_properties.append((KEPT, brought.lab.name))
    return report


def _about(brought: LabUnderTest, factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Yield titles and texts about a lab; what cannot be had of a broken one is said, and keeps nothing else back."""
    from ovnlab.errors import OvnlabError  # noqa: PLC0415  loaded already
    from ovnlab.testing import lab_fixtures  # noqa: PLC0415

    lab = brought.lab
    for title, tell in (
        ("ovnlab status", lab_fixtures.described),
        ("ovnlab logs", lambda lab: lab_fixtures.logs(lab, brought.since)),
        ("ovnlab bundle", lambda lab: str(lab_fixtures.put_into_bundle(lab, factory.mktemp("ovnlab")))),
    ):
        try:
            yield title, tell(lab)
        except (OvnlabError, OSError) as error:
            yield title, f"cannot be had: {error}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to get into the labs that were kept."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    names = dict.fromkeys(
        str(value) for report in reports for key, value in getattr(report, "user_properties", ()) if key == KEPT
    )
    if names:
        terminalreporter.section("labs that were kept")
        for name in names:
            terminalreporter.line(f"ovnlab status -l {name}; ovnlab shell -l {name} NODE; ovnlab down {name}")
