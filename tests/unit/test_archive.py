"""The archive and its spool: what is durable, in which order, and what is left when the disk says no."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.archive import (
    Archive,
    ArchiveConflict,
    ArchiveError,
    ArchiveFull,
    ArchiveMissing,
    Octets,
    key_for,
)
from tracker.model import id_text

AT = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "tests" / "unit" / "failing_calls.c"


def octets_of(archive: Archive, data: bytes, piece: int = 7000) -> Octets:
    spool = archive.spool()
    for at in range(0, len(data), piece):
        spool.write(data[at : at + piece])
    return spool.finish()


def open_descriptors() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def files_below(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and p.name != "lock")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", memory_limit=64_000)


def test_key_is_the_utc_hour_and_the_id() -> None:
    number = 887_000_000_000_000_001
    assert key_for(number, AT) == f"2026/0921/14/{id_text(number)}.eml"
    assert Archive.key_for(number, AT) == key_for(number, AT)


@pytest.mark.parametrize("size", [0, 1, 10_240, 64_000, 64_001, 300_000])
def test_what_is_stored_is_what_is_read(archive: Archive, size: int) -> None:
    data = random.Random(size).randbytes(size)
    octets = octets_of(archive, data)
    assert (octets.size, octets.sha256) == (size, hashlib.sha256(data).digest())
    assert (octets.memory is None) == (size > 64_000)
    assert isinstance(octets.view(), bytes if size <= 64_000 else mmap.mmap)
    key = key_for(size, AT)
    archive.store([(key, octets)])
    assert bytes(octets.view()[:]) == data  # still readable after it moved
    octets.close()
    found = archive.open(key)
    assert b"".join(found.chunks(1000)) == data
    assert (found.size, found.sha256) == (size, octets.sha256)
    found.discard()  # of an archived object: closes, removes nothing
    assert list(archive.keys()) == [key]
    assert files_below(archive.root) == [key]


@given(st.lists(st.binary(max_size=3000), max_size=20), st.integers(0, 9000))
@settings(max_examples=25, deadline=None)
def test_spool_keeps_every_octet_however_they_come(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int
) -> None:
    with Archive(tmp_path_factory.mktemp("a"), memory_limit=limit) as archive:
        spool = archive.spool()
        for number, piece in enumerate(pieces):
            spool.write(memoryview(piece) if number % 2 else bytearray(piece))
        data = b"".join(pieces)
        assert spool.size == len(data)
        octets = spool.finish()
        assert (octets.memory is None) == (len(data) > limit)
        assert bytes(octets.view()[:]) == data
        assert octets.sha256 == hashlib.sha256(data).digest()
        octets.discard()
        octets.discard()
        assert files_below(archive.root) == []


def test_spooled_file_is_moved_and_never_copied(archive: Archive) -> None:
    octets = octets_of(archive, b"x" * 100_000)
    assert octets.path is not None
    inode = octets.path.stat().st_ino
    archive.store([("2026/0921/14/a.eml", octets)])
    assert octets.path == archive.root / "2026/0921/14/a.eml"
    assert octets.path.stat().st_ino == inode
    assert octets.path.stat().st_nlink == 1


def test_no_two_letters_share_an_object(archive: Archive) -> None:
    """Disposal must be able to destroy one of them."""
    octets = octets_of(archive, b"x" * 100_000)
    keys = [f"2026/0921/14/{name}.eml" for name in "abc"]
    archive.store([(keys[0], octets), (keys[1], octets)])
    archive.store([(keys[2], archive.open(keys[0]))])
    assert len({(archive.root / key).stat().st_ino for key in keys}) == 3
    assert {archive.open(key).sha256 for key in keys} == {octets.sha256}
    assert files_below(archive.root) == keys


def test_many_at_once_in_several_hours(archive: Archive) -> None:
    items = []
    for number in range(120):
        data = random.Random(number).randbytes(100 + number * 700)
        items.append((key_for(number, AT + number * 600_000_000), octets_of(archive, data)))
    archive.store(items)
    keys = sorted(key for key, _ in items)
    assert list(archive.keys()) == keys
    for at in range(len(keys)):
        assert list(archive.keys(after=keys[at])) == keys[at + 1 :]
        hour = keys[at].rpartition("/")[0]
        assert list(archive.keys(after=hour)) == [key for key in keys if key >= hour]
    for key, octets in items:
        assert archive.open(key).sha256 == octets.sha256


def test_stores_at_the_same_time_share_new_folders(archive: Archive) -> None:
    failures: list[BaseException] = []

    def work(lane: int) -> None:
        try:
            for n in range(12):
                number = lane * 1000 + n
                items = [
                    (key_for(number * 4 + i, AT + n * 3_600_000_000), Octets.of(b"%d" % i)) for i in range(4)
                ]
                archive.store(items)
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(archive.keys())) == 4 * 12 * 4


def test_objects_are_written_once(archive: Archive) -> None:
    small, large = b"first", b"first" * 20_000
    for key, data in (("2026/0101/00/s.eml", small), ("2026/0101/00/l.eml", large)):
        archive.store([(key, octets_of(archive, data))])
        archive.store([(key, octets_of(archive, data))])  # the same again is no error
        other = octets_of(archive, data[:-1] + b"!")
        with pytest.raises(ArchiveConflict) as caught:
            archive.store([("2026/0101/00/new.eml", octets_of(archive, b"new")), (key, other)])
        assert caught.value.errno == errno.EEXIST
        assert archive.open(key).sha256 == hashlib.sha256(data).digest()
        other.discard()
    assert list(archive.keys()) == ["2026/0101/00/l.eml", "2026/0101/00/s.eml"]  # nothing of the failed group


@pytest.mark.parametrize(
    "key", ["", "a.eml", "../../2026/x", "2026/0101/00/../x", "2026/0101/00/.x", "/2026/0101/00/x"]
)
def test_keys_are_checked(archive: Archive, key: str) -> None:
    with pytest.raises(ValueError, match="not an archive key"):
        archive.open(key)
    with pytest.raises(ValueError, match="not an archive key"):
        archive.store([(key, Octets.of(b""))])


def test_delete_destroys_one_object_only(archive: Archive) -> None:
    keys = ["2026/0101/00/a.eml", "2026/0101/00/b.eml"]
    archive.store([(key, Octets.of(b"same content")) for key in keys])
    archive.delete(keys[0])
    assert list(archive.keys()) == keys[1:]
    for act in (archive.delete, archive.open):
        with pytest.raises(ArchiveMissing):
            act(keys[0])


def test_a_folder_that_was_taken_away_is_an_error_once(archive: Archive) -> None:
    archive.store([("2026/0101/00/a.eml", Octets.of(b"a"))])
    shutil.rmtree(archive.root / "2026")
    with pytest.raises(ArchiveError):
        archive.store([("2026/0101/00/b.eml", Octets.of(b"b"))])
    archive.store([("2026/0101/00/b.eml", Octets.of(b"b"))])
    assert list(archive.keys()) == ["2026/0101/00/b.eml"]


def test_descriptors_do_not_pile_up(archive: Archive) -> None:
    before = len(open_descriptors())
    for hour in range(60):
        items = [
            (key_for(hour * 4 + n, AT + hour * 3_600_000_000), octets_of(archive, b"z" * 70_000))
            for n in range(4)
        ]
        archive.store(items)
        for key, octets in items:
            octets.close()
            opened = archive.open(key)
            opened.close()
    assert len(open_descriptors()) <= before + 12
    archive.close()


def test_free_bytes_before_the_first_object(tmp_path: Path) -> None:
    assert Archive(tmp_path / "not" / "there").free_bytes() > 0


# -- order of system calls ---------------------------------------------------------------------------------


def run_script(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_order_is_file_then_name_then_folder_then_return(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = """
        import os, sys
        from pathlib import Path
        from tracker.archive import Archive, Octets
        archive = Archive(Path(sys.argv[1]), memory_limit=1000)
        spool = archive.spool()
        spool.write(b"l" * 5000)
        small = "2026/0101/00/small.eml", Octets.of(b"s" * 500)
        archive.store([small, ("2026/0101/00/large.eml", spool.finish())])
        os.path.exists("/returned")
    """
    calls = "trace=openat,write,fsync,link,linkat,mkdir,stat,newfstatat,statx"
    program = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a")]
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, "-o", str(trace), *program], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 0
    lines = trace.read_text().splitlines()
    root = re.escape(str(tmp_path / "a"))

    def first(pattern: str) -> int:
        return next(n for n, line in enumerate(lines) if re.search(pattern, line))

    hour = rf"fsync\(\d+<{root}/2026/0101/00>\)\s+= 0"
    returned = first('"/returned"')
    small = [
        first(rf"write\(\d+<{root}/2026/0101/00/small.eml>"),
        first(rf"fsync\(\d+<{root}/2026/0101/00/small.eml>"),
    ]
    large = [
        first(rf"write\(\d+<{root}/spool/[^/]+/1>"),
        first(rf"fsync\(\d+<{root}/spool/[^/]+/1>"),
        first(r"link(at)?\(.*large.eml"),
    ]
    assert [*small, first(hour), returned] == sorted([*small, first(hour), returned])
    assert [*large, first(hour), returned] == sorted([*large, first(hour), returned])
    for folder in ("", "/2026", "/2026/0101"):  # the new names above, too
        assert first(rf"fsync\(\d+<{root}{folder}>\)\s+= 0") < returned


# -- a disk that says no -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def failing_calls(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that makes system calls fail: FAIL="fsync:EIO:small" fails fsync on paths with ``small``."""
    target = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(target), str(SHIM), "-ldl"], check=True)
    return str(target)


STORE_FOUR = """
    import sys
    from pathlib import Path
    from tracker.archive import Archive, ArchiveError, ArchiveFull, Octets
    archive = Archive(Path(sys.argv[1]), memory_limit=1000)
    items = [(f"2026/0101/00/{name}.eml", Octets.of(name.encode() * 100)) for name in ("ant", "bee", "cat")]
    spool = archive.spool()
    try:
        spool.write(b"l" * 5000)
        items.append(("2026/0101/00/dog.eml", spool.finish()))
        archive.store(items)
    except ArchiveFull as error:
        print("full", error.errno)
    except ArchiveError as error:
        print("error", error.errno)
    else:
        print("stored")
    print(sorted(archive.keys()))
    for _, octets in items:
        octets.discard()
    print(sorted(p.name for p in (archive.root / "spool").glob("*/*")))
"""


@pytest.mark.parametrize(
    ("fail", "answer"),
    [
        ("fsync:EIO:bee.eml", f"error {errno.EIO}"),
        ("fsync:EIO:/spool/", f"error {errno.EIO}"),
        ("fsync:EIO:/2026/0101/00$", f"error {errno.EIO}"),
        ("fsync:EIO:/2026/0101$", f"error {errno.EIO}"),
        ("fsync:ENOSPC:cat.eml", f"full {errno.ENOSPC}"),
        ("fsync:EDQUOT:ant.eml", f"full {errno.EDQUOT}"),
        ("write:ENOSPC:ant.eml", f"full {errno.ENOSPC}"),
        ("write:ENOSPC:/spool/", f"full {errno.ENOSPC}"),
        ("write:EIO:cat.eml", f"error {errno.EIO}"),
        ("open:ENOSPC:bee.eml", f"full {errno.ENOSPC}"),
        ("open:EMFILE:/spool/", f"error {errno.EMFILE}"),
        ("open:EROFS:ant.eml", f"error {errno.EROFS}"),
    ],
)
def test_a_failing_call_leaves_no_object(failing_calls: str, tmp_path: Path, fail: str, answer: str) -> None:
    done = run_script(STORE_FOUR, str(tmp_path / "a"), LD_PRELOAD=failing_calls, FAIL=fail)
    assert done.stdout.splitlines() == [answer, "[]", "[]"], done.stderr
    again = run_script(STORE_FOUR, str(tmp_path / "a"))  # the cause is gone
    assert again.stdout.splitlines()[0] == "stored", again.stderr


def test_short_writes_are_continued(failing_calls: str, tmp_path: Path) -> None:
    done = run_script(STORE_FOUR, str(tmp_path / "a"), LD_PRELOAD=failing_calls, FAIL="write:SHORT:/a/")
    assert done.stdout.splitlines()[0] == "stored", done.stderr
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "a").rglob("*.eml")}
    assert sizes == {"ant.eml": 300, "bee.eml": 300, "cat.eml": 300, "dog.eml": 5000}


def test_file_size_limit_is_an_archive_error(tmp_path: Path) -> None:
    script = """
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's own default, said for the reader
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    """
    done = run_script(textwrap.dedent(script) + textwrap.dedent(STORE_FOUR), str(tmp_path / "a"))
    assert done.stdout.splitlines() == [f"error {errno.EFBIG}", "[]", "[]"], done.stderr


def test_a_write_error_ends_the_spool(tmp_path: Path) -> None:
    """/dev/full is a device without room: the spool file is made to be it."""
    archive = Archive(tmp_path, memory_limit=10)
    spool = archive.spool()
    spool.write(b"x" * 20)
    assert spool._fd is not None
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, spool._fd)
    os.close(full)
    with pytest.raises(ArchiveFull):
        spool.write(b"y" * 20)
    assert files_below(tmp_path) == []
    spool.discard()


def test_out_of_descriptors(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "a")
    archive.store([("2026/0101/00/a.eml", Octets.of(b"a"))])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, hard))
    held: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many"):
            while True:
                held.append(os.dup(0))
        with pytest.raises(ArchiveError) as caught:
            archive.store([("2026/0101/00/b.eml", Octets.of(b"b"))])
        assert caught.value.errno == errno.EMFILE
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    archive.store([("2026/0101/00/b.eml", Octets.of(b"b"))])
    assert list(archive.keys()) == ["2026/0101/00/a.eml", "2026/0101/00/b.eml"]


# -- dead and living processes -------------------------------------------------------------------------------


def test_spool_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from tracker.archive import Archive
        archive = Archive(Path(sys.argv[1]), memory_limit=10)
        spool = archive.spool()
        spool.write(b"x" * 100)
        print("ready", flush=True)
        time.sleep(60)
    """
    living = Archive(tmp_path, memory_limit=10)
    mine = octets_of(living, b"mine" * 10)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        Archive(tmp_path)
        assert len(files_below(tmp_path)) == 2  # mine and the child's
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert len(files_below(tmp_path)) == 2
    Archive(tmp_path)
    assert len(files_below(tmp_path)) == 1
    assert bytes(mine.view()[:]) == b"mine" * 10
    mine.discard()


def test_an_unfinished_or_forgotten_spool_leaves_no_file(archive: Archive) -> None:
    spool = archive.spool()
    spool.write(b"x" * 70_000)
    spool.discard()
    spool = archive.spool()
    spool.write(b"x" * 70_000)
    del spool
    octets = octets_of(archive, b"x" * 70_000)
    del octets
    assert files_below(archive.root) == []
    archive.close()
    assert not list((archive.root / "spool").glob("*-*"))
