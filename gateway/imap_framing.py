"""IMAP cut into lines and literals, and nothing more: where a command or a response begins and ends.

RFC 3501 §4.3 and RFC 9051 §4.3 (literals), RFC 7888 (``{n+}``), RFC 3516 (``~{n}``), RFC 2177 (IDLE). Octets
go in as they come from the socket and out as they are; lines are shown to the session, which may let one
pass, put another in its place or keep it. Literals stream through and are never kept, save a beginning that
the session asked for. However the octets are split, the session is shown the same.

Fails: nothing here raises on what a peer sends. A command line beyond its cap is told by
:meth:`Commands.too_long`; a response has no cap, beyond :data:`HELD` it streams through unread.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Protocol

HELD = 16_384  # octets of an unfinished response line that are kept back until it ends
TAIL = 1024  # octets before the end of a longer line, in which a literal is looked for
HEAD = 64  # octets of a longer line, which tell what it is

# A literal's announcement ends the line; RFC 9051 §4.3: a 63-bit number.
_LITERAL = re.compile(rb"(~?)\{(\d{1,19})(\+?)\}\r?\n\Z")
# Response text may hold anything, also what looks like a literal (RFC 9051 §7.1).
_TEXT = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)\b", re.I)
# What a large mailbox is made of, where it has no literal: none of it needs a look.
_PLAIN = re.compile(rb"\* (?:\d{1,10} FETCH|LIST|LSUB|STATUS) ")
_OTHER = re.compile(rb"\n(?!\* (?:\d{1,10} FETCH|LIST|LSUB|STATUS) )")


def literal_size(line: bytes) -> tuple[int, bool] | None:
    """The size that the end of a line announces, and whether it comes unasked; None: there is none."""
    if line[-3:-2] != b"}" and line[-2:-1] != b"}":
        return None
    match = _LITERAL.search(line, max(0, len(line) - 32))
    if match is None or (size := int(match[2])) >= 1 << 63:
        return None
    return size, bool(match[3])


class Go(Enum):
    """What becomes of a command line."""

    PASS = "pass"
    IDLE = "idle"  # passes; what follows the server's "+" is one line, no command
    KEEP = "keep"  # kept back, to be shown again
    DROP = "drop"  # answered here; its literals are never sent


class CommandSink(Protocol):
    """What a session does with the client's commands."""

    def command(self, line: bytes, literal: int) -> Go:
        """The first line of a command, with its line end; ``literal`` is -1 or the octets to follow."""

    def cut(self, reason: bytes) -> None:
        """The client broke the bounds."""


class Commands:
    """Frames what a client sends. :meth:`feed` returns what goes to the server now."""

    __slots__ = ("_cap", "_discard", "_left", "_rest", "_sink", "_state", "_waiting")

    LINE, MORE, LITERAL, WAIT, WAIT_IDLE, IDLE = range(6)

    def __init__(self, sink: CommandSink, cap: int) -> None:
        self._sink = sink
        self._cap = cap
        self._rest = b""
        self._state = self.LINE
        self._left = 0  # octets of the literal that are still to come
        self._discard = False  # of a command that was answered here
        self._waiting = 0  # size of the literal that the server must agree to

    @property
    def idle(self) -> bool:
        """Nothing is here that could go on."""
        return not self._rest

    @property
    def fresh(self) -> bool:
        """The next octet begins a command."""
        return self._state == self.LINE

    @property
    def blocked(self) -> bool:
        """What is here waits for the server or for the session; the client need not be read."""
        return bool(self._rest) and (self._state in (self.WAIT, self.WAIT_IDLE) or self._kept())

    def _kept(self) -> bool:
        return self._state == self.LINE and b"\n" in self._rest

    @property
    def waits(self) -> bool:
        """A "+" is due for a literal or for IDLE."""
        return self._state in (self.WAIT, self.WAIT_IDLE)

    def agreed(self) -> None:
        """The server said "+"; then :meth:`feed` with nothing goes on."""
        if self._state == self.WAIT:
            self._state, self._left = (self.LITERAL, self._waiting) if self._waiting else (self.MORE, 0)
        elif self._state == self.WAIT_IDLE:
            self._state = self.IDLE

    def refused(self) -> None:
        """The server answered the command that waits, or ended IDLE: what comes next is a command."""
        if self._state in (self.WAIT, self.WAIT_IDLE, self.IDLE):
            self._state = self.LINE

    def feed(self, data: bytes = b"") -> bytes:
        """Take what came, return what goes on. What is blocked is kept."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        pos = begin = 0
        end = len(data)
        out: list[bytes] = []
        while pos < end:
            state = self._state
            if state == self.LITERAL:
                take = min(self._left, end - pos)
                if self._discard:
                    if pos > begin:
                        out.append(data[begin:pos])
                    begin = pos + take
                pos += take
                self._left -= take
                if not self._left:
                    self._state = self.MORE
                continue
            if state == self.WAIT or state == self.WAIT_IDLE:
                break
            eol = data.find(b"\n", pos, pos + self._cap) + 1
            if not eol:
                if end - pos >= self._cap:
                    self._sink.cut(b"Command line too long")
                    return b""
                break
            if state == self.IDLE:
                self._state = self.LINE
                pos = eol
                continue
            line = data[pos:eol]
            literal = literal_size(line)
            if state == self.LINE:
                go = self._sink.command(line, literal[0] if literal else -1)
                if go is Go.KEEP:
                    break
                self._discard = go is Go.DROP
                if go is Go.IDLE:
                    self._state = self.WAIT_IDLE
                    pos = eol
                    continue
            if self._discard:
                if pos > begin:
                    out.append(data[begin:pos])
                begin = eol
            pos = eol
            if literal is None:
                self._state = self.LINE
            elif literal[1]:
                self._left = literal[0]
                self._state = self.LITERAL if self._left else self.MORE
            elif self._discard:
                self._state = self.LINE  # the tagged answer takes the place of the "+"
            else:
                self._waiting = literal[0]
                self._state = self.WAIT
        self._rest = data[pos:]
        if not out and begin == 0:
            return data if pos == end else data[:pos]
        out.append(data[begin:pos])
        return b"".join(out)


class ResponseSink(Protocol):
    """What a session does with the server's responses. Each returns what the client gets in its place."""

    def tagged(self, line: bytes) -> bytes: ...

    def goes_on(self, line: bytes) -> bytes:
        """A continuation request, "+"."""

    def untagged(self, line: bytes, literal: int) -> bytes:
        """The first line of a response; ``literal`` is -1 or the octets that follow. Nothing hides it all."""

    def wants(self) -> int:
        """How many octets of the literal just announced the session wants to see."""

    def read(self, octets: bytes) -> None:
        """Those octets, once the literal is over."""

    def more(self, line: bytes, literal: int) -> None:
        """The line after a literal, or the end of a long one."""


class Responses:
    """Frames what a server sends. :meth:`feed` returns what goes to the client now."""

    __slots__ = ("_hidden", "_kind", "_left", "_long", "_rest", "_seen", "_sink", "_start", "_want", "all")

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        self._rest = b""
        self._left = 0
        self._start = True  # the next line begins a response
        self._hidden = False  # the present response is kept from the client
        self._kind = 0  # of a long line: 0 none, 1 data, 2 text
        self._long: bytes | None = None  # the end so far of a long line, while it comes
        self._seen: bytearray | None = None  # of a literal that the session looks at
        self._want = 0
        self.all = False  # show every line, also those of which a large mailbox is made

    @property
    def between(self) -> bool:
        """The client has got whole responses only."""
        return self._start and self._long is None

    def feed(self, data: bytes) -> bytes:
        """Take what came, return what goes on; the end of an unfinished line stays here."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        pos = begin = 0
        end = len(data)
        out: list[bytes] = []
        sink = self._sink
        while pos < end:
            if self._left:
                take = min(self._left, end - pos)
                if self._seen is not None and len(self._seen) < self._want:
                    self._seen += data[pos : min(pos + take, pos + self._want - len(self._seen))]
                if self._hidden:
                    if pos > begin:
                        out.append(data[begin:pos])
                    begin = pos + take
                pos += take
                self._left -= take
                if not self._left:
                    self._literal_over()
                continue
            if self._start and self._long is None and not self.all:
                plain = _plain_end(data, pos)
                if plain > pos:
                    pos = plain
                    continue
            eol = data.find(b"\n", pos) + 1
            if self._long is not None:
                stop = eol or end
                self._long = (self._long + data[max(pos, stop - TAIL) : stop])[-TAIL:]
                if self._hidden:
                    if pos > begin:
                        out.append(data[begin:pos])
                    begin = stop
                pos = stop
                if eol:
                    line, self._long = self._long, None
                    self._line_over(line, self._kind)
                continue
            if not eol and end - pos <= HELD:
                break
            if not eol or eol - pos > HELD:
                # Whatever its chunks, a long line is known by its beginning and its last octets.
                head = data[pos : pos + HEAD]
                if self._start:
                    text = head[:2] != b"* " or _TEXT.match(head) is not None
                    self._kind = 2 if text else 1
                    self._hidden = not self._first(head, text)
                else:
                    self._kind = 1
                self._long = b""
                continue
            line = data[pos:eol]
            first = line[:1]
            if not self._start:
                if self._hidden:
                    if pos > begin:
                        out.append(data[begin:pos])
                    begin = eol
                pos = eol
                self._line_over(line, 1)
                continue
            literal = -1
            if first == b"*":
                if (found := literal_size(line)) and not _TEXT.match(line):
                    literal = found[0]
                said = sink.untagged(line, literal)
            elif first == b"+":
                said = sink.goes_on(line)
            else:
                said = sink.tagged(line)
            if said is not line:
                if pos > begin:
                    out.append(data[begin:pos])
                if said:
                    out.append(said)
                begin = eol
            pos = eol
            if literal >= 0:
                self._hidden = not said
                self._start = False
                self._literal_begins(literal)
        self._rest = data[pos:]
        if not out and begin == 0:
            return data if pos == end else data[:pos]
        out.append(data[begin:pos])
        return b"".join(out)

    def _first(self, head: bytes, text: bool) -> bool:
        """Show the beginning of a long line; True when it passes."""
        if head[:1] == b"*":
            return bool(self._sink.untagged(head, -1))
        return bool(self._sink.goes_on(head) if head[:1] == b"+" else self._sink.tagged(head))

    def _line_over(self, line: bytes, kind: int) -> None:
        """A line ended that does not begin a response, or a long one."""
        found = literal_size(line) if kind == 1 else None
        self._start = found is None
        if kind == 1:
            self._sink.more(line, found[0] if found else -1)
        if found:
            self._literal_begins(found[0])
        else:
            self._hidden = False

    def _literal_begins(self, size: int) -> None:
        self._want = self._sink.wants()
        self._seen = bytearray() if self._want else None
        self._left = size
        if not size:
            self._literal_over()

    def _literal_over(self) -> None:
        if self._seen is not None:
            seen, self._seen = bytes(self._seen), None
            self._sink.read(seen)


def _plain_end(data: bytes, pos: int) -> int:
    """Where the whole plain lines end that begin at ``pos``."""
    if _PLAIN.match(data, pos) is None:
        return pos
    other = _OTHER.search(data, pos)
    stop = other.start() + 1 if other is not None else data.rfind(b"\n", pos) + 1
    brace = data.find(b"{", pos, stop)
    return max(pos, stop if brace < 0 else data.rfind(b"\n", pos, brace) + 1)
