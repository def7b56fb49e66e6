"""What looking at a lab is made of: scripts in one round trip, and rows from a server's socket."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovnlab.cli import app
from ovnlab.ovsdb import client
from ovnlab.providers.ssh_machine import _READ_SCRIPT
from ovnlab.tasks.script import each_of, one_of

SCRIPTS = [
    "echo one; echo two",
    "echo lost; exit 3",
    "set -eu\nfalse\necho never",
    "printf 'it''s \"x\" $y `z`\n'; exit 0",
    ":",
]
PRINTED = ["one\ntwo", None, None, 'its "x" $y `z`', ""]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_several_scripts_in_one_say_what_each_printed(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run([shell, "-s"], input=one_of(SCRIPTS), capture_output=True, text=True, check=True)
    assert [text if text is None else text.rstrip() for text in each_of(done.stdout)] == PRINTED


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_shell_of_whoever_logs_in_reads_them_itself_or_has_sh_do_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run(
        [shell, "-c", _READ_SCRIPT], input=one_of(SCRIPTS), env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [text if text is None else text.rstrip() for text in each_of(done.stdout)] == PRINTED


def served(answer: Callable[[socket.socket, dict[str, Any]], None]) -> socket.socket:
    """A connection to a server that takes one request."""
    here, there = socket.socketpair()
    here.settimeout(1)

    def serve() -> None:
        with there:
            request = b""
            while True:
                request += there.recv(1 << 16)
                try:
                    found = json.loads(request)
                except ValueError:
                    continue
                answer(there, found)
                return

    threading.Thread(target=serve, daemon=True).start()
    return here


def result(request: dict[str, Any], *rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"id": request["id"], "error": None, "result": [{"rows": found} for found in rows]}).encode()


def test_rows_come_in_as_many_pieces_as_they_like() -> None:
    rows = [{"name": f"sw{number}", "ids": ["map", [["a", "}"]]], "ports": ["set", []]} for number in range(3000)]

    def answer(there: socket.socket, request: dict[str, Any]) -> None:
        database, *operations = request["params"]
        assert (request["method"], database, operations[0]["table"]) == ("transact", "OVN_Northbound", "Logical_Switch")
        whole = result(request, rows)
        for at in range(0, len(whole), 997):
            there.sendall(whole[at : at + 997])

    with served(answer) as server:
        found = client.select(server, "OVN_Northbound", {"Logical_Switch": ("name", "ids", "ports")})
    assert len(found["Logical_Switch"]) == 3000
    assert found["Logical_Switch"][7] == {"name": "sw7", "ids": {"a": "}"}, "ports": []}


REFUSALS = [
    b"",
    b'{"id": 0, "error": {"error": "unknown database"}, "result": null}',
    b'{"id": 0, "error": null, "result": [{"error": "syntax error", "details": "no column"}]}',
    b'{"id": 0, "error": null, "result": []}',
    b'{"id": 0, "error": null, "result": [{"rows": [',
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_no_answer_is_an_error_of_the_connection(refusal: bytes) -> None:
    with (
        served(lambda there, _: there.sendall(refusal)) as server,
        pytest.raises(OSError, match=r"refuses|went away"),
    ):
        client.select(server, "OVN_Northbound", {"Logical_Switch": ("name",)})


def test_a_server_that_is_silent_is_one(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    here.settimeout(0.1)
    with here, there, pytest.raises(TimeoutError):
        client.select(here, "OVN_Northbound", {"Logical_Switch": ("name",)})
    assert client.connect(tmp_path / "nobody") is None


def test_every_command_is_listed_where_it_is() -> None:
    for module, names in app.COMMANDS.items():
        commands = importlib.import_module(f"ovnlab.cli.commands.{module}").COMMANDS
        assert tuple(command.name for command in commands) == names
