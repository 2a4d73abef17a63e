"""A TCP proxy between a client and a real server that can fall silent or cut connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Forwards to 127.0.0.1:*target* until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._silent = threading.Event()
        self.connections = 0
        self.delay = 0.0  #: Seconds that each piece of data takes on its way.
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(client)
                if self._silent.is_set():
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if not self._silent.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

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
