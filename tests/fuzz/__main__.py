"""python -m tests.fuzz topologies|captures|bundles|strings COUNT [--first N]: one line of figures."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import traceback
from pathlib import Path

from tests.fuzz.runs import RUNS, run

SLICE = 1000


def main() -> int:
    """Run, go on after what must not happen, and return 1 where there was any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("kind", choices=RUNS)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    outcomes: dict[str, int] = {}
    worst, slowest, failures = 0.0, given.first, 0
    with tempfile.TemporaryDirectory(prefix="ovnlab-fuzz-", dir="/dev/shm") as scratch:
        number, end = given.first, given.first + given.count
        while number < end:
            try:
                found, longest, at = run(given.kind, number, min(SLICE, end - number), Path(scratch))
            except Exception as error:  # noqa: BLE001  counted, and shown
                failed = int(error.__notes__[-1].rpartition(" ")[2])
                if failed > number:  # what went well before it counts
                    found, longest, at = run(given.kind, number, failed - number, Path(scratch))
                else:
                    found, longest, at = {}, 0.0, number
                failures += 1
                number = failed + 1
                if failures <= 20:
                    traceback.print_exception(error, limit=-4)
            else:
                number = min(number + SLICE, end)
            for outcome, count in found.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
            if longest > worst:
                worst, slowest = longest, at
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    total = " ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
    figures = f"{total}, failed {failures}; longest {worst:.2f} s (number {slowest}); {memory} MiB"
    sys.stdout.write(f"{given.kind}: {figures}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
