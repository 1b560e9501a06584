"""What a client is told of each fault: one table from cause to HTTP status, kind of error and sentence.

This file does not know how an API spells its errors; a dialect does.
"""

from enum import Enum, auto
from typing import NamedTuple

from aibridge.lifecycle import Cause


class ErrorKind(Enum):
    """A kind of error that every API has a word for."""

    INVALID_REQUEST = auto()
    AUTHENTICATION = auto()
    PERMISSION = auto()
    NOT_FOUND = auto()
    MODEL_NOT_FOUND = auto()
    TOO_LARGE = auto()
    RATE_LIMIT = auto()
    BUDGET = auto()
    API = auto()
    OVERLOADED = auto()
    TIMEOUT = auto()
    NOT_SUPPORTED = auto()


class Fault(NamedTuple):
    """What the client is told. `status` counts only where no head has been sent yet."""

    status: int
    kind: ErrorKind
    message: str


FAULT_OF: dict[Cause, Fault] = {
    Cause.TRUNCATED: Fault(502, ErrorKind.API, "the upstream ended its answer before it was complete"),
    Cause.INCOMPLETE_BODY: Fault(502, ErrorKind.API, "the upstream closed the connection inside its answer"),
    Cause.TRUNCATED_FRAME: Fault(502, ErrorKind.API, "the upstream's answer ended inside a frame"),
    Cause.CORRUPT_FRAME: Fault(502, ErrorKind.API, "the upstream sent a corrupt frame"),
    Cause.CORRUPT_PAYLOAD: Fault(502, ErrorKind.API, "the upstream sent a payload that cannot be read"),
    Cause.EXCEPTION_FRAME: Fault(502, ErrorKind.API, "the upstream ended its answer with an exception"),
    Cause.ERROR_FRAME: Fault(502, ErrorKind.API, "the upstream ended its answer with an error"),
    Cause.CONNECTION_RESET: Fault(502, ErrorKind.API, "the connection to the upstream was lost"),
    Cause.IDLE_TIMEOUT: Fault(504, ErrorKind.TIMEOUT, "the upstream fell silent"),
    Cause.CONNECT_FAILED: Fault(502, ErrorKind.API, "the upstream cannot be reached"),
    Cause.RESPONSE_TIMEOUT: Fault(504, ErrorKind.TIMEOUT, "the upstream did not answer in time"),
    Cause.UNEXPECTED_RESPONSE: Fault(502, ErrorKind.API, "the upstream sent an answer of the wrong kind"),
    Cause.PROTOCOL_ERROR: Fault(502, ErrorKind.API, "the upstream broke the rules of HTTP"),
    Cause.CIRCUIT_OPEN: Fault(503, ErrorKind.OVERLOADED, "the circuit breaker is open: the upstream failed too often"),
    Cause.KEYS_EXHAUSTED: Fault(
        429, ErrorKind.RATE_LIMIT, "the gateway's keys have reached their limits; try again later"
    ),
    Cause.DRAINING: Fault(503, ErrorKind.OVERLOADED, "the gateway is shutting down; try again"),
    Cause.RECORDING_FAILED: Fault(503, ErrorKind.OVERLOADED, "the gateway cannot record this request; try again"),
    Cause.TOOL_LOOP_LIMIT: Fault(500, ErrorKind.API, "the model called tools in more turns than the gateway allows"),
    Cause.BUDGET_SPENT: Fault(403, ErrorKind.BUDGET, "a budget for this request is spent"),
    Cause.INTERNAL: Fault(500, ErrorKind.API, "the gateway failed; its operators can find this request by its id"),
}
"""For the causes whose end we tell in our own words: not where the client left, nor where the upstream's own words
are passed on (`http_status`, `error_event`)."""

KEYS_REFUSED = Fault(502, ErrorKind.API, "the upstream refuses every key of the gateway's")
"""For `keys_exhausted`, where no key is there that will be good again after a while."""

_EXCEPTION_KINDS = {
    "accessdeniedexception": ErrorKind.PERMISSION,
    "expiredtokenexception": ErrorKind.AUTHENTICATION,
    "incompletesignatureexception": ErrorKind.AUTHENTICATION,
    "internalserverexception": ErrorKind.API,
    "invalidsignatureexception": ErrorKind.AUTHENTICATION,
    "missingauthenticationtokenexception": ErrorKind.AUTHENTICATION,
    "modelerrorexception": ErrorKind.API,
    "modelnotreadyexception": ErrorKind.OVERLOADED,
    "modelstreamerrorexception": ErrorKind.API,
    "modeltimeoutexception": ErrorKind.TIMEOUT,
    "optinrequired": ErrorKind.PERMISSION,
    "requestentitytoolargeexception": ErrorKind.TOO_LARGE,
    "requesttimeoutexception": ErrorKind.TIMEOUT,
    "resourcenotfoundexception": ErrorKind.NOT_FOUND,
    "servicequotaexceededexception": ErrorKind.RATE_LIMIT,
    "serviceunavailableexception": ErrorKind.OVERLOADED,
    "throttlingexception": ErrorKind.RATE_LIMIT,
    "toomanyrequestsexception": ErrorKind.RATE_LIMIT,
    "unknownoperationexception": ErrorKind.NOT_FOUND,
    "unrecognizedclientexception": ErrorKind.AUTHENTICATION,
    "validationexception": ErrorKind.INVALID_REQUEST,
}
"""AWS's names, in lower case: headers begin them with a capital, frames do not. Source: the errors of InvokeModel and
of InvokeModelWithResponseStream, and those common to all of AWS."""


def kind_of_exception(name: str) -> ErrorKind | None:
    """Return the kind of error that AWS means by a name, or None where the name is not known."""
    return _EXCEPTION_KINDS.get(name.lower())


_STATUS_KINDS = {
    400: ErrorKind.INVALID_REQUEST,
    401: ErrorKind.AUTHENTICATION,
    403: ErrorKind.PERMISSION,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    413: ErrorKind.TOO_LARGE,
    422: ErrorKind.INVALID_REQUEST,
    429: ErrorKind.RATE_LIMIT,
    501: ErrorKind.NOT_SUPPORTED,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}


def kind_of_status(status: int) -> ErrorKind:
    """Return the kind of error that an HTTP status means."""
    if status in _STATUS_KINDS:
        return _STATUS_KINDS[status]
    return ErrorKind.API if status >= 500 else ErrorKind.INVALID_REQUEST  # noqa: PLR2004 - the class of server errors
