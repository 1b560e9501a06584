"""Errors as AWS and what stands before it tell them: by name, in each of their forms, and those that a body earns.

It knows requests and replies, not sockets.
"""

from typing import Any

from aibridge.simulator.faces import Refusal, json_reply
from aibridge.simulator.faults import Fault, Play, Word
from aibridge.simulator.values import Ask, Piece, Reply

ERROR_TYPE_SUFFIX = ":http://internal.amazon.com/coral/com.amazon.bedrock/"

STATUSES = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
_MESSAGE = "AWS has its own words for %s."


def named_error(fault: Fault, request_id: str) -> Reply:
    """Return the error that a fault names, told in the form that stands behind its name."""
    name, _, form = fault.name.partition(":")
    status, message = STATUSES.get(name, 418), _MESSAGE % name
    headers = [("x-amzn-requestid", request_id)]
    document: dict[str, Any] = {"message": message}
    if form == "body":
        document = {"__type": f"com.amazon.coral.service#{name}", "message": message}
    else:
        headers.append(("x-amzn-errortype", name if form == "bare" else name + ERROR_TYPE_SUFFIX))
    if form == "capital":
        document = {"Message": message}
    if form == "wrapped":  # as models say it that are served by Anthropic's own API
        document = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    if form == "empty":
        return Reply(status=status, headers=tuple(headers), pieces=[Piece(b"", events=0)])
    return json_reply(status, tuple(headers), document)


def earned(ask: Ask, play: Play) -> Refusal | None:
    """Return the refusal that a body earns where the play makes AWS so strict, else None."""
    match play.end:
        case Fault(word=Word.EXTRA, name=path) if _stands(ask.document, path.split(".")):
            return Refusal(400, "ValidationException", f"{path}: Extra inputs are not permitted")
        case Fault(word=Word.BAD_BETA, name=name) if _asks_for(ask.document, name):
            return Refusal(400, "ValidationException", "invalid beta flag")
        case Fault(word=Word.UNCOUNTED):
            return Refusal(400, "ValidationException", "The provided model doesn't support counting tokens.")
    return None


def _stands(value: Any, path: list[str]) -> bool:
    """Say whether a member is there. A number in the path is any item; a name that is no key names a kind."""
    if not path:
        return True
    if isinstance(value, list):
        return any(_stands(item, path[1:]) for item in value)
    if not isinstance(value, dict):
        return False
    if path[0] in value:
        return len(path) == 1 or _stands(value[path[0]], path[1:])
    return len(path) > 1 and _stands(value, path[1:])


def _asks_for(document: Any, beta: str) -> bool:
    betas = document.get("anthropic_beta")
    return beta in betas if beta and isinstance(betas, list) else bool(betas)
