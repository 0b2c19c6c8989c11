"""A new key for the ledger: what either signed is verified, and an older state is still noticed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import high_water
from gateway.ledger_rotation import rotate, take_over
from gateway.opening import open_record
from gateway.settings import Settings
from gateway.settings_file import read_settings
from tests.records import claim, letter, sent
from tracker.audit_ledger import audit_store
from tracker.ledger import LedgerKey, keys_file, proof_text
from tracker.record import Record
from tracker.states import Event
from tracker.verify import Unproven, Vkey, open_checkpoint, read_keys, verify


@dataclass
class House:
    settings: Settings
    record: Record

    def entry(self) -> None:
        """A letter goes to its mailbox, and the log is signed."""
        self.record.accept(letter(self.record, message_id=None, text=b"From: a\r\n\r\n%d\r\n" % self.size))
        (found,) = claim(self.record)
        sent(self.record, found, Event.DELIVERED)
        self.record.checkpoint()

    def rotate(self) -> tuple[LedgerKey, Path]:
        return rotate(self.settings, lambda fresh: self.taken(take_over(self.record, self.settings, fresh)))

    def taken(self, key: LedgerKey) -> None:
        assert self.record.ledger.key is key

    @property
    def size(self) -> int:
        with self.record.read() as conn:
            return self.record.ledger_reader.head(conn).size

    def proofs(self) -> list[str]:
        """Every entry's, as a receipt of now would carry it."""
        ledger, out = self.record.ledger_reader, []
        with self.record.read() as conn:
            for seq in range(self.size):
                covering = ledger.covering(conn, seq)
                assert covering is not None
                out.append(proof_text(ledger.prove(conn, seq, covering.size), covering.note))
        return out

    def audit(self, *keys: Vkey) -> int:
        with self.record.read() as conn:
            return len(audit_store(conn, self.record.archive, keys or self.record.ledger.key).misfits)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "agencies").mkdir()
    file = tmp_path / "wasl.toml"
    domain = "wasl.gov.example"
    file.write_text(f'[gateway]\nhostname = "{domain}"\ndomain = "{domain}"\ndata_dir = "data"\n')
    settings = read_settings(file, {})
    settings.ledger.key.parent.mkdir()
    settings.ledger.key.touch(0o600)
    settings.ledger.key.write_bytes(LedgerKey.make(settings.ledger_origin).pem())
    record = open_record(settings)
    try:
        yield House(settings, record)
    finally:
        record.close()
        record.archive.close()


def test_either_key_verifies_what_it_signed_and_both_verify_all(house: House) -> None:
    house.entry()
    house.entry()
    old, before = house.record.ledger.key, house.proofs()
    high_water.write(house.settings.gateway.data_dir, house.record)
    new, kept = house.rotate()
    assert house.record.ledger.key.vkeys == new.vkeys == (new.vkey, old.vkey)
    with house.record.read() as conn:
        change = house.record.ledger.latest(conn)
    assert change is not None
    for keys in ([old.vkey], [new.vkey], [old.vkey, new.vkey]):
        assert open_checkpoint(change.note, keys).size == house.size
    house.entry()
    after = house.proofs()
    for text in before:
        assert verify([("proof.txt", text.encode())], [old.vkey, new.vkey]).lines[0].good
        with pytest.raises(Unproven):
            open_checkpoint(text.partition("\n\n")[2], [new.vkey])
    for text in after:  # what is sent from now on needs the new key alone, entries of before too
        open_checkpoint(text.partition("\n\n")[2], [new.vkey])
    assert house.audit() == 0
    assert house.audit(*new.vkeys) == 0
    assert house.audit(new.vkey) == 1  # the checkpoint of before
    with house.record.read() as conn:
        record = house.record
        # The old key's mark still counts.
        high_water.check(house.settings.gateway.data_dir, conn, record.ledger_reader, record.registers)
    assert (
        stat.S_IMODE(kept.stat().st_mode) == stat.S_IMODE(house.settings.ledger.key.stat().st_mode) == 0o600
    )
    assert LedgerKey.load(old.origin, kept).vkey == old.vkey


def test_the_next_life_knows_all_keys_and_a_second_change_adds_one(house: House) -> None:
    house.entry()
    first = house.record.ledger.key
    second, _ = house.rotate()
    third, _ = house.rotate()
    path = house.settings.ledger.key
    known = LedgerKey.load(first.origin, path)
    assert known.vkeys == (third.vkey, second.vkey, first.vkey)
    assert tuple(read_keys(keys_file(path).read_text())) == known.vkeys
    with house.record.read() as conn:
        note = house.record.ledger.latest(conn)
    assert note is not None and note.note.count("— ") == 3
    assert house.audit() == 0


def test_an_empty_log_changes_its_key_too(house: House) -> None:
    new, _ = house.rotate()
    house.entry()
    assert house.audit(new.vkey) == 0


def test_nothing_changes_when_the_database_does_not_take_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.entry()
    old = house.record.ledger.key

    def away(*_: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(house.record, "write", away)
    with pytest.raises(OSError, match="away"):
        house.rotate()
    monkeypatch.undo()
    assert house.record.ledger.key is old
    assert LedgerKey.load(old.origin, house.settings.ledger.key).vkey == old.vkey
    house.entry()
    assert house.audit() == 0


def test_another_logs_key_is_not_taken(house: House) -> None:
    with pytest.raises(ValueError, match="cannot sign"):
        house.record.sign_with(LedgerKey.make("other.example/ledger"))
