"""Templates: what ovnlab makes of them without Jinja is what Jinja makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2.filters import FILTERS

from ovnlab import templating
from ovnlab.cli.progress import NoProgress
from ovnlab.errors import OvnlabError
from ovnlab.lab.lab import Lab
from ovnlab.shipped import TEMPLATES, TOPOLOGIES, VAGRANTFILE
from ovnlab.templating import compiler, quoting, runtime
from ovnlab.templating.runtime import Environment, TemplateContext
from ovnlab.topology.load import load

EVERYTHING = Path(__file__).with_name("everything.yaml")
NAMES = [*(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")), VAGRANTFILE.name]


@pytest.fixture(scope="module")
def reference() -> jinja2.Environment:
    """Jinja as it is, with the filters that quote."""
    found = jinja2.Environment(  # noqa: S701  what is compared quotes by itself
        loader=jinja2.FileSystemLoader([TEMPLATES, VAGRANTFILE.parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters = {**FILTERS, **quoting.FILTERS}
    return found


class Reference:
    """A template as Jinja renders it."""

    new_context = dict

    def __init__(self, template: jinja2.Template) -> None:
        self.template = template

    def root_render_func(self, values: dict[str, Any]) -> str:
        return self.template.render(values)


@pytest.mark.parametrize("path", [*sorted(TOPOLOGIES.glob("*.yaml")), EVERYTHING], ids=lambda path: path.stem)
@pytest.mark.parametrize("provider", ["local", "vagrant"])
def test_scripts_are_what_jinja_renders(
    path: Path, provider: str, reference: jinja2.Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["links={}"] if path == EVERYTHING and provider != "local" else []  # only local labs have them
    topology = load(str(path), settings=settings, provider=provider).topology
    ours = Lab("compared", NoProgress()).render(topology)

    monkeypatch.setattr(templating.ENVIRONMENT, "get_template", lambda name: Reference(reference.get_template(name)))
    assert Lab("compared", NoProgress()).render(topology) == ours


@pytest.mark.parametrize("name", NAMES)
def test_every_template_compiles(name: str) -> None:
    assert "def root(" in compiler.compiled(name, templating.source_of(name).read_text())


@pytest.mark.parametrize(
    ("name", "values", "words", "of"),
    [
        ("map", [[1], [2, 3]], ("length",), {}),
        ("map", [{"a": 1}, {"a": 2}], (), {"attribute": "a"}),
        ("sum", [1, 2], (), {}),
        ("sum", [{"a": 1}, {"a": 2}], ("a",), {}),
    ],
)
def test_filters_of_lists_take_what_those_of_jinja_take(
    name: str, values: list[Any], words: tuple[str, ...], of: dict[str, str]
) -> None:
    environment = jinja2.Environment()  # noqa: S701  there is no HTML
    theirs, ours = FILTERS[name], runtime.FILTERS[name]
    meant = theirs(environment.from_string("").new_context(), values, *words, **of) if name == "map" else None
    expected = list(meant) if meant is not None else theirs(environment, values, *words, **of)
    found = ours(None, values, *words, **of)
    assert (list(found) if name == "map" else found) == expected


def test_a_filter_that_is_not_there_is_refused_when_a_template_is_compiled() -> None:
    with pytest.raises(jinja2.TemplateAssertionError, match="wordwrap"):
        compiler.compiled("x", "{{ value | wordwrap }}")


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(OvnlabError, match="nodes"):
        templating.render("node/hosts.j2")


def test_what_was_compiled_is_kept_and_made_anew_where_the_template_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr(templating, "TEMPLATES", tmp_path)

    def render() -> str:
        template = Environment(templating._code).get_template("x.j2")
        return "".join(template.root_render_func(TemplateContext({"name": "worker1"})))

    (tmp_path / "x.j2").write_text("hello {{ name }}")
    assert render() == "hello worker1"
    (kept,) = (tmp_path / "__pycache__").iterdir()
    assert render() == "hello worker1"
    (tmp_path / "x.j2").write_text("goodbye {{ name | sh }}")
    assert render() == "goodbye worker1"
    for damage in (b"", kept.read_bytes()[:-20], b"x" * 5000):
        kept.write_bytes(damage)
        assert render() == "goodbye worker1"


def test_what_is_compiled_is_rendered_without_jinja() -> None:
    code = (
        "import sys; from ovnlab.templating import render; "
        "print(render('node/hosts.j2', nodes=[('192.168.50.100', 'worker1')])); print('jinja2' in sys.modules)"
    )
    for _ in range(2):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}).stdout
    assert shown.endswith("192.168.50.100 worker1\n\nFalse\n")
