"""A topology from a stranger: what it says stays a value, whatever reads it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from ovnlab.errors import OvnlabError, TopologyError
from ovnlab.providers.ssh_target import SshTarget
from ovnlab.shipped import TEMPLATES, VAGRANTFILE
from ovnlab.software.working_tree import digest
from ovnlab.tasks.build import fetch_script
from ovnlab.templating import render
from ovnlab.templating.compiler import environment
from ovnlab.templating.quoting import FILTERS
from ovnlab.topology import grammar, model
from ovnlab.topology.load import load_text
from ovnlab.topology.resolved import Topology
from tests.unit.test_documentation import parts

NODES = "nodes: {central: {role: central, ip: 192.168.50.2}, w1: {}}\n"

CONTROLS = ["\\n", "\\r", "\\x1b[2J", "\\0", "\\x7f", "\\x85", "\\u2028", "\\u202e", "\\ud800"]
"""As YAML escapes them: line ends, an escape sequence, NUL, DEL, NEL, a line separator, right-to-left, half a pair."""

PLACES = [
    "machines: {{host: {}}}",
    "machines: {{user: {}}}",
    "machines: {{key: {}}}",
    "machines: {{known_hosts: {}}}",
    "machines: {{jump: {}}}",
    "machines: {{uri: {}}}",
    "machines: {{image: {}}}",
    "machines: {{kernel: {}}}",
    "machines: {{cpu: {}}}",
    "machines: {{machine: {}}}",
    "libvirt: {{pool: {}}}",
    "software: {{ovs: {{git: {}}}}}",
    "software: {{ovs: {{git: u, ref: {}}}}}",
    "software: {{ovs: {{tarball: {}}}}}",
    "software: {{ovs: {{path: {}}}}}",
    "software: {{ovs: {{distro: true}}, cflags: {}}}",
    "logical: {{switches: {{n1: {{other_config: {{a: {}}}}}}}}}",
    "logical: {{switches: {{n1: {{dns: {{{}: 10.0.0.1}}}}}}}}",
    "logical: {{switches: {{n1: {{subnet: 10.0.0.0/24, dhcp: {{domain_name: {}}}}}}}}}",
    "logical: {{switches: {{n1: }}, acls: [{{switch: n1, direction: to-lport, priority: 1, match: ip, action: drop, name: {}}}]}}",
    "checks: [{{ping: {}, from: w1}}]",
    "checks: [{{tcp: {}, from: w1}}]",
]  # fmt: skip


def load(text: str) -> Topology:
    return load_text("lab.yaml", (NODES + text).encode()).topology


def refusal(text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        load(text)
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("control", CONTROLS)
def test_no_text_of_a_file_holds_control_characters(place: str, control: str) -> None:
    assert "lab.yaml:2:" in refusal(place.format(f'"a{control}b"'))


@pytest.mark.parametrize(
    "text",
    [
        'logical: {switches: {n: }, routers: {r: {ports: {n: {ip: "\\ud800"}}}}}',
        'logical: {switches: {"\\ud800": }}',
        '"\\udfff": 1',
        'provider: "\\ud800"',
    ],
)
def test_half_a_character_is_no_text(text: str) -> None:
    """No message about it can be written."""
    assert "found half of a surrogate pair" in refusal(text)
    for setting in (
        'machines.host="\\ud800"',
        'logical={routers: {r: {ports: {n: {ip: "\\ud800"}}}}}',
        "logical=&a [*a]",
    ):
        with pytest.raises(TopologyError, match="is not valid YAML"):
            load_text("lab.yaml", NODES.encode(), settings=[setting])


def test_every_text_of_the_grammar_has_a_validator() -> None:
    """A field that is plain `str` would take anything."""
    for part in parts(grammar.Part):
        for name, field in part.model_fields.items():
            plain = {field.annotation, *getattr(field.annotation, "__args__", ())} & {str}
            assert not plain or field.metadata, f"{part.__name__}.{name}"


@pytest.mark.parametrize("address", ["fe80::1%a\\nb/64", "fe80::1%eth0/64"])
def test_a_zone_of_an_address_is_no_way_around(address: str) -> None:
    """Python takes anything behind the '%' of an IPv6 address."""
    for text in (
        f'logical: {{switches: {{n1: }}, routers: {{r1: {{ports: {{n1: {{ip: "{address}"}}}}}}}}}}',
        f'logical: {{switches: {{n1: {{subnet: "{address}"}}}}}}',
        f'logical: {{load_balancers: {{a: {{vip: "[{address[:-3]}]:80", backends: []}}}}}}',
        f'logical: {{switches: {{n1: {{ports: {{vm1: {{ip: "{address[:-3]}"}}}}}}}}}}',
    ):
        assert "lab.yaml:2:" in refusal(text)


def test_a_long_match_may_stand_on_several_lines() -> None:
    lab = load(
        "logical:\n  switches: {n1: {}}\n  acls:\n"
        "    - {switch: n1, direction: to-lport, priority: 1, action: drop, match: &m 'ip4'}\n"
        "    - switch: n1\n      direction: to-lport\n      priority: 2\n      action: drop\n"
        "      match: |\n        ip4 &&\n          tcp.dst == 22\n"
    )
    assert [acl.match for acl in lab.acls] == ["ip4", "ip4 && tcp.dst == 22"]


@pytest.mark.parametrize("host", ["gw1.example.org", "10.0.0.1", "fd00::1", "fe80::1%eth0", "a_b", "FD00::1"])
def test_hosts_are_names_and_addresses(host: str) -> None:
    assert model.Machine.model_validate({"host": host}).host == (host.lower() if ":" in host else host)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "$(id)", "a;b", "a%h", "a%", "ä", "10.0.0.1/24", "*"])
def test_other_hosts_are_refused(host: str) -> None:
    assert "invalid host" in refusal(f'machines: {{host: "{host}"}}')


@pytest.mark.parametrize("user", ["-l root", "a b", "$(id)", "%u", "", "ä"])
def test_users_are_names(user: str) -> None:
    assert refusal(f'machines: {{user: "{user}"}}')
    assert model.Machine.model_validate({"user": "admin@example.org"}).user == "admin@example.org"


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext://x/system?command=/bin/evil",
        "qemu+ssh://host/system?command=./evil.sh",
        "qemu+ssh://host/system?netcat=/bin/evil",
        "qemu+ssh://host/system?mode=auto&sshauth=none",
        "qemu+ssh://host/system?keyfile=a;command=evil",
        "qemu+ssh://host/system?c%6fmmand=evil",
        "qemu+ssh://host/system?COMMAND=evil",
        "qemu+tls://host/system?no_verify=1",
        "qemu+ssh://host/system?no_verify=1",
        "qemu+ssh://host/system?known_hosts_verify=ignore",
        "qemu:///system?name=qemu%2bext:///system",
        "qemu:///system?proxy=native",
        "qemu+tcp://host/system",
        "qemu+libssh://host/system?command=evil",
        "qemu:///embed?root=/tmp/x",
        "qemu+ssh://-oProxyCommand=evil/system",
        "qemu+ssh://-oProxyCommand=evil@host/system",
        "qemu+ssh://ho%20st/system",
        "test:///etc/passwd",
        "lxc:///system",
        "evil",
    ],
)
def test_a_uri_starts_no_program_and_turns_no_check_off(uri: str) -> None:
    assert "lab.yaml:3:" in refusal(f'provider: libvirt\nmachines: {{uri: "{uri}"}}')


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/run/x", "qemu+ssh://root@host:22/system",
        "qemu+ssh://[fd00::1]/system?keyfile=/k&mode=direct", "qemu+tls://host.example.org/system?pkipath=/p",
    ],
)  # fmt: skip
def test_ordinary_uris_are_taken(uri: str) -> None:
    assert load(f'provider: libvirt\nmachines: {{uri: "{uri}"}}').nodes[0].machine.uri == uri


@pytest.mark.parametrize(
    "xml",
    [
        "</devices><evil/><devices>",
        "<a>",
        "text & more",
        "<interface type='ethernet'><script path='/evil'/></interface>",
        "<emulator>/evil</emulator>",
        "<x:script xmlns:x='u' path='/evil'/>",
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
        "<a>\\x1b</a>",
    ],
)
def test_xml_is_elements_that_start_nothing(xml: str) -> None:
    assert "xml" in refusal(f'provider: libvirt\nmachines: {{xml: "{xml}"}}')
    assert model.Machine.model_validate({"xml": "<watchdog model='i6300esb'/>\n<!-- two -->"}).xml


@pytest.mark.parametrize("flags", ["$(touch PWN)", "`id`", "-O2 $(shell touch PWN)", "-DA=#", "-DA='b", "-O2;id"])
def test_compiler_flags_are_not_expanded(flags: str) -> None:
    assert "invalid compiler flag" in refusal(f'software: {{ovs: {{distro: true}}, cflags: "{flags}"}}')


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id",
        "ext::sh",
        "fd::17",
        "--upload-pack=x",
        "ssh://-oProxyCommand=x/y",
        "ssh://a@-oP=x/y",
        "evil://x",
        "a b",
    ],
)
def test_a_repository_is_reached_by_no_program_of_the_url(url: str) -> None:
    assert "git" in refusal(f'software: {{ovs: {{git: "{url}"}}}}')
    for good in ("https://e.org/ovs", "git@e.org:ovs", "ssh://git@e.org:22/ovs", "./ovs", "file:///ovs", "e.org:ovs"):
        assert model.Origin.model_validate({"git": good}).git == good


def test_git_is_told_so_too(tmp_path: Path) -> None:
    """The URL of a submodule is the repository's, and the person's configuration may allow what runs programs."""
    environment = {
        **os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.ext.allow", "GIT_CONFIG_VALUE_0": "always",
    }  # fmt: skip
    script = fetch_script(tmp_path / "repository", f"ext::touch {tmp_path}/PWN", "main")
    subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False)
    assert not (tmp_path / "PWN").exists()


def test_looking_at_a_working_tree_runs_nothing_of_it(tmp_path: Path) -> None:
    """Its own configuration may name a program that git asks which files have changed."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/PWN\n")
    program.chmod(0o755)
    tree = tmp_path / "tree"
    for words in (["init", "-q", str(tree)], ["-C", str(tree), "config", "core.fsmonitor", str(program)]):
        subprocess.run(["git", *words], check=True)
    (tree / "configure.ac").write_text("AC_INIT")
    assert digest(tree)
    assert not (tmp_path / "PWN").exists()


# ── what is rendered ─────────────────────────────────────────────────────────────────────────────────────────────

EVERY_TEMPLATE = sorted((VAGRANTFILE, *TEMPLATES.rglob("*.j2")))
QUOTING = {*FILTERS, "int", "length"}


def raw_values(node: nodes.Node, names: frozenset[str]) -> Iterator[str]:
    """The expressions of a template that are put into its text with nothing that quotes them."""
    for output in node.find_all(nodes.Output):
        for part in output.nodes:
            if not isinstance(part, nodes.TemplateData) and not is_quoted(part, names):
                yield f"line {part.lineno}: {part!r}"


def is_quoted(node: nodes.Node | None, macros: frozenset[str]) -> bool:
    """Whether an expression can only be a constant, a number, or what a filter has quoted."""
    match node:
        case None | nodes.Const():
            return True
        case nodes.Filter(name="join", node=nodes.Filter(name="map", args=[nodes.Const(value=each)])):
            return each in FILTERS
        case nodes.Filter():
            return node.name in QUOTING | {"e"}
        case nodes.CondExpr():
            return is_quoted(node.expr1, macros) and is_quoted(node.expr2, macros)
        case nodes.Call(node=nodes.Name(name=name)):
            return name in macros
    return False


@pytest.mark.parametrize("path", EVERY_TEMPLATE, ids=lambda path: str(path.relative_to(TEMPLATES.parent)))
def test_every_value_in_a_template_is_quoted(path: Path) -> None:
    tree = environment().parse(path.read_text())
    macros = frozenset(macro.name for macro in tree.find_all(nodes.Macro))
    assert not list(raw_values(tree, macros))


def test_what_is_not_quoted_is_found() -> None:
    tree = environment().parse("{{ a }} {{ b | upper }} {{ 'x' if c else d }} {{ e | ssh }} {{ f | int }}")
    assert len(list(raw_values(tree, frozenset()))) == 3
    tree = environment().parse("{{ a | map('sh') | join(' ') }} {{ a | map(attribute='b') | join }} {{ c ~ d }}")
    assert len(list(raw_values(tree, frozenset()))) == 2


@pytest.mark.parametrize(
    ("name", "value"), [("line", "a\nrm -rf /"), ("word", "a b"), ("word", ""), ("heredoc", "a\nEND\nrm -rf /")]
)
def test_what_cannot_be_quoted_where_it_stands_is_refused(name: str, value: str) -> None:
    with pytest.raises(OvnlabError, match="invalid"):
        FILTERS[name](value)


@pytest.mark.parametrize(
    "host", ["a\n    ProxyCommand touch PWN", 'a" "b', "a\\", "${HOME}", "a\x1b[2J", "a\rProxyCommand x"]
)
@pytest.mark.parametrize("key", ["host", "user", "keys", "known_hosts"])
def test_the_configuration_of_ssh_cannot_be_added_to(key: str, host: str) -> None:
    """Whatever the grammar lets through: a state folder may be called anything as well."""
    values = {"host": "h", "port": 22, "user": "u", "keys": (Path("/k"),), "known_hosts": Path("/kh")}
    values[key] = (Path(host),) if key == "keys" else Path(host) if key == "known_hosts" else host
    with pytest.raises(OvnlabError, match="for an SSH configuration"):
        render("ssh_config.j2", lab="x", machines={"w1": SshTarget(**values)}, sockets={})  # type: ignore[arg-type]


def test_ssh_reads_what_was_written(tmp_path: Path) -> None:
    """As ssh itself says (ssh -G): with blanks, and with the '%' of its own tokens."""
    reach = SshTarget("fe80::1%eth0", 24, "a@b", (tmp_path / "a %h key",), tmp_path / "known %u")
    config = tmp_path / "config"
    config.write_text(render("ssh_config.j2", lab="x", machines={"w1": reach}, sockets={}))
    said = subprocess.run(["ssh", "-G", "-F", config, "w1"], capture_output=True, text=True, check=True).stdout
    for line in ("hostname fe80::1%eth0", "port 24", "user a@b"):
        assert f"{line}\n" in said
    assert "a %%h key" in said
    assert "proxycommand" not in said


def test_an_inventory_has_its_path_in_one_piece() -> None:
    """As Ansible splits it."""
    roles = {"central": ["central"], "worker": ["w1", "w2"]}
    text = render("inventory.j2", roles=roles, config="/a b/$(id)'/config")
    assert text.startswith("[central]\ncentral\n\n[worker]\nw1\nw2\n\n[all:vars]\n")
    (arguments,) = re.findall(r"^ansible_ssh_common_args=(.*)$", text, re.MULTILINE)
    assert shlex.split(arguments) == ["-F", "/a b/$(id)'/config"]
    with pytest.raises(OvnlabError):
        render("inventory.j2", roles={"worker": ["w1 ansible_connection=local"]}, config="/x")


def test_filters_refuse_or_quote() -> None:
    def rendered(template: str, value: object) -> str:
        return jinja2.Environment.from_string(environment(), "{{ value | %s }}" % template).render(value=value)  # noqa: UP031

    assert rendered("xml", "<a b='c'>&") == "&lt;a b=&#x27;c&#x27;&gt;&amp;"
    assert rendered("yaml", 'a: "b"\n# c\u2028') == '"a: \\"b\\"\\n# c\\u2028"'
    assert rendered("rb", "#{`id`}' + '") == "'#{`id`}\\' + \\''"
    for template, value in (("xml", "\x1b"), ("word", "a b"), ("word", "a\n"), ("word", ""), ("devices", "</devices>")):
        with pytest.raises(OvnlabError):
            rendered(template, value)
