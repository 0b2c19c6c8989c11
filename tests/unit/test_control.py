"""The running gateway's socket: what is asked is answered, a person's mistake in words, a fault by name."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.control import ControlServer, NotRunning, Refused, ask, path_of


@pytest.fixture
def folder() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wasl-") as name:
        yield Path(name)


def asked(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a server with three acts."""

    async def echo(request: dict[str, Any]) -> dict[str, Any]:
        return {"heard": request["word"]}

    async def mistake(request: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("the role registry needs an agency")

    async def fault(request: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("unforeseen")

    async def run() -> dict[str, Any]:
        server = ControlServer(folder, {"echo": echo, "mistake": mistake, "fault": fault})
        await server.start()
        try:
            assert path_of(folder).stat().st_mode & 0o077 == 0
            return await asyncio.to_thread(ask, folder, request)
        finally:
            await server.stop()

    return asyncio.run(run())


def test_an_act_is_answered(folder: Path) -> None:
    assert asked(folder, {"do": "echo", "word": "وصل"}) == {"ok": True, "heard": "وصل"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "mistake"}, "the role registry needs an agency"),
        ({"do": "fault"}, "RuntimeError: unforeseen"),
        ({"do": "nonsense"}, "not understood; this gateway can: echo, fault, mistake"),
        ({}, "not understood; this gateway can: echo, fault, mistake"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as said:
        asked(folder, request_)
    assert str(said.value) == words


def test_no_gateway_runs(folder: Path) -> None:
    with pytest.raises(NotRunning):
        ask(folder, {"do": "echo"})
