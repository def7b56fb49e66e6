"""The shape of rendered files: what stays the same whatever the values in it are, as long as each stays a value.

A value that is quoted wrongly becomes a word, a substitution, an element or a key of its own: another shape.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from ruamel.yaml import YAML

Shape = Any


def shape(title: str, text: str) -> Shape:
    """Return the shape of a file by its title. Raise ValueError for one that is not well-formed."""
    kind = title.rpartition("/")[2]
    for ending, found in KINDS.items():
        if kind.endswith(ending):
            return found(text)
    raise AssertionError(f"no shape for {title}")


class _Shell:
    """Splits a shell script as sh does: words, operators, comments, substitutions, here-documents."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.pending: list[tuple[str, bool]] = []

    def parse(self, until: str = "") -> list[Any]:
        """Return the shape up to a closing character, or the end."""
        found: list[Any] = []
        word: list[Any] | None = None

        def end_word() -> None:
            nonlocal word
            if word is not None:
                found.append(tuple(word) or "W")
            word = None

        while self.at < len(self.text):
            character = self.text[self.at]
            if character == until and (until != ")" or not _in_case(found)):
                end_word()
                self.at += 1
                return found
            if character in " \t\n;&|<>()#":
                if character == "#" and word is not None:
                    self.at += 1
                    continue
                if character == "<" and self.text.startswith("<<", self.at):
                    self.here_document()
                end_word()
                if character == "#":
                    self.at = self.line_end()
                    continue
                self.at += 1
                if character == "\n":
                    self.skip_documents(found)
                if character not in " \t":
                    found.append(character)
                continue
            word = word if word is not None else []
            word += self.piece(character)
        end_word()
        if until:
            raise ValueError(f"unfinished {until}")
        return found

    def piece(self, character: str) -> list[Any]:
        """Return what runs in one piece of a word: the substitutions in it."""
        self.at += 1
        if character == "\\":
            self.at += 1
        elif character == "'":
            self.at = self.find("'")
        elif character == '"':
            return self.double_quoted()
        elif character == "`":
            self.at = self.find("`")
            return ["`"]
        elif character == "$":
            return self.dollar()
        elif character in "{}!":
            return [character]
        return []

    def dollar(self) -> list[Any]:
        """Return a substitution."""
        if self.text.startswith("((", self.at):
            self.at = self.find("))", 2) + 1 - 1
            return ["$(("]
        if self.text.startswith("(", self.at):
            self.at += 1
            return ["$(", self.parse(")")]
        if self.text.startswith("{", self.at):
            return ["${", *self.braced()]
        return ["$"]

    def braced(self) -> list[Any]:
        """Return what runs inside of ${…}."""
        found: list[Any] = []
        self.at += 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "}":
                self.at += 1
                return found
            found += self.piece(character)
        raise ValueError("unfinished ${")

    def double_quoted(self) -> list[Any]:
        """Return what runs inside of double quotes."""
        found: list[Any] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == '"':
                return found
            if character == "\\":
                self.at += 1
            elif character == "`":
                self.at = self.find("`")
                found.append("`")
            elif character == "$":
                found += self.dollar()
        raise ValueError('unfinished "')

    def here_document(self) -> None:
        """Note a here-document whose lines follow this one."""
        if match := re.compile(r"<<-?\s*(['\"\\]?)(\w+)").match(self.text, self.at):
            self.pending.append((match[2], bool(match[1])))

    def skip_documents(self, found: list[Any]) -> None:
        """Go past the here-documents of a line, with what runs in them."""
        for ending, quoted in self.pending:
            while True:
                if self.at >= len(self.text):
                    raise ValueError(f"unfinished here-document {ending}")
                stop = self.line_end()
                line = self.text[self.at : stop]
                self.at = stop + 1
                if line.strip("\t") == ending:
                    break
                found.append("L" if quoted else ("L", re.findall(r"(?<!\\)(\$\(|`|\$\{)", line)))
        self.pending = []

    def line_end(self) -> int:
        """Return where the line ends."""
        stop = self.text.find("\n", self.at)
        return len(self.text) if stop < 0 else stop

    def find(self, ending: str, skip: int = 0) -> int:
        """Return the place behind an ending. Raise ValueError where there is none."""
        stop = self.text.find(ending, self.at + skip)
        if stop < 0:
            raise ValueError(f"unfinished {ending}")
        return stop + len(ending)


def _in_case(found: list[Any]) -> bool:
    del found
    return False


def shell(text: str) -> Shape:
    """Return the shape of a shell script."""
    return _Shell(text).parse()


def xml(text: str) -> Shape:
    """Return elements with the names of their attributes."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  rendered here
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None

    def of(element: ElementTree.Element) -> Shape:
        return (element.tag, sorted(element.attrib), [of(child) for child in element])

    return of(root)


def yaml(text: str) -> Shape:
    """Return mappings with their keys, lists with their lengths."""

    def of(value: object) -> Shape:
        if isinstance(value, dict):
            return {key: of(inner) for key, inner in value.items()}
        return [of(inner) for inner in value] if isinstance(value, list) else type(value).__name__

    try:
        return of(YAML(typ="safe", pure=True).load(io.StringIO(text)))
    except Exception as error:  # noqa: BLE001  the library has many
        raise ValueError(str(error)) from None


def ruby(text: str) -> Shape:
    """Return what is outside of single-quoted strings; double-quoted ones are the template's own."""
    return re.sub(r"'(?:[^'\\]|\\.)*'", "S", text, flags=re.DOTALL)


def lines(text: str) -> Shape:
    """Return the first word of each line, and how many words follow; what is in double quotes is one."""
    return [
        (re.sub(r"\".*?\"", "Q", line).split()[:1], len(re.sub(r"\"[^\"]*\"", "Q", line).split()))
        for line in text.splitlines()
    ]


def picture(text: str) -> Shape:
    """Return the kinds of elements in a picture: how many there are depends on what is in it."""

    def tags(shaped: Shape) -> set[str]:
        return {shaped[0], *shaped[1], *(tag for child in shaped[2] for tag in tags(child))}

    return tags(xml(text)) & {"script", "foreignObject", "a", "image", "use", "href", "onload", "onclick"}


KINDS: Mapping[str, Callable[[str], Shape]] = {
    ".sh": shell,
    ".svg": picture,
    ".xml": xml,
    "user-data": yaml,
    "network-config": yaml,
    "meta-data": yaml,
    "Vagrantfile": ruby,
    "ssh_config": lines,
    "known_hosts": lines,
    "inventory": lines,
    "hosts": lines,
}
