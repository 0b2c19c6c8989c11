"""What two DKIM signatures cost: `python -m bench.sign [--json]`.

For prose and for base64 (what large letters are made of), 10 KB and 200 KB. ``held`` is the time during
which no other Python thread can run: all of it but the RSA operation and the hashing, which release the
interpreter's lock. ``dkimpy`` is the same two signatures made by dkimpy, RSA by ``cryptography``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import time
from collections.abc import Callable

import dkim
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.sign import SigningKey, body_hash, signatures

HEAD = b"".join(
    b"%b: %b\r\n" % (name, b"value of some length, folded\r\n once for the exercise")
    for name in (
        b"Received X-One X-Two From To Cc Subject Date Message-ID In-Reply-To References MIME-Version "
        b"Content-Type Content-Transfer-Encoding Wasl-Letter Wasl-Urgency Wasl-Verify Reply-To"
    ).split()
) + b"\r\n"  # fmt: skip


def bodies(size: int) -> dict[str, bytes]:
    prose = b"The ministry has the honour to send the enclosed letter for action by the due date.\r\n"
    coded = base64.encodebytes(os.urandom(size)).replace(b"\n", b"\r\n")
    return {
        "prose": (prose * (size // len(prose) + 1))[: size - 2] + b"\r\n",
        "base64": coded[: size - 2] + b"\r\n",
    }


def cost(work: Callable[[], object], seconds: float = 1.0) -> float:
    """CPU milliseconds of one call, the least of five rounds."""
    work()
    rounds = []
    for _ in range(5):
        start, count = time.process_time(), 0
        while time.process_time() - start < seconds / 5:
            work()
            count += 1
        rounds.append((time.process_time() - start) / count * 1000)
    return min(rounds)


def with_dkimpy(message: bytes, rsa_key: rsa.RSAPrivateKey, ed_key: Ed25519PrivateKey) -> None:
    pem = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    seed = base64.b64encode(ed_key.private_bytes_raw())
    for algorithm, private in ((b"rsa-sha256", pem), (b"ed25519-sha256", seed)):
        dkim.sign(
            message,
            b"s",
            b"mof.example",
            private,
            canonicalize=(b"relaxed", b"relaxed"),
            signature_algorithm=algorithm,
        )


def measure() -> dict[str, dict[str, float]]:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ed_key = Ed25519PrivateKey.generate()
    pair = [
        SigningKey.of(rsa_key, domain="mof.example", selector="s-rsa"),
        SigningKey.of(ed_key, domain="mof.example", selector="s-ed"),
    ]
    digest = bytes(32)
    pkcs, prehashed = padding.PKCS1v15(), Prehashed(hashes.SHA256())
    dkim.RSASSA_PKCS1_v1_5_sign = lambda h, _: rsa_key.sign(h.digest(), pkcs, prehashed)  # type: ignore[attr-defined]
    rsa_ms = cost(lambda: pair[0].sign(digest))
    table: dict[str, dict[str, float]] = {}
    for size in (10_000, 200_000):
        for name, body in bodies(size).items():
            message = HEAD + body
            at = len(HEAD)
            both = cost(
                lambda m=message, a=at: signatures(HEAD, body_hash(m, a), pair, at_us=1_700_000_000_000_000)  # type: ignore[misc]
            )
            table[f"{name} {size // 1000} KB"] = {
                "both": both,
                "body_hash": cost(lambda m=message, a=at: body_hash(m, a)),  # type: ignore[misc]
                "held": both - rsa_ms - cost(lambda b=body: hashlib.sha256(b).digest()),  # type: ignore[misc]
                "dkimpy": cost(lambda m=message: with_dkimpy(m, rsa_key, ed_key)),  # type: ignore[misc]
            }
    table["one RSA-2048 operation"] = {"both": rsa_ms}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    table = measure()
    if asked.json:
        print(json.dumps({name: {k: round(v, 4) for k, v in row.items()} for name, row in table.items()}))
        return
    print(f"{'CPU milliseconds a letter':24}{'both':>9}{'body hash':>11}{'held':>9}{'dkimpy':>9}")
    for name, row in table.items():
        cells = [f"{row[k]:.3f}" if k in row else "" for k in ("both", "body_hash", "held", "dkimpy")]
        print(f"{name:24}{cells[0]:>9}{cells[1]:>11}{cells[2]:>9}{cells[3]:>9}")


if __name__ == "__main__":
    main()
