"""A probe of a node in one round trip: the output of a script there, and rows of its databases.

Rows come from the sockets of the databases' servers, by the tools of OVS and OVN where those cannot be had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ovnlab.nodes.node import RunningNode
from ovnlab.ovsdb.client import Tables, select
from ovnlab.ovsdb.queries import TableQuery
from ovnlab.parallel import for_each
from ovnlab.tasks.script import each_of, one_of, run_script


def ask(node: RunningNode, question: TableQuery) -> Tables | None:
    """Return rows of a node's database from its server's socket, None where they cannot be had there."""
    server = node.connect(question.server.socket)
    if server is not None:
        with server, contextlib.suppress(OSError):  # ssh may not connect there, or the server is silent
            return select(server, question.server.database, question.columns)
    return None


def ask_once(node: RunningNode, question: TableQuery) -> Tables | None:
    """Return rows of a node's database as `ask` has them; none where its server is silent, as a tool would find it,
    too.
    """
    server = node.connect(question.server.socket)
    if server is not None:
        with server:
            try:
                return select(server, question.server.database, question.columns)
            except TimeoutError:
                return {}
            except OSError:  # ssh may not connect there
                pass
    return None


def look(node: RunningNode, questions: Sequence[TableQuery], script: str) -> tuple[str | None, list[Tables | None]]:
    """Return what a script prints on a node, and the answers to questions: None for what fails or is not answered.

    While the script runs, the sockets are asked; tools, for those that cannot be, are part of the script. A server that
    is silent is not asked once more. Raises OvnlabError where the node is silent.
    """
    servers = [node.connect(question.server.socket) for question in questions]
    by_tool = [question for question, server in zip(questions, servers, strict=True) if server is None]
    answers: dict[int, Tables] = {}
    refused: list[TableQuery] = []

    def ask_servers() -> list[str | None]:
        for number, (question, server) in enumerate(zip(questions, servers, strict=True)):
            if server is not None:
                try:
                    with server:
                        answers[number] = select(server, question.server.database, question.columns)
                except TimeoutError:
                    pass
                except OSError:  # ssh may not connect there
                    refused.append(question)
        return []

    def run() -> list[str | None]:
        return _run(node, [script, *(question.script() for question in by_tool)])

    (said, *by_tools), _ = for_each([run, ask_servers], lambda part: part())
    if refused:
        by_tools += _run(node, [question.script() for question in refused])
    for question, text in zip([*by_tool, *refused], by_tools, strict=True):
        if text is not None:
            answers[questions.index(question)] = question.parse(text)
    return said, [answers.get(number) for number in range(len(questions))]


def _run(node: RunningNode, scripts: Sequence[str]) -> list[str | None]:
    """Return what each of several scripts prints on a node, None of one that failed."""
    found = each_of(run_script(node.context, one_of(scripts), where=f"{node.name}: looking", quick=True))
    return found + [None] * (len(scripts) - len(found))  # the connection broke
