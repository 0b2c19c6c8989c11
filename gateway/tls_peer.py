"""What a TLS handshake settled, as :class:`~tracker.model.TlsInfo` (RFC 8446; names after RFC 6125).

Names are given only for a certificate that the context verified: its subjectAltName entries of type DNS,
e-mail and IP address, or the common name of a certificate that has none.
"""

from __future__ import annotations

import ssl
from typing import Any

from tracker.model import TlsInfo

_KINDS = ("DNS", "email", "IP Address")


def tls_info(layer: ssl.SSLObject | ssl.SSLSocket) -> TlsInfo:
    """Read version, cipher and the peer's verified names from a finished handshake."""
    cipher = layer.cipher()
    # An empty dict is a certificate that nobody checked; None is no certificate.
    certificate = layer.getpeercert() or {}
    return TlsInfo(
        version=layer.version() or "",
        cipher=cipher[0] if cipher else "",
        peer_names=_names(certificate),
        verified=bool(certificate) and layer.context.verify_mode is not ssl.CERT_NONE,
    )


def _names(certificate: dict[str, Any]) -> tuple[str, ...]:
    alternative = certificate.get("subjectAltName", ())
    names = tuple(value for kind, value in alternative if kind in _KINDS)
    if names:
        return names
    return tuple(
        value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"
    )
