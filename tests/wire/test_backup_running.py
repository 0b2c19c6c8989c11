"""A running gateway is backed up while letters arrive, on both databases, and restored elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.postgres import Postgres
from tests.servers.wasl import House, serving
from tests.wire.gateway_front import MOF, MOH, Front, gateway_front
from tests.wire.wire_letters import letter
from tracker import postgres_copy

pytestmark = [pytest.mark.servers]

DIWAN = "diwan@moh.gov.example"


def wasl(*words: str | Path, may_fail: bool = False, **more: str) -> tuple[str, str]:
    """``wasl …``; standard output and standard error."""
    command = [str(Path(sys.executable).with_name("wasl")), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | more)
    assert bool(done.returncode) == may_fail, done.stderr
    return done.stdout, done.stderr


@contextmanager
def letters_arriving(front: Front) -> Iterator[list[str]]:
    """Letters come in one after the other until the end of the block; the numbers that were promised."""
    numbers: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            octets, _ = letter(DIWAN)
            numbers.append(front.accept(octets, DIWAN))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield numbers
    finally:
        stop.set()
        sender.join(60)


def whole(house: House, before: str, later: str) -> None:
    """What was restored has the letters of before the backup, and none of after it."""
    said = house.run("ledger", "verify")
    assert "all of them fit" in said and not said.startswith("0 ")
    rows = house.rows("letter", "list", "from:MOF", "--limit", "10000")
    numbers = [line["number"] for line in rows if line["number"]]
    assert before in numbers and later not in numbers
    # The copy is of one moment: no gap in what was numbered since.
    first = int(before.rpartition("/")[2])
    since = sorted(n for n in (int(number.rpartition("/")[2]) for number in numbers) if n >= first)
    assert since == list(range(first, first + len(since)))


def test_a_backup_on_sqlite(tmp_path: Path, front: Front) -> None:
    copy, fresh = tmp_path / "copy", tmp_path / "fresh"
    before = taken(front)
    with letters_arriving(front) as during:
        said, _ = wasl("backup", copy, "--config", front.house.settings, "--json")
    assert during, "letters came in while it was copied"
    later = taken(front)
    left_out = [each["file"] for each in json.loads(said)["left_out"]]
    assert left_out and not any(file.startswith(f"{front.house.root}/") for file in left_out)
    assert copy.stat().st_mode & 0o077 == 0
    _, said = wasl("restore", copy, fresh)
    assert all(file in said for file in left_out)
    house = House(root=fresh)
    whole(house, before, later)
    house.run("check", "--offline")
    front.quiet()


@pytest.mark.postgres
def test_a_backup_on_postgresql(tmp_path: Path, authority: Authority, postgres_server: Postgres) -> None:
    copy, fresh = tmp_path / "copy", tmp_path / "fresh"
    with postgres_server.database() as old, postgres_server.database() as new:
        with gateway_front(tmp_path, authority, database_url=old, agencies=(MOF, MOH)) as front:
            before = taken(front)
            settings = front.house.settings
            with letters_arriving(front):
                said, _ = wasl("backup", copy, "--config", settings)
            assert "database of " in said
            later = taken(front)  # after the copy: not in it
            front.quiet()
        manifest = json.loads((copy / "manifest.json").read_text())
        assert manifest["database"]["tool"].startswith("pg_dump (PostgreSQL) ")
        assert (copy / "wasl.pgdump").stat().st_mode & 0o077 == 0

        _, said = wasl("restore", copy, fresh, may_fail=True)  # the settings still name the living one
        assert "holds tables already" in said and not fresh.exists()
        dump = (copy / "wasl.pgdump").read_bytes()
        (copy / "wasl.pgdump").write_bytes(dump[:-1])
        _, said = wasl("restore", copy, fresh, "--database", new, may_fail=True)
        assert "is not what was copied" in said
        (copy / "wasl.pgdump").write_bytes(dump)
        _, said = wasl("restore", copy, fresh, WASL__DATABASE__URL=new)
        assert "set database.url" in said
        house = House(root=fresh)
        house.settings.write_text(house.settings.read_text().replace(old, new))
        whole(house, before, later)
        with serving(house):  # and it runs
            pass


def taken(front: Front) -> str:
    octets, message_id = letter(DIWAN)
    number = front.accept(octets, DIWAN)
    front.arrived(MOH, message_id)
    return number


def test_a_password_is_not_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool of our own stands where ``pg_dump`` would, and writes down how it was called."""
    home = tmp_path / "99" / "bin"
    home.mkdir(parents=True)
    stub = home / "pg_dump"
    stub.write_text(f'#!/bin/sh\necho "$@" "/$PGPASSWORD/" >> {tmp_path}/called\n')
    stub.chmod(0o755)
    monkeypatch.setattr(postgres_copy, "_HOMES", tmp_path)
    target = tmp_path / "dump"
    target.touch()
    postgres_copy.dump("postgresql+psycopg://wasl:s%20e@db.example:5433/wasl?sslmode=require", target)
    called = (tmp_path / "called").read_text().splitlines()[0]
    words, password, _ = called.rsplit("/", 2)
    assert password == "s e" and "s e" not in words
    assert "host=db.example" in words and "sslmode=require" in words and "dbname=wasl" in words
    assert "port=5433" in words and "user=wasl" in words


def test_without_the_tools_nothing_is_pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_copy, "_HOMES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert postgres_copy.dump("postgresql+psycopg://nobody@127.0.0.1:9/wasl", tmp_path / "x") is None
    assert not postgres_copy.load("postgresql+psycopg://nobody@127.0.0.1:9/wasl", tmp_path / "x")
