"""What is compiled of a page's template serves both languages, and is kept where Python keeps its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment, FileSystemBytecodeCache

from dashboard.compiled_templates import compiled_templates
from dashboard.visit import environment

made = compiled_templates.__wrapped__


def test_the_same_is_compiled_for_both_languages() -> None:
    arabic, english = environment("ar"), environment("en")
    assert arabic.bytecode_cache is english.bytecode_cache
    names = arabic.list_templates(extensions=["html"])
    assert names
    for name in names:
        assert arabic.loader is not None
        source, _, _ = arabic.loader.get_source(arabic, name)
        assert arabic.compile(source, name, name, raw=True) == english.compile(
            source, name, name, raw=True
        ), name


def test_a_template_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None)
    kept, compiled = made(), []

    class Counting(Environment):
        def compile(self, *what: object, **more: object) -> object:
            compiled.append(what[1])
            return super().compile(*what, **more)  # type: ignore[call-overload]

    for word in ("one", "two"):
        env = Counting(loader=DictLoader({"a.html": "{{ word }}"}), bytecode_cache=kept)
        assert env.get_template("a.html").render(word=word) == word
    assert compiled == ["a.html"]


def test_it_is_kept_beside_the_compiled_files_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "bytecode"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    kept = made()
    assert isinstance(kept, FileSystemBytecodeCache)
    assert Path(kept.directory).is_relative_to(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "file"))
    assert not isinstance(made(), FileSystemBytecodeCache), "no folder can be made there"
