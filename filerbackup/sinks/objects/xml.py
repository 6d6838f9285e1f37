"""XML that a service answers with: read without document types, in bounded memory."""

from __future__ import annotations

from xml.etree import ElementTree

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_MARKS = 400_000
"""A page of a thousand objects with a hundred pieces of metadata each has some 270,000 tags."""


class NotXml(ValueError):
    """Not XML as any of the services writes it."""


def parse(body: bytes) -> ElementTree.Element:
    """The root of a document in UTF-8. Raises NotXml.

    A document type is refused: no service sends one, and entities could make much out of little. Many
    short elements and attributes would too, as each takes twenty times its length in memory.
    """
    try:
        # As text, so that a declared encoding has no say: Python would look it up by its name.
        text = body.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        raise NotXml("no UTF-8") from None
    if "<!DOCTYPE" in text:
        raise NotXml("a document type")
    if max(text.count("<"), text.count("=")) > _MOST_MARKS:
        raise NotXml(f"more than {_MOST_MARKS} tags or attributes")
    try:
        return ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        raise NotXml("no XML") from None
