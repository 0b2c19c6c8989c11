"""``wasl backup`` and ``wasl restore`` of a gateway on SQLite that stands still: what is copied and said."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path

import pytest

from gateway.settings_file import read_settings
from tests.unit.shell import Shell


def name(file: Path, section: str, **values: object) -> None:
    """Give keys of a section of the settings a value, where they stand as comments or not."""
    text = file.read_text("utf-8")
    head, found, rest = text.partition(f"\n[{section}]\n")
    assert found
    for key, value in values.items():
        rest, done = re.subn(rf"^(# )?{key} =.*$", f'{key} = "{value}"', rest, count=1, flags=re.MULTILINE)
        assert done
    file.write_text(head + found + rest, "utf-8")


def test_a_backup_is_restored_into_a_new_folder(home: Path, wasl: Shell, tmp_path: Path) -> None:
    wasl("keys", "make", "MOF", "--write", "--selector", "t")
    (home / "data" / "archive" / "2026").mkdir(parents=True)
    (home / "data" / "archive" / "2026" / "a.eml").write_bytes(b"octets")
    (home / "data" / "archive" / "spool").mkdir(exist_ok=True)
    (home / "data" / "archive" / "spool" / "x").write_bytes(b"half a letter")
    copy, new = tmp_path / "copy", tmp_path / "new"
    assert wasl("backup", copy, "--json").lines[0]["objects"] == {"all": 1, "new": 1}
    assert wasl("backup", copy, "--json").lines[0]["objects"] == {"all": 1, "new": 0}
    assert wasl("restore", copy, new).status == 0
    assert (new / "data" / "archive" / "2026" / "a.eml").read_bytes() == b"octets"
    assert not (new / "data" / "archive" / "spool").exists()
    assert stat.S_IMODE((new / "secrets" / "mac.key").stat().st_mode) == 0o600
    said = wasl("check", "--offline", "--config", new / "wasl.toml")
    assert said.status == 0, said.err
    assert [a["name"] for a in wasl("user", "list", "--json", "--config", new / "wasl.toml").lines] == [
        "admin"
    ]
    assert wasl("restore", copy, new).status == 1


def test_a_damaged_or_unfinished_backup_is_refused(home: Path, wasl: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert wasl("backup", copy, "--without-secrets").status == 0
    assert not (copy / "config" / "secrets").exists()
    database = copy / "wasl.db"
    database.write_bytes(database.read_bytes()[:-1] + b"x")
    said = wasl("restore", copy, tmp_path / "new")
    assert said.status == 1 and "is not what was copied" in said.err
    assert not (tmp_path / "new").exists()
    (copy / "manifest.json").unlink()
    assert "no finished backup" in wasl("restore", copy, tmp_path / "new").err


# Keys and certificates that lie elsewhere.


def test_what_lies_outside_is_named_with_what_names_it(home: Path, wasl: Shell, tmp_path: Path) -> None:
    wasl("keys", "make", "MOF", "--write", "--selector", "t", "--folder", tmp_path / "dkim")
    elsewhere = tmp_path / "live"
    elsewhere.mkdir()
    for file in (elsewhere / "fullchain.pem", elsewhere / "privkey.pem", home / "ca.pem", tmp_path / "url"):
        file.write_text("sqlite:///" + str(home / "data" / "wasl.db"))
    (home / "secrets" / "watch").write_text("a secret")
    settings = home / "wasl.toml"
    name(settings, "tls", certificate=elsewhere / "fullchain.pem", key=elsewhere / "privkey.pem")
    name(settings, "tls", client_ca="ca.pem")
    name(settings, "database", url_file="../url")
    name(settings, "dashboard", key=elsewhere / "privkey.pem", certificate=elsewhere / "fullchain.pem")
    with (home / "agencies" / "moh.yaml").open("a") as out:
        out.write("watch:\n  - mailbox: d@moh.example\n    host: 127.0.0.1\n    tls: none\n")
        out.write("    password_file: ../secrets/watch\n    folders: {INBOX: arrival}\n")
    copy = tmp_path / "copy"
    said = wasl("backup", copy)
    assert said.status == 0
    told = said.err.splitlines()
    assert "not in the backup" in told[0] and "copy them by other means, or move them to" in told[-1]
    left_out = {
        f"{elsewhere}/fullchain.pem (tls.certificate, dashboard.certificate)",
        f"{elsewhere}/privkey.pem (tls.key, dashboard.key)",
        f"{tmp_path}/url (database.url_file)",
        f"{tmp_path}/dkim/mof.example/t-rsa.pem (agencies/mof.yaml:1: dkim.0.key_file)",
        f"{tmp_path}/dkim/mof.example/t-ed.pem (agencies/mof.yaml:1: dkim.1.key_file)",
    }
    assert {line.strip() for line in told[1:-1]} == left_out
    assert (copy / "config" / "ca.pem").exists(), "what lies beside the settings is copied"
    listed = wasl("backup", copy, "--json").lines[0]["left_out"]
    assert {f"{one['file']} ({one['key']})" for one in listed} == left_out
    said = wasl("restore", copy, tmp_path / "new")
    assert f"put it back if it is not there: {elsewhere}/privkey.pem (tls.key, dashboard.key)" in said.err
    # Who leaves the private ones out on purpose is told of the others only.
    listed = wasl("backup", copy, "--json", "--without-secrets").lines[0]["left_out"]
    assert [Path(one["file"]).name for one in listed] == ["fullchain.pem"]
    assert not list((copy / "config").rglob("*.key"))


def test_a_usual_gateway_lies_in_its_backup_whole(home: Path, wasl: Shell, tmp_path: Path) -> None:
    said = wasl("backup", tmp_path / "copy", "--json")
    assert said.lines[0]["left_out"] == [] and said.err == ""


def test_a_backup_goes_on_when_an_agencys_file_is_broken(home: Path, wasl: Shell, tmp_path: Path) -> None:
    (home / "agencies" / "moh.yaml").write_text("code: 1\n")
    said = wasl("backup", tmp_path / "copy")
    assert said.status == 0 and "what the agencies' files name is not known: agencies/moh.yaml:1" in said.err


def test_keys_beside_the_settings_do_not_take_the_archive_along(
    home: Path, wasl: Shell, tmp_path: Path
) -> None:
    (home / "secrets" / "ledger.pem").rename(home / "ledger.pem")
    name(home / "wasl.toml", "ledger", key="ledger.pem")
    copy, new = tmp_path / "copy", tmp_path / "new"
    assert wasl("backup", copy).status == 0
    assert not (copy / "config" / "secrets" / "data").exists() and not (copy / "config" / "data").exists()
    assert wasl("restore", copy, new).status == 0
    assert wasl("check", "--offline", "--config", new / "wasl.toml").status == 0


# Where a restored gateway finds its own.


def test_settings_that_name_folders_below_them_fit_again(home: Path, wasl: Shell, tmp_path: Path) -> None:
    settings = home / "wasl.toml"
    for old, new in (("agencies", "bodies"), ("data", "var"), ("policy", "rules/mine")):
        (home / new).parent.mkdir(exist_ok=True)
        (home / old).rename(home / new)
    name(settings, "directory", path="bodies")
    name(settings, "policy", path="rules/mine")
    name(settings, "gateway", data_dir="var")
    copy, place = tmp_path / "copy", tmp_path / "new" / "gateway.toml"
    assert wasl("backup", copy).status == 0
    said = wasl("restore", copy, "--config", place)
    assert said.status == 0 and "names" not in said.err
    assert f"wasl check --config {place}" in said.err
    said = wasl("check", "--offline", "--config", place)
    assert said.status == 0, said.err
    assert read_settings(place, {}).gateway.data_dir == place.parent / "var"
    assert wasl("ledger", "verify", "--config", place).out == "0 entries, all of them fit\n"


def test_settings_that_lead_elsewhere_are_told(home: Path, wasl: Shell, tmp_path: Path) -> None:
    """As the administrator's guide has it: data under /var/lib, the rest under /etc."""
    (home / "data").rename(tmp_path / "var")
    name(home / "wasl.toml", "gateway", data_dir=tmp_path / "var")
    copy, new = tmp_path / "copy", tmp_path / "new"
    assert wasl("backup", copy).status == 0
    said = wasl("restore", copy, new, "--json")
    wanted = {"key": "gateway.data_dir", "names": str(tmp_path / "var"), "copy": str(new / "data")}
    assert said.lines[0]["astray"] == [wanted]
    said = wasl("restore", copy, tmp_path / "again")
    assert (
        f"gateway.data_dir in {tmp_path}/again/wasl.toml names {tmp_path}/var, the copy lies in" in said.err
    )


def test_restore_refuses_places_that_make_no_sense(home: Path, wasl: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert wasl("backup", copy).status == 0
    said = wasl("restore", copy)
    assert said.status == 2 and "--config" in said.err
    said = wasl("restore", copy, tmp_path / "new", "--config", tmp_path / "other" / "wasl.toml")
    assert said.status == 2 and not (tmp_path / "new").exists()
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["secrets"] is True


@pytest.mark.parametrize("target", ["data", ".", "data/archive", "data/archive/2026", "agencies", "secrets"])
def test_a_backup_does_not_go_where_the_gateway_lives(home: Path, wasl: Shell, target: str) -> None:
    before = (home / "data" / "wasl.db").stat().st_ino
    said = wasl("backup", home / target)
    assert said.status == 1 and "name a folder apart from" in said.err
    assert (home / "data" / "wasl.db").stat().st_ino == before
    assert not (home / target / "manifest.json").exists()


def test_a_backup_that_has_lost_files_is_restored_only_when_asked(
    home: Path, wasl: Shell, tmp_path: Path
) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"
    hour = home / "data" / "archive" / "2026" / "1123" / "03"
    hour.mkdir(parents=True)
    for name in "ab":
        (hour / f"{name}.eml").write_bytes(b"x")
    assert wasl("backup", copy).status == 0
    (copy / "archive" / "2026" / "1123" / "03" / "a.eml").unlink()
    shutil.rmtree(copy / "config" / "secrets")
    said = wasl("restore", copy, new)
    assert said.status == 1 and "1 of 2 objects are in its archive" in said.err
    assert "missing in config: secrets/" in said.err and not new.exists()
    said = wasl("restore", copy, new, "--incomplete")
    assert said.status == 0 and "1 of 2 objects" in said.err and (new / "wasl.toml").exists()
