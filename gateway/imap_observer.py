"""What a client does with Wasl's letters in its session, and nothing of any other message.

Handed over whole (``BODY[]``, ``RFC822``, ``BINARY[]``, the text alone, or piece after piece to its end) is
*fetched*, never called opened.
A command that sets flags, copies, moves or removes messages is a hint once the server has agreed to it. A
letter is known by the ``Wasl-Letter`` and ``Message-ID`` of its header: read in passing where the header is
handed over anyway, else asked of the server between two commands. The questions go by message number,
SEARCH and FETCH, because in their course no server may send EXPUNGE (RFC 3501 §7.4.1). Known per connection
are a few messages: by UID, which letter or none; all is forgotten when another mailbox is selected.

Fails: whatever is not understood is not noticed. What raises here turns this part off for the session.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from gateway.imap_command import MOST_NUMBERS, SAVED, Command, covers, folder, numbers, store, the_set

HEADER = 16_384  # octets of a message's beginning in which its header is looked for
_KNOWN = 64  # messages remembered
_ACTS = 32  # acts that wait for a question
QUESTION = b"(UID BODY.PEEK[HEADER.FIELDS (WASL-LETTER MESSAGE-ID)])"
# Keywords that mail programs set by themselves.
_NOISE = frozenset(
    {b"nonjunk", b"$notjunk", b"notjunk", b"$x-me-annot-2", b"$havenoattachment", b"$hasattachment"}
)

_FIELD = re.compile(rb"^(wasl-letter|message-id):[ \t]*((?:[^\r\n]|\r?\n[ \t])*)", re.I | re.M)
# The last item before a literal. A quoted string cannot end there, so the name is no one's text.
_ITEM = re.compile(
    rb"[( ](BODY\[\]|BODY\[TEXT\]|BODY\[HEADER\]|RFC822|RFC822\.TEXT|RFC822\.HEADER|BINARY\[\])"
    rb"(?:<(\d{1,10})>)? ~?\{(\d{1,19})\}\r?\n\Z",
    re.I,
)
_PIECE = re.compile(rb"[( ]BODY(?:\.PEEK)?\[\]<(\d{1,10})\.(\d{1,10})>", re.I)  # as a client asks for it
_PIECES = 16  # pieces asked for, and messages handed over in part, that are remembered
_FETCH = re.compile(rb"\* (\d{1,10}) FETCH \((?:UID (\d{1,10}) )?", re.I)
_WITH_HEADER = frozenset({b"BODY[]", b"RFC822", b"BINARY[]"})
_HEADER_ALONE = frozenset({b"BODY[HEADER]", b"RFC822.HEADER"})


class Letter(NamedTuple):
    """What a message says that it is."""

    number: str
    message_id: str


class Sight(NamedTuple):
    """Something was done with a letter."""

    letter: Letter
    what: str  # fetched, seen, answered, mdn-sent, keyword, copied, moved, deleted
    value: str  # the keyword, the folder moved to
    folder: str  # where the message lies


class Row(NamedTuple):
    """One message of the answer to a question."""

    number: int
    uid: int
    header: bytes


class Answer(NamedTuple):
    """How the server answered a question, if ``ok``: numbers of a SEARCH, rows of a FETCH."""

    ok: bool
    numbers: list[int]
    rows: list[Row]


Question = Generator[bytes, Answer, None]


class Act:
    """A command under way that may concern letters."""

    __slots__ = ("first", "kind", "letters", "names", "place", "set", "uid", "values")

    def __init__(self, kind: str, *, uid: bool = False, of: bytes = b"", first: bool = False) -> None:
        self.kind = kind
        self.uid = uid
        self.set = of  # the messages, as the client named them
        self.names: list[int] | None = None  # their numbers, kept right while others go
        self.values: tuple[tuple[str, str], ...] = ()  # what, value
        self.place = ""  # the mailbox that is selected
        self.letters: list[Letter] | None = None  # None: not known yet
        self.first = first  # to be known before the command goes to the server: afterwards they are gone


class Observer:
    """One session's observations. Calls come in the order of the wire."""

    __slots__ = (
        "_acts",
        "_exists",
        "_folder",
        "_handed",
        "_known",
        "_part",
        "_parts",
        "_pieces",
        "_read_only",
        "_row",
        "_sent",
        "_texts",
        "_told",
    )

    def __init__(self, told: Callable[[Sight], None]) -> None:
        self._told = told
        self._folder = ""
        self._read_only = False
        self._exists: int | None = None
        self._known: dict[int, Letter | None] = {}
        self._acts: deque[Act] | None = None  # agreed to, waiting for a question
        self._handed: list[Letter] | None = None  # whole, the end of their command still to come
        self._sent: list[Sight] | None = None  # whole and ended; that it arrived is still to be seen
        self._texts: list[int] | None = None  # numbers of messages whose text alone was handed over
        self._row: tuple[int, int, bytes] = (0, 0, b"")  # number, UID, item of the response that comes
        self._part: tuple[int, int] | None = None  # of that item: where the piece begins, its octets
        self._pieces: dict[int, int] = {}  # asked for: where a piece begins, how many octets at most
        self._parts: dict[
            int, tuple[Letter, int]
        ] = {}  # by number: so many octets from the beginning are over

    # The client's commands.

    def begins(self, command: Command) -> Act | None:
        """What the command may do to letters; None for nothing."""
        verb = command.verb.removeprefix(b"UID ")
        if verb in (b"SELECT", b"EXAMINE"):
            act = Act("select")
            act.values = (("select", folder(command.rest)),)
            act.names = [1] if verb == b"EXAMINE" else None
            return act
        if verb in (b"CLOSE", b"UNSELECT"):
            return Act("close", first=verb == b"CLOSE" and not self._read_only)
        if not self._folder:
            return None
        if verb == b"FETCH":
            for piece in _PIECE.finditer(command.rest[:2000]):
                self._pieces.pop(int(piece[1]), None)
                self._pieces[int(piece[1])] = int(piece[2])
                _bound(self._pieces)
            return None
        if verb == b"EXPUNGE":
            messages = the_set(command.rest)[0] if command.uid else b""
            return Act("deleted", uid=command.uid, of=messages, first=not self._read_only)
        verb = b"MOVE" if verb == b"XMOVE" else verb  # an older name, of Cyrus
        if verb not in (b"STORE", b"COPY", b"MOVE", b"REPLACE"):
            return None
        messages, rest = the_set(command.rest)
        if not messages:
            return None
        # What was saved of a search names the same messages to a command with UID and to one without.
        act = Act(verb.decode().lower(), uid=command.uid or messages == SAVED, of=messages)
        act.first = verb in (b"MOVE", b"REPLACE")  # afterwards they are elsewhere, or no more
        if verb == b"STORE":
            act.values = tuple(_meanings(store(rest) or ()))
            if not act.values:
                return None
        elif verb == b"REPLACE":
            act.values = (("deleted", ""),)
        else:
            act.values = (("moved" if verb == b"MOVE" else "copied", folder(rest)),)
        act.place = self._folder
        if not act.uid:
            act.names = numbers(messages, self._exists)
            if act.names is None:
                return None
        return act

    def finished(self, act: Act | None, ok: bool, line: bytes) -> None:
        """The server's tagged answer to a command."""
        if self._handed:
            handed, self._handed = self._handed, None
            self._arrives(handed)
        if act is None:
            return
        if act.kind == "select":
            exists = self._exists  # told on the way to this answer
            self._forget()
            if ok:
                self._exists = exists
                self._folder = act.values[0][1] or "?"
                self._read_only = act.names is not None or b"[READ-ONLY]" in line.upper()
            return
        if ok and b"[MODIFIED" not in line.upper():
            self._agreed(act)
        if ok and act.kind == "close":
            self._forget()

    def _agreed(self, act: Act) -> None:
        if act.letters is None and act.first:
            return
        if act.letters is None:
            if act.uid:
                self._settle_known(act)
            if act.letters is None:
                acts = self._acts = self._acts if self._acts is not None else deque()
                if len(acts) < _ACTS:
                    acts.append(act)
                return
        self._tell(act)

    def _tell(self, act: Act) -> None:
        values = (("deleted", ""),) if act.kind in ("close", "deleted") else act.values
        for letter in act.letters or ():
            for what, value in values:
                self._told(Sight(letter, what, value, act.place or self._folder))

    def _arrives(self, letters: list[Letter]) -> None:
        sent = self._sent = self._sent if self._sent is not None else []
        sent += [Sight(letter, "fetched", "", self._folder) for letter in letters]

    @property
    def awaits(self) -> bool:
        """A sign of life of the client would tell that what it was sent has arrived."""
        return bool(self._sent)

    def confirmed(self) -> None:
        """The client went on, or went away having read everything."""
        sent, self._sent = self._sent, None
        for sight in sent or ():
            self._told(sight)

    def _forget(self) -> None:
        self._folder, self._read_only, self._exists = "", False, None
        self._known = {}
        self._pieces, self._parts = {}, {}
        self._acts = self._texts = None

    # The server's responses.

    def response(self, line: bytes, literal: int) -> None:
        """The beginning of an untagged response that is no question's answer."""
        self._row = (0, 0, b"")
        match = _FETCH.match(line)
        if match is not None:
            self._row = (int(match[1]), int(match[2] or 0), b"")
            if literal >= 0:
                self._announced(line)
            return
        words = line.split(None, 3)
        if len(words) >= 3 and words[1].isdigit() and len(words[1]) <= 10:
            number, kind = int(words[1]), words[2].upper()
            if kind == b"EXISTS":
                self._exists = number
            elif kind == b"EXPUNGE":
                self._expunged(number)
        elif len(words) > 1 and words[1].upper() == b"VANISHED" and b"(EARLIER)" not in line[:24].upper():
            self._renumbered()

    def goes_on(self, line: bytes) -> None:
        """The line after a literal of that response."""
        self._announced(line)

    def _announced(self, line: bytes) -> None:
        item = _ITEM.search(line, max(0, len(line) - 64))
        self._part = None
        name = item[1].upper() if item is not None else b""
        if item is not None and item[2] is not None:
            self._part = int(item[2]), int(item[3])
            if name != b"BODY[]":
                name = b""  # pieces of anything else are no whole letter
        self._row = (self._row[0], self._row[1], name)

    def wants(self) -> int:
        """Octets of the literal's beginning that are to be shown to :meth:`handed`."""
        item = self._row[2]
        if self._part is not None and self._part[0] > 0:
            return 1 if item else 0
        return HEADER if item in _WITH_HEADER or item in _HEADER_ALONE else 1 if item else 0

    def handed(self, octets: bytes) -> None:
        """The literal announced last has been handed over whole; ``octets`` is how it began."""
        number, uid, item = self._row
        if not number or not item:
            return
        if self._part is not None:
            self._handed_piece(number, *self._part, octets)
            return
        if item in _WITH_HEADER or item in _HEADER_ALONE:
            letter, whole = read_header(octets)
            if uid and (letter or whole):
                self._remember(uid, letter)
            if item in _HEADER_ALONE:
                return
        elif uid and uid in self._known:
            letter, whole = self._known[uid], True
        else:
            letter, whole = None, False
        if letter is not None:
            self._hand(letter)
        elif not whole and self._folder:
            texts = self._texts = self._texts if self._texts is not None else []
            if len(texts) < MOST_NUMBERS and number not in texts:
                texts.append(number)

    def _handed_piece(self, number: int, begin: int, size: int, octets: bytes) -> None:
        """A piece shorter than was asked for is the last; the letter is whole if none was left out."""
        letter, over = self._parts.pop(number, (None, 0)) if begin else (read_header(octets)[0], 0)
        if letter is None or begin != over:
            return
        if size < self._pieces.get(begin, 0):
            self._hand(letter)
            return
        self._parts[number] = letter, begin + size
        _bound(self._parts)

    def _hand(self, letter: Letter) -> None:
        handed = self._handed = self._handed if self._handed is not None else []
        if letter not in handed[-50:]:
            handed.append(letter)

    def _expunged(self, number: int) -> None:
        if self._exists:
            self._exists -= 1
        self._parts.clear()
        if self._texts:
            self._texts = [n - (n > number) for n in self._texts if n != number]
        for act in self._acts or ():
            if act.names is not None:
                act.names = [n - (n > number) for n in act.names if n != number]

    def _renumbered(self) -> None:
        """Messages went by UID (RFC 7162 §3.2.10): no number is sure any more."""
        self._exists = self._texts = None
        self._parts.clear()
        if self._acts:
            self._acts = deque(act for act in self._acts if act.uid)

    def _remember(self, uid: int, letter: Letter | None) -> None:
        self._known.pop(uid, None)
        self._known[uid] = letter
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    # Questions.

    @property
    def asks(self) -> bool:
        """A question waits for a moment between two commands."""
        return bool(self._acts or self._texts)

    def question(self, act: Act | None = None) -> Question | None:
        """The next question: about ``act`` before it goes out, else about what has been done."""
        if act is not None:
            return self._before(act)
        if self._texts:
            texts, self._texts = self._texts, None
            return self._about_texts(texts)
        if self._acts:
            return self._after(self._acts.popleft())
        return None

    def _before(self, act: Act) -> Question:
        if act.uid and act.kind in ("move", "replace"):
            self._settle_known(act)
        if act.letters is None:
            act.letters = yield from self._letters(act)

    def _after(self, act: Act) -> Question:
        act.letters = yield from self._letters(act)
        self._tell(act)

    def _about_texts(self, texts: list[int]) -> Question:
        self._arrives((yield from self._rows(texts)))

    def _letters(self, act: Act) -> Generator[bytes, Answer, list[Letter]]:
        """The letters among the messages of an act, asking for those that are not known."""
        if act.kind in ("close", "deleted"):
            answer = yield b"SEARCH DELETED" + (b" UID " + act.set if act.set else b"")
            return (yield from self._rows(answer.numbers, act.set or SAVED)) if answer.ok else []
        if act.names is not None:
            return (yield from self._rows(act.names))
        uids = numbers(act.set)
        known = [letter for uid, letter in self._known.items() if letter and covers(act.set, uid)]
        unknown = [uid for uid in uids if uid not in self._known] if uids is not None else None
        if unknown == []:
            return known
        which = b",".join(b"%d" % uid for uid in unknown) if unknown else act.set
        if len(which) > 1500:
            return known
        answer = yield b"SEARCH UID " + which
        return known + [x for x in (yield from self._rows(answer.numbers, act.set)) if x not in known]

    def _rows(self, found: list[int], of: bytes = SAVED) -> Generator[bytes, Answer, list[Letter]]:
        """The letters among these messages; a server that renumbers between two commands of ours (RFC 5465)
        may show another message than was meant, which its UID tells where ``of`` names UIDs."""
        if not found or len(found) > MOST_NUMBERS:
            return []
        answer = yield b"FETCH " + b",".join(b"%d" % n for n in found) + b" " + QUESTION
        letters = []
        for row in answer.rows:
            letter, _ = read_header(row.header + b"\r\n\r\n")
            if row.uid:
                self._remember(row.uid, letter)
            if letter is not None and (of == SAVED or not row.uid or covers(of, row.uid)):
                letters.append(letter)
        return letters

    def _settle_known(self, act: Act) -> None:
        """Without a question, when every message of the act is known."""
        uids = numbers(act.set)
        if uids is not None and all(uid in self._known for uid in uids):
            act.letters = [letter for uid in uids if (letter := self._known[uid]) is not None]


def _bound(remembered: dict[int, Any]) -> None:
    if len(remembered) > _PIECES:
        del remembered[next(iter(remembered))]


def read_header(octets: bytes) -> tuple[Letter | None, bool]:
    """The letter that a header speaks of, and whether there was enough of the header to say."""
    if octets[:1] == b"\n" or octets[:2] == b"\r\n":
        return None, True  # no header at all
    end = octets.find(b"\n\r\n")
    bare = octets.find(b"\n\n", 0, end if end >= 0 else len(octets))
    end = bare if bare >= 0 else end
    header = octets[: end + 1] if end >= 0 else octets
    if b"wasl-letter:" not in header.lower():
        return None, end >= 0
    fields: dict[bytes, bytes] = {}
    for match in _FIELD.finditer(header):
        name = match[1].lower()
        if name in fields:
            return None, True  # a field that stands twice proves nothing
        fields[name] = b" ".join(match[2].split())
    number, message_id = fields.get(b"wasl-letter", b""), fields.get(b"message-id", b"")
    if number and message_id and len(number) <= 100 and len(message_id) <= 998:
        return Letter(number.decode("ascii", "replace"), message_id.decode("ascii", "replace")), True
    return None, end >= 0


def _meanings(flags: tuple[bytes, ...]) -> Generator[tuple[str, str], None, None]:
    for flag in flags:
        low = flag.lower()
        if low == b"\\seen":
            yield "seen", ""
        elif low == b"\\answered":
            yield "answered", ""
        elif low == b"$mdnsent":
            yield "mdn-sent", ""
        elif not low.startswith(b"\\") and low not in _NOISE:
            yield "keyword", re.sub(r"[^\x21-\x7e]", "?", flag.decode("utf-8", "replace"))[:60]
