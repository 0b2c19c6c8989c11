"""The lines that a mail administrator greps: one a recipient, Postfix's form, the program once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

import pytest

from gateway import log, maillog


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Standard error, with the gateway's own log set up and put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    log.set_up("info", "text")
    yield capsys
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


def test_a_line_names_its_program_once(lines: pytest.CaptureFixture[str]) -> None:
    sent()
    line = lines.readouterr().err
    assert re.fullmatch(
        rf"\S+Z wasl/relay\[{os.getpid()}\]: 0sa9kt89g0000: to=<diwan@moh\.gov\.example>, "
        r"relay=mail\.moh\.gov\.example\[10\.2\.0\.25\]:25, delay=0\.45, dsn=2\.0\.0, status=sent "
        r"\(250 2\.0\.0 Ok\), number=MOF/2026/000001\n",
        line,
    )


def test_other_lines_bear_their_part_of_the_gateway(lines: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("wasl.serve").error("something")
    assert lines.readouterr().err.endswith(f"wasl/serve[{os.getpid()}]: error: something\n")


def test_private_mail_is_pseudonymous(lines: pytest.CaptureFixture[str]) -> None:
    sent(private=True, number=None)
    sent(private=True, number=None, recipient="DIWAN@moh.gov.example")
    said = lines.readouterr().err
    assert "diwan" not in said.lower()
    assert len(set(re.findall(r"to=<(x[0-9a-f]{12})>", said))) == 1


def test_nobody_writes_lines_for_us(lines: pytest.CaptureFixture[str]) -> None:
    sent(text="250 ok\r\nwasl/relay[1]: forged", peer="a\x1b[2J")
    maillog.refused("10.0.0.1", "a@b\n", "c@d", "550 no", "helo\u2028x")
    said = lines.readouterr().err.splitlines()
    assert len(said) == 2 and not re.search(r"[\x00-\x1f\u2028]", "".join(said))
