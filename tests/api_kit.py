"""The ways through a gateway that a test can take, and what each one's API looks like.

The shapes are said here once more, apart from the gateway's own tables, so that a mistake there is seen.
"""

import json
import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest

from aibridge.simulator.expected import expected_sse

OWN_TOKEN = "own-token-of-a-client"


class Said(NamedTuple):
    """An error as a client reads it. `kind` is the word of its API."""

    kind: str
    message: str
    request_id: str


@dataclass(frozen=True)
class Api:
    """One provider under one API, as clients see it.

    `route` is the path behind the provider's name. `speaks` is what the simulator calls the API.
    """

    name: str
    provider: str
    route: str
    model: str
    speaks: str
    headers: tuple = ()
    adds_usage: bool = False

    delta: ClassVar[bytes]
    """Is in every event that brings text, and in no other."""
    last_word: ClassVar[bytes]
    """Begins the last event of a whole answer."""
    last_event: ClassVar[str]
    error: ClassVar[bytes]
    """Begins an event that is an error of ours."""
    ping: ClassVar[bytes]

    @property
    def path(self):
        return f"/{self.provider}{self.route}"

    def body(self, *, stream=True, **more):
        return {"model": self.model, **self.asked, **more, **({"stream": True} if stream else {})}

    def upstream_text(self, body, fault=""):
        """Return what the simulator sends for a streaming request; of Bedrock what its frames stand for."""
        raw = json.dumps(body).encode()
        if self.adds_usage and "stream_options" not in body:
            raw = raw[:-1] + b',"stream_options":{"include_usage":true}}'
        return expected_sse(raw, self.speaks, model=self.model, fault=fault)

    def client_text(self, body, fault=""):
        """Return what the client gets of it: the same, less the usage that it did not order."""
        text = self.upstream_text(body, fault)
        added = self.adds_usage and "stream_options" not in body and not _NO_USAGE_EVENT & set(fault.split("+"))
        return without_usage(text) if added else text

    def parted(self, text):
        """Return a stream that ends with an error of ours: what came before it, and what it says."""
        assert text.endswith(b"\n\n")
        start = text.rfind(b"\n\n", 0, -2) + 2 if b"\n\n" in text[:-2] else 0
        assert text[start:].startswith(self.error), text[start:]
        assert text.count(self.error) == 1
        assert self.last_word not in text
        data = text[start:].partition(b"data: ")[2]
        return text[:start], self.said_in(text[:start], json.loads(data))

    def has_ended_well(self, text):
        """Whether a stream's last event is the last word."""
        return text.rstrip(b"\n").rpartition(b"\n\n")[2].startswith(self.last_word)

    def kind(self, kind, *, streaming):
        """Return this API's word for an error that Anthropic calls so."""
        raise NotImplementedError

    def said(self, body):
        """Read an error of ours that is a whole answer."""
        raise NotImplementedError

    def said_in(self, came, fields):
        """Read an error of ours at the end of a stream."""
        raise NotImplementedError


class Messages(Api):
    """Anthropic's Messages."""

    asked: ClassVar = {"max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    delta = b"event: content_block_delta"
    last_word = b"event: message_stop"
    last_event = "message_stop"
    error = b"event: error\n"
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'

    def kind(self, kind, *, streaming):  # noqa: ARG002 - as all APIs
        return kind

    def said(self, body):
        return self.said_in(b"", json.loads(body))

    def said_in(self, came, fields):  # noqa: ARG002 - as all APIs
        assert fields["type"] == "error"
        return Said(fields["error"]["type"], fields["error"]["message"], fields.get("request_id"))


_BODY_KINDS = {
    "api_error": "server_error",
    "timeout_error": "timeout",
    "overloaded_error": "service_unavailable",
    "rate_limit_error": "rate_limit_exceeded",
    "invalid_request_error": None,
    "request_too_large": "request_too_large",
    "not_found_error": "not_found",
    "authentication_error": "invalid_api_key",
    "permission_error": "insufficient_permissions",
    "insufficient_quota": "insufficient_quota",
}
"""OpenAI's codes, by Anthropic's types."""


class OpenAI(Api):
    """What OpenAI's APIs have in common."""

    ping = b": ping\n\n"

    def kind(self, kind, *, streaming):  # noqa: ARG002 - Responses has other words in a stream
        return _BODY_KINDS[kind]

    def said(self, body):
        fields = json.loads(body)
        error = fields["error"]
        assert fields.keys() == {"error"}
        assert {"message", "type", "param", "code"} <= error.keys()
        return Said(error["code"], error["message"], error.get("request_id"))


class Chat(OpenAI):
    """Chat Completions: chunks without a type."""

    asked: ClassVar = {"max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    delta = b'"delta":{"content":'
    last_word = b"data: [DONE]"
    last_event = ""
    error = b'data: {"error"'

    def said_in(self, came, fields):  # noqa: ARG002 - as all APIs
        return self.said(json.dumps(fields))


class Responses(OpenAI):
    """Responses, whose errors are failed responses."""

    asked: ClassVar = {"max_output_tokens": 200, "input": "hello"}
    delta = b"event: response.output_text.delta"
    last_word = b"event: response.completed"
    last_event = "response.completed"
    error = b"event: response.failed\n"

    def kind(self, kind, *, streaming):
        known = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}
        return known.get(kind, "server_error") if streaming else super().kind(kind, streaming=False)

    def said_in(self, came, fields):
        response = fields["response"]
        error = response["error"]
        assert (fields["type"], response["object"], response["status"]) == ("response.failed", "response", "failed")
        began = re.search(rb'"id":"(resp_\w+)"', came)
        assert response["id"] == (began[1].decode() if began else f"resp_{error['request_id']}")
        numbers = [int(number) for number in re.findall(rb'"sequence_number":(\d+)\}', came)]
        assert all(number < fields["sequence_number"] for number in numbers)
        return Said(error["code"], error["message"], error["request_id"])


_NO_USAGE_EVENT = {"no_usage", "usage_in_finish"}
_BLOCK = re.compile(rb"(?s).*?(?:\r\n|\n|\r){2}|.+")
_USAGE = re.compile(rb'"choices":\[\],"usage":\{')


def without_usage(text):
    """Return a stream of Chat Completions less its event of usage."""
    blocks = _BLOCK.findall(text)
    kept = [block for block in blocks if not _USAGE.search(block)]
    assert len(kept) == len(blocks) - 1
    return b"".join(kept)


_VERSION = ("anthropic-version", "2023-06-01")
_TOKEN = ("authorization", f"Bearer {OWN_TOKEN}")
APIS = {
    api.name: api
    for api in (
        Messages("anthropic", "anthropic", "/v1/messages", "claude-sonnet-5", "anthropic", (_VERSION,)),
        Messages("bedrock", "bedrock", "/v1/messages", "anthropic.claude-sonnet-5-v1:0", "bedrock", (_VERSION,)),
        Chat("chat", "openai", "/v1/chat/completions", "gpt-sim", "chat", adds_usage=True),
        Responses("responses", "openai", "/v1/responses", "gpt-sim", "responses"),
        Messages("copilot-messages", "copilot", "/v1/messages", "claude-sim", "anthropic", (_VERSION, _TOKEN)),
        Chat("copilot-chat", "copilot", "/chat/completions", "gpt-sim", "chat", (_TOKEN,), adds_usage=True),
        Responses("copilot-responses", "copilot", "/responses", "gpt-sim", "responses", (_TOKEN,)),
    )
}
ALL = ("anthropic", "bedrock", "chat", "responses")
COPILOT = tuple(name for name in APIS if name.startswith("copilot"))
OPENAI = ("chat", "responses")
SSE = ("anthropic", *OPENAI)
"""Those whose upstream speaks server-sent events; Copilot's are the same behind another provider."""


def each(*names):
    """Run a test once for each of these ways, as its argument `api`."""
    return pytest.mark.parametrize("api", [APIS[name] for name in names], ids=names)
