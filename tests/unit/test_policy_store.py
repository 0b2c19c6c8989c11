"""Policy versions and their activations, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.records import made_store
from tracker import policy_store as kept
from tracker.policy_store import PolicyStoreError, Standing
from tracker.store import Connection

A, B, C = "a1" * 8, "a2" * 8, "c3" * 8
FILES = {"letters.yaml": "rules: []\n# سري\n", "sub/marks.yaml": ""}


@pytest.fixture
def conn(record_url: str) -> Iterator[Connection]:
    store = made_store(record_url)
    try:
        with store.writer.begin() as conn:
            for at, digest in enumerate((A, B, C), 1):
                assert kept.store_version(conn, digest, FILES, by="rana", note="", at_us=at)
            yield conn
    finally:
        store.close()


def states(conn: Connection) -> dict[str, Standing]:
    return {v.digest: v.standing for v in kept.versions(conn)}


def test_a_version_is_kept_once_with_its_files(conn: Connection) -> None:
    assert not kept.store_version(conn, A, {}, by="other", note="why", at_us=9)
    assert kept.files_of(conn, A) == FILES
    assert kept.files_of(conn, "ff") is None
    (one,) = (v for v in kept.versions(conn) if v.digest == A)
    assert (one.by, one.at_us, one.note, one.standing) == ("rana", 1, "why", Standing.KNOWN)
    kept.store_version(conn, A, {}, by="", note="a second note", at_us=9)
    assert next(v.note for v in kept.versions(conn) if v.digest == A) == "why"


def test_a_digest_is_found_by_its_beginning(conn: Connection) -> None:
    assert kept.find(conn, "a1A1") == A
    for start, words in (
        ("a", "several"),
        ("ee", "no policy version ee"),
        ("%", "no digest"),
        ("", "no dig"),
    ):
        with pytest.raises(PolicyStoreError, match=words):
            kept.find(conn, start)
    kept.store_version(conn, "a1", {}, by="", note="", at_us=5)
    assert kept.find(conn, "a1") == "a1"  # whole, although it begins another


def test_the_latest_activation_is_in_force_whatever_the_clock(conn: Connection) -> None:
    assert kept.active(conn) is None
    kept.activate(conn, 1, A, by="rana", note="first", at_us=1000)
    again = kept.activate(conn, 2, A, by="sami", note="", at_us=1001)
    assert again.id == 1 and again.by == "rana"  # nothing new happened
    kept.activate(conn, 3, B, by="rana", note="", at_us=500)  # the clock was set back
    now = kept.active(conn)
    assert now is not None and now.digest == B and now.active_us == 1001
    kept.activate(conn, 4, A, by="rana", note="", at_us=2000)
    assert [one.digest for one in kept.history(conn)] == [A, B, A]
    assert states(conn) == {A: Standing.ACTIVE, B: Standing.KNOWN, C: Standing.KNOWN}
    assert [v.digest for v in kept.versions(conn)] == [A, B, C]
    assert [v.digest for v in kept.versions(conn, limit=1)] == [A]


def test_a_second_person_puts_a_proposal_in_force(conn: Connection) -> None:
    kept.activate(conn, 1, A, by="rana", note="", at_us=1)
    kept.propose(conn, 2, B, by="rana (as root)", note="urgent", at_us=5)
    assert kept.propose(conn, 3, B, by="sami", note="", at_us=6).id == 2  # is proposed already
    assert states(conn)[A] is Standing.ACTIVE and states(conn)[B] is Standing.PROPOSED
    for by in ("rana", "console:Rana", "rana (as root)"):
        with pytest.raises(PolicyStoreError, match="another person"):
            kept.approve(conn, B, by=by, at_us=7)
    with pytest.raises(PolicyStoreError, match="needs a name"):
        kept.approve(conn, B, by="", at_us=7)
    with pytest.raises(PolicyStoreError, match="not proposed"):
        kept.approve(conn, C, by="sami", at_us=7)
    agreed = kept.approve(conn, B, by="sami", at_us=8)
    assert (agreed.state, agreed.by, agreed.second, agreed.active_us) == (
        Standing.ACTIVE,
        "rana (as root)",
        "sami",
        8,
    )
    assert states(conn) == {A: Standing.KNOWN, B: Standing.ACTIVE, C: Standing.KNOWN}
    assert not kept.proposed(conn)


def test_a_later_proposal_and_an_activation_take_the_place_of_an_earlier_one(conn: Connection) -> None:
    kept.activate(conn, 1, A, by="rana", note="", at_us=1)
    kept.propose(conn, 2, B, by="rana", note="", at_us=2)
    kept.propose(conn, 3, C, by="rana", note="", at_us=3)
    assert [one.digest for one in kept.proposed(conn)] == [C]
    assert states(conn)[B] is Standing.WITHDRAWN
    kept.activate(conn, 4, A, by="rana", note="", at_us=4)  # in force as before; the proposal is given up
    assert not kept.proposed(conn) and states(conn)[A] is Standing.ACTIVE
    with pytest.raises(PolicyStoreError, match="no policy version"):
        kept.activate(conn, 5, "ff", by="rana", note="", at_us=4)


def test_which_version_decided_a_letter_that_is_not_there(conn: Connection) -> None:
    assert kept.deciding(conn, 1) == ()
