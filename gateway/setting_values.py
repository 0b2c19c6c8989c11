"""The kinds of value that settings are made of: durations, sizes, listening addresses, paths.

Each is read once, here, into a type; what cannot be read raises ValueError with words for the
person who edits the file. Paths are relative to the settings file (``base`` in the validation
context).
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from policies.agency_entry import domain_name, host_name

_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SIZE = re.compile(r"(\d{1,12})\s*(B|KB|KIB|MB|MIB|GB|GIB)?", re.IGNORECASE)
_UNITS = {"B": 1, "KB": 1000, "KIB": 1024, "MB": 1000**2, "MIB": 1024**2, "GB": 1000**3, "GIB": 1024**3}
MAX_DURATION = timedelta(days=3660)


def duration(value: object) -> timedelta:
    """``"90s"``, ``"1h30m"``, ``"5d"``, or a whole number of seconds."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_DURATION.total_seconds():
        return timedelta(seconds=value)
    if isinstance(value, str) and value and len(value) < 30:
        match = _DURATION.fullmatch(value.replace(" ", ""))
        if match is not None and any(match.groups()):
            w, d, h, m, s = (int(g or 0) for g in match.groups())
            seconds = ((w * 7 + d) * 24 + h) * 3600 + m * 60 + s
            if seconds <= MAX_DURATION.total_seconds():
                return timedelta(seconds=seconds)
    raise ValueError('is no duration such as "90s", "15m", "4h" or "5d"')


def duration_text(value: timedelta) -> str:
    """The reverse of :func:`duration`, as short as it goes."""
    seconds, out = int(value.total_seconds()), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size:
            out += f"{seconds // size}{unit}"
            seconds %= size
    return out or "0s"


def octets(value: object) -> int:
    """``"50 MB"`` (decimal), ``"64 MiB"``, or a whole number of octets."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50:
        return value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is not None:
            return int(match[1]) * _UNITS[(match[2] or "B").upper()]
    raise ValueError('is no size such as "50 MB"')


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a TCP port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(value: object) -> Endpoint:
    """``"0.0.0.0:25"``, ``"[::1]:2525"`` or ``"localhost:8025"``; port 0 takes any free one."""
    if isinstance(value, Endpoint):
        return value
    if isinstance(value, str):
        host, colon, port = value.strip().rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if (
            colon
            and port.isascii()
            and port.isdigit()
            and int(port) <= 65535
            and ("]" in host or ":" not in host)
        ):
            try:
                return Endpoint(str(ipaddress.ip_address(bare)), int(port))
            except ValueError:
                return Endpoint(host_name(bare), int(port))
    raise ValueError('is no address such as "0.0.0.0:25" or "[::]:25"')


def name_server(value: object) -> Endpoint:
    """``"10.0.0.53"``, or with another port than 53 ``"10.0.0.53:5353"``; an IP address either way."""
    if isinstance(value, Endpoint):
        return value
    text = str(value).strip()
    try:
        return Endpoint(str(ipaddress.ip_address(text.strip("[]"))), 53)
    except ValueError:
        pass
    try:
        found = endpoint(text)
        ipaddress.ip_address(found.host)
        return found
    except ValueError:
        raise ValueError('is no name server such as "10.0.0.53" or "10.0.0.53:5353"') from None


def zone(value: str) -> str:
    """A time zone of the IANA database."""
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, KeyError):  # an unknown zone is a KeyError
        raise ValueError(f"{value!r} is no time zone such as Asia/Amman") from None
    return value


def located(path: Path, info: ValidationInfo) -> Path:
    """Relative to the settings file."""
    base = (info.context or {}).get("base", Path())
    if "\0" in str(path):
        raise ValueError("is no path")
    return Path(base, path).absolute()


def web_url(value: str) -> str:
    """An absolute http or https URL without a trailing slash."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(?:/[^\s?#]*)?", value):
        raise ValueError("is no URL such as https://wasl.gov.example")
    return value.rstrip("/")


def number_shape(value: str) -> str:
    """A pattern of letter numbers; tried out, so that no letter meets a bad one."""
    allowed = re.fullmatch(r"(?:[A-Za-z0-9/_.\- ]|\{agency\}|\{year\}|\{seq(?::0?\d{1,2}d)?\})+", value)
    if not allowed or "{seq" not in value or "{year}" not in value or "{agency}" not in value:
        raise ValueError("must be made of {agency}, {year}, {seq} or {seq:06d}, and ASCII text between them")
    if re.search(r"\}\{", value):
        raise ValueError("needs a separator, such as /, between {agency}, {year} and {seq}")
    return value


def incoming_shape(value: str) -> str:
    """A pattern of incoming numbers; Arabic letters may stand between its parts."""
    allowed = re.fullmatch(
        r"(?:[A-Za-z0-9/_.\- \u0621-\u064a]|\{agency\}|\{year\}|\{seq(?::0?\d{1,2}d)?\})+", value
    )
    if not allowed or "{seq" not in value or "{year}" not in value:
        raise ValueError("must be made of {seq} or {seq:06d}, {year}, {agency}, and text between them")
    if re.search(r"\}\{", value):
        raise ValueError("needs a separator, such as /, between {seq}, {year} and {agency}")
    return value


def secret(model: Any, field: str) -> str | None:
    """The value of ``field`` or the first line of the file that ``field_file`` names.

    Raises ValueError when both are given or the file cannot be read.
    """
    value, path = getattr(model, field), getattr(model, f"{field}_file")
    if value is not None and path is not None:
        raise ValueError(f"{field} and {field}_file exclude each other")
    if path is None:
        return value  # type: ignore[no-any-return]
    try:
        text = path.read_text("utf-8").split("\n")[0].strip()
    except (OSError, ValueError) as e:
        raise ValueError(
            f"{field}_file: {path.name} cannot be read: {getattr(e, 'strerror', None) or e}"
        ) from None
    if not text:
        raise ValueError(f"{field}_file: {path.name} is empty")
    return str(text)


Duration = Annotated[timedelta, BeforeValidator(duration)]
Octets = Annotated[int, BeforeValidator(octets)]
Listening = Annotated[Endpoint, BeforeValidator(endpoint)]
NameServer = Annotated[Endpoint, BeforeValidator(name_server)]
Zone = Annotated[str, AfterValidator(zone)]
Located = Annotated[Path, AfterValidator(located)]
WebUrl = Annotated[str, AfterValidator(web_url)]
NumberShape = Annotated[str, AfterValidator(number_shape)]
IncomingShape = Annotated[str, AfterValidator(incoming_shape)]
HostName = Annotated[str, AfterValidator(host_name)]
DomainName = Annotated[str, AfterValidator(domain_name)]
