"""The Anthropic Messages API as its provider speaks it: routes, credentials, headers, errors. It knows no sockets."""

import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from aibridge.simulator.damage import Stream, damage
from aibridge.simulator.encodings import encode_sse
from aibridge.simulator.faces import Refusal, json_reply, missing_fields, read_document
from aibridge.simulator.faults import CLEAN, Play, Scope, Word, play_in_model
from aibridge.simulator.scripts import compose, count_input, endless_events, message_document, message_events
from aibridge.simulator.values import Api, Ask, Event, Operation, Piece, Received, Reply, Shape

_ROUTES = {
    ("POST", "/v1/messages"): Operation.MESSAGE,
    ("POST", "/v1/messages/count_tokens"): Operation.COUNT_TOKENS,
    ("GET", "/v1/models"): Operation.MODELS,
    ("GET", "/"): Operation.ROOT,
}
_MODEL_PATH = "/v1/models/"
_KINDS = {
    400: ("invalid_request_error", "messages: at least one message is required"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: claude-sim"),
    408: ("timeout_error", "Request timed out"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "The request is not processable"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_MESSAGES_OF_KINDS = dict(_KINDS.values())
_ORGANIZATION = "00000000-0000-4000-8000-00000000051e"
_MODELS = ("claude-sim", "claude-sim-large", "claude-sim-small")
_RETRIED = frozenset({408, 409, 429})


class AnthropicFace:
    """The Messages API. With no keys given, any key is good; `check_credentials` off takes requests without one."""

    api = Api.ANTHROPIC
    scopes = frozenset({Scope.EVENTS})

    def __init__(self, keys: Collection[str] = (), *, check_credentials: bool = True) -> None:
        self._keys = frozenset(keys)
        self._check_credentials = check_credentials

    def owns(self, request: Received) -> bool:
        """Say yes to every path: this face also answers what nobody knows."""
        return request.path.startswith("/")

    def new_request_id(self) -> str:
        """Return an id like `req_011C…`."""
        return "req_011C" + secrets.token_hex(10)

    def authenticate(self, request: Received, now: float) -> None:  # noqa: ARG002 - the signature of all faces
        """Raise `Refusal` without a good key or without `anthropic-version`."""
        if request.path == "/":
            return
        if self._check_credentials:
            self._check_key(_key_of(request))
        if request.header("anthropic-version") is None:
            raise Refusal(400, "invalid_request_error", "anthropic-version: header is required")

    def _check_key(self, key: str | None) -> None:
        if key is None:
            raise Refusal(401, "authentication_error", "x-api-key header is required")
        if self._keys and key not in self._keys:
            raise Refusal(401, "authentication_error", "invalid x-api-key")

    def read(self, request: Received) -> Ask:
        """Return what is asked. Raises `Refusal` for what the API does not know or does not take."""
        method = "GET" if request.method == "HEAD" else request.method
        operation = _ROUTES.get((method, request.path))
        if operation in (Operation.MESSAGE, Operation.COUNT_TOKENS):
            return _read_message(operation, request.body)
        if operation is not None:
            return Ask(operation=operation, model="")
        if method == "GET" and request.path.startswith(_MODEL_PATH):
            model, words = play_in_model(unquote(request.path.removeprefix(_MODEL_PATH)))
            return Ask(operation=Operation.MODEL, model=model, words=words)
        raise Refusal(404, "not_found_error", "Not found")

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        """Return the answer to any request that was read."""
        headers = _headers(request_id)
        match ask.operation:
            case Operation.MESSAGE if ask.streaming:
                return self._stream_reply(ask, play, shape, request_id)
            case Operation.MESSAGE:
                document = message_document(compose(self.api, ask, play, shape))
                return replace(json_reply(200, headers, document), usage=document["usage"])
            case Operation.COUNT_TOKENS:
                return json_reply(200, headers, {"input_tokens": count_input(ask)})
            case Operation.MODELS:
                return json_reply(200, headers, _model_list())
            case Operation.MODEL:
                return json_reply(200, headers, _model(ask.model))
            case _:  # the root
                return Reply(status=200, headers=headers, pieces=[Piece(b"", events=0, terminal=True)])

    def _stream_reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:
        message = compose(self.api, ask, play, shape)
        headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
        if Word.ENDLESS in play:
            pieces: Any = (Piece(encode_sse(event, play)) for event in endless_events(message))
        else:
            pieces = self.stream(message_events(message, play), play, request_id)
        usage = message_document(message)["usage"]
        return Reply(status=200, headers=headers + _headers(request_id), pieces=pieces, streaming=True, usage=usage)

    def stream(self, events: list[Event], play: Play, request_id: str) -> list[Piece]:
        """Return the body of a stream, damaged as the play says."""
        first = events[0]
        return damage(
            Stream(
                events,
                encode=lambda event: encode_sse(event, play, first=event is first),
                error_event=lambda kind, _: error_event(kind, request_id),
                play=play,
            )
        )

    def refuse(self, refusal: Refusal, request_id: str, play: Play = CLEAN) -> Reply:  # noqa: ARG002 - as all faces
        """Return an Anthropic error object."""
        error = {"type": refusal.kind, "message": refusal.message}
        retry = "true" if refusal.status in _RETRIED or refusal.status >= 500 else "false"  # noqa: PLR2004 - server errors
        headers = (("x-should-retry", retry), *_headers(request_id))
        return json_reply(refusal.status, headers, {"type": "error", "error": error, "request_id": request_id})

    def too_long(self) -> Refusal:
        """Return what Anthropic says to a prompt that is too long."""
        return Refusal(400, "invalid_request_error", "prompt is too long: 210001 tokens > 200000 maximum")

    def status_refusal(self, status: int) -> Refusal:
        """Return the error object's type and message for a status."""
        kind, message = _KINDS.get(status, _KINDS[400] if status < 500 else _KINDS[500])  # noqa: PLR2004 - server errors
        return Refusal(status, kind, message)


def error_event(kind: str, request_id: str = "") -> Event:
    """Return an error in band, blanks as the provider sends them."""
    kind = kind or "overloaded_error"
    message = _MESSAGES_OF_KINDS.get(kind, "Internal server error")
    request = f', "request_id": "{request_id}"' if request_id else ""
    data = f'{{"type": "error", "error": {{"details": null, "type": "{kind}", "message": "{message}"}}{request}}}'
    return Event("error", data.encode())


def _key_of(request: Received) -> str | None:
    key = request.header("x-api-key")
    if key:
        return key
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def _read_message(operation: Operation, body: bytes) -> Ask:
    try:
        document = read_document(body)
    except ValueError as error:
        raise Refusal(400, "invalid_request_error", str(error)) from error
    names = ("model", "messages", "max_tokens") if operation is Operation.MESSAGE else ("model", "messages")
    missing = missing_fields(document, *names)
    if missing:
        raise Refusal(400, "invalid_request_error", missing)
    model, words = play_in_model(str(document["model"]))
    streaming = operation is Operation.MESSAGE and document.get("stream") is True
    return Ask(operation=operation, model=model, words=words, streaming=streaming, document=document, body=body)


def _headers(request_id: str) -> tuple[tuple[str, str], ...]:
    reset = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", reset),
        ("anthropic-ratelimit-input-tokens-limit", "2000000"),
        ("anthropic-ratelimit-input-tokens-remaining", "1999000"),
        ("anthropic-ratelimit-input-tokens-reset", reset),
        ("anthropic-ratelimit-output-tokens-limit", "400000"),
        ("anthropic-ratelimit-output-tokens-remaining", "399000"),
        ("anthropic-ratelimit-output-tokens-reset", reset),
        ("request-id", request_id),
        ("anthropic-organization-id", _ORGANIZATION),
    )


def _model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-01-01T00:00:00Z"}


def _model_list() -> dict[str, Any]:
    models = [_model(name) for name in _MODELS]
    return {"data": models, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]}
