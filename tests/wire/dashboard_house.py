"""A whole dashboard for tests and pictures: store, archive, seeded letters, accounts, a server.

``House`` holds the desk; ``serve(house)`` runs it under uvicorn on an ephemeral port of loopback in
a thread and stops it at the end. Writes go through ``engine.begin()`` as in the record's writer.
"""

from __future__ import annotations

import functools
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

import httpx
import uvicorn
from fastapi import FastAPI
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import OperationalError

from dashboard.app import make_app
from dashboard.desk import AgencyName, DashboardDesk, DashboardSettings
from tests.servers.place import PATIENCE
from tests.wire.seed_letters import Seeder, agency_rows, tell_all
from tracker import schema
from tracker.access import Role
from tracker.archive import Archive
from tracker.model import IdSource, id_text
from tracker.store import Store, sqlite_url

T = TypeVar("T")

PASSWORD = "a long sentence for tests"
PEOPLE = {
    "root": (Role.ADMIN, None, "مدير النظام"),
    "audit.all": (Role.COMPLIANCE, None, "لجنة المتابعة"),
    "mof.follow": (Role.COMPLIANCE, "MOF", "ليلى الخطيب"),
    "moh.follow": (Role.COMPLIANCE, "MOH", "رنا العبادي"),
    "moh.diwan": (Role.REGISTRY, "MOH", "ديوان وزارة الصحة"),
    "mop.view": (Role.VIEWER, "MOPIC", ""),
    "ab.follow": (Role.COMPLIANCE, "AB", ""),
    "moe.view": (Role.VIEWER, "MOE", ""),
    "iec.view": (Role.VIEWER, "IEC", ""),
}


@functools.cache
def password_hash() -> str:
    """One hash for all: argon2 is slow on purpose, and how slow stands in the hash itself."""
    return Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@dataclass
class Board:
    """Tells of changes as the record does."""

    listeners: list[queue.SimpleQueue[int]] = field(default_factory=list)

    def subscribe(self) -> queue.SimpleQueue[int]:
        listener: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.listeners.append(listener)
        return listener

    def unsubscribe(self, listener: queue.SimpleQueue[int]) -> None:
        self.listeners.remove(listener)

    def tell(self, letter_id: int) -> None:
        for listener in self.listeners:
            listener.put(letter_id)


@dataclass
class House:
    """The store with its letters and people."""

    store: Store
    archive: Archive
    seeder_key: object = None
    board: Board = field(default_factory=Board)
    ids: dict[str, int] = field(default_factory=dict)
    source: IdSource = field(default_factory=lambda: IdSource(node=7))

    @classmethod
    def build(cls, root: Path, *, letters: bool = True, must_change: bool = False) -> House:
        store = Store(sqlite_url(root / "wasl.db"))
        schema.metadata.create_all(store.writer)
        house = cls(store, Archive(root / "objects"))
        with store.writer.begin() as conn:
            if letters:
                seeder = Seeder(conn, house.archive)
                house.seeder_key = seeder.key
                house.ids = tell_all(seeder)
            for name, (role, agency, display) in PEOPLE.items():
                conn.execute(
                    insert(schema.account).values(
                        id=house.source.next(),
                        name=name,
                        password=password_hash(),
                        role=role.value,
                        agency=agency,
                        display=display,
                        must_change=must_change,
                        created_us=0,
                    )
                )
        return house

    fail_writes: bool = False  # as when the disk is full

    def write(self, fn: Callable[[Connection], T]) -> T:
        if self.fail_writes:
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))
        with self.store.writer.begin() as conn:
            return fn(conn)

    def desk(self, base_url: str = "http://dashboard.test") -> DashboardDesk:
        agencies = tuple(
            AgencyName(code=row["code"], ar=row["name_ar"], en=row["name_en"]) for row in agency_rows()
        )
        named = {agency.code: agency for agency in agencies}
        return DashboardDesk(
            engine=self.store.reader,
            write=self.write,
            next_id=self.source.next,
            changes=self.board,
            agencies=lambda: agencies,
            name=lambda code: named.get(code) or AgencyName(code=code, ar=code, en=code),
            open_content=self.archive.open,
            settings=DashboardSettings(
                base_url=base_url,
                zone=ZoneInfo("Asia/Amman"),
                gateway_name="wasl.gov.example",
                secure=base_url.startswith("https:"),
            ),
        )

    def close(self) -> None:
        self.archive.close()
        self.store.close()

    def path(self, name: str) -> str:
        """Of the page of the letter that the tests call so."""
        return f"/letters/{id_text(self.ids[name])}"


class Served(Protocol):
    """What can be served: anything with a desk."""

    def desk(self, base_url: str, /) -> DashboardDesk: ...


@contextmanager
def serve(
    house: Served, base_url: str | None = None, add: Callable[[FastAPI], None] | None = None
) -> Iterator[str]:
    """The dashboard on loopback; yields its address. ``base_url`` when people reach it by another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app: FastAPI = make_app(house.desk(base_url or url))
        if add is not None:
            add(app)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        try:
            yield url
        finally:
            app.state.hub.stop()
            server.should_exit = True
            thread.join(timeout=PATIENCE)
            assert not thread.is_alive()


@contextmanager
def browser(
    url: str, who: str | None = None, language: str = "ar", password: str = PASSWORD
) -> Iterator[httpx.Client]:
    """A client that behaves as a browser does: cookies, Origin on what changes something."""
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=PATIENCE) as client:
        client.cookies.set("wasl_language", language)
        if who is not None:
            answer = client.post("/sign-in", data={"name": who, "password": password})
            assert answer.status_code == 303, answer.text
        yield client


def audited(house: House, account: str) -> list[tuple[str, str]]:
    """What the audit has of a person, in order: action and object."""
    with house.store.reader.connect() as conn:
        rows = conn.execute(
            select(schema.audit.c.action, schema.audit.c.object)
            .where(schema.audit.c.account == account)
            .order_by(schema.audit.c.id)
        )
        return [(row.action, row.object) for row in rows]
