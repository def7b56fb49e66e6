"""How Jinja renders templates: where they are, the filters that quote, and what is kept of them compiled."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

from ovnlab.shipped import TEMPLATES, VAGRANTFILE


def _sh(value: object) -> str:
    """A value as one word of a shell script, or a list of values as several."""
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return shlex.quote(str(value))


def _rb(value: object) -> str:
    """A value as a string of Ruby, in which nothing is special.

    >>> print(_rb("it's #{here}"))
    'it\\'s #{here}'
    """
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Templates as Python has compiled them, beside the templates: where it keeps modules, and if it does."""

    def __init__(self) -> None:
        super().__init__(str(TEMPLATES / "__pycache__"))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep one. Nothing is lost where that cannot be done."""
        with contextlib.suppress(OSError):
            if not sys.dont_write_bytecode:
                Path(self.directory).mkdir(exist_ok=True)
                super().dump_bytecode(bucket)


@functools.cache
def environment() -> jinja2.Environment:
    """Where templates are found, and what they may use."""
    found = jinja2.Environment(  # noqa: S701  shell scripts, quoted by the filter; there is no HTML
        loader=jinja2.FileSystemLoader([TEMPLATES, VAGRANTFILE.parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_Compiled(),
    )
    found.filters["sh"] = _sh
    found.filters["rb"] = _rb
    return found
