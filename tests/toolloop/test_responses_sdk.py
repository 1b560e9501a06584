"""OpenAI's own SDK as the judge: what it puts together of a loop, and how it goes on from there."""

import json
import re
from pathlib import Path

import openai
import pytest
from responses_kit import (
    OWN,
    Upstream,
    bytewise,
    call,
    gateway,
    loop_of,
    message,
    parse,
    run,
    search,
    thought,
    whole,
)

ASKED = {"model": "gpt-x", "input": "How is it in Bern?"}


async def ask(client, *, stream, **fields):
    """Return the response as the SDK has it."""
    if not stream:
        return await client.responses.create(**{**ASKED, **fields})
    async with client.responses.stream(**{**ASKED, **fields}) as answer:
        async for _ in answer:
            pass
        return await answer.get_final_response()


def client_of(url):
    return openai.AsyncOpenAI(base_url=url, api_key="sk-x", max_retries=0, timeout=20)


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

LOOPS = {
    "one": [[call("a")]],
    "two": [[call("a"), call("b")]],
    "five": [[call(name) for name in "abcde"]],
    "three turns": [[call("a")], [call("b"), call("c")]],
    "words": [[message("m1", "I look."), call("a")], [thought("r", "Hm"), message("m2"), call("b")]],
    "silent thoughts": [[thought("r1"), call("a")], [thought("r2"), call("b")]],
    "thoughts": [[thought("r1", "Hm"), call("a")], [search(), thought("r2", "So"), call("b")]],
}
each_loop = pytest.mark.parametrize("before", LOOPS.values(), ids=LOOPS)


def visible(scripts):
    return [item["id"] for script in scripts for item in script if not item.get("name", "").startswith("bmcp_")]


@both
@each_loop
@pytest.mark.parametrize("cut", [whole, bytewise])
async def test_one_coherent_answer_and_the_next_by_its_id(before, stream, cut):
    upstream = Upstream(*before, [message("last", "It rains.")], [message("next", "Yes.")], [message("again", "Yes!")])
    async with gateway(upstream, cut=cut) as (url, _), client_of(url) as client:
        response = await ask(client, stream=stream)
        assert [item.id for item in response.output] == [*visible(before), "last"]
        assert response.output_text.endswith("It rains.")
        turns = len(before) + 1
        assert response.usage.total_tokens == 120 * turns * (turns + 1) // 2
        assert response.tools == []
        for name in ("next", "again"):
            answer = await ask(client, stream=stream, input="Sure?", previous_response_id=response.id)
            assert [item.id for item in answer.output] == [name]
    for asked in upstream.asked[-2:]:
        assert asked["previous_response_id"] == f"resp_{turns}"
    assert upstream.stored[f"resp_{turns + 1}"][-2] == {"role": "user", "content": "Sure?"}


@both
@each_loop
@pytest.mark.parametrize("store", [True, False])
async def test_the_next_with_all_items(before, stream, store):
    """As Codex and others do: the output goes into the next input."""
    kept = [
        [{**item, "encrypted_content": "x"} if item["type"] == "reasoning" else item for item in turn]
        for turn in before
    ]
    upstream = Upstream(*kept, [message("last")], [message("next")])
    async with gateway(upstream) as (url, _), client_of(url) as client:
        response = await ask(client, stream=stream, store=store)
        items = [{"role": "user", "content": ASKED["input"]}, *(item.to_dict() for item in response.output)]
        answer = await ask(client, stream=stream, store=store, input=[*items, {"role": "user", "content": "Sure?"}])
        assert answer.output[0].id == "next"


@both
@pytest.mark.parametrize("going_on", ["id", "items", "conversation"])
async def test_a_mixed_turn_and_the_next(stream, going_on):
    mixed = [thought("r", encrypted_content="x"), call("a"), message("m"), call("o", "own", "{}"), call("b")]
    upstream = Upstream([call("z")], mixed, [message("next")])
    own = {"type": "function_call_output", "call_id": "o", "output": "own result"}
    place = {"conversation": "conv_1"} if going_on == "conversation" else {}
    async with gateway(upstream) as (url, loops), client_of(url) as client:
        response = await ask(client, stream=stream, tools=[OWN], **place)
        assert [item.id for item in response.output] == ["r", "m", "fc_o"]
        assert [one.id for one in loops[0].skipped] == ["a", "b"]
        asked = {"input": [own], **place}
        if going_on == "id":
            asked["previous_response_id"] = response.id
        if going_on == "items":
            user = {"role": "user", "content": ASKED["input"]}
            asked["input"] = [user, *(item.to_dict(exclude_unset=True) for item in response.output), own]
        answer = await ask(client, stream=stream, tools=[OWN], **asked)
        assert answer.output[0].id == "next"
        if going_on == "conversation":
            upstream.scripts.append([message("third")])
            third = await ask(client, stream=stream, input="And?", **place)
            assert third.output[0].id == "third"
    outputs = [item for item in upstream.asked[2]["input"] if item.get("type") == "function_call_output"]
    assert [item["call_id"] for item in outputs] == (["o"] if going_on == "items" else ["a", "b", "o"])


@both
async def test_a_prior_response_is_gone_on_with(stream):
    """The client's `previous_response_id` stays in all turns."""
    upstream = Upstream([message("m0")], [call("a")], [call("b")], [message("m1")], [message("m2")])
    async with gateway(upstream) as (url, _), client_of(url) as client:
        response = await ask(client, stream=stream)
        for name in ("m1", "m2"):
            response = await ask(client, stream=stream, input="And?", previous_response_id=response.id)
            assert response.output[-1].id == name
    assert [asked.get("previous_response_id") for asked in upstream.asked] == [None, *["resp_1"] * 3, "resp_4"]


async def test_incomplete_and_failed():
    cut = [message("m"), call("b", arguments="{", status="incomplete")], "incomplete", {}
    upstream = Upstream([call("a")], cut)
    async with gateway(upstream) as (url, _), client_of(url) as client:
        response = await ask(client, stream=False)
        assert (response.status, [item.id for item in response.output]) == ("incomplete", ["m"])
        upstream.scripts += [[call("c")], cut]
        async with client.responses.stream(**ASKED) as answer:
            events = [event async for event in answer]
        assert (events[-1].type, [item.id for item in events[-1].response.output]) == ("response.incomplete", ["m"])
        failed = [], "failed", {"error": {"code": "server_error", "message": "m"}}
        upstream.scripts += [[message("m1"), call("d")], failed]
        async with client.responses.stream(**ASKED) as answer:
            events = [event async for event in answer]
        assert (events[-1].type, events[-1].response.error.code) == ("response.failed", "server_error")


async def test_what_another_process_has_shown_is_refused_by_the_upstream():
    """Chains are kept by one process: the words are the upstream's, and nothing is made up."""
    upstream = Upstream([message("m1"), call("a")], [message("m2")])
    async with gateway(upstream) as (url, _), client_of(url) as client:
        response = await ask(client, stream=True)
    async with gateway(upstream) as (url, _), client_of(url) as client:
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call a"):
            await ask(client, stream=True, previous_response_id=response.id)


# recorded answers of OpenAI, with fewer tools in their echo

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    parts = re.split(r"^-- (.+) --\n", (RECORDED / name).read_text(), flags=re.MULTILINE)
    return [text.strip().encode() + b"\n\n" for text in parts[2::2]]


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_recorded_stream(cut):
    turns = recorded("responses_stream.txtar")
    loop, bodies = loop_of(), []

    def ask(body):
        bodies.append(json.loads(body))
        return turns[len(bodies) - 1]

    text, relays = run(loop, ask, cut=cut)
    told = parse(text)
    assert text.count(b"event: response.output_text.delta") == turns[1].count(b"event: response.output_text.delta")
    assert text.startswith(b"event: response.created")
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["response"]["id"] == told[0]["response"]["id"] == relays[1].observer.message_id
    used = told[-1]["response"]["usage"]
    assert (used["input_tokens"], used["output_tokens"]) == (6269 + 6463, 18 + 182)
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["message"]
    assert [item["type"] for item in bodies[1]["input"]] == ["message", "function_call", "function_call_output"]


def test_recorded_body():
    turns = recorded("responses_body.txtar")
    loop, bodies = loop_of(), []

    def ask(body):
        bodies.append(json.loads(body))
        return turns[len(bodies) - 1]

    text, _ = run(loop, ask, stream=False)
    told, last = json.loads(text), json.loads(turns[1])
    assert (told["id"], told["output"][-1]) == (last["id"], last["output"][-1])
    assert [item["type"] for item in told["output"]].count("function_call") == 0
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (227 + 612 + 12288, 75 + 231)
    assert [item["type"] for item in bodies[1]["input"]] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
