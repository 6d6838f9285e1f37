"""What must not be seen though nobody told of it: tokens, signatures and keys, known by their looks.

A service may quote in its answer what was sent to it, and a library may name the URL that it asked for.
Secrets that the settings hold are known by their value instead (`filerbackup.settings.secret`).
"""

from __future__ import annotations

import re

BLANK = "***"

_PARAMETERS = (
    "x-amz-signature|x-amz-security-token|x-goog-signature|signature|sig|"
    "access_token|id_token|refresh_token|client_secret|client_assertion|assertion|jwt|token|password"
)
_KEPT = re.compile(
    rf"""
    (?P<parameter> \b(?:{_PARAMETERS})(?:["']\s?:\s?["']|=["']?) ) [^\s&"'<>,;{{}}]{{8,}}
    | (?P<scheme> \b(?:Bearer|Basic|SharedKey|SharedKeyLite)\s+ ) (?=[^\s"'<>]*[0-9=]) [\w.~+/=:-]{{8,}}
    | (?P<quoted> \bauthorization["']\s?:\s?(?P<quote>["']) ) (?:(?!(?P=quote)).)+
    | (?P<header> \b(?:proxy-|x-amz-)?authorization["']?\s?[=:]\s?["']?(?:[\w-]+\s+)? ) [^\s"'<>]{{16,}}
    | (?P<login> ://(?=[^\s/@]*:) ) [^\s/@]+ (?=@)
    | \beyJ[\w-]{{8,}}\.[\w-]{{8,}}\.[\w-]*
    | \bya29\.[\w.-]{{10,}} | \b1//[\w-]{{20,}} | \bGOCSPX-[\w-]{{10,}}
    | \b[0-9]_[0-9a-f]{{20,}}[\w=-]*
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_BEFORE = ("parameter", "scheme", "quoted", "header", "login")

_WORDS = (
    "sig", "token", "secret", "assertion", "jwt", "password", "bearer ", "basic ", "sharedkey",
    "authorization", "://", "eyj", "ya29.", "1//", "gocspx-", "private key",
)  # fmt: skip
"""Without any of these there is nothing to find: nearly always, and a fiftieth of the work."""
_B2_TOKEN = re.compile(r"[0-9]_[0-9a-f]{20}")


def without_tokens(text: str) -> str:
    """The text with `***` for what looks like a token, a signature, a password in a URL, a private key.

    Of words that only look like it, `signature=incomplete` say, the value is lost too.
    """
    lowered = text.lower()
    if not any(word in lowered for word in _WORDS) and _B2_TOKEN.search(lowered) is None:
        return text
    return _KEPT.sub(_blanked, text)


def _blanked(found: re.Match[str]) -> str:
    kept = next((found[name] for name in _BEFORE if found[name] is not None), "")
    return kept + BLANK
