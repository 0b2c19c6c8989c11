"""Commands, capabilities and headers as the IMAP proxy reads them."""

from __future__ import annotations

import pytest

from gateway.imap_capability import filtered, listed, offered
from gateway.imap_command import Command, covers, folder, numbers, parse, store, the_set
from gateway.imap_login import client_name, read_id
from gateway.imap_observer import Act, Answer, Letter, Observer, Row, Sight, read_header

LETTER = b"Wasl-Letter: MOF/2026/000001\r\nmessage-id:\r\n <x@mof.example>\r\nSubject: s\r\n\r\nText\r\n"
KNOWN = Letter("MOF/2026/000001", "<x@mof.example>")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a1 NOOP\r\n", Command(b"a1", b"NOOP", b"")),
        (b"a1 uid store 1:2 +FLAGS (x)\r\n", Command(b"a1", b"UID STORE", b"1:2 +FLAGS (x)\r\n")),
        (b"a1 UID  FETCH 1 (FLAGS)\r\n", Command(b"a1", b"UID FETCH", b"1 (FLAGS)\r\n")),
        (b"a1 idle\n", Command(b"a1", b"IDLE", b"")),
        (b"DONE\r\n", Command(b"", b"", b"DONE\r\n")),
        (b"* OK hello\r\n", Command(b"", b"", b"* OK hello\r\n")),
        (b"\x00\xff\r\n", Command(b"", b"", b"\x00\xff\r\n")),
        (b"t" * 200 + b" NOOP\r\n", Command(b"", b"", b"t" * 200 + b" NOOP\r\n")),
    ],
)
def test_commands(line: bytes, expected: Command) -> None:
    assert parse(line) == expected


def test_sets_of_messages() -> None:
    assert the_set(b"1,3:5 (FLAGS)\r\n") == (b"1,3:5", b"(FLAGS)\r\n")
    assert the_set(b"1,3:5\r\n")[0] == b"1,3:5"
    assert the_set(b"$ +FLAGS") == (b"$", b"+FLAGS")
    assert the_set(b"$1 +FLAGS")[0] == b""
    assert numbers(b"$", 9) is None and not covers(b"$", 1)
    assert the_set(b"1x (FLAGS)")[0] == b""
    assert numbers(b"1,3:5,4") == [1, 3, 4, 5]
    assert numbers(b"7:*", 9) == [7, 8, 9]
    assert numbers(b"7:*") is None
    assert numbers(b"1:4000000000") is None
    assert covers(b"1:4000000000", 12) and covers(b"12:*", 12) and covers(b"*:3", 12)
    assert not covers(b"1,5:7", 3)


def test_flags_that_a_store_sets() -> None:
    assert store(b"+FLAGS (\\Seen $MDNSent)\r\n") == (b"\\Seen", b"$MDNSent")
    assert store(b"FLAGS.SILENT \\Seen\r\n") == (b"\\Seen",)
    assert store(b"(UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Answered)\r\n") == (b"\\Answered",)
    assert store(b"-FLAGS (\\Seen)\r\n") == ()
    assert store(b"+X-GM-LABELS (x)\r\n") is None


def test_names_of_mailboxes() -> None:
    assert folder(b"INBOX\r\n") == "INBOX"
    assert folder(b'"Sent \\"x\\" items" (CONDSTORE)\r\n') == 'Sent "x" items'
    assert folder(b'"&BkUGRgYsBjI-"\r\n') == "منجز"
    assert folder("منجز\r\n".encode()) == "منجز"
    assert folder(b"{5}\r\n") == ""


def test_capabilities() -> None:
    line = (
        b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED COMPRESS=DEFLATE IDLE UIDONLY URLAUTH=BINARY MOVE\r\n"
    )
    assert filtered(line) == b"* CAPABILITY IMAP4rev1 IDLE MOVE\r\n"
    past = b"* CAPABILITY IMAP4rev2 JMAPACCESS LOGIN-REFERRALS MAILBOX-REFERRALS XJMAPACCESS XNEW NOTIFY\r\n"
    assert filtered(past) == b"* CAPABILITY IMAP4rev2 XJMAPACCESS XNEW NOTIFY\r\n"
    assert filtered(b"a OK [CAPABILITY IDLE COMPRESS=DEFLATE] in\r\n") == b"a OK [CAPABILITY IDLE] in\r\n"
    assert listed(b"* OK [CAPABILITY idle ID] x") == {b"IDLE", b"ID"}
    assert listed(b"* CAPABILITY X\r\n") == {b"X"}
    assert listed(b"* OK hello CAPABILITY X") is None
    assert b"LOGINDISABLED" in offered(secured=False, starttls=True)
    assert b"AUTH=" not in offered(secured=False, starttls=True)
    assert b"STARTTLS" not in offered(secured=True, starttls=False)


def test_what_a_client_says_that_it_is() -> None:
    pairs = read_id(b'("name" "Mail \\"x\\"" "version" "3.1" "os" NIL "vendor" "Some\\\\one")\r\n')
    assert pairs == {"version": "3.1"}, "what would need quoting is left out"
    spoof = b'("' + b"a" * 29 + b'\\"" " NIL " "x" " x-originating-ip " "y" "192.0.2.9")'
    assert all(not set('"\\') & set(k + v) for k, v in read_id(spoof).items())
    assert client_name(read_id(b'("Name" "Thunderbird" "version" "128")')) == "Thunderbird 128"
    assert client_name(read_id(b"NIL")) == ""
    assert len(read_id(b"(" + b'"k" "v" ' * 1000 + b")")) <= 20


def test_headers() -> None:
    assert read_header(LETTER) == (KNOWN, True)
    assert read_header(b"Subject: x\r\n\r\nWasl-Letter: A\r\nMessage-ID: <x>\r\n\r\n") == (None, True)
    assert read_header(b"Wasl-Letter: A\r\nWasl-Letter: B\r\nMessage-ID: <x>\r\n\r\n")[0] is None
    assert read_header(b"Subject: x\r\nReceived: y")[1] is False, "not enough of it to say"
    assert read_header(b"X-Wasl-Letter: A\r\nMessage-ID: <x>\r\n\r\n")[0] is None
    assert read_header(b"") == (None, False)
    for blank in (b"\r\n", b"\n", b"A: b\n\n", b"A: b\r\n\r\n", b"A: b\n\r\n"):
        assert read_header(blank + LETTER) == (None, True), "what stands in a body is no header"


class Session:
    """Plays a session to an observer: commands, responses, and a mailbox for its questions."""

    def __init__(self, *headers: bytes) -> None:
        self.seen: list[Sight] = []
        self.asked: list[bytes] = []
        self.observer = Observer(self.seen.append)
        self.headers = list(headers)
        self.do(b"SELECT INBOX")

    def do(self, words: bytes, *responses: bytes, ok: bool = True) -> None:
        act = self.observer.begins(parse(b"t " + words + b"\r\n"))
        if act is not None and act.first:
            self.ask(act)
        if words.startswith(b"SELECT"):
            self.observer.response(b"* %d EXISTS\r\n" % len(self.headers), -1)
        for response in responses:
            self.observer.response(response, -1)
        self.observer.finished(act, ok, b"t OK\r\n")
        while self.observer.asks:
            self.ask(None)
        if words.startswith(b"NOOP"):
            self.observer.confirmed()

    def ask(self, act: Act | None) -> None:
        question = self.observer.question(act)
        assert question is not None
        try:
            command = next(question)
            while True:
                self.asked.append(command)
                rows = [Row(n, n + 100, self.headers[n - 1]) for n in self.numbers(command)]
                command = question.send(Answer(True, [row.number for row in rows], rows))
        except StopIteration:
            pass

    def numbers(self, command: bytes) -> list[int]:
        words = command.split()
        if words[0] == b"FETCH":
            return [int(n) for n in words[1].split(b",")]
        if words[1] == b"UID":
            found = numbers(words[2])
            return [n for n in range(1, len(self.headers) + 1) if found is None or n + 100 in found]
        return list(range(1, len(self.headers) + 1))

    def hand(self, line: bytes, octets: bytes) -> None:
        self.observer.response(line, len(octets))
        if self.observer.wants():
            self.observer.handed(octets[: self.observer.wants()])

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(sight.what, sight.value) for sight in self.seen]


PRIVATE = b"Message-ID: <p@moh.example>\r\n\r\n"


def test_a_letter_handed_over_whole_is_fetched() -> None:
    session = Session(LETTER, PRIVATE)
    session.hand(b"* 1 FETCH (UID 101 BODY[] {99}\r\n", LETTER)
    session.hand(b"* 2 FETCH (BODY[] {99}\r\n", PRIVATE + b"Text")
    assert session.seen == [], "not before its command has ended"
    session.do(b"NOOP")
    assert session.seen == [Sight(KNOWN, "fetched", "", "INBOX")]
    assert session.asked == []


@pytest.mark.parametrize(
    "item",
    [
        b"BODY[1]",
        b"BODY[]<0>",
        b"BODY[HEADER]",
        b"RFC822.HEADER",
        b"BODY[HEADER.FIELDS (SUBJECT)]",
        b"ENVELOPE (x",
    ],
)
def test_less_than_the_whole_is_not_fetched(item: bytes) -> None:
    session = Session(LETTER)
    session.hand(b"* 1 FETCH (UID 101 " + item + b" {99}\r\n", LETTER)
    session.do(b"NOOP")
    assert session.seen == []


def piece(session: Session, begin: int, size: int, of: bytes = LETTER, asked: int = 1000) -> None:
    """A client asks for a piece of a letter, and gets ``size`` octets."""
    session.do(b"UID FETCH 101 (UID BODY.PEEK[]<%d.%d>)" % (begin, asked))
    line = b"* 1 FETCH (UID 101 BODY[]<%d> {%d}\r\n" % (begin, size)
    session.hand(line, (of if begin == 0 else b"").ljust(size, b"x"))


def test_a_letter_handed_over_in_pieces_to_its_end_is_fetched() -> None:
    session = Session(LETTER, PRIVATE)
    piece(session, 0, 1000)
    piece(session, 1000, 1000)
    session.do(b"NOOP")
    assert session.seen == [], "there may be more of it"
    piece(session, 2000, 10)
    session.do(b"NOOP")
    assert session.seen == [Sight(KNOWN, "fetched", "", "INBOX")]
    assert session.asked == []


@pytest.mark.parametrize(
    ("pieces", "of"),
    [
        (((0, 1000), (2000, 10)), LETTER),
        (((1000, 1000), (2000, 10)), LETTER),
        (((0, 1000), (1000, 10)), PRIVATE),
        (((0, 1000), (0, 1000), (2000, 10)), LETTER),
    ],
    ids=["one left out", "without its beginning", "no letter", "the first twice"],
)
def test_pieces_that_are_no_whole_letter_are_not_fetched(
    pieces: tuple[tuple[int, int], ...], of: bytes
) -> None:
    session = Session(LETTER, PRIVATE)
    for begin, size in pieces:
        piece(session, begin, size, of)
    session.do(b"NOOP")
    assert session.seen == []


def test_pieces_are_forgotten_when_numbers_move() -> None:
    session = Session(LETTER, PRIVATE)
    piece(session, 0, 1000)
    session.observer.response(b"* 2 EXPUNGE\r\n", -1)
    piece(session, 1000, 10)
    session.do(b"NOOP")
    assert session.seen == []


def test_the_text_alone_is_asked_about_once() -> None:
    session = Session(LETTER, PRIVATE)
    for number in (1, 2):
        session.hand(b"* %d FETCH (UID %d BODY[TEXT] {4}\r\n" % (number, number + 100), b"Text")
    session.do(b"NOOP")
    assert session.told == [("fetched", "")]
    session.hand(b"* 1 FETCH (UID 101 RFC822.TEXT {4}\r\n", b"Text")
    session.do(b"NOOP")
    assert session.told == [("fetched", "")] * 2
    assert len(session.asked) == 1, "the second time it is known"


def test_numbers_follow_what_goes() -> None:
    session = Session(PRIVATE, LETTER)
    session.hand(b"* 3 FETCH (BODY[TEXT] {4}\r\n", b"Text")
    session.do(b"NOOP", b"* 1 EXPUNGE\r\n")
    assert session.asked[-1].startswith(b"FETCH 2 ")
    assert session.told == [("fetched", "")]


def test_flags_copies_moves_and_removals() -> None:
    session = Session(LETTER, PRIVATE)
    session.do(b"UID STORE 101:102 +FLAGS.SILENT (\\Seen \\Answered NonJunk $MDNSent Urgent)")
    assert session.told == [("seen", ""), ("answered", ""), ("mdn-sent", ""), ("keyword", "Urgent")]
    session.seen.clear()
    session.asked.clear()
    session.do(b"UID COPY 101 Archive")
    session.do(b"STORE 2 FLAGS (\\Seen)")
    session.do(b'MOVE 1 "&BkUGRgYsBjI-"')
    session.do(b"UID EXPUNGE 101")
    session.do(b"CLOSE")
    assert session.told == [("copied", "Archive"), ("moved", "منجز"), ("deleted", ""), ("deleted", "")]
    assert b"SEARCH DELETED UID 101" in session.asked


def test_what_a_search_saved_and_what_is_replaced() -> None:
    session = Session(LETTER, PRIVATE)
    session.do(b"UID STORE $ +FLAGS (\\Seen)")
    session.do(b"MOVE $ Archive")
    assert session.asked[0] == session.asked[2] == b"SEARCH UID $"
    assert session.told == [("seen", ""), ("moved", "Archive")]
    session.seen.clear()
    session.do(b"UID REPLACE 101 INBOX {10+}")
    session.do(b"REPLACE 2 INBOX {10+}")
    assert session.told == [("deleted", "")]


def test_a_message_that_took_anothers_number_is_not_taken_for_it() -> None:
    """RFC 5465 lets a server expunge between two commands of ours; the answer's UID tells."""
    session = Session(LETTER)
    act = session.observer.begins(parse(b"t UID MOVE 101 Archive\r\n"))
    question = session.observer.question(act)
    assert act is not None and question is not None
    assert next(question) == b"SEARCH UID 101"
    assert question.send(Answer(True, [1], [])).startswith(b"FETCH 1 ")
    with pytest.raises(StopIteration):
        question.send(Answer(True, [], [Row(1, 102, LETTER)]))
    assert act.letters == []


def test_what_the_server_refused_is_not_told() -> None:
    session = Session(LETTER)
    session.do(b"UID STORE 101 +FLAGS (\\Seen)", ok=False)
    session.do(b"UID MOVE 101 Archive", ok=False)
    session.do(b"UID STORE 101 -FLAGS (\\Seen)")
    assert session.seen == []


def test_private_mail_is_asked_about_once_and_told_never() -> None:
    session = Session(PRIVATE, PRIVATE)
    for _ in range(3):
        session.do(b"UID STORE 101:102 +FLAGS (\\Seen)")
        session.do(b"UID MOVE 101 Archive")
    assert session.seen == []
    assert len(session.asked) == 2


def test_another_mailbox_is_another_mailbox() -> None:
    session = Session(PRIVATE)
    session.do(b"UID STORE 101 +FLAGS (\\Seen)")
    session.headers = [LETTER]
    session.do(b"SELECT Archive")
    session.do(b"UID STORE 101 +FLAGS (\\Seen)")
    assert session.seen == [Sight(KNOWN, "seen", "", "Archive")]


def test_a_whole_mailbox_is_not_asked_about() -> None:
    session = Session(*[LETTER] * 3)
    session.do(b"UID STORE 1:4000000000 +FLAGS (\\Seen)")
    assert len(session.asked) == 2, "what exists of it is little"
    session = Session(*[LETTER] * 200)
    session.do(b"UID STORE 1:4000000000 +FLAGS (\\Seen)")
    session.do(b"STORE 1:* +FLAGS (\\Seen)")
    assert session.seen == []
    assert [a for a in session.asked if a.startswith(b"FETCH")] == []
