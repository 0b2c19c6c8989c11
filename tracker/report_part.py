"""The part of a receipt that machines read: delivery status and disposition notifications.

STANDARDS
    RFC 3464 (``message/delivery-status``), RFC 3461 §4.2, §4.4 and §6.3 (ORCPT and ENVID come back
    decoded from xtext), RFC 3463 (status), RFC 6533 §3-4 (``utf-8;`` addresses, ``message/global-*``),
    RFC 8098 §3 (``message/disposition-notification``).

In the ASCII form an address outside ASCII is written as ``utf-8;\\x{645}…@…`` (utf-8-addr-xtext), in
the global form as it is. Texts of other servers are shortened and freed of controls; a broken ORCPT
or ENVID is returned as it came, or left out when even that cannot stand in a field. Never raises
for anything that came from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracker import header_writer
from tracker.foreign_text import shown
from tracker.model import Address
from tracker.notice import GatewayIdentity, LetterFacts, RecipientFacts

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_PRINTABLE = re.compile(r"[ -~]+")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,40}")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
_DISPOSITION = re.compile(
    r"(?:manual|automatic)-action/MDN-sent-(?:manually|automatically); ?"
    r"(?:displayed|processed|deleted|dispatched)(?:/[A-Za-z,-]{1,60})?",
    re.IGNORECASE,
)
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,250}>")


def unxtext(text: str) -> str:
    """What an xtext stands for (RFC 3461 §4); ``text`` itself if it is no xtext or stands for controls."""
    if _XTEXT.fullmatch(text) is None:
        return text
    plain = _HEX.sub(lambda match: chr(int(match[1], 16)), text)
    return plain if _PRINTABLE.fullmatch(plain) else text


def address_value(address: Address, *, utf8: bool) -> str:
    """``rfc822; a@b``, or the ``utf-8;`` form of an address outside ASCII (RFC 6533 §3)."""
    if address.ascii:
        return f"rfc822; {address}"
    return f"utf-8; {address if utf8 else _addr_xtext(str(address))}"


def original_recipient(orcpt: str, *, utf8: bool) -> str | None:
    """The value of Original-Recipient for an ORCPT parameter; None if nothing of it can be shown."""
    kind, semicolon, text = orcpt.partition(";")
    if not semicolon or _ADDRESS_TYPE.fullmatch(kind) is None or not text:
        return None
    if kind.lower() == "utf-8":
        try:
            plain = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
            header_writer.checked(plain)
        except (ValueError, OverflowError):
            plain = text
        text = plain if utf8 else _addr_xtext(plain)
    else:
        text = unxtext(text)
    text = shown(text, 600) if utf8 else _ascii(text, 600)
    return f"{kind}; {text}" if text else None


def delivery_status(
    gateway: GatewayIdentity, letter: LetterFacts, recipients: Sequence[RecipientFacts], *, utf8: bool
) -> bytes:
    """The body of ``message/delivery-status`` (or of ``message/global-delivery-status``).

    Recipients whose event has no action (RFC 3464 §2.3.3) are left out.
    """
    zone = gateway.zone
    out = bytearray()
    if letter.envid:
        out += _field("Original-Envelope-Id", _ascii(unxtext(letter.envid), 200))
    out += _field("Reporting-MTA", f"dns; {gateway.hostname}")
    out += _field("Arrival-Date", header_writer.date(letter.accepted_us, zone))
    for recipient in recipients:
        if recipient.action is None:
            continue
        out += b"\r\n"
        if recipient.orcpt:
            value = original_recipient(recipient.orcpt, utf8=utf8)
            if value is not None:
                out += _field("Original-Recipient", value)
        out += _field("Final-Recipient", address_value(recipient.address, utf8=utf8))
        out += _field("Action", recipient.action)
        out += _field("Status", str(recipient.shown_status))
        if _HOST.fullmatch(recipient.remote_mta):
            out += _field("Remote-MTA", f"dns; {recipient.remote_mta}")
        if recipient.reply:
            text = shown(recipient.reply, 800) if utf8 else _ascii(recipient.reply, 800)
            # RFC 3464 §2.3.6: of type smtp only what an SMTP server said.
            kind = "smtp" if re.match(r"[2-5]\d\d(?:[ -]|$)", text) else "x-wasl"
            out += _field("Diagnostic-Code", f"{kind}; {text}")
        if recipient.last_attempt_us is not None:
            out += _field("Last-Attempt-Date", header_writer.date(recipient.last_attempt_us, zone))
        if recipient.log_id:
            out += _field("Final-Log-ID", _ascii(recipient.log_id, 100))
        if recipient.action == "delayed" and recipient.retry_until_us is not None:
            out += _field("Will-Retry-Until", header_writer.date(recipient.retry_until_us, zone))
    return bytes(out)


def disposition(
    gateway: GatewayIdentity, letter: LetterFacts, recipient: RecipientFacts, *, utf8: bool
) -> bytes:
    """The body of ``message/disposition-notification`` that passes on what the recipient's client said.

    Only for a recipient of whom :func:`is_disposition` is true.
    """
    out = bytearray(_field("Reporting-UA", f"{gateway.hostname}; Wasl"))
    if recipient.orcpt:
        value = original_recipient(recipient.orcpt, utf8=utf8)
        if value is not None:
            out += _field("Original-Recipient", value)
    out += _field("Final-Recipient", address_value(recipient.address, utf8=utf8))
    if letter.message_id and _MESSAGE_ID.fullmatch(letter.message_id):
        out += _field("Original-Message-ID", letter.message_id)
    out += _field("Disposition", recipient.disposition)
    return bytes(out)


def is_disposition(recipient: RecipientFacts) -> bool:
    """True when the recipient's client gave a disposition that can be passed on (RFC 8098 §3.2.6)."""
    return _DISPOSITION.fullmatch(recipient.disposition) is not None


def _addr_xtext(text: str) -> str:
    return "".join(c if "!" <= c <= "~" and c not in "\\+=" else f"\\x{{{ord(c):02X}}}" for c in text)


def _ascii(text: str, limit: int) -> str:
    """One printable ASCII line; what lies outside becomes ``?`` as in our replies."""
    return re.sub(r"[^ -~]", "?", shown(text, limit).replace("…", "..."))


def _field(name: str, value: str) -> bytes:
    """A field whose words have at most 200 characters, so that no line gets too long (RFC 5322 §2.1.1)."""
    words = [word[i : i + 200] for word in value.split(" ") for i in range(0, len(word), 200)]
    value = " ".join(words)
    return header_writer.structured(name, value) if value.isascii() else header_writer.raw_utf8(name, value)
