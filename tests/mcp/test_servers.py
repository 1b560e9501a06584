"""Tool servers: real ones of the SDK's, over streamable HTTP on loopback."""

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest
from mcp.server.mcpserver import Context
from mcp_kit import (
    PIXEL,
    QUICK,
    Recorded,
    call,
    is_up,
    kept,
    listing_server,
    serving,
    settings,
    state_of,
    text_of,
    tools_server,
)
from waiting_kit import until

from aibridge.mcp.sessions import Pace
from aibridge.mcp.values import CallOutcome, State
from aibridge.toolloop.base import Image


@pytest.fixture
async def events():
    return []


@pytest.fixture
async def kit(events):
    async with serving(tools_server(events)) as url, kept({"kit": url}) as servers:
        yield servers


# what is offered


async def test_tools_are_sorted_and_the_same_object_until_something_changes(kit):
    tools = kit.tools()
    assert [tool.id for tool in tools] == sorted(tool.id for tool in tools)
    assert {"bmcp_kit_add", "bmcp_kit_sleep"} <= {tool.id for tool in tools}
    await asyncio.sleep(3 * QUICK.refresh)  # it is listed anew meanwhile
    assert kit.tools() is tools


async def test_two_gateways_get_the_same_tools():
    async with serving(tools_server()) as url, kept({"kit": url}) as one, kept({"kit": url}) as other:
        assert one.tools() == other.tools()


async def test_a_list_in_small_pages_is_read_to_its_end():
    names = [f"tool{number:03}" for number in range(300)]
    async with serving(listing_server(names[::-1], page=7)) as url, kept({"many": url}) as servers:
        assert [tool.name for tool in servers.tools()] == names


async def test_tools_that_change_are_noticed():
    names = ["one"]
    async with serving(listing_server(names)) as url, kept({"kit": url}) as servers:
        before = servers.tools()
        names.append("two")
        await until(lambda: len(servers.tools()) == 2)
        assert servers.tools() is not before
        assert text_of(await servers.call(call("bmcp_kit_two"))) == "two"


@pytest.mark.parametrize("legacy", [False, True], ids=["2026-07-28", "2025-11-25"])
async def test_a_change_that_is_told_is_heard_at_once(legacy):
    server = tools_server()

    @server.tool()
    async def grow(ctx: Context) -> str:
        server.add_tool(lambda: "x", name="grown")
        await ctx.session.send_tool_list_changed() if legacy else await ctx.notify_tools_changed()
        return "grown"

    never = Pace(first=0.02, most=0.1, refresh=600, pause=0.01)
    app = server.streamable_http_app()
    async with serving(without_discovery(app) if legacy else app) as url, kept({"kit": url}, never) as servers:
        assert (await servers.call(call("bmcp_kit_grow"))).outcome is CallOutcome.OK
        await until(lambda: any(tool.name == "grown" for tool in servers.tools()))


# what comes of a call


async def test_answers(kit):
    ran = await kit.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'))
    assert text_of(ran) == "3"
    assert (ran.server, ran.outcome, ran.error, ran.result_bytes) == ("kit", CallOutcome.OK, "", 1)
    assert ran.latency > 0


@pytest.mark.parametrize(
    ("tool", "arguments", "outcome", "words"),
    [
        ("fail", "{}", CallOutcome.TOOL_ERROR, "Error executing tool fail"),
        ("says_no", "{}", CallOutcome.TOOL_ERROR, "not today"),
        ("add", '{"a": "x"}', CallOutcome.TOOL_ERROR, "valid"),
        ("add", '{"a": 1, "b"', CallOutcome.BAD_ARGUMENTS, "not valid JSON"),
        ("add", "[1]", CallOutcome.BAD_ARGUMENTS, "should be a JSON object"),
        ("add", '"\udc80"', CallOutcome.BAD_ARGUMENTS, "not valid JSON"),
        ("nothing", "{}", CallOutcome.UNKNOWN_TOOL, "no such tool"),
    ],
)
async def test_what_goes_wrong_is_a_result(kit, tool, arguments, outcome, words):
    ran = await kit.call(call(f"bmcp_kit_{tool}", arguments))
    assert ran.result.is_error
    assert ran.outcome is outcome
    assert words in text_of(ran)
    assert ran.error
    assert bool(ran.server) is (outcome is not CallOutcome.UNKNOWN_TOOL)


@pytest.mark.parametrize("name", ["bmcp_other_add", "bmcp_", "add", ""])
async def test_names_of_no_server_are_unknown(kit, name):
    ran = await kit.call(call(name))
    assert (ran.outcome, ran.server) == (CallOutcome.UNKNOWN_TOOL, "")


async def test_no_arguments_are_an_empty_object(kit):
    assert (await kit.call(call("bmcp_kit_long", ""))).outcome is CallOutcome.OK


async def test_pictures_and_resources(kit):
    ran = await kit.call(call("bmcp_kit_picture"))
    assert ran.result.content == (Image("image/png", PIXEL),)
    ran = await kit.call(call("bmcp_kit_resources"))
    assert [part.text for part in ran.result.content] == [
        "[resource: file:///a.txt]",
        "of a file",
        "[resource left out: file:///a.zip, application/zip, binary]",
    ]


async def test_a_megabyte_is_cut_and_says_so():
    async with serving(tools_server()) as url, kept({"kit": settings(url, max_result_bytes=1000)}) as servers:
        ran = await servers.call(call("bmcp_kit_long"))
        assert [len(ran.result.content[0].text), ran.result_bytes] == [1000, 1_000_000]
        assert ran.result.content[1].text == "[cut: 999000 bytes more were returned]"


async def test_calls_run_at_once(kit):
    calls = [kit.call(call("bmcp_kit_sleep", '{"seconds": 1}')) for _ in range(5)]
    async with asyncio.timeout(4):
        assert [text_of(ran) for ran in await asyncio.gather(*calls)] == ["slept"] * 5


async def test_no_more_calls_at_once_than_are_allowed(events):
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(tools_server(events)))
        servers = await stack.enter_async_context(kept({"kit": settings(url, max_concurrent_calls=2)}))
        tasks = [asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 60}'))) for _ in range(3)]
        await until(lambda: len(events) == 2)
        await servers.call(call("bmcp_nothing_x"))
        assert events == ["began", "began"]
        tasks[0].cancel()
        await until(lambda: events.count("began") == 3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


# time limits and cancellation


@pytest.mark.parametrize("legacy", [False, True], ids=["2026-07-28", "2025-11-25"])
async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(events, legacy):
    app = tools_server(events).streamable_http_app()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(without_discovery(app) if legacy else app))
        servers = await stack.enter_async_context(kept({"kit": settings(url, call=0.5)}))
        ran = await servers.call(call("bmcp_kit_sleep", '{"seconds": 60}'))
        assert ran.outcome is CallOutcome.TIMEOUT
        assert text_of(ran) == "the tool did not answer within 0.5 seconds"
        await until(lambda: events == ["began", "cancelled"])
        assert text_of(await servers.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'))) == "3"


@pytest.mark.parametrize("legacy", [False, True], ids=["2026-07-28", "2025-11-25"])
async def test_a_cancelled_call_is_cancelled_at_the_server_and_spares_the_others(events, legacy):
    app = tools_server(events).streamable_http_app()
    async with serving(without_discovery(app) if legacy else app) as url, kept({"kit": url}) as servers:
        other = asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 2}')))
        one = asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 60}')))
        await until(lambda: events == ["began", "began"])
        one.cancel()
        await until(lambda: "cancelled" in events)
        assert one.cancelled()
        assert text_of(await other) == "slept"
        assert text_of(await servers.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'))) == "3"


# servers that come and go


async def test_a_server_that_is_down_costs_its_tools_alone():
    async with serving(tools_server()) as url, serving(tools_server()) as gone:
        pass
    async with serving(tools_server()) as url, kept({"kit": url, "gone": gone}) as servers:
        assert {tool.server for tool in servers.tools()} == {"kit"}
        assert (state_of(servers, "gone").state, state_of(servers, "gone").why) == (State.DOWN, "it cannot be reached")
        ran = await servers.call(call("bmcp_gone_add"))
        assert (ran.outcome, text_of(ran)) == (
            CallOutcome.UNAVAILABLE,
            "tool server gone: it is down: it cannot be reached",
        )


async def test_a_server_that_comes_back_is_found():
    ups = []
    async with serving(tools_server()) as url:
        port = int(url.split(":")[2].split("/")[0])
    async with kept({"kit": url}, on_up=lambda *told: ups.append(told)) as servers:
        assert servers.tools() == ()
        async with serving(tools_server(), port):
            await until(lambda: is_up(servers))
            assert text_of(await servers.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'))) == "3"
        await until(lambda: state_of(servers).state is State.DOWN)
        assert servers.tools() == ()
        async with serving(tools_server(), port):
            await until(lambda: is_up(servers))
    assert ("kit", True) in ups
    assert ups[0] == ("kit", False)


async def test_a_server_that_starts_anew_does_not_know_the_session_and_gets_another():
    never = Pace(first=0.02, most=0.1, refresh=600, pause=0.01)
    async with serving(without_discovery(tools_server().streamable_http_app())) as url:
        port = int(url.split(":")[2].split("/")[0])
        servers = kept({"kit": url}, never)
        running = await servers.__aenter__()
    async with serving(without_discovery(tools_server().streamable_http_app()), port):
        ran = await running.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'))
        assert (ran.outcome, text_of(ran)) == (CallOutcome.OK, "3")
        await servers.__aexit__(None, None, None)


async def test_a_server_that_dies_in_mid_call_ends_the_call(events):
    async with serving(tools_server(events)) as url, kept({"kit": url}) as servers:
        task = asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 60}')))
        await until(lambda: events == ["began"])
        dying = url
    assert dying
    ran = await task
    assert ran.outcome is CallOutcome.UNAVAILABLE
    assert ran.result.is_error


# whose credential


async def test_static_headers_reach_the_server_and_are_told_nowhere():
    app = Recorded(tools_server().streamable_http_app())
    secret = "sk-of-the-gateway-1234567890"
    async with serving(app) as url:
        headers = (("authorization", f"Bearer {secret}"),)
        async with kept({"kit": settings(url, headers=headers)}) as servers:
            assert is_up(servers)
            assert secret not in repr(servers.states()) + repr(settings(url, headers=headers))
    assert {head.get("authorization") for head in app.heads} == {f"Bearer {secret}"}


async def test_each_actor_has_a_session_of_its_own():
    app = Recorded(tools_server().streamable_http_app())
    async with serving(app) as url, kept({"kit": settings(url, actor_header="authorization")}) as servers:
        assert (servers.tools(), state_of(servers).state) == ((), State.PER_ACTOR)
        alice, bob = (("kit", "Bearer alice-0123456789"),), (("kit", "Bearer bob-0123456789"),)
        for credentials in (alice, bob, alice):
            await servers.connected(credentials)
            assert servers.tools(credentials)
        assert servers.tools(alice) is servers.tools(alice)
        ran = await servers.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'), bob)
        assert text_of(ran) == "3"
        assert (await servers.call(call("bmcp_kit_add"))).outcome is CallOutcome.UNKNOWN_TOOL
        assert state_of(servers).sessions == 2
        assert "alice" not in repr(servers.states())
    assert {head["authorization"] for head in app.heads} == {alice[0][1], bob[0][1]}
    of_calls = [head for head, body in zip(app.heads, app.bodies, strict=False) if b"tools/call" in body]
    assert {head["authorization"] for head in of_calls} <= {bob[0][1]}


async def test_sessions_of_actors_are_bounded():
    async with serving(tools_server()) as url:
        one = settings(url, actor_header="authorization")
        async with kept({"kit": one}, max_actor_sessions=2) as servers:
            for number in range(5):
                await servers.connected((("kit", f"Bearer {number}"),))
            assert state_of(servers).sessions == 2
            busy = asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 60}'), (("kit", "Bearer 3"),)))
            await asyncio.sleep(0)
            await servers.connected((("kit", "Bearer 9"),))
            assert not busy.done()
            busy.cancel()
            await asyncio.wait({busy})


async def test_a_session_that_has_made_room_is_waited_for_when_its_tool_is_called():
    """Its tools were offered, and another actor has come before the model called one."""
    alice, bob = (("kit", "Bearer alice-0123456789"),), (("kit", "Bearer bob-0123456789"),)
    async with serving(tools_server()) as url:
        one = settings(url, actor_header="authorization")
        async with kept({"kit": one}, max_actor_sessions=1) as servers:
            for credentials in (alice, bob):
                await servers.connected(credentials)
                assert servers.tools(credentials)
            ran = await servers.call(call("bmcp_kit_add", '{"a": 1, "b": 2}'), alice)
            assert (ran.outcome, text_of(ran)) == (CallOutcome.OK, "3")


async def test_what_a_server_echoes_of_its_credential_is_hidden():
    app = tools_server()
    secret = "very-secret-0123456789"

    @app.tool()
    def echo() -> str:
        return f"you sent {secret}"

    headers = (("authorization", f"Bearer {secret}"),)
    async with serving(app) as url, kept({"kit": settings(url, headers=headers)}) as servers:
        assert secret not in text_of(await servers.call(call("bmcp_kit_echo")))


def without_discovery(app):
    """Let a server speak revisions before 2026-07-28 only."""

    async def older(scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            return await app(scope, receive, send)
        message = await receive()
        if json.loads(message["body"])["method"] == "server/discover":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            return await send({"type": "http.response.body", "body": b""})
        messages = [message]

        async def again():
            return messages.pop() if messages else await receive()

        return await app(scope, again, send)

    return older


# what is off costs nothing


def test_without_servers_nothing_is_imported():
    program = (
        "import sys; from aibridge import cli, config; from aibridge.assembly import build_tool_servers;"
        "assert build_tool_servers(config.from_environment({})) is None;"
        "print([name for name in sys.modules if name.partition('.')[0] in {'mcp', 'mcp_types', 'httpx2', 'anyio'}])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
