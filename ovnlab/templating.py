"""Renders what stands in templates/. Every value that Jinja puts into a shell script goes through one filter."""

from __future__ import annotations

from ovnlab.shipped import TEMPLATES


def render(template: str, **values: object) -> str:
    """The text of a template, with values for its names.

    >>> "worker1" in render("node/hosts.j2", nodes=[("192.168.50.100", "worker1")])
    True
    """
    from ovnlab.jinja import environment  # noqa: PLC0415  brings Jinja, which `plain` is there to spare

    return environment().get_template(template).render(**values)


def plain(template: str) -> str:
    """The text of a template in which nothing stands for anything else."""
    return (TEMPLATES / template).read_text()
