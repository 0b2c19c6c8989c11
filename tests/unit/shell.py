"""``wasl`` run in this process, with what it said and how it ended: quick as a function, true as a shell.

What a command writes past the capture of text (octets of ``inspect``) is not seen here.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import cli

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs ``wasl`` in this process, in the folder of a gateway."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture

    def __call__(self, *words: object, stdin: str = "") -> Said:
        self._patch.setattr(sys, "argv", ["wasl", *map(str, words)])
        # The name of a program that was begun with ``python -m``, as pytest may be, is another.
        self._patch.setattr(sys.modules["__main__"], "__package__", None)
        self._patch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capture.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else int(e.code is not None)
        said = self._capture.readouterr()
        return Said(status, said.out, said.err)
