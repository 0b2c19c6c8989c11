"""The dots, the line ends and the limits of content, without a socket."""

from __future__ import annotations

import errno
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.desk import WireLimits
from gateway.smtp_data import BARE, BUSY, NO_SPACE, Content, DotStream, LineEnds
from gateway.tally import Tally
from tracker.archive import Archive, Spool
from tracker.reply import UNFORESEEN, Reply


def reference(wire: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 §4.5.2 read literally, line by line: content and what follows, or None without an end."""
    content: list[bytes] = []
    at = 0
    while (end := wire.find(b"\r\n", at)) >= 0:
        line = wire[at : end + 2]
        at = end + 2
        if line == b".\r\n":
            return b"".join(content), wire[at:]
        content.append(line[1:] if line.startswith(b".") else line)
    return None


def streamed(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    dots = DotStream()
    out = b""
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    for start, stop in pairwise(edges):
        piece, rest = dots.feed(wire[start:stop])
        out += piece
        if rest is not None:
            return out, rest + wire[stop:]
    return None


def octets_of(alphabet: bytes) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from([bytes([c]) for c in alphabet] + [b"\r\n", b"\r\n.", b"\r\n.\r\n"])).map(
        b"".join
    )


@settings(max_examples=200, deadline=None)
@given(octets_of(b".\r\nx\0"), st.lists(st.integers(0, 200), max_size=12))
def test_any_octets_cut_anywhere_read_as_the_reference_reads_them(wire: bytes, cuts: list[int]) -> None:
    assert streamed(wire, cuts) == reference(wire)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=8))
def test_what_a_client_stuffs_comes_out_again(text: bytes, cuts: list[int]) -> None:
    content = text.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    wire = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n" + b"QUIT\r\n"
    assert streamed(wire, cuts) == (content, b"QUIT\r\n")


@pytest.mark.parametrize(
    "wire",
    [
        b".\r\n",
        b"..\r\n.\r\n",
        b"a\r\n.\r\nMAIL",
        b".a\r\n..b\r\n...\r\n.\r\n",
        b"\r\n.\r\n",
        b"\r\n\r\n.\r\n.\r\n",
    ],
)
def test_every_pair_of_cuts(wire: bytes) -> None:
    for first in range(len(wire) + 1):
        for second in range(first, len(wire) + 1):
            assert streamed(wire, [first, second]) == reference(wire)


@settings(max_examples=200, deadline=None)
@given(octets_of(b"\r\nx\0"), st.lists(st.integers(0, 200), max_size=12))
def test_line_ends_are_judged_as_by_counting(wire: bytes, cuts: list[int]) -> None:
    lines = LineEnds()
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    verdict = True
    for start, stop in pairwise(edges):
        verdict = lines.clean(wire[start:stop]) and verdict
    verdict = lines.clean(b"", True) and verdict
    pairs = wire.count(b"\r\n")
    assert verdict == (wire.count(b"\r") == pairs == wire.count(b"\n") and b"\0" not in wire)


def content_of(folder: Path, limits: WireLimits | None = None, tally: Tally | None = None) -> Content:
    return Content(limits or WireLimits(), tally or Tally(), Archive(folder).spool)


def test_content_is_counted_until_it_is_dropped(tmp_path: Path) -> None:
    tally = Tally()
    content = content_of(tmp_path, tally=tally)
    content.take(b"abc\r\n")
    content.take(b"def\r\n")
    octets = content.finish()
    assert octets is not None and bytes(octets.view()) == b"abc\r\ndef\r\n"
    assert tally.octets == 10
    content.drop()
    content.drop()
    assert tally.octets == 0


def test_the_first_fault_is_the_one_that_is_answered(tmp_path: Path) -> None:
    tally = Tally()
    content = content_of(tmp_path, WireLimits(size=8), tally)
    content.take(b"12345")
    content.take(b"6789")
    assert content.fault is not None and str(content.fault).startswith("552 5.3.4")
    content.take(b"a\nb")
    assert content.fault.code == 552 and content.received == 12
    assert tally.octets == 0 and content.finish() is None


def test_bare_octets_are_a_fault(tmp_path: Path) -> None:
    for bad in (b"a\nb", b"a\rb", b"a\0b", b"\n", b"\r\r\n"):
        content = content_of(tmp_path)
        content.take(bad)
        assert content.fault is BARE
    content = content_of(tmp_path)
    content.take(b"a\r")
    assert content.fault is None
    content.take(b"\nb\r", final=True)
    assert content.fault is BARE


def test_octets_in_flight_are_capped_over_all(tmp_path: Path) -> None:
    tally = Tally()
    limits = WireLimits(octets_in_flight=10)
    first, second = content_of(tmp_path, limits, tally), content_of(tmp_path, limits, tally)
    first.take(b"12345678")
    second.take(b"1234")
    assert second.fault is BUSY and first.fault is None
    first.drop()
    third = content_of(tmp_path, limits, tally)
    third.take(b"1234567890")
    assert third.fault is None


def failing(folder: Path, error: Exception, at: str) -> Spool:
    def fail(*_: object) -> None:
        raise error

    if at == "the start":
        fail()
    spool: Spool = type("Failing", (Spool,), {at: fail})(Archive(folder)._area)
    return spool


@pytest.mark.parametrize("at", ["the start", "write", "finish"])
@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize(
    ("error", "fault"), [(OSError(errno.ENOSPC, "No space"), NO_SPACE), (KeyError("x"), UNFORESEEN)]
)
def test_whatever_the_spool_raises_is_a_transient_fault(
    at: str, size: int, error: Exception, fault: Reply, tmp_path: Path
) -> None:
    tally = Tally()
    content = Content(WireLimits(), tally, lambda: failing(tmp_path, error, at))
    content.take(b"x" * size)
    content.take(b"y")
    assert content.finish() is None
    assert content.fault is fault
    content.drop()
    assert tally.octets == 0 and content.received == size + 1


def test_tiny_pieces_are_gathered(tmp_path: Path) -> None:
    writes: list[int] = []

    class Counting(Spool):
        __slots__ = ()

        def write(self, data: bytes | bytearray | memoryview) -> None:
            writes.append(len(data))
            super().write(data)

    area = Archive(tmp_path)._area
    content = Content(WireLimits(), Tally(), lambda: Counting(area))
    for _ in range(50_000):
        content.take(b"ab")
    content.take(b"c" * 50_000)
    octets = content.finish()
    assert octets is not None and bytes(octets.view()) == b"ab" * 50_000 + b"c" * 50_000
    assert len(writes) < 20
