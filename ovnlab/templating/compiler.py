"""A compiler for templates: Jinja turns one into a Python function, which calls ovnlab.templating.runtime."""

from __future__ import annotations

import functools
import hashlib

import jinja2
from jinja2.filters import FILTERS as JINJAS

from ovnlab.templating.runtime import FILTERS

_CALLED = "from ovnlab.templating.runtime import LoopContext, Macro, Undefined, missing, str_join"


@functools.cache
def environment() -> jinja2.Environment:
    """Return how templates are read, and the filters that they may use."""
    found = jinja2.Environment(  # noqa: S701  shell scripts, quoted by the filter; there is no HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # A template that needs another filter or test does not compile. Which arguments a filter takes, Jinja's own say.
    found.filters = {name: JINJAS.get(name, filter_) for name, filter_ in FILTERS.items()}
    found.tests = {}
    return found


def compiled(template: str, source: str) -> str:
    """Return a template as Python. Its first line is the hash of its source."""
    python = environment().compile(source, template, template, raw=True)
    imports, _, rest = python.partition("\n")
    assert imports.startswith("from jinja2.runtime import"), imports  # noqa: S101  as all versions of Jinja 3 write it
    return f"# {hashlib.sha256(source.encode()).hexdigest()}\n{_CALLED}\n{rest}\n"
