"""The policy in force beside its folder: reading again, last good one, second person, rollback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.policy_watch import PolicyWatch
from policies.faults import ConfigFaults
from policies.load import LETTERS, Limits
from policies.versions import own_files
from tracker import policy_store
from tracker.policy_store import PolicyStoreError, Standing
from tracker.record import Record

DEFAULT = LETTERS.read_text("utf-8")
EXTRA = """rules:
  - id: {id}
    priority: 105
    description: {{ar: تجربة, en: A trial}}
    match: {{recipient: agency, size_over: 1000}}
    receipts: []
"""
BROKEN = "rules:\n  - id: x\n    prioritt: 3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policy"
    made.mkdir()
    (made / "letters.yaml").write_text(DEFAULT, "utf-8")
    return made


Open = Callable[..., PolicyWatch]


@pytest.fixture
def open_(record: Record, folder: Path, tmp_path: Path) -> Open:
    def watch(second_person: bool = False, limits: Limits | None = None) -> PolicyWatch:
        return PolicyWatch(
            record, folder, limits or Limits(), None, second_person=second_person, data_dir=tmp_path
        )

    return watch


def in_force(record: Record) -> str:
    with record.read() as conn:
        now = policy_store.active(conn)
    assert now is not None
    return now.digest


def standing(record: Record) -> dict[str, Standing]:
    with record.read() as conn:
        return {v.digest: v.standing for v in policy_store.versions(conn)}


def ids(watch: PolicyWatch) -> set[str]:
    return {rule.id for rule in watch.current.rules}


def test_what_is_loaded_is_stored_and_in_force(record: Record, open_: Open, folder: Path) -> None:
    watch = open_()
    first = watch.current.version
    assert in_force(record) == first and watch.faults == () and watch.waiting == ""
    with record.read() as conn:
        files = policy_store.files_of(conn, first)
    assert files is not None and own_files(files) == {"letters.yaml": DEFAULT} == watch.on_disk()
    assert "default/safety.yaml" in files
    assert open_().current.version == first  # a second start writes nothing new
    with record.read() as conn:
        assert len(policy_store.history(conn)) == 1
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    assert watch.read(None, by="rana", note="a trial") == ()
    assert "more" in ids(watch) and in_force(record) == watch.current.version != first
    with record.read() as conn:
        now = policy_store.active(conn)
    assert now is not None and (now.by, now.note) == ("rana", "a trial")


def test_the_same_files_in_another_folder_are_the_same_version(
    record: Record, open_: Open, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "candidate"
    other.mkdir()
    (other / "letters.yaml").write_text(DEFAULT, "utf-8")
    assert PolicyWatch(record, other, Limits(), None).current.version == open_().current.version
    assert open_(limits=Limits(size=1)).current.version != open_().current.version


def test_a_version_is_the_same_however_its_file_begins(record: Record, open_: Open, folder: Path) -> None:
    """Some editors put a byte order mark before the text; what is kept compiles to the same digest."""
    plain = open_().current.version
    (folder / "letters.yaml").write_bytes(b"\xef\xbb\xbf" + DEFAULT.encode())
    assert open_().current.version == plain


def test_a_change_is_seen_once_it_is_quiet(open_: Open, folder: Path) -> None:
    watch = open_()
    assert not watch.changed() and not watch.changed()
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    assert not watch.changed()  # it may be half written
    (folder / "more.yaml").write_text(EXTRA.format(id="another"), "utf-8")
    assert not watch.changed()
    assert watch.changed() and watch.changed()
    assert watch.read(None) == () and not watch.changed()
    (folder / "notes.txt").write_text("no rule file")
    assert not watch.changed() and not watch.changed()
    (folder / "more.yaml").unlink()
    assert not watch.changed() and watch.changed()


def test_a_broken_folder_leaves_the_last_good_one_in_force(record: Record, open_: Open, folder: Path) -> None:
    watch = open_()
    good = watch.current
    (folder / "more.yaml").write_text(BROKEN, "utf-8")
    faults = watch.read(None)
    assert faults and faults == watch.faults and "prioritt" in str(faults)
    assert watch.current is good and in_force(record) == good.version
    assert not watch.changed() and not watch.changed()  # told once, not every second
    (folder / "more.yaml").unlink()
    assert watch.read(None) == () == watch.faults


def test_a_start_on_a_broken_folder_takes_the_last_good_one_from_the_record(
    record: Record, open_: Open, folder: Path
) -> None:
    (folder / "more.yaml").write_text(BROKEN, "utf-8")
    with pytest.raises(ConfigFaults):
        open_()  # there never was a good one
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    good = open_().current.version
    (folder / "more.yaml").write_text(BROKEN, "utf-8")
    watch = open_()
    assert watch.current.version == good and "more" in ids(watch) and watch.faults
    (folder / "letters.yaml").unlink()
    (folder / "more.yaml").unlink()
    assert open_().current.version == good


def test_a_second_person_puts_a_change_in_force(record: Record, open_: Open, folder: Path) -> None:
    watch = open_(second_person=True)
    first = watch.current.version
    assert in_force(record) == first  # the very first one needs nobody
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    assert watch.read(None, by="rana") == ()
    assert watch.current.version == first and watch.waiting and standing(record)[first] is Standing.ACTIVE
    assert standing(record)[watch.waiting] is Standing.PROPOSED
    wanted = watch.waiting
    again = open_(second_person=True)  # a start changes nothing: it waits
    assert again.current.version == first and again.waiting == wanted
    with pytest.raises(PolicyStoreError, match="another person"):
        watch.approve(wanted[:8], by="rana")
    assert watch.approve(wanted[:8], by="sami").second == "sami"
    assert watch.current.version == wanted == in_force(record) and watch.waiting == ""
    assert again.follow() and again.current.version == wanted and not again.follow()


def test_changing_the_files_back_gives_a_proposal_up(record: Record, open_: Open, folder: Path) -> None:
    watch = open_(second_person=True)
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    watch.read(None, by="rana")
    wanted = watch.waiting
    (folder / "more.yaml").unlink()
    watch.read(None, by="rana")
    assert watch.waiting == "" and standing(record)[wanted] is Standing.WITHDRAWN


def test_rollback_writes_the_files_back(record: Record, open_: Open, folder: Path) -> None:
    watch = open_()
    first = watch.current.version
    (folder / "sub").mkdir()
    (folder / "sub" / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    (folder / "README").write_text("stays")
    (folder / "letters.yaml").chmod(0o640)
    (folder / "letters.yaml").write_text(DEFAULT + "\n# later\n", "utf-8")
    watch.read(None)
    second = watch.current.version
    done = watch.rollback(first[:6], by="rana")
    assert done.digest == first == watch.current.version == in_force(record)
    assert done.note == f"rollback to {first}"
    assert (folder / "letters.yaml").read_text("utf-8") == DEFAULT
    assert (folder / "letters.yaml").stat().st_mode & 0o777 == 0o640
    assert not (folder / "sub" / "more.yaml").exists() and (folder / "README").exists()
    assert not watch.changed() and not watch.changed()
    watch.rollback(second, by="rana", note="after all")
    assert (folder / "sub" / "more.yaml").exists() and watch.current.version == second


def test_what_two_approved_last_can_be_undone_by_one(record: Record, open_: Open, folder: Path) -> None:
    watch = open_(second_person=True)
    first = watch.current.version
    for n, name in enumerate(("one", "two")):
        (folder / "more.yaml").write_text(EXTRA.format(id=f"{name}-{n}"), "utf-8")
        watch.read(None, by="rana")
        watch.approve(watch.waiting, by="sami")
    second, third = [a.digest for a in _history(record)][1], watch.current.version
    watch.rollback(second, by="rana")
    assert watch.current.version == second
    watch.rollback(first, by="rana")  # older ones are proposed
    assert watch.current.version == second and watch.waiting == first
    watch.rollback(second, by="rana")  # what is in force, over the proposal
    assert watch.current.version == second and watch.waiting == "" and third in standing(record)


def _history(record: Record) -> tuple[policy_store.Activation, ...]:
    with record.read() as conn:
        return policy_store.history(conn)


def test_an_editor_writes_the_files(record: Record, open_: Open, folder: Path) -> None:
    watch = open_()
    seen: list[Mapping[str, str]] = []

    def refuse(standing: Mapping[str, str]) -> None:
        seen.append(dict(standing))
        raise PolicyStoreError("changed meanwhile")

    change = {"more.yaml": EXTRA.format(id="more")}
    with pytest.raises(PolicyStoreError, match="meanwhile"):
        watch.write(change, by="rana", look=refuse)
    assert seen == [{"letters.yaml": DEFAULT}] and not (folder / "more.yaml").exists()
    with pytest.raises(ConfigFaults):
        watch.write({"more.yaml": BROKEN}, by="rana")
    for name in ("../out.yaml", "/etc/x.yaml", ".hidden.yaml", "x.txt", "default/safety.yaml"):
        with pytest.raises((ValueError, ConfigFaults)):
            watch.write({name: EXTRA.format(id="more")}, by="rana")
    assert {p.name for p in folder.rglob("*")} == {"letters.yaml"}
    assert watch.write(change, by="rana", note="trial").digest == watch.current.version
    assert "more" in ids(watch)
    watch.write({"more.yaml": None}, by="rana")
    assert "more" not in ids(watch) and not (folder / "more.yaml").exists()


def test_a_life_that_ended_while_it_wrote_is_finished_by_the_next(
    record: Record, open_: Open, folder: Path, tmp_path: Path
) -> None:
    watch = open_()
    first = watch.current.version
    (folder / "more.yaml").write_text(EXTRA.format(id="more"), "utf-8")
    watch.read(None)
    (tmp_path / "policy-restoring").write_text(first)
    assert open_().current.version == first and not (folder / "more.yaml").exists()
    assert not (tmp_path / "policy-restoring").exists()


def test_a_folder_that_cannot_be_written_changes_nothing(open_: Open, folder: Path) -> None:
    watch = open_()
    before = watch.current
    # Root may write anywhere: a file stands where a folder would be needed.
    (folder / "sub").write_text("no folder")
    with pytest.raises(Exception, match="for the gateway's user"):
        watch.write({"sub/more.yaml": EXTRA.format(id="more")}, by="rana")
    assert watch.current is before
    assert {p.name for p in folder.iterdir()} == {"letters.yaml", "sub"}


def test_the_built_in_rules_are_a_version_too(record: Record) -> None:
    watch = PolicyWatch(record, None, Limits(), None)
    assert in_force(record) == watch.current.version and not watch.changed()
    with pytest.raises(PolicyStoreError, match="built-in"):
        watch.rollback(watch.current.version, by="rana")
