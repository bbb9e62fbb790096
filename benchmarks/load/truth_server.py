"""The simulated server that knows the truth: when each request was whole, when each event was handed to the kernel, and
how many tokens were in it. ``python truth_server.py`` prints its port and serves on 127.0.0.1 until SIGTERM.

A loop of epoll and system calls of its own. An event loop would not do: uvloop gathers writes and makes them at the
end of its turn, so that nobody could say when an event was handed over.

Besides what clients ask for it answers those who measure: ``/truth/begin`` (an ``Answers``), ``/truth/counts`` and
``/truth/end`` (the name of a file to write).
"""

from __future__ import annotations

import contextlib
import re
import select
import signal
import socket
import time
import zlib
from array import array

import httptools
import msgspec
import numpy as np
from answers import HEAD, ID, MODEL, Answers, Pieces, answer_id
from truth import Counts

STREAM = re.compile(rb'"stream"\s*:\s*true')
USAGE = re.compile(rb'"include_usage"\s*:\s*true')
READ_BYTES = 1 << 18
BACKLOG = 4096
SAMPLE_TICKS = 16
"""At every so many it is looked whether clients have read what they were sent the time before."""
MODELS = msgspec.json.encode({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "headrace"}]})

monotonic_ns = time.monotonic_ns


class Record:
    """What is known of a measurement, in arrays that grow by appending."""

    def __init__(self) -> None:
        self.arrival_ns = array("q")
        self.body_crc = array("L")
        self.request_ids: list[str] = []
        """``X-Request-ID`` as the client sent it."""
        self.tokens = array("L")
        """That were handed over."""
        self.write_request = array("L")
        self.write_ns = array("q")
        self.write_events = array("L")

    def save(self, file: str) -> None:
        arrays = {name: np.array(values) for name, values in vars(self).items()}
        np.savez(file, **arrays)


class Connection:
    """One client's, with at most one request at a time."""

    __slots__ = ("_body", "_request_id", "_server", "_url", "parser", "sock", "unsent", "waiting")

    def __init__(self, server: TruthServer, sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self.parser = httptools.HttpRequestParser(self)
        self.unsent = b""
        """What the kernel has not taken yet."""
        self._url = self._body = b""
        self._request_id = ""

    # The parser's side.

    def on_message_begin(self) -> None:
        self._url = self._body = b""
        self._request_id = ""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._server.serve(self, self._url, self._body, self._request_id)

    # The server's side.

    def send(self, data: bytes) -> None:
        if self.unsent:
            self.unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has left: reading will tell
        if sent < len(data):
            self.unsent = data[sent:]
            self._server.watch(self, writing=True)

    def send_rest(self) -> None:
        data, self.unsent = self.unsent, b""
        self.send(data)
        if not self.unsent:
            self._server.watch(self, writing=False)

    def respond(self, body: bytes, status: bytes = b"200 OK") -> None:
        fields = b"content-type: application/json\r\ncontent-length: %d" % len(body)
        self.send(b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, body))


class Stream:
    """An answer whose events go out one each time."""

    __slots__ = ("connection", "end", "left", "middle", "number")

    def __init__(self, connection: Connection, number: int, middle: bytes, end: bytes, left: int) -> None:
        self.connection = connection
        self.number = number
        self.middle = middle
        self.end = end
        self.left = left


class TruthServer:
    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._streams: list[Stream] = []
        self._begun: list[tuple[Connection, int, bool]] = []
        self._due = 0.0
        self._ticks = 0
        self._begin(Answers(events=2))

    def run(self) -> None:
        while True:
            for descriptor, event in self._epoll.poll(self._wait_s()):
                connection = self._connections.get(descriptor)
                if connection is None:
                    self._accept()
                elif event & select.EPOLLOUT:
                    connection.send_rest()
                else:
                    self._read(connection)
            if (self._streams or self._begun) and time.monotonic() >= self._due:
                self._tick()

    # The connections' side.

    def serve(self, connection: Connection, url: bytes, body: bytes, request_id: str) -> None:
        """Answer a request that is whole."""
        arrived_ns = monotonic_ns()
        if url.endswith(b"/chat/completions"):
            if STREAM.search(body):
                self._stream(connection, arrived_ns, body, request_id)
            else:
                connection.send(self._pieces.whole)
        elif url == b"/truth/begin":
            self._begin(msgspec.json.decode(body, type=Answers))
            connection.respond(b"{}")
        elif url == b"/truth/counts":
            self._counts.cpu_s = time.process_time()
            connection.respond(msgspec.json.encode(self._counts))
        elif url == b"/truth/end":
            self._record.save(msgspec.json.decode(body, type=str))
            connection.respond(b"{}")
        elif url.endswith(b"/models"):
            connection.respond(MODELS)
        elif url.endswith(b"/health"):
            connection.respond(b"{}")
        else:
            connection.respond(b"{}", b"404 Not Found")

    def watch(self, connection: Connection, *, writing: bool) -> None:
        wanted = select.EPOLLOUT if writing else select.EPOLLIN
        self._epoll.modify(connection.sock.fileno(), wanted)

    # Inside.

    def _begin(self, told: Answers) -> None:
        self._told = told
        self._pieces = Pieces(told)
        self._record = Record()
        self._counts = Counts()
        self._streams.clear()
        self._begun.clear()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[sock.fileno()] = Connection(self, sock)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(READ_BYTES)
            if data:
                connection.parser.feed_data(data)
                return
        except (OSError, httptools.HttpParserError):
            pass
        del self._connections[connection.sock.fileno()]
        self._streams = [stream for stream in self._streams if stream.connection is not connection]
        self._begun = [begun for begun in self._begun if begun[0] is not connection]
        connection.sock.close()

    def _stream(self, connection: Connection, arrived_ns: int, body: bytes, request_id: str) -> None:
        number = self._counts.arrived
        self._counts.arrived = number + 1
        if self._told.record:
            record = self._record
            record.arrival_ns.append(arrived_ns)
            record.body_crc.append(zlib.crc32(body))
            record.request_ids.append(request_id)
            record.tokens.append(0)
        counted = USAGE.search(body) is not None
        if self._told.interval_s:
            if not (self._streams or self._begun):
                self._due = arrived_ns / 1e9 + self._told.interval_s
            self._begun.append((connection, number, counted))
            return
        head, pieces = HEAD + self._pieces.events, self._pieces
        self._hand_over(number, self._told.events)
        end = pieces.usage + pieces.end if counted else pieces.end
        connection.send((head + end).replace(ID.encode(), answer_id(number)))
        self._counts.finished += 1

    def _tick(self) -> None:
        """One event of every stream."""
        self._ticks += 1
        if self._ticks % SAMPLE_TICKS == 0:
            self._look_for_unread()
        self._due = max(self._due + self._told.interval_s, time.monotonic())
        going = []
        for stream in self._streams:
            stream.left -= 1
            self._hand_over(stream.number, 1)
            if stream.left:
                stream.connection.send(stream.middle)
                going.append(stream)
            else:
                stream.connection.send(stream.end)
                self._counts.finished += 1
        pieces = self._pieces
        for connection, number, counted in self._begun:
            own = answer_id(number)
            end = pieces.last + (pieces.usage if counted else b"") + pieces.end
            middle, end = pieces.middle.replace(ID.encode(), own), end.replace(ID.encode(), own)
            going.append(Stream(connection, number, middle, end, self._told.events - 1))
            self._hand_over(number, 1)
            connection.send((HEAD + pieces.first).replace(ID.encode(), own))
        self._begun.clear()
        self._streams = going

    def _hand_over(self, number: int, events: int) -> None:
        """Just before the system call: the client may have read them before it returns."""
        self._counts.events += events
        self._counts.writes += 1
        if self._told.record:
            record = self._record
            record.tokens[number] += events * self._told.tokens_an_event
            record.write_request.append(number)
            record.write_events.append(events)
            record.write_ns.append(monotonic_ns())

    def _wait_s(self) -> float | None:
        if not (self._streams or self._begun):
            return None
        return max(0.0, self._due - time.monotonic())

    def _look_for_unread(self) -> None:
        """Of the clients' sockets that have a stream, those with something still to be read: what comes next will be
        read together with it."""
        to_us = f":{self.port:04X}"
        with open("/proc/net/tcp", encoding="ascii") as table:
            for line in table:
                fields = line.split(maxsplit=5)
                if fields[2].endswith(to_us) and fields[3] == "01":
                    self._counts.unread += not fields[4].endswith(":00000000")
        self._counts.looked += len(self._streams)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the benchmark, which then ends this
    server = TruthServer()
    print(server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
