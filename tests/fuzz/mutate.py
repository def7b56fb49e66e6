"""Damage, chosen by a seed: the same number gives the same input again."""

from __future__ import annotations

import random
from collections.abc import Sequence

TOKENS = (
    b"", b"{}", b"[]", b"null", b"~", b"true", b"-1", b"0", b"99999999999999999999", b"1e400", b".nan", b"0x7fffffff",
    b"255.255.255.255/32", b"0.0.0.0/0", b"::/0", b"'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128'", b"10.0.0.0/31",
    b"fe80::1%eth0", b"'fe80::1%\xc3\xa9/64'", b"ff:ff:ff:ff:ff:ff", b"00:00:00:00:00:00", b"*a", b"&a x", b"<<", b"? x",
    b"!!binary aGk=", b"!!set {a}", b"!!python/none x", b"2020-99-99", b"12:30:45", b"'a\\0b'", b'"\\x1b[2J"', b'"\\ud800"',
    b"|\n  a\n", b"local", b"ssh", b"libvirt", b"vagrant", b"central", b"host", b"relay", b"gateway", b"dhcp", b"slaac",
    b"packages", b"system", b"'[::1]:80'", b"'10.0.0.1:0'", b"'a:b:c:80'", b"- x", b"#", b"\t", b"\xff", b"\xef\xbb\xbf",
    b"\xe2\x80\xae", b"....", b"../../etc/passwd", b"~root/x", b"~nobody/x", b"http://x", b"qemu+ssh://h/system",
)  # fmt: skip


def damaged(content: bytes, chance: random.Random, tokens: Sequence[bytes] = (), others: Sequence[bytes] = ()) -> bytes:
    """Return content with one to five places changed: bytes, words, lines, lengths, or parts of other content."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 30)))
        match chance.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at:to] = chance.randbytes(to - at)
            case 2:
                del data[at:to]
            case 3:
                data[at:at] = data[at:to] * chance.choice((1, 2, 50))
            case 4:
                del data[at:]
            case 5 if others:
                other = chance.choice(others)
                begin = chance.randrange(len(other) + 1)
                data[at:to] = other[begin : begin + chance.choice((4, 16, 60))]
            case 6:
                data[at : at + 4] = chance.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
                )
            case _ if tokens:
                begin, end = word_at(data, at)
                data[begin:end] = chance.choice(tokens)
    return bytes(data)


def word_at(data: bytearray, at: int) -> tuple[int, int]:
    """Return where the word at a place begins and ends, as words of YAML go."""
    ends = b" ,:[]{}\n"
    begin = end = at
    while begin > 0 and data[begin - 1] not in ends:
        begin -= 1
    while end < len(data) and data[end] not in ends:
        end += 1
    return begin, end
