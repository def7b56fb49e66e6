"""Files that are damaged, hostile or large: captures, bundles, topologies."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import pytest

from ovnlab.cli import output
from ovnlab.cli.render.packet_text import clock
from ovnlab.errors import OvnlabError, TopologyError, UsageError
from ovnlab.insight import bundle
from ovnlab.insight.pcap import LARGEST_DUMP, read
from ovnlab.shipped import find_topology
from ovnlab.topology.file_bytes import LARGEST
from ovnlab.topology.file_bytes import read as read_topology
from ovnlab.topology.load import load_text
from tests.fuzz import seeds


def run(*words: str, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run ovnlab in a process of its own, with at most so many bytes of memory."""
    limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
    command = [sys.executable, "-m", "ovnlab", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit)


# ── topologies ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "logical: {{switches: {{n1: {{subnet: '{}', ports: {{a: {{}}}}}}}}}}",
        "logical: {{switches: {{n1: {{subnet: '{}', dhcp: true}}}}}}",
        "underlay: {{subnet: '{}'}}",
        "provider: libvirt\nlibvirt: {{subnet: '{}'}}",
    ],
)
@pytest.mark.parametrize("subnet", ["255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"])
def test_a_subnet_that_is_the_last_address_is_a_mistake_of_the_file(text: str, subnet: str) -> None:
    with pytest.raises(TopologyError, match=r"cannot be a subnet|has too few addresses"):
        load_text("lab.yaml", f"nodes: {{central: {{role: central}}}}\n{text.format(subnet)}\n".encode())


def test_the_last_addresses_are_given_out() -> None:
    """Nothing is counted past the end."""
    for subnet, last in (
        ("255.255.255.252/30", "255.255.255.253"),
        ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ):
        text = f"nodes: {{c: {{role: central}}}}\nlogical: {{switches: {{n1: {{subnet: '{subnet}', ports: {{a: }}}}}}}}"
        loaded = load_text("lab.yaml", text.encode())
        assert loaded.topology.switches[0].vms[0].ips == (last,)


def test_a_reused_anchor_is_valid_and_makes_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_text("lab.yaml", b"nodes: {c: &a {role: central}, w1: &a {}, w2: *a}\n")


def test_a_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"# " + b"x" * LARGEST)
    for name in (str(path), "/dev/zero"):
        with pytest.raises(TopologyError, match="is larger than"):
            read_topology(name)
    done = run("validate", "/dev/zero", memory=400 * 2**20)
    assert (done.returncode, "is larger than" in done.stderr) == (2, True)


def test_aliases_are_bounded_and_what_is_long_is_not() -> None:
    laughs = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
    )
    with pytest.raises(TopologyError, match="too large once its aliases are expanded"):
        load_text("lab.yaml", laughs)
    with pytest.raises(TopologyError, match=r"lab.yaml:1:\d+: .*has more than 200000 values"):
        load_text("lab.yaml", b"nodes: [" + b"a," * 210_000 + b"]")
    ports = ", ".join(f"p{number}: *p" for number in range(3000))
    text = f"nodes: {{c: {{role: central}}}}\nlogical: {{switches: {{n: {{subnet: 10.0.0.0/16, ports: {{a: &p {{}}, {ports}}}}}}}}}"
    assert len(load_text("lab.yaml", text.encode()).topology.vms) == 3001


def test_an_empty_name_is_none() -> None:
    with pytest.raises(UsageError, match="invalid topology ''"):
        find_topology("")
    with pytest.raises(TopologyError, match="invalid file name ''"):
        read_topology("")


# ── captures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wild_time_is_shown_and_what_follows_too(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    content = seeds.pcapng(path, ("one", "two")).replace(struct.pack("<HHB", 9, 1, 9), struct.pack("<HHB", 9, 1, 6))
    path.write_bytes(content)  # as microseconds, its nanoseconds are of the year 55840
    done = run("decode", str(path))
    first, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first.startswith("   1  1700000000000.000000 s  one")
    assert second.startswith("   2  1700000000000.000001 s  two")
    for time in (0, -1, 10**30, -(10**30), 2**63):
        assert clock(time)


def test_names_in_a_capture_are_shown_and_not_sent(tmp_path: Path) -> None:
    """A terminal would take them for commands."""
    path = tmp_path / "x.pcapng"
    path.write_bytes(seeds.pcapng(path, ("eth0\x1b]0;title\x07", "a\u202eb")))
    done = run("decode", str(path))
    assert done.returncode == 0
    assert not set(done.stdout) & set("\x1b\x07\u202e")
    assert "eth0\\x1b]0;title\\x07" in done.stdout
    assert "a\\u202eb" in done.stdout


def test_output_keeps_its_own_colours() -> None:
    text = "\x1b[31mred\x1b[0m\tand\nmore"
    assert output.shown(text) == text
    assert output.shown("\x1b[2J\x1b[8m\r\x9b") == "\\x1b[2J\\x1b[8m\\r\\x9b"
    assert output.shown("é→漢") == "é→漢"


def test_a_length_in_a_capture_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    content = bytearray(seeds.pcap([seeds.frame()]))
    content[32:36] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(bytes(content))
    done = run("decode", str(path), memory=600 * 2**20)
    assert done.returncode in (0, 1)
    assert "MemoryError" not in done.stderr
    assert "mistake in ovnlab" not in done.stderr


def test_a_dump_is_bounded() -> None:
    with pytest.raises(OvnlabError, match="larger than a hexadecimal dump"):
        list(read(Path("/dev/zero")))
    assert LARGEST_DUMP <= 64 * 2**20


def test_many_packets_as_json_are_one_object(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    for count in (0, 3):
        path.write_bytes(seeds.pcap([seeds.frame()] * count))
        done = run("decode", "--json", str(path))
        found = json.loads(done.stdout)
        assert len(found["packets"]) == count
        assert list(found) == ["schema_version", "packets"]


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────────


def refusal(path: Path) -> str:
    with pytest.raises(OvnlabError) as caught, bundle.opened(path, lambda _: None):
        pass
    return str(caught.value)


def test_a_bundle_is_read_however_it_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "b"
    for compression in ("gz", "bz2", "xz", ""):
        path.write_bytes(seeds.bundle(compression))
        with bundle.opened(path, lambda _: None) as seen:
            assert seen.topology.node("central")
        assert bundle.status_of(path)[1].state == "up"


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", ""])
def test_a_damaged_bundle_is_refused_in_a_line(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "b"
    whole = seeds.bundle(compression)
    for at in range(0, len(whole), max(1, len(whole) // 25)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                with bundle.opened(path, lambda _: None):
                    pass
            except OvnlabError as error:
                assert "\n" not in str(error), error  # noqa: PT017  that it may be readable is as good


@pytest.mark.parametrize("content", [b"", b"hello", bytes(2000), b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"])
def test_what_is_no_archive_is_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.write_bytes(content)
    assert "\n" not in refusal(path)
    assert "bundle" in refusal(path)


def bomb(kind: str) -> bytes:
    """Return an archive of a few MB that holds very much."""
    zeros = bundle.MOST_UNPACKED + 2**20
    about = tarfile.TarInfo("lab/manifest.json")
    about.size = zeros
    if kind == "header":  # a PAX header is read into memory
        about.type = tarfile.XHDTYPE
    if kind == "sparse":
        about.type = tarfile.GNUTYPE_SPARSE
    head = about.tobuf(tarfile.GNU_FORMAT)
    packed = io.BytesIO()
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(zeros // 2**20 + 1):
            file.write(bytes(2**20))
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["file", "header"])
def test_a_bundle_that_unpacks_to_very_much_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_bytes(bomb(kind))
    done = run("graph", "--bundle", str(path), memory=500 * 2**20)
    assert done.returncode == 1
    assert "holds more than 512 MiB" in done.stderr


def test_nothing_of_a_bundle_gets_outside(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, kind in (
            ("../out", tarfile.REGTYPE),
            ("/tmp/ovnlab-out", tarfile.REGTYPE),
            ("lab/l", tarfile.SYMTYPE),
        ):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc"
            archive.addfile(about, io.BytesIO())
        archive.addfile(tarfile.TarInfo("lab/l/x"), io.BytesIO())
    path = tmp_path / "in" / "b.tar.gz"
    path.parent.mkdir()
    path.write_bytes(packed.getvalue())
    assert "is not a bundle" in refusal(path)
    assert not (tmp_path / "out").exists()
    assert not Path("/tmp/ovnlab-out").exists()
