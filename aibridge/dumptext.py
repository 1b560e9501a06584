"""How requests and answers are written down for people: HTTP/1.1 text, with every credential cut to its hint. Pure.

An answer can be read again.

Bodies are written as they passed, but for the request's own credentials: an upstream may echo what it was sent. The
framing of an answer is taken off before it gets here, so that its headers for that are renamed (`RENAMED`): the body
reaches to the end of the text.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from aibridge.credentials import hint, is_secret_name
from aibridge.errors import PayloadError
from aibridge.values import Headers, ResponseHead, UpstreamRequest

RENAMED = b"x-aibridge-dump-"
"""Stands before the names of headers that were true of the wire and would lie about the text."""

LEFT_OUT = RENAMED + b"left-out"
"""Header of a request whose body is longer than the bound: how many bytes are not there."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_SCHEMES = frozenset({"bearer", "basic", "digest", "negotiate", "aws4-hmac-sha256"})
_PARAMETER = re.compile(rb"([?&#;]([^?=&#;\s]+)=)([^&#;\s\"]+)")
"""Of a URL: all up to its value, its name, its value."""
_SHORTEST_SECRET = 8
_SLICE = 262_144
_SHORTEST_PIECE = 5
"""Bytes of a secret's beginning that are worth hiding where a text ends inside it."""
_LINE_BREAKS = bytes.maketrans(b"\r\n\0", b"   ")


def secrets_in(request: UpstreamRequest) -> tuple[bytes, ...]:
    """Return the secrets that a request carries in headers and query, and those it names besides, longest first."""
    values = [secret.encode("latin-1") for secret in request.secrets]
    values += [_secret_part(value) for name, value in request.headers if is_secret_name(name)]
    for text in (request.target.encode("latin-1"), *(value for _, value in request.headers)):
        values += _secret_parameters(text)
    return tuple(sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True))


def request_text(request: UpstreamRequest, secrets: tuple[bytes, ...], max_body_bytes: int) -> bytes:
    """Return a request as it was sent; `content-length` is that of the body as it stands here."""
    body = _body_text(request.body, secrets, max_body_bytes)
    headers = tuple(pair for pair in request.headers if pair[0] != b"content-length")
    if body or len(headers) < len(request.headers):
        headers += ((b"content-length", b"%d" % len(body)),)
    if len(request.body) > max_body_bytes:
        headers += ((LEFT_OUT, b"%d" % (len(request.body) - max_body_bytes)),)
    target = _masked_parameters(request.target.encode("latin-1")).translate(_LINE_BREAKS)
    line = b"%b %b HTTP/1.1\r\n" % (request.method.encode("latin-1"), target)
    return Redactor(secrets).whole(line + _lines(headers)) + body


def head_text(head: ResponseHead, secrets: tuple[bytes, ...]) -> bytes:
    """Return an answer's head as it came; the body is what follows, to the end."""
    headers = tuple((RENAMED + name if name in _FRAMING else name, value) for name, value in head.headers)
    return Redactor(secrets).whole(b"HTTP/1.1 %d \r\n" % head.status + _lines(headers))


def read_response(text: bytes) -> tuple[ResponseHead, bytes]:
    """Return head and body of an answer that `head_text` began: its own names again. Raises `PayloadError`."""
    said, _, body = text.partition(b"\r\n\r\n")
    line, *lines = said.split(b"\r\n")
    status = line.removeprefix(b"HTTP/1.1 ").strip()
    pairs = [header.partition(b": ") for header in lines]
    if not (line.startswith(b"HTTP/1.1 ") and status.isdigit() and all(colon for _, colon, _ in pairs)):
        raise PayloadError("this is no dump of an answer")
    return ResponseHead(int(status), tuple((name.removeprefix(RENAMED), value) for name, _, value in pairs)), body


class Redactor:
    """Takes secrets out of bytes that come in pieces, also where a secret stands across two of them."""

    __slots__ = ("_held", "_secrets")

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is safe to write; what may be the beginning of a secret waits for the next piece."""
        text = self._replace(self._held + data)
        size = max((_beginning_at_end(text, secret) for secret in self._secrets), default=0)
        self._held = text[len(text) - size :]
        return text[: len(text) - size]

    def end(self) -> bytes:
        """Return what waits, now that nothing follows; a longer piece of a secret is cut to its hint too."""
        held, self._held = self._held, b""
        return held if len(held) < _SHORTEST_PIECE else _hint(held)

    def whole(self, data: bytes) -> bytes:
        """Return what holds no half of a secret, at either end."""
        return self._replace(data)

    def _replace(self, text: bytes) -> bytes:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, _hint(secret))
        return text


def _body_text(body: bytes, secrets: tuple[bytes, ...], max_bytes: int) -> bytes:
    """Return a body, cut and redacted, slice by slice: so that other threads need not wait for all of a large one."""
    redactor = Redactor(secrets)
    end = min(len(body), max_bytes)
    slices = [redactor.feed(body[at : min(at + _SLICE, end)]) for at in range(0, end, _SLICE)]
    return b"".join([*slices, redactor.end()])


def _beginning_at_end(text: bytes, secret: bytes) -> int:
    """Return how many bytes at the end of the text are the beginning of a secret."""
    at = text.find(secret[:1], max(0, len(text) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(text[at:]):
            return len(text) - at
        at = text.find(secret[:1], at + 1)
    return 0


def _lines(headers: Headers) -> bytes:
    lines = [b"%b: %b\r\n" % (name, _masked(name, value).translate(_LINE_BREAKS)) for name, value in headers]
    return b"".join(lines) + b"\r\n"


def _masked(name: bytes, value: bytes) -> bytes:
    if not is_secret_name(name):
        return _masked_parameters(value)
    secret = _secret_part(value)
    return value[: len(value) - len(secret)] + _hint(secret)


def _secret_part(value: bytes) -> bytes:
    """Return a value without its scheme: what stands behind `Bearer `."""
    scheme, _, rest = value.partition(b" ")
    return rest if rest and scheme.decode("latin-1").lower() in _SCHEMES else value


def _secret_parameters(text: bytes) -> Iterator[bytes]:
    """Yield the secrets in a URL, or in a header that holds one."""
    return (match[3] for match in _PARAMETER.finditer(text) if _is_secret_parameter(match))


def _masked_parameters(text: bytes) -> bytes:
    return _PARAMETER.sub(lambda match: match[1] + _hint(match[3]) if _is_secret_parameter(match) else match[0], text)


def _is_secret_parameter(match: re.Match[bytes]) -> bool:
    return is_secret_name(unquote_to_bytes(match[2]))


def _hint(secret: bytes) -> bytes:
    return hint(secret.decode("latin-1")).encode("latin-1")
