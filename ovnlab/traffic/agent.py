"""The program that sends, answers and counts packets on a node or in a fake VM.

ovnlab runs the text of this file there with `python3 -IS -c`, so it imports nothing but the standard library, and
nothing that takes long. Its argument is a JSON object; `role` is the name of a function below.

Standard input: `t` asks for the time, `g` begins, the end of it ends this program: however ovnlab ends, so does this.
Standard output: events, each a kind, a number and a time in nanoseconds since 1970 (EVENT).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import struct
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself takes as long as all the rest
    from typing import Any

EVENT = struct.Struct("<BIq")
"""Kind, number, time."""

SENT, ANSWERED, ARRIVED, DIED, FAILED, OVERFLOWN, CLOCK, PORT, BYTES, PACKETS = range(1, 11)
"""Kinds of events. The number is that of a packet, a connection (DIED), an errno (FAILED), a UDP and TCP port, or a
count since the last such event."""

SO_TIMESTAMPNS, SO_RXQ_OVFL, ICMP_FILTER, ICMP6_FILTER = 35, 40, 1, 1
"""Options of sockets that Python has no names for (socket(7), raw(7), icmp6 of RFC 3542)."""

MARK = b"ovnl"
ROOM = 1 << 22
PATIENCE = 1.0
"""Seconds that the last answers may take."""

CONNECT_TIMEOUT = 10.0


class EventLog:
    """Events, written when there is time. It never waits for a reader."""

    def __init__(self) -> None:
        self.kept = bytearray()
        os.set_blocking(1, False)

    def add(self, kind: int, number: int, when: int = 0) -> None:
        """Add an event, of now if no time is given."""
        self.kept += EVENT.pack(kind, number & 0xFFFFFFFF, when or time.time_ns())

    def count(self, kind: int, number: int) -> None:
        """Add a number that may be larger than one event can hold."""
        for _ in range(number >> 31):
            self.add(kind, 1 << 31)
        self.add(kind, number & 0x7FFFFFFF)

    def write(self) -> None:
        """Write as much as is taken just now."""
        while self.kept:
            try:
                written = os.write(1, self.kept)
            except BlockingIOError:
                return
            del self.kept[:written]

    def finish(self) -> None:
        """Write all of it."""
        os.set_blocking(1, True)
        self.write()


LOG = EventLog()


def control() -> str:
    """Return what standard input says now: the last letter, "end" at its end, nothing where it says nothing."""
    if not select.select([0], [], [], 0)[0]:
        return ""
    said = os.read(0, 1).decode()
    if said == "t":
        LOG.add(CLOCK, 0)
        LOG.write()
    return said or "end"


def await_begin() -> bool:
    """Answer questions for the time until it is time to begin; False where it never is."""
    while True:
        select.select([0], [], [])
        said = control()
        if said in ("g", "end"):
            return said == "g"


def prepared(made: socket.socket) -> socket.socket:
    """Have a socket keep much, tell when each packet came, and how many it had no room for."""
    for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE needs root of the machine
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, option, ROOM)
            break
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    made.setblocking(False)
    return made


class Receiver:
    """A receiver of packets from a socket, with the kernel's timestamps."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.dropped = 0

    def take(self) -> tuple[bytes, int, Any] | None:
        """Return the next packet, when it came and whom it is from; None where there is none."""
        try:
            data, ancillary, _, sender = self.socket.recvmsg(65536, 128)
        except BlockingIOError:
            return None
        except OSError:  # an ICMP error about one of its packets
            return b"", 0, None
        when = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("@ll", value[:16])
                when = seconds * 1_000_000_000 + nanoseconds
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                total = struct.unpack("@I", value[:4])[0]
                if total > self.dropped:
                    LOG.add(OVERFLOWN, total - self.dropped)
                    self.dropped = total
        return data, when, sender


def checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data))  # noqa: UP031  the length is part of the format
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Way:
    """A socket that is connected as soon as there is a route: then it takes no packets of others."""

    def __init__(self, made: socket.socket, address: tuple[str, int]) -> None:
        self.socket = made
        self.address = address
        self.is_connected = False
        with contextlib.suppress(OSError):
            self.connect()
        prepared(made)

    def connect(self) -> None:
        """Connect, unless it is."""
        if not self.is_connected:
            self.socket.connect(self.address)
            self.is_connected = True

    def send(self, packet: bytes) -> None:
        """Send a packet. Raise OSError if that cannot be done."""
        self.connect()
        self.socket.send(packet)


class Echo(Way):
    """ICMP and ICMPv6 echo requests, answered by the kernel of whoever gets them."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.six = ":" in asked["address"]
        family = socket.AF_INET6 if self.six else socket.AF_INET
        made = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if self.six else socket.IPPROTO_ICMP)
        if self.six:
            passed = bytearray(b"\xff" * 32)
            passed[16] &= 0xFD  # 129, echo reply
            made.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(passed))
        else:
            made.setsockopt(255, ICMP_FILTER, struct.pack("@I", 0xFFFFFFFE))  # 0, echo reply
        bind_to(made, asked)
        super().__init__(made, (asked["address"], 0))
        self.id = os.getpid() & 0xFFFF
        self.padding = bytes(max(asked["size"] - 8, 0) + asked["size"] % 2)

    def pack(self, number: int) -> bytes:
        """Return a packet."""
        payload = MARK + struct.pack("!I", number) + self.padding
        head = struct.pack("!BBHHH", 128 if self.six else 8, 0, 0, self.id, number & 0xFFFF)
        if self.six:
            return head + payload  # the kernel fills in the checksum (RFC 3542)
        return head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload

    def unpack(self, data: bytes) -> int | None:
        """Return the number of a packet, None where it is somebody else's."""
        if not self.six:
            data = data[(data[0] & 15) * 4 :] if data else b""
        if data[4:6] != struct.pack("!H", self.id) or data[8:12] != MARK:
            return None
        number: int = struct.unpack("!I", data[12:16])[0]
        return number


class Datagrams(Way):
    """UDP packets, which an `answer` of this program sends back."""

    def __init__(self, asked: dict[str, Any]) -> None:
        family = socket.AF_INET6 if ":" in asked["address"] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        bind_to(made, asked)
        super().__init__(made, (asked["address"], asked["port"]))
        self.padding = bytes(max(asked["size"] - 8, 0))

    def pack(self, number: int) -> bytes:
        """Return a packet."""
        return MARK + struct.pack("!I", number) + self.padding

    def unpack(self, data: bytes) -> int | None:
        """Return the number of a packet, None where it is somebody else's."""
        if data[:4] != MARK or len(data) < 8:
            return None
        number: int = struct.unpack("!I", data[4:8])[0]
        return number


def bind_to(made: socket.socket, asked: dict[str, Any]) -> None:
    """Have packets leave by the device that is asked for."""
    if asked["device"]:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, asked["device"].encode() + b"\0")


class Pace:
    """The times at which packets are due. What could not be sent in time is left out, not made up for."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.due = time.monotonic()

    def wait(self) -> None:
        """Return when it is due."""
        self.due = max(self.due + self.interval, time.monotonic())
        left = self.due - time.monotonic()
        if left > 0:
            time.sleep(left)


def send(asked: dict[str, Any]) -> None:
    """Send a packet each interval, and tell which of them are answered and when."""
    kind = Echo(asked) if asked["protocol"] == "icmp" else Datagrams(asked)
    receiver = Receiver(kind.socket)
    answered = -1

    def drain() -> None:
        nonlocal answered
        while (found := receiver.take()) is not None:
            number = kind.unpack(found[0])
            if number is not None:
                LOG.add(ANSWERED, number, found[1])
                answered = max(answered, number)

    if not await_begin():
        return
    pace, number = Pace(asked["interval"]), 0
    while number % 16 or control() != "end":
        when = time.time_ns()
        LOG.add(SENT, number, when)
        for attempt in (0, 1):  # the first one may be told of an error that is about an earlier packet
            try:
                kind.send(kind.pack(number))
                break
            except OSError as error:
                if attempt:
                    LOG.add(FAILED, error.errno or errno.EIO, when)
        number += 1
        drain()
        if number % 32 == 0:
            LOG.write()
        pace.wait()
    deadline = time.monotonic() + PATIENCE
    while answered < number - 1 and time.monotonic() < deadline:
        select.select([kind.socket], [], [], max(deadline - time.monotonic(), 0))
        drain()


def listening(asked: dict[str, Any]) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket with the same port, which is told."""
    family = socket.AF_INET6 if ":" in asked["address"] else socket.AF_INET
    while True:
        udp = prepared(socket.socket(family, socket.SOCK_DGRAM))
        udp.bind((asked["address"], 0))
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(udp.getsockname()[:2])
        except OSError:  # somebody has that port
            udp.close()
            tcp.close()
            continue
        tcp.listen(128)
        tcp.setblocking(False)
        LOG.add(PORT, udp.getsockname()[1])
        LOG.write()
        return udp, tcp


class Conversations:
    """TCP connections that everything is sent back on."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.owed: dict[socket.socket, bytearray] = {}

    def accept(self) -> None:
        """Take one more."""
        with contextlib.suppress(OSError):
            made = self.listener.accept()[0]
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setblocking(False)
            self.owed[made] = bytearray()

    def go_on(self, made: socket.socket) -> None:
        """Read what has come on one, and send back what can be."""
        try:
            try:
                data = made.recv(65536)
                if not data:
                    raise ConnectionError
                self.owed[made] += data
            except BlockingIOError:
                pass
            while self.owed[made]:
                del self.owed[made][: made.send(self.owed[made])]
        except BlockingIOError:
            pass
        except OSError:
            made.close()
            del self.owed[made]


def answer(asked: dict[str, Any]) -> None:
    """Send back whatever comes by UDP and TCP, and tell which UDP packets came and when."""
    udp, tcp = listening(asked)
    receiver = Receiver(udp)
    conversations = Conversations(tcp)
    while True:
        waiting = [made for made, rest in conversations.owed.items() if rest]
        asked_for: list[Any] = [0, udp, tcp, *conversations.owed]
        ready, writable, _ = select.select(asked_for, waiting, [])
        if 0 in ready and control() == "end":
            return
        for _ in range(64 if udp in ready else 0):
            found = receiver.take()
            if found is None:
                break
            if found[0][:4] == MARK and found[2] is not None:
                LOG.add(ARRIVED, struct.unpack("!I", found[0][4:8])[0], found[1])
                with contextlib.suppress(OSError):
                    udp.sendto(found[0], found[2])
        if tcp in ready:
            conversations.accept()
        for made in {*ready, *writable} & conversations.owed.keys():
            conversations.go_on(made)
        LOG.write()


def connected(asked: dict[str, Any]) -> socket.socket:
    """Return a TCP connection to where the argument says."""
    family = socket.AF_INET6 if ":" in asked["address"] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    bind_to(made, asked)
    made.settimeout(CONNECT_TIMEOUT)
    made.connect((asked["address"], asked["port"]))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Connection:
    """A TCP connection to an `answer` of this program, and the records on their way."""

    RECORD = struct.Struct("!4sI")

    def __init__(self, number: int) -> None:
        self.number = number
        self.socket: socket.socket | None = None
        self.received, self.owed = bytearray(), bytearray()
        self.unanswered = 0

    def open(self, asked: dict[str, Any]) -> None:
        """Connect."""
        try:
            self.socket = connected(asked)
            self.socket.setblocking(False)
        except OSError as error:
            self.die(error.errno or errno.ETIMEDOUT)

    def die(self, reason: int) -> None:
        """Take down that it has ended."""
        LOG.add(DIED, self.number)
        LOG.add(FAILED, reason)
        if self.socket is not None:
            self.socket.close()
        self.socket, self.unanswered = None, 0

    def put(self, number: int) -> None:
        """Have a record sent, unless the one before it still waits for that."""
        if self.socket is not None and not self.owed:
            LOG.add(SENT, number)
            self.owed += self.RECORD.pack(MARK, number)
            self.unanswered += 1

    def go_on(self) -> None:
        """Send what is to be sent, and take the answers that have come."""
        if self.socket is None:
            return
        try:
            if self.owed:
                with contextlib.suppress(BlockingIOError):
                    del self.owed[: self.socket.send(self.owed)]
            data = self.socket.recv(65536)
            if not data:
                self.die(errno.ECONNRESET)
                return
        except BlockingIOError:
            return
        except OSError as error:
            self.die(error.errno or errno.ECONNRESET)
            return
        now = time.time_ns()
        self.received += data
        whole = len(self.received) // self.RECORD.size * self.RECORD.size
        for _, number in self.RECORD.iter_unpack(bytes(self.received[:whole])):
            LOG.add(ANSWERED, number, now)
            self.unanswered -= 1
        del self.received[:whole]


def connect(asked: dict[str, Any]) -> None:
    """Keep TCP connections busy, one record an interval, in turn; record N is of connection N modulo their number."""
    connections = [Connection(number) for number in range(asked["streams"])]
    if not await_begin():
        return
    for connection in connections:
        connection.open(asked)
    pace, number = Pace(asked["interval"]), 0
    while number % 16 or control() != "end":
        connections[number % len(connections)].put(number)
        for connection in connections:
            connection.go_on()
        number += 1
        if number % 32 == 0:
            LOG.write()
        pace.wait()
    deadline = time.monotonic() + PATIENCE
    while any(one.unanswered for one in connections) and time.monotonic() < deadline:
        time.sleep(0.001)
        for connection in connections:
            connection.go_on()


def flood(asked: dict[str, Any]) -> None:
    """Send as much as goes, in several streams, by TCP or UDP."""
    over = threading.Event()
    payload = bytes(asked["size"])
    lock = threading.Lock()

    def stream(number: int) -> None:
        sent = packets = 0
        try:
            if asked["protocol"] == "tcp":
                made = connected(asked)
                made.settimeout(1.0)
                call = made.send
            else:
                made = socket.socket(socket.AF_INET6 if ":" in asked["address"] else socket.AF_INET, socket.SOCK_DGRAM)
                bind_to(made, asked)
                made.connect((asked["address"], asked["port"]))
                call = made.send
            while not over.is_set():
                try:
                    sent += call(payload)
                    packets += 1
                except OSError as error:
                    if asked["protocol"] == "tcp" and not isinstance(error, TimeoutError):
                        raise
            made.close()
        except OSError as error:
            with lock:
                LOG.add(DIED, number)
                LOG.add(FAILED, error.errno or errno.ETIMEDOUT)
        with lock:
            LOG.count(BYTES, sent)
            LOG.count(PACKETS, packets)

    if not await_begin():
        return
    threads = [threading.Thread(target=stream, args=(number,), daemon=True) for number in range(asked["streams"])]
    for thread in threads:
        thread.start()
    while control() != "end":
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join(3)


def sink(asked: dict[str, Any]) -> None:
    """Count what comes by UDP and TCP."""
    udp, tcp = listening(asked)
    receiver = Receiver(udp)
    streams: set[Any] = set()
    buffer = bytearray(1 << 20)
    length = packets = 0
    told = time.monotonic()
    while True:
        ready = select.select([0, udp, tcp, *streams], [], [], 0.1)[0]
        if udp in ready:
            for _ in range(256):
                found = receiver.take()
                if found is None:
                    break
                length += len(found[0])
                packets += 1
        if tcp in ready:
            made = tcp.accept()[0]
            made.setblocking(False)
            streams.add(made)
        for made in [made for made in ready if made in streams]:
            try:
                count = made.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError:
                count = 0
            length += count
            if not count:
                made.close()
                streams.discard(made)
        ends = 0 in ready and control() == "end"
        if ends or time.monotonic() - told >= 0.1:
            LOG.add(BYTES, length)
            LOG.add(PACKETS, packets)
            LOG.write()
            length, packets, told = 0, 0, time.monotonic()
        if ends:
            return


ROLES = {"send": send, "answer": answer, "connect": connect, "flood": flood, "sink": sink}


def main() -> None:
    """Do what the argument says. Says in one line what cannot be done."""
    asked = json.loads(sys.argv[1])
    try:
        ROLES[asked["role"]](asked)
        LOG.finish()
    except BrokenPipeError:
        pass
    except OSError as error:
        sys.exit(f"ovnlab: {error.strerror or error}")


if __name__ == "__main__":
    main()
