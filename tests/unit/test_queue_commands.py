"""``wasl queue`` on letters that wait, failed and went: lists, single deliveries, acts, ids from a pipe.

The gateway does not run; the same acts through its socket are the same code (gateway/acts.py). SQL that a
database could see differently is asked on both of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.opening import open_record
from gateway.settings_file import read_settings
from tests.records import HOUR, claim, end, letter, sent, whole
from tests.unit.shell import ROOT, Shell
from tracker.model import id_text, now_us
from tracker.noting import Note
from tracker.record import Record
from tracker.states import Event

REFUSED = "451 4.4.1 Connection refused"


@contextmanager
def opened(home: Path) -> Iterator[Record]:
    record = open_record(read_settings(home / "wasl.toml", {}))
    try:
        yield record
    finally:
        record.close()
        record.archive.close()


@dataclass(frozen=True)
class Queue:
    """What is in it: two deliveries of one letter wait, one was put off, one has gone."""

    home: Path
    waits: str  # number
    put_off: str
    gone: str
    letter: str  # ids of the letter that waits, and of its transaction
    submission: str


def filled(home: Path) -> Queue:
    with opened(home) as record:
        gone = record.accept(letter(record, "g@moh.example", message_id="<g@mof>"))
        (c,) = claim(record)
        sent(record, c)
        put_off = record.accept(letter(record, "p@moh.example", message_id="<p@mof>"))
        (c,) = claim(record)
        later = now_us() + HOUR
        record.note(
            Note(
                delivery_id=c.delivery_id,
                event=Event.ATTEMPTED,
                at_us=now_us(),
                source="smtp",
                attempt=end(c, REFUSED),
                next_us=later,
            )
        )
        acceptance = letter(record, "b@moh.example", "c@moj.example", message_id="<w@mof>")
        waits = record.accept(acceptance)
        whole(record)
    return Queue(
        home=home,
        waits=str(waits.number),
        put_off=str(put_off.number),
        gone=str(gone.number),
        letter=id_text(waits.letter_id),
        submission=id_text(acceptance.submission_id),
    )


@pytest.fixture
def queue(home: Path) -> Queue:
    return filled(home)


def listed(wasl: Shell, *words: object) -> list[dict[str, Any]]:
    said = wasl("queue", "list", "--json", *words)
    assert said.status == 0 and said.err == "", said
    return said.lines


def test_the_list_is_what_waits_the_oldest_first(queue: Queue, wasl: Shell) -> None:
    assert [(one["number"], one["recipient"], one["state"]) for one in listed(wasl)] == [
        (queue.put_off, "p@moh.example", "queued"),
        (queue.waits, "b@moh.example", "queued"),
        (queue.waits, "c@moj.example", "queued"),
    ]
    said = wasl("queue", "list")
    head, first, *rest = (line.split("\t") for line in said.out.splitlines())
    row = dict(zip(head, first, strict=True))
    assert len(rest) == 2 and "\x1b" not in said.out
    assert row["number"] == queue.put_off and row["sender"] == "a@mof.gov.example" and row["hop"] == "MOH"
    assert row["tries"] == "1" and row["last answer"] == REFUSED and row["next"] > row["accepted"]


def test_the_list_can_be_narrowed(queue: Queue, wasl: Shell) -> None:
    assert [one["recipient"] for one in listed(wasl, "--agency", "moj")] == ["c@moj.example"]
    assert [one["recipient"] for one in listed(wasl, "--hop", "MOJ")] == ["c@moj.example"]
    assert listed(wasl, "--state", "held") == [] and len(listed(wasl, "--state", "queued")) == 3
    said = wasl("queue", "list", "--limit", "2")
    assert len(said.out.splitlines()) == 3 and said.err == "more than 2: see --limit\n"


def test_a_delivery_is_found_by_every_name_it_has(queue: Queue, wasl: Shell) -> None:
    one, other = (row["id"] for row in listed(wasl)[1:])
    assert [line["id"] for line in wasl("queue", "show", one, "--json").lines] == [one]
    for name in (queue.waits, queue.letter, queue.submission):
        assert [line["id"] for line in wasl("queue", "show", name, "--json").lines] == [one, other], name
    said = wasl("queue", "show", queue.put_off, "MOF/2026/999999", queue.gone)
    assert said.status == 1 and said.err == "MOF/2026/999999: no delivery of this id or number\n"
    assert REFUSED in said.out and "mx[192.0.2.2]:25" in said.out and "next attempt" in said.out
    assert f"sent  {queue.gone}" in said.out, "the others are shown all the same"
    (line,) = wasl("queue", "show", queue.put_off, "--json").lines
    assert line["attempts"] == 1 and [one["reply"] for one in line["tries"]] == [REFUSED]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def on_both(request: pytest.FixtureRequest, home: Path) -> Queue:
    if request.param == "postgres":
        file = home / "wasl.toml"
        url = request.getfixturevalue("pg_url")
        file.write_text(file.read_text("utf-8").replace("\n# url =", f'\nurl = "{url}"', 1), "utf-8")
    return filled(home)


def test_every_act_there_and_back(on_both: Queue, wasl: Shell) -> None:
    """Each answer tells state and recipient, the record says who did it, and what cannot be is refused."""
    queue, number = on_both, on_both.put_off

    def acted(act: str, *names: str) -> tuple[int, list[tuple[str, str]]]:
        said = wasl("queue", act, *names, "--json")
        assert said.err == ""
        return said.status, [(line["state"], line["error"]) for line in said.lines]

    before = listed(wasl, "--limit", "1")[0]["next_us"]
    assert acted("retry", number) == (0, [("queued", "")])
    assert listed(wasl, "--limit", "1")[0]["next_us"] < before
    assert acted("hold", number) == (0, [("held", "")])
    assert [one["number"] for one in listed(wasl, "--state", "held")] == [number]
    status, ((state, error),) = acted("retry", number)
    assert (status, state) == (1, "") and "see release, requeue" in error
    assert acted("release", number) == (0, [("queued", "")])
    assert acted("release", number) == (1, [("", "not held: it is queued already")])
    for act in ("hold", "release", "cancel"):  # what has gone cannot be taken back
        status, ((state, error),) = acted(act, queue.gone)
        assert (status, state) == (1, "") and "sent" in error, act
    assert acted("cancel", number, queue.waits) == (0, [("failed", "")] * 3)
    assert listed(wasl) == []
    assert acted("requeue", number, queue.gone) == (0, [("queued", "")] * 2)
    assert [one["number"] for one in listed(wasl)] == [queue.gone, number]
    assert acted("cancel", "nothing", number) == (
        1,
        [("", "no delivery of this id or number"), ("failed", "")],
    )
    told = wasl("letter", "trace", number)
    assert [word for word in told.out.split() if word in ("held", "released", "cancelled", "requeued")] == [
        "held",
        "released",
        "cancelled",
        "requeued",
        "cancelled",
    ]
    with opened(queue.home) as record:
        whole(record)


def test_people_are_told_in_words(queue: Queue, wasl: Shell) -> None:
    said = wasl("queue", "hold", queue.waits, "nothing")
    ids = [one["id"] for one in listed(wasl, "--state", "held")]
    assert said.out == f"{ids[0]}: held  b@moh.example\n{ids[1]}: held  c@moj.example\n"
    assert said.status == 1 and said.err == "nothing: no delivery of this id or number\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_list_feeds_an_act(queue: Queue, wasl: Shell, as_json: bool) -> None:
    """``wasl queue list --agency MOH | wasl queue hold -``: with its heading, or as JSON."""
    more = ["--json"] if as_json else []
    piped = wasl("queue", "list", "--agency", "MOH", *more).out
    said = wasl("queue", "hold", "-", stdin=piped)
    assert said.status == 0 and said.err == "" and len(said.out.splitlines()) == 2
    assert {one["recipient"] for one in listed(wasl, "--state", "held")} == {"p@moh.example", "b@moh.example"}
    released = wasl("queue", "release", "-", *more, stdin=wasl("queue", "list", "--state", "held", *more).out)
    assert released.status == 0 and listed(wasl, "--state", "held") == []
    again = wasl("queue", "hold", "-", "--json", stdin=wasl("letter", "list", *more).out)
    assert again.status == 1, "one of the letters has gone"
    assert [line["state"] for line in again.lines].count("held") == 3
    assert wasl("queue", "show", "-", stdin=f"{queue.waits}\n").out.count("held") == 2


@pytest.mark.parametrize("act", ["retry", "show"])
def test_a_line_that_is_no_text_stops_no_other(queue: Queue, act: str) -> None:
    """``printf '%s\\n\\xff\\xfe\\n' ID | wasl queue retry -``: octets, so it is run as a program."""
    words = [
        sys.executable,
        "-m",
        "gateway.cli",
        "queue",
        act,
        "-",
        "--config",
        str(queue.home / "wasl.toml"),
    ]
    lines = f"{queue.put_off}\n".encode() + b"\xff\xfe\n" + b'{"id": "\\ud800"}\n' + queue.waits.encode()
    for locale in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        ran = subprocess.run(
            words, input=lines, cwd=ROOT, env=os.environ | locale, capture_output=True, check=False
        )
        assert ran.returncode == 1
        told = [line for line in ran.stderr.decode().splitlines() if "no delivery" in line]
        assert told == [
            "\\xff\\xfe: no delivery of this id or number",
            "\\ud800: no delivery of this id or number",
        ]
        assert len(ran.stderr.splitlines()) == 2
        out = ran.stdout.decode()
        assert [who for who in ("p@moh", "b@moh", "c@moj") if f"{who}.example" in out] == [
            "p@moh",
            "b@moh",
            "c@moj",
        ]


def test_a_name_that_no_database_takes_stops_no_other(on_both: Queue, wasl: Shell) -> None:
    for bad in ("\udcff", "a\0b"):
        said = wasl("queue", "retry", "-", "--json", stdin=f"{bad}\n{on_both.put_off}\n")
        assert said.status == 1 and said.err == ""
        assert [bool(line["error"]) for line in said.lines] == [True, False]
    said = wasl("queue", "retry", "\udcff", on_both.put_off)
    assert said.status == 1 and said.err == "\\udcff: no delivery of this id or number\n"


def test_ids_of_what_an_act_answered_feed_the_next(queue: Queue, wasl: Shell) -> None:
    answered = wasl("queue", "hold", queue.waits, "--json").out
    assert wasl("queue", "release", "-", stdin=answered).out.count("queued") == 2


def test_a_proof_is_verified_by_the_keys_of_the_settings(queue: Queue, wasl: Shell, tmp_path: Path) -> None:
    proof = tmp_path / "proof.txt"
    proof.write_text(wasl("ledger", "prove", "0").out)
    alone, trusted = wasl("verify", proof), wasl("verify", proof, "--config", "wasl.toml")
    assert "No public key was given" in alone.out and "The log wasl.example/ledger" not in alone.out
    assert "No public key was given" not in trusted.out and "✓ The log wasl.example/ledger" in trusted.out
