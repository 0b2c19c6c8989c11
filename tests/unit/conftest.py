"""A gateway for the tests of commands: made once by ``wasl init``, each test has a copy of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.shell import ROOT, Shell


@pytest.fixture
def wasl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="session")
def template_gateway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway with two agencies, made once: keys and hashes take their time."""
    home = tmp_path_factory.mktemp("gateway") / "gw"
    csv = home.parent / "two.csv"
    rows = "MOF,المالية,Finance,mof.example\nMOH,الصحة,Health,moh.example\n"
    csv.write_text(f"code,name_ar,name_en,domain\n{rows}", "utf-8")
    words = [sys.executable, "-m", "gateway.cli", "init", str(home), "--hostname", "wasl.example", "--json"]
    words += ["--agencies", str(csv), "--next-hop-template", "smtp://mail.{domain}:25"]
    made = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    (home / "made.json").write_text(made.stdout)
    return home


@pytest.fixture
def home(template_gateway: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that gateway, in which the command runs."""
    shutil.copytree(template_gateway, tmp_path / "gw")
    monkeypatch.chdir(tmp_path / "gw")
    return tmp_path / "gw"
