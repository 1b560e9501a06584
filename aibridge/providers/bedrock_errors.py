"""AWS's error answers in the client's API: which kind and status they are there, and their words, word for word. Pure.

AWS names an error in the header `x-amzn-errortype`, with or without a URL behind the name, or in the body's `__type`.
Newer models answer in Anthropic's own shape, which goes on as it came. What stands before AWS may answer instead: HTML,
nothing at all, or a body that is compressed though nobody asked for that.
"""

import zlib
from typing import Any

from aibridge import jsontext
from aibridge.dialects import Dialect, Telling, words_of
from aibridge.errors import PayloadError
from aibridge.faults import ErrorKind, kind_of_exception, kind_of_status
from aibridge.values import ResponseHead

_STATUSES = {
    ErrorKind.INVALID_REQUEST: 400,
    ErrorKind.AUTHENTICATION: 401,
    ErrorKind.PERMISSION: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.RATE_LIMIT: 429,
    ErrorKind.API: 500,
    ErrorKind.TIMEOUT: 504,
    ErrorKind.OVERLOADED: 529,
}
"""What Anthropic answers with; clients choose by it whether to try again. AWS has others: 403 for a bad key, 424."""

_SAY_MORE = frozenset({413, 529})
"""Statuses that are Anthropic's own, and more exact than any of AWS's names."""

_FINAL = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.PERMISSION})
"""Trying again mends nothing; clients would for minutes."""

_MOST_BYTES = 1 << 20
"""Of an error body, unpacked: the largest are a few KiB."""
_ANY_GZIP_OR_ZLIB = 47
_COMPRESSED = frozenset({b"gzip", b"x-gzip", b"deflate"})
_FIRST_ERROR = 400


def refusal_of(head: ResponseHead, body: bytes, dialect: Dialect, request_id: str) -> tuple[int, bytes]:
    """Return an error answer of AWS, or of what stands before it, in the client's API: its status and body."""
    text = unpacked(head, body)
    fields = _fields_of(text)
    if _is_told_in_the_clients_api(fields):
        return head.status, text
    named = None if head.status in _SAY_MORE else kind_of_exception(name_of(head, fields))
    status = head.status if named is None else _STATUSES[named]
    message = words_of(text) or f"the upstream answered with status {head.status}"
    return status, dialect.error_body(Telling(named or kind_of_status(head.status), message, request_id))


def is_final(head: ResponseHead) -> bool:
    """Say whether an error answer is one that trying again cannot mend, as far as its head tells."""
    if head.status < _FIRST_ERROR:
        return False
    return (kind_of_exception(name_of(head, {})) or kind_of_status(head.status)) in _FINAL


def name_of(head: ResponseHead, fields: dict[str, Any]) -> str:
    """Return AWS's name of an error, or the empty string."""
    told = head.header(b"x-amzn-errortype").decode("latin-1") or str(fields.get("__type") or fields.get("code") or "")
    return told.partition(":")[0].rpartition("#")[2].strip()


def unpacked(head: ResponseHead, body: bytes) -> bytes:
    """Return an error body as text: what is compressed is unpacked, within bounds; what cannot be is empty."""
    coding = head.header(b"content-encoding").strip().lower()
    if coding in {b"", b"identity"}:
        return body
    if coding not in _COMPRESSED:
        return b""
    try:
        return zlib.decompressobj(wbits=_ANY_GZIP_OR_ZLIB).decompress(body, _MOST_BYTES)
    except zlib.error:
        return b""


def _fields_of(text: bytes) -> dict[str, Any]:
    try:
        fields = jsontext.loads(text)
    except PayloadError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_told_in_the_clients_api(fields: dict[str, Any]) -> bool:
    error = fields.get("error")
    return fields.get("type") == "error" and isinstance(error, dict) and isinstance(error.get("message"), str)
