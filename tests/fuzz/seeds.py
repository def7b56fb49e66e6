"""Whole input that mutations begin with."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ovnlab.insight.bundle import Manifest
from ovnlab.insight.pcap import write
from ovnlab.topology.load import load_text

ROOT = Path(__file__).parents[2]

UDP_6081 = 6081


@cache
def topologies() -> tuple[bytes, ...]:
    """Return the shipped topologies, the whole grammar, and a small file."""
    files = [*sorted((ROOT / "topologies").glob("*.yaml")), ROOT / "tests/unit/everything.yaml"]
    small = b"nodes: {central: {role: central}, w1: {}}\nlogical: {switches: {n1: {subnet: 10.0.0.0/24}}}\n"
    return (MACHINES, *(path.read_bytes() for path in files), small)


MACHINES = b"""name: machines
provider: ssh
machines: {user: admin, key: ./key, known_hosts: ./known, port: 22, sudo: true, uri: "qemu:///system", image: ./disk.img,
  kernel: ./vmlinuz, initrd: ./initrd, cpu: host-model, machine: q35, xml: "<watchdog/>", jump: "a@gate:22"}
libvirt: {pool: default, subnet: 10.99.0.0/24, bridge: br0, network: nat}
software: {ovs: {distro: true}, ovn: {git: "https://example.org/ovn", ref: main}, cflags: -O2}
physical_networks: {external: {subnet: 10.0.0.0/24}}
nodes:
  central: {role: central, ip: 192.168.50.10, host: 192.0.2.1}
  worker1: {ip: 192.168.50.11, host: w1.example.org, physical: [external], nics: {external: eth2}}
logical: {switches: {n1: {subnet: 192.168.0.0/24, ports: {vm1: {chassis: worker1}}}}}
checks: [{ping: vm1, from: worker1}, {tcp: "worker1:22", from: central}]
"""


def frame(payload: bytes = b"payload") -> bytes:
    """Return a Geneve packet of OVN's that carries a ping."""
    inner_ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + 8 + len(payload), 1, 0, 64, 1, 0, b"\xc0\xa8\0\x0b", b"\xc0\xa8\0\x0c"
    )
    inner = b"\x40\x44\0\0\0\2\x40\x44\0\0\0\1\x08\0" + inner_ip + b"\x08\0\0\0\0\1\0\1" + payload
    geneve = struct.pack("!BBHI", 2, 0, 0x6558, 1 << 8) + struct.pack("!HBBI", 0x0102, 0x80, 1, 1 << 16 | 2)
    udp = struct.pack("!HHHH", 40000, UDP_6081, 8 + len(geneve) + len(inner), 0) + geneve + inner
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, b"\xc0\xa8\x32\x64", b"\xc0\xa8\x32\x65")
    return b"\x52\x54\0\0\0\2\x52\x54\0\0\0\1\x08\0" + ip + udp


def pcap(frames: Sequence[bytes], order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1) -> bytes:
    """Return a pcap file."""
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    records = (struct.pack(f"{order}IIII", 1_700_000_000 + n, n, len(f), len(f)) + f for n, f in enumerate(frames))
    return head + b"".join(records)


def pcapng(path: Path, places: Sequence[str] = ("vm1", "worker1:eth1")) -> bytes:
    """Return a pcapng file as `ovnlab capture -w` writes it, by way of a file."""
    times = range(1_700_000_000_000_000_000, 1_700_000_000_000_000_000 + len(places))
    write(path, places, [(time, place, frame(), len(frame())) for time, place in zip(times, places, strict=True)])
    return path.read_bytes()


def captures(scratch: Path) -> tuple[bytes, ...]:
    """Return captures of several formats, and hexadecimal dumps."""
    dump = "\n".join(
        f"\t0x{at:04x}:  " + " ".join(frame()[at : at + 16].hex()[i : i + 4] for i in range(0, 32, 4))
        for at in range(0, len(frame()), 16)
    )
    return (
        pcap([frame(), frame(b"x" * 200)]),
        pcap([frame()], ">", 0xA1B23C4D),
        pcap([frame()[14:]], link=101),
        pcap([b"\0" * 14 + b"\x08\0" + frame()[14:]], link=113),
        pcapng(scratch / "seed.pcapng"),
        dump.encode(),
        frame().hex().encode(),
        f"'{frame().hex(':')}'".encode(),
        gzip.compress(pcap([frame(), frame()]), mtime=0),
    )


def bundle(compression: str = "gz", **parts: Any) -> bytes:
    """Return a bundle of a lab without nodes that answered; `parts` replace what is in its files."""
    topology = load_text("3node.yaml", topologies()[1]).topology
    given = {
        "manifest.json": Manifest("lab", 1_700_000_000, "0", (), {}),
        "topology.json": topology,
        "states.json": {},
        "northbound.json": [],
        "zones/-/southbound.json": {
            "Chassis": [{"_uuid": "c1", "name": "worker1", "encaps": "e1"}],
            "Encap": [{"_uuid": "e1", "type": "geneve", "ip": "192.168.50.100"}],
            "Datapath_Binding": [{"_uuid": "d1", "tunnel_key": 1, "external_ids": {"name": "network1"}}],
            "Port_Binding": [
                {"_uuid": f"p{key}", "logical_port": f"vm{key}", "type": "", "datapath": "d1", "tunnel_key": key,
                 "chassis": "c1", "mac": f"40:44:00:00:00:0{key} 192.168.0.1{key}", "options": {}, "parent_port": [],
                 "tag": []}
                for key in (1, 2)
            ],
            "Multicast_Group": [],
        },
        "status.json": {
            "lab": "lab", "state": "up", "provider": "local", "topology": "x", "software": {},
            "nodes": [
                {"name": name, "role": "worker", "ip": "192.168.50.100", "running": True, "state": "running",
                 "is_chassis": True, "registered": True, "encap": "geneve", "daemons": [], "tunnels": []}
                for name in ("central", "worker1", "worker2")
            ],
            "ports": [],
        },
    }  # fmt: skip
    given.update({name.replace("__", "/"): value for name, value in parts.items()})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, value in given.items():
            content = value if isinstance(value, bytes) else msgspec.json.encode(value)
            about = tarfile.TarInfo(f"lab/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return packed.getvalue()


def strings() -> Iterator[str]:
    """Yield what would run or change something where it is not quoted: MARK is what running it would touch."""
    yield from (
        "$(touch MARK)",
        "`touch MARK`",
        "';touch MARK;'",
        '";touch MARK;"',
        "x\ntouch MARK\n",
        "x\nEND\ntouch MARK\n",
        "x\n    ProxyCommand touch MARK",
        "%(touch MARK)",
        "{{ ''.__class__ }}{% raw %}",
        "#{`touch MARK`}",
        "'+`touch MARK`+'",
        "]]><evil/>&amp;<!-- ",
        '"/><script path="MARK"/>',
        "a: b\n- c: &x [*x]\n# ",
        "-oProxyCommand=touch MARK",
        "|touch MARK",
        "$((1+`touch MARK`))",
        "\\",
        "\x1b]0;title\x07",
        "\u202e\u2028",
        "é 漢",
    )
