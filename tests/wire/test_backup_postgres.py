"""A running gateway on PostgreSQL is backed up, and restored into another database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.postgres import Postgres
from tests.servers.wasl import House, serving
from tests.wire.gateway_front import MOF, MOH, Front, gateway_front
from tests.wire.wire_letters import letter
from tracker import postgres_copy

pytestmark = [pytest.mark.servers, pytest.mark.postgres]

DIWAN = "diwan@moh.gov.example"


def wasl(*words: str | Path, may_fail: bool = False, **more: str) -> tuple[str, str]:
    """``wasl …``; standard output and standard error."""
    command = [str(Path(sys.executable).with_name("wasl")), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | more)
    assert bool(done.returncode) == may_fail, done.stderr
    return done.stdout, done.stderr


def test_a_backup_holds_the_database_and_all_its_letters(
    tmp_path: Path, authority: Authority, postgres_server: Postgres
) -> None:
    copy, fresh = tmp_path / "copy", tmp_path / "fresh"
    with postgres_server.database() as old, postgres_server.database() as new:
        with gateway_front(tmp_path, authority, database_url=old, agencies=(MOF, MOH)) as front:
            number = taken(front)
            settings = front.house.settings
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
        said, _ = wasl("ledger", "verify", "--config", house.settings)
        assert "all of them fit" in said
        letters, _ = wasl("letter", "list", "--config", house.settings)
        assert number in letters and later not in letters
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
