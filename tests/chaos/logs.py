"""The daemons' own logs: JSON only, no traceback, no secret, no error that no fault explains."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.chaos.book import Book
from tests.chaos.daemons import THAWS_WITHIN_S
from tests.chaos.s3_way import Write

_SESSION = re.compile(r"\((follow|snapshot), offset ")
"""How the line that begins a session ends."""
_PLAIN = ("filerbackup: ", "  hint: ")
"""What a command says for a person when it ends with an error."""
_GAP = "gap in the change log"
_NEVER = ("gives up", "unexpected failure", "dead letter:", "delete guard")
_NO_ROOM = re.compile(r"complete upload of .*: HTTP 500 InternalError")
"""By itself, whatever else goes on (4.48): what has to become of it is seen in the comparison."""
_ROUNDING_S = 0.1
_OPENING_S = 5.0
_THAWING_S = 1.5
_MOST_AFTER_THAW = 64
"""As many requests as an S3 sink has at once."""
_CONNECTING_S = 0.3
"""A connection that a thread was about to make when its process was frozen comes so soon after the thaw."""
_STARTING_S = 15.0
"""A server that has just started answers with an error now and then."""
LOST_LOG_S = 180.0
"""For so long a gap may be told of: a filer that was killed has lost the tail of its log, perhaps all."""


@dataclass(frozen=True, slots=True)
class Session:
    """A daemon began to work on a sink."""

    at: float
    daemon: str
    sink: str


def check_logs(logs: dict[str, Path], book: Book, secrets: Sequence[str]) -> list[Session]:
    """Reads all of them; what is wrong goes into the book."""
    sessions: list[Session] = []
    for name, path in logs.items():
        text = path.read_text(errors="replace") if path.exists() else ""
        for secret in secrets:
            if secret in text:
                book.breaks(
                    "no secret in the log", f"{name} says {text[text.index(secret) - 60 :][:60]!r}..."
                )
        for line in text.splitlines():
            record = _parsed(line)
            if record is None:
                if not line.startswith(_PLAIN):
                    book.breaks("the log is JSON", f"{name}: {line[:200]}")
                continue
            book.count(f"logged {record['level']}")
            _check(name, record, book)
            if _SESSION.search(record["msg"]):
                sessions.append(Session(_time(record), name, str(record.get("sink", ""))))
    return sorted(sessions, key=lambda session: session.at)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "msg" in record else None


def _time(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["ts"]).timestamp()


def _check(name: str, record: dict[str, Any], book: Book) -> None:
    text, level = record["msg"], record["level"]
    what = f"{name}: {record['ts']} {text} {record.get('path', '')} {record.get('err', '')}"[:400]
    if "exc" in record or "Traceback" in text:
        book.breaks("no traceback", what + "\n" + str(record.get("exc", "")))
    if _GAP in text and not book.explains("log", _time(record), after_s=LOST_LOG_S):
        book.breaks("no gap without a fault", what)
    if any(word in text for word in _NEVER):
        book.breaks("nothing is given up", what)
        return
    at = _time(record)
    if level != "error" or _GAP in text or at < book.began + _STARTING_S:
        return
    if _NO_ROOM.search(str(record.get("err", ""))):
        book.count("answers 500 of the gateway where it has a directory")
        return
    concerns = ["filer", "volume"] if text.startswith("source error") else [f"sink:{record.get('sink')}"]
    if not text.startswith(("source error", "sink error")):
        book.breaks("no unknown error", what)
    elif not (
        any(book.explains(concern, at, before_s=1.0) for concern in concerns)
        or book.explains(f"frozen:{name}", at, after_s=THAWS_WITHIN_S)
    ):
        book.breaks("no error without a fault", what)


def check_writers(
    writes: Iterable[Write],
    sessions: Sequence[Session],
    sink: str,
    book: Book,
    thawed_at: Mapping[str, Sequence[float]],
) -> None:
    """Who writes into a sink is the one who began to work on it last.

    But for requests that the S3 client's own threads had when the process was frozen: those go out in
    the moment in which it is thawed, before the event loop can take them back. They are counted, and
    are no more than the sink has at once, on connections that it had.
    """
    began = [session for session in sessions if session.sink == sink]
    late: Counter[tuple[str, float]] = Counter()
    for write in writes:
        book.count("looks at writers")
        name = write.writer.partition(":")[0]
        if not _is_stale(name, write.at, began):
            continue
        if not _is_stale(name, write.at - write.lag_s, began):
            book.count("writes that the proxy's lag excuses")
            continue
        reach_s = _THAWING_S + write.lag_s
        thaw = max((at for at in thawed_at.get(name, ()) if 0 <= write.at - at <= reach_s), default=None)
        what = f"{sink}: {write.writer} wrote at {write.at:.2f}, another had begun: {write.what}"
        if thaw is None:
            book.breaks("one writer", what)
            continue
        book.count("late writes of a thawed process")
        late[name, thaw] += 1
        if write.connected_at > thaw + _CONNECTING_S:
            book.breaks("one writer", f"{what}, on a new connection after its thaw at {thaw:.2f}")
    for (name, thaw), count in late.items():
        if count > _MOST_AFTER_THAW:
            book.breaks("one writer", f"{sink}: {count} late writes of {name} after its thaw at {thaw:.2f}")


def _is_stale(name: str, at: float, began: Sequence[Session]) -> bool:
    """Whether another daemon worked on a sink then, and this one was not about to."""
    before = [session.daemon for session in began if session.at <= at + _ROUNDING_S][-1:]
    # A sink is opened, with deletes of what was left there, under the lease and before a session.
    opening = [session.daemon for session in began if at < session.at <= at + _OPENING_S]
    return bool(before) and name not in (*before, *opening)
