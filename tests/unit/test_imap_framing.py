"""The framing of IMAP: however the octets come, the same lines are shown and the same octets go on."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.imap_framing import HELD, Commands, Go, Responses, literal_size

WORDS = st.text('abc {}()"\\[]<>~+*019%', min_size=0, max_size=20).map(str.encode)
CONTENT = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"\r\n", b"a1 OK done\r\n", b"* BYE\r\n+ go\r\n", b"a LOGIN {5}\r\nx", b"{3}\r\n", b")\r\n"]
    ),
)


def splits(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same octets in pieces."""
    points = sorted({c % (len(data) + 1) for c in cuts})
    edges = [0, *points, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


class Client:
    """Takes in what a server says, hides some, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, bytes, int]] = []

    def tagged(self, line: bytes) -> bytes:
        self.shown.append(("tagged", line, 0))
        return b"" if line.startswith(b"mine") else line

    def goes_on(self, line: bytes) -> bytes:
        self.shown.append(("goes on", line, 0))
        return line

    def untagged(self, line: bytes, literal: int) -> bytes:
        if literal >= 0 or not line[2:3].isdigit():
            self.shown.append(("untagged", line, literal))
        if line.startswith(b"* CAPABILITY"):
            return b"* CAPABILITY less\r\n"
        return b"" if line.startswith(b"* 7 ") else line

    def wants(self) -> int:
        return 10

    def read(self, octets: bytes) -> None:
        self.shown.append(("read", octets, 0))

    def more(self, line: bytes, literal: int) -> None:
        self.shown.append(("more", line, literal))


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What a server says, and what of it the client is to get."""
    said, passed = b"", b""
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.integers(0, 7))
        word = draw(WORDS).replace(b"{", b"(") if kind != 2 else draw(WORDS)
        if kind == 0:
            one = b"* %d EXPUNGE\r\n" % draw(st.integers(1, 6))
        elif kind == 1:
            one = b"* LIST () " + word + b"\r\n"
        elif kind == 2:
            one = (
                draw(st.sampled_from([b"* OK ", b"a1 OK ", b"+ ", b"* BYE ", b"* no "])) + word + b" {9}\r\n"
            )
        elif kind == 3:
            one = b"mine3 OK " + word + b"\r\n"
        elif kind == 4:
            one = b"* SEARCH " + b"1 " * draw(st.sampled_from([3, HELD // 2 + 200])) + b"\r\n"
        elif kind == 5:
            one = b"* CAPABILITY IMAP4rev1 " + word + b"\r\n"
        else:
            number = draw(st.sampled_from([b"7", b"8"]))
            one = b"* " + number + b" FETCH (UID 3"
            if draw(st.booleans()):
                one += b" ENVELOPE (" + b"x" * draw(st.sampled_from([5, HELD + 7])) + b")"
            for _ in range(draw(st.integers(1, 3))):
                content = draw(CONTENT)
                one += b" BODY[] " + draw(st.sampled_from([b"", b"~"])) + b"{%d}\r\n" % len(content) + content
            one += b" FLAGS ())\r\n"
        said += one
        if kind == 5:
            passed += b"* CAPABILITY less\r\n"
        elif not one.startswith((b"mine", b"* 7 ")):
            passed += one
    return said, passed


@settings(max_examples=150, deadline=None)
@given(responses(), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_responses_are_the_same_in_any_pieces(both: tuple[bytes, bytes], cuts: list[int]) -> None:
    said, passed = both
    whole = Client()
    assert Responses(whole).feed(said) == passed
    parts = Client()
    framing = Responses(parts)
    assert b"".join(framing.feed(piece) for piece in splits(said, cuts)) == passed
    assert framing.between
    assert parts.shown == whole.shown


def test_responses_octet_by_octet() -> None:
    fetch = b"* %d FETCH (BODY[] {12}\r\na1 OK done\r\n)\r\n"
    said = fetch % 7 + fetch % 8 + b"a1 OK {3}\r\n"
    client = Client()
    framing = Responses(client)
    out = b"".join(framing.feed(said[i : i + 1]) for i in range(len(said)))
    assert out == b"* 8 FETCH (BODY[] {12}\r\na1 OK done\r\n)\r\na1 OK {3}\r\n"
    assert [line for kind, line, _ in client.shown if kind == "tagged"] == [b"a1 OK {3}\r\n"]


def test_an_unfinished_line_is_kept_back_and_bounded() -> None:
    framing = Responses(Client())
    assert framing.feed(b"* 12 FET") == b""
    assert framing.feed(b"CH (FLAGS ())\r\n* 13") == b"* 12 FETCH (FLAGS ())\r\n"
    framing = Responses(Client())
    assert framing.feed(b"* SEARCH " + b"1 " * HELD) != b"", "beyond the cap it streams"
    assert not framing.between


def test_literals_at_the_end_of_a_line() -> None:
    assert literal_size(b"a LOGIN {5}\r\n") == (5, False)
    assert literal_size(b"a LOGIN {5+}\r\n") == (5, True)
    assert literal_size(b"a APPEND x UTF8 (~{5+}\n") == (5, True)
    assert literal_size(b"a LOGIN {0}\r\n") == (0, False)
    assert literal_size(b"a LOGIN {99999999999999999999999}\r\n") is None, "no number that fits"
    assert literal_size(b"a LOGIN {9999999999999999999}\r\n") is None, "RFC 9051: 63 bits"
    assert literal_size(b"a LOGIN {-5}\r\n") is None
    assert literal_size(b'a LOGIN "{5}"\r\n') is None
    assert literal_size(b"a LOGIN }\r\n") is None


class Server:
    """Decides of commands by their verb, as the session would."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []
        self.cut_for = b""
        self.open = False

    def command(self, line: bytes, literal: int) -> Go:
        if b" KEEP" in line and not self.open:
            return Go.KEEP
        self.open = False
        self.shown.append(line)
        if b" DROP" in line:
            return Go.DROP
        return Go.IDLE if b" IDLE" in line else Go.PASS

    def cut(self, reason: bytes) -> None:
        self.cut_for = reason


def run(pieces: list[bytes], answers: list[bool]) -> tuple[bytes, list[bytes]]:
    """Play a client against a server that agrees or refuses in turn; what went on and was shown."""
    server = Server()
    framing = Commands(server, 4096)
    out = b""
    asked = 0
    waiting = list(pieces)
    while True:
        while framing.waits or framing.blocked:
            if framing.waits:
                # A client that waits has sent nothing more: what follows depends on the answer.
                if answers[asked % len(answers)]:
                    framing.agreed()
                else:
                    framing.refused()
                asked += 1
            else:
                server.open = True
            out += framing.feed()
        if not waiting:
            return out, server.shown
        out += framing.feed(waiting.pop(0))


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """What a client says to a server that agrees to every literal."""
    said = b""
    for _ in range(draw(st.integers(1, 6))):
        verb = draw(st.sampled_from([b"NOOP", b"DROP", b"KEEP", b"APPEND x", b"IDLE"]))
        said += b"a " + verb
        if verb == b"IDLE":
            said += b"\r\nDONE\r\n"
            continue
        for _ in range(draw(st.integers(0, 3))):
            content = draw(CONTENT)
            plus = b"+" if verb == b"DROP" else draw(st.sampled_from([b"", b"+"]))
            said += b" {%d%s}\r\n" % (len(content), plus) + content
        said += b"\r\n"
    return said


@settings(max_examples=150, deadline=None)
@given(commands(), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_commands_are_the_same_in_any_pieces(said: bytes, cuts: list[int]) -> None:
    whole = run([said], [True])
    assert run(splits(said, cuts), [True]) == whole
    assert run([said[i : i + 1] for i in range(len(said))], [True]) == whole
    if b"DROP" not in said:
        assert whole[0] == said


def test_a_refused_literal_is_followed_by_a_command() -> None:
    out, shown = run([b"a APPEND x {5}\r\n", b"b NOOP\r\n"], [False])
    assert shown == [b"a APPEND x {5}\r\n", b"b NOOP\r\n"]
    assert out == b"a APPEND x {5}\r\nb NOOP\r\n"
    _, shown = run([b"a APPEND x {8}\r\nb NOOP\r\n\r\nc NOOP\r\n"], [True])
    assert shown == [b"a APPEND x {8}\r\n", b"c NOOP\r\n"], "octets of a literal are no command"


def test_an_idle_that_is_refused_ends_at_once() -> None:
    _, shown = run([b"a IDLE\r\n", b"b NOOP\r\n"], [False])
    assert shown == [b"a IDLE\r\n", b"b NOOP\r\n"]


def test_an_endless_command_line_is_cut() -> None:
    server = Server()
    framing = Commands(server, 4096)
    for _ in range(5):
        framing.feed(b"(" * 1000)
    assert server.cut_for
