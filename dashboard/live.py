"""Live pages: a change in a letter or in the list is sent to whoever looks at it (server-sent events).

One thread listens to the record and, because another process or node may have written, looks at
the newest evidence every few seconds; it tells the open streams which letters changed. A stream
then renders the part of its page again, for its own viewer, and sends it if it became another. The
session is looked up again each time: when it ends, so does the stream.

The stream is part of the looking: opening one is written into the audit, and what it sends has
passed the same conditions as the page. Streams are counted; too many get 503 and the page stays as
it was loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from dashboard.desk import DashboardDesk
from dashboard.pages import Asked, find_letter, letter_part, list_part, version_of
from dashboard.visit import SignedIn, Visit, load_session
from tracker import audit, queries
from tracker.access import Viewer
from tracker.model import id_text
from tracker.store_errors import DatabaseError

router = APIRouter()
log = logging.getLogger("wasl.dashboard.live")

POLL_SECONDS = 3.0  # how long a change by another process may go unseen
GATHER_SECONDS = 0.15  # changes that come together are told together
PAUSE_SECONDS = 1.0  # between two renderings for one stream
HEARTBEAT_SECONDS = 20.0
MAX_STREAMS = 500
MAX_STREAMS_EACH = 12  # of one account
OVERLAP = 5_000 << 22  # ids of five seconds: other nodes commit a little out of order


@dataclass(eq=False, slots=True)
class Stream:
    """One open page: what it looks at, and the flag that something happened there."""

    viewer: Viewer
    letter_id: int | None  # None: the list
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False

    def wake(self, closing: bool = False) -> None:
        self.closing = self.closing or closing
        with contextlib.suppress(RuntimeError):  # its loop is gone
            self.loop.call_soon_threadsafe(self.changed.set)


class Hub:
    """The thread that watches and the streams that it tells."""

    def __init__(self, desk: DashboardDesk, poll_seconds: float = POLL_SECONDS) -> None:
        self._desk = desk
        self._poll = poll_seconds
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: int | None = None
        self._known: set[int] = set()

    def _start(self) -> None:
        """Begin to watch; with the first stream, so that no server has to know of it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dashboard-live", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End every stream and the thread; the server can then close without waiting for them."""
        self._stop.set()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.wake(closing=True)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def join(self, stream: Stream) -> bool:
        """Add a stream; False when there are too many already or the house is closing."""
        with self._lock:
            own = sum(1 for other in self._streams if other.viewer.account == stream.viewer.account)
            if self._stop.is_set() or len(self._streams) >= MAX_STREAMS or own >= MAX_STREAMS_EACH:
                return False
            self._streams.add(stream)
            self._start()
            return True

    def leave(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)

    @property
    def open_streams(self) -> int:
        with self._lock:
            return len(self._streams)

    def _run(self) -> None:
        listener = self._desk.changes.subscribe()
        try:
            looked = 0.0
            while not self._stop.is_set():
                changed = self._gather(listener)
                try:
                    if not self.open_streams:
                        continue
                    if time.monotonic() - looked >= self._poll:
                        changed |= self._look()
                        looked = time.monotonic()
                    if changed:
                        self._tell(changed)
                except DatabaseError:
                    log.warning("the record cannot be read; live pages wait", exc_info=True)
        finally:
            self._desk.changes.unsubscribe(listener)

    def _gather(self, listener: queue.SimpleQueue[int]) -> set[int]:
        """Wait for a change, then a moment for those that come with it."""
        changed: set[int] = set()
        with contextlib.suppress(queue.Empty):
            changed.add(listener.get(timeout=min(self._poll, 0.5)))
            self._stop.wait(GATHER_SECONDS)
            while True:
                changed.add(listener.get_nowait())
        return changed

    def _look(self) -> set[int]:
        """Letters with evidence that was not there at the last look, whoever wrote it."""
        with self._desk.engine.connect() as conn:
            if self._last is None:
                # The first look takes in what was noted just before it: a page may be that old.
                self._last = queries.last_evidence(conn)
            rows = queries.changed_since(conn, self._last - OVERLAP)
        fresh = {letter_id for id_, letter_id in rows if id_ not in self._known}
        self._last = max([self._last, *(id_ for id_, _ in rows)])
        self._known = {id_ for id_, _ in rows if id_ > self._last - OVERLAP}
        return fresh

    def _tell(self, changed: set[int]) -> None:
        with self._lock:
            streams = list(self._streams)
        seen: dict[tuple[str | None, bool], bool] = {}
        for stream in streams:
            if stream.letter_id is not None:
                if stream.letter_id in changed:
                    stream.wake()
                continue
            key = (stream.viewer.agency, stream.viewer.sees_all)
            if key not in seen:
                with self._desk.engine.connect() as conn:
                    seen[key] = bool(queries.seen_among(conn, stream.viewer, changed))
            if seen[key]:
                stream.wake()


def hub_of(request: Request) -> Hub:
    return cast(Hub, request.app.state.hub)


def _again(visit: Visit) -> Visit | None:
    """The same visit now; None when its session ended or the account is no longer what it was."""
    session = load_session(visit.request, touch=False)
    if session is None or session.account.viewer != visit.viewer:
        return None
    return Visit(visit.request, session)


async def _events(
    visit: Visit, hub: Hub, stream: Stream, render: Callable[[Visit], str | None], version: str
) -> AsyncIterator[str]:
    """The text of one stream: ``part`` with the new HTML, ``over`` when the session ended."""
    try:
        yield "retry: 4000\n\n"
        while not stream.closing:
            stream.changed.clear()
            again = await run_in_threadpool(_again, visit)
            part = await run_in_threadpool(render, again) if again is not None else None
            if part is None:
                yield "event: over\ndata: {}\n\n"
                return
            if version_of(part) != version:
                version = version_of(part)
                yield f"event: part\ndata: {json.dumps({'html': part, 'version': version})}\n\n"
            await asyncio.sleep(PAUSE_SECONDS)
            while not stream.changed.is_set():
                try:
                    await asyncio.wait_for(stream.changed.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    if await run_in_threadpool(_again, visit) is None:
                        yield "event: over\ndata: {}\n\n"
                        return
                    yield ": still here\n\n"
    except DatabaseError:
        log.warning("a live page ends: the record cannot be read", exc_info=True)
    finally:
        hub.leave(stream)


def _answer(
    visit: Visit, letter_id: int | None, render: Callable[[Visit], str | None], version: str
) -> Response:
    hub = hub_of(visit.request)
    stream = Stream(viewer=visit.viewer, letter_id=letter_id, loop=asyncio.get_running_loop())
    if not hub.join(stream):
        raise HTTPException(503)
    return StreamingResponse(
        _events(visit, hub, stream, render, version),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


@router.get("/letters/live")
async def live_list(visit: SignedIn, version: str = "") -> Response:
    asked = Asked.of(visit)
    if asked.cursor is not None:
        raise HTTPException(404)
    await run_in_threadpool(visit.record, audit.Action.WATCH_LIST, asked.line, fields=dict(asked.fields))
    return _answer(visit, None, lambda again: list_part(again, asked), version)


@router.get("/letters/{ref}/live")
async def live_letter(visit: SignedIn, ref: str, version: str = "") -> Response:
    letter_id = await run_in_threadpool(find_letter, visit, ref)

    def render(again: Visit) -> str | None:
        made = letter_part(again, letter_id)
        return None if made is None else made[0]

    await run_in_threadpool(visit.record, audit.Action.WATCH_LETTER, id_text(letter_id))
    return _answer(visit, letter_id, render, version)
