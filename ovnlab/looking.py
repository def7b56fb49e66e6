"""Looks at a node in one round trip: what a script prints there, and rows of its databases.

Rows come from the sockets of the databases' servers, by the tools of OVS and OVN where those cannot be had.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence

from ovnlab.ahead import Ahead
from ovnlab.errors import Timeout
from ovnlab.ovsdb import Tables, select
from ovnlab.providers.base import Node
from ovnlab.providers.reach import SSH_FAILED
from ovnlab.tasks.script import TIMEOUT, each_of, failure, one_of, run_script
from ovnlab.tasks.tables import Question


def ask(node: Node, question: Question) -> Tables | None:
    """Rows of a node's database from its server's socket, None where they cannot be had there."""
    server = node.connect(question.server.socket)
    if server is not None:
        with server, contextlib.suppress(OSError):  # ssh may not connect there, or the server is silent
            return select(server, question.server.database, question.columns)
    return None


def look(
    node: Node, questions: Sequence[Question], script: str, ahead: Ahead
) -> tuple[str | None, list[Tables | None]]:
    """What a script prints on a node, None where it fails; and answers to questions, None where nobody gives one.

    While the script runs, the sockets are asked; tools, for those that cannot be, are part of the script. A server that
    is silent is not asked once more. Raises OvnlabError where the node is silent.
    """
    servers = [node.connect(question.server.socket) for question in questions]
    by_tool = [question for question, server in zip(questions, servers, strict=True) if server is None]
    with _running(node, [script, *(question.script() for question in by_tool)], ahead, again=node.lasting) as printed:
        answers: list[Tables | None] = []
        refused = []
        for question, server in zip(questions, servers, strict=True):
            answers.append(None)
            if server is not None:
                try:
                    with server:
                        answers[-1] = select(server, question.server.database, question.columns)
                except TimeoutError:
                    pass
                except OSError:  # ssh may not connect there
                    refused.append(question)
        said, *by_tools = printed()
    if refused:
        with _running(node, [question.script() for question in refused], ahead, again=False) as printed:
            by_tools += printed()
    for question, text in zip([*by_tool, *refused], by_tools, strict=True):
        answers[questions.index(question)] = None if text is None else question.parse(text)
    return said, answers


@contextlib.contextmanager
def _running(
    node: Node, scripts: Sequence[str], ahead: Ahead, *, again: bool
) -> Iterator[Callable[[], list[str | None]]]:
    """Run scripts on a node: what is given waits for them, and returns what each printed, None of one that failed."""
    where = f"{node.name}: looking"
    script = one_of(scripts)
    command = node.looking()

    def slowly() -> list[str | None]:
        return each_of(run_script(node.context, script, where=where))

    if command is None:
        yield slowly
        return

    def printed() -> list[str | None]:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Timeout(f"gave up after {TIMEOUT:g} s", where=where) from None
        if process.returncode == SSH_FAILED and node.looking() is not None:
            return slowly()  # sshd takes no more sessions over the connection that is kept: it did not break
        if process.returncode:
            raise failure(where, process.returncode, err.decode(errors="replace"))
        found = each_of(out.decode(errors="replace"))
        return found + [None] * (len(scripts) - len(found))  # the connection broke

    process = ahead.begin(command, script, again=again)
    with process:
        try:
            yield printed
        finally:
            process.kill()
