"""What the facts of a letter cost in processor time: ``python -m bench.facts``.

Three letters: 10 KB with one attachment, 5 MB with ten, and hostile ones. Counted are the seconds of this
process and those of the reading rooms, from the scan of the header to the facts; the clock on the wall is
shown beside them. The aims stand in docs: 1.5 ms, 60 ms, cut off within 2 s.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.forwarding import Passage
from gateway.reading import LetterReader
from gateway.reading_room import ContentReader
from policies.agency import Agency, NextHop
from policies.directory import Directory
from policies.facts import Surroundings
from tests.unit import sample_files as make
from tracker.archive import Octets
from tracker.header import Headers, scan
from tracker.model import Address, Connection, Door, Envelope, Recipient


def _agency(code: str, network: str) -> Agency:
    return Agency(
        code=code,
        name_ar=code,
        name_en=code,
        domains=(f"{code.lower()}.example",),
        next_hop=NextHop(name=code, host="127.0.0.1"),
        networks=(ipaddress.ip_network(network),),
    )


AROUND = Surroundings(
    directory=Directory([_agency("MOF", "10.1.0.0/16"), _agency("MOH", "10.2.0.0/16")]),
    domain="wasl.example",
    is_return=lambda address: False,
)
PEER = Connection(door=Door.RELAY, peer="10.1.0.1", agency="MOF")
ENVELOPE = Envelope(
    sender=Address.parse("a@mof.example"),
    recipients=(Recipient(address=Address.parse("b@moh.example")),),
)


def _files() -> list[tuple[str, bytes]]:
    """Ten files of 3.7 MB in all, of the kinds that offices send."""
    noise = os.urandom(360_000)
    table = "".join(f"<row r='{i}'><c>{i * 7919 % 1000}</c></row>" for i in range(60_000))
    return [
        ("a.docx", make.office(extra={"word/media/image1.png": noise})),
        ("b.xlsx", make.office("xl", {"xl/worksheets/sheet1.xml": table, "xl/media/image1.png": noise})),
        ("c.pptx", make.office("ppt", {"ppt/media/image1.png": noise})),
        ("d.pdf", b"%PDF-1.7\n" + noise),
        ("e.pdf", b"%PDF-1.7\n" + noise),
        ("f.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + noise),
        ("g.zip", make.zipped({f"{i}.pdf": b"%PDF-1.4\n" + noise[: i * 4000] for i in range(1, 13)})),
        ("h.doc", make.compound({"WordDocument": b"\xec\xa5" + noise})),
        ("i.txt", ("كتاب رسمي رقم " * 14_000).encode()),
        ("j.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0" + noise),
    ]


def letters() -> dict[str, bytes]:
    """The letters of the bench by their names."""
    noise = os.urandom(6_000)
    inner = make.zipped({f"{i}.txt": "some words " * 20 for i in range(2000)})
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(20_000)
    )
    plain = b"From: a@mof.example\r\nSubject: x\r\n\r\n" + b"A line of some words, and some more.\r\n" * 260
    return {
        "plain 10 KB": plain,
        "pdf 10 KB": make.letter(("a.pdf", b"%PDF-1.7\n" + noise)),
        "docx 10 KB": make.letter(("a.docx", make.office(extra={"word/media/image1.png": noise}))),
        "5 MB, 10 files": make.letter(*_files()),
        "hostile: archives": make.letter(*[(f"{i}.zip", inner) for i in range(60)]),
        "hostile: depth": b"From: a@mof.example\r\n" + deep + b"\r\nx\r\n",
    }


def _cpu(pids: tuple[int, ...]) -> float:
    """Processor seconds that rooms have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/schedstat").read_text().split()
        total += int(fields[0])
    return total / 1e9


async def measure(name: str, octets: bytes, folder: Path) -> dict[str, object]:
    """Median milliseconds of one letter: of the loop, of the rooms, on the wall."""
    with ThreadPoolExecutor(2) as executor:
        rooms = ContentReader()
        reader = LetterReader(rooms, executor, _never_before)
        if len(octets) > 262_144:
            path = folder / "letter.eml"
            path.write_bytes(octets)
            content = Octets(path=path, size=len(octets))
        else:
            content = Octets.of(octets)
        here, there, wall = [], [], []
        rounds = 3 if name.startswith("hostile") else 15 if len(octets) > 1 << 20 else 200
        reading = None
        for round_ in range(rounds + 1):
            before, began, clock = _cpu(rooms.pids), time.thread_time(), time.perf_counter()
            reading = await reader.read(PEER, ENVELOPE, content, scan(content.view()), AROUND)
            if round_:  # the first one starts the room
                here.append(time.thread_time() - began)
                there.append(max(0.0, _cpu(rooms.pids) - before))
                wall.append(time.perf_counter() - clock)
        await rooms.close()
    assert reading is not None
    facts = reading.facts
    return {
        "letter": name,
        "octets": len(octets),
        "attachments": len(facts.attachments),
        "loop_ms": round(statistics.median(here) * 1e3, 3),
        "rooms_ms": round(statistics.median(there) * 1e3, 3),
        "wall_ms": round(statistics.median(wall) * 1e3, 3),
        "undecidable": list(facts.undecidable),
    }


def _never_before(headers: Headers, envelope: Envelope) -> Passage:
    return Passage()


def main() -> None:
    """One line of JSON for each letter."""
    with tempfile.TemporaryDirectory() as folder:
        for name, octets in letters().items():
            print(json.dumps(asyncio.run(measure(name, octets, Path(folder))), ensure_ascii=False))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
