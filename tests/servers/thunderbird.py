"""Thunderbird, driven once to answer a letter: how tests/messages/mdn-thunderbird.eml was made.

    python -m tests.servers.thunderbird OUT.eml

Needs ``thunderbird`` and ``xvfb-run``, which the tests do not, and the right to write into Thunderbird's
own folder while it runs: its AutoConfig script there opens the letter, as a click would. The letter lies in
Dovecot and asks for a receipt as Wasl's copies do; the profile answers such requests by itself; what it sends
comes to a sink. Raises ServerFailed when nothing came.
"""

from __future__ import annotations

import imaplib
import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.servers.dovecot import dovecot
from tests.servers.place import Child, Place
from tests.servers.sink import Received, smtp_sink

READER = "diwan@moh.gov.example"
PASSWORD = "secret"
BACK = "wasl-aeadsmbqgaydambqgaydambqgaydambqgayda@wasl.gov.example"  # of the form of a return address
LETTER = f"""\
Return-Path: <{BACK}>
Wasl-Letter: MOF/2026/000123
Disposition-Notification-To: {BACK}
From: Diwan of Finance <diwan@mof.gov.example>
To: {READER}
Subject: [MOF/2026/000123] =?utf-8?B?2YPYqtin2Kg=?=
Date: Sun, 22 Nov 2026 10:00:00 +0300
Message-ID: <q1-budget.1@mof.gov.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

السلام عليكم،
"""

# AutoConfig runs this at the start, in the program itself: wait for the mailbox, show its message.
_SCRIPT = """\
// the first line is not read
try {
  const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
  const sleep = ms => new Promise(done => setTimeout(done, ms));
  const show = async () => {
    const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const { MailUtils } = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
    await sleep(3000);
    const server = MailServices.accounts.getAccount("account1").incomingServer;
    const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
    login.init("imap://127.0.0.1", null, "imap://127.0.0.1", "%(reader)s", "%(password)s", "", "");
    await Services.logins.addLoginAsync(login);
    server.password = "%(password)s";
    const inbox = () => server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
    while (!inbox()) { try { server.performExpand(null); } catch {} await sleep(500); }
    inbox().getNewMessages(null, null);
    let found = null;
    while (!found) {
      await sleep(500);
      try { for (const message of inbox().messages) found = message; } catch {}
    }
    for (let i = 0; i < 5 && !(found.flags & Ci.nsMsgMessageFlags.MDNReportSent); i++) {
      MailUtils.openMessageInNewWindow(found);  // at the start a window may be lost
      await sleep(15000);
    }
  };
  globalThis.waslShow = show;  // or it may be collected before its time
  setTimeout(() => globalThis.waslShow(), 12000);
} catch (error) { pref("wasl.error", String(error)); }
"""
_AUTOCONFIG = """\
// the first line is not read
pref("general.config.filename", "wasl-test.cfg");
pref("general.config.obscure_value", 0);
pref("general.config.sandbox_enabled", false);
"""


def _preferences(imap: int, smtp: int) -> str:
    values: dict[str, object] = {
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        "mail.server.server1.type": "imap",
        "mail.server.server1.hostname": "127.0.0.1",
        "mail.server.server1.port": imap,
        "mail.server.server1.userName": READER,
        "mail.server.server1.name": READER,
        "mail.server.server1.socketType": 0,
        "mail.server.server1.authMethod": 3,
        "mail.server.server1.login_at_startup": False,
        "mail.server.server1.check_new_mail": False,
        "mail.password_protect_local_cache": False,
        "mail.server.server2.type": "none",
        "mail.server.server2.hostname": "Local Folders",
        "mail.server.server2.name": "Local Folders",
        "mail.server.server2.userName": "nobody",
        "mail.identity.id1.fullName": "Diwan of Health",
        "mail.identity.id1.useremail": READER,
        "mail.identity.id1.smtpServer": "smtp1",
        "mail.identity.id1.valid": True,
        "mail.smtpservers": "smtp1",
        "mail.smtp.defaultserver": "smtp1",
        "mail.smtpserver.smtp1.hostname": "127.0.0.1",
        "mail.smtpserver.smtp1.port": smtp,
        "mail.smtpserver.smtp1.try_ssl": 0,
        "mail.smtpserver.smtp1.authMethod": 1,
        "mail.smtpserver.smtp1.username": "",
        # Receipts: 0 never, 1 always, 2 ask.
        "mail.server.default.mdn_report_enabled": True,
        "mail.mdn.report.enabled": True,
        "mail.mdn.report.not_in_to_cc": 1,
        "mail.mdn.report.outside_domain": 1,
        "mail.mdn.report.other": 1,
        # Nothing leaves this machine, and no dialogue stands in the way.
        "mail.provider.suppress_dialog_on_startup": True,
        "mail.rights.version": 1,
        "mail.shell.checkDefaultClient": False,
        "mail.inappnotifications.enabled": False,
        "mailnews.start_page.enabled": False,
        "network.proxy.type": 0,
        "app.update.enabled": False,
        "extensions.update.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    }
    return "".join(f'user_pref("{name}", {json.dumps(value)});\n' for name, value in values.items())


def receipt(home: Path, program: Path = Path("/usr/lib/thunderbird")) -> Received:
    """The receipt that Thunderbird sends for :data:`LETTER`; ``home`` is a folder for its profile."""
    with dovecot(mailboxes={READER: PASSWORD}) as server, smtp_sink() as sink, ExitStack() as stack:
        client = imaplib.IMAP4(server.host, server.imap_port)
        client.login(READER, PASSWORD)
        client.append("INBOX", "", "", LETTER.replace("\n", "\r\n").encode())
        client.logout()
        for path, text in (
            (program / "defaults/pref/wasl-test.js", _AUTOCONFIG),
            (program / "wasl-test.cfg", _SCRIPT % {"reader": READER, "password": PASSWORD}),
        ):
            path.write_text(text, "utf-8")
            stack.callback(path.unlink)
        profile = home / "profile"
        profile.mkdir(parents=True)
        (profile / "user.js").write_text(_preferences(server.imap_port, sink.port), "utf-8")
        command: list[str | Path] = ["xvfb-run", "-a", "thunderbird", "--no-remote", "--profile", profile]
        environment = os.environ | {"HOME": str(home), "MOZ_CRASHREPORTER_DISABLE": "1"}
        with Child(command, log=home / "thunderbird.log", env=environment):
            return sink.wait(1, timeout=120)[0]


def main() -> int:
    """Write the receipt to the file named; exit status 0."""
    with Place("tb") as place:
        home = Path(place.path) / "home"
        shutil.rmtree(home, ignore_errors=True)
        found = receipt(home)
    print(found.sender.decode(), *[to.decode() for to in found.recipients])
    Path(sys.argv[1]).write_bytes(found.octets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
