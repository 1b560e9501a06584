"""`aibridge mcp list`, the configuration, and what an operator sees."""

import asyncio
import json
import sys

import pytest
import uvloop
import yaml
from mcp_kit import call, kept, listing_server, serving, settings, text_of, tool_named, tools_server
from waiting_kit import until

from aibridge import config
from aibridge.assembly import build_tool_servers, tool_rules
from aibridge.errors import ConfigError
from aibridge.mcp.policy import Rules
from aibridge.telemetry.metrics import Metrics

SECRET = "sk-wiki-canary-0123456789"


def written(tmp_path, **mcp):
    path = tmp_path / "aibridge.yaml"
    path.write_text(
        yaml.safe_dump({"listen": {"host": "127.0.0.1"}, "providers": {"anthropic": {"api_key": "k"}}, "mcp": mcp})
    )
    return path


async def run(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aibridge", *map(str, arguments), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert SECRET.encode() not in out + err
    return process.returncode, out.decode(), err.decode()


async def test_servers_tools_and_what_is_left_out_are_shown(tmp_path):
    odd = [tool_named("read"), tool_named("drop\x1b[31m all"), tool_named("grep it")]
    async with serving(listing_server(odd)) as url:
        servers = {
            "wiki": {"url": url, "headers": {"Authorization": f"Bearer {SECRET}"}, "deny": "^drop"},
            "own": {"url": url, "actor_header": "authorization"},
        }
        path = written(tmp_path, servers=servers)
        status, out, err = await run("mcp", "list", "--config", path)
        assert (status, err) == (0, "")
        assert out.splitlines() == [
            f"own  {url}  asked with each actor's own credential, from x-aibridge-mcp-own",
            f"wiki  {url}  up, 2 tools",
            "  bmcp_wiki_grep_it_" + out.partition("bmcp_wiki_grep_it_")[2][:8] + "  grep it",
            "  bmcp_wiki_read  read",
            "  left out  drop?[31m all: denied",
        ]
        status, out, _ = await run("mcp", "list", "--json", "-c", path)
        own, wiki = json.loads(out)
        assert (status, own["state"], wiki["state"]) == (0, "per_actor", "up")
        assert wiki["left_out"] == [{"name": "drop\x1b[31m all", "why": "denied"}]
        assert wiki["tools"][1] == {
            "id": "bmcp_wiki_read",
            "name": "read",
            "description": "does read",
            "schema_bytes": 17,
        }


async def test_a_server_that_is_down_is_told_by_the_exit_status(tmp_path):
    async with serving(tools_server()) as url:
        pass
    status, out, _ = await run("mcp", "list", "-c", written(tmp_path, servers={"wiki": {"url": url}}))
    assert (status, out) == (1, f"wiki  {url}  down: it cannot be reached\n")


async def test_no_servers_are_no_fault(tmp_path):
    assert await run("mcp", "list", "-c", written(tmp_path)) == (0, "no tool servers are configured\n", "")


async def test_secrets_do_not_show_in_a_check(tmp_path):
    servers = {"wiki": {"url": "http://127.0.0.1:1/mcp", "headers": {"x-token": SECRET}}}
    status, out, _ = await run("check", written(tmp_path, servers=servers))
    assert status == 0
    assert json.loads(out)["mcp"]["servers"]["wiki"]["headers"] == {"x-token": "**********"}


@pytest.mark.parametrize(
    ("server", "text"),
    [
        ({"allow": "("}, "mcp.servers.wiki.allow: should be a regular expression"),
        ({"deny": "a{99999999999}"}, "mcp.servers.wiki.deny: should be a regular expression"),
        ({"url": "ftp://x"}, "mcp.servers.wiki.url: should be an http:// or https:// URL"),
        ({"url": "http://u:p@x/mcp"}, "mcp.servers.wiki.url: should hold no credentials"),
        ({"url": "http://x/mcp?key=1"}, "mcp.servers.wiki.url: should have no query"),
        ({"headers": {"mcp-session-id": "x"}}, "is set by HTTP or MCP itself"),
        ({"headers": {"a b": "x"}}, "should be the name of a header"),
        ({"headers": {"authorization": "x\ny"}}, "should be printable ASCII"),
        ({"headers": {"x-key": "x"}, "actor_header": "X-Key"}, "x-key is the place of the actor's own credential"),
        ({"call_timeout": 0}, "mcp.servers.wiki.call_timeout: should be greater than 0"),
        ({"denny": "x"}, "did you mean 'deny'?"),
    ],
)
def test_mistakes_are_told(tmp_path, server, text):
    with pytest.raises(ConfigError) as error:
        config.load(written(tmp_path, servers={"wiki": {"url": "http://127.0.0.1:1/mcp", **server}}), {})
    assert text in str(error.value)


@pytest.mark.parametrize("name", ["a_b", "Wiki", "w" * 33, ""])
def test_names_that_could_not_be_told_apart_in_an_id_are_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        config.load(written(tmp_path, servers={name: {"url": "http://127.0.0.1:1/mcp"}}), {})


async def test_the_gateway_gets_servers_and_rules_as_configured(tmp_path):
    async with serving(tools_server()) as url:
        said = written(tmp_path, servers={"kit": {"url": url, "allow": "add|sleep"}}, models=["claude-*"], actors=["a"])
        loaded = config.load(said, {})
        assert tool_rules(loaded) == Rules(("claude-*",), ("a",))
        metrics = Metrics()
        servers = build_tool_servers(loaded)
        await servers.start()
        servers.tell(metrics.tool_server_is)
        assert b'aibridge_mcp_server_up{server="kit"} 0.0' in metrics.render()[0]
        await servers.connected()
        assert b'aibridge_mcp_server_up{server="kit"} 1.0' in metrics.render()[0]
        assert [tool.name for tool in servers.tools()] == ["add", "sleep"]
        await servers.close()


async def test_it_works_on_the_event_loop_of_the_gateway():
    events = []

    async def scenario():
        async with kept({"kit": settings(url, call=20)}) as servers:
            cancelled = asyncio.create_task(servers.call(call("bmcp_kit_sleep", '{"seconds": 60}')))
            await until(lambda: events == ["began"])
            cancelled.cancel()
            await until(lambda: events == ["began", "cancelled"])
            calls = [servers.call(call("bmcp_kit_add", f'{{"a": {number}, "b": 1}}')) for number in range(20)]
            return [text_of(ran) for ran in await asyncio.gather(*calls)]

    async with serving(tools_server(events)) as url:
        assert await asyncio.to_thread(uvloop.run, scenario()) == [str(number + 1) for number in range(20)]
