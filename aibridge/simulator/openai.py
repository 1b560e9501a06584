"""What OpenAI's APIs have in common: credentials, headers, errors, models, and what is kept at the provider.

The paths are OpenAI's own, and those of servers that put them elsewhere: without `/v1` (Copilot), below `/openai/v1`
and `/openai/deployments/{model}` (Azure), `/api/v1` (OpenRouter), `/v1beta/openai` (Gemini), `/backend-api/codex`
(ChatGPT).
Nothing is really kept: whatever id is well formed is there, and finished.
"""

import re
import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from aibridge.simulator.faces import Refusal, json_reply, read_document
from aibridge.simulator.faults import CLEAN, Play, Scope, play_in_model
from aibridge.simulator.openai_chat import server_of
from aibridge.simulator.openai_errors import error_document, status_refusal, too_long
from aibridge.simulator.openai_speech import CREATED
from aibridge.simulator.values import Api, Ask, Operation, Received, Reply, Shape

_PREFIX = r"(?:/openai|/api|/v1beta/openai|/backend-api/codex)?(?:/v1)?"
_DEPLOYMENT = re.compile(r"/openai/deployments/(?P<model>[^/]+)(?P<rest>/.*)")
_PATH = re.compile(_PREFIX + r"(?P<rest>/(?:chat/completions|responses|conversations|models)(?:/.*)?)")
_MODEL = re.compile(r"/models/(?P<model>.+)")
_RESPONSE = r"/responses/(?P<id>resp_\w+)"
_CONVERSATION = r"/conversations/(?P<id>conv_\w+)"
_RESOURCES = {
    "GET": (_RESPONSE, _RESPONSE + "/input_items", _CONVERSATION, _CONVERSATION + r"/items(?:/\w+)?"),
    "POST": (_RESPONSE + "/cancel", "/conversations", _CONVERSATION, _CONVERSATION + "/items"),
    "DELETE": (_RESPONSE, _CONVERSATION, _CONVERSATION + r"/items/\w+"),
}
_MODELS = ("gpt-sim", "gpt-sim-large", "gpt-sim-small")
_RATE_LIMITS = (
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999000"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "30ms"),
)


class OpenAIFace:
    """Models, stored responses and conversations. With no keys given, any key is good, as bearer or as `api-key`."""

    api = Api.OPENAI
    scopes = frozenset({Scope.OPENAI})

    def __init__(self, keys: Collection[str] = (), *, check_credentials: bool = True) -> None:
        self._keys = frozenset(keys)
        self._check_credentials = check_credentials

    def owns(self, request: Received) -> bool:
        """Say whether a path is OpenAI's. `/v1/models` is Anthropic's too, and then has its headers."""
        rest = route_of(request)[0]
        anthropic = request.header("anthropic-version") is not None or request.header("x-api-key") is not None
        return bool(rest) and not (rest.startswith("/models") and anthropic)

    def new_request_id(self) -> str:
        """Return an id like `req_9f…`."""
        return "req_" + secrets.token_hex(16)

    def authenticate(self, request: Received, now: float) -> None:  # noqa: ARG002 - the signature of all faces
        """Raise `Refusal` without a good key."""
        if not self._check_credentials:
            return
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        key = request.header("api-key") or (token if scheme.lower() == "bearer" else "")
        if not key:
            text = "You didn't provide an API key. You need to provide your API key in an Authorization header."
            raise Refusal(401, "invalid_request_error", text)
        if self._keys and key not in self._keys:
            text = (
                "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
            )
            raise Refusal(401, "invalid_request_error", text, "invalid_api_key")

    def read(self, request: Received) -> Ask:
        """Return what is asked. Raises `Refusal` for what the API does not know."""
        method, rest = "GET" if request.method == "HEAD" else request.method, route_of(request)[0]
        if method == "GET" and rest == "/models":
            return Ask(operation=Operation.MODELS, model="")
        if method == "GET" and (match := _MODEL.fullmatch(rest)):
            model, words = play_in_model(unquote(match["model"]))
            return Ask(operation=Operation.MODEL, model=model, words=words)
        if any(re.fullmatch(pattern, rest) for pattern in _RESOURCES.get(method, ())):
            document = {"method": method, "path": rest}
            return Ask(operation=Operation.RESOURCE, model="", document=document, body=request.body)
        raise unknown_url(request)

    def reply(self, ask: Ask, play: Play, shape: Shape, request_id: str) -> Reply:  # noqa: ARG002 - as all faces
        """Return the answer to any request that was read."""
        match ask.operation:
            case Operation.MODELS:
                document: dict[str, Any] = {"object": "list", "data": [_model(name) for name in _MODELS]}
            case Operation.MODEL:
                document = _model(ask.model)
            case _:
                document = _resource(ask.document["method"], ask.document["path"])
        return json_reply(200, headers(request_id), document)

    def refuse(self, refusal: Refusal, request_id: str, play: Play = CLEAN) -> Reply:
        """Return an error object, as the server says it that is played."""
        return json_reply(refusal.status, headers(request_id), error_document(refusal, server_of(play)))

    def too_long(self) -> Refusal:
        """Return what OpenAI says to a prompt that is too long."""
        return too_long()

    def status_refusal(self, status: int) -> Refusal:
        """Return the error object's words for a status."""
        return status_refusal(status)


def route_of(request: Received) -> tuple[str, str]:
    """Return a path without what servers put before it, and the model in it; empty where it is not OpenAI's."""
    deployment = _DEPLOYMENT.fullmatch(request.path)
    if deployment is not None:
        return deployment["rest"], unquote(deployment["model"])
    match = _PATH.fullmatch(request.path)
    return (match["rest"], "") if match else ("", "")


def unknown_url(request: Received) -> Refusal:
    """Return what OpenAI says to a path or a method that it does not know."""
    return Refusal(404, "invalid_request_error", f"Invalid URL ({request.method} {request.path})", "unknown_url")


def read_body(body: bytes, *names: str) -> dict[str, Any]:
    """Return a request's JSON object. Raises `Refusal` where it is none, or lacks one of these members."""
    try:
        document = read_document(body)
    except ValueError as error:
        text = f"We could not parse the JSON body of your request. {error}"
        raise Refusal(400, "invalid_request_error", text) from error
    missing = next((name for name in names if name not in document), None)
    if missing is not None:
        text = f"Missing required parameter: '{missing}'."
        raise Refusal(400, "invalid_request_error", text, "missing_required_parameter", missing)
    return document


def headers(request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of every answer."""
    return (
        ("openai-organization", "simulator"),
        ("openai-processing-ms", "7"),
        ("openai-version", "2020-10-01"),
        *_RATE_LIMITS,
        ("x-request-id", request_id),
    )


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"}


def _resource(method: str, path: str) -> dict[str, Any]:
    """Return something that is kept at the provider, or what was done to it."""
    _, family, *rest = path.split("/")
    name, kind = rest[0] if rest else "", family.removesuffix("s")
    if method == "DELETE" and len(rest) == 1:
        return {"id": name, "object": f"{kind}.deleted" if kind == "conversation" else kind, "deleted": True}
    if kind == "conversation" and (method == "DELETE" or len(rest) < 2):  # noqa: PLR2004 - the conversation itself
        return {"id": name or "conv_sim1", "object": "conversation", "created_at": CREATED, "metadata": {}}
    if kind == "conversation" and len(rest) > 2:  # noqa: PLR2004 - one of its items
        return _item(rest[2])
    if len(rest) > 1 and rest[1] != "cancel":
        return {"object": "list", "data": [_item("msg_sim1")], "first_id": "msg_sim1", "last_id": "msg_sim1",
                "has_more": False}  # fmt: skip
    status = "cancelled" if method == "POST" else "completed"
    return {"id": name, "object": "response", "created_at": CREATED, "status": status, "background": True,
            "error": None, "incomplete_details": None, "model": _MODELS[0], "output": [], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "usage": None}  # fmt: skip


def _item(name: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "Hello?"}]
    return {"id": name, "type": "message", "status": "completed", "role": "user", "content": content}
