"""What must not be seen though nobody told of it: tokens, signatures and keys, known by their looks.

A service may quote in its answer what was sent to it, and a library may name the URL that it asked for.
Secrets that the settings hold are known by their value instead (`filerbackup.settings.secret`).

Names of files stand in the same texts and have to stay readable: `Basic Electronics101`,
`token=production/part-0.parquet` or the name of a thumbnail. So a pattern asks for the whole form of a
token, or for a place where no name stands.
"""

from __future__ import annotations

import base64
import re

BLANK = "***"

_TELLING = (
    "x-amz-signature|x-amz-security-token|x-goog-signature|"
    "access_token|id_token|refresh_token|client_secret|client_assertion"
)
_ORDINARY = "signature|sig|assertion|jwt|token|password"
"""Only between quotes, or as parameters of a URL or form: they are names of files as well."""
_KEPT = re.compile(
    rf"""
    (?P<parameter> (?:
        (?<![\w/])(?:{_TELLING})(?:["']\s?:\s?["']|=["']?)
        | \bx-amz-security-token\s?:\s?
        | \b(?:{_ORDINARY})(?:["']\s?:\s?["']|=["'])
        | (?:[?&]|&amp;|\\u0026)(?:{_TELLING}|{_ORDINARY})=
        | \bSignedHeaders=[^\s,]{{0,500}},\s?Signature= | \bSignature=(?=[0-9a-f]{{64}})
    ) ) [^\s&"'<>,;{{}}]{{8,}}
    | (?P<scheme>
        \bauthorization\s?[=:]\s?(?:Bearer|Basic)\s+
        | \bBearer\s+(?=[^\s"'<>]*[0-9=])(?=[\w.~+/=:-]{{16}})
        | \bSharedKey(?:Lite)?\s+(?=[^\s:/]+:)
    ) [\w.~+/=:-]{{8,}}
    | (?P<quoted> \bauthorization["']\s?:\s?(?P<quote>["']) ) (?:(?!(?P=quote)).)+
    | (?P<header>
        (?<![\w/])(?:proxy-|x-amz-)?authorization["']?\s?[=:]\s?["']?(?:[\w-]+\s+)?
    ) [^\s"'<>]{{16,}}
    | (?P<login> ://(?=[^\s/@]*:) ) [^\s/@]+ (?=@)
    | \beyJ[\w-]{{8,}}\.[\w-]{{8,}}\.[\w-]*
    | \bya29\.[\w.-]{{10,}} | \b1//[\w-]{{20,}} | \bGOCSPX-[\w-]{{10,}}
    | \b[0-9]_(?=[0-9a-f_]{{20}})[0-9a-f]+(?:_[0-9a-f]+)*_(?:acct|upld|dnld)(?:_[\w=-]*)?(?![\w=-])
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_BEFORE = ("parameter", "scheme", "quoted", "header", "login")
_BASIC = re.compile(
    r"(?P<scheme>\bBasic\s+)(?!Basic\s)(?P<login>[\w+/-]{4,})={0,2}", re.ASCII | re.IGNORECASE
)

_WORDS = (
    "sig", "token", "secret", "assertion", "jwt", "password", "bearer", "basic", "sharedkey",
    "authorization", "://", "eyj", "ya29.", "1//", "gocspx-", "private key", "_acct", "_upld", "_dnld",
)  # fmt: skip
"""Without any of these there is nothing to find: nearly always, and a fiftieth of the work."""


def without_tokens(text: str) -> str:
    """The text with `***` for what looks like a token, a signature, a password in a URL, a private key.

    Of words that look just like it, `?signature=incomplete` say, the value is lost too.
    """
    lowered = text.lower()
    if not any(word in lowered for word in _WORDS):
        return text
    return _BASIC.sub(_without_login, _KEPT.sub(_blanked, text))


def _blanked(found: re.Match[str]) -> str:
    kept = next((found[name] for name in _BEFORE if found[name] is not None), "")
    return kept + BLANK


def _without_login(found: re.Match[str]) -> str:
    """RFC 7617: the base64 of `user:password`, in UTF-8 and without control characters."""
    encoded = found["login"].replace("-", "+").replace("_", "/")
    try:
        login = base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return found[0]
    return found["scheme"] + BLANK if ":" in login and login.isprintable() else found[0]
