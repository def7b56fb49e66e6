"""Renders what stands in templates/. Every value that gets into a shell script goes through one filter."""

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
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701  shell scripts, quoted by the filter; there is no HTML
        loader=jinja2.FileSystemLoader([TEMPLATES, VAGRANTFILE.parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_Compiled(),
    )
    environment.filters["sh"] = _sh
    environment.filters["rb"] = _rb
    return environment


def render(template: str, **values: object) -> str:
    """The text of a template, with values for its names.

    >>> "worker1" in render("node/hosts.j2", nodes=[("192.168.50.100", "worker1")])
    True
    """
    return _environment().get_template(template).render(**values)
