"""The lines that a mail administrator greps: one a recipient, Postfix's form, the program once."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator

import pytest

from gateway import log, maillog


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the gateway's own log writes; the log is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    log.set_up("info", "text")
    written = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield written
    root.handlers[:], root.level = before, level


def sent(**more: object) -> None:
    said: dict[str, object] = {
        "wire_id": "0sa9kt89g0000",
        "recipient": "diwan@moh.gov.example",
        "peer": "mail.moh.gov.example[10.2.0.25]:25",
        "delay_s": 0.451,
        "dsn": "2.0.0",
        "status": "sent",
        "text": "250 2.0.0 Ok",
        "private": False,
        "number": "MOF/2026/000001",
    }
    maillog.outgoing(**(said | more))  # type: ignore[arg-type]


def test_a_line_names_its_program_once(lines: io.StringIO) -> None:
    sent()
    line = lines.getvalue()
    assert re.fullmatch(
        rf"\S+Z wasl/relay\[{os.getpid()}\]: 0sa9kt89g0000: to=<diwan@moh\.gov\.example>, "
        r"relay=mail\.moh\.gov\.example\[10\.2\.0\.25\]:25, delay=0\.45, dsn=2\.0\.0, status=sent "
        r"\(250 2\.0\.0 Ok\), number=MOF/2026/000001\n",
        line,
    )


def test_other_lines_bear_their_part_of_the_gateway(lines: io.StringIO) -> None:
    logging.getLogger("wasl.serve").error("something")
    assert lines.getvalue().endswith(f"wasl/serve[{os.getpid()}]: error: something\n")


def test_private_mail_is_pseudonymous(lines: io.StringIO) -> None:
    sent(private=True, number=None)
    sent(private=True, number=None, recipient="DIWAN@moh.gov.example")
    said = lines.getvalue()
    assert "diwan" not in said.lower()
    assert len(set(re.findall(r"to=<(x[0-9a-f]{12})>", said))) == 1


def test_nobody_writes_lines_for_us(lines: io.StringIO) -> None:
    sent(text="250 ok\r\nwasl/relay[1]: forged", peer="a\x1b[2J")
    maillog.refused("10.0.0.1", "a@b\n", "c@d", "550 no", "helo\u2028x")
    said = lines.getvalue().splitlines()
    assert len(said) == 2 and not re.search(r"[\x00-\x1f\u2028]", "".join(said))
