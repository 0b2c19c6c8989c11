"""Policies compiled and led past letters in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from policies.faults import ConfigFaults
from policies.load import LETTERS, Limits, load_policy_texts
from policies.replay_report import Report, run
from policies.trial_room import RoomClosed, RunOrder, Stopped, TrialRoom, replay
from policies.versions import Draft
from tests.wire.policy_house import PolicyHouse, directory

BROKEN = "rules:\n  - id: a\n    priority: 120\n    match: {submitter: MOQ}\n    sudject: x\n"
HOLDS = """rules:
  - id: all-held
    priority: 101
    description: {ar: كل شيء, en: Everything}
    match: {same_agency: false}
    action: hold
"""


def draft(**files: str) -> Draft:
    named = {"letters.yaml": LETTERS.read_text("utf-8")} | {f"{k}.yaml": v for k, v in files.items()}
    return Draft(files=named, limits=Limits(), directory=directory())


def gone(pid: int) -> bool:
    for _ in range(2000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_room_says_what_the_loader_says() -> None:
    room = TrialRoom()
    try:
        good = draft(own=HOLDS)
        assert room.check(good) == load_policy_texts(good.files, Limits(), directory()).version
        pid = room.pid
        assert pid is not None and pid != os.getpid()
        with pytest.raises(ConfigFaults) as here:
            load_policy_texts(draft(own=BROKEN).files, Limits(), directory())
        with pytest.raises(ConfigFaults) as there:
            room.check(draft(own=BROKEN))
        assert there.value.faults == here.value.faults
        assert len(there.value.faults) > 1
        assert room.pid == pid  # one room for all who type
    finally:
        room.close()
    assert gone(pid)


def test_a_room_that_has_died_is_opened_again() -> None:
    room = TrialRoom()
    try:
        room.check(draft())
        pid = room.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert room.check(draft(own=HOLDS))
        assert room.pid != pid
    finally:
        room.close()


def test_one_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.trial_room.CHECK_S", 0.01)
    room = TrialRoom()
    try:
        with pytest.raises(RoomClosed):  # no interpreter has begun by then and compiled a thousand rules
            room.check(draft(**{f"f{n}": HOLDS.replace("all-held", f"held-{n}") for n in range(300)}))
        assert room.pid is None
    finally:
        room.close()


def test_a_room_does_not_outlive_whoever_opened_it() -> None:
    program = (
        "import sys; from policies.trial_room import TrialRoom; from policies.versions import Draft\n"
        "from policies.load import Limits\n"
        "room = TrialRoom(); room.check(Draft(files={}, limits=Limits())); print(room.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        assert gone(pid)
    finally:
        parent.kill()
        parent.wait()
        for pipe in (parent.stdin, parent.stdout):
            if pipe is not None:
                pipe.close()


def test_a_run_finds_what_a_run_here_finds_and_can_be_stopped(tmp_path: Path) -> None:
    house = PolicyHouse.build(tmp_path)
    try:
        engine = house.house.store.reader
        url = engine.url.render_as_string(hide_password=False)
        told: list[tuple[int, int, Report]] = []
        order = RunOrder(draft(own=HOLDS), url, 0, None, 5)
        there = replay(order, lambda *values: told.append(values), threading.Event())
        here = run(engine.connect, order.draft.compile(), since_us=0, examples=5, until_us=there.until_us)
        assert there == here
        assert there.changed > 0 and there.groups[0].examples
        assert told and told[0][1] == there.letters + there.unknown.broken
        with pytest.raises(ConfigFaults):
            replay(order._replace(draft=draft(own=BROKEN)), lambda *values: None, threading.Event())
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            replay(order, lambda *values: None, stop)
        with pytest.raises(RoomClosed, match="supported"):
            replay(order._replace(url="mysql://nowhere"), lambda *values: None, threading.Event())
    finally:
        house.close()
