"""The filters of templates that quote: each makes a value safe in one format."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from ovnlab.errors import OvnlabError
from ovnlab.scalars import device_elements, is_control


def _sh(value: object) -> str:
    """Return a value as one word of a shell script, or a list of values as several."""
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return shlex.quote(str(value))


def _rb(value: object) -> str:
    """Return a value as a string of Ruby, in which nothing is special.

    >>> print(_rb("it's #{here}"))
    'it\\'s #{here}'
    """
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _ssh(value: object) -> str:
    r"""Return a value as one argument of ssh_config(5), with the '%' that begins its tokens doubled.

    Raise OvnlabError for what no quoting of that format can hold.

    >>> print(_ssh("fe80::1%eth0"))
    "fe80::1%%eth0"
    """
    text = str(value)
    if any(is_control(character) or character in '"\\' for character in text) or "${" in text:
        expected = "text without control characters, double quotes, backslashes and '${'"
        raise OvnlabError(f"invalid value {text!r} for an SSH configuration: expected {expected}")
    return '"' + text.replace("%", "%%") + '"'


def _xml(value: object) -> str:
    """Return a value as text of an XML element or attribute. Raise OvnlabError for characters that XML does not have.

    >>> print(_xml('<a "b">'))
    &lt;a &quot;b&quot;&gt;
    """
    text = str(value)
    if found := next(filter(is_control, text), None):
        raise OvnlabError(f"invalid value {text!r} in XML: found the control character {found!a}")
    import html  # noqa: PLC0415  for labs of virtual machines

    return html.escape(text)


def _devices(value: str) -> str:
    """Return elements of a libvirt domain's devices as they are. Raise OvnlabError for what the file may not say."""
    try:
        return device_elements(value)
    except ValueError as error:
        raise OvnlabError(str(error)) from None


def _yaml(value: object) -> str:
    r"""Return a value in the flow style of YAML, which is JSON.

    >>> print(_yaml(["a: b", "\n# é"]))
    ["a: b", "\n# é"]
    """
    import json  # noqa: PLC0415  for labs of virtual machines

    return "".join(f"\\u{ord(c):04x}" if is_control(c) else c for c in json.dumps(value, ensure_ascii=False))


WORD = re.compile(r"[A-Za-z0-9._:/%@~+,=-]+")


def _word(value: object) -> str:
    """Return a value that is one word in any format. Raise OvnlabError for others: there is nothing to quote it by."""
    text = str(value)
    if not WORD.fullmatch(text):
        raise OvnlabError(f"invalid value {text!r} in a configuration file: expected a single word")
    return text


def _line(value: object) -> str:
    """Return a value as text in a comment. Raise OvnlabError for control characters: a line break would end it."""
    text = str(value)
    if any(map(is_control, text)):
        raise OvnlabError(f"invalid value {text!r} in a comment: expected text on one line")
    return text


def _heredoc(value: object) -> str:
    """Return a value as lines of a here-document. Raise OvnlabError where one of them would end it."""
    text = str(value)
    if any(line.strip() == "END" for line in text.splitlines()):
        raise OvnlabError("invalid text in a here-document: a line END would end it")
    return text


FILTERS: Mapping[str, Callable[..., str]] = {
    "sh": _sh,
    "rb": _rb,
    "ssh": _ssh,
    "xml": _xml,
    "devices": _devices,
    "yaml": _yaml,
    "word": _word,
    "line": _line,
    "heredoc": _heredoc,
}
"""The filters that quote, each for one format."""
