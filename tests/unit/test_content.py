"""The octets of a letter as DATA carries them, however they are cut into pieces (RFC 5321 §4.5.2)."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import content
from gateway.content import Content

_GOOD = st.sampled_from([b".", b"\r\n", b"a", b"..", b"\r\n.", b"\r\n.\r\n", b"\xff"])
_ANY = st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\0"])
_BAD = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def cut(octets: bytes, at: list[int]) -> list[bytes | memoryview]:
    """The octets in pieces of these lengths."""
    pieces: list[bytes | memoryview] = []
    for i, length in enumerate(at):
        pieces.append(memoryview(octets)[:length] if i % 2 else octets[:length])
        octets = octets[length:]
    return [*pieces, octets]


@pytest.fixture(params=[(0, 1), (0, 2), (0, 3), (1 << 19, 1 << 18)])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, piece = request.param
    monkeypatch.setattr(content, "WHOLE", whole)
    monkeypatch.setattr(content, "PIECE", piece)


_CUTS = st.lists(st.integers(0, 4), max_size=5)


@pytest.mark.usefixtures("sizes")
def test_stuffing_is_that_of_the_whole() -> None:
    @settings(max_examples=150, deadline=None)
    @given(bits=st.lists(_GOOD, max_size=12), at=_CUTS)
    def check(bits: list[bytes], at: list[int]) -> None:
        octets = b"".join(bits)
        made = Content(cut(octets, at)).look_through()
        ended = octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"
        assert made.fault is None
        assert made.size == len(ended)
        assert made.eightbit == (not octets.isascii())
        want = ((b"\r\n" + ended).replace(b"\r\n.", b"\r\n..") + b".\r\n")[2:]
        assert b"".join(made.stuffed()) == want
        assert b"".join(made.stuffed()) == want  # again, for the next connection

    check()


@pytest.mark.usefixtures("sizes")
def test_every_bare_octet_is_seen() -> None:
    @settings(max_examples=150, deadline=None)
    @given(bits=st.lists(_ANY, max_size=8), at=_CUTS)
    def check(bits: list[bytes], at: list[int]) -> None:
        octets = b"".join(bits)
        fault = Content(cut(octets, at)).look_through().fault
        assert (fault is not None) == (_BAD.search(octets) is not None)

    check()


def test_only_the_last_piece_ends_the_transaction() -> None:
    octets = b"Subject: x\r\n\r\n" + b".\r\n" * 1_000_000
    pieces = list(Content([octets]).look_through().stuffed())
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 1 << 20
    assert b"\r\n.\r\n" not in b"".join(pieces[:-1])


def test_others_get_their_turn_while_a_large_letter_is_looked_at() -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await Content.of([b"0123456789abcd\r\n" * 1_000_000])
        task.cancel()
        return turns

    assert asyncio.run(main()) > 20


@pytest.mark.parametrize("octets", [b".\r\n" * 2_000_000, b"\r\n" * 3_000_000, b"x" * 6_000_000])
def test_no_letter_is_slow(octets: bytes) -> None:
    start = time.thread_time()
    assert sum(map(len, Content([octets]).look_through().stuffed())) >= len(octets)
    assert time.thread_time() - start < 15  # a tenth of a second; a quadratic one takes an hour
