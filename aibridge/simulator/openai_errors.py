"""How OpenAI and the servers that are compatible with it say errors. Pure.

The shapes are those of the servers' sources: vLLM's `ErrorResponse`, llama.cpp's `format_error_response`, Ollama's
`openai.NewError`, OpenRouter's and Azure's documentation.
"""

from collections.abc import Callable, Mapping
from typing import Any

from aibridge.simulator.faces import Refusal
from aibridge.simulator.openai_speech import CREATED

_KINDS = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("permission_error", "unsupported_country_region_territory", "Country, region, or territory not supported"),
    404: ("invalid_request_error", "model_not_found", "The model `gpt-sim` does not exist or you do not have access."),
    408: ("timeout_error", None, "Request timed out."),
    409: ("conflict_error", None, "The resource was changed meanwhile."),
    413: ("invalid_request_error", None, "The request is too large."),
    422: ("invalid_request_error", None, "The request is not processable."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for gpt-sim on requests per min (RPM): Limit 3."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later"),
}
_TOO_LONG = (
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 3148588 tokens. "
    "Please reduce the length of the messages."
)
_VLLM_KINDS = {400: "BadRequestError", 401: "Unauthorized", 404: "NotFoundError", 429: "RateLimitError"}
_LLAMACPP_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error",
                   503: "unavailable_error"}  # fmt: skip


def status_refusal(status: int) -> Refusal:
    """Return what OpenAI says with an error status."""
    kind, code, message = _KINDS.get(status, _KINDS[400] if status < 500 else _KINDS[500])  # noqa: PLR2004 - server errors
    return Refusal(status, kind, message, code)


def too_long() -> Refusal:
    """Return what OpenAI says to a prompt that is too long."""
    return Refusal(400, "invalid_request_error", _TOO_LONG, "context_length_exceeded", "messages")


def error_document(refusal: Refusal, server: str) -> dict[str, Any]:
    """Return the body of an error answer, as a server says it; an empty name is OpenAI itself."""
    return _BODIES.get(server, _openai)(refusal)


def chunk_error(refusal: Refusal, server: str, model: str) -> dict[str, Any]:
    """Return the data of an error in the middle of a stream of Chat Completions."""
    if server == "llamacpp":  # under a field of its own, so without the outer object
        return dict(_llamacpp(refusal)["error"])
    if server == "openrouter":
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}
        head = {"id": "gen-sim", "object": "chat.completion.chunk", "created": CREATED, "model": model}
        return head | {"provider": "Simulator", "choices": [choice], **_openrouter(refusal)}
    return error_document(refusal, server)


def _openai(refusal: Refusal) -> dict[str, Any]:
    error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
    return {"error": error}


def _azure(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"code": refusal.code or str(refusal.status), "message": refusal.message}}


def _llamacpp(refusal: Refusal) -> dict[str, Any]:
    kind = _LLAMACPP_KINDS.get(refusal.status, "server_error")
    return {"error": {"code": refusal.status, "message": refusal.message, "type": kind}}


def _ollama(refusal: Refusal) -> dict[str, Any]:
    kind = "invalid_request_error" if refusal.status == 400 else "api_error"  # noqa: PLR2004 - the status says itself
    return {"error": {"message": refusal.message, "type": kind, "param": None, "code": None}}


def _openrouter(refusal: Refusal) -> dict[str, Any]:
    return {"error": {"code": refusal.status, "message": refusal.message}}


def _vllm(refusal: Refusal) -> dict[str, Any]:
    kind = _VLLM_KINDS.get(refusal.status, "InternalServerError")
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.status}}


_BODIES: Mapping[str, Callable[[Refusal], dict[str, Any]]] = {
    "azure": _azure,
    "llamacpp": _llamacpp,
    "ollama": _ollama,
    "openrouter": _openrouter,
    "vllm": _vllm,
}
