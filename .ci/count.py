"""Print how many tests of several JUnit reports passed, failed and were skipped. Exit with 1 unless all are well."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def counted(paths: list[str]) -> Counter[str]:
    """Return the numbers of tests that passed, failed and were skipped; a report that is missing is a failure."""
    found: Counter[str] = Counter()
    for path in paths:
        if not Path(path).exists():
            sys.stderr.write(f"there is no report {path}: its tests did not come to an end\n")
            found["failed"] += 1
            continue
        for suite in ET.parse(path).getroot().iter("testsuite"):  # noqa: S314  pytest wrote it
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            found["failed"] += bad
            found["skipped"] += skipped
            found["passed"] += int(suite.get("tests", 0)) - bad - skipped
    return found


def main() -> int:
    """Print the summary, and return the exit code."""
    found = counted(sys.argv[1:])
    skipped = f", {found['skipped']} skipped" if found["skipped"] else ""
    sys.stdout.write(f"{found['passed']} passed, {found['failed']} failed{skipped}\n")
    return 1 if found["failed"] or not found["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
