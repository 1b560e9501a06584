"""Tools that the gateway injects and runs: real tool servers, real sockets, all books, and the SDKs as judges."""

import json
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
from api_kit import ALL, APIS, each
from mcp_kit import Recorded, serving, tools_server
from silence_kit import silence_of
from waiting_kit import until

from aibridge import turns

VERSION = ("anthropic-version", "2023-06-01")


@pytest.fixture
def build_tooled(build_house):
    """Return a context manager that builds a house with a tool server `kit`, whose calls are told in `events`."""

    @asynccontextmanager
    async def build(*, events=None, allow="^add$", mcp=(), server=(), **sections):
        async with serving(tools_server(events)) as url:
            servers = {"kit": {"url": url, "allow": allow, **dict(server)}}
            content = {"arguments": "full", "prompts": "full", "thoughts": "full"}
            records = {"content": content} | sections.pop("records", {})
            async with build_house(mcp={"servers": servers, **dict(mcp)}, records=records, **sections) as house:
                yield house

    return build


@each(*ALL)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("calls", [1, 2, 5])
async def test_calls_are_run_and_the_client_sees_one_answer(build_tooled, ask, api, stream, calls):
    async with build_tooled() as house:
        house.simulator.play(f"tools:{calls}", 1)
        answer = await ask(house, api.name, stream=stream)
        assert (answer.status, answer.complete) == (200, True)
        assert b"bmcp_" not in answer.body
        if stream:
            assert api.has_ended_well(answer.body)
            assert answer.body.count(api.last_word) == 1
        books = await house.books()
        books.check("completed", "clean", health="success")
        attempts = house.outcomes.attempts
        assert [one.cause.value for one in attempts] == ["clean", "clean"]
        told = [one.usage.output_tokens for one in attempts]
        assert books.outcome.usage.output_tokens == sum(told)
        row = books.record
        assert [one["output_tokens"] for one in row["attempts"]] == told
        assert [one["tool"] for one in row["tools"]] == ["bmcp_kit_add"] * calls
        assert {one["server"] for one in row["tools"]} == {"kit"}
        assert {one["error"] for one in row["tools"]} == {None}
        assert all(one["latency"] > 0 and one["result_bytes"] > 0 for one in row["tools"])
        labels = {"server": "kit", "name": "bmcp_kit_add", "outcome": "ok"}
        assert house.metric("aibridge_injected_tool_invocations_total", **labels) == calls
        spans = [span for span in house.spans.get_finished_spans() if span.name == "Intercept.ProcessRequest.ToolCall"]
        assert len(spans) == calls


def chat_stream(*choices):
    """Return a stream of Chat Completions: pairs of a delta and a finish reason."""
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in choices]
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


async def test_calls_without_an_id_are_told_once(build_tooled, ask):
    function = {"name": "bmcp_kit_add", "arguments": '{"a": 1, "b": 2}'}
    calls = [{"index": index, "type": "function", "function": function} for index in range(2)]
    async with build_tooled() as house:
        house.simulator.replay(chat_stream(({"role": "assistant", "tool_calls": calls}, None), ({}, "tool_calls")))
        house.simulator.replay(chat_stream(({"role": "assistant", "content": "3"}, None), ({}, "stop")))
        await ask(house, "chat")
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert [use["server"] for use in books.record["tools"]] == ["kit"] * 2


async def test_the_key_of_a_clients_request_is_not_that_of_another_turn(build_tooled, ask):
    """An upstream that keeps its answers by this key would answer the first turn again, without end."""
    async with build_tooled() as house:
        await ask(house, "anthropic", headers=[("idempotency-key", "of-one-request")])
        sent = [dict(row.headers).get("idempotency-key") for row in house.simulator.ledger.rows]
        assert sent == ["of-one-request", None]


async def test_results_of_many_calls_have_one_bound(build_tooled, ask, monkeypatch):
    monkeypatch.setattr(turns, "MAX_RESULTS_BYTES", 600_000)
    async with build_tooled(allow="^long$") as house:
        house.simulator.play("tools:5", 1)
        await ask(house, "anthropic")
        books = await house.books()
        books.check("completed", "clean", health="success")
        first, second = [int(dict(row.headers)["content-length"]) for row in house.simulator.ledger.rows]
        assert 500_000 < second - first < 602_000
        told = books.record["tools"]
        assert [use["result_bytes"] for use in told] == [1_000_000] * 5


async def test_the_same_request_has_the_same_bytes(build_tooled, ask):
    async with build_tooled(allow=".") as house:
        for _ in range(2):
            await ask(house, "anthropic")
        first, second, *_ = sent = [row.request_sha256 for row in house.simulator.ledger.rows]
        assert len(sent) == 4
        assert (first, second) == tuple(sent[2:])


@each(*ALL)
async def test_a_loop_without_end_has_one(build_tooled, ask, api):
    async with build_tooled(mcp={"max_tool_turns": 3}) as house:
        house.simulator.play("tool_loop", None)
        answer = await ask(house, api.name)
        _, said = api.parted(answer.body)
        assert said.kind == api.kind("api_error", streaming=True)
        books = await house.books()
        books.check("gateway_error", "tool_loop_limit", health="neither")
        assert [one.cause.value for one in house.outcomes.attempts] == ["clean"] * 3
        assert said.request_id == books.interception.id


async def test_a_loop_without_end_that_is_not_streamed(build_tooled, ask):
    async with build_tooled(mcp={"max_tool_turns": 2}) as house:
        house.simulator.play("tool_loop", None)
        answer = await ask(house, "anthropic", stream=False)
        assert answer.status == 500
        (await house.books()).check("gateway_error", "tool_loop_limit", health="neither")


@each(*ALL)
@pytest.mark.parametrize(
    ("fault", "cause", "kind"),
    [
        ("truncate@3", "truncated", "api_error"),
        ("rst@3", "connection_reset", "api_error"),
        ("status:429", "http_status", "rate_limit_error"),
        ("close_before_head", "connection_reset", "api_error"),
        ("no_head", "response_timeout", "timeout_error"),
        ("html", "unexpected_response", "api_error"),
    ],
)
async def test_what_breaks_in_a_later_turn_is_told_in_the_stream(build_tooled, ask, api, fault, cause, kind):
    async with build_tooled(timeouts=silence_of(fault)) as house:
        house.simulator.play("tools:1", 1)
        house.simulator.play(fault, None)
        answer = await ask(house, api.name)
        assert (answer.status, answer.complete) == (200, True)
        _, said = api.parted(answer.body)
        assert said.kind == api.kind(kind, streaming=True)
        (await house.books()).check("upstream_error", cause, health="failure")
        assert house.outcomes.attempts[0].cause.value == "clean"


async def test_an_error_status_in_a_later_turn_of_a_blocking_answer_is_passed_on(build_tooled, ask):
    async with build_tooled() as house:
        house.simulator.play("tools:1", 1)
        house.simulator.play("status:529", None)
        answer = await ask(house, "anthropic", stream=False)
        assert answer.status == 529
        (await house.books()).check("upstream_error", "http_status", health="failure")


async def asked_for_sleep(client, request_body, events):
    """Ask for an answer that calls a tool which sleeps, and return when it has begun."""
    await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
    await until(lambda: "began" in events)


async def test_c7_a_client_that_leaves_while_a_tool_runs(build_tooled, new_client, request_body):
    events = []
    async with build_tooled(events=events, allow="^sleep$") as house:
        async with new_client(house.port) as client:
            await asked_for_sleep(client, request_body, events)
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        await until(lambda: "cancelled" in events)
        assert house.simulator.ledger.total == 1
        (use,) = books.record["tools"]
        assert (use["tool"], use["server"], use["error"]) == ("bmcp_kit_sleep", "kit", "cancelled")
        assert use["latency"] > 0


async def test_a_call_that_is_cut_short_is_told_as_not_run(build_tooled, ask):
    async with build_tooled() as house:
        house.simulator.play("tools:1+stop:max_tokens", 1)
        answer = await ask(house, "anthropic")
        assert answer.events[-1] == "message_stop"
        assert b"bmcp_" not in answer.body
        books = await house.books()
        books.check("completed", "clean", health="success")
        (use,) = books.record["tools"]
        assert (use["tool"], use["server"], use["error"]) == ("bmcp_kit_add", "kit", "not_run")
        assert house.metric("aibridge_injected_tool_invocations_total", outcome="not_run") == 1
        assert house.metric("aibridge_non_injected_tool_selections_total") == 0


async def test_pings_flow_while_a_tool_runs(build_tooled, new_client, request_body):
    events = []
    async with (
        build_tooled(events=events, allow="^sleep$", timeouts={"ping": 0.2}) as house,
        new_client(house.port) as client,
    ):
        await asked_for_sleep(client, request_body, events)
        await client.read_until(b'event: ping\ndata: {"type": "ping"}\n\n' * 1)
        await house.app.gateway.drain(0.1)
        answer = await client.answer()
        assert answer.events[-1] == "error"
        (await house.books()).check("gateway_error", "draining", health="neither")


async def test_a_tool_that_is_too_slow_is_told_to_the_model(build_tooled, ask):
    async with build_tooled(allow="^sleep$", server={"call_timeout": 0.3}) as house:
        answer = await ask(house, "anthropic")
        assert answer.events[-1] == "message_stop"
        books = await house.books()
        books.check("completed", "clean", health="success")
        (use,) = books.record["tools"]
        assert "did not answer within" in use["error"]
        assert house.metric("aibridge_injected_tool_invocations_total", outcome="timeout") == 1


@pytest.mark.parametrize(
    ("mcp", "headers", "injected"),
    [
        ({}, [], True),
        ({}, [("x-aibridge-mcp", "off")], False),
        ({"models": ["gpt-*"]}, [], False),
        ({"models": ["claude-*"]}, [], True),
        ({"actors": ["somebody"]}, [], False),
    ],
)
async def test_which_requests_get_tools(build_tooled, ask, mcp, headers, injected):
    async with build_tooled(mcp=mcp) as house:
        await ask(house, "anthropic", headers=headers)
        await house.books()
        assert bool([one for one in house.outcomes.attempts if one.number == 2]) == injected
        sent = {name for row in house.simulator.ledger.rows for name, _ in row.headers}
        assert not any(name.startswith("x-aibridge") for name in sent)


async def test_without_tools_a_stream_is_untouched(build_tooled, ask, request_body):
    body = request_body("anthropic")
    async with build_tooled(allow="^nothing$") as house:
        answer = await ask(house, "anthropic")
        assert answer.body == APIS["anthropic"].client_text(body)


@pytest.mark.parametrize("calls", [1, 2, 5])
async def test_anthropics_sdk_sees_one_message(build_tooled, calls):
    async with build_tooled() as house:
        house.simulator.play(f"tools:{calls}", 1)
        async with anthropic.AsyncAnthropic(
            base_url=f"http://127.0.0.1:{house.port}/anthropic", api_key="k", max_retries=0
        ) as client:
            asked = {"model": "claude-sim", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
            async with client.messages.stream(**asked) as stream:
                message = await stream.get_final_message()
            assert [block.type for block in message.content] == ["text"]
            assert message.stop_reason == "end_turn"
            outcome = (await house.books()).outcome
            assert message.usage.output_tokens == outcome.usage.output_tokens
            whole = await client.messages.create(**asked)
            assert [block.type for block in whole.content] == ["text"]
            # What the client asks next is taken: the turns between are no part of it.
            asked["messages"] += [
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": "more"},
            ]
            async with client.messages.stream(**asked) as stream:
                assert (await stream.get_final_message()).stop_reason == "end_turn"


@pytest.mark.parametrize("calls", [1, 2, 5])
async def test_openais_sdk_sees_one_answer(build_tooled, calls):
    async with (
        build_tooled() as house,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{house.port}/openai/v1", api_key="k", max_retries=0) as client,
    ):
        asked = {"model": "gpt-sim", "messages": [{"role": "user", "content": "hello"}]}
        house.simulator.play(f"tools:{calls}", 1)
        async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            completion = await stream.get_final_completion()
        (choice,) = completion.choices
        assert (choice.finish_reason, choice.message.tool_calls or []) == ("stop", [])
        assert choice.message.content
        outcome = (await house.books()).outcome
        assert completion.usage.completion_tokens == outcome.usage.output_tokens
        asked["messages"] += [choice.message.to_dict(), {"role": "user", "content": "more"}]
        assert (await client.chat.completions.create(**asked)).choices[0].finish_reason == "stop"

        house.simulator.play(f"tools:{calls}", 1)
        async with client.responses.stream(model="gpt-sim", input="hello") as stream:
            response = await stream.get_final_response()
        assert response.status == "completed"
        assert [item.type for item in response.output] == ["message"]
        outcome = (await house.books(ended=3)).outcome
        assert response.usage.output_tokens == outcome.usage.output_tokens
        following = await client.responses.create(model="gpt-sim", input="more", previous_response_id=response.id)
        assert following.status == "completed"


async def test_an_actors_own_credential_goes_to_its_server_alone(build_house, ask):
    server = Recorded(tools_server().streamable_http_app())
    secret = "own-credential-of-an-actor-123456"
    async with serving(server) as url:
        mcp = {"servers": {"kit": {"url": url, "allow": "^add$", "actor_header": "authorization"}}}
        async with build_house(mcp=mcp) as house:
            answer = await ask(house, "anthropic", headers=[("x-aibridge-mcp-kit", f"Bearer {secret}")])
            assert answer.events[-1] == "message_stop"
            books = await house.books()
            assert [one.number for one in house.outcomes.attempts] == [1, 2]
            assert {head.get("authorization") for head in server.heads} == {f"Bearer {secret}"}
            said = json.dumps(books.record) + house.log.getvalue()
            assert secret not in said
            headers = [pair for row in house.simulator.ledger.rows for pair in row.headers]
            assert secret not in str(headers)
            await ask(house, "anthropic")
            await house.outcomes.wait(ended=2)
            assert len(house.outcomes.attempts) == 3, "without a credential there are no tools of that server"


def response_stream(response_id, *items):
    """Return a stream of the Responses API, as short as it can be."""
    events = [{"type": "response.created", "response": {"id": response_id, "status": "in_progress", "output": []}}]
    events += [{"type": "response.output_item.done", "output_index": at, "item": item} for at, item in enumerate(items)]
    events += [{"type": "response.completed", "response": {"id": response_id, "status": "completed", "output": items}}]
    numbered = [json.dumps({**event, "sequence_number": number}) for number, event in enumerate(events)]
    return "".join(f"data: {event}\n\n" for event in numbered).encode()


async def test_an_answer_can_be_gone_on_with_when_its_tools_are_gone(build_house, ask):
    asked = []
    words = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "first"}]}
    call = {"type": "function_call", "call_id": "c", "name": "bmcp_kit_add", "arguments": '{"a": 1, "b": 2}'}
    streams = [
        response_stream("resp_1", words, call),
        response_stream("resp_2", words),
        response_stream("resp_3", words),
    ]

    async def upstream(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        asked.append(json.loads((await receive())["body"]))
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": streams[len(asked) - 1]})

    async with serving(tools_server()) as url, serving(upstream) as api:
        mcp = {"servers": {"kit": {"url": url, "allow": "^add$", "actor_header": "authorization"}}}
        async with build_house(mcp=mcp, base_url=api.removesuffix("/mcp")) as house:
            answer = await ask(house, "responses", headers=[("x-aibridge-mcp-kit", "Bearer own-0123456789")])
            shown = json.loads(answer.body.split(b"data: ")[1])["response"]["id"]
            assert shown == "resp_1", "words came before the call"
            await ask(house, "responses", previous_response_id=shown)
    assert [body.get("previous_response_id") for body in asked] == [None, None, "resp_2"]


async def test_a_server_that_is_down_costs_its_tools_alone(build_house, ask):
    down = {"servers": {"away": {"url": "http://127.0.0.1:9/mcp", "connect_timeout": 2}}}
    async with build_house(mcp=down) as house:
        answer = await ask(house, "anthropic")
        assert answer.events[-1] == "message_stop"
        (await house.books()).check("completed", "clean", health="success")
        assert house.metric("aibridge_mcp_server_up", server="away") == 0
