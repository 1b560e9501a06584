"""The Bedrock face: to AWS's own client, to Anthropic's SDK, and to requests that AWS would refuse."""

import asyncio
import json
from contextlib import closing

import anthropic
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from aibridge.simulator.aws_errors import STATUSES
from aibridge.simulator.sigv4 import TEST_ACCESS_KEY, TEST_SECRET_KEY

MODEL = "anthropic.claude-sim-v1:0"
MESSAGES = [{"role": "user", "content": "Hello?"}]
BODY = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": MESSAGES})

SESSION = botocore.session.get_session()
"""One for all clients: it keeps what it read of the service's model, which takes longer than a test."""


def new_client(simulator, secret=TEST_SECRET_KEY):
    return SESSION.create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=simulator.url,
        aws_access_key_id=TEST_ACCESS_KEY,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
async def aws(simulator):
    """AWS's own client, in a thread since it blocks."""
    opened = []

    def call(operation, secret=TEST_SECRET_KEY, model=MODEL):
        opened.append(new_client(simulator, secret))
        answer = getattr(opened[-1], operation)(modelId=model, body=BODY, contentType="application/json")
        if operation == "invoke_model":
            with answer["body"] as body:
                return json.loads(body.read())
        with closing(answer["body"]) as events:
            return [json.loads(event["chunk"]["bytes"]) for event in events]

    async def threaded(*arguments, **named):
        return await asyncio.to_thread(call, *arguments, **named)

    yield threaded
    for one in opened:
        one.close()


async def test_aws_client_signs_and_reads(simulator, aws):
    whole = await aws("invoke_model")
    assert whole["content"][0]["text"].startswith("The simulator")
    assert whole["id"].startswith("msg_bdrk_")
    events = await aws("invoke_model_with_response_stream")
    assert [event["type"] for event in events][-1] == "message_stop"
    assert events[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == 12
    rows = await simulator.ledger.wait_for(2)
    assert [row.status for row in rows] == [200, 200]
    assert "%3A" in rows[0].path
    assert rows[0].model == MODEL


async def test_aws_client_with_a_wrong_secret(aws):
    with pytest.raises(ClientError) as caught:
        await aws("invoke_model", secret="wrong")
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert "The request signature we calculated does not match" in caught.value.response["Error"]["Message"]


async def test_aws_client_sees_the_faults(simulator, aws):
    simulator.play("status:429")
    with pytest.raises(ClientError, match="ThrottlingException"):
        await aws("invoke_model")
    simulator.play("exception:throttlingException@2")
    with pytest.raises(EventStreamError, match="throttlingException"):
        await aws("invoke_model_with_response_stream")
    simulator.play("truncate@4")
    assert len(await aws("invoke_model_with_response_stream")) == 4, "and says nothing of it"


@pytest.fixture
async def sdk(simulator):
    async with anthropic.AsyncAnthropicBedrock(
        base_url=simulator.url, api_key="good-token", aws_region="us-east-1", max_retries=0
    ) as opened:
        yield opened


async def test_anthropic_sdk(simulator, sdk):
    asked = {"model": MODEL, "max_tokens": 100, "messages": MESSAGES}
    message = await sdk.messages.create(**asked)
    async with sdk.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    assert message.content[0].text == streamed.content[0].text
    assert streamed.usage.output_tokens == message.usage.output_tokens == 12
    rows = await simulator.ledger.wait_for(2)
    assert [row.streaming for row in rows] == [False, True]


async def test_anthropic_sdk_with_a_bad_token(simulator):
    async with anthropic.AsyncAnthropicBedrock(
        base_url=simulator.url, api_key="bad-token", aws_region="us-east-1", max_retries=0
    ) as client:
        with pytest.raises(anthropic.PermissionDeniedError):
            await client.messages.create(model=MODEL, max_tokens=5, messages=MESSAGES)


@pytest.fixture
def plain_aws(simulator):
    """AWS's own client, for its operations by name; blocks."""
    client = new_client(simulator)
    yield client
    client.close()


async def test_aws_client_counts_tokens(simulator, plain_aws):
    """The shape of CountTokens is AWS's own: its client writes the request, and reads the answer."""
    asked = {"invokeModel": {"body": BODY.encode()}}
    answer = await asyncio.to_thread(plain_aws.count_tokens, modelId=MODEL, input=asked)
    assert answer["inputTokens"] > 0
    with pytest.raises(ClientError, match="doesn't support counting tokens"):
        await asyncio.to_thread(plain_aws.count_tokens, modelId=f"{MODEL}+uncounted", input=asked)
    with pytest.raises(ClientError, match="Field required"):
        await asyncio.to_thread(plain_aws.count_tokens, modelId=MODEL, input={"invokeModel": {"body": b"{}"}})
    (row, *_) = await simulator.ledger.wait_for(3)
    assert row.path.endswith("/count-tokens")


@pytest.mark.parametrize("name", STATUSES)
@pytest.mark.parametrize("form", ["", ":bare", ":body", ":capital"])
async def test_aws_client_knows_each_error_in_each_form(plain_aws, name, form):
    def call():
        plain_aws.invoke_model(modelId=f"{MODEL}+aws_error:{name}{form}", body=BODY, contentType="application/json")

    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(call)
    error = caught.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (name, STATUSES[name])
    assert error["Error"]["Message"] == f"AWS has its own words for {name}."


@pytest.mark.parametrize(
    ("fault", "more", "message"),
    [
        ("extra:a", {"a": 1}, "a: Extra inputs are not permitted"),
        ("extra:a.b", {"a": {"b": 1}}, "a.b: Extra inputs are not permitted"),
        ("extra:tools.0.custom.x", {"tools": [{}, {"x": 1}]}, "tools.0.custom.x: Extra inputs are not permitted"),
        ("extra:a", {}, None),
        ("extra:a.b", {"a": {"c": 1}}, None),
        ("extra:tools.0.custom.x", {"tools": [{}, 5]}, None),
        ("bad_beta", {"anthropic_beta": ["x"]}, "invalid beta flag"),
        ("bad_beta:x", {"anthropic_beta": ["x", "y"]}, "invalid beta flag"),
        ("bad_beta:x", {"anthropic_beta": ["y"]}, None),
        ("bad_beta", {}, None),
        ("too_long", {}, "Input is too long."),
    ],
)
async def test_refusals_that_a_body_earns(connect, simulator, sign, fault, more, message):
    target, body = f"/model/{MODEL}/invoke", json.dumps(json.loads(BODY) | more).encode()
    simulator.play(fault)
    async with connect(simulator) as client:
        await client.send("POST", target, sign(simulator, target, body), body)
        answer = await client.answer()
    assert answer.status == (400 if message else 200)
    assert answer.document.get("message") == message


async def test_what_aws_says_of_time_and_tokens(simulator, ask, parse_frame_data):
    answer = await ask(simulator, "bedrock", "latency:40+miscount:3")
    metrics = json.loads(parse_frame_data(answer.frames[-1]))["amazon-bedrock-invocationMetrics"]
    assert (metrics["invocationLatency"], metrics["firstByteLatency"]) == (40, 20)
    assert metrics["outputTokenCount"] == 12 + 3


async def refused(connect, simulator, target, headers, body):
    async with connect(simulator) as client:
        await client.send("POST", target, headers, body)
        answer = await client.answer()
    assert answer.headers["x-amzn-requestid"]
    return answer.status, answer.headers.get("x-amzn-errortype", "").partition(":")[0], answer.document


async def test_no_credentials(connect, simulator):
    found = await refused(connect, simulator, f"/model/{MODEL}/invoke", [], BODY.encode())
    assert found == (403, "MissingAuthenticationTokenException", {"message": "Missing Authentication Token"})


async def test_any_credentials(connect, start):
    simulator = await start(any_credentials=True)
    async with connect(simulator) as client:
        await client.send("POST", f"/model/{MODEL}/invoke", [], BODY.encode())
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream": True}, "stream: Extra inputs are not permitted"),
        ({"model": "x"}, "model: Extra inputs are not permitted"),
        ({"anthropic_version": None}, "anthropic_version: Field required"),
        ({"max_tokens": None}, "max_tokens: Field required"),
    ],
)
async def test_bodies_that_are_refused(connect, simulator, sign, change, message):
    document = {key: value for key, value in (json.loads(BODY) | change).items() if value is not None}
    target, body = f"/model/{MODEL}/invoke", json.dumps(document).encode()
    found = await refused(connect, simulator, target, sign(simulator, target, body), body)
    assert found == (400, "ValidationException", {"message": message})


async def test_no_json(connect, simulator, sign):
    target = f"/model/{MODEL}/invoke"
    status, kind, document = await refused(connect, simulator, target, sign(simulator, target, b"{"), b"{")
    assert (status, kind) == (400, "ValidationException")
    assert document["message"].startswith("Malformed input request: ")


async def test_unknown_operations(connect, simulator, sign):
    target = f"/model/{MODEL}/converse"
    status, _, document = await refused(connect, simulator, target, sign(simulator, target, b"{}"), b"{}")
    assert status == 404
    assert "UnknownOperationException" in document["Output"]["__type"]


async def test_headers_as_aws_sends_them(simulator, ask):
    stream = await ask(simulator, "bedrock")
    assert stream.headers["content-type"] == "application/vnd.amazon.eventstream"
    first = stream.frames[0]
    assert first.headers == {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    payload = json.loads(first.payload)
    assert set(payload) == {"bytes", "p"}
    assert payload["p"].startswith("abc")
    whole = await ask(simulator, "bedrock", streaming=False)
    usage = whole.document["usage"]
    assert whole.headers["x-amzn-bedrock-input-token-count"] == str(usage["input_tokens"])
    assert whole.headers["x-amzn-bedrock-output-token-count"] == str(usage["output_tokens"])
    rows = await simulator.ledger.wait_for(2)
    assert whole.headers["x-amzn-requestid"] == rows[1].request_id
