"""The tree of errors. This file imports nothing; errors carry plain values, never requests or frames' owners.

AibridgeError
├── ConfigError            the configuration cannot be used; the text names the key
├── CredentialsError       no AWS keys can be had; the text names what was tried
├── RequestRejected        refused before it became an interception (outcomes.md, G8)
├── ToolServerError        a tool server cannot be reached, or does not answer as it should
│   └── ToolSessionGone    it does not know the session any more
├── LimitStoreUnavailable  who counts for limits and budgets cannot be asked now
├── RecordingFailed        it cannot be recorded, and without a record nothing is to happen (outcomes.md, G7)
├── UpstreamFailure        the upstream could not be reached or spoke badly, before an answer came
├── PayloadError           text that is not the JSON promised
└── WireError              bytes that break their framing; carries what was decoded before the break
    ├── CorruptFrame       a checksum, a length or a header is wrong (U7, U8, U9)
    ├── CorruptPayload     a good frame or event whose payload is not what was promised (U10)
    ├── MalformedChunk     a piece of HTTP's chunked coding does not end where it should (U22)
    ├── TruncatedFrame     the body ended inside a frame (U5)
    └── TruncatedEvent     the body ended inside a server-sent event (U6)
"""

from typing import Any


class AibridgeError(Exception):
    """Base of all errors that aibridge raises on purpose."""


class ConfigError(AibridgeError):
    """The configuration cannot be used; the text says where and why."""


class CredentialsError(AibridgeError):
    """No AWS keys can be had; the text names each source that was tried, and holds no secret."""


class RequestRejected(AibridgeError):
    """A request refused before it became an interception.

    Args:
        reason: label of `aibridge_rejections_total`, one of a closed set of words.
        status: HTTP status of the answer.
        message: text for the client; holds no secret.
        retry_after: seconds until the same request may pass; None where that is not known.
    """

    def __init__(self, reason: str, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reason = reason
        self.status = status
        self.message = message


class ToolServerError(AibridgeError):
    """A tool server cannot be reached, or does not answer as it should; the text holds no secret.

    Args:
        message: words that a model may be told.
        broken: whether the session is to be looked at: the fault is not the call's own.
    """

    def __init__(self, message: str, *, broken: bool = False) -> None:
        super().__init__(message)
        self.broken = broken


class ToolSessionGone(ToolServerError):
    """A tool server does not know the session any more: nothing was done, and the call may be made in another."""


class RecordingFailed(AibridgeError):
    """The beginning of an interception cannot be recorded, and the operator wants none without a record."""


class LimitStoreUnavailable(AibridgeError):
    """Who counts for limits and budgets cannot be asked now; the text holds no secret."""


class UpstreamFailure(AibridgeError):
    """No connection to the upstream could be had. `timed_out` tells a deadline from a refusal."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class PayloadError(AibridgeError):
    """Text that is not the JSON promised."""


class WireError(AibridgeError):
    """Bytes that break their framing. `before` is what the same call had decoded before the break."""

    def __init__(self, message: str, before: Any = None) -> None:
        super().__init__(message)
        self.before = before


class CorruptFrame(WireError):
    """A checksum, a length or a header of an event-stream frame is wrong."""


class CorruptPayload(WireError):
    """A good frame or event whose payload is not what was promised."""


class MalformedChunk(WireError):
    """A piece of HTTP's chunked coding does not end where it should."""


class TruncatedFrame(WireError):
    """The body ended inside an event-stream frame."""


class TruncatedEvent(WireError):
    """The body ended inside a server-sent event."""
