"""`ovnlab`, and `python -m ovnlab`."""

from __future__ import annotations

import sys

from ovnlab import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] == ["--version"]:  # asked by scripts: answered without importing anything
        sys.stdout.write(f"ovnlab {__version__}\n")
        return
    from ovnlab.cli.app import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
