"""Tool servers that misbehave: each is down with words, or its call fails with words, and nothing else happens."""

import asyncio
import json

import pytest
from mcp_kit import QUICK, call, kept, raw_serving, settings, state_of, text_of
from waiting_kit import until

from aibridge.mcp import link
from aibridge.mcp.values import CallOutcome, State

TOOLS = {"tools": [{"name": "x", "inputSchema": {"type": "object"}}]}


def http(body, head=b"", content_type=b"application/json", status=b"200 OK"):
    lines = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n%s\r\n"
    return lines % (status, content_type, len(body), head) + body


def speaking(tools=None, call=None):
    """Return a handler that speaks revision 2025-11-25; what it lists and answers are results, or whole answers."""

    async def handle(head, body, writer):
        if not head.startswith(b"POST"):
            writer.write(http(b"", status=b"405 Method Not Allowed"))
            return
        message = json.loads(body)
        method = message["method"]
        if "id" not in message:
            writer.write(http(b"", status=b"202 Accepted"))
            return
        answers = {"initialize": HELLO, "tools/list": tools or TOOLS, "tools/call": call}
        answer = answers.get(method)
        if callable(answer):
            answer = answer(message, writer)
            if asyncio.iscoroutine(answer):
                await answer
                return
        if answer is None:
            writer.write(http(b"", status=b"404 Not Found"))
        elif isinstance(answer, bytes):
            writer.write(answer)
        else:
            writer.write(http(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}).encode()))
        await writer.drain()

    return handle


HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}


async def endless(_message, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n[")
    while not writer.is_closing():
        writer.write(b" " * 65536)
        await writer.drain()


async def endless_event(_message, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: ")
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()


async def silent(_message, _writer):
    await asyncio.Event().wait()


def endless_pages(message, _writer):
    return {"tools": [], "nextCursor": str(int(message.get("params", {}).get("cursor", 0)) + 1)}


def many(_message, _writer):
    return {"tools": TOOLS["tools"] * (link.MAX_TOOLS + 1)}


def compressed(_message, _writer):
    return http(b"\x1f\x8b", b"content-encoding: gzip\r\n")


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        (endless, "MCP"),
        (endless_event, ""),
        (endless_pages, "its list of tools does not end"),
        (many, "it lists more than 1000 tools"),
        (compressed, "it compresses what it should not"),
        (http(b'{"jsonrpc": "2.0", "id": 1, "result": "\xff\xfe"}'), ""),
        (http(b"\xff\xfe\xfa"), ""),
        (http(b"no", status=b"401 Unauthorized"), "HTTP status 401"),
        (http(b"", b"location: http://127.0.0.1:1/\r\n", status=b"307 Temporary Redirect"), "HTTP status 307"),
        (http(b"[" * 100_000), ""),
        ({"tools": [{"name": 1}]}, "its list of tools is not one of MCP"),
        (silent, "it does not list its tools in time"),
    ],
    ids=[
        "endless", "endless event", "endless pages", "many", "compressed", "bad utf-8", "binary", "unauthorized",
        "redirect", "deep", "no tool", "silent",
    ],
)  # fmt: skip
async def test_a_list_that_is_none_costs_the_tools(tools, why, monkeypatch):
    monkeypatch.setattr(link, "MAX_BODY_BYTES", 1024 * 1024)
    monkeypatch.setattr(link, "MAX_PAGES", 20)
    async with raw_serving(speaking(tools)) as url, kept({"kit": settings(url, connect=3.0)}) as servers:
        state = state_of(servers)
        assert (state.state, state.tools) == (State.DOWN, ())
        assert state.why
        assert why in state.why or why == "MCP"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (endless, CallOutcome.REFUSED),
        (endless_event, CallOutcome.UNAVAILABLE),
        (silent, CallOutcome.TIMEOUT),
        (http(b"\xff\xfe\xfa"), CallOutcome.REFUSED),
        (http(b"{}"), CallOutcome.REFUSED),
        (http(b"", content_type=b"text/html"), CallOutcome.REFUSED),
        (http(b"boom", status=b"500 Internal Server Error"), CallOutcome.REFUSED),
        ({"content": "no list"}, CallOutcome.REFUSED),
        ({"content": [{"type": "film"}]}, CallOutcome.REFUSED),
        ({"content": [{"type": "text", "text": "\ud800"}]}, None),
        ({"content": []}, CallOutcome.OK),
    ],
    ids=["endless", "endless event", "silent", "binary", "no answer", "html", "500", "no list", "film", "half", "none"],
)
async def test_an_answer_that_is_none_costs_the_call(answer, outcome, monkeypatch):
    monkeypatch.setattr(link, "MAX_BODY_BYTES", 1024 * 1024)
    async with raw_serving(speaking(call=answer)) as url, kept({"kit": settings(url, call=3.0)}) as servers:
        ran = await servers.call(call("bmcp_kit_x"))
        assert outcome in {ran.outcome, None}
        assert text_of(ran).encode()  # it can be written down
        await until(lambda: state_of(servers).state is State.UP)


async def test_a_server_that_answers_no_notification_does_not_hold_up_the_calls(monkeypatch):
    monkeypatch.setattr(link, "_NOTICE", 0.2)
    told = speaking(call={"content": [{"type": "text", "text": "fine"}]})

    async def deaf(head, body, writer):
        if head.startswith(b"POST") and "id" not in json.loads(body):
            await asyncio.sleep(30)
        await told(head, body, writer)

    async with raw_serving(deaf) as url, kept({"kit": url}) as servers:
        assert text_of(await servers.call(call("bmcp_kit_x"))) == "fine"


async def test_a_session_that_was_given_up_often_is_renewed(monkeypatch):
    monkeypatch.setattr(link, "MAX_ABANDONED", 3)
    hellos = []

    async def count(head, body, writer):
        hellos.extend([1] if b'"initialize"' in body else [])
        await speaking(call=silent)(head, body, writer)

    async with raw_serving(count) as url, kept({"kit": settings(url, call=0.1)}) as servers:
        await asyncio.sleep(2 * QUICK.first)  # so long up, a session is good
        for _ in range(3):
            assert (await servers.call(call("bmcp_kit_x"))).outcome is CallOutcome.TIMEOUT
        await until(lambda: len(hellos) == 2)
        assert servers.tools()


async def test_changes_told_without_end_do_not_keep_the_gateway_busy():
    lists = []

    def listing(*_):
        lists.append(1)
        return TOOLS

    async def flood(head, body, writer):
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            change = b'{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}'
            while not writer.is_closing():
                writer.write(b"event: message\ndata: " + change + b"\n\n")
                await writer.drain()
                await asyncio.sleep(0)
        elif b'"initialize"' in body:
            answer = {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": HELLO}
            writer.write(http(json.dumps(answer).encode(), b"mcp-session-id: one\r\n"))
        else:
            await speaking(listing)(head, body, writer)

    async with raw_serving(flood) as url, kept({"kit": url}, QUICK._replace(pause=0.5)) as servers:
        await until(lambda: len(lists) >= 2)
        before = len(lists)
        await asyncio.sleep(1)
        assert len(lists) - before <= 3
        assert state_of(servers).state is State.UP
