"""What of the settings each part of a running gateway is told, in the part's own units.

Settings are written for people (``"4h"``, sections by subject); parts take seconds, microseconds and what
concerns them alone. Pure; nothing here fails, the settings were checked whole when they were read.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from gateway.authentication import Checks
from gateway.composer import Identity
from gateway.desk import WireLimits
from gateway.intake import IntakeSettings
from gateway.next_hops import NextHops
from gateway.notices import NoticeSettings
from gateway.outgoing import Timeouts
from gateway.retry import RetrySchedule
from gateway.settings import Settings
from tracker.notice import GatewayIdentity
from tracker.receipt_due import DEFAULT_EVENTS, NAMES, ReceiptSettings, changed


def retry_schedule(settings: Settings) -> RetrySchedule:
    """When the relay tries again, warns and gives up."""
    r = settings.relay
    return RetrySchedule(
        waits=tuple(r.retry), jitter=r.jitter, warn_after=r.warn_after, give_up_after=r.give_up_after
    )


def gateway_identity(settings: Settings) -> GatewayIdentity:
    """As whom the gateway writes its own mail."""
    g = settings.gateway
    return GatewayIdentity(
        domain=g.domain,
        hostname=g.hostname,
        zone=ZoneInfo(g.zone),
        name_ar=g.title_ar,
        name_en=g.title_en,
        local="postmaster",
        verify_base=settings.verify_base,
    )


def composer_identity(settings: Settings, verify: Callable[[str], str] | None) -> Identity:
    """As whom copies are tagged and sealed; ``verify`` gives the address where a number is checked."""
    g = settings.gateway
    return Identity(
        hostname=g.hostname,
        zone=g.zone,
        domain=g.domain,
        own_keys=tuple((str(k.key_file), g.domain, k.selector) for k in settings.dkim),
        seal=settings.authentication.seal,
        verify=verify,
    )


def next_hops(settings: Settings) -> NextHops:
    """The connections to agencies' servers, none of them open yet."""
    r = settings.relay
    reply = r.reply_timeout.total_seconds()
    return NextHops(
        hostname=settings.gateway.hostname,
        times=Timeouts(
            connect=r.connect_timeout.total_seconds(),
            greeting=reply,
            hello=reply,
            mail=reply,
            final=r.data_timeout.total_seconds(),
        ),
        connections=r.connections_per_hop,
        letters=r.letters_per_connection,
        idle_s=r.idle.total_seconds(),
    )


def receipt_settings(settings: Settings) -> ReceiptSettings:
    """The events that earn a receipt."""
    r = settings.receipts
    events = changed(DEFAULT_EVENTS, ((name, getattr(r, name)) for name in NAMES))
    return ReceiptSettings(events=events, gather_above=r.digest_above)


def notice_settings(settings: Settings, code: Callable[[str], str]) -> NoticeSettings:
    """How receipts are sent; ``code`` gives the verify page's code of a letter's number."""
    return NoticeSettings(
        gateway=gateway_identity(settings),
        receipts=receipt_settings(settings),
        digest_us=int(settings.receipts.digest_after.total_seconds() * 1e6),
        code=code,
    )


def intake_settings(settings: Settings) -> IntakeSettings:
    """How letters are taken in."""
    return IntakeSettings(
        domain=settings.gateway.domain,
        number_shape=settings.numbers.shape,
        tag_subject=settings.tags.subject,
        receipts=receipt_settings(settings),
        ask_read=settings.receipts.ask_read,
        base_url=settings.base_url if settings.dashboard.enabled else "",
        keep_free=settings.archive.keep_free,
        postmaster=settings.gateway.postmaster,
    )


def checks(settings: Settings) -> Checks:
    """What is asked of the authentication of mail that comes in."""
    a = settings.authentication
    return Checks(
        spf=a.spf,
        dkim=a.dkim,
        dmarc=a.dmarc,
        arc=a.arc,
        own_domains=a.own_domains,
        signatures=a.signatures,
        timeout_s=a.timeout.total_seconds(),
    )


def wire_limits(settings: Settings) -> WireLimits:
    """What one SMTP connection may take."""
    section = settings.limits
    return WireLimits(
        size=section.message_size,
        recipients=section.recipients,
        errors=section.errors_per_connection,
        letters=section.letters_per_connection,
        letter_time=section.letter_timeout.total_seconds(),
        command_time=section.command_timeout.total_seconds(),
        data_time=section.data_timeout.total_seconds(),
        connections=section.connections,
        connections_per_address=section.connections_per_address,
        octets_in_flight=section.in_flight,
    )
