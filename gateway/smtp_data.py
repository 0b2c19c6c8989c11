"""Message content as it comes over the wire: DATA's dots, BDAT's chunks, and the rule for line ends.

RFC 5321 §4.5.2 (transparency), §4.1.1.4 and §2.3.8 (only CRLF ends a line), RFC 3030 (CHUNKING). Works on
blocks as the socket gives them and passes each octet once; nothing is done line by line.

Only CRLF.CRLF ends DATA. A bare CR, a bare LF or a NUL anywhere is a :attr:`Content.fault` and the message
is dropped: carried on, it would end at another place for the next server (SMTP smuggling).

How it fails: :class:`Content` never raises while octets come; it keeps the first fault (bare octets,
over-size, no space) as the reply that is due, drops the spool, and swallows what follows, so that framing
is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import IncrementalNewlineDecoder

from gateway.desk import WireLimits
from gateway.tally import Tally
from tracker.archive import Octets, Spool
from tracker.reply import UNFORESEEN, Reply

log = logging.getLogger(__name__)

_END = b"\r\n.\r\n"
_PREFIXES = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # of _END, longest first

_SMALL = 8192  # octets that make a write worth while: a peer may send two at a time

BARE = Reply.of(554, "5.6.0", "Message content with a bare CR, a bare LF or a NUL is not accepted")
BUSY = Reply.of(452, "4.3.1", "Too much mail in flight, please try again later")
NO_SPACE = Reply.of(452, "4.3.1", "No space at the moment, please try again later")


class DotStream:
    """The content of one DATA command: un-stuffs dots and finds the end, block by block."""

    __slots__ = ("_held", "_skip")

    def __init__(self) -> None:
        # Content begins at the beginning of a line: an end of line before it, never handed out, makes
        # its first dot like any other.
        self._held = b"\r\n"
        self._skip = 2

    def feed(self, block: bytes) -> tuple[bytes, bytes | None]:
        """Returns content that is certain, and what follows the end of DATA (None before the end)."""
        octets = self._held + block
        # Most content has few dots: between the first and the last of them, one pass looks for a line that
        # begins with one. Only if that is not the end, a second and a third pass are needed.
        start = max(octets.find(b".") - 2, 0)
        dotted = octets.find(b"\r\n.", start, octets.rfind(b".") + 1)
        end, rest = dotted, None
        if dotted >= 0 and not octets.startswith(_END, dotted):
            end = octets.find(_END, dotted)
        if end >= 0:
            octets, rest = octets[: end + 2], octets[end + 5 :]
            self._held = b""
        else:
            # An octet that may yet be part of the end waits for the next block.
            self._held = next((p for p in _PREFIXES if octets.endswith(p)), b"")
            if self._held:
                octets = octets[: -len(self._held)]
        if dotted != end:
            octets = octets.replace(b"\r\n.", b"\r\n")
        if self._skip and octets:
            octets = octets[self._skip :]
            self._skip = 0
        return octets, rest


class LineEnds:
    """Watches that CR and LF only ever come as CRLF and that no NUL comes, across block edges."""

    __slots__ = ("_newlines",)

    def __init__(self) -> None:
        # The standard library's newline decoder notes which kinds of line end it has seen, in C and in
        # one pass: a third of the cost of counting CR, LF and CRLF.
        self._newlines = IncrementalNewlineDecoder(None, translate=False)

    def clean(self, block: bytes, final: bool = False) -> bool:
        """False when a bare CR, a bare LF or a NUL was seen, in this block or before. A CR at the very end
        is judged with the next block, or now if this one is ``final``."""
        self._newlines.decode(block.decode("latin-1"), final)
        return self._newlines.newlines in (None, "\r\n") and b"\0" not in block


class Content:
    """The content of one transaction on its way to the spool, with the limits kept."""

    __slots__ = ("_counted", "_limits", "_lines", "_small", "_spool", "_tally", "fault", "received")

    def __init__(self, limits: WireLimits, tally: Tally, spool: Callable[[], Spool]) -> None:
        self._limits = limits
        self._tally = tally
        self._lines = LineEnds()
        self._small = bytearray()  # pieces too small to be written one by one
        self._counted = 0  # octets that the tally holds for us
        self._spool: Spool | None = None
        self.received = 0  # octets taken, or swallowed after a fault
        self.fault: Reply | None = None
        try:
            self._spool = spool()
        except Exception as error:
            self._failed(error)

    def take(self, piece: bytes, final: bool = False) -> None:
        """Add content, or swallow it if there is a fault already."""
        size = len(piece)
        self.received += size
        if self.fault is not None:
            return
        if not self._lines.clean(piece, final):
            self.fail(BARE)
        elif self.received > self._limits.size:
            self.fail(Reply.of(552, "5.3.4", f"Message larger than {self._limits.size} octets"))
        elif self._tally.octets + size > self._limits.octets_in_flight:
            self.fail(BUSY)
        elif size:
            self._tally.octets += size
            self._counted += size
            if size < _SMALL or self._small:
                self._small += piece
                if len(self._small) >= _SMALL:
                    self._write_small()
            else:
                self._write(piece)

    def fail(self, reply: Reply) -> None:
        """Note the fault that is to be answered, and drop what was spooled."""
        self.fault = self.fault or reply
        self.drop()

    def finish(self) -> Octets | None:
        """The whole content, or None where :attr:`fault` says why; its octets stay counted until ``drop``."""
        if self.fault is None and self._small:
            self._write_small()
        if self.fault is None:
            assert self._spool is not None
            try:
                octets = self._spool.finish()
            except Exception as error:
                self._failed(error)
            else:
                self._spool = None
                octets.paired = True
                return octets
        return None

    def drop(self) -> None:
        """Give back what is held. Idempotent."""
        self._tally.octets -= self._counted
        self._counted = 0
        self._small.clear()
        if self._spool is not None:
            spool, self._spool = self._spool, None
            try:
                spool.discard()
            except Exception as error:
                self._failed(error)

    def _write_small(self) -> None:
        piece = bytes(self._small)
        self._small.clear()
        self._write(piece)

    def _write(self, piece: bytes) -> None:
        assert self._spool is not None
        try:
            self._spool.write(piece)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Whatever the spool raises is a fault: while content comes in, the framing has to go on."""
        if isinstance(error, OSError):
            log.warning("spool: %s", error)
            self.fail(NO_SPACE)
        else:
            log.error("spool", exc_info=error)
            self.fail(UNFORESEEN)
