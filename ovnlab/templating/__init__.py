"""Rendering of templates/, from what Jinja has compiled them to.

Jinja compiles a template to a Python function. That is kept, and what it calls is here: Jinja itself, which takes 25 ms
to import, is loaded only where a template was changed or never compiled. Every command that runs something on a node
renders a template, and most of them take less than 200 ms.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
from pathlib import Path
from types import CodeType

from ovnlab.atomic_write import write_whole
from ovnlab.shipped import COMPILED, TEMPLATES, VAGRANTFILE
from ovnlab.templating import runtime


def render(template: str, **values: object) -> str:
    """Return the text of a template, with values for its names. Raises OvnlabError for a name without a value.

    >>> "worker1" in render("node/hosts.j2", nodes=[("192.168.50.100", "worker1")])
    True
    """
    found = ENVIRONMENT.get_template(template)
    return "".join(found.root_render_func(found.new_context(values)))


def source_of(template: str) -> Path:
    """Return the file of a template."""
    return VAGRANTFILE if template == VAGRANTFILE.name else TEMPLATES / template


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────


def _code(template: str) -> CodeType:
    """Return what a template was compiled to, compiled now where it has changed since."""
    source = source_of(template).read_bytes()
    runtime_changed = Path(runtime.__file__).stat().st_mtime_ns
    mark = hashlib.sha256(source).digest() + f"{sys.version} {runtime_changed}\n".encode()
    kept = TEMPLATES / "__pycache__" / f"{template.replace('/', '.')}.compiled"
    try:
        content = kept.read_bytes()
        if content.startswith(mark):
            code: CodeType = marshal.loads(content[len(mark) :])  # noqa: S302  ours, beside the templates
            return code
    except (OSError, ValueError, EOFError):
        pass
    code = compile(_python(template, source), template, "exec")
    if not sys.dont_write_bytecode:
        try:
            kept.parent.mkdir(exist_ok=True)
            write_whole(kept, mark + marshal.dumps(code))
        except OSError:  # somebody else's folder: nothing is lost
            pass
    return code


def _python(template: str, source: bytes) -> str:
    """Return a template as Python: the one that was shipped, if it is of this source, else what Jinja makes of it."""
    try:
        shipped = (COMPILED / f"{template}.py").read_text()
        if shipped.startswith(f"# {hashlib.sha256(source).hexdigest()}\n"):
            return shipped
    except OSError:
        pass
    from ovnlab.templating.compiler import compiled  # noqa: PLC0415  brings Jinja

    return compiled(template, source.decode())


ENVIRONMENT = runtime.Environment(_code)
