"""
An embedded broker: as much of Redis as Celery needs, in a thread, with nothing to install.

It is for the demo and for development: it keeps everything in memory, and is much slower
than a real server.
"""

from __future__ import annotations

import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fakeredis import TcpFakeServer
from redis.exceptions import ConnectionError as HangUp
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that an answer nobody asked for (a wake-up, a published message) may wait to be sent.
PATIENCE = 0.02


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Serve on a free port of this machine while the ``with`` block runs, and yield the URL."""
    server = Server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server(TcpFakeServer):
    """fakeredis' server with a handler that Celery can live with."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.stopping = threading.Event()
        self.daemon_threads = True  # A client that stays connected must not hold up the end.
        self.RequestHandlerClass = type("Handler", (_CeleryHandler, self.RequestHandlerClass), {})

    def shutdown(self) -> None:
        self.stopping.set()
        super().shutdown()


class _CeleryHandler:
    """
    One connection; goes before fakeredis' handler in the method resolution order.

    Three things differ. Small answers leave at once instead of waiting for the client's
    acknowledgement (Nagle); an error is an answer like any other, not the end of the
    connection; and reading waits in ``select()``, which every system has.
    """

    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.connection.settimeout(None)  # fakeredis' handler made it non-blocking.
        while not self.server.stopping.is_set():
            try:
                self._answer()
                if select.select([self.connection], [], [], PATIENCE)[0]:
                    request = self.connection.recv(65536)
                    if not request:
                        return
                    self.current_client.get_socket().sendall(request)
            except (OSError, HangUp):  # The client is gone.
                return

    def _answer(self) -> None:
        while self.current_client.can_read():
            try:
                answer = self.current_client.read_response()
            except HangUp:
                raise
            except RedisError as exc:
                answer = exc
            self.writer.dump(answer)
