"""A logged-in session: what client and server say passes, framed, with the observer looking on.

RFC 3501 and RFC 9051. Both directions are framed (:mod:`gateway.imap_framing`); commands that would take the
session out of sight are answered here, the capabilities that announce them are taken out. When the observer
has a question, it is asked under a tag of our own while no command is under way; the client's next command
waits for the answer, which the client never sees. Should the server tell of expunged messages in such a
moment all the same, that is kept back until a command of the client's permits it (RFC 3501 §7.4.1), and until
then a command by message number is answered ``NO [EXPUNGEISSUED]`` (RFC 5530): the numbers no longer agree.

Fails: what raises in the observer turns it off and the octets go on; an answer that stays out does the same.
What raises in the framing ends the session. The end of one side is the end of the other.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol

from gateway.imap_capability import REFUSED, filtered
from gateway.imap_command import numbers, parse, the_set
from gateway.imap_fault import log_fault
from gateway.imap_framing import Commands, Go, Responses
from gateway.imap_login import client_name, read_id
from gateway.imap_observer import Act, Answer, Observer, Question, Row
from gateway.imap_wire import HELD, Wire

log = logging.getLogger("wasl.imap")

_OUTSTANDING = 1000  # commands without an answer that are remembered
_WITHHELD = 1000  # lines
_PATIENCE_S = 10.0  # that a client's command waits for a question of ours
_BY_NUMBER = frozenset({b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE", b"SORT", b"THREAD"})
_MINE = b"wasl" + secrets.token_hex(5).encode() + b"."
_ANSWER = re.compile(rb"\* (\d{1,10}) FETCH \(", re.I)
_UID = re.compile(rb"\bUID (\d{1,10})", re.I)
_CORRELATED = re.compile(rb'\* ESEARCH \(TAG "([^"\r\n]*)"\)', re.I)
_FLAGS = re.compile(rb"(?:FLAGS \([^()\"]*\)|MODSEQ \(\d+\))", re.I)
_NUMBERED = re.compile(rb"\* (?:\d{1,10} (?:EXPUNGE|EXISTS|RECENT|FETCH)|VANISHED)\b", re.I)
_GONE = re.compile(rb"\* (?:\d{1,10} EXPUNGE|VANISHED)\b", re.I)


class Owner(Protocol):
    """What a session asks of the proxy."""

    def ended(self, session: ImapSession) -> None: ...

    def asking(self, session: ImapSession, begun: bool) -> None:
        """A question is under way, or is over: somebody has to look at the clock."""

    def off(self) -> None:
        """An observer was turned off by a fault."""


class Inquiry:
    """A question under way."""

    __slots__ = ("act", "late", "numbers", "question", "row", "rows", "tag")

    def __init__(self, question: Question, act: Act | None) -> None:
        self.question = question
        self.act = act
        self.late = False  # the client waits for it no longer
        self.tag = b""
        self.numbers: list[int] = []
        self.rows: list[Row] = []
        self.row: tuple[int, int, bytes] | None = None  # of the answer that comes: number, UID, header


class ImapSession:
    """Client and server of one login."""

    __slots__ = (
        "_asked",
        "_client",
        "_commands",
        "_inquiry",
        "_number",
        "_outstanding",
        "_owner",
        "_responses",
        "_said",
        "_since",
        "_stirred",
        "_upstream",
        "_withheld",
        "identify",
        "observer",
    )

    def __init__(
        self,
        client: Wire,
        upstream: Wire,
        owner: Owner,
        observer: Observer | None,
        line_cap: int,
        identify: Callable[[str], None],
    ) -> None:
        self._client, self._upstream, self._owner = client, upstream, owner
        self.observer = observer
        self.identify = identify  # told the name of a client that says it after the login
        self._commands = Commands(self, line_cap)
        self._responses = Responses(self)
        self._outstanding: list[tuple[bytes, Act | None]] = []
        self._inquiry: Inquiry | None = None
        self._asked: Act | None = None  # its question has been answered; its command goes out next
        self._number = 0
        self._stirred = False  # a command ended or may go on
        self._since = 0.0  # when the client's next command began to wait for us; 0: it does not
        self._said: bytes = b""  # our own lines that wait for the end of a response
        self._withheld: list[bytes] | None = None

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Take over both wires, with what was read ahead."""
        client, upstream = self._client, self._upstream
        client.other, upstream.other = upstream, client
        client.feed, upstream.feed = self.from_client, self.from_upstream
        client.lost = upstream.lost = self._over
        if client.closed or upstream.closed:
            self._over()
            return
        client.go(HELD)
        upstream.go(HELD)
        if from_upstream:
            self.from_upstream(from_upstream)
        if from_client:
            self.from_client(from_client)

    # Octets.

    def from_client(self, data: bytes = b"") -> None:
        """What the client sent, or nothing: go on with what is here."""
        try:
            out = self._commands.feed(data)
            if out:
                self._upstream.write(out)
            if self._commands.blocked:
                self._client.stop(HELD)
            else:
                self._client.go(HELD)
            if self._said:
                self._speak()
        except Exception as error:
            self._broken(error)

    def from_upstream(self, data: bytes) -> None:
        try:
            out = self._responses.feed(data)
            if out:
                self._client.write(out)
            if self._said:
                self._speak()
            if self._stirred:
                self._stirred = False
                self._next()
        except Exception as error:
            self._broken(error)

    def _next(self) -> None:
        """A command ended, or the server agreed to a literal: what waits may go on."""
        if self._asked is None and not self._outstanding and self._commands.fresh:
            self._ask_about_past()
        if not self._commands.idle:
            self.from_client()

    def _say(self, line: bytes) -> None:
        """A line of our own, between two responses."""
        self._said += line

    def _speak(self) -> None:
        if self._responses.between:
            said, self._said = self._said, b""
            self._client.write(said)

    # The client's commands.

    def command(self, line: bytes, literal: int) -> Go:
        if self._inquiry is not None and not self._inquiry.late:
            return self._keep()
        command = parse(line)
        verb = command.verb
        if not verb:
            return Go.PASS
        if verb in REFUSED:
            self._say(command.tag + b" NO " + verb + b" is not to be had here\r\n")
            return Go.DROP
        if self._withheld and verb in _BY_NUMBER:
            self._say(command.tag + b" NO [EXPUNGEISSUED] Messages were removed meanwhile\r\n")
            return Go.DROP
        if self.observer is not None and self.observer.awaits:
            self._watched(self.observer.confirmed)
        act, self._asked = self._asked, None
        if act is None and self.observer is not None:
            if not self._outstanding:
                self._ask_about_past()
                if self._inquiry is not None:
                    return self._keep()
            act = self._watched(self.observer.begins, command) if self.observer is not None else None
            if act is not None and act.first and not self._impatient():
                if self._outstanding:
                    return self._keep()
                self._ask(act)
                if self._inquiry is not None:
                    return self._keep()
                self._asked = None
        if self._since:
            self._since = 0.0
            self._owner.asking(self, self._inquiry is not None)
        if self._withheld:
            withheld, self._withheld = self._withheld, None
            self._responses.all = False
            for one in withheld:
                self._say(one)
        if verb == b"ID" and literal < 0:
            self.identify(client_name(read_id(command.rest)))
        if len(self._outstanding) >= _OUTSTANDING:
            del self._outstanding[0]
        self._outstanding.append((command.tag, act))
        return Go.IDLE if verb == b"IDLE" else Go.PASS

    def _keep(self) -> Go:
        if not self._since:
            self._since = time.monotonic()
            self._owner.asking(self, True)
        return Go.KEEP

    def _impatient(self) -> bool:
        return bool(self._since) and time.monotonic() - self._since > _PATIENCE_S

    def cut(self, reason: bytes) -> None:
        self._client.write(b"* BYE " + reason + b"\r\n")
        self.end()

    # The server's responses.

    def tagged(self, line: bytes) -> bytes:
        tag = line[: line.find(b" ")]
        inquiry = self._inquiry
        self._stirred = True
        if inquiry is not None and tag == inquiry.tag:
            self._answered(inquiry, line[len(tag) + 1 :][:2].upper() == b"OK")
            return b""
        for index, (waiting, act) in enumerate(self._outstanding):
            if waiting == tag:
                if index == len(self._outstanding) - 1:
                    self._commands.refused()
                del self._outstanding[index]
                if self.observer is not None:
                    self._watched(
                        self.observer.finished, act, line[len(tag) + 1 :][:2].upper() == b"OK", line
                    )
                break
        return filtered(line) if b"[CAPABILITY" in line else line

    def goes_on(self, line: bytes) -> bytes:
        self._commands.agreed()
        self._stirred = True
        return line

    def untagged(self, line: bytes, literal: int) -> bytes:
        inquiry = self._inquiry
        if inquiry is not None and self._is_answer(inquiry, line):
            return b""
        if self.observer is not None:
            self._watched(self.observer.response, line, literal)
        if self._withheld is not None or (inquiry is not None and not self._outstanding):
            held = self._withhold(line, literal)
            if held:
                return b""
        if b"CAPABILITY" in line[:40].upper():
            return filtered(line)
        return line

    def wants(self) -> int:
        if self._inquiry is not None and self._inquiry.row is not None:
            return 8192
        if self.observer is None:
            return 0
        return self._watched(self.observer.wants) or 0

    def read(self, octets: bytes) -> None:
        inquiry = self._inquiry
        if inquiry is not None and inquiry.row is not None:
            inquiry.row = (inquiry.row[0], inquiry.row[1], octets)
        elif self.observer is not None:
            self._watched(self.observer.handed, octets)

    def more(self, line: bytes, literal: int) -> None:
        inquiry = self._inquiry
        if inquiry is not None and inquiry.row is not None:
            self._row_over(inquiry, line, literal)
        elif self.observer is not None:
            self._watched(self.observer.goes_on, line)

    def _withhold(self, line: bytes, literal: int) -> bool:
        """Keep a line back that the client must not see now; from then on all that counts messages."""
        if self._withheld is None:
            if not _GONE.match(line):
                return False
            self._withheld = []
            self._responses.all = True
        if literal >= 0 or not line.endswith(b"\n") or not _NUMBERED.match(line):
            return False
        if len(self._withheld) >= _WITHHELD:
            self.cut(b"Too much happened meanwhile")
        self._withheld.append(line)
        return True

    # Questions.

    def _ask_about_past(self) -> None:
        """Ask about what has been done, as long as nothing has to be waited for."""
        while self._inquiry is None and self.observer is not None and self.observer.asks:
            self._ask(None)

    def _ask(self, act: Act | None) -> None:
        observer = self.observer
        question = self._watched(observer.question, act) if observer is not None else None
        if question is None:
            self._asked = act
            return
        inquiry = Inquiry(question, act)
        self._inquiry = inquiry
        self._send(inquiry, None)

    def _send(self, inquiry: Inquiry, answer: Answer | None) -> None:
        """The next command of a question, or its end."""
        if self.observer is None:
            self._ask_no_more(inquiry)
            return
        try:
            command = next(inquiry.question) if answer is None else inquiry.question.send(answer)
        except StopIteration:
            self._ask_no_more(inquiry)
            return
        except Exception as error:
            self._turn_off(error)
            self._ask_no_more(inquiry)
            return
        self._number += 1
        inquiry.tag = _MINE + b"%d" % self._number
        inquiry.numbers, inquiry.rows, inquiry.row = [], [], None
        self._responses.all = True
        self._upstream.write(inquiry.tag + b" " + command + b"\r\n")

    def _ask_no_more(self, inquiry: Inquiry) -> None:
        self._inquiry = None
        self._asked = inquiry.act if not inquiry.late else None
        self._responses.all = self._withheld is not None

    def _answered(self, inquiry: Inquiry, ok: bool) -> None:
        self._send(inquiry, Answer(ok, inquiry.numbers, inquiry.rows))

    def _is_answer(self, inquiry: Inquiry, line: bytes) -> bool:
        """Whether an untagged response belongs to our question; it is taken in and hidden then."""
        inquiry.row = None
        start = line[:10].upper()
        if start.startswith((b"* SEARCH", b"* ESEARCH")):
            whose = _CORRELATED.match(line)
            if whose is not None and whose[1] != inquiry.tag:
                return False  # RFC 5267 §4.3: news of a search of the client's that it has kept open
            inquiry.numbers = _found(line)
            return True
        match = _ANSWER.match(line)
        if match is None or b"BODY[HEADER.FIELDS" not in line.upper():
            return False
        uid = _UID.search(line, match.end())
        inquiry.row = (int(match[1]), int(uid[1]) if uid else 0, b"")
        self._flags_too(inquiry.row[0], line)
        if line.rstrip(b"\r\n")[-1:] != b"}":  # NIL or an empty string: no such field
            inquiry.rows.append(Row(*inquiry.row))
            inquiry.row = None
        return True

    def _row_over(self, inquiry: Inquiry, line: bytes, literal: int) -> None:
        """What follows the header in an answer, which may hold the UID."""
        number, uid, header = inquiry.row or (0, 0, b"")
        if not uid and (found := _UID.search(line)):
            uid = int(found[1])
        self._flags_too(number, line)
        inquiry.row = (number, uid, header)
        if literal < 0:
            inquiry.rows.append(Row(number, uid, header))
            inquiry.row = None

    def _flags_too(self, number: int, line: bytes) -> None:
        """Flags that the server tells in our answer because they changed are news for the client."""
        news = _FLAGS.findall(line.partition(b"BODY[")[0] if b"BODY[" in line else line)
        if news:
            self._say(b"* %d FETCH (" % number + b" ".join(news) + b")\r\n")

    def look_at_clock(self) -> None:
        """Called now and then while a command is kept: it need not wait for ever."""
        if not self._impatient():
            return
        inquiry = self._inquiry
        if inquiry is not None and not inquiry.late:
            log.warning("an IMAP server leaves a question without answer; the session goes on unwatched")
            inquiry.late = True
            self.observer = None
            self._owner.off()
        self.from_client()

    # Faults and the end.

    def _watched(self, look: Callable[..., Any], *what: Any) -> Any:
        """The observer's view of it; what it raises turns it off, and the session goes on."""
        try:
            return look(*what)
        except Exception as error:
            self._turn_off(error)
            return None

    def _turn_off(self, error: Exception) -> None:
        log_fault(log, "the observer of an IMAP session failed; the session goes on unwatched", error)
        self.observer = None
        self._owner.off()

    def _broken(self, error: Exception) -> None:
        log_fault(log, "an IMAP session is ended by a fault", error)
        self.end()

    def say_bye(self, text: bytes) -> None:
        """Tell the client that it ends, where that can be said, and end."""
        if self._responses.between:
            self._client.write(b"* BYE " + text + b"\r\n")
        self.end()

    def end(self) -> None:
        self._client.close()
        self._upstream.abort()

    def _over(self) -> None:
        """One side is gone: what is on its way to the other is still sent."""
        for wire in (self._client, self._upstream):
            wire.lost = _nothing
            wire.feed = _drop
            wire.other = None
        if self._client.closed:
            self._read_all()
        else:
            self._client.lost = self._read_all  # when all is sent, or when it cannot be
            self._client.close()
        if not self._upstream.closed:
            self._upstream.close()
        self._inquiry = None
        self._owner.asking(self, False)
        self._owner.ended(self)

    def _read_all(self) -> None:
        """The client is gone: without an error it took what it was sent."""
        if self._client.clean and self.observer is not None and self.observer.awaits:
            self._watched(self.observer.confirmed)


def _found(line: bytes) -> list[int]:
    """The numbers of a SEARCH response (RFC 9051 §7.3.4: or of an ESEARCH one), if they are not too many."""
    if not line.endswith(b"\n") or len(line) > 8192:
        return []
    words = line.split()
    if words[1].upper() == b"SEARCH":
        return [int(word) for word in words[2:] if word.isdigit() and len(word) <= 10]
    upper = [word.upper() for word in words]
    if b"ALL" not in upper[:-1]:
        return []
    which, _ = the_set(words[upper.index(b"ALL") + 1])
    return (numbers(which) or []) if which else []


def _nothing() -> None:
    """Both sides are at their end."""


def _drop(data: bytes) -> None:
    """Nobody is there to take it."""
