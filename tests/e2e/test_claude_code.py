"""Claude Code's contract for gateways, sentence by sentence, to both kinds of provider, over real sockets.

Source: the gateway protocol reference that Claude Code's maker publishes, and what version 2.1.330 was seen to send.
"""

import asyncio
import hashlib
import json

import pytest
from silence_kit import silence_of

BOTH = ("anthropic", "bedrock")
VERSION = ("anthropic-version", "2023-06-01")
SESSION = "3f6c1a52-9f0e-4f43-9f0c-0d9c5b8a7e11"
BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,per-turn-control-2026-07-01,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,"
    "effort-2025-11-24"
)
HEADERS = (
    ("Accept", "application/json"),
    ("X-Claude-Code-Session-Id", SESSION),
    ("X-Stainless-Lang", "js"),
    ("X-Stainless-Timeout", "600"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("x-app", "cli"),
    VERSION,
)
BODY = {
    "model": "claude-sonnet-5-5",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "é — \ud83d\ude00"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "EqQB+/=="}]},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}]},
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=sdk-cli"},
        {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [{"name": "Bash", "description": "Run.", "input_schema": {"type": "object"}, "defer_loading": True}],
    "tool_choice": {"type": "none"},
    "metadata": {"user_id": json.dumps({"device_id": "d", "account_uuid": "", "session_id": SESSION})},
    "max_tokens": 128000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "a_field_of_next_year": {"n": 1.50},
    "stream": True,
}


@pytest.fixture
def claude(new_client):
    """Return a function that asks as Claude Code does, and reads the answer."""

    async def ask(
        house,
        provider,
        *,
        fault="",
        path="/v1/messages?beta=true",
        method="POST",
        body=None,
        headers=(),
        betas=BETAS,
        agent="claude-cli/2.1.330 (external, sdk-cli)",
    ):
        more = [("User-Agent", agent), *headers]
        more += [("anthropic-beta", betas)] if betas else []
        more += [("x-sim-fault", fault)] if fault else []
        raw = b"" if method != "POST" else json.dumps(BODY if body is None else body).encode()
        async with new_client(house.port) as client:
            await client.ask(f"/{provider}{path}", raw, method=method, headers=[*HEADERS, *more])
            return await client.answer(method)

    return ask


def error_of(answer):
    error = json.loads(answer.body)
    assert error["type"] == "error"
    return error["error"]


# what a gateway serves


@pytest.mark.parametrize("path", ["/", "/anthropic", "/anthropic/", "/bedrock", "/bedrock/"])
async def test_it_asks_head_at_its_start(house, new_client, path):
    async with new_client(house.port) as client:
        await client.ask(path, b"", method="HEAD", headers=[("User-Agent", "Bun/1.4.0"), ("Accept", "*/*")])
        assert (await client.answer("HEAD")).status == 200


@pytest.mark.parametrize("provider", BOTH)
async def test_messages_are_served_with_their_query(house, claude, provider):
    answer = await claude(house, provider)
    assert (answer.status, answer.events[-1]) == (200, "message_stop")
    assert answer.headers["content-type"].startswith("text/event-stream")
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert (books.interception.client, books.interception.model) == ("Claude Code", "claude-sonnet-5-5")


@pytest.mark.parametrize("provider", BOTH)
async def test_streams_are_never_buffered(house, new_client, provider):
    """The first event is at the client while the upstream still waits to send the second."""
    async with new_client(house.port) as client:
        headers = [*HEADERS, ("x-sim-fault", "stall@1")]
        await client.ask(f"/{provider}/v1/messages?beta=true", BODY, headers=headers)
        await client.read_until(b"event: message_start")
        assert house.simulator.ledger.total == 0


# what it passes on


async def test_unknown_fields_headers_and_betas_pass_unchanged_to_anthropic(house, claude):
    answer = await claude(house, "anthropic", headers=[("anthropic-next-thing", "x"), ("x-claude-code-agent-id", "a1")])
    assert answer.status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.path == "/v1/messages?beta=true"
    assert done.request_sha256 == hashlib.sha256(json.dumps(BODY).encode()).hexdigest(), "byte for byte"
    got = dict(done.headers)
    assert got["anthropic-beta"] == BETAS
    assert (got["anthropic-version"], got["anthropic-next-thing"]) == ("2023-06-01", "x")
    assert (got["x-claude-code-session-id"], got["x-claude-code-agent-id"]) == (SESSION, "a1")


async def test_for_bedrock_betas_move_into_the_body_and_unknown_fields_stay(house, claude):
    betas = f"{BETAS},request-tags-2026-08-21,a-beta-of-next-year"
    assert (await claude(house, "bedrock", betas=betas, body={**BODY, "tags": {"team": "x"}})).status == 200
    kept = {key: value for key, value in BODY.items() if key not in {"model", "metadata", "stream"}}
    sent_betas = [
        "claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27",
        "mid-conversation-tool-changes-2026-07-01", "thinking-token-count-2026-05-13", "tool-search-tool-2025-10-19",
        "effort-2025-11-24", "a-beta-of-next-year",
    ]  # fmt: skip
    members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in kept.items()]
    members.append('"anthropic_version":"bedrock-2023-05-31"')
    members.append('"anthropic_beta":' + json.dumps(sent_betas, separators=(",", ":")))
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.path == "/model/us.anthropic.claude-sonnet-5-5/invoke-with-response-stream"
    assert done.request_sha256 == hashlib.sha256(("{" + ",".join(members) + "}").encode()).hexdigest()
    got = dict(done.headers)
    assert not {"anthropic-beta", "anthropic-version"} & set(got)
    assert got["x-claude-code-session-id"] == SESSION


async def test_betas_of_header_and_body_are_both_kept(house, claude):
    """In its own Bedrock mode the two differ."""
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 9,
        "messages": [],
        "anthropic_beta": ["in-body-1"],
        "stream": True,
    }
    assert (await claude(house, "bedrock", betas="in-header-2", body=body)).status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    wanted = (
        b'{"max_tokens": 9,"messages": [],"anthropic_version":"bedrock-2023-05-31",'
        b'"anthropic_beta":["in-body-1","in-header-2"]}'
    )
    assert done.request_sha256 == hashlib.sha256(wanted).hexdigest()


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ([("x-api-key", "sk-ant-own-key-0123456789")], "x-api-key"),
        ([("authorization", "Bearer sk-ant-own-key-0123456789")], "authorization"),
        ([("authorization", "Bearer another-0123456789"), ("x-api-key", "sk-ant-own-key-0123456789")], "x-api-key"),
    ],
)
async def test_credentials_are_taken_in_either_header_and_in_both(house, claude, headers, passed):
    assert (await claude(house, "anthropic", headers=headers)).status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    assert {"x-api-key", "authorization"} & {name for name, _ in done.headers} == {passed}
    assert (await house.books()).interception.credential.kind.value == "byok"


# what it answers


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize(
    ("provider", "words"),
    [("anthropic", "prompt is too long: 210001 tokens > 200000 maximum"), ("bedrock", "Input is too long.")],
)
async def test_the_words_that_make_it_compact_are_the_whole_message(house, claude, provider, words, stream):
    answer = await claude(house, provider, fault="too_long", body={**BODY, "stream": stream})
    assert answer.status == 400
    assert error_of(answer) == {"type": "invalid_request_error", "message": words}
    assert len(house.outcomes.attempts) == 1


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(
    ("status", "kind"), [(413, "request_too_large"), (429, "rate_limit_error"), (529, "overloaded_error")]
)
async def test_errors_keep_status_type_and_when_to_come_again(house, claude, provider, status, kind):
    answer = await claude(house, provider, fault=f"status:{status}:11")
    assert answer.status == status
    assert error_of(answer)["type"] == kind
    assert answer.headers["retry-after"] == "11"
    assert answer.headers["request-id"]


async def test_anthropics_errors_come_byte_for_byte(house, claude):
    answer = await claude(house, "anthropic", fault="status:400")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256
    assert answer.headers["x-should-retry"] == "false", "what the upstream says of trying again is passed on"


async def test_a_spend_cap_is_told_as_anthropic_tells_it(house, claude):
    answer = await claude(house, "anthropic", fault="status:402")
    assert (answer.status, error_of(answer)["type"]) == (402, "billing_error")
    assert answer.headers["x-should-retry"] == "false"


async def test_a_400_that_names_a_field_reaches_it(house, claude):
    """From Anthropic it acts on that itself. For Bedrock the gateway has tried without the field already."""
    answer = await claude(house, "bedrock", fault="extra:a_field_of_next_year")
    assert (answer.status, answer.events[-1]) == (200, "message_stop")
    house.simulator.play("extra:a_field_of_next_year")
    house.simulator.play("extra:output_config")
    model = "claude-opus-5-5"
    answer = await claude(house, "bedrock", body={**BODY, "model": model})
    assert (answer.status, error_of(answer)["message"]) == (400, "output_config: Extra inputs are not permitted")


@pytest.mark.parametrize("provider", BOTH)
async def test_a_bad_gateway_key_is_final(build_house, claude, provider):
    async with build_house(auth={"keys": [{"name": "alice", "key": "alice-key-0123456789"}]}) as house:
        answer = await claude(house, provider, headers=[("x-api-key", "wrong-key-0123456789")])
        assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")
        assert error_of(answer)["type"] == "authentication_error"
        assert (await claude(house, provider, headers=[("x-api-key", "alice-key-0123456789")])).status == 200


@pytest.mark.parametrize(
    ("provider", "fault"),
    [("anthropic", "status:401"), ("bedrock", "aws_error:UnrecognizedClientException"), ("bedrock", "status:401")],
)
async def test_a_bad_credential_upstream_is_final(house, claude, provider, fault):
    answer = await claude(house, provider, fault=fault)
    assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")
    assert error_of(answer)["type"] == "authentication_error"


# counting


@pytest.mark.parametrize("provider", BOTH)
async def test_tokens_are_counted(house, claude, provider):
    body = {key: BODY[key] for key in ("model", "messages", "system", "tools", "thinking")}
    path = "/v1/messages/count_tokens?beta=true"
    answers = await asyncio.gather(*[claude(house, provider, path=path, body=body) for _ in range(25)])
    assert {answer.status for answer in answers} == {200}
    (count,) = {json.loads(answer.body)["input_tokens"] for answer in answers}
    assert count > 0


async def test_where_tokens_are_not_counted_it_may_estimate_at_once(house, claude):
    body = {"model": "claude-opus-5-5", "messages": BODY["messages"]}
    answer = await claude(house, "bedrock", fault="uncounted", path="/v1/messages/count_tokens?beta=true", body=body)
    assert (answer.status, answer.headers["x-should-retry"]) == (501, "false")
    assert error_of(answer)["type"] == "not_supported"


# finding models


@pytest.mark.parametrize("provider", BOTH)
async def test_models_are_found(house, claude, provider):
    async with asyncio.timeout(3):
        answer = await claude(house, provider, path="/v1/models?limit=1000", method="GET", agent="claude-code/2.1.330")
    assert answer.status == 200, "a redirect would be a failure"
    models = json.loads(answer.body)["data"]
    assert models
    assert all(model["id"].startswith(("claude", "anthropic")) for model in models)
    assert all(model["display_name"] for model in models)


async def test_a_model_that_is_found_can_be_asked(house, claude):
    listing = json.loads((await claude(house, "bedrock", path="/v1/models", method="GET")).body)
    body = {"max_tokens": 9, "messages": []}
    for model in listing["data"]:
        answer = await claude(house, "bedrock", body={**body, "model": model["id"]})
        assert answer.status == 200
    rows = await house.simulator.ledger.wait_for(len(listing["data"]))
    assert all("anthropic.claude-" in row.model for row in rows)


# streams that go wrong


@pytest.mark.parametrize("provider", BOTH)
async def test_pings_fill_silent_gaps(build_house, new_client, provider):
    """Bedrock sends none, and Claude Code gives up after 300 s of silence."""
    async with build_house(timeouts={"ping": 0.3, "idle": 15}) as house, new_client(house.port) as client:
        await client.ask(f"/{provider}/v1/messages?beta=true", BODY, headers=[*HEADERS, ("x-sim-fault", "stall@2")])
        await client.read_until(b'event: ping\ndata: {"type": "ping"}\n\n')


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("fault", ["truncate@3", "rst@3", "stall@3", "bad_json@3", "error_event@3"])
async def test_a_stream_that_fails_says_so_and_the_same_without_a_stream_works(build_house, claude, provider, fault):
    async with build_house(timeouts=silence_of(fault)) as house:
        answer = await claude(house, provider, fault=fault)
        assert (answer.status, answer.events[-1]) == (200, "error")
        assert answer.last_event["error"]["type"] in {"api_error", "overloaded_error", "timeout_error"}
        again = await claude(house, provider, body={**BODY, "stream": False})
    assert (again.status, json.loads(again.body)["type"]) == (200, "message")


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "invalid_request_error"])
async def test_an_error_in_the_stream_keeps_its_type(house, claude, provider, kind):
    answer = await claude(house, provider, fault=f"error_event:{kind}@3")
    assert answer.last_event["error"]["type"] == kind
