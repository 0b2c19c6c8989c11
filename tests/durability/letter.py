"""Letters that can be told apart, and a client that knows whether it was promised anything.

``octets`` are made so that every part of them can be recognised: whatever stretch of a letter is sent,
written or found, it bears the letter's name. The client speaks plain SMTP and says which of three things
happened: a 250 (the letter is the gateway's), another reply, or no reply at all.
"""

from __future__ import annotations

import smtplib
from dataclasses import dataclass, field

SMALL = 6_000  # octets; stays in memory
SPOOLED = 700_000  # more than archive.memory_limit


@dataclass(kw_only=True)
class Letter:
    """One letter and what the gateway said to it, each time."""

    name: str
    size: int = SMALL
    sender: str = "clerk@mof.gov.example"
    recipients: tuple[str, ...] = ("registry@moh.gov.example",)
    answers: list[str] = field(default_factory=list)  # "" where the connection died unanswered

    @property
    def message_id(self) -> str:
        return f"<{self.name}@mof.gov.example>"

    @property
    def octets(self) -> bytes:
        head = (
            f"From: Clerk <{self.sender}>\r\n"
            f"To: {', '.join(self.recipients)}\r\n"
            f"Subject: Letter {self.name}\r\n"
            f"Message-ID: {self.message_id}\r\n"
            "Date: Mon, 02 Mar 2026 09:00:00 +0200\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=us-ascii\r\n"
            "\r\n"
        )
        line = f"{self.name} stands in every line of its letter, one after the other\r\n"
        return (head + line * (self.size // len(line) + 1)).encode()

    @property
    def body(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[2]

    @property
    def promised(self) -> bool:
        """A 250 was read."""
        return any(answer.startswith("250") for answer in self.answers)

    @property
    def refused(self) -> bool:
        """The last answer was for another time."""
        return bool(self.answers) and self.answers[-1][:1] == "4"

    @property
    def number(self) -> str:
        """The number in the last 250."""
        last = [answer for answer in self.answers if answer.startswith("250")][-1]
        return last.split()[-1]

    def send(self, port: int, host: str = "127.0.0.1", timeout: float = 60) -> str:
        """Hand the letter in once; the answer, empty when there was none."""
        answer = self._transaction(port, host, timeout)
        self.answers.append(answer)
        return answer

    def _transaction(self, port: int, host: str, timeout: float) -> str:
        try:
            smtp = smtplib.SMTP(host, port, "mail.mof.gov.example", timeout)
        except (OSError, smtplib.SMTPException):
            return ""
        try:
            smtp.ehlo_or_helo_if_needed()
            said = [smtp.mail(self.sender), *(smtp.rcpt(to) for to in self.recipients)]
            bad = [reply for reply in said if reply[0] != 250]
            return _text(*(bad[0] if bad else smtp.data(self.octets)))
        except smtplib.SMTPResponseException as error:
            return _text(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException):
            return ""
        finally:
            smtp.close()


def _text(code: int, words: bytes | str) -> str:
    return f"{code} {words.decode() if isinstance(words, bytes) else words}" if code > 0 else ""
