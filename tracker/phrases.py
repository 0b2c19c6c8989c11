"""What mail systems and absent people write, in the languages they write it in.

Patterns that :mod:`tracker.bounce` and :mod:`tracker.kind` look for in subjects and notices. They are
hints, used only beside what header fields say; a pattern that is missing here makes a notice a
letter, never an error. Each is matched without regard to case and with a bounded reach, so that a
search stays linear in the text.
"""

from __future__ import annotations

import re


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


ANSWER_OR_FORWARD = _any(r"^\s*(?:re|fwd?|aw|wg|tr|sv|vs|رد|إعادة توجيه)\s*:")

# Names and local parts under which mail systems write.
MAILER = _any(
    r"mailer[-_. ]?daemon", r"mail[-_. ]?daemon", r"mdaemon", r"postmaster", r"post_master", r"mailsystem",
    r"mail[-_.]system", r"mail[-_. ]?delivery", r"mail[-_. ]?administrator", r"system administrator",
    r"sysadmin",
    r"delivery (?:sub)?system", r"^bounces?\b", r"^mailer\b", r"^smtp(?:d32)?$", r"ndr administrator",
    r"smtp_mail_service", r"anti-?virus_for_smtp",
)  # fmt: skip

# Subjects of notices of non-delivery and of delay.
FAILURE_SUBJECT = _any(
    r"undeliver", r"non[- ]?deliver", r"not? deliver", r"delivery (?:status )?(?:notification|report)",
    r"delivery (?:has )?fail", r"fail(?:ed|ure)?[ :]*(?:notice|to deliver|delivery|mail)",
    r"failed (?:mail|message)",
    r"returned? (?:mail|message|to sender)", r"returning (?:mail|message|to sender)", r"mail returned",
    r"delivery (?:error|problem|failure|status|delay|has been delayed|notice)", r"delivery warning",
    r"bounced? (?:mail|message)", r"email bounce", r"could ?n[o']t (?:be deliver|send)",
    r"cannot (?:be )?(?:deliver|send)",
    r"unable to deliver", r"delayed mail", r"rejected (?:mail|message)",
    r"warning:? (?:could not send|message)",
    r"message (?:delivery|could not|delayed|not delivered|undeliverable)", r"error sending your mail",
    r"mail (?:system )?error", r"mail (?:could not|cannot|not delivered|delivery|fail|undeliv)",
    r"user unknown",
    r"unknown user", r"address not found", r"no such user", r"delivery incomplete", r"mail status report",
    r"processing error", r"e-?mail (?:not delivered|undeliverable|delivery)",
    # German
    r"unzustellbar", r"nicht zugestellt", r"zustellung", r"zustellfehler", r"zustellbericht",
    # French
    r"non remis", r"non distribu", r"échec", r"echec de", r"rapport de remise",
    # Spanish, Portuguese, Italian
    r"no se (?:ha )?(?:pudo|podido) entreg", r"no entregad", r"imposible entregar", r"devuelto al remitente",
    r"não (?:foi )?entreg", r"falha na entrega", r"mancata consegna", r"non recapitat",
    r"impossibile recapitar",
    # Dutch and the Nordic languages
    r"niet bezorg", r"onbestelbaar", r"ikke leveres", r"ej levere", r"olevererb", r"kan inte lever",
    r"toimittaminen epäonnistui",
    # Slavic languages, Hungarian, Turkish
    r"недостав", r"не доставл", r"невозможно достав", r"не может быть доставл", r"niedostarcz",
    r"nie dostarcz",
    r"nedoru[cč]", r"kézbesíthetetlen", r"teslim edilemedi", r"iletilemedi",
    # Japanese, Chinese, Korean
    r"配信(?:不能|エラー|でき)", r"配送エラー", r"エラー通知", r"送信エラー",
    r"無法傳遞", r"无法投递", r"退信", r"退回",
    r"傳遞失敗", r"未传递", r"전달 실패", r"배달 실패", r"반송",
    # Arabic
    r"تعذر (?:ال)?(?:تسليم|توصيل|إرسال)", r"تعذّر", r"لم يتم (?:ال)?(?:تسليم|توصيل)", r"رسالة مرتجعة",
    r"فشل (?:في )?(?:ال)?(?:تسليم|توصيل|إرسال)", r"غير قابل(?:ة)? للتسليم",
    r"إشعار (?:بعدم|عدم) (?:ال)?تسليم",
)  # fmt: skip

# What stands in the body of such a notice.
FAILURE_WORDS = _any(
    r"could ?n[o']t be delivered", r"could not deliver", r"can ?not be delivered", r"not be delivered",
    r"unable to deliver", r"undeliver(?:able|ed)", r"wasn'?t (?:able to deliver|delivered)", r"not delivered",
    r"delivery (?:to|of|has|attempt|fail|was|error|problem)[^\n]{0,60}(?:fail|error|recipient|problem)",
    r"did not reach", r"permanent(?:ly)? (?:fatal )?(?:delivery )?(?:error|fail)",
    r"fatal (?:delivery )?error",
    r"had delivery (?:problems|errors)", r"transcript of session",
    r"returned (?:to sender|message|below|because)",
    r"(?:unknown|no such|invalid) (?:user|recipient|address)", r"user unknown",
    r"mailbox (?:is )?(?:unavailable|full)",
    r"mailbox not found", r"recipients? (?:was|were|is) rejected",
    r"deliver(?:ing)? (?:a|the|your) (?:mail|message)",
    r"failed addresses", r"has not (?:yet )?been delivered", r"mail (?:system )?error", r"failure reasons",
    r"unable to send", r"trouble delivering", r"error sending", r"rejected by", r"automatically rejected",
    r"your (?:message|mail|e-mail) to [^\n]{1,200}(?:couldn't|could not|blocked|rejected|failed|bounced)",
    r"did not receive a copy", r"not a valid (?:user|address|recipient)", r"intended recipient:",
    r"nicht zugestellt", r"n['’]a pas pu être",
    r"no se (?:ha podido|pudo) entregar", r"impossibile recapitare", r"не может быть доставлено",
    r"не удалось доставить", r"配信できません", r"送信できませんでした", r"無法傳遞", r"无法投递",
    r"تعذر (?:تسليم|توصيل)", r"تعذّر", r"لم يتم (?:تسليم|توصيل)", r"فشل (?:تسليم|توصيل)", r"لا يمكن تسليم",
)  # fmt: skip

DELAYED = _any(
    r"delay", r"warning:? could not send", r"will (?:keep trying|be retried|retry|continue)", r"postponed",
    r"still (?:being retried|trying)", r"transient non-fatal", r"not yet been delivered",
    r"warning (?:message )?only",
    r"you do not need to resend", r"temporar(?:y|ily) (?:fail|defer)", r"notification: warning", r"تأخر",
    r"تأخير",
)  # fmt: skip
DELIVERED = _any(
    r"^[ \t-]*the following addresses had successful", r"^[^\n]{0,80}\bwas successfully (?:delivered|relayed)"
)
GIVEN_UP = _any(
    r"permanent", r"fatal", r"failed", r"gave up", r"given up", r"could not", r"rejected", r"undeliver"
)
REJECTED = _any(
    r"reject", r"refus", r"not (?:be )?accept", r"quota", r"رفض", r"مرفوض", r"abgelehnt", r"abgewiesen"
)

# Subjects and sentences of receipts that have nothing for machines in them.
READ_SUBJECT = _any(
    r"^\s*(?:read|lue?|gelesen|le[íi]d[oa]|lid[oa]|letto|gelezen|läst|lest|luettu|przeczytan[oae]|přečteno)\s*:",
    r"^\s*(?:olvasva|okundu|прочитано|прочтено|開封済み|已读|已讀|읽음)\s*[:：]",
    r"^\s*(?:مقروءة?|قراءة|قرئت?|قُرئت?|تمت (?:ال)?قراءة)\s*:",
    r"^\s*(?:re: )?(?:return|read) receipt", r"receipt \((?:read|displayed|opened)\)",
    r"lesebestätigung", r"(?:accusé|confirmation) de lecture", r"confirmaci[óo]n de lectura",
    r"confirmação de leitura", r"conferma di lettura", r"leesbevestiging", r"okundu bilgisi",
    r"уведомление о прочтении", r"開封(?:確認|通知)", r"(?:إشعار|إيصال|تأكيد) ب?(?:ال)?(?:قراءة|اطلاع)",
)  # fmt: skip
READ_WORDS = _any(
    r"\b(?:was|has been|have been) (?:read|displayed|opened|viewed|seen)\b", r"\bwurde\b[^\n]{0,80}\bgelesen",
    r"\ba été (?:lue?|affiché|ouvert|consulté)", r"\b(?:fue|ha sido) (?:le[íi]d[oa]|abiert[oa])",
    r"\bfoi (?:lid[oa]|abert[oa])", r"\bè stat[oa] (?:lett[oa]|apert[oa]|visualizzat[oa])",
    r"\bis\b[^\n]{0,40}\bgelezen", r"\bprzeczytan[oay]\b", r"\bpřečten[oa]\b", r"\bokun(?:du|muştur)\b",
    r"был[оаи]? (?:прочитан|прочтен|открыт)", r"прочитано", r"開封(?:され|済)",
    r"已(?:被)?(?:阅读|閱讀|读取|讀取)",
    r"(?:تمت?|جرت?) (?:ال)?(?:عرض|قراءة|فتح|اطلاع)", r"(?:قُ?رئت|قُ?رئ|فُ?تحت|عُ?رضت) (?:ال)?رسال",
)  # fmt: skip

# Subjects of automatic answers.
AWAY = _any(
    r"out[- ]of[- ](?:the[- ])?office",
    r"^\s*auto(?:matic(?:ally)?|mated)?[- ]?(?:generated )?(?:reply|message)?\s*:",
    r"auto(?:matic|mated)?[- ]?(?:reply|response|responder|respons\b|answer)",
    r"vacation (?:reply|message|notice|response)", r"^\s*(?:re: )?(?:on vacation\b|vacation\s*$)",
    r"^away (?:from|until)",
    r"away from (?:my |the )?(?:office|mail|e-mail|desk)",
    r"i am (?:away|out of|on (?:leave|vacation|holiday))",
    r"abwesen", r"automatische antwort", r"nicht im büro", r"réponse automatique", r"reponse automatique",
    r"absen(?:ce|t) du bureau", r"message d['’]absence", r"respuesta autom[áa]tica",
    r"fuera de (?:la )?oficina",
    r"resposta autom[áa]tica", r"fora do escritório", r"risposta automatica", r"fuori (?:sede|ufficio)",
    r"automatisch antwoord", r"afwezig", r"autosvar", r"fraværsmelding", r"automaattinen vastaus", r"poissa",
    r"odpowiedź automatyczna", r"automatyczna odpowiedź", r"autoodpowied", r"automatická odpověď",
    r"automatikus válasz", r"otomatik yanıt", r"ofis dışında", r"автоответ",
    r"автоматический ответ", r"自動応答", r"自動返信", r"不在",
    r"自动(?:回复|答复)", r"自動回覆", r"자동 (?:응답|회신)", r"부재중",
    r"رد (?:تلقائي|آلي)", r"الرد (?:ال)?(?:تلقائي|آلي)", r"خارج (?:المكتب|العمل)", r"في إجازة",
)  # fmt: skip
AUTO_MAILER = _any(r"vacation", r"autorespond", r"auto-?reply", r"out of office")
