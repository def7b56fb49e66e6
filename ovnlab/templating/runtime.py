"""The runtime of compiled templates: the part of jinja2.runtime that templates/ needs, and the filters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

from ovnlab.errors import OvnlabError
from ovnlab.templating.quoting import FILTERS as QUOTING

Values = Mapping[str, Any]

missing: Any = object()
"""What stands for a name without a value in what Jinja compiles."""


def undefined(hint: str | None = None, **about: object) -> Any:
    """Raise OvnlabError: there is no value."""
    raise OvnlabError(f"a template has no value for {about.get('name') or hint}")


def str_join(parts: Iterable[object]) -> str:
    """Return what `~` makes of values."""
    return "".join(map(str, parts))


def Undefined(*_: object) -> str:  # noqa: N802  as Jinja calls it
    """Return what an `if` without `else` stands for where it does not hold."""
    return ""


class LoopContext:
    """A `for` of a template: each item, and what `loop` is there."""

    first = last = False
    index = index0 = length = 0

    def __init__(self, items: Iterable[Any], _: object = None) -> None:
        self.items = list(items)

    def __iter__(self) -> Iterator[tuple[Any, LoopContext]]:
        self.length = len(self.items)
        for number, item in enumerate(self.items):
            self.index0, self.index = number, number + 1
            self.first, self.last = number == 0, self.index == self.length
            yield item, self


class Macro:
    """A `macro` of a template."""

    def __init__(self, _: object, function: Callable[..., str], *about: Any) -> None:
        self.function = function
        self.names: tuple[str, ...] = about[1]

    def __call__(self, *given: Any, **named: Any) -> str:
        """Return the text of the macro."""
        positional = dict(zip(self.names, given, strict=False))
        return self.function(*({**positional, **named}.get(name, missing) for name in self.names))


class TemplateContext:
    """The values that a template is rendered with."""

    class eval_ctx:  # noqa: N801  as Jinja calls it
        """The context of an evaluation: nothing is escaped but by a filter."""

        autoescape = False

    def __init__(self, values: Values) -> None:
        self.vars = dict(values)
        self.exported_vars: set[str] = set()

    def resolve_or_missing(self, name: str) -> Any:
        """Return the value of a name."""
        return range if name == "range" else self.vars.get(name, missing)

    def get_all(self) -> Values:
        """Return the values of all names."""
        return self.vars

    def call(self, function: Callable[..., Any], *given: Any, _loop_vars: object = None, **named: Any) -> Any:
        """Call what a template calls."""
        del _loop_vars
        return function(*given, **named)


class Template:
    """A compiled template."""

    def __init__(self, code: CodeType, environment: Environment) -> None:
        namespace: dict[str, Any] = {"environment": environment}
        exec(code, namespace)  # noqa: S102  what Jinja compiled of templates/
        self.root_render_func: Callable[[TemplateContext], Iterator[str]] = namespace["root"]

    def new_context(self, values: Values, shared: bool = False, local: Values | None = None) -> TemplateContext:
        """Return a context with these values, and with those of the template that includes this one."""
        del shared
        return TemplateContext({**values, **(local or {})})


def item(value: Any, key: Any) -> Any:
    """Return a member of a collection."""
    try:
        return value[key]
    except (LookupError, TypeError, AttributeError):
        return undefined(name=key)


def attribute(value: Any, name: str) -> Any:
    """Return an attribute of a value, or what a mapping has by that name."""
    try:
        return getattr(value, name)
    except AttributeError:
        return item(value, name)


def _escaped(value: object) -> str:
    """Return a value as text of HTML."""
    import html  # noqa: PLC0415  for pages

    return html.escape(str(value))


def _mapped(values: Iterable[Any], name: str, **of: str) -> Iterator[Any]:
    """Yield an attribute of each value, or what the filter with that name makes of it."""
    for value in values:
        yield FILTERS[name](value) if name else attribute(value, of["attribute"])


FILTERS: Mapping[str, Callable[..., Any]] = {
    **QUOTING,
    "e": _escaped,
    "int": int,
    "join": lambda _, values, between="": between.join(map(str, values)),
    "length": len,
    "list": lambda _, values: list(values),
    "map": lambda _, values, name="", **of: _mapped(values, name, **of),
    "rejectattr": lambda _, values, name: (value for value in values if not attribute(value, name)),
    "replace": lambda _, text, old, new: str(text).replace(old, new),
    "selectattr": lambda _, values, name: (value for value in values if attribute(value, name)),
    "sum": lambda _, values, name="": sum(attribute(value, name) if name else value for value in values),
    "upper": lambda text: str(text).upper(),
}
"""The filters of templates: those that quote, and the part of Jinja's own that is used."""


class Environment:
    """The templates, and what they share."""

    undefined = staticmethod(undefined)
    getattr = staticmethod(attribute)
    getitem = staticmethod(item)
    concat = "".join
    filters = FILTERS

    def __init__(self, load: Callable[[str], CodeType]) -> None:
        self._load = load
        self._templates: dict[str, Template] = {}
        self._loading = threading.RLock()

    def get_template(self, name: str, parent: str = "") -> Template:
        """Return a template by its name."""
        del parent
        with self._loading:
            if name not in self._templates:
                self._templates[name] = Template(self._load(name), self)
            return self._templates[name]
