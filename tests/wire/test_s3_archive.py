"""The S3 archive against a real HTTP server on loopback, and against servers that misbehave."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from tracker.archive import ArchiveConflict, ArchiveError, ArchiveFull, ArchiveMissing, Octets, key_for
from tracker.s3_archive import S3Archive

AT = 1_790_000_000_000_000


def opened(
    bucket: str,
    scratch: Path,
    endpoint: str,
    prefix: str | None = None,
    memory_limit: int = 50_000,
    patience_s: float = 20.0,
) -> S3Archive:
    return S3Archive(
        bucket,
        scratch=scratch,
        prefix=prefix,
        endpoint=endpoint,
        access_key_id="key",
        secret_access_key="secret",
        memory_limit=memory_limit,
        patience_s=patience_s,
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def archive(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[S3Archive]:
    bucket = f"b{abs(hash(request.node.name))}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=bucket)
    with opened(bucket, tmp_path / "scratch", endpoint, prefix="wasl") as made:
        yield made


def spooled(archive: S3Archive, data: bytes) -> Octets:
    spool = archive.spool()
    for at in range(0, len(data), 9000):
        spool.write(data[at : at + 9000])
    return spool.finish()


@pytest.mark.parametrize("size", [0, 10_240, 50_001, 6_000_000])
def test_what_is_stored_is_what_is_read(archive: S3Archive, size: int) -> None:
    data = random.Random(size).randbytes(size)
    key = archive.key_for(size, AT)
    octets = spooled(archive, data)
    archive.store([(key, octets)])
    assert bytes(octets.view()[:]) == data
    octets.discard()
    found = archive.open(key)
    assert (found.memory is None) == (size > 50_000)
    assert (found.size, found.sha256) == (size, hashlib.sha256(data).digest())
    assert bytes(found.view()[:]) == data
    found.discard()
    assert not list((archive._area.root).glob("*/*"))


def test_many_at_once_and_their_order(archive: S3Archive) -> None:
    items = [(key_for(n, AT + n * 600_000_000), Octets.of(b"%d" % n * 100)) for n in range(60)]
    archive.store(items)
    keys = sorted(key for key, _ in items)
    assert list(archive.keys()) == keys
    assert list(archive.keys(after=keys[29])) == keys[30:]


def test_objects_are_written_once(archive: S3Archive) -> None:
    key = key_for(1, AT)
    archive.store([(key, Octets.of(b"first"))])
    archive.store([(key, Octets.of(b"first"))])  # the same again: an answer that was lost
    for other in (b"other", b"x" * 60_000):
        with pytest.raises(ArchiveConflict) as caught:
            archive.store([(key_for(2, AT), Octets.of(b"new")), (key, spooled(archive, other))])
        assert caught.value.errno == errno.EEXIST
    assert archive.open(key).memory == b"first"
    assert list(archive.keys()) == [key]  # nothing of the failed groups


def test_delete_and_missing(archive: S3Archive) -> None:
    keys = [key_for(n, AT) for n in (1, 2)]
    archive.store([(key, Octets.of(b"same")) for key in keys])
    archive.delete(keys[0])
    assert list(archive.keys()) == keys[1:]
    for act in (archive.open, archive.delete):
        with pytest.raises(ArchiveMissing):
            act(keys[0])
        with pytest.raises(ValueError, match="not an archive key"):
            act("../x")


def test_free_bytes_are_those_of_the_spool(archive: S3Archive) -> None:
    assert archive.free_bytes() > 0


# -- servers that misbehave --------------------------------------------------------------------------------


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[..., S3Archive]]:
    """An archive whose server answers each PUT by the next of the given statuses, the last one for ever."""
    running: list[ThreadingHTTPServer] = []
    archives: list[S3Archive] = []

    def start(*answers: tuple[int, str], patience_s: float = 2.0) -> S3Archive:
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["if-none-match"] == "*"
                status, body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("etag", '"x"')
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        url = f"http://127.0.0.1:{server.server_port}"
        archives.append(opened("b", tmp_path, url, patience_s=patience_s))
        return archives[-1]

    yield start
    for archive in archives:
        archive.close()
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_passing_fault_is_tried_again(answering: Callable[..., S3Archive]) -> None:
    answering((503, "slow down"), (500, ""), (200, "")).store([(key_for(1, AT), Octets.of(b"x"))])


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, "<Error><Code>SlowDown</Code></Error>", ArchiveError),
        (403, "<Error><Code>AccessDenied</Code></Error>", ArchiveError),
        (403, "<Error><Code>QuotaExceeded</Code></Error>", ArchiveFull),
        (507, "<Error><Code>XMinioStorageFull</Code></Error>", ArchiveFull),
    ],
)
def test_a_lasting_fault_is_an_archive_error(
    answering: Callable[..., S3Archive], status: int, body: str, kind: type[ArchiveError]
) -> None:
    with pytest.raises(ArchiveError) as caught:
        answering((status, body)).store([(key_for(1, AT), Octets.of(b"x"))])
    assert type(caught.value) is kind


def test_a_server_that_is_not_there_or_does_not_answer(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    gone = socket.create_server(("127.0.0.1", 0))
    ports = [silent.getsockname()[1], gone.getsockname()[1]]
    gone.close()
    for port in ports:
        url = f"http://127.0.0.1:{port}"
        with opened("b", tmp_path, url, patience_s=1.0) as archive:
            begun = time.monotonic()
            with pytest.raises(ArchiveError) as caught:
                archive.store([(key_for(1, AT), Octets.of(b"x"))])
            assert caught.value.errno == errno.EIO
            with pytest.raises(ArchiveError):
                archive.open(key_for(1, AT))
            with pytest.raises(ArchiveError):
                list(archive.keys())
            assert time.monotonic() - begun < 90
    silent.close()
