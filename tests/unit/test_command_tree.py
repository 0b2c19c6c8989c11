"""Every command of ``wasl``, by walking the tree: that it takes ``--config``, and that shells complete it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.commands import app
from tests.unit.shell import Shell

WRITES_SETTINGS = ("init", "restore")
ALSO_NEEDED: dict[tuple[str, ...], list[str]] = {("hold", "refuse"): ["--note", "why"]}


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of each command that does something, and the command."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from commands(one, (*path, name))


TREE = dict(commands())


def needed(command: Any) -> list[str]:
    """Words for all that the command cannot do without."""
    words = []
    for param in command.params:
        if param.required:
            words += ["1"] if param.param_type_name == "argument" else [param.opts[0], "1"]
    return words


def test_the_tree_was_walked() -> None:
    assert {("init",), ("queue", "list"), ("agency", "password"), ("policy", "schema")} <= set(TREE)
    assert len(TREE) > 50


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_takes_config(path: tuple[str, ...]) -> None:
    (option,) = [param for param in TREE[path].params if "--config" in param.opts]
    assert "-c" in option.opts and option.metavar == "FILE" and "ettings" in option.help


def test_what_config_names_is_read_by_every_command(wasl: Shell, tmp_path: Path) -> None:
    """Whether it needs them or not: settings with a fault are told, with the file, and nothing is done."""
    file = tmp_path / "broken.toml"
    file.write_text("[gateway]\nhostnam = 1\n")
    for path, command in TREE.items():
        if path[0] in WRITES_SETTINGS:
            continue
        said = wasl(*path, *needed(command), *ALSO_NEEDED.get(path, []), "--config", file)
        assert said.status == 1, (path, said)
        assert f"{file}:2: gateway.hostnam: unknown key" in said.err + said.out, (path, said)


def test_a_broken_file_of_the_environment_disturbs_only_what_reads_it(
    wasl: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WASL_CONFIG", str(tmp_path / "nowhere.toml"))
    (tmp_path / "a.eml").write_bytes(b"From: a@b.example\r\n\r\nx")
    assert wasl("inspect", tmp_path / "a.eml").status == 0
    assert wasl("policy", "schema", "rules").status == 0
    said = wasl("queue", "list")
    assert said.status == 1 and "nowhere.toml: cannot be read: No such file" in said.err


# Completion, asked for as each shell's own script asks (`wasl --show-completion` prints it).


def ask(wasl: Shell, monkeypatch: pytest.MonkeyPatch, shell: str, line: str) -> list[str]:
    """The words offered at the end of a command line."""
    if shell == "bash":
        # "${COMP_WORDS[*]}" joins by the IFS of the script, the word under the cursor may be empty.
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        if shell == "fish":
            monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_WASL_COMPLETE", f"complete_{shell}")
    said = wasl()
    assert not said.err
    if shell == "zsh":  # _arguments '*: :(("queue":"The queue…" …))'
        return [part.split('"')[1] for part in said.out.splitlines() if part.count('"') >= 2]
    return [offered.partition("\t")[0] for offered in said.out.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(wasl: Shell, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    assert ask(wasl, monkeypatch, shell, "wasl qu") == ["queue"]
    assert ask(wasl, monkeypatch, shell, "wasl queue ") == [
        "list",
        "show",
        "retry",
        "hold",
        "release",
        "cancel",
        "requeue",
    ]
    assert ask(wasl, monkeypatch, shell, "wasl queue list --st") == ["--state"]
    assert ask(wasl, monkeypatch, shell, "wasl queue list --limit 5 --a") == ["--agency"]
    assert "--config" in ask(wasl, monkeypatch, shell, "wasl verify --")


def test_bash_completes_by_the_script_that_is_installed() -> None:
    """The real shell, with the script that `wasl --show-completion bash` prints."""
    script = """eval "$(_WASL_COMPLETE=source_bash wasl)"; COMP_WORDS=(wasl qu); COMP_CWORD=1
        _wasl_completion wasl; echo "${COMPREPLY[@]}"; complete -p wasl"""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "queue\ncomplete -o default -F _wasl_completion wasl\n", done
