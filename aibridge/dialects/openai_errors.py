"""How OpenAI's APIs say an error: one object, the same in a body of Chat Completions and of Responses.

Source: the guide "Error codes" of platform.openai.com, and recorded answers.
"""

from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import Telling
from aibridge.faults import ErrorKind

_TYPES_AND_CODES = {
    ErrorKind.INVALID_REQUEST: ("invalid_request_error", None),
    ErrorKind.AUTHENTICATION: ("authentication_error", "invalid_api_key"),
    ErrorKind.PERMISSION: ("permission_error", "insufficient_permissions"),
    ErrorKind.NOT_FOUND: ("invalid_request_error", "not_found"),
    ErrorKind.MODEL_NOT_FOUND: ("invalid_request_error", "model_not_found"),
    ErrorKind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
    ErrorKind.RATE_LIMIT: ("rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.BUDGET: ("insufficient_quota", "insufficient_quota"),
    ErrorKind.API: ("server_error", "server_error"),
    ErrorKind.OVERLOADED: ("service_unavailable_error", "service_unavailable"),
    ErrorKind.TIMEOUT: ("server_error", "timeout"),
    ErrorKind.NOT_SUPPORTED: ("invalid_request_error", "not_supported"),
}
"""By kind of error. OpenAI says `server_is_overloaded` too; at that Codex gives up, where we mean: try again."""


def error_object(telling: Telling) -> dict[str, Any]:
    """Return what stands in `error`. `request_id`, where there is one, is ours: the API has no member for it."""
    kind, code = _TYPES_AND_CODES[telling.kind]
    error: dict[str, Any] = {"message": telling.message, "type": kind, "param": None, "code": code}
    if telling.request_id:
        error["request_id"] = telling.request_id
    return error


def error_body(telling: Telling) -> bytes:
    """Return an error as a JSON body."""
    return jsontext.dumps({"error": error_object(telling)})
