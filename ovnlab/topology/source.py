"""YAML text as plain data, with the line and column of every key and value."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ovnlab.errors import Problem, TopologyError

MAX_VALUES = 200_000
"""Values in a file: some 20,000 ports with everything that they can have."""

MAX_REPEATED = 50_000
"""Values that stand in a file by its aliases: more is a mistake or an attack (the 'billion laughs')."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character beyond 16 bits, which an escape of YAML can write and UTF-8 cannot."""

HALF = "invalid text: expected characters, found half of a surrogate pair"

Key = str | int
Where = tuple[Key, ...]


@dataclass(frozen=True)
class Source:
    """The data of a file, and where its parts stand. Lines and columns count from 1."""

    path: str
    data: dict[object, object]
    keys: dict[Where, tuple[int, int]]
    values: dict[Where, tuple[int, int]]
    mistakes: tuple[Problem, ...] = ()
    options: dict[Where, str] = field(default_factory=dict)
    """Places whose value comes from the command line, and the option that it comes from."""

    def mistake(self, where: Where, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """Return a mistake at a place: where its value stands, or its key."""
        line, column = self.key(where) if at_key else self.value(where)
        return Problem(line, column, message, hint, self.option(where))

    def option(self, where: Where) -> str:
        """Return the option of the command line that a value comes from, empty for the file."""
        return next((text for start, text in self.options.items() if where[: len(start)] == start), "")

    def key(self, where: Where) -> tuple[int, int]:
        """Return where the key of an entry stands, or what is nearest to it."""
        return self.keys.get(where) or self.value(where)

    def value(self, where: Where) -> tuple[int, int]:
        """Return where a value stands, or what is nearest to it: the entry that it should be in."""
        for length in range(len(where), -1, -1):
            if found := self.values.get(where[:length]):
                return found
        return (1, 1)


def parse(path: str, content: bytes) -> Source:
    """Parse YAML 1.2. Duplicate keys are collected as mistakes; what is not a YAML raises TopologyError."""
    text = _decode(path, content)
    try:
        return _parse(path, text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = " ".join(str(error.problem or error.context).split())
        raise TopologyError(path, [Problem(line, column, f"not valid YAML: {problem}")]) from None
    except RecursionError:
        raise TopologyError(path, [Problem(1, 1, "is nested too deeply")]) from None
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        # The YAML library lets these through for odd scalars, such as an impossible date.
        raise TopologyError(path, [Problem(1, 1, f"not valid YAML: {' '.join(str(error).split())}")]) from None


def parse_value(option: str, text: str) -> object:
    """Parse a value as it would be written after a key. Raises TopologyError, in the name of the option."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            value: object = YAML(typ="safe", pure=True).load(text)
        json.dumps(value, ensure_ascii=False, default=str).encode()  # has no halves of characters, and an end
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError):
        raise TopologyError(option, [Problem(0, 0, f"{text!r} is not valid YAML")]) from None
    return text if value is None and text not in ("null", "~") else value


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        mistake = Problem(line, column, f"not UTF-8 text (byte 0x{content[error.start]:02x})")
        raise TopologyError(path, [mistake]) from None


def _parse(path: str, text: str) -> Source:
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # valid (YAML 1.2, 7.1): the last one counts
        _count_values(yaml.composer)
        root = yaml.compose(text)
    if root is None or (isinstance(root, ScalarNode) and not root.value):
        raise TopologyError(path, [Problem(0, 0, "is empty", "a topology needs at least `nodes:`")])
    if not isinstance(root, MappingNode):
        message = "must be a mapping with keys such as nodes and logical"
        raise TopologyError(path, [Problem(*_mark(root), message)])
    index = _Index()
    index.walk(root, (), frozenset())
    if index.fatal:
        raise TopologyError(path, index.mistakes)
    data = yaml.constructor.construct_document(root)
    return Source(path, data, index.keys, index.values, tuple(index.mistakes))


def _count_values(composer: Composer) -> None:
    """Let a composer refuse what has more than MAX_VALUES values while it composes: each takes a kilobyte."""
    compose_node, left = composer.compose_node, iter(range(MAX_VALUES))

    def counted(parent: Node | None, index: object) -> Node:
        if next(left, None) is None:
            mark = composer.parser.peek_event().start_mark
            raise ComposerError(None, None, f"has more than {MAX_VALUES} values", mark)
        node: Node = compose_node(parent, index)
        return node

    composer.compose_node = counted  # type: ignore[method-assign]  # of this composer alone


def _mark(node: Node) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


class _Index:
    """An index of positions, from a walk over the composed nodes."""

    def __init__(self) -> None:
        self.keys: dict[Where, tuple[int, int]] = {}
        self.values: dict[Where, tuple[int, int]] = {}
        self.mistakes: list[Problem] = []
        self.fatal = False
        self.seen: set[int] = set()
        self.repeated = 0

    def walk(self, node: Node, where: Where, above: frozenset[int]) -> None:
        self.repeated += id(node) in self.seen
        self.seen.add(id(node))
        if self.fatal:
            return
        if id(node) in above or self.repeated > MAX_REPEATED:
            problem = "refers to itself" if id(node) in above else "is too large once its aliases are expanded"
            self.mistakes.append(Problem(*_mark(node), problem))
            self.fatal = True
            return
        self.values[where] = _mark(node)
        if isinstance(node, ScalarNode) and _SURROGATE.search(node.value):
            self.mistakes.append(Problem(*_mark(node), HALF))
            self.fatal = True
        for key, key_mark, child in self._children(node):
            if isinstance(key, str) and _SURROGATE.search(key):
                self.mistakes.append(Problem(*(key_mark or _mark(node)), HALF))
                self.fatal = True
            if key_mark:
                self.keys[(*where, key)] = key_mark
            self.walk(child, (*where, key), above | {id(node)})

    def _children(self, node: Node) -> Iterator[tuple[Key, tuple[int, int] | None, Node]]:
        if isinstance(node, SequenceNode):
            for number, item in enumerate(node.value):
                yield number, None, item
        elif isinstance(node, MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                name = key.value if isinstance(key, ScalarNode) else "?"
                if name in seen and name not in ("<<", "?"):
                    message = f"duplicate {name!r}; the first is in line {seen[name]}"
                    self.mistakes.append(Problem(*_mark(key), message))
                seen.setdefault(name, _mark(key)[0])
                yield name, _mark(key), value
