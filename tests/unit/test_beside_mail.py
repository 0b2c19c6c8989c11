"""Compiling a large policy gives way to a loop in the same interpreter."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time

import pytest

from bench.policy import rules
from gateway.beside_mail import TURN_S, beside_mail
from policies.load import LETTERS, load_policy_texts


def test_the_interpreter_is_as_before_when_the_last_work_is_done() -> None:
    turn = sys.getswitchinterval()
    assert gc.isenabled()
    with beside_mail():
        with pytest.raises(ValueError, match="broken"), beside_mail():
            raise ValueError("broken")
        assert not gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert gc.isenabled()
    assert sys.getswitchinterval() == turn


def test_a_thread_that_wakes_up_often_waits_little_while_a_thousand_rules_are_compiled() -> None:
    files = {"letters.yaml": LETTERS.read_text("utf-8"), "many.yaml": rules()}
    begin, done = threading.Event(), threading.Event()

    def compiling() -> None:
        begin.wait()
        with beside_mail():
            load_policy_texts(files)
        done.set()

    waits: list[float] = []
    thread = threading.Thread(target=compiling)
    thread.start()
    assert thread.ident is not None
    theirs = time.pthread_getcpuclockid(thread.ident)
    begin.set()
    while not done.is_set():
        with contextlib.suppress(OSError):  # it has ended
            began = time.clock_gettime(theirs)
            time.sleep(0.001)
            waits.append(time.clock_gettime(theirs) - began)
    thread.join()
    waits.sort()
    # How long the other one computed before this one had its turn: with turns of 5 ms as long each time. What
    # the machine does meanwhile is not counted.
    assert len(waits) > 20
    assert waits[len(waits) // 2] < 0.004
