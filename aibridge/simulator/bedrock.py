"""Amazon Bedrock's InvokeModel with a Claude model, as AWS speaks it: routes, headers, errors. It knows no sockets."""

import base64
import json
import re
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from aibridge.simulator.anthropic import error_event
from aibridge.simulator.aws_errors import ERROR_TYPE_SUFFIX, earned, named_error
from aibridge.simulator.damage import Stream, damage
from aibridge.simulator.encodings import encode_chunk
from aibridge.simulator.faces import Refusal, json_reply, missing_fields, read_document
from aibridge.simulator.faults import CLEAN, Play, Scope, Word, play_in_model
from aibridge.simulator.scripts import (
    Message,
    compose,
    count_input,
    endless_events,
    latency_ms,
    message_document,
    message_events,
    metered,
)
from aibridge.simulator.sigv4 import Credentials, verify
from aibridge.simulator.values import Api, Ask, Event, Operation, Piece, Received, Reply, Shape

_ROUTE = re.compile(r"/model/(?P<model>[^/]+)/(?P<verb>invoke|invoke-with-response-stream|count-tokens)")
_KINDS = {
    400: ("ValidationException", "The provided request is not valid."),
    401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model from the provided model identifier."),
    408: ("ModelTimeoutException", "The request took too long to process."),
    413: ("ValidationException", "Input is too long."),
    424: ("ModelErrorException", "The request failed due to an error while processing the model."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: ("InternalServerException", "The system encountered an unexpected error during processing."),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_NOT_IN_BODY = ("model", "stream")


class BedrockFace:
    """InvokeModel, InvokeModelWithResponseStream and CountTokens. `check_credentials` off takes any request."""

    api = Api.BEDROCK
    scopes = frozenset({Scope.FRAMES, Scope.AWS})

    def __init__(self, credentials: Credentials, *, check_credentials: bool = True) -> None:
        self._credentials = credentials
        self._check_credentials = check_credentials

    def owns(self, request: Received) -> bool:
        """Say whether a path is Bedrock's."""
        return request.path.startswith("/model/")

    def new_request_id(self) -> str:
        """Return a UUID."""
        return str(uuid.uuid4())

    def authenticate(self, request: Received, now: float) -> None:
        """Raise `Refusal` where the signature or the token is not good."""
        if self._check_credentials:
            verify(request, self._credentials, now)

    def read(self, request: Received) -> Ask:
        """Return what is asked. Raises `Refusal` for an unknown path and for a body that Bedrock does not take."""
        match = _ROUTE.fullmatch(request.path)
        if match is None or request.method != "POST":
            raise Refusal(404, "UnknownOperationException", "Unknown operation")
        model, words = play_in_model(unquote(match["model"]))
        counting = match["verb"] == "count-tokens"
        body = _counted_body(request.body) if counting else request.body
        return Ask(
            operation=Operation.COUNT_TOKENS if counting else Operation.MESSAGE,
            model=model,
            words=words,
            streaming=match["verb"] == "invoke-with-response-stream",
            document=_read_body(body),
            body=body,
        )

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        """Return the answer to any request that was read."""
        end, refusal = play.end, earned(ask, play)
        if end is not None and end.word is Word.AWS_ERROR:
            return named_error(end, request_id)
        if refusal is not None:
            return self.refuse(refusal, request_id)
        if ask.operation is Operation.COUNT_TOKENS:
            return json_reply(200, (("x-amzn-requestid", request_id),), {"inputTokens": count_input(ask)})
        message = compose(self.api, ask, play, shape)
        if not ask.streaming:
            document = message_document(message)
            reply = json_reply(200, _count_headers(message, play, request_id), document)
            return replace(reply, usage=document["usage"])
        headers = (
            ("content-type", "application/vnd.amazon.eventstream"),
            ("x-amzn-bedrock-content-type", "application/json"),
            ("x-amzn-requestid", request_id),
        )
        usage, pieces = message_document(message)["usage"], self._pieces(message, play, request_id)
        return Reply(status=200, headers=headers, pieces=pieces, streaming=True, usage=usage)

    def _pieces(self, message: Message, play: Play, request_id: str) -> Any:
        if Word.ENDLESS in play:
            return (Piece(encode_chunk(event)) for event in endless_events(message))
        return self.stream(message_events(message, play), play, request_id)

    def stream(self, events: list[Event], play: Play, request_id: str) -> list[Piece]:
        """Return the body of a stream, damaged as the play says."""
        _ = request_id  # AWS knows no request id in band
        return damage(Stream(events, encode=encode_chunk, error_event=lambda kind, _: error_event(kind), play=play))

    def refuse(self, refusal: Refusal, request_id: str, play: Play = CLEAN) -> Reply:  # noqa: ARG002 - as all faces
        """Return an AWS error: its type in a header, its message in the body."""
        if refusal.kind == "UnknownOperationException":
            document: dict[str, Any] = {"Output": {"__type": "com.amazon.coral.service#UnknownOperationException"}}
            return json_reply(refusal.status, (("x-amzn-requestid", request_id),), document | {"Version": "1.0"})
        headers = (("x-amzn-errortype", refusal.kind + ERROR_TYPE_SUFFIX), ("x-amzn-requestid", request_id))
        return json_reply(refusal.status, headers, {"message": refusal.message})

    def too_long(self) -> Refusal:
        """Return what AWS says to a prompt that is too long."""
        return Refusal(400, "ValidationException", "Input is too long.")

    def status_refusal(self, status: int) -> Refusal:
        """Return the exception's name and message for a status."""
        kind, message = _KINDS.get(status, _KINDS[400] if status < 500 else _KINDS[500])  # noqa: PLR2004 - server errors
        return Refusal(status, kind, message)


def _counted_body(body: bytes) -> bytes:
    """Return the body whose tokens are to be counted. Raises `Refusal` for what is no CountTokens request."""
    try:
        text = read_document(body)["input"]["invokeModel"]["body"]
        return base64.b64decode(text, validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(400, "ValidationException", f"Malformed input request: {error}") from error


def _read_body(body: bytes) -> dict[str, Any]:
    try:
        document = read_document(body)
    except ValueError as error:
        text = f"Malformed input request: {error}, please reformat your input and try again."
        raise Refusal(400, "ValidationException", text) from error
    extra = next((f"{name}: Extra inputs are not permitted" for name in _NOT_IN_BODY if name in document), "")
    wrong = extra or missing_fields(document, "anthropic_version", "max_tokens", "messages")
    if wrong:
        raise Refusal(400, "ValidationException", wrong)
    return document


def _count_headers(message: Message, play: Play, request_id: str) -> tuple[tuple[str, str], ...]:
    metrics = metered(message.counts, play)
    counts = {
        "x-amzn-bedrock-input-token-count": metrics.input,
        "x-amzn-bedrock-output-token-count": metrics.output,
        "x-amzn-bedrock-cache-read-input-token-count": metrics.cache_read,
        "x-amzn-bedrock-cache-write-input-token-count": metrics.cache_creation,
        "x-amzn-bedrock-invocation-latency": latency_ms(play),
    }
    return (("x-amzn-requestid", request_id), *((name, json.dumps(value)) for name, value in counts.items()))
