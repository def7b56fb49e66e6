"""`ovnlab`, and `python -m ovnlab`."""

from __future__ import annotations

import os
import sys

from ovnlab import __version__


def main() -> None:
    """Run the command line and exit with its code. A Ctrl-C shows no traceback, whatever it comes upon."""
    if sys.argv[1:] == ["--version"]:  # asked by scripts: answered without importing anything
        sys.stdout.write(f"ovnlab {__version__}\n")
        return
    try:
        from ovnlab.cli.app import run  # noqa: PLC0415

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("ovnlab: interrupted\n")
        sys.stderr.flush()
        os._exit(130)  # scripts that still run on nodes are not waited for


if __name__ == "__main__":
    main()
