"""A multi-node OVN lab from one YAML file.

What `__all__` names is the public interface; everything else may change at any time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which `ovnlab --version` need not load

if TYPE_CHECKING:
    from ovnlab import errors
    from ovnlab.api import Lab, find, up

__all__ = ("Lab", "__version__", "errors", "find", "up")

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `ovnlab --version` loads nothing."""
    import importlib  # noqa: PLC0415  as above

    if name == "errors":
        return importlib.import_module("ovnlab.errors")
    if name in __all__:
        return getattr(importlib.import_module("ovnlab.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
