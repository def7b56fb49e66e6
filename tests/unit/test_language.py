"""The language of the code: technical English, one term for one thing, and names that occur once."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ovnlab"
TREES = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}

NOT_IMPERATIVE = frozenset(
    [
        "A",
        "All",
        "An",
        "Each",
        "Every",
        "For",
        "How",
        "It",
        "Its",
        "Nothing",
        "Of",
        "One",
        "Something",
        "That",
        "The",
        "These",
        "This",
        "Those",
        "Two",
        "What",
        "Whatever",
        "When",
        "Where",
        "Whether",
        "Which",
        "Who",
        "Whoever",
        "Whom",
        "Whose",
        "Why",
    ]
)
"""Words that no docstring of a function begins with."""

NOT_A_NOUN = frozenset(
    [
        "Adds",
        "All",
        "Asks",
        "Brings",
        "Collects",
        "Compiles",
        "Counts",
        "Decides",
        "Draws",
        "Finds",
        "For",
        "Heals",
        "How",
        "Is",
        "It",
        "Keeps",
        "Lays",
        "Lets",
        "Looks",
        "Makes",
        "Nothing",
        "Of",
        "One",
        "Puts",
        "Renders",
        "Runs",
        "Something",
        "Takes",
        "Tells",
        "That",
        "What",
        "Whatever",
        "When",
        "Where",
        "Whether",
        "Which",
        "Who",
        "Why",
        "Writes",
    ]
)
"""Words that no docstring of a module or class begins with: it says what the thing is."""

ENDS_IN_S = frozenset(("Pass", "Process", "Press", "Express"))
"""Imperatives that look like a plural, or like a verb in the third person."""

KINDS = ("insight/causes", "faults", "traffic", "topology/objects")
"""Packages whose modules are read together with the name of the package, such as causes of kind `daemons`."""

SPECS = ("topology/model.py", "topology/grammar.py", "topology/objects")
"""The grammar of a file: a part of it has the name of what it becomes."""

FORMS = {
    r"stands here twice": "duplicate ...",
    r"(?<!there )\bis no (?!longer\b|more\b|such\b|other\b|way\b|room\b|need\b|one\b)": "is not a ..., invalid ..., unknown ...",
    r"\bthere is (no )?(node|switch|router|port|lab|image|topology|table) ['\"]": "unknown ...",
    r"\bby (its|their|one's) own account\b": "as reported by ...",
    r"\brestarts what is of it\b": "restarts the affected daemons",
    r"\bof several places at once, by time\b": "from several interfaces, merged by timestamp",
}
"""Forms that messages and docstrings do not have, and what they have instead."""


def documented() -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef | ast.Module, str]]:
    """Yield each docstring: where it is, what it is of, and its text."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and (text := ast.get_docstring(node)):
                yield f"{path}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', '')}", node, text


def first_word(text: str) -> str:
    return text.split(maxsplit=1)[0].rstrip(",:.")


def is_imperative(text: str) -> bool:
    word = first_word(text)
    return (
        word[0].isupper()
        and word not in NOT_IMPERATIVE
        and (not word.endswith("s") or word.endswith("ss") or word in ENDS_IN_S)
    )


def test_docstrings_of_functions_begin_with_an_imperative() -> None:
    """PEP 257. The application itself says in its help what ovnlab is."""
    functions = [found for found in documented() if isinstance(found[1], ast.FunctionDef)]
    assert len(functions) > 1500
    wrong = [f"{at}: {text.splitlines()[0]}" for at, _, text in functions if not is_imperative(text)]
    assert [line for line in wrong if " app: A multi-node OVN lab" not in line] == []


def test_docstrings_of_modules_and_classes_say_what_they_are() -> None:
    others = [found for found in documented() if not isinstance(found[1], ast.FunctionDef)]
    assert len(others) > 500
    assert [f"{at}: {text.splitlines()[0]}" for at, _, text in others if first_word(text) in NOT_A_NOUN] == []


def names_that_occur_twice(named: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def of_kind(path: Path) -> str:
    return next((kind for kind in KINDS if path.as_posix().startswith(f"{kind}/")), "")


def test_no_two_modules_have_one_name() -> None:
    modules = ((f"{of_kind(path)} {path.stem}", str(path)) for path in TREES if not path.stem.startswith("__"))
    assert names_that_occur_twice(modules) == {}


def test_no_two_public_classes_have_one_name() -> None:
    classes = (
        (node.name, str(path))
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not path.as_posix().startswith(SPECS)
    )
    assert names_that_occur_twice(classes) == {}


@pytest.mark.parametrize("form", FORMS)
def test_messages_and_docstrings_are_said_plainly(form: str) -> None:
    texts = (
        (f"{path}:{node.lineno}", node.value)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert [f"{at}: {text}" for at, text in texts if re.search(form, text)] == [], f"say {FORMS[form]!r}"


def test_what_breaks_these_rules_is_found() -> None:
    for text in ("What a node is.", "Whether it runs.", "Starts a daemon.", "The name of it.", "`text` in colour."):
        assert not is_imperative(text)
    for text in ("Return what a node is.", "Address a packet.", "Pass it on.", "Raise OvnlabError."):
        assert is_imperative(text)
    assert names_that_occur_twice(iter([("a", "x"), ("a", "y"), ("b", "z")])) == {"a": ["x", "y"]}
