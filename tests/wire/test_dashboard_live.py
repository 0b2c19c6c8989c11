"""Pages of the dashboard that change by themselves: what is told, to whom, and how many listen."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.servers.place import PATIENCE
from tests.wire.dashboard_house import House, audited, browser, serve
from tests.wire.seed_letters import Seeder, Step
from tracker import accounts, schema
from tracker.model import id_text
from tracker.states import Event, Grade, Outcome, Standing, State


class Listener(threading.Thread):
    """Reads one stream of events in the background."""

    def __init__(self, url: str, path: str, cookies: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.address, self.cookies_ = f"{url}{path}", cookies
        self.events: list[tuple[str, dict[str, str]]] = []
        self.opened = threading.Event()
        self.news = threading.Condition()
        self.start()
        assert self.opened.wait(PATIENCE)

    def run(self) -> None:
        with httpx.stream("GET", self.address, cookies=self.cookies_, timeout=PATIENCE) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                self.opened.set()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    with self.news:
                        self.events.append((kind, json.loads(line[6:])))
                        self.news.notify_all()

    def wait_for(self, kind: str, text: str = "", seconds: float = PATIENCE) -> bool:
        def there() -> bool:
            return any(event == kind and text in data.get("html", "") for event, data in self.events)

        with self.news:
            return self.news.wait_for(there, seconds)


def _version(client: httpx.Client, path: str) -> str:
    found = re.search(r'data-version="(\w+)"', client.get(path).text)
    assert found is not None
    return found[1]


def _act(house: House, name: str, before: Standing, step: Step, *, tell: bool) -> None:
    letter_id = house.ids[name]
    with house.store.writer.begin() as conn:
        seeder = Seeder(conn, house.archive)
        delivery = (
            conn.execute(select(schema.delivery.c.id).where(schema.delivery.c.letter_id == letter_id))
            .scalars()
            .first()
        )
        assert delivery is not None
        seeder.advance(letter_id, delivery, before, step)
    if tell:
        house.board.tell(letter_id)


@pytest.mark.parametrize("tell", [True, False], ids=["told", "found out by looking"])
def test_a_change_arrives_by_itself(tmp_path: Path, tell: bool) -> None:
    built = House.build(tmp_path)
    path = built.path("queued")
    with serve(built) as base, browser(base, "mof.follow") as client, browser(base, "moe.view") as stranger:
        letter = Listener(base, f"{path}/live?version={_version(client, path)}", dict(client.cookies))
        listed = Listener(base, f"/letters/live?version={_version(client, '/letters')}", dict(client.cookies))
        other = Listener(
            base, f"/letters/live?version={_version(stranger, '/letters')}", dict(stranger.cookies)
        )
        assert stranger.get(f"{path}/live").status_code == 404
        time.sleep(1.5)
        assert [kind for kind, _ in letter.events + listed.events + other.events] == []
        step = Step(
            Event.RELAYED, 0, "smtp", "mail.mof.gov.example", {"reply": "250 2.0.0 Ok: queued as LIVE77"}
        )
        _act(built, "queued", Standing(State.QUEUED, Grade.ACCEPTED, Outcome.OPEN), step, tell=tell)
        assert letter.wait_for("part", "LIVE77")
        assert listed.wait_for("part")
        assert not other.wait_for("part", seconds=1)
        # the session ends, and with it the stream
        built.write(lambda conn: accounts.change(conn, "mof.follow", disabled=True))
        built.board.tell(built.ids["queued"])
        assert letter.wait_for("over")
        assert ("watch-letter", id_text(built.ids["queued"])) in audited(built, "mof.follow")
        assert ("watch-list", "") in audited(built, "mof.follow")
    built.close()


def test_streams_are_counted(url: str, house: House) -> None:
    with browser(url, "moh.diwan") as client:
        open_ones = [Listener(url, "/letters/live", dict(client.cookies)) for _ in range(12)]
        assert client.get("/letters/live").status_code == 503
        assert len(open_ones) == 12
