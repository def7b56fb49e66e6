"""Renders what stands in templates/. Every value that gets into a shell script goes through one filter."""

from __future__ import annotations

import functools
import shlex

import jinja2

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


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701  shell scripts, quoted by the filter; there is no HTML
        loader=jinja2.FileSystemLoader([TEMPLATES, VAGRANTFILE.parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
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
