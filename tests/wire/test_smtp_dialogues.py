"""SMTP sessions as transcripts: what the server answers to each command, in order and out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.wire_desk import ENVELOPE, OPENING, house, play, run

DIALOGUES = {
    "a letter": f"""
        {OPENING}{ENVELOPE}
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: ..stuffed
        C: .
        S: 250 2.0.0 Taken 1
        C: QUIT
        S: 221 2.0.0
        X
    """,
    "pipelined in one segment": f"""
        {OPENING}
        C: MAIL FROM:<a@mof.example>
        C: RCPT TO:<b@moh.example>
        C: RCPT TO:<c@moh.example>
        C: DATA
        S: 250 2.1.0
        S: 250 2.1.5
        S: 250 2.1.5
        S: 354
        C: one
        C: .
        C: MAIL FROM:<a@mof.example>
        C: RCPT TO:<b@moh.example>
        C: DATA
        S: 250 2.0.0 Taken 1
        S: 250 2.1.0
        S: 250 2.1.5
        S: 354
        C: two
        C: .
        C: QUIT
        S: 250 2.0.0 Taken 2
        S: 221
        X
    """,
    "order": """
        S: 220
        C: MAIL FROM:<a@mof.example>
        S: 503 5.5.1
        C: HELO client.example
        S: 250 mail.example
        C: RCPT TO:<b@moh.example>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@mof.example> SIZE=1
        S: 555 5.5.4
        C: MAIL FROM:<a@mof.example>
        S: 250
        C: MAIL FROM:<a@mof.example>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: RSET
        S: 250 2.0.0
        C: RCPT TO:<b@moh.example>
        S: 503 5.5.1
        C: MAIL FROM:<a@mof.example>
        S: 250
        C: EHLO again.example
        S: 250-mail.example
        C: RCPT TO:<b@moh.example>
        S: 503 5.5.1
    """,
    "a second DATA without MAIL": f"""
        {OPENING}{ENVELOPE}
        C: DATA
        S: 354
        C: .
        S: 250
        C: DATA
        S: 503 5.5.1
    """,
    "small verbs": f"""
        {OPENING}
        C: NOOP anything
        S: 250 2.0.0
        C: noop
        S: 250 2.0.0
        C: VRFY a@mof.example
        S: 252 2.1.5
        C: VRFY
        S: 501 5.5.4
        C: EXPN list
        S: 502 5.5.1
        C: HELP
        S: 214 2.0.0 Commands: AUTH BDAT DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY
        C: HELP mail
        S: 214 2.0.0 Syntax: MAIL FROM:<address> [SP parameters]
        C: RSET now
        S: 501 5.5.4
        C: FROB
        S: 500 5.5.1
        C:
        S: 500 5.5.1
        C: STARTTLS
        S: 500 5.5.1
        C: AUTH PLAIN AGEAYg==
        S: 502 5.5.1
        C: EHLO
        S: 501 5.5.4
        C: EHLO مالية
        S: 501 5.5.4
        C> NOOP \\xff\\r\\n
        S: 500 5.5.2
        C: QUIT now
        S: 221
        X
    """,
    "addresses": f"""
        {OPENING}
        C: MAIL FROM:<@x.example:a@mof.example>
        S: 553 5.1.7
        C: MAIL FROM:<علي@مالية.example>
        S: 553 5.6.7
        C: MAIL FROM:<a@mof.example>
        S: 250
        C: RCPT TO:<@x.example,@y.example:b@moh.example>
        S: 553 5.1.3
        C: RCPT TO:<علي@moh.example>
        S: 553 5.6.7
        C: RCPT TO:<b%other.example@moh.example>
        S: 250 2.1.5
        C: RCPT TO:<Postmaster>
        S: 250 2.1.5
    """,
    "unknown parameters": f"""
        {OPENING}
        C: MAIL FROM:<a@mof.example> XYZZY=1
        S: 555 5.5.4
        C: MAIL FROM:<a@mof.example> BODY=BINARYMIME
        S: 555 5.6.1
        C: MAIL FROM:<a@mof.example> REQUIRETLS
        S: 555 5.5.4
        C: MAIL FROM:<a@mof.example> SIZE=99999999999
        S: 552 5.3.4
        C: MAIL FROM:<a@mof.example>
        S: 250
        C: RCPT TO:<b@moh.example> NOTIFY=SOMETIMES
        S: 501 5.5.4
        C: RCPT TO:<b@moh.example> SIZE=1
        S: 555 5.5.4
    """,
    "refused by the desk": f"""
        {OPENING}
        C: MAIL FROM:<bad@mof.example>
        S: 550 5.7.1 Not yours
        C: RCPT TO:<b@moh.example>
        S: 503 5.5.1
        C: MAIL FROM:<a@mof.example>
        S: 250
        C: RCPT TO:<bad@moh.example>
        S: 550 5.1.1 ?? ??? ???
        C: DATA
        S: 554 5.5.1 No valid recipients
        C: RCPT TO:<b@moh.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250 2.0.0 Taken 1
    """,
    "text of a reply in UTF-8 where asked for": f"""
        {OPENING}
        C: MAIL FROM:<a@mof.example> SMTPUTF8
        S: 250
        C: RCPT TO:<bad@moh.example>
        S: 550 5.1.1 لا أحد هنا
    """,
    "BDAT": f"""
        {OPENING}{ENVELOPE}
        C> BDAT 7\\r\\nSubject
        S: 250 2.0.0 7 octets
        C> BDAT 5\\r\\n: x\\r\\nBDAT 12 LAST\\r\\n\\r\\n..\\r\\n.\\r\\nabc
        S: 250 2.0.0 5 octets
        S: 250 2.0.0 Taken 1
        C: BDAT 0 LAST
        S: 503 5.5.1
        C: NOOP
        S: 250
    """,
    "BDAT 0 LAST ends a message": f"""
        {OPENING}{ENVELOPE}
        C> BDAT 3\\r\\nabcBDAT 0 LAST\\r\\n
        S: 250
        S: 250 2.0.0 Taken 1
    """,
    "an empty BDAT message": f"""
        {OPENING}{ENVELOPE}
        C: BDAT 0 LAST
        S: 250 2.0.0 Taken 1
    """,
    "octets of a refused chunk are no commands": f"""
        {OPENING}
        C> BDAT 28 LAST\\r\\nMAIL FROM:<evil@mof.example>NOOP\\r\\n
        S: 503 5.5.1
        S: 250 2.0.0 OK
        C: MAIL FROM:<a@mof.example>
        S: 250
        C> BDAT 6 LAST\\r\\nRSET\\r\\nNOOP\\r\\n
        S: 503 5.5.1 Send RCPT
        S: 250 2.0.0 OK
    """,
    "DATA may not follow BDAT": f"""
        {OPENING}{ENVELOPE}
        C> BDAT 3\\r\\nabc
        S: 250
        C: DATA
        S: 503 5.5.1
        C: RCPT TO:<c@moh.example>
        S: 503 5.5.1
        C: RSET
        S: 250
        C: BDAT 1
        C> x
        S: 503
    """,
    "a chunk without a size": f"""
        {OPENING}{ENVELOPE}
        C> BDAT x LAST\\r\\nNOOP\\r\\n
        S: 501 5.5.4
        X
    """,
    "a negative chunk": f"""
        {OPENING}{ENVELOPE}
        C: BDAT -1
        S: 501 5.5.4
        X
    """,
    "a chunk with another word": f"""
        {OPENING}{ENVELOPE}
        C: BDAT 5 FIRST
        S: 501 5.5.4
        X
    """,
    "BDAT LAST twice": f"""
        {OPENING}{ENVELOPE}
        C> BDAT 3 LAST\\r\\nabcBDAT 3 LAST\\r\\ndefNOOP\\r\\n
        S: 250 2.0.0 Taken 1
        S: 503 5.5.1
        S: 250 2.0.0 OK
    """,
    "a chunk that promises more than it brings is not ended by what looks like commands": f"""
        {OPENING}{ENVELOPE}
        C> BDAT 24 LAST\\r\\nabc\\r\\nRSET\\r\\nMAIL FROM:<x
        C> >
        S: 250 2.0.0 Taken 1
        C: NOOP
        S: 250
    """,
    "a size that was not true": f"""
        {OPENING}
        C: MAIL FROM:<a@mof.example> SIZE=1
        S: 250
        C: RCPT TO:<b@moh.example>
        S: 250
        C: DATA
        S: 354
        C: Subject: longer than one octet
        C: .
        S: 250 2.0.0 Taken 1
    """,
    "octets that no address has": f"""
        {OPENING}
        C> MAIL FROM:<a\\x0bb@mof.example>\\r\\n
        S: 553 5.1.7
        C> MAIL FROM:<a\\x7fb@mof.example>\\r\\n
        S: 553 5.1.7
        C> MAIL FROM:<"a\\x1bb"@mof.example>\\r\\n
        S: 553 5.1.7
        C> MAIL FROM:<\\xff\\xfe@mof.example> SMTPUTF8\\r\\n
        S: 500 5.5.2
        C> MAIL FROM:<\\xd8@mof.example> SMTPUTF8\\r\\n
        S: 500 5.5.2
        C> MAIL FROM:<\\xc0\\xbc@mof.example> SMTPUTF8\\r\\n
        S: 500 5.5.2
        C> MAIL FROM:<\\xed\\xa0\\x80@mof.example> SMTPUTF8\\r\\n
        S: 500 5.5.2
        C: MAIL FROM:<a‮b@mof.example> SMTPUTF8
        S: 553 5.1.7
        C: MAIL FROM:<ab@mof.example> SMTPUTF8
        S: 553 5.1.7
        C: MAIL FROM:<a b@mof.example> SMTPUTF8
        S: 553 5.1.7
        C: MAIL FROM:<a@mof​.example> SMTPUTF8
        S: 553 5.1.7
        C: RCPT TO:<b@moh.example>
        S: 503 5.5.1
    """,
    "paths that are too long": f"""
        {OPENING}
        C: MAIL FROM:<{"a" * 65}@mof.example>
        S: 553 5.1.7
        C: MAIL FROM:<a@{"b" * 64}.example>
        S: 553 5.1.7
        C: MAIL FROM:<a@{"b." * 127}example>
        S: 553 5.1.7
        C: MAIL FROM:<{"a" * 64}@mof.example>
        S: 250 2.1.0
        C: RCPT TO:<b@moh.example>
        S: 250 2.1.5
        C: RCPT TO:<{"c" * 3000}@moh.example>
        S: 500 5.5.2
        C: RCPT TO:<c@moh.example> ORCPT=rfc822;{"c" * 3000}
        S: 500 5.5.2
        C: DATA
        S: 354
        C: .
        S: 250 2.0.0 Taken 1
    """,
    "HELO and EHLO forget the transaction": f"""
        {OPENING}{ENVELOPE}
        C: HELO again.example
        S: 250 mail.example
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@mof.example> BODY=8BITMIME
        S: 555 5.5.4
        C: EHLO again.example
        S: 250-mail.example
        C: MAIL FROM:<a@mof.example> BODY=8BITMIME
        S: 250
        C> RCPT TO:<b@moh.example>\\r\\nEHLO x.example\\r\\nDATA\\r\\n
        S: 250 2.1.5
        S: 250-mail.example
        S: 503 5.5.1
    """,
    "8-bit octets that nobody announced": f"""
        {OPENING}{ENVELOPE}
        C: DATA
        S: 354
        C: كتاب
        C: .
        S: 250 2.0.0 Taken 1
    """,
    "the end of no letter": f"""
        {OPENING}
        C: .
        S: 500 5.5.1
        C: ..
        S: 500 5.5.1
        C: NOOP
        S: 250
    """,
    "a browser": """
        S: 220
        C: POST / HTTP/1.1
        C: Host: mail.example
        C: EHLO client.example
        S: 554 5.7.0
        X
    """,
    "a header line as a command": f"""
        {OPENING}
        C: Content-Type: text/plain
        S: 554 5.7.0
        X
    """,
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            h.desk.refused = {"bad@mof.example", "bad@moh.example"}
            async with await h.call() as client:
                await play(client, DIALOGUES[name])

    run("uvloop", main())
