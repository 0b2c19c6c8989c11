"""One mail transaction as it grows: from MAIL over RCPT to the content (RFC 5321 §3.3).

It is reset as a whole, by success, by failure or by RSET, and never fails by itself.
"""

from __future__ import annotations

from gateway.desk import MailParams
from gateway.smtp_data import Content
from tracker.model import Address, Envelope, Recipient


class Transaction:
    """What MAIL began: reset as a whole, by success, failure or RSET."""

    __slots__ = ("content", "params", "recipients", "refused", "sender")

    def __init__(self, sender: Address, params: MailParams) -> None:
        self.sender = sender
        self.params = params
        self.recipients: tuple[Recipient, ...] = ()
        self.refused = False  # some recipient was
        self.content: Content | None = None  # since the first BDAT

    def envelope(self) -> Envelope:
        p = self.params
        return Envelope(
            sender=self.sender,
            recipients=self.recipients,
            ret=p.ret,
            envid=p.envid,
            body=p.body,
            smtputf8=p.smtputf8,
            requiretls=p.requiretls,
        )
