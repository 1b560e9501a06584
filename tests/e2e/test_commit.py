"""A streaming client whose upstream is silent for long gets head and pings; what comes then comes in its stream."""

import socket

import anthropic
import openai
import pytest
from api_kit import ALL, each
from silence_kit import silence_of

SOON = {"commit_after": 0.2, "ping": 0.2}


@each(*ALL)
async def test_a_late_answer_comes_behind_pings(build_house, new_client, api):
    body = api.body()
    async with build_house(timeouts=SOON) as house, new_client(house.port) as client:
        await client.ask(api.path, body, headers=[("x-sim-fault", "late:1000"), *api.headers])
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        interception_id = answer.headers["x-aibridge-id"]
        assert answer.body.startswith(api.ping * 2)
        text = api.client_text(body, "late:1000")
        assert answer.body.endswith(text)
        assert answer.body.removesuffix(text).replace(api.ping, b"") == b""
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert books.interception.id == interception_id


@each(*ALL)
async def test_an_error_status_that_comes_late_is_told_in_the_stream(build_house, new_client, api):
    async with build_house(timeouts=SOON) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "late:600+status:429"), *api.headers])
        answer = await client.answer()
        assert (answer.status, answer.complete) == (200, True)
        came, said = api.parted(answer.body)
        assert came.replace(api.ping, b"") == b""
        assert said.kind == api.kind("rate_limit_error", streaming=True)
        books = await house.books()
        books.check("upstream_error", "http_status", health="failure")
        assert (books.outcome.evidence.http_status, said.request_id) == (429, books.interception.id)


@each(*ALL)
async def test_no_head_in_time_is_told_in_the_stream(build_house, new_client, api):
    async with build_house(timeouts=SOON | silence_of("no_head")) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "no_head"), *api.headers])
        answer = await client.answer()
        came, said = api.parted(answer.body)
        assert came.count(api.ping) >= 2
        assert said.kind == api.kind("timeout_error", streaming=True)
        (await house.books()).check("upstream_error", "response_timeout", health="failure")


@each(*ALL)
async def test_a_client_that_leaves_after_the_first_ping(build_house, new_client, api):
    async with build_house(timeouts=SOON) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "no_head"), *api.headers])
        await client.read_until(api.ping)
        client.close()
        (await house.books()).check("client_gone", "before_response", health="neither")


@each(*ALL)
async def test_what_is_not_streamed_waits_for_a_status(build_house, new_client, api):
    async with build_house(timeouts=SOON) as house, new_client(house.port) as client:
        headers = [("x-sim-fault", "late:600+status:429"), *api.headers]
        await client.ask(api.path, api.body(stream=False), headers=headers)
        assert (await client.answer()).status == 429


@pytest.mark.parametrize("fault", ["late:700", "late:700+status:429"])
async def test_sdks_take_pings_before_the_first_event(build_house, fault):
    fails = "status" in fault
    messages = [{"role": "user", "content": "hello"}]
    async with build_house(timeouts=SOON) as house:
        base, more = f"http://127.0.0.1:{house.port}", {"max_retries": 0, "default_headers": {"x-sim-fault": fault}}
        async with (
            anthropic.AsyncAnthropic(base_url=f"{base}/anthropic", api_key="k", **more) as claude,
            openai.AsyncOpenAI(base_url=f"{base}/openai/v1", api_key="k", **more) as gpt,
        ):

            async def by_messages():
                async with claude.messages.stream(model="claude-sim", max_tokens=99, messages=messages) as stream:
                    return (await stream.get_final_message()).stop_reason

            async def by_chat():
                async with gpt.chat.completions.stream(model="gpt-sim", messages=messages) as stream:
                    return (await stream.get_final_completion()).choices[0].finish_reason

            async def by_responses():
                async with gpt.responses.stream(model="gpt-sim", input="hello") as stream:
                    return (await stream.get_final_response()).status

            for way, good in ((by_messages, "end_turn"), (by_chat, "stop"), (by_responses, "completed")):
                if not fails:
                    assert await way() == good
                    continue
                with pytest.raises((anthropic.APIStatusError, openai.APIError)):
                    await way()


async def test_a_connection_that_takes_too_long_is_a_timeout_in_the_stream_too(build_house, new_client, request_body):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        host, port = full.getsockname()
        async with build_house(base_url=f"http://{host}:{port}", timeouts=SOON | {"connect": 0.8}) as house:
            with socket.create_connection((host, port)):  # all that its queue has room for
                async with new_client(house.port) as client:
                    version = ("anthropic-version", "2023-06-01")
                    await client.ask("/anthropic/v1/messages", request_body(), headers=[version])
                    answer = await client.answer()
            assert answer.events[0] == "ping"
            assert answer.last_event["error"]["type"] == "timeout_error"
            (await house.books()).check("upstream_error", "connect_failed", health="failure")
