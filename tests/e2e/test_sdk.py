"""The real Anthropic SDK through the gateway, to both kinds of provider."""

import anthropic
import pytest

BOTH = ("anthropic", "bedrock")
MODELS = {"anthropic": "claude-sonnet-5", "bedrock": "anthropic.claude-sonnet-5-v1:0"}
TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather of a place.",
        "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    }
]


@pytest.fixture
async def connect(house):
    """Return a function that gives an SDK client for a provider of the house."""
    clients = []

    def build(provider, fault="", *, base_url=None):
        headers = {"x-sim-fault": fault} if fault else {}
        client = anthropic.AsyncAnthropic(
            base_url=base_url or f"http://127.0.0.1:{house.port}/{provider}",
            api_key="sk-ant-client-key-1234",
            max_retries=0,
            timeout=20,
            default_headers=headers,
        )
        clients.append(client)
        return client

    yield build
    for client in clients:
        await client.close()


def ask(provider, **more):
    return {
        "model": MODELS[provider],
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "What is the weather in Bern?"}],
        **more,
    }


@pytest.mark.parametrize("provider", BOTH)
async def test_streaming(house, connect, provider):
    async with connect(provider).messages.stream(**ask(provider)) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert message.content[0].text == text
    assert message.stop_reason == "end_turn"
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.usage.input_tokens == message.usage.input_tokens
    assert books.outcome.usage.output_tokens == message.usage.output_tokens
    assert books.outcome.message_id == message.id


@pytest.mark.parametrize("provider", BOTH)
async def test_blocking(house, connect, provider):
    message = await connect(provider).messages.create(**ask(provider))
    assert message.content[0].text
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.usage.output_tokens == message.usage.output_tokens


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_tools(house, connect, provider, stream):
    client = connect(provider)
    request = ask(provider, tools=TOOLS)
    if stream:
        async with client.messages.stream(**request) as answer:
            message = await answer.get_final_message()
    else:
        message = await client.messages.create(**request)
    tool = next(block for block in message.content if block.type == "tool_use")
    assert tool.name == "get_weather"
    assert isinstance(tool.input, dict)
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.stop_reason == "tool_use"


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_thinking(house, connect, provider, stream):
    request = ask(provider, thinking={"type": "enabled", "budget_tokens": 1024})
    client = connect(provider)
    if stream:
        async with client.messages.stream(**request) as answer:
            message = await answer.get_final_message()
    else:
        message = await client.messages.create(**request)
    thinking = next(block for block in message.content if block.type == "thinking")
    assert thinking.thinking
    assert thinking.signature
    (await house.books()).check("completed", "clean", health="success")


async def test_a_cleanly_cut_stream_is_taken_for_complete_directly(house, connect):
    """Why the gateway must speak up: without it the SDK notices nothing."""
    client = connect("anthropic", "truncate@4", base_url=house.simulator.url)
    async with client.messages.stream(**ask("anthropic")) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason is None


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("provider", BOTH)
async def test_a_cleanly_cut_stream_raises_through_the_gateway(house, connect, provider, at):
    async with connect(provider, f"truncate@{at}").messages.stream(**ask(provider)) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.get_final_message()
    assert "before it was complete" in str(caught.value)
    (await house.books()).check("upstream_error", "truncated", health="failure")


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429:1", anthropic.RateLimitError),
        ("status:401", anthropic.AuthenticationError),
        ("status:400", anthropic.BadRequestError),
        ("status:529", anthropic.APIStatusError),
        ("close_before_head", anthropic.InternalServerError),
    ],
)
async def test_errors_have_the_sdk_s_own_kinds(connect, provider, fault, error):
    with pytest.raises(error):
        await connect(provider, fault).messages.create(**ask(provider))


@pytest.mark.parametrize("provider", BOTH)
async def test_counting_tokens(house, connect, provider):
    request = {key: value for key, value in ask(provider, tools=TOOLS).items() if key != "max_tokens"}
    counted = await connect(provider).messages.count_tokens(**request)
    message = await connect(provider).messages.create(**request, max_tokens=4096)
    assert counted.input_tokens == message.usage.input_tokens
    assert house.metric("aibridge_passthrough_total", provider=provider, route="/v1/messages/count_tokens") == 1


@pytest.mark.parametrize("provider", BOTH)
async def test_listing_models(connect, provider):
    client = connect(provider)
    models = [model async for model in client.models.list(limit=1000)]
    assert len(models) > 1
    assert all(model.type == "model" for model in models)
    one = await client.models.retrieve(models[0].id)
    assert (one.id, one.display_name, one.created_at) == (models[0].id, models[0].display_name, models[0].created_at)


async def test_listing_models_page_by_page_ends(connect):
    pages = [page async for page in (await connect("bedrock").models.list(limit=2)).iter_pages()]
    assert len(pages) == 1, "all are told at once"


async def test_a_model_that_nobody_knows(connect):
    with pytest.raises(anthropic.NotFoundError):
        await connect("bedrock").models.retrieve("claude-nobody")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("AccessDeniedException", anthropic.PermissionDeniedError),
        ("ExpiredTokenException", anthropic.AuthenticationError),
        ("InternalServerException", anthropic.InternalServerError),
        ("ResourceNotFoundException", anthropic.NotFoundError),
        ("ServiceQuotaExceededException", anthropic.RateLimitError),
        ("ThrottlingException", anthropic.RateLimitError),
        ("ValidationException", anthropic.BadRequestError),
    ],
)
async def test_errors_of_aws_have_the_sdk_s_own_kinds(connect, name, error):
    with pytest.raises(error, match=f"AWS has its own words for {name}"):
        await connect("bedrock", f"aws_error:{name}").messages.create(**ask("bedrock"))
