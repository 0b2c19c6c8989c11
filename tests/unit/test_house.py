"""Guards of the house: who may import whom, what stays out, and how big a file may grow.

The rules are those of docs/decisions.md. A guard that no longer fits is changed there first, not here.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ["tracker", "policies", "dashboard", "gateway"]  # each imports only what stands before it
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
ONLY_IN = {
    "sqlalchemy": "tracker",
    "alembic": "tracker",
    "aiosmtpd": "gateway",
    "aiosmtplib": "gateway",
    "aioimaplib": "gateway",
    "dkim": "gateway",
    "smtplib": "gateway",
    "imaplib": "gateway",
}
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|manager|common|base|misc|tools|stuff)(_|$)")
# Only these may start the dashboard; nothing else in gateway/ knows it.
STARTERS = (
    "gateway/cli.py",
    "gateway/serve.py",
    "gateway/web.py",
    "gateway/web_policy.py",
    "gateway/commands/",
)
# One file so that a receiver can run it alone, without the house it came from.
STANDS_ALONE = {"tracker/verify.py"}
TOO_LONG = 600  # lines; past about 400 look for the second noun, past this a test asks for it


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules a file imports, absolute, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            inside = ".".join(path.relative_to(ROOT).parent.parts) if node.level else ""
            yield f"{inside}.{node.module or ''}".strip("."), node.lineno


def test_there_is_something_to_guard() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FOLDERS)


def none(complaints: list[str]) -> None:
    """All complaints at once, one a line."""
    assert not complaints, "\n" + "\n".join(complaints)


def test_a_folder_imports_only_what_stands_before_it() -> None:
    complaints = []
    for path in SOURCES:
        own = path.relative_to(ROOT).parts[0]
        allowed = FOLDERS[: FOLDERS.index(own) + 1]
        for module, line in imports(path):
            top = module.partition(".")[0]
            where = f"{name(path)}:{line}: imports {module}"
            if (top in FOLDERS and top not in allowed) or top in ("tests", "bench", "demo"):
                complaints.append(where)
            if ONLY_IN.get(top, own) != own:
                complaints.append(f"{where}, which belongs in {ONLY_IN[top]}/")
            if (own, top) == ("gateway", "dashboard") and not name(path).startswith(STARTERS):
                complaints.append(f"{where}; only {', '.join(STARTERS)} may")
    none(complaints)


def test_the_record_is_plain() -> None:
    complaints = []
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] not in ("tracker", "policies"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                complaints.append(f"{name(path)}:{node.lineno}: async below the wire")
        if any(module.partition(".")[0] == "asyncio" for module, _ in imports(path)):
            complaints.append(f"{name(path)}: imports asyncio")
    none(complaints)


def test_a_file_says_what_it_is_for_and_stays_one_noun() -> None:
    complaints = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if FORBIDDEN_NAMES.search(path.stem):
            complaints.append(f"{name(path)}: name it after what it holds")
        if tree.body and not ast.get_docstring(tree):
            complaints.append(f"{name(path)}: no docstring")
        if (lines := text.count("\n")) > TOO_LONG and name(path) not in STANDS_ALONE:
            complaints.append(f"{name(path)} has {lines} lines: which are its two nouns?")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if (lines := path.read_text(encoding="utf-8").count("\n")) > TOO_LONG:
            complaints.append(f"{name(path)} has {lines} lines: which are its two nouns?")
    none(complaints)


def test_nothing_is_left_for_later_and_nothing_is_only_for_tests() -> None:
    left = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    flag = re.compile(r"\bPYTEST_|\bsys\.modules\b.*pytest|\bTESTING\b")
    none(
        [
            f"{name(path)}:{number}: {line.strip()}"
            for path in SOURCES
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if left.search(line) or flag.search(line)
        ]
    )


def test_no_test_is_skipped() -> None:
    skips = re.compile(r"pytest\.(skip|importorskip|xfail)\b|mark\.(skip|skipif|xfail)\b")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if path != Path(__file__):
                assert not skips.search(line), f"{name(path)}:{number}"


def test_the_wire_is_not_mocked() -> None:
    """No stand-in for what can be run: servers are real, or scripted ones that speak the protocol."""
    mocked = re.compile(
        r"patch\(.{0,40}(smtplib|aiosmtpd|aioimaplib|asyncio\.open_connection)|MagicMock|AsyncMock"
    )
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__):
            assert not mocked.search(path.read_text(encoding="utf-8")), name(path)


def test_the_lock_file_names_no_place_to_download_from() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|--index-url|--find-links| @ ", text)
    pins = re.findall(r"^([A-Za-z0-9._-]+)==[^ ;\\]+(?: ; [^\\]+)? \\$", text, re.M)
    assert len(pins) > 50
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text) if "==" in block)


def test_the_lock_file_holds_every_dependency() -> None:
    import tomllib

    def plain(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pinned = {plain(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line}
    assert {plain(requirement) for requirement in wanted} <= pinned, "run `make lock`"


def test_scripts_are_run_by_the_plain_shell() -> None:
    for path in (".ci/run", "deploy/setup.sh"):
        assert (ROOT / path).stat().st_mode & 0o111, f"{path} is not executable"
        assert (ROOT / path).read_text().startswith("#!/bin/sh\n")
        subprocess.run(["sh", "-n", ROOT / path], check=True)
