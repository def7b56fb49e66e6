"""`ovnlab`, and `python -m ovnlab`."""

from __future__ import annotations

import contextlib
import os
import sys

from ovnlab import __version__


def main() -> None:
    """Run the command line and exit with its code. A Ctrl-C shows no traceback, whatever it comes upon."""
    if sys.argv[1:] == ["--version"] and _wrote(f"ovnlab {__version__}\n"):
        return  # asked by scripts: answered without importing anything
    try:
        from ovnlab import interruption  # noqa: PLC0415

        interruption.handle()  # before all that takes time
        from ovnlab.cli.streams import open_closed  # noqa: PLC0415

        open_closed()
        from ovnlab.cli.app import run  # noqa: PLC0415

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        with contextlib.suppress(OSError, AttributeError):
            sys.stderr.write("ovnlab: interrupted\n")
            sys.stderr.flush()
        os._exit(130)  # scripts that still run on nodes are not waited for


def _wrote(text: str) -> bool:
    """Write to stdout; False where that takes nothing, which the command line says in its own words."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, AttributeError):
        return False
    return True


if __name__ == "__main__":
    main()
