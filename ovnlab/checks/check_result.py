"""Results of checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: its subject, what was expected and what was observed.

    `kind` is what it is about (daemons, chassis, tunnels, ...), `hint` what can be done where it does not hold.
    """

    kind: str
    title: str
    expected: str
    observed: str
    ok: bool
    hint: str = ""

    def __str__(self) -> str:
        if self.ok:
            return f"{self.title}: {self.observed}"
        more = f" ({self.hint})" if self.hint else ""
        return f"{self.title}: expected {self.expected}, observed {self.observed}{more}"


def held(kind: str, title: str, what: str = "yes") -> CheckResult:
    """Return a finding that all is well."""
    return CheckResult(kind, title, what, what, ok=True)


def failed(kind: str, title: str, expected: str, observed: str, hint: str = "") -> CheckResult:
    """Return a finding that something is not."""
    return CheckResult(kind, title, expected, observed, ok=False, hint=hint)
