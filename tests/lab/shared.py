"""Labs that the tests of a module share: `up` puts back what one of them changed, before the next one begins."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ovnlab.northbound.schema import TABLES
from tests.lab.harness import Account, Labs

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Shared:
    """A lab that is put back.

    What `up` leaves alone by design, such as rows that somebody made by hand, is found by what the lab was at first: it
    is made anew then.
    """

    def __init__(self, labs: Labs, topology: str, text: str | None) -> None:
        self.labs = labs
        self._topology = topology
        self._text = text
        self._names: list[str] = []
        self._known: object = None

    @property
    def path(self) -> str:
        """What `up` is given: the file, or the name of a shipped topology."""
        return self._topology if self._text is None else str(self.labs.scratch / f"{self._topology}.yaml")

    def put_back(self) -> None:
        """Make the lab what its file says, and nothing else."""
        self.labs.extra_environment.clear()
        if self._text is not None:
            self.labs.write(f"{self._topology}.yaml", self._text)
        if self._known is None or self._is_another():
            self.labs.run("down", "--all")
            self.labs.run("up", self.path)
            self._names = self._labs()
            self._known = self._look()

    def _labs(self) -> list[str]:
        return [lab["name"] for lab in self.labs.json("ls")["labs"]]

    def _is_another(self) -> bool:
        """Run `up`, and return whether the lab is another one than at first all the same."""
        if self._labs() != self._names or self.labs.run("up", self.path, expect=None).returncode:
            return True
        return self._look() != self._known

    def _look(self) -> object:
        """What the lab is, but for what is another at each run: what `status` shows, and the Northbound databases."""
        status = self.labs.json("status")
        centrals = [node["name"] for node in status["nodes"] if _has_databases(node)]
        return _steady(status), [self._northbound(central) for central in centrals]

    def _northbound(self, central: str) -> list[list[str]]:
        select = [{"op": "select", "table": table, "where": []} for table in TABLES]
        asked = json.dumps(["OVN_Northbound", *select])
        answer = self.labs.on(central, "ovsdb-client", "transact", "unix:/run/ovn/ovnnb_db.sock", asked)
        return [sorted(json.dumps(_steady(row)) for row in table.get("rows", ())) for table in json.loads(answer)]


CONFIGURATIONS = tuple(f"{of}_cfg{what}" for of in ("nb", "sb", "hv") for what in ("", "_timestamp"))
CHANGING = ("pid", "term", "behind", "role", "leader", "_uuid", "_version", *CONFIGURATIONS)


def _has_databases(node: dict[str, Any]) -> bool:
    return any(daemon["name"] == "ovnnb_db" for daemon in node["daemons"])


def _steady(found: Any) -> Any:
    """A value of JSON without what is another at each run."""
    if isinstance(found, dict):
        return {key: _steady(value) for key, value in found.items() if key not in CHANGING}
    if isinstance(found, list):
        return sorted((_steady(value) for value in found), key=json.dumps)
    return UUID.sub("*", found) if isinstance(found, str) else found


class Share:
    """The labs that the tests of a module share, by account and topology."""

    def __init__(self, begin: Callable[[Account, Path], AbstractContextManager[Labs]], folder: Path) -> None:
        self._begin = begin
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._made: dict[tuple[Account, str, str | None], Shared] = {}

    def __call__(self, account: Account, topology: str, text: str | None = None) -> Labs:
        """Return the lab of a shipped topology, or of a file with this name and text, put back for the next test."""
        key = (account, topology, text)
        if key not in self._made:
            labs = self._stack.enter_context(self._begin(account, self._folder / f"shared-{len(self._made)}"))
            self._made[key] = Shared(labs, topology, text)
        self._made[key].put_back()
        return self._made[key].labs

    def close(self) -> None:
        """Take all labs down. Nothing of them may be left."""
        self._stack.close()


def sharing(begin: Callable[[Account, Path], AbstractContextManager[Labs]], folder: Path) -> Iterator[Share]:
    """What a fixture yields."""
    share = Share(begin, folder)
    try:
        yield share
    finally:
        share.close()
