"""`ovnlab`, and `python -m ovnlab`."""

from __future__ import annotations

import os
import sys

from ovnlab import __version__
from ovnlab.cli.streams import open_closed, say, sent, write


def main() -> None:
    """Run the command line and exit with its code. A Ctrl-C shows no traceback, whatever it comes upon."""
    open_closed()
    if sys.argv[1:] == ["--version"]:  # asked by scripts: answered without importing anything
        sys.exit(sent(lambda: write(f"ovnlab {__version__}\n")))
    try:
        from ovnlab.cli.app import run  # noqa: PLC0415

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        say("ovnlab: interrupted")
        os._exit(130)  # scripts that still run on nodes are not waited for


if __name__ == "__main__":
    main()
