"""Writes containers' output to log files, in a process of its own: `python -I -S containerd_keeper.py SOCKET`.

Output must not flow through the daemon, which restarts, nor is there a logger among containerd's own that marks
times and streams. So one small process reads the FIFOs of all containers of an instance and writes each one's log
in the CRI's layout: `TIME STREAM TAG TEXT`, the tag `P` for a piece of a line and `F` for a line's end; stdout and
stderr have a FIFO each, which tells them apart. A log beyond `FILE_BYTES_MAX` is renamed to `….log.TIME` (as a
kubelet does) and `FILES_MAX` are kept; all but the current one and the last before it are compressed (`….gz`), by a
child of low priority so that nobody's output waits for that. The shims hold both ends of the FIFOs: if this process
dies nothing is lost, output waits in the pipes until the daemon starts another one and hands it what runs.

Requests are lines of JSON, answered by lines of JSON: `keep` (id, stdout, stderr, log), `forget` (id), `list`, and
`attach` (id), after which the connection carries frames as Docker's do (one byte of stream, three zeros, a
big-endian length, the bytes) until the output ends. Whoever sent `list` is told of each container whose output has
ended. An attached reader that takes nothing for `STALL_S` is dropped; until then its container waits for it.

Ends by itself when it keeps nothing and nobody is connected. Imports nothing of the project: it has to be small.
"""

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

FILE_BYTES_MAX = 10 << 20
FILES_MAX = 5
READ_BYTES = 65_536
PIECE_BYTES_MAX = 16_384
BACKLOG_BYTES_MAX = 262_144
REQUEST_BYTES_MAX = 65_536
STALL_S = 10.0
LINGER_S = 5.0
NAMES = (b"", b"stdout", b"stderr")
GZIP, UNFINISHED = ".gz", ".tmp"
NICENESS = 19
DESCRIPTORS_MAX = 1 << 20
Json = dict[str, object]
IN, OUT, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Log:
    """One container's log file. `rotated` is called with its path when it was renamed."""

    def __init__(self, path: str, rotated: Callable[[str], None] = lambda path: None) -> None:
        self.path = path
        self._rotated = rotated
        self._descriptor = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        """A log that can't be written (disk full) loses what comes: a container must not hang for that."""
        if self._size + len(data) > FILE_BYTES_MAX and self._size:
            with contextlib.suppress(OSError):
                self._rotate()
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, data)

    def _rotate(self) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}"
        os.rename(self.path, f"{self.path}.{stamp}")
        self.close()
        self._open()
        for part in parts(self.path)[: -(FILES_MAX - 1)]:
            for name in (part, part + GZIP):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        self._rotated(self.path)

    def close(self) -> None:
        os.close(self._descriptor)


def parts(path: str) -> list[str]:
    """What was rotated away of a log, oldest first, named without whether it is compressed."""
    directory, name = os.path.split(path)
    entries = (entry for entry in os.listdir(directory) if entry.startswith(name + "."))
    stems = {entry.removesuffix(GZIP) for entry in entries if not entry.endswith(UNFINISHED)}
    return [os.path.join(directory, stem) for stem in sorted(stems)]


def compress(path: str) -> None:
    """Compress what was rotated away of a log, but for the newest part. What vanishes meanwhile is fine."""
    import gzip  # Here, because the keeper itself, which only forks for this, has to stay small.
    import shutil

    for part in parts(path)[:-1]:
        unfinished = part + GZIP + UNFINISHED
        with contextlib.suppress(FileNotFoundError):
            with open(part, "rb") as plain, gzip.open(unfinished, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(plain, packed, READ_BYTES)
            os.chmod(unfinished, 0o640)
            # Never does a part have no name: readers look for the plain one first.
            os.rename(unfinished, part + GZIP)
            os.unlink(part)


def records(stream: int, rest: bytes, data: bytes, end: bool) -> tuple[bytes, bytes]:
    """Whole records for `data` behind the `rest` of before; returns them and the new rest."""
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z "
    head = stamp.encode() + NAMES[stream]
    *lines, rest = (rest + data).split(b"\n")
    out: list[bytes] = []
    for line in lines:
        while len(line) > PIECE_BYTES_MAX:
            out += (head, b" P ", line[:PIECE_BYTES_MAX], b"\n")
            line = line[PIECE_BYTES_MAX:]
        out += (head, b" F ", line, b"\n")
    while len(rest) > PIECE_BYTES_MAX or (end and rest):
        out += (head, b" P ", rest[:PIECE_BYTES_MAX], b"\n")
        rest = rest[PIECE_BYTES_MAX:]
    return b"".join(out), rest


class Kept:
    """One container: its FIFOs, its log and who is attached."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.log = log
        self.streams: dict[int, int] = {}
        self.rest = {1: b"", 2: b""}
        self.attached: list[Peer] = []

    def take(self, stream: int, data: bytes) -> None:
        text, self.rest[stream] = records(stream, self.rest[stream], data, end=not data)
        if text:
            self.log.write(text)


class Peer:
    """One connection: requests in, answers and frames out."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.pending = bytearray()
        self.watching = False
        self.kept: Kept | None = None
        self.ending = False
        self.stalled_s = 0.0


class Keeper:
    """The loop. Everything happens in it, one event after the other."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._kept: dict[str, Kept] = {}
        self._fifos: dict[int, tuple[Kept, int]] = {}
        self._peers: dict[int, Peer] = {}
        self._paused: set[int] = set()
        self._epoll.register(listener.fileno(), IN)
        self._idle_s = time.monotonic()
        self._compressor = 0

    def run(self) -> None:
        while self._busy():
            for descriptor, events in self._epoll.poll(1.0):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor in self._fifos:
                    self._read(descriptor)
                elif descriptor in self._peers:
                    self._serve(self._peers[descriptor], events)
            self._drop_stalled()

    def _busy(self) -> bool:
        if self._kept or self._peers:
            self._idle_s = time.monotonic()
        return time.monotonic() - self._idle_s < LINGER_S

    # Output

    def _compress(self, path: str) -> None:
        """In a child, one at a time: what it does not get to is done after the next rotation."""
        if self._compressor and os.waitpid(self._compressor, os.WNOHANG)[0] == 0:
            return
        self._compressor = os.fork()
        if self._compressor == 0:
            try:
                os.closerange(3, DESCRIPTORS_MAX)
                os.nice(NICENESS)
                compress(path)
            finally:
                os._exit(0)

    def _read(self, descriptor: int) -> None:
        kept, stream = self._fifos[descriptor]
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        kept.take(stream, data)
        if not data:
            self._end_stream(descriptor)
            return
        frame = struct.pack(">BxxxL", stream, len(data)) + data
        for peer in kept.attached:
            self._send(peer, frame)
        self._pause_if_behind(kept)

    def _end_stream(self, descriptor: int) -> None:
        kept, stream = self._fifos.pop(descriptor)
        self._paused.discard(descriptor)
        self._forget_descriptor(descriptor)
        os.close(descriptor)
        del kept.streams[stream]
        if not kept.streams:
            self._end(kept)

    def _end(self, kept: Kept) -> None:
        kept.log.close()
        del self._kept[kept.name]
        for peer in kept.attached:
            peer.ending = True
            self._send(peer, b"")
        for peer in list(self._peers.values()):
            if peer.watching:
                self._answer(peer, {"ended": kept.name})

    def _pause_if_behind(self, kept: Kept) -> None:
        """A container whose reader is behind waits, as it would for a terminal."""
        behind = any(len(peer.pending) > BACKLOG_BYTES_MAX for peer in kept.attached)
        for descriptor in kept.streams.values():
            if behind and descriptor not in self._paused:
                self._paused.add(descriptor)
                self._forget_descriptor(descriptor)
            elif not behind and descriptor in self._paused:
                self._paused.discard(descriptor)
                self._epoll.register(descriptor, IN)

    def _forget_descriptor(self, descriptor: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    # Connections

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        self._peers[connection.fileno()] = Peer(connection)
        self._epoll.register(connection.fileno(), IN)

    def _serve(self, peer: Peer, events: int) -> None:
        if events & OUT:
            self._send(peer, b"")
        if events & (IN | HUP) and peer.connection.fileno() >= 0:
            self._receive(peer)

    def _receive(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.received += data
        if not data or len(peer.received) > REQUEST_BYTES_MAX:
            self._close(peer)
            return
        *lines, peer.received = peer.received.split(b"\n")
        for line in lines:
            self._request(peer, json.loads(line))

    def _request(self, peer: Peer, request: Json) -> None:
        try:
            answer = getattr(self, f"_do_{request['op']}")(peer, request)
        except (OSError, KeyError, AttributeError) as error:
            answer = {"error": str(error)}
        self._answer(peer, answer)

    def _do_keep(self, peer: Peer, request: Json) -> Json:
        name = str(request["id"])
        if name in self._kept:
            return {}
        kept = Kept(name, Log(str(request["log"]), self._compress))
        try:
            for stream, path in ((1, request["stdout"]), (2, request["stderr"])):
                if path:
                    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    kept.streams[stream] = os.open(str(path), flags)
        except OSError:
            kept.log.close()
            for descriptor in kept.streams.values():
                os.close(descriptor)
            raise
        self._kept[kept.name] = kept
        for stream, descriptor in kept.streams.items():
            self._fifos[descriptor] = kept, stream
            self._epoll.register(descriptor, IN)
        return {}

    def _do_forget(self, peer: Peer, request: Json) -> Json:
        kept = self._kept.get(str(request["id"]))
        for descriptor in list(kept.streams.values()) if kept else ():
            self._end_stream(descriptor)
        return {}

    def _do_list(self, peer: Peer, request: Json) -> Json:
        peer.watching = True
        return {"kept": list(self._kept)}

    def _do_attach(self, peer: Peer, request: Json) -> Json:
        kept = peer.kept = self._kept[str(request["id"])]
        kept.attached.append(peer)
        return {}

    def _answer(self, peer: Peer, answer: Json) -> None:
        self._send(peer, json.dumps(answer).encode() + b"\n")

    def _send(self, peer: Peer, data: bytes) -> None:
        peer.pending += data
        before = len(peer.pending)
        try:
            while peer.pending:
                del peer.pending[: peer.connection.send(peer.pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._close(peer)
            return
        if not peer.pending or len(peer.pending) < before:
            peer.stalled_s = 0.0
        if peer.pending:
            peer.stalled_s = peer.stalled_s or time.monotonic()
        elif peer.ending:
            self._close(peer)
            return
        self._epoll.modify(peer.connection.fileno(), IN | OUT if peer.pending else IN)
        if peer.kept is not None:
            self._pause_if_behind(peer.kept)

    def _drop_stalled(self) -> None:
        now = time.monotonic()
        for peer in list(self._peers.values()):
            if peer.stalled_s and now - peer.stalled_s > STALL_S:
                self._close(peer)

    def _close(self, peer: Peer) -> None:
        descriptor = peer.connection.fileno()
        if descriptor < 0:
            return
        self._forget_descriptor(descriptor)
        del self._peers[descriptor]
        peer.connection.close()
        if peer.kept is not None:
            if peer in peer.kept.attached:
                peer.kept.attached = [other for other in peer.kept.attached if other is not peer]
            self._pause_if_behind(peer.kept)


def main(path: str) -> None:
    """Take the socket, let the caller go on, and serve. Nothing happens where another one serves already."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(64)
    listener.setblocking(False)
    if os.fork():
        os._exit(0)  # The caller waits for this one only, and so never has a child to bury.
    Keeper(listener).run()
    os.unlink(path)


if __name__ == "__main__":
    main(sys.argv[1])
