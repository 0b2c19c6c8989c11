"""Asking a next hop or a sign-in server whether it is there and does what the directory says.

One short dialogue: connect, EHLO or LHLO, TLS as configured, AUTH where there is a password, and
optionally the question whether a return address of the gateway would be taken (no message is sent).
Blocking, a few seconds at most; every failure is an answer in words, never an exception.
"""

from __future__ import annotations

import imaplib
import smtplib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from policies.agency import NextHop, SignIn
from tracker.model import Address

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a server said. ``error`` is empty when all is well; ``notes`` deserve a look."""

    error: str = ""
    notes: tuple[str, ...] = ()
    offers: frozenset[str] = frozenset()  # EHLO keywords, upper case


def context(verify: bool, ca: Path | None) -> ssl.SSLContext:
    """TLS as a client; raises OSError or ssl.SSLError for an authority file that cannot be read."""
    made = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def probe_hop(hop: NextHop, hostname: str, way_back: Address | None = None) -> Probe:
    """Talk to a next hop as ``hostname``; with ``way_back`` ask whether that recipient would be taken."""
    try:
        return _hop(hop, hostname, way_back)
    except (OSError, smtplib.SMTPException, ssl.SSLError, ValueError) as e:
        return Probe(error=_words(e))


def probe_sign_in(server: SignIn, hostname: str) -> Probe:
    """Talk to the server that knows the passwords, up to where one would be given."""
    try:
        return _imap(server) if server.kind == "imap" else _submission(server, hostname)
    except (OSError, smtplib.SMTPException, imaplib.IMAP4.error, ssl.SSLError, ValueError) as e:
        return Probe(error=_words(e))


def _hop(hop: NextHop, hostname: str, way_back: Address | None) -> Probe:
    tls = context(hop.verify, hop.ca)
    notes: list[str] = []
    client = _client(
        hop.host, hop.port, hostname, tls if hop.tls == "implicit" else None, hop.protocol == "lmtp"
    )
    try:
        client.ehlo_or_helo_if_needed()
        if hop.tls in ("required", "opportunistic"):
            if client.has_extn("starttls"):
                client.starttls(context=tls)
                client.ehlo()
            elif hop.tls == "required":
                return Probe(error="tls: required, but it offers no STARTTLS")
            else:
                notes.append("it offers no STARTTLS: letters go in clear")
        if hop.username is not None:
            client.login(hop.username, hop.password or "")
        if hop.protocol == "smtp" and not client.has_extn("dsn"):
            notes.append("it offers no DSN: it will send no delivery reports when asked")
        if not client.has_extn("8bitmime"):
            notes.append("it offers no 8BITMIME: 8-bit letters are returned")
        if way_back is not None:
            client.mail("")
            code, text = client.rcpt(str(way_back))
            client.rset()
            if code >= 300:
                answer = f"{code} {text.decode('latin-1')}".strip()
                notes.append(f"it does not take mail for the gateway's domain from here ({answer})")
        return Probe(notes=tuple(notes), offers=frozenset(name.upper() for name in client.esmtp_features))
    finally:
        _bye(client)


def _submission(server: SignIn, hostname: str) -> Probe:
    tls = context(server.verify, server.ca)
    client = _client(server.host, server.port, hostname, tls if server.tls == "implicit" else None, False)
    try:
        client.ehlo_or_helo_if_needed()
        if server.tls == "required" or (server.tls == "opportunistic" and client.has_extn("starttls")):
            client.starttls(context=tls)
            client.ehlo()
        if not client.has_extn("auth"):
            return Probe(error="it offers no AUTH")
        return Probe(offers=frozenset(name.upper() for name in client.esmtp_features))
    finally:
        _bye(client)


def _imap(server: SignIn) -> Probe:
    tls = context(server.verify, server.ca)
    if server.tls == "implicit":
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
            server.host, server.port, ssl_context=tls, timeout=TIMEOUT_S
        )
    else:
        client = imaplib.IMAP4(server.host, server.port, timeout=TIMEOUT_S)
    try:
        if server.tls == "required" or (server.tls == "opportunistic" and "STARTTLS" in client.capabilities):
            client.starttls(ssl_context=tls)
        if "LOGINDISABLED" in client.capabilities and "AUTH=PLAIN" not in client.capabilities:
            return Probe(error="it takes no password (LOGINDISABLED)")
        return Probe(offers=frozenset(client.capabilities))
    finally:
        client.logout()


def _client(host: str, port: int, name: str, tls: ssl.SSLContext | None, lmtp: bool) -> smtplib.SMTP:
    if lmtp:
        client: smtplib.SMTP = smtplib.LMTP(host, port, local_hostname=name)
    elif tls is not None:
        client = smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=TIMEOUT_S, context=tls)
    else:
        client = smtplib.SMTP(host, port, local_hostname=name, timeout=TIMEOUT_S)
    return client


def _bye(client: smtplib.SMTP) -> None:
    try:
        client.quit()
    except (OSError, smtplib.SMTPException):
        client.close()


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "it does not answer"
    if isinstance(error, socket.gaierror):
        return f"its name is not known: {error.strerror}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses the password: {error.smtp_code} {_latin(error.smtp_error)}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "it hangs up"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answers {error.smtp_code} {_latin(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if error.strerror.isascii() else error.strerror
    return str(error) or type(error).__name__


def _latin(text: object) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else str(text)
