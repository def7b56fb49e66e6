"""A little of each run of tests/fuzz, and that each would notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ovnlab.templating import runtime
from tests.fuzz import runs, seeds
from tests.fuzz.shape import shape

MOST_SECONDS = 1.0
"""Of CPU for one input."""


@pytest.mark.parametrize(("kind", "count"), [("topologies", 300), ("captures", 200), ("bundles", 60), ("strings", 150)])
def test_damaged_input_is_refused_or_taken(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runs.run(kind, 0, 1, tmp_path)  # imports what it needs
    outcomes, longest, slowest = runs.run(kind, 0, count, tmp_path)
    assert sum(outcomes.values()) == count
    assert len(outcomes) == 2, f"nothing of {kind} is taken, or nothing refused: {outcomes}"
    assert longest < MOST_SECONDS, f"python -m tests.fuzz {kind} 1 --first {slowest}"


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("x.sh", "a 'b c'", "a b c"),
        ("x.sh", "a 'b'", 'a "$(b)"'),
        ("x.sh", "a 'b'", "a 'b';c"),
        ("x.sh", "a 'b'", "a 'b'\nc"),
        ("x.sh", 'a "b"', 'a "`b`"'),
        ("x.sh", "a b", "a b # c\nd"),
        ("x.sh", "cat <<'E'\na\nE\nb", "cat <<'E'\na\nE\nE\nb"),
        ("x.sh", "cat <<E\na\nE\n", "cat <<E\n$(a)\nE\n"),
        ("x.sh", 'a "$(b c)"', 'a "$(b c; d)"'),
        ("x.xml", "<a b='c'/>", "<a b='c' d='e'/>"),
        ("x.xml", "<a>b</a>", "<a>b<c/></a>"),
        ("user-data", "a: b", "a: b\nc: d"),
        ("ssh_config", 'User "a"', 'User "a"\n    ProxyCommand "b"'),
        ("Vagrantfile", "a = 'b'", "a = 'b' + `c`"),
    ],
)  # fmt: skip
def test_shapes_tell_a_value_from_what_it_must_not_be(name: str, one: str, other: str) -> None:
    assert shape(name, one) != shape(name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [("x.sh", "a b", "a 'b'\"'\"'$(c)'"), ("x.sh", "a 'x'", "a 'b;c`d`'"), ("x.xml", "<a>b</a>", "<a>&lt;b/></a>"),
     ("Vagrantfile", "a = 'b'", "a = 'c\\'d'"), ("ssh_config", 'User "a"', 'User "b c"')],
)  # fmt: skip
def test_values_have_one_shape(name: str, one: str, other: str) -> None:
    assert shape(name, one) == shape(name, other)


@pytest.mark.parametrize(("name", "provider", "where"), [
    ("sh", "local", ("logical", "switches", "n1", "other_config", "a")),
    ("rb", "vagrant", ("libvirt", "pool")),
    ("xml", "libvirt", ("libvirt", "pool")),
])  # fmt: skip
def test_a_filter_that_does_not_quote_is_found(
    name: str, provider: str, where: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, Any]", runtime.FILTERS), name, str)
    text = seeds.MACHINES.replace(b"subnet: 192.168.0.0/24,", b"subnet: 192.168.0.0/24, other_config: {a: b},")
    found = []
    for string in ("a';touch MARK;'", "a$(touch MARK)", '"/><evil/>', "' + `touch MARK` + '"):
        rendered = runs._rendered.__wrapped__(text, provider, where, string)
        harmless = runs._rendered.__wrapped__(text, provider, where, "a")
        assert harmless is not None
        if rendered is None:
            continue
        for (title, one), (_, other) in zip(rendered, harmless, strict=True):
            try:
                found.append(shape(title, one) != shape(title, other))
            except ValueError:
                found.append(True)
    assert any(found)
