"""The systemd unit in deploy/: directives that exist, commands and options that exist, and the hardening.

systemd ignores a directive that it does not know, and with it what was meant to protect. Where
systemd-analyze is installed it judges as well; this file needs none of it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from gateway.commands import app
from gateway.settings_file import read_settings
from tests.unit.shell import ROOT

UNIT = ROOT / "deploy" / "wasl.service"
# systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5): those that a unit of ours may have.
KNOWN = {
    "Unit": "Description Documentation After Wants StartLimitIntervalSec",
    "Service": """Type NotifyAccess User Group ExecStartPre ExecStart ExecReload Environment Restart
        RestartSec TimeoutStopSec TimeoutStartSec KillMode LimitNOFILE LimitCORE StateDirectory
        StateDirectoryMode UMask
        AmbientCapabilities CapabilityBoundingSet NoNewPrivileges ProtectSystem ProtectHome PrivateTmp
        PrivateDevices ProtectClock ProtectControlGroups ProtectHostname ProtectKernelLogs
        ProtectKernelModules ProtectKernelTunables ProtectProc RemoveIPC RestrictAddressFamilies
        RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute
        SystemCallArchitectures SystemCallFilter SystemCallErrorNumber""",
    "Install": "WantedBy",
}
HARDENED = {
    "User": "wasl",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictSUIDSGID": "yes",
    "MemoryDenyWriteExecute": "yes",
    "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
    "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "LimitCORE": "0",
}


def directives() -> dict[str, dict[str, list[str]]]:
    """Section to directive to values, in order."""
    out: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in UNIT.read_text("utf-8").splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
            out[section] = {}
            continue
        match = re.fullmatch(r"(\w+)=(\S.*)", line)
        assert match, line
        out[section].setdefault(match[1], []).append(match[2])
    return out


def test_systemd_knows_every_directive() -> None:
    found = directives()
    assert list(found) == list(KNOWN)
    for section, known in KNOWN.items():
        assert set(found[section]) <= set(known.split()), section


def test_what_it_runs_is_there() -> None:
    """Commands and their options, and the same program and settings in all of them."""
    service = directives()["Service"]
    for line in (*service["ExecStartPre"], *service["ExecStart"]):
        program, *words = shlex.split(line.lstrip("-"))
        assert program == "/opt/wasl/.venv/bin/wasl"
        command: Any = typer.main.get_command(app)
        command = command.commands[words.pop(0)]
        command.make_context(command.name, list(words))  # raises for an option that is none
        assert words[-2:] == ["--config", "/etc/wasl/wasl.toml"]
    assert service["ExecStartPre"][0].startswith("-"), "a fault that check finds does not keep mail down"
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_it_is_hardened_and_may_stop_in_peace(home: Path) -> None:
    service = directives()["Service"]
    for key, value in HARDENED.items():
        assert service[key] == [value], key
    assert service["SystemCallFilter"][0] == "@system-service"
    grace = read_settings(home / "wasl.toml", {}).limits.stop_grace.total_seconds()
    assert int(service["TimeoutStopSec"][0]) > grace


def test_systemd_itself_has_nothing_to_say(tmp_path: Path) -> None:
    judge = shutil.which("systemd-analyze")
    if judge is None:
        return  # said above as far as it goes
    unit = tmp_path / UNIT.name
    here = str(Path(sys.executable).with_name("wasl"))
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/wasl/.venv/bin/wasl", here), "utf-8")
    said = subprocess.run([judge, "verify", unit], capture_output=True, text=True)
    ours = [line for line in said.stderr.splitlines() if UNIT.name in line]
    assert not ours, ours
