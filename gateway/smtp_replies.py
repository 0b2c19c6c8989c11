"""What an SMTP session answers of its own accord, and how a reply becomes octets (RFC 5321 §4.2, 2034, 6531).

Texts are ASCII and name no one; what the desk decides comes as its own :class:`~tracker.reply.Reply`. A reply
never fails to become octets: what may not stand on the wire is shown as ``?``, what is too long is cut.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tracker.reply import Reply

_UTF8_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_OCTETS = 480

OK_SENDER = b"250 2.1.0 Sender OK"
OK_RECIPIENT = b"250 2.1.5 Recipient OK"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>"

RESET = Reply.of(250, "2.0.0", "OK")
BYE = Reply.of(221, "2.0.0", "Bye")
UNKNOWN = Reply.of(500, "5.5.1", "Command unrecognised")
HELO_FIRST = Reply.of(503, "5.5.1", "Send EHLO first")
MAIL_FIRST = Reply.of(503, "5.5.1", "Send MAIL first")
RCPT_FIRST = Reply.of(503, "5.5.1", "Send RCPT first")
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
NESTED = Reply.of(503, "5.5.1", "A transaction is under way already")
AUTH_FIRST = Reply.of(530, "5.7.0", "Authentication required")
TLS_FIRST = Reply.of(530, "5.7.0", "Issue STARTTLS first")
TLS_FOR_AUTH = Reply.of(538, "5.7.11", "Authentication needs TLS")
NO_ARGUMENT = Reply.of(501, "5.5.4", "This command takes no argument")
BAD_BASE64 = Reply.of(501, "5.5.2", "Not base64")
NOT_UTF8 = Reply.of(500, "5.5.2", "Command line is not UTF-8")
FAILED = Reply.of(421, "4.3.0", "Temporary failure, please try again later")
TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands, connect again")
TOO_MANY_LETTERS = Reply.of(421, "4.7.0", "Many letters in one connection, connect again for more")
TOO_LONG_SESSION = Reply.of(421, "4.4.2", "Session has lasted too long, connect again")
LONG_LINE = Reply.of(500, "5.5.2", "Command line too long")
AUTHENTICATED = Reply.of(235, "2.7.0", "Authentication successful")
BAD_CREDENTIALS = Reply.of(535, "5.7.8", "Authentication credentials invalid")


@lru_cache(maxsize=512)  # the same few replies, again and again
def reply_octets(reply: Reply, utf8: bool = False) -> bytes:
    """A reply without its last CRLF; UTF-8 text only where the client asked for it (RFC 6531 §3.7.4.2)."""
    if not utf8 or reply.text.isascii():
        return reply.wire().encode("ascii")
    prefix = f"{reply.status} " if reply.status else ""
    lines = reply.text.split("\n")
    out = []
    for i, text in enumerate(lines):
        text = _UTF8_UNSAFE.sub("?", text)
        octets = text.encode("utf-8", "replace")[:_LINE_OCTETS].decode("utf-8", "ignore")
        out.append(f"{reply.code}{' ' if i == len(lines) - 1 else '-'}{prefix}{octets}".rstrip())
    return "\r\n".join(out).encode()
