"""A TCP proxy between a client and a real server that can fall silent or cut connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Forwards to 127.0.0.1:*target* until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self._sockets: list[socket.socket] = []
        self._silent = threading.Event()
        self._budget: int | None = None
        self._end: Callable[[], None] = self.cut
        self._lock = threading.Lock()
        self.connections = 0
        self.refused = 0  #: Connections that found no server behind the proxy.
        self.bytes = 0  #: That clients have sent.
        self.delay = 0.0  #: Seconds that each piece of data takes on its way.
        self.open()

    def open(self) -> None:
        """Listen, again on the same port after ``close()``."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                self._sockets.append(client)
                if self._silent.is_set():
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    self.refused += 1
                    client.close()
                    continue
                self._sockets.append(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, source is client), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                allowed = self._allowed(len(data)) if is_client else len(data)
                if not self._silent.is_set():
                    sink.sendall(data[:allowed])
                if allowed < len(data):
                    self._end()
                    return
            sink.shutdown(socket.SHUT_WR)

    def _allowed(self, wanted: int) -> int:
        with self._lock:
            allowed = wanted if self._budget is None else min(wanted, self._budget)
            if self._budget is not None:
                # Cut once: what connects afterwards is let through.
                self._budget = self._budget - allowed if allowed == wanted else None
            self.bytes += allowed
            return allowed

    def cut_after(self, count: int | None, *, and_close: bool = False) -> None:
        """Let *count* more bytes of clients through, then cut every connection, once."""
        self._end = self.close if and_close else self.cut
        self._budget = count

    @property
    def is_to_cut(self) -> bool:
        """Whether ``cut_after()`` has not come true yet."""
        return self._budget is not None

    def fall_silent(self) -> None:
        """Accept everything and answer nothing, as behind a broken firewall."""
        self._silent.set()

    def speak(self) -> None:
        """Forward again; connections made in the silence stay dead."""
        self._silent.clear()

    def cut(self) -> None:
        """Close every connection that is open now."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """Refuse connections from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
