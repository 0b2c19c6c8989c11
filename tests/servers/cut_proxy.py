"""A way to PostgreSQL that can be cut just when a COMMIT has been done and its answer is on its way.

The server has committed, the client never hears of it: the one moment in which nobody can say what became of
a transaction. Bytes pass unchanged in both directions; loopback only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url


class CutProxy:
    """Listens on a port of its own; :meth:`arm` cuts the next COMMIT of a transaction that says ``mark``."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mark: bytes | None = None
        self.cuts = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, mark: bytes) -> None:
        """Cut once; ``mark`` stands in a statement of the transaction, such as ``INSERT INTO letter``."""
        self._mark = mark

    def url(self, url: str) -> str:
        """The same database by this way."""
        return make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def close(self) -> None:
        """End everything."""
        _shut(self._listener)  # closing alone does not wake who waits in accept
        with self._lock:
            left = list(self._open)
        for one in left:
            _shut(one)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server), 10)
            except OSError:
                return
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            way = _Way(self, client, server)
            for work in (way.out, way.back):
                thread = threading.Thread(target=work, daemon=True)
                self._threads.append(thread)
                thread.start()

    def wants(self, said: bytes) -> bool:
        """This transaction is to be cut, now that it says COMMIT."""
        with self._lock:
            if self._mark is None or self._mark not in said:
                return False
            self._mark = None
            self.cuts += 1
            return True


class _Way:
    def __init__(self, proxy: CutProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._said = b""  # in this transaction
        self._cut = False

    def out(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(1 << 16):
                self._said += data
                if b"COMMIT\0" in data:
                    self._cut = self._proxy.wants(self._said)
                    self._said = b""
                self._server.sendall(data)
        _shut(self._server)

    def back(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(1 << 16):
                if self._cut:
                    break  # the server has answered: it is done
                self._client.sendall(data)
        _shut(self._client)
        _shut(self._server)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextmanager
def cut_proxy(server: int) -> Iterator[CutProxy]:
    """A proxy before the PostgreSQL at this port, for the block."""
    proxy = CutProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
