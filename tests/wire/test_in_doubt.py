"""A next hop that takes the letter and then falls silent: the mailbox is looked into before a second try."""

from __future__ import annotations

import contextlib
import json
import smtplib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.dovecot import Dovecot
from tests.servers.place import wait_until
from tests.servers.wasl import House, serving, wasl
from tests.wire.test_watch_commands import LETTER, a_house
from tests.wire.watch_house import box_name


class SilentOnce:
    """A way to an LMTP server on which the first answer to a letter's content is lost.

    With ``takes`` false its last octets are lost too, so that the letter never gets there.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.takes = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self.contents = 0
        self._closing = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._closing:
                near.close()
                return
            with near, socket.create_connection(("127.0.0.1", self._to)) as far:
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._answers, args=(far, near))
        back.start()
        tail = b""
        while data := near.recv(65536):
            tail = (tail + data)[-5:]
            self.contents += tail == b"\r\n.\r\n"
            if self.contents and not self.takes and not self.lost:
                self.lost += 1
                with contextlib.suppress(OSError):
                    near.shutdown(socket.SHUT_RDWR)
                break
            far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)
        back.join()

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if self.contents and not self.lost and data.startswith(b"250 2.0.0"):
                    self.lost += 1
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)


@pytest.fixture
def silent(dovecot_server: Dovecot) -> Iterator[SilentOnce]:
    way = SilentOnce(dovecot_server.lmtp_port)
    yield way
    way.close()


def _house(root: Path, server: Dovecot, silent: SilentOnce, box: str, retry: str) -> House:
    house = a_house(root, server, box)
    house.set("relay", retry=[retry])
    path = house.root / "agencies" / "moh.yaml"
    path.write_text(path.read_text().replace(f"port: {server.lmtp_port}", f"port: {silent.port}"))
    return house


def test_what_is_in_the_mailbox_is_not_sent_again(
    dovecot_server: Dovecot, silent: SilentOnce, tmp_path: Path
) -> None:
    box = box_name()
    house = _house(tmp_path / "house", dovecot_server, silent, box, "1s")
    # Without the role ``watch`` nobody sees the letter arrive: the relay has to ask.
    with serving(house, roles=["smtp", "relay"]) as gateway:
        with smtplib.SMTP("127.0.0.1", gateway.relay, timeout=90) as smtp:
            smtp.sendmail("a@mof.gov.example", [box], LETTER.format(to=box))

        def told(act: str = "trace") -> str:
            return wasl("letter", act, f"<watched-{box}>", "--config", str(house.settings), "--json")

        wait_until(lambda: "an earlier attempt had delivered it" in told(), "the look", hint=gateway.log)
        letter = json.loads(told("show"))
        assert silent.lost == silent.contents == 1
        assert len(dovecot_server.maildir(box).files()) == 1
        assert "Traceback" not in gateway.log()
        assert [(r["state"], r["grade"]) for r in letter["recipients"]] == [("sent", "delivered")]


def test_what_is_not_there_is_sent(dovecot_server: Dovecot, silent: SilentOnce, tmp_path: Path) -> None:
    box = box_name()
    house = _house(tmp_path / "house", dovecot_server, silent, box, "1s")
    silent.takes = False
    with serving(house, roles=["smtp", "relay"]) as gateway:
        with smtplib.SMTP("127.0.0.1", gateway.relay, timeout=90) as smtp:
            smtp.sendmail("a@mof.gov.example", [box], LETTER.format(to=box))
        wait_until(lambda: silent.contents == 2, "the second attempt", hint=gateway.log)
        assert silent.lost == 1
        assert len(dovecot_server.maildir(box).wait(1)) == 1
