"""An examination as JSON, as JUnit's XML, and as a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from ovnlab.checks.check_result import CheckResult
from ovnlab.checks.examination import Examination, FileCheckResult
from ovnlab.checks.vm_matrix import PairResult
from ovnlab.templating import render

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have (2.2, Characters)."""


def kinds(found: Sequence[CheckResult]) -> dict[str, list[CheckResult]]:
    """Return the findings by what they are about, in order."""
    groups: dict[str, list[CheckResult]] = {}
    for finding in found:
        groups.setdefault(finding.kind, []).append(finding)
    return groups


def as_dict(examined: Examination) -> dict[str, Any]:
    """Return everything, as plain data."""
    findings = examined.findings
    return {
        "lab": examined.lab,
        "passed": len(findings) - len(examined.failures),
        "failed": len(examined.failures),
        "findings": [_finding(finding) for finding in findings[: len(examined.own)]],
        "sample": {"tried": len(examined.pairs), "of": examined.of_pairs, "seed": examined.seed},
        "pairs": [_pair(pair) for pair in examined.pairs],
        "checks": [_check(checked) for checked in examined.checks],
        "faults": [
            {"fault": one.title, "gap_ms": one.gap_ms, "findings": [_finding(part) for part in one.parts]}
            for one in examined.faults
        ],
    }


def _finding(finding: CheckResult) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "title": finding.title,
        "expected": finding.expected,
        "observed": finding.observed,
        "ok": finding.ok,
        "hint": finding.hint,
    }


def _pair(one: PairResult) -> dict[str, Any]:
    return {
        "from": one.pair.source.name,
        "to": one.pair.target.name,
        "address": str(one.pair.address),
        "intended": one.intent.outcome,
        "reason": one.intent.reason,
        "observed": one.observed,
        "ok": one.ok,
    }


def _check(checked: FileCheckResult) -> dict[str, Any]:
    return {
        "kind": checked.check.kind,
        "from": checked.check.source,
        "target": checked.check.target,
        "port": checked.check.port or None,
        "expected": checked.check.expect,
        "intended": checked.intent.outcome,
        "reason": checked.intent.reason,
        "observed": checked.observed,
        "ok": checked.ok,
    }


def junit(examined: Examination) -> str:
    """Return a test suite for each kind of finding, as CI systems read it."""
    suites = ET.Element("testsuites", name=f"ovnlab {examined.lab}", tests=str(len(examined.findings)))
    suites.set("failures", str(len(examined.failures)))
    for kind, found in kinds(examined.findings).items():
        failures = sum(not finding.ok for finding in found)
        suite = ET.SubElement(suites, "testsuite", name=kind, tests=str(len(found)), failures=str(failures))
        for finding in found:
            case = ET.SubElement(suite, "testcase", classname=f"{examined.lab}.{kind}", name=_plain(finding.title))
            if not finding.ok:
                told = f"expected {finding.expected}, observed {finding.observed}"
                failure = ET.SubElement(case, "failure", message=_plain(told))
                failure.text = _plain(finding.hint)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    return _NO_XML.sub("?", text)


def symbol(one: PairResult) -> str:
    """Return a pair in a matrix: reaches, does not, the two ways to differ, and not known what is meant."""
    reached = one.observed != "unreachable"
    if not one.ok:
        return "+" if reached else "✗"
    if one.intent.outcome == "unknown" or (one.intent.unanswered and not reached):
        return "?" if reached else "¿"
    return "●" if reached else "·"


LEGEND = (
    ("●", "reaches it, as meant"),
    ("·", "does not, as meant"),
    ("✗", "is meant to, and does not"),
    ("+", "is not meant to, and does"),
    ("?", "reaches it, and what is meant is not known"),
    ("¿", "does not, and what is meant is not known"),
)
"""What the symbols of a matrix mean."""

_WORST = "✗+¿?·●"


def matrix(examined: Examination) -> tuple[list[str], dict[tuple[str, str], str]]:
    """Return the names of all that was tried, and the symbol of each pair; with several addresses, of the worst."""
    names = dict.fromkeys(name for one in examined.pairs for name in (one.pair.source.name, one.pair.target.name))
    found: dict[tuple[str, str], str] = {}
    for one in examined.pairs:
        key = one.pair.source.name, one.pair.target.name
        found[key] = min(symbol(one), found.get(key, "●"), key=_WORST.index)
    return sorted(names, key=_natural), found


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts vm2 before vm10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def page(examined: Examination) -> str:
    """Return a page that needs nothing else: what failed, the matrix, and all findings."""
    names, found = matrix(examined)
    cells: dict[tuple[str, str], PairResult] = {}
    for one in examined.pairs:
        key = one.pair.source.name, one.pair.target.name
        cells[key] = min(one, cells.get(key, one), key=lambda pair: _WORST.index(symbol(pair)))
    rows = [
        (
            source,
            [
                {"symbol": found.get((source, target), ""), "title": _cell(cells.get((source, target)))}
                for target in names
            ],
        )
        for source in names
    ]
    used = set(found.values())
    return render(
        "page/test.html.j2",
        lab=examined.lab,
        kinds=kinds(examined.findings),
        failures=examined.failures,
        total=len(examined.findings),
        names=names,
        rows=rows,
        legend=[item for item in LEGEND if item[0] in used],
        tried=len(examined.pairs),
        of=examined.of_pairs,
        seed=examined.seed,
    )


def _cell(one: PairResult | None) -> str:
    if one is None:
        return ""
    reason = f" ({one.intent.reason})" if one.intent.reason else ""
    return f"{one.pair.title}: {one.intent.outcome}{reason}, {one.observed}"
