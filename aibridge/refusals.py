"""What a client is told whose request is refused before it became an interception. Pure."""

from aibridge.errors import RequestRejected
from aibridge.faults import ErrorKind, kind_of_status
from aibridge.headers import JSON, RETRY_SOON, retry_after
from aibridge.values import Headers

_FINAL_STATUSES = frozenset({401, 403, 501})
_FINAL_REASONS = frozenset({"budget_spent"})
"""Of a status that does not say so: OpenAI's APIs tell it with a 429."""

_KINDS = {"unknown_model": ErrorKind.MODEL_NOT_FOUND, "budget_spent": ErrorKind.BUDGET}
"""Of the reasons that some API has a word for of its own; of the others the status tells."""

_NO_UPGRADE: Headers = ((b"connection", b"upgrade"), (b"upgrade", b"HTTP/1.1"))
"""With a 426 a server says what it speaks instead (RFC 9110, section 15.5.22)."""
_UPGRADE_REQUIRED = 426
_UNAVAILABLE = 503


def kind_of(rejection: RequestRejected) -> ErrorKind:
    """Return the kind of error that a refusal is."""
    return _KINDS.get(rejection.reason) or kind_of_status(rejection.status)


def is_final(rejection: RequestRejected) -> bool:
    """Whether trying again cannot mend it: the SDKs are told so, or they would try for minutes.

    A HEAD is not told: agents ask so, without their key, whether somebody is there.
    """
    return rejection.status in _FINAL_STATUSES or rejection.reason in _FINAL_REASONS


def headers_of(rejection: RequestRejected) -> Headers:
    """Return the headers of the answer."""
    if rejection.retry_after is not None:
        return JSON + retry_after(rejection.retry_after)
    if is_final(rejection):
        return (*JSON, (b"x-should-retry", b"false"))
    if rejection.status == _UNAVAILABLE:
        return JSON + RETRY_SOON
    if rejection.status == _UPGRADE_REQUIRED:
        return JSON + _NO_UPGRADE
    return JSON
