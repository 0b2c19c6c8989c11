"""The octets of one letter on their way out after DATA: looked at once, dot-stuffed, in bounded pieces.

STANDARDS
    RFC 5321 §4.5.2 (transparency), §2.3.8 (CR and LF only as a pair), §4.5.3.1.6 as far as it is kept
    by who composed the letter; RFC 6152 (8-bit content must be announced).

Nothing is repaired: content with a bare CR, a bare LF or a NUL is named in :attr:`Content.fault` and
never sent. Only a missing CRLF at the very end is added, which DATA cannot do without. Up to
``WHOLE`` octets are held as one object, larger letters are read from their views piece by piece.
All searches run over whole pieces, never over lines.
"""

from __future__ import annotations

import asyncio
import mmap
import re
from collections.abc import Iterator, Sequence
from io import IncrementalNewlineDecoder

Piece = bytes | memoryview | mmap.mmap

WHOLE = 1 << 19  # octets up to which the content is joined
PIECE = 1 << 18  # octets of one piece beyond that
_COPIED = 1 << 14  # octets that are rather copied than written apart from the final dot

_MAPPED = 1 << 20  # octets of a mapped file that stay mapped behind the piece in hand

_BARE_CR = re.compile(rb"\r(?!\n)")


class Content:
    """What must be known of the octets before MAIL, and the octets as DATA carries them.

    ``size`` is that of RFC 1870 §3: with the last CRLF, without stuffing and the final dot.
    """

    __slots__ = ("_dots", "_last", "_paired", "_pieces", "eightbit", "fault", "size")

    def __init__(self, pieces: Sequence[Piece], paired: int = 0) -> None:
        size = sum(len(piece) for piece in pieces)
        self._pieces: Sequence[Piece] = [b"".join(pieces)] if size <= WHOLE else pieces
        self._paired = paired if size <= WHOLE else 0
        self._last = b""  # the last two octets
        self._dots = False
        self.eightbit = False
        self.fault: str | None = None  # "bare CR", "bare LF", "NUL"
        self.size = size

    @classmethod
    async def of(cls, pieces: Sequence[Piece], paired: int = 0) -> Content:
        """Look through the octets; a large letter does not keep others from the event loop.

        The last ``paired`` octets are known to be free of what :attr:`fault` names.
        """
        content = cls(pieces, paired)
        if content.size <= WHOLE:
            content.look_through()
        else:
            for _ in content._look():
                await asyncio.sleep(0)
        return content

    def look_through(self) -> Content:
        """The same without an event loop."""
        for _ in self._look():
            pass
        return self

    def _look(self) -> Iterator[None]:
        last = b"\r\n"
        # The standard library's newline decoder notes which line ends it has seen, in C and in one pass.
        newlines = IncrementalNewlineDecoder(None, translate=False)
        for octets in self._read():
            if self.fault is None:
                self._note(octets, last, newlines)
            last = (last + octets)[-2:] if len(octets) < 2 else octets[-2:]
            yield
        if self.fault is None and last[-1:] == b"\r":
            self.fault = "bare CR"
        self._last = last
        if self.size and last != b"\r\n":
            self.size += 2

    def _note(self, octets: bytes, last: bytes, newlines: IncrementalNewlineDecoder) -> None:
        if not octets.isascii():
            self.eightbit = True
        unsure = octets[: max(len(octets) - self._paired, 0)] if self._paired else octets
        if b"\0" in unsure:
            self.fault = "NUL"
            return
        open_cr = last[-1:] == b"\r"  # the piece before ends within a line end
        newlines.decode(unsure.decode("latin-1"), bool(self._paired))
        if newlines.newlines not in (None, "\r\n"):
            odd = _BARE_CR.search(octets, 0, len(octets) - octets.endswith(b"\r"))
            self.fault = "bare CR" if odd is not None or (open_cr and octets[:1] != b"\n") else "bare LF"
        elif open_cr or (octets[:1] == b"." and last == b"\r\n"):
            self._dots = True
        elif not self._dots:
            # Most letters have few dots: only between the first and the last one does a line begin with one.
            first = octets.find(b".")
            self._dots = first >= 0 and octets.find(b"\n.", max(first - 1, 0), octets.rfind(b".") + 1) >= 0

    def stuffed(self) -> Iterator[bytes]:
        """The octets with dots doubled at line starts; the last piece is, or ends with, the final dot's line.

        Nothing but the last piece ends the transaction: whoever stops before it has sent no letter.
        """
        tail = b".\r\n" if self.size == 0 or self._last == b"\r\n" else b"\r\n.\r\n"
        if not self._dots:
            held: bytes | None = None
            for octets in self._read():
                if held is not None:
                    yield held
                held = octets
            if held is not None and len(held) > _COPIED:
                yield held
                held = None
            yield (held or b"") + tail
            return
        line_end = b"\r\n"  # held back, so that CRLF and dot are always seen together
        first = True
        for octets in self._read():
            joined = line_end + octets
            line_end = b"\r\n" if joined.endswith(b"\r\n") else b"\r" if joined.endswith(b"\r") else b""
            out = joined[: len(joined) - len(line_end)].replace(b"\r\n.", b"\r\n..")
            if first:
                if len(out) < 2:  # nothing but a line end so far
                    line_end = joined
                    continue
                out, first = out[2:], False
            if out:
                yield out
        yield (line_end[2:] if first else line_end) + tail

    def _read(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes) and len(piece) <= WHOLE:
                if piece:
                    yield piece
                continue
            with memoryview(piece) as view:
                for at in range(0, len(view), PIECE):
                    yield bytes(view[at : at + PIECE])
                    if (at + PIECE) % _MAPPED == 0 and isinstance(view.obj, mmap.mmap):
                        view.obj.madvise(mmap.MADV_DONTNEED)  # the file has them; we need not
